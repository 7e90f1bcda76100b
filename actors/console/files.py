"""Files that jobs bring along and files that they made, between this machine and the object store."""

from __future__ import annotations

import base64
import codecs
import hashlib
import mimetypes
import os
import secrets
import sys
from collections.abc import AsyncIterable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from actors.console.screen import Complaint, Wrong, clean, day_and_clock, err
from bus.bus import Bus, BusError
from bus.topology import INPUTS
from messages import Input, ObjectRef, token

INLINE_BYTES: Final = 64 * 1024
"""A file up to this size travels in the job itself."""
SHOWN_BYTES: Final = 8 * 1024 * 1024
"""How far a larger one is gets shown."""
_PIECE: Final = 256 * 1024


@dataclass(frozen=True)
class Upload:
    """A file that must be in the object store before its job is sent."""

    path: Path
    key: str
    size_bytes: int


def input_of(given: str, tenant: str) -> tuple[Input, Upload | None]:
    """A file from `name=FILE`; what has to be uploaded first when it is too large for the job. Raises Wrong."""
    name, equals, file = given.partition("=")
    if not equals or not name.strip() or not file:
        raise Wrong(f"--input is {given!r}: say what the file is for", "--input image=fox.png")
    path = Path(file)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        if size <= INLINE_BYTES:
            data = path.read_bytes()
            return Input(name=name.strip(), media_type=kind, data=base64.b64encode(data).decode()), None
        with path.open("rb") as opened:
            for piece in _pieces(opened):
                digest.update(piece)
    except OSError as error:
        raise Wrong(f"{file}: {error.strerror or error}", f"--input {name}=FILE names a file to be read") from None
    # By its content: the same file again takes the same place.
    key = f"{token(tenant)}/in/{digest.hexdigest()}"
    return Input(name=name.strip(), media_type=kind, key=key, sha256=digest.hexdigest()), Upload(path, key, size)


async def upload(bus: Bus, uploads: Sequence[Upload], *, quiet: bool) -> None:
    """Put files into the object store. Raises Wrong when one can't be read any more, and the bus's errors."""
    with showing(quiet=quiet) as shown:
        for one in {wanted.key: wanted for wanted in uploads}.values():
            try:
                with one.path.open("rb") as opened:
                    pieces = shown.watch(f"sending {one.path.name}", one.size_bytes, _pieces(opened))
                    kept = await bus.put_object(one.key, pieces, bucket=INPUTS)
            except OSError as error:
                raise Wrong(f"{one.path}: {error.strerror or error}") from None
            if not one.key.endswith(kept.sha256):
                raise Wrong(f"{one.path}: it was changed while it was sent", "send it again")


async def download(bus: Bus, ref: ObjectRef, into: Path | None, *, expires_at: float | None, shown: Shown) -> None:
    """Write an object to a file, or (None) to the standard output. A file is there as a whole or not at all.

    Raises Complaint when it is no longer kept or damaged, or the file can't be written; and the bus's errors.
    """
    found = await bus.open_object(ref.key)
    if found is None:
        when = f": it was kept until {day_and_clock(expires_at)}" if expires_at is not None else ""
        raise Complaint(f"{ref.key} is no longer kept{when}", hint="a rerun makes it anew")
    if found.sha256 != ref.sha256:
        raise Complaint(f"{ref.key} is not what the job made: another file lies in its place")
    name = into.name if into else "the answer"
    try:
        if into is None:
            await _shown(found.pieces, plain=to_terminal() and ref.media_type.startswith("text/"))
            return
        part = into.with_name(f".{into.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            task = shown.begin(f"fetching {name}", ref.size_bytes)
            with part.open("wb") as opened:
                async for piece in found.pieces:
                    opened.write(piece)
                    shown.advance(task, len(piece))
            os.replace(part, into)  # noqa: PTH105  # The name of what is done.
        finally:
            part.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Complaint(f"{into or 'the standard output'}: {error.strerror or error}") from None
    except BusError as error:
        raise Complaint(f"{name}: {error}", hint="try again; if it stays so, a rerun makes it anew") from None


def to_terminal() -> bool:
    """Whether a person reads what is written to the standard output."""
    return sys.stdout.isatty()


async def _shown(pieces: AsyncIterable[bytes], *, plain: bool) -> None:
    """Write to the standard output; `plain`: text, without what could move the cursor."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ending = ""
    async for piece in pieces:
        if plain:
            text = ending + decoder.decode(piece)
            ending = "\r" if text.endswith("\r") else ""  # The other half of a line's end may come.
            piece = clean(text.removesuffix("\r") if ending else text).encode()  # noqa: PLW2901
        sys.stdout.buffer.write(piece)
    if plain:
        sys.stdout.buffer.write(clean(ending + decoder.decode(b"", final=True)).encode())
    sys.stdout.buffer.flush()


class Shown:
    """How far large files are; nothing when nobody looks, or all are small."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar

    def begin(self, text: str, size: int) -> TaskID | None:
        """A further file."""
        return self._bar.add_task(clean(text), total=size) if self._bar and size >= SHOWN_BYTES else None

    def advance(self, task: TaskID | None, size: int) -> None:
        """So many more bytes of it."""
        if self._bar and task is not None:
            self._bar.advance(task, size)

    def watch(self, text: str, size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, shown as they go by."""
        task = self.begin(text, size)
        for piece in pieces:
            yield piece
            self.advance(task, len(piece))


@contextmanager
def showing(*, quiet: bool) -> Generator[Shown]:
    """A place for bars on the error console."""
    if quiet or not err.is_terminal:
        yield Shown(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        yield Shown(bar)


def _pieces(opened: BinaryIO) -> Iterator[bytes]:
    while piece := opened.read(_PIECE):
        yield piece
