"""Folds an OpenAI-style answer together, event by event, tolerating what real servers do. Pure."""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object, complaint_in, failure, redact
from actors.executor.backends.port import Answer, BackendError, ErrorKind, FinishReason
from actors.executor.backends.usage import Tally

DONE: Final = b"[DONE]"

_FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_BROKEN_OFF: Final = frozenset({"abort", "error", "insufficient_system_resource"})


class Completion:
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, *, secrets: tuple[str, ...] = ()) -> None:
        self._model = model
        self._secrets = secrets
        self._texts: list[str] = []
        self._tools: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._tally = Tally()
        self._chose = False  # Saw any choice.
        self._refused = False
        self.done = False
        """The stream said that it is complete."""

    def take(self, event: bytes) -> str:
        """The text that one event adds; may be empty. What follows [DONE] is ignored."""
        if self.done or event.strip() == DONE:
            self.done = True
            return ""
        try:
            decoded: Any = msgspec.json.decode(event)
        except msgspec.DecodeError as error:
            raise self._broken(f"the answer is no JSON: {error}", event) from None
        fields = as_object(decoded)
        if fields is None:
            raise self._broken("an event of the answer is no JSON object", event)
        complaint = complaint_in(fields)
        if complaint is not None:
            body = event.decode("utf-8", "replace")
            error = failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint)
            raise self.annotate(error)
        self._tally.hear(fields)
        if isinstance(fields.get("model"), str) and fields["model"]:
            self._model = fields["model"]
        text = self._choices(fields, event)
        if text:
            self._texts.append(text)
        return text

    def answer(self) -> Answer:
        """The whole answer, once the stream has ended."""
        if not self.done and self._finish is None:
            raise self._error("cut_stream", "the answer broke off: neither a finish reason nor [DONE] came")
        if not self._chose:
            raise self._error("invalid_structure", "the answer holds no choices")
        if self._finish in _BROKEN_OFF:
            raise self._error("cut_stream", f"the server gave the answer up (finish reason {self._finish!r})")
        text = "".join(self._texts)
        finish = _FINISH.get(self._finish or "", "")
        return Answer(
            text=text,
            finish_reason="content_filter" if self._refused and not text and finish == "stop" else finish,
            model=self._model,
            usage=self._tally.usage,
            tool_calls=tuple(self._tools[index] for index in sorted(self._tools)),
        )

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the text and the usage that had come before it."""
        error.partial = "".join(self._texts)
        error.usage = self._tally.told
        return error

    def _choices(self, fields: Mapping[str, Any], event: bytes) -> str:
        choices: Any = fields.get("choices")
        if choices is None:
            return ""
        if not isinstance(choices, list):
            raise self._broken("choices is no list", event)
        text = ""
        for item in cast("list[Any]", choices):
            choice = as_object(item)
            if choice is None:
                raise self._broken("a choice is no object", event)
            if choice.get("index") not in (0, None):  # It may be of any type.
                continue  # We ask for one.
            self._chose = True
            finish: Any = choice.get("finish_reason")
            if isinstance(finish, str) and finish:
                self._finish = finish
            for name in ("delta", "message"):
                part: Any = choice.get(name)
                if part is None:
                    continue
                delta = as_object(part)
                if delta is None:
                    raise self._broken(f"{name} is no object", event)
                text += self._content(delta.get("content"), event)
                self._refused = self._refused or bool(delta.get("refusal"))
                self._calls(delta.get("tool_calls"), event)
        return text

    def _content(self, content: object, event: bytes) -> str:
        if content is None:
            return ""
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise self._broken("content is neither text nor a list of parts", event)
        texts = [(as_object(part) or {}).get("text") for part in cast("list[Any]", content)]
        return "".join(text for text in texts if isinstance(text, str))

    def _calls(self, fragments: object, event: bytes) -> None:
        """Add the fragments of tool calls: the id and the name come first, the arguments in pieces."""
        if fragments is None:
            return
        if not isinstance(fragments, list):
            raise self._broken("tool_calls is no list", event)
        for position, item in enumerate(cast("list[Any]", fragments)):
            fragment = as_object(item)
            if fragment is None:
                raise self._broken("a tool call is no object", event)
            index: Any = fragment.get("index")
            if not isinstance(index, int):
                index = position
            call = self._tools.setdefault(
                index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            if isinstance(fragment.get("id"), str):
                call["id"] = call["id"] or fragment["id"]
            function = as_object(fragment.get("function")) or {}
            target = call["function"]
            if isinstance(function.get("name"), str):
                target["name"] = target["name"] or function["name"]
            arguments: Any = function.get("arguments")
            if arguments is not None:
                target["arguments"] += (
                    arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
                )

    def _broken(self, message: str, event: bytes) -> BackendError:
        body = redact(event.decode("utf-8", "replace"), self._secrets)
        return self._error("invalid_structure", message, body)

    def _error(self, kind: ErrorKind, message: str, body: str = "") -> BackendError:
        return self.annotate(BackendError(kind, message, status=200, body=body))


def count(value: object) -> int | None:
    """`value` if it is a count, otherwise None: unknown."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
