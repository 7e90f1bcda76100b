"""OpenAI's Responses API: the only place where its `pro` models are served. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.completion import DONE
from actors.executor.backends.errors import Complaint, as_object, complaint_in, failure, redact
from actors.executor.backends.port import Answer, BackendError, Call, ErrorKind, FinishReason
from actors.executor.backends.usage import Tally

_LAST: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.canceled"}
)
_INCOMPLETE: Final[Mapping[str, FinishReason]] = {"max_output_tokens": "length", "content_filter": "content_filter"}


def request_body(call: Call) -> dict[str, Any]:
    """The JSON body for `call`. Raises BackendError for what the protocol can't carry: stop sequences.

    Models that are served here think, so they take neither temperature nor seed.
    """
    if call.stop:
        raise BackendError("unknown_model", f"{call.model} takes no stop sequences")
    body: dict[str, Any] = {
        "model": call.model,
        "input": [item for message in call.messages for item in _items(message)],
        "max_output_tokens": call.max_output_tokens,
        "store": False,
        "stream": True,
    }
    if call.response_format is not None:
        body["text"] = {"format": _format(call.response_format)}
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
    return body


def _items(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message of chat as items: text, the calls of tools, or what a tool answered."""
    role = str(message.get("role", "user"))
    content: Any = message.get("content")
    if role in {"tool", "function"}:
        name = message.get("tool_call_id") or message.get("name") or ""
        yield {"type": "function_call_output", "call_id": name, "output": _plain(content)}
        return
    if content:
        yield {"role": role, "content": content if isinstance(content, str) else _parts(content, role)}
    for call in cast("list[Any]", message.get("tool_calls") or []):
        fields = as_object(call) or {}
        function = as_object(fields.get("function")) or {}
        yield {
            "type": "function_call",
            "call_id": fields.get("id", ""),
            "name": function.get("name", ""),
            "arguments": function.get("arguments") or "{}",
        }


def _parts(content: object, role: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in cast("list[Any]", content) if isinstance(content, list) else []:
        part = as_object(item) or {}
        if part.get("type") == "image_url":
            image: Any = part.get("image_url")
            image = as_object(image) or {"url": image}
            found.append(
                {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail") or "auto"}
            )
        elif isinstance(part.get("text"), str):
            found.append({"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]})
        else:
            raise BackendError("unknown_model", f"messages: the Responses API takes no part {part.get('type')!r}")
    return found


def _plain(content: object) -> str:
    if isinstance(content, list):
        texts = [(as_object(part) or {}).get("text") for part in cast("list[Any]", content)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`json_schema` without the level that chat puts around it."""
    schema = as_object(wanted.get("json_schema"))
    return {"type": wanted.get("type"), **schema} if schema else dict(wanted)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool without the level that chat puts around it; strict only when it says so, as in chat."""
    function = as_object(tool.get("function")) or {}
    return {"type": "function", "parameters": None, "strict": False, **function}


class Response:
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, *, secrets: tuple[str, ...] = ()) -> None:
        self._model = model
        self._secrets = secrets
        self._texts: list[str] = []
        self._last: dict[str, Any] | None = None
        self._tally = Tally()
        self.done = False
        """Its last event has come."""

    def take(self, event: bytes) -> str:
        """The text that one event adds; may be empty. Unknown events are a sign of life."""
        if self.done or event.strip() == DONE:
            self.done = True
            return ""
        try:
            fields = as_object(msgspec.json.decode(event))
        except msgspec.DecodeError as error:
            raise self._broken(f"the answer is no JSON: {error}", event) from None
        if fields is None:
            raise self._broken("an event of the answer is no JSON object", event)
        kind = str(fields["type"]) if fields.get("type") else None
        last = fields if fields.get("object") == "response" else as_object(fields.get("response"))
        self._tally.hear(fields)
        self._heed(complaint_in(last) if last and kind in {*_LAST, None} else complaint_in(fields), event)
        if kind == "response.output_text.delta":
            delta: Any = fields.get("delta")
            if not isinstance(delta, str):
                raise self._broken("a delta is no text", event)
            self._texts.append(delta)
            return delta
        if kind in _LAST or (kind is None and last is not None):
            return self._end(last, event)
        return ""

    def answer(self) -> Answer:
        """The whole answer, once the stream has ended."""
        last = self._last
        if last is None:
            raise self._error("cut_stream", "the answer broke off: it never said that it is complete")
        status = str(last.get("status"))
        if status not in {"completed", "incomplete"}:
            raise self._error("cut_stream", f"the server gave the answer up (status {status!r})")
        text, calls = "".join(self._texts), _calls(last)
        finish: FinishReason = "tool_calls" if calls else "stop"
        if status == "incomplete":
            reason: Any = (as_object(last.get("incomplete_details")) or {}).get("reason")
            finish = _INCOMPLETE.get(str(reason), "")
        elif not text and not calls and _texts(last, "refusal"):
            finish = "content_filter"
        model: Any = last.get("model")
        return Answer(
            text=text,
            finish_reason=finish,
            model=model if isinstance(model, str) and model else self._model,
            usage=self._tally.usage,
            tool_calls=calls,
        )

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the text and the usage that had come before it."""
        error.partial = "".join(self._texts)
        error.usage = self._tally.told
        return error

    def _end(self, last: dict[str, Any] | None, event: bytes) -> str:
        """Keep the finished answer; its text counts when none has streamed."""
        if last is None or not isinstance(last.get("output"), list):
            raise self._broken("the finished answer holds no output", event)
        self._last, self.done = last, True
        if self._texts:
            return ""
        self._texts = [_texts(last, "output_text", "text")]
        return self._texts[0]

    def _heed(self, complaint: Complaint | None, event: bytes) -> None:
        if complaint is not None:
            body = event.decode("utf-8", "replace")
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))

    def _broken(self, message: str, event: bytes) -> BackendError:
        return self._error("invalid_structure", message, redact(event.decode("utf-8", "replace"), self._secrets))

    def _error(self, kind: ErrorKind, message: str, body: str = "") -> BackendError:
        return self.annotate(BackendError(kind, message, status=200, body=body))


def _output(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in cast("list[Any]", response["output"]):
        yield as_object(item) or {}


def _texts(response: Mapping[str, Any], kind: str, field: str = "") -> str:
    """All parts of this type in the messages of a finished answer."""
    found: list[str] = []
    for item in _output(response):
        content: Any = item.get("content")
        for part in cast("list[Any]", content) if item.get("type") == "message" and isinstance(content, list) else []:
            fields = as_object(part) or {}
            if fields.get("type") == kind and isinstance(fields.get(field or kind), str):
                found.append(fields[field or kind])
    return "".join(found)


def _calls(response: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "id": str(item.get("call_id") or item.get("id") or ""),
            "type": "function",
            "function": {"name": str(item.get("name") or ""), "arguments": str(item.get("arguments") or "")},
        }
        for item in _output(response)
        if item.get("type") == "function_call"
    )
