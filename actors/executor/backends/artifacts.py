"""Files as adapters hand them over."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Final, TypeVar

from actors.executor.backends.files import File
from actors.executor.backends.port import Artifact, BackendError, Remark
from actors.executor.backends.sniff import ENDINGS, media_type_of, size_of

_HEAD: Final = 65_536
_NAME_LETTERS: Final = 128
_File = TypeVar("_File")


def file_name(said: str) -> str:
    """The name of a file as a server says it, without folders and without letters that some file system dislikes."""
    name = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', "_", re.split(r"[\\/]", said)[-1])[-_NAME_LETTERS:]
    return name if name.strip(". ") else "file"


def artifact_of(file: File, name: str, told: str = "") -> Artifact:
    """A file with what its first bytes tell of it; `told` is its media type where they tell none. `name`, as the server says
    it, gets an ending when it has none.
    """
    name = file_name(name)
    kind = media_type_of(file.head) or told or "application/octet-stream"
    width, height = size_of(next(file.pieces(_HEAD), b""))
    ending = "" if "." in name else ENDINGS.get(kind, "")
    return Artifact(name=name + ending, media_type=kind, file=file, width=width, height=height)


@contextlib.contextmanager
def collected() -> Generator[list[Artifact], None, None]:
    """A list for artifacts; all of them are closed when the block fails, for nobody will take them then."""
    made: list[Artifact] = []
    try:
        yield made
    except BaseException:
        for artifact in made:
            artifact.file.close()
        raise


@contextlib.contextmanager
def handed(made: Iterable[Artifact]) -> Generator[Generator[Artifact, None, None], None, None]:
    """The artifacts one after the other; those that nobody took by the end of the block are closed."""
    left = [*made][::-1]

    def taken() -> Generator[Artifact, None, None]:
        while left:
            yield left.pop()

    try:
        yield taken()
    finally:
        for artifact in left:
            artifact.file.close()


async def kept(
    files: Iterable[_File], fetch: Callable[[_File], Awaitable[Artifact]], made: list[Artifact], nothing: str
) -> tuple[Remark, ...]:
    """Fetch each file into `made`; what is told of those that can't be had, if there are others.

    Raises the last BackendError when there is none, or an `empty` one that says `nothing` where there was nothing to fetch.
    """
    failed: BackendError | None = None
    remarks: list[Remark] = []
    for file in files:
        try:
            made.append(await fetch(file))
        except BackendError as error:
            failed = error
            remarks.append(Remark("count", f"a file was left out: {error.message}"))
    if not made:
        raise failed or BackendError("empty", nothing, status=200)
    return tuple(remarks)
