"""Folds an Anthropic message together, event by event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from actors.executor.backends.errors import complaint_in, failure
from actors.executor.backends.fold import Fold, list_in, named, object_in, text_in
from actors.executor.backends.port import Answer, FinishReason

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # It would have gone on.
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
"""Blocks that must be sent back unchanged before the tool's answer."""


class MessageFold(Fold[str]):
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, *, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(model, "", secrets=secrets)
        self._blocks: list[dict[str, Any]] = []
        self._at: dict[int, dict[str, Any]] = {}
        """The latest block of each index: some servers count every block as the same."""
        self._stop: str | None = None
        self._ended = False  # It said so itself.

    @property
    def settled(self) -> bool:
        """It has told its stop reason."""
        return self._stop is not None or self._ended

    def stopped(self) -> bool:
        """Whether it ended by itself and calls no tools."""
        calls = any(block["type"] == "tool_use" for block in self._blocks)
        return not calls and _FINISH.get(self._stop or "", "stop") == "stop"

    def event(self, fields: dict[str, Any], data: bytes) -> str:
        """The text that one event adds, or a whole message that did not stream. Unknown events add nothing."""
        kind: Any = fields.get("type")
        complaint = complaint_in(fields) if kind == "error" or "type" not in fields else None
        if complaint is not None:
            body = data.decode("utf-8", "replace")
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))
        if not isinstance(kind, str):
            raise TypeError("it has no type")
        return self._event(kind, fields)

    def told(self) -> Answer:
        """The whole answer, once the stream has ended."""
        if not self.settled:
            raise self.error("cut_stream", "the answer broke off: neither a stop reason nor message_stop came")
        blocks = sorted(self._blocks, key=lambda block: block["index"])
        calls = tuple(_call(block) for block in blocks if block.get("type") == "tool_use")
        finish = _FINISH.get(self._stop or "", "")
        return Answer(
            text=self._texts.text,
            finish_reason="tool_calls" if calls and finish == "stop" else finish,
            model=self._model,
            usage=self.usage,
            tool_calls=calls,
            reasoning=self._texts.reasoning,
            carried=tuple(_carried(block) for block in blocks if block.get("type") in _THOUGHTS),
            remarks=tuple(self._remarks),
        )

    def _event(self, kind: str, fields: Mapping[str, Any]) -> str:
        """Raises TypeError when the event is not what its type promises."""
        if kind == "message_start":
            self._start(object_in(fields.get("message"), "message"))
        elif kind == "content_block_start":
            return self._block(_index(fields), object_in(fields.get("content_block"), "content_block"))
        elif kind == "content_block_delta":
            return self._delta(_index(fields), object_in(fields.get("delta"), "delta"))
        elif kind == "message_delta":
            stop: Any = object_in(fields.get("delta"), "delta").get("stop_reason")
            self._stop = stop if isinstance(stop, str) else self._stop
        elif kind == "message_stop":
            self.done = self._ended = True
        elif kind == "message":
            return self._whole(fields)
        return ""

    def _whole(self, message: Mapping[str, Any]) -> str:
        blocks = list_in(message.get("content"), "content")
        self._start(message)
        self._stop = str(message.get("stop_reason") or "")
        if self._blocks:  # It streamed before.
            return ""
        return "".join(self._block(index, object_in(one, "a block")) for index, one in enumerate(blocks))

    def _start(self, message: Mapping[str, Any]) -> None:
        self._model = named(message, "model", self._model)

    def _block(self, index: int, block: Mapping[str, Any]) -> str:
        kind = named(block, "type", "")
        text = text_in(block.get("text"), "text") if kind == "text" else ""
        begun = self._begin(index, {**block, "type": kind})
        if kind == "thinking":
            self._think(begun, block.get("thinking"))
        return self._texts.add(text)

    def _begin(self, index: int, block: Mapping[str, Any]) -> dict[str, Any]:
        begun: dict[str, Any] = {**block, "index": index, "pieces": [], "signatures": []}
        self._blocks.append(begun)
        self._at[index] = begun
        return begun

    def _delta(self, index: int, delta: Mapping[str, Any]) -> str:
        kind = delta.get("type")
        block = self._at.get(index) or self._begin(index, {"type": ""})
        if kind == "input_json_delta":
            if not isinstance(delta.get("partial_json"), str):
                raise TypeError("partial_json is no text")
            block["pieces"].append(delta["partial_json"])
        elif kind == "thinking_delta":
            self._think(block, delta.get("thinking"))
        elif kind == "signature_delta":
            block["signatures"].append(text_in(delta.get("signature"), "signature"))
        elif kind == "text_delta":
            if not isinstance(delta.get("text"), str):
                raise TypeError("text is no text")
            return self._texts.add(delta["text"])
        return ""

    def _think(self, block: dict[str, Any], said: object) -> None:
        piece = text_in(said, "thinking")
        block["pieces"].append(piece)
        self._texts.think(piece)


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    """A tool use in OpenAI form; its input came in pieces, or whole."""
    arguments = "".join(block["pieces"]) or msgspec.json.encode(block.get("input") or {}).decode()
    return {
        "id": str(block.get("id") or ""),
        "type": "function",
        "function": {"name": str(block.get("name") or ""), "arguments": arguments},
    }


def _carried(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block of thoughts as it would have come whole."""
    found = {name: value for name, value in block.items() if name not in {"index", "pieces", "signatures"}}
    if found["type"] == "thinking":
        found["thinking"] = "".join(block["pieces"])
        if block["signatures"]:
            found["signature"] = "".join(block["signatures"])
    return found


def _index(fields: Mapping[str, Any]) -> int:
    index: Any = fields.get("index")
    if not isinstance(index, int):
        raise TypeError("its index is none")
    return index
