"""OpenAI's Responses API: the only place where its `pro` models are served. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from actors.executor.backends.errors import Complaint, as_object, complaint_in, failure
from actors.executor.backends.fold import Fold, named, text_in, texts_of
from actors.executor.backends.port import Answer, BackendError, Call, FinishReason

_LAST: Final = frozenset(
    {
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.cancelled",
        "response.canceled",
        "response.done",
    }
)
_OF_ITEMS: Final = frozenset(
    {
        "response.output_item.added", "response.output_item.done", "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    }
)  # fmt: skip
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


class Response(Fold[str]):
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, *, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(model, "", secrets=secrets)
        self._last: dict[str, Any] | None = None
        self._items: dict[str, dict[str, Any]] = {}
        """What has been made so far, by its id: some servers leave it out of the end."""

    @property
    def settled(self) -> bool:
        """Its last event has come."""
        return self._last is not None

    def stopped(self) -> bool:
        """Whether it ended by itself and calls no tools."""
        return self._last is not None and self._last.get("status") == "completed" and not _calls(self._last)

    def event(self, fields: dict[str, Any], data: bytes) -> str:
        """The text that one event adds; may be empty. Unknown events are a sign of life."""
        kind = str(fields["type"]) if fields.get("type") else None
        last = fields if fields.get("object") == "response" else as_object(fields.get("response"))
        self._heed(complaint_in(last) if last and kind in {*_LAST, None} else complaint_in(fields), data)
        if kind == "response.output_text.delta":
            if not isinstance(fields.get("delta"), str):
                raise TypeError("a delta is no text")
            return self._texts.add(fields["delta"])
        if kind in {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}:
            self._texts.think(text_in(fields.get("delta"), "a delta"))
        if kind in _OF_ITEMS:
            self._make(kind, fields)
        if kind in _LAST or (kind is None and last is not None):
            return self._end(last)
        return ""

    def told(self) -> Answer:
        """The whole answer, once the stream has ended."""
        last = self._last
        if last is None:
            raise self.error("cut_stream", "the answer broke off: it never said that it is complete")
        status = str(last.get("status"))
        if status not in {"completed", "incomplete"}:
            raise self.error("cut_stream", f"the server gave the answer up (status {status!r})")
        text, calls = self._texts.text, _calls(last)
        refusal = _texts(last, "refusal")
        finish: FinishReason = "tool_calls" if calls else "stop"
        if status == "incomplete":
            reason: Any = (as_object(last.get("incomplete_details")) or {}).get("reason")
            finish = _INCOMPLETE.get(str(reason), "")
        elif not text and not calls and refusal:
            finish = "content_filter"
        return Answer(
            text=text,
            finish_reason=finish,
            model=named(last, "model", self._model),
            usage=self.usage,
            tool_calls=calls,
            reasoning=self._texts.reasoning,
            refusal=refusal,
            carried=tuple(item for item in _output(last) if item.get("type") == "reasoning"),
            remarks=tuple(self._remarks),
        )

    def _end(self, last: dict[str, Any] | None) -> str:
        """Keep the finished answer; its text counts when none has streamed."""
        if last is not None and not last.get("output") and self._items:
            last = {**last, "output": list(self._items.values())}
        if last is None or not isinstance(last.get("output"), list):
            raise TypeError("the finished answer holds no output")
        self._last, self.done = last, True
        if not self._texts.reasoning:
            self._texts.think("".join(texts_of(item.get("summary")) for item in _output(last)))
        return "" if self._texts.text or self._texts.holds else self._texts.add(_texts(last, "output_text", "text"))

    def _make(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Keep an item, or what is added to the arguments of one."""
        item = as_object(fields.get("item"))
        key = str((item or fields).get("id") or fields.get("item_id") or fields.get("output_index"))
        if item is not None:
            self._items[key] = dict(item)
        elif (begun := self._items.get(key)) and begun.get("type") == "function_call":
            before = str(begun.get("arguments") or "") if kind.endswith("delta") else ""
            begun["arguments"] = before + text_in(fields.get("delta", fields.get("arguments")), "arguments")

    def _heed(self, complaint: Complaint | None, data: bytes) -> None:
        if complaint is not None:
            body = data.decode("utf-8", "replace")
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))


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
