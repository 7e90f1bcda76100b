"""What all answers in the making share: how their events are read, what may be wrong with them, and what is told of it. Pure.

What ends an answer is its finish reason or last event; nothing that comes after it can spoil it. Before that, what is no event
of the protocol at all is left out and told, and what was one and came broken fails the answer: text would be missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from actors.executor.backends.errors import as_object, redact, shorten
from actors.executor.backends.json_reader import NotJson, read, value_of
from actors.executor.backends.port import Answer, Artifact, BackendError, ErrorKind, Remark, Step, Usage
from actors.executor.backends.texts import NEVER_ENDED, Texts
from actors.executor.backends.tool_calls import ToolCalls
from actors.executor.backends.usage import Tally

DONE: Final = b"[DONE]"
"""Ends streams of OpenAI's form; servers of other forms send it too."""

Made = tuple[Step | Artifact, ...]
Part = str | Made
"""What an event adds: text, or something else."""
PartT = TypeVar("PartT", str, Made)

_BODY_BYTES: Final = 4_000
_ANSWERS: Final = re.compile(
    rb'"(?:choices|delta|content|candidates|parts|message|text|output|data|b64_json|partial_json)"'
)
"""Words by which a broken event is known to have been a part of the answer."""


class Fold(Generic[PartT]):
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, nothing: PartT, *, secrets: tuple[str, ...] = ()) -> None:
        """`nothing` is what an event adds that adds nothing: `""` or `()`."""
        self._model = model
        self._nothing: PartT = nothing
        self._secrets = secrets
        self._texts = Texts()
        self._tools = ToolCalls()
        self._tally = Tally()
        self._carried: list[dict[str, Any]] = []
        self._remarks: dict[Remark, None] = {}
        self._strange: BackendError | None = None  # The first thing that came and was no event.
        self._over = False
        self.done = False
        """Its last event has come; what follows is ignored."""

    # ------------------------------------------------------------------------------- what a protocol says

    def event(self, fields: dict[str, Any], data: bytes) -> PartT:
        """What one event adds. Raises BackendError, or TypeError when it is not what its protocol promises."""
        raise NotImplementedError

    def told(self) -> Answer:
        """The whole answer. Raises BackendError when it is none."""
        raise NotImplementedError

    @property
    def settled(self) -> bool:
        """The answer has told its end: what follows can only add to it."""
        raise NotImplementedError

    def stopped(self) -> bool:
        """Whether it ended by itself and calls no tools."""
        return not self._tools

    # ------------------------------------------------------------------------------- what all share

    def take(self, event: bytes, *, cut: bool = False) -> PartT:
        """What one event adds; may be nothing. What follows the last one is ignored, and so is one that the end of the stream
        `cut`, if it can't be read.
        """
        data = event.strip()
        if self.done or not data:
            return self._nothing
        if len(data) == len(DONE) and data.upper() == DONE:
            self.done = True
            return self._nothing
        try:
            found = read(data)
        except NotJson as error:
            return self._nothing if cut else self._unread(f"the answer is no JSON: {error}", data)
        for remark in found.remarks:
            self.remark("encoding", remark)
        added: Any = self._nothing  # Texts and tuples alike are put together by `+`.
        for value in found.values:
            added += self._take(value, data)
        return added

    def end(self) -> str:
        """Text that was held back, once nothing more comes."""
        if self._over:
            return ""
        self._over = True
        rest = self._texts.end(whole=self.stopped())
        if self._texts.never_ended:
            self.remark("thoughts", NEVER_ENDED)
        return rest

    def answer(self) -> Answer:
        """The whole answer, once the stream has ended."""
        self.end()
        try:
            answer = self.told()
        except BackendError as error:
            if self._strange is not None and error.kind in {"cut_stream", "invalid_structure"}:
                raise self.annotate(self._strange) from None
            raise
        return answer

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the text and the usage that had come before it."""
        error.partial = self._texts.text
        error.usage = self._used
        return error

    @property
    def usage(self) -> Usage:
        """What is known of what it used."""
        return self._used or Usage()

    @property
    def _used(self) -> Usage | None:
        """The same; None: nothing is known. Where the output is not told, thoughts that stand beside the text are measured."""
        told, thought = self._tally.told, len(self._texts.reasoning.encode("utf-8", "replace"))
        if not thought or (told is not None and told.output_tokens):
            return told
        return msgspec.structs.replace(told or Usage(), thought_bytes=thought)

    def remark(self, name: str, message: str) -> None:
        """Tell something with the answer, once."""
        self._remarks[Remark(name, message)] = None

    def failed(self, error: BackendError) -> PartT:
        """An error that the stream tells: it is raised, unless the answer has told its end before."""
        if not self.settled:
            raise self.annotate(error)
        return self._left_out(error)

    def broken(self, message: str, data: bytes) -> BackendError:
        """The error for something that is not what the protocol promises."""
        body = redact(data[:_BODY_BYTES].decode("utf-8", "replace"), self._secrets)
        return self.error("invalid_structure", message, body)

    def error(self, kind: ErrorKind, message: str, body: str = "") -> BackendError:
        """An error, with all that had come before it."""
        return self.annotate(BackendError(kind, message, status=200, body=body))

    def _take(self, value: object, data: bytes) -> PartT:
        fields = as_object(value) or as_object(_within(value))
        if fields is None:
            return self._unread("an event of the answer is no JSON object", data)
        settled = self.settled
        self._tally.hear(fields)  # Also what comes after the end: it takes nothing back.
        try:
            return self.event(fields, data)
        except TypeError as error:
            failed = self.broken(f"an event of the answer is not what it must be: {error}", data)
        except BackendError as error:
            failed = error
        if not settled:
            raise failed
        return self._left_out(failed)

    def _left_out(self, error: BackendError) -> PartT:
        self.remark("stream", f"after its end came what was left out: {shorten(error.message, 200)}")
        return self._nothing

    def _unread(self, message: str, data: bytes) -> PartT:
        if self.settled:
            self.remark("stream", "after its end came what can't be read, and was left out")
            return self._nothing
        error = self.broken(message, data)
        if data.startswith(b"{") and _ANSWERS.search(data):
            raise error
        self._strange = self._strange or error
        self.remark("stream", "between its events came what is none, and was left out")
        return self._nothing


def _within(value: object) -> object:
    """What a text holds that is an object in JSON: some proxies encode their events twice."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        return value_of(value)
    except NotJson:
        return value


def object_in(value: object, name: str) -> dict[str, Any]:
    """The value as an object. Raises TypeError when it is none."""
    fields = as_object(value)
    if fields is None:
        raise TypeError(f"{name} is no object")
    return fields


def list_in(value: object, name: str) -> list[Any]:
    """The value as a list. Raises TypeError when it is none."""
    if not isinstance(value, list):
        raise TypeError(f"{name} is no list")
    return value  # pyright: ignore[reportUnknownVariableType]


def text_in(value: object, name: str) -> str:
    """The value as a text, none as an empty one. Raises TypeError when it is something else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def texts_of(parts: object) -> str:
    """The texts of a list of parts, joined; nothing when it is something else."""
    if isinstance(parts, str):
        return parts
    items: list[Any] = parts if isinstance(parts, list) else []  # pyright: ignore[reportUnknownVariableType]
    texts = [(as_object(part) or {}).get("text") for part in items]
    return "".join(text for text in texts if isinstance(text, str))


def named(fields: Mapping[str, Any], name: str, usual: str) -> str:
    """A field that is a text and not empty, or what is usual."""
    value: Any = fields.get(name)
    return value if isinstance(value, str) and value else usual
