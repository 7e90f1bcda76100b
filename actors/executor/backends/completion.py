"""Folds an OpenAI-style answer together, event by event, tolerating what real servers do. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from actors.executor.backends.errors import as_object, complaint_in, failure
from actors.executor.backends.fold import Fold, list_in, named, object_in, texts_of
from actors.executor.backends.port import Answer, ErrorKind, FinishReason

_FINISH: Final[dict[str, FinishReason]] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "completed", "end"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_length", "max_output_tokens", "max_new_tokens"), "length"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii",
         "sensitive", "refusal", "guardrail_intervened"), "content_filter",
    ),
}  # fmt: skip
"""In small letters: OpenAI's words, and those of other protocols that servers pass on in OpenAI's form."""
_BROKEN_OFF: Final = re.compile(
    r"abort|cancel|error|insufficient_system_resource|disconnect|timeout|timed_out|malformed", re.IGNORECASE
)
"""Words for an answer that the server gave up."""
_NOT_YET: Final = frozenset({"", "null", "none"})
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
        return self._finish is not None and not self._is_broken_off

    def stopped(self) -> bool:
        """Whether it ended by itself and calls no tools."""
        return not self._tools and self._reason("stop") in ("stop", "tool_calls")

    def event(self, fields: dict[str, Any], data: bytes) -> str:
        """The text that one event adds; may be empty."""
        self._heed(fields, data)
        self._model = named(fields, "model", self._model)
        choices: Any = fields.get("choices")
        if choices is None:
            return ""
        text = ""
        for item in list_in(choices, "choices"):
            choice = object_in(item, "a choice")
            if choice.get("index") in (0, None, "0"):  # We ask for one. It may be of any type.
                if "error" in choice:
                    self._heed(choice, data)
                text += self._choice(choice)
        return text

    def _heed(self, fields: Mapping[str, Any], data: bytes) -> None:
        """Raise BackendError for an error in an event, or in one of its choices."""
        complaint = complaint_in(fields)
        if complaint is not None:
            body = data.decode("utf-8", "replace")
            error = failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint)
            raise self.annotate(error)

    def told(self) -> Answer:
        """The whole answer, once the stream has ended."""
        if not self.done and self._finish is None:
            raise self.error("cut_stream", "the answer broke off: neither a finish reason nor [DONE] came")
        if not self._chose:
            raise self.error("invalid_structure", "the answer holds no choices")
        if self._finish is not None and self._is_broken_off:
            kind: ErrorKind = "invalid_structure" if "malformed" in self._finish.lower() else "cut_stream"
            raise self.error(kind, f"the server gave the answer up (finish reason {self._finish!r})")
        text, refusal = self._texts.text, "".join(self._refusal)
        finish = self._reason("")
        if self._tools and finish == "stop":
            finish = "tool_calls"
        elif finish == "tool_calls" and not self._tools:
            finish = "stop"
            self.remark("tools", "it says that it calls tools, and calls none")
        return Answer(
            text=text,
            finish_reason="content_filter" if refusal and not text and finish == "stop" else finish,
            model=self._model,
            usage=self.usage,
            tool_calls=self._tools.told(),
            reasoning=self._texts.reasoning,
            refusal=refusal,
            carried=tuple(self._carried),
            remarks=tuple(self._remarks),
        )

    @property
    def _is_broken_off(self) -> bool:
        return _BROKEN_OFF.search(self._finish or "") is not None

    def _reason(self, unsaid: FinishReason) -> FinishReason:
        """Why it ended; `unsaid` where that was not told. In a word that nobody knows it was told, and is not known."""
        return unsaid if self._finish is None else _FINISH.get(self._finish.lower(), "")

    def _choice(self, choice: Mapping[str, Any]) -> str:
        self._chose = True
        finish: Any = choice.get("finish_reason")
        if isinstance(finish, str) and finish.lower() not in _NOT_YET:
            self._finish = finish
        delta, message = choice.get("delta"), choice.get("message")
        if delta is None and message is None and isinstance(choice.get("text"), str):
            delta = {"content": choice["text"]}  # As completions without chat have it.
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
    if as_object(content):
        content = [content]
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
    details: Any = said.get("reasoning_details")
    if found := texts_of(details):
        return found
    content: Any = said.get("content")
    parts = [as_object(part) or {} for part in cast("list[Any]", content)] if isinstance(content, list) else []
    return "".join(texts_of(part.get("thinking") or [part]) for part in parts if named(part, "type", "") in _THOUGHTS)


def count(value: object) -> int | None:
    """`value` if it is a count, otherwise None: unknown."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
