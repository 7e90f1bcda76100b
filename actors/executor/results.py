"""Where a result lies: in its event, or in the object store when it is too large for that, as all files are."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable

import msgspec

from actors.executor.backends import port, sniff
from actors.executor.call import key_of, model_of
from actors.executor.check_files import Made
from actors.executor.json_answer import unfenced
from actors.journal import Journal
from bus.bus import BusError
from bus.objects import KEPT_SECONDS
from messages import Artifact, Check, ObjectRef, Origin, Result, Work

LARGE_RESULT_BYTES = 262_144
"""A result above this size lies in the object store, and events carry a reference."""
REASONING_CHARACTERS = 32_768
"""Of what a model thought so much is kept, beside its answer."""
MOST_FILES = 500
"""Files of one attempt: each of them is named in two events."""
_NUMBER_BYTES = 30
"""A number of an embedding as JSON, and more."""
_TEXT_TYPE = "text/plain; charset=utf-8"


def weight(answer: port.Answer) -> int:
    """Characters of an answer, tool calls, thoughts and embeddings included."""
    numbers = sum(len(one) + 1 for one in answer.embeddings)
    told = sum(len(str(item)) for item in (*answer.tool_calls, *answer.carried))
    return len(answer.text) + len(answer.reasoning) + len(answer.refusal) + told + numbers * _NUMBER_BYTES // 6


def result_of(
    answer: port.Answer, *, as_json: bool = False, artifacts: tuple[Artifact, ...] = (), checks: tuple[Check, ...] = ()
) -> Result:
    """The answer as events carry it; with `as_json` the JSON alone, without the fences around it."""
    calls = tuple(msgspec.Raw(msgspec.json.encode(call)) for call in answer.tool_calls)
    carried = tuple(msgspec.Raw(msgspec.json.encode(item)) for item in answer.carried)
    text = unfenced(answer.text) if as_json else answer.text
    return Result(
        text=text, finish_reason=answer.finish_reason, tool_calls=calls, artifacts=artifacts, checks=checks,
        embeddings=answer.embeddings, reasoning=answer.reasoning[:REASONING_CHARACTERS],
        refusal=answer.refusal[:REASONING_CHARACTERS], carried=carried,
    )  # fmt: skip


async def put_aside(journal: Journal, work: Work, result: Result) -> Result:
    """The result as events carry it: itself, or the reference to it in the object store. Raises the bus's errors.

    Embeddings lie there as a JSON list of lists, a text as it is, and a text with tool calls, or with more to be carried than an
    event takes, as the JSON of the result.
    """
    encoded = msgspec.json.encode(result)
    if len(encoded) <= LARGE_RESULT_BYTES:
        return result
    carried, reasoning = result.carried, result.reasoning
    data, media_type = (result.text or "").encode(), _TEXT_TYPE
    beside = len(msgspec.json.encode(msgspec.structs.replace(result, text=None)))
    if result.embeddings:
        data, media_type = msgspec.json.encode(result.embeddings), "application/json"
    elif result.tool_calls or beside > LARGE_RESULT_BYTES // 2:
        data, media_type = encoded, "application/json"
        carried, reasoning = (), ""
    key = key_of(work)
    await journal.keep(key, data)
    digest = hashlib.sha256(data).hexdigest()
    ref = ObjectRef(key=key, size_bytes=len(data), sha256=digest, media_type=media_type)
    return msgspec.structs.replace(
        result, text=None, ref=ref, tool_calls=(), embeddings=(), carried=carried, reasoning=reasoning
    )


class Shelf:
    """The files of one attempt. They are numbered, so that a repeated run of it replaces them."""

    def __init__(self, journal: Journal, work: Work, clock: Callable[[], float]) -> None:
        self._journal, self._work, self._clock = journal, work, clock
        self.made: list[Made] = []
        """What lies on it, in the order in which it came."""

    async def put(self, file: port.Artifact) -> None:
        """Store a file and close it. Raises BackendError when there are too many, and the bus's errors."""
        try:
            if len(self.made) >= MOST_FILES:
                raise port.BackendError("invalid_structure", f"it made more than {MOST_FILES} files")
            work, head = self._work, next(iter(file.file.pieces(65_536)), b"")
            key = f"{key_of(work)}/{len(self.made)}"
            kept = await self._journal.keep_file(key, file.file.pieces())
            sniffed = sniff.media_type_of(head)
            same = not sniffed or file.media_type.partition("/")[0] == "audio"  # Sound in a container of videos.
            ref = ObjectRef(
                key=key, size_bytes=kept.size_bytes, sha256=kept.sha256,
                media_type=(file.media_type if same else sniffed) or "application/octet-stream",
            )  # fmt: skip
            width, height = (file.width, file.height) if file.width and file.height else sniff.size_of(head)
            artifact = Artifact(
                name=self._name(file.name), ref=ref, origin=Origin(backend=work.backend, model=model_of(work),
                recipe=work.slip.needs.recipe), width=width, height=height, seconds=file.seconds,
                expires_at=self._clock() + KEPT_SECONDS,
            )  # fmt: skip
            self.made.append(Made(artifact, file.media_type, sniffed, head[:64]))
        finally:
            file.file.close()

    def _name(self, name: str) -> str:
        """A file name of one part that no other file of the attempt has."""
        plain = name.replace("\\", "/").rpartition("/")[2].strip()
        plain = "".join(mark for mark in plain if mark.isprintable())[:128]
        if not plain.strip("."):
            plain = "file"
        taken = {one.artifact.name for one in self.made}
        stem, point, ending = plain.rpartition(".")
        number, free = 1, plain
        while free in taken:
            number += 1
            free = f"{stem}-{number}.{ending}" if point and stem else f"{plain}-{number}"
        return free

    def artifacts(self, seed: int | None) -> tuple[Artifact, ...]:
        """The files as the result names them; `seed` is the one that was used, where that is known."""
        return tuple(
            msgspec.structs.replace(one.artifact, origin=msgspec.structs.replace(one.artifact.origin, seed=seed))
            for one in self.made
        )

    async def clear(self) -> None:
        """Remove the files of an attempt that failed; what can't be removed now expires."""
        for one in self.made:
            with contextlib.suppress(BusError):
                await self._journal.forget(one.artifact.ref.key)
