"""Folds an Anthropic message together, event by event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object, complaint_in, failure, redact
from actors.executor.backends.port import Answer, BackendError, ErrorKind, FinishReason
from actors.executor.backends.usage import Tally

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # It would have gone on.
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class MessageFold:
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, *, secrets: tuple[str, ...] = ()) -> None:
        self._model = model
        self._secrets = secrets
        self._texts: list[str] = []
        self._tools: dict[int, dict[str, Any]] = {}
        self._tally = Tally()
        self._stop: str | None = None
        self.done = False
        """The stream said that it is complete."""

    def take(self, event: bytes) -> str:
        """The text that one event adds, or a whole message that did not stream. Unknown events add nothing."""
        try:
            fields = as_object(msgspec.json.decode(event))
        except msgspec.DecodeError as error:
            raise self._broken(f"the answer is no JSON: {error}", event) from None
        kind: Any = fields.get("type") if fields is not None else None
        if fields is None or not isinstance(kind, str):
            raise self._broken("an event of the answer has no type", event)
        complaint = complaint_in(fields) if kind == "error" else None
        if complaint is not None:
            body = event.decode("utf-8", "replace")
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))
        try:
            return self._event(kind, fields)
        except TypeError:
            raise self._broken(f"a {kind!r} lacks what it must hold", event) from None

    def answer(self) -> Answer:
        """The whole answer, once the stream has ended."""
        if not self.done and self._stop is None:
            raise self._error("cut_stream", "the answer broke off: neither a stop reason nor message_stop came")
        return Answer(
            text="".join(self._texts),
            finish_reason=_FINISH.get(self._stop or "", ""),
            model=self._model,
            usage=self._tally.usage,
            tool_calls=tuple(_call(self._tools[index]) for index in sorted(self._tools)),
        )

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the text and the usage that had come before it."""
        error.partial = "".join(self._texts)
        error.usage = self._tally.told
        return error

    def _event(self, kind: str, fields: Mapping[str, Any]) -> str:
        """Raises TypeError when the event is not what its type promises."""
        self._tally.hear(fields)
        if kind == "message_start":
            self._start(_object(fields.get("message")))
        elif kind == "content_block_start":
            return self._block(_index(fields), _object(fields.get("content_block")))
        elif kind == "content_block_delta":
            return self._delta(_index(fields), _object(fields.get("delta")))
        elif kind == "message_delta":
            stop: Any = _object(fields.get("delta")).get("stop_reason")
            self._stop = stop if isinstance(stop, str) else self._stop
        elif kind == "message_stop":
            self.done = True
        elif kind == "message":
            return self._whole(fields)
        return ""

    def _whole(self, message: Mapping[str, Any]) -> str:
        blocks: Any = message.get("content")
        if not isinstance(blocks, list):
            raise TypeError
        self._start(message)
        self._stop = str(message.get("stop_reason") or "")
        return "".join(self._block(index, _object(one)) for index, one in enumerate(cast("list[Any]", blocks)))

    def _start(self, message: Mapping[str, Any]) -> None:
        if isinstance(message.get("model"), str) and message["model"]:
            self._model = message["model"]

    def _block(self, index: int, block: Mapping[str, Any]) -> str:
        kind = block.get("type")
        if kind == "tool_use":
            whole: Any = block.get("input")
            self._tools[index] = {"id": block.get("id"), "name": block.get("name"), "input": whole, "pieces": []}
        return self._add(block.get("text") or "") if kind == "text" else ""

    def _delta(self, index: int, delta: Mapping[str, Any]) -> str:
        kind = delta.get("type")
        if kind == "input_json_delta" and index in self._tools:
            piece: Any = delta.get("partial_json")
            if not isinstance(piece, str):
                raise TypeError
            self._tools[index]["pieces"].append(piece)
        return self._add(delta.get("text")) if kind == "text_delta" else ""

    def _add(self, text: object) -> str:
        if not isinstance(text, str):
            raise TypeError
        self._texts.append(text)
        return text

    def _broken(self, message: str, event: bytes) -> BackendError:
        body = redact(event.decode("utf-8", "replace"), self._secrets)
        return self._error("invalid_structure", message, body)

    def _error(self, kind: ErrorKind, message: str, body: str = "") -> BackendError:
        return self.annotate(BackendError(kind, message, status=200, body=body))


def _call(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool use in OpenAI form; its input came in pieces, or whole."""
    arguments = "".join(tool["pieces"]) or msgspec.json.encode(tool["input"] or {}).decode()
    return {
        "id": str(tool["id"] or ""),
        "type": "function",
        "function": {"name": str(tool["name"] or ""), "arguments": arguments},
    }


def _object(value: object) -> dict[str, Any]:
    fields = as_object(value)
    if fields is None:
        raise TypeError
    return fields


def _index(fields: Mapping[str, Any]) -> int:
    index: Any = fields.get("index")
    if not isinstance(index, int):
        raise TypeError
    return index
