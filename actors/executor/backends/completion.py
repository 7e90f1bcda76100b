"""Folds an OpenAI-style answer together, event by event, tolerating what real servers do. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from actors.executor.backends.errors import as_object, complaint_in, failure
from actors.executor.backends.fold import Fold, list_in, named, object_in, texts_of
from actors.executor.backends.port import Answer, FinishReason

_FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_BROKEN_OFF: Final = frozenset({"abort", "error", "insufficient_system_resource"})
_THOUGHTS: Final = frozenset({"thinking", "reasoning", "redacted_thinking"})
"""Parts of a content that are none of the answer's text (Mistral)."""
_CARRIED: Final = re.compile(
    r"signature|extra_content|encrypted|opaque|reasoning_details|thinking_blocks|provider_specific"
)
"""Fields of a message that must be sent back as they came."""
_READ: Final = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls", "refusal"})
"""The usual ones, none of those: no need to look."""


class Completion(Fold[str]):
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, *, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(model, "", secrets=secrets)
        self._finish: str | None = None
        self._chose = False  # Saw any choice.
        self._refusal: list[str] = []
        self._streamed = False  # It came in pieces.

    @property
    def settled(self) -> bool:
        """It has told its finish reason, and a good one."""
        return self._finish is not None and self._finish not in _BROKEN_OFF

    def stopped(self) -> bool:
        """Whether it ended by itself and calls no tools."""
        return not self._tools and _FINISH.get(self._finish or "", "stop") == "stop"

    def event(self, fields: dict[str, Any], data: bytes) -> str:
        """The text that one event adds; may be empty."""
        complaint = complaint_in(fields)
        if complaint is not None:
            body = data.decode("utf-8", "replace")
            error = failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint)
            raise self.annotate(error)
        self._model = named(fields, "model", self._model)
        choices: Any = fields.get("choices")
        if choices is None:
            return ""
        text = ""
        for item in list_in(choices, "choices"):
            choice = object_in(item, "a choice")
            if choice.get("index") in (0, None):  # We ask for one. It may be of any type.
                text += self._choice(choice)
        return text

    def told(self) -> Answer:
        """The whole answer, once the stream has ended."""
        if not self.done and self._finish is None:
            raise self.error("cut_stream", "the answer broke off: neither a finish reason nor [DONE] came")
        if not self._chose:
            raise self.error("invalid_structure", "the answer holds no choices")
        if self._finish in _BROKEN_OFF:
            raise self.error("cut_stream", f"the server gave the answer up (finish reason {self._finish!r})")
        text, refusal = self._texts.text, "".join(self._refusal)
        finish = _FINISH.get(self._finish or "", "")
        return Answer(
            text=text,
            finish_reason="content_filter" if refusal and not text and finish == "stop" else finish,
            model=self._model,
            usage=self._tally.usage,
            tool_calls=self._tools.told(),
            reasoning=self._texts.reasoning,
            refusal=refusal,
            carried=tuple(self._carried),
            remarks=tuple(self._remarks),
        )

    def _choice(self, choice: Mapping[str, Any]) -> str:
        self._chose = True
        finish: Any = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish
        delta, message = choice.get("delta"), choice.get("message")
        text = ""
        if delta:
            self._streamed = True
            text = self._message(object_in(delta, "delta"))
        return text + self._message(object_in(message, "message"), again=self._streamed) if message else text

    def _message(self, said: Mapping[str, Any], *, again: bool = False) -> str:
        """The text that a part of the answer, or all of it, adds. What is told `again` as a whole, after it came in pieces, adds
        what the pieces lacked.
        """
        content, thought = _plain(said.get("content")), _thoughts(said)
        if again:
            before, said_before = self._texts.text, self._texts.reasoning
            content = content.removeprefix(before) if content.startswith(before) else ""
            thought = "" if said_before else thought
        if thought:
            self._texts.think(thought)
        refusal: Any = said.get("refusal")
        if refusal and isinstance(refusal, str) and refusal != "".join(self._refusal):
            self._refusal.append(refusal)
        if (calls := said.get("tool_calls")) is not None:
            self._tools.take(calls)
        if called := said.get("function_call"):
            self._tools.take_legacy(called)
        for name, value in said.items():
            if name not in _READ and value and _CARRIED.search(name) and {name: value} not in self._carried:
                self._carried.append({name: value})
        return self._texts.add(content)


def _plain(content: object) -> str:
    """The text of a content, a string or a list of parts. Raises TypeError."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TypeError("content is neither text nor a list of parts")
    parts = [as_object(part) or {} for part in cast("list[Any]", content)]
    return "".join(texts_of([part]) for part in parts if named(part, "type", "") not in _THOUGHTS)


def _thoughts(said: Mapping[str, Any]) -> str:
    """What the model thought, under the first of the names that servers give it: the same text may stand under several."""
    for name in ("reasoning_content", "reasoning", "reasoning_text", "thinking"):
        value: Any = said.get(name)
        if isinstance(value, str) and value:
            return value
    content: Any = said.get("content")
    parts = [as_object(part) or {} for part in cast("list[Any]", content)] if isinstance(content, list) else []
    return "".join(texts_of(part.get("thinking") or [part]) for part in parts if named(part, "type", "") in _THOUGHTS)


def count(value: object) -> int | None:
    """`value` if it is a count, otherwise None: unknown."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
