"""Files that backends make or jobs bring along: in memory while they are small, on disk beyond that, hashed as they come."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from typing import Final

MEMORY_BYTES: Final = 4 * 1024 * 1024
"""A file up to this size stays in memory."""
LIMIT_BYTES: Final = 4 * 1024 * 1024 * 1024
"""A larger file is a fault of who sends it."""
HEAD_BYTES: Final = 1024
"""Most kinds tell themselves in a few bytes; pictures in SVG may have a declaration and notes before they begin."""
_PIECE: Final = 128 * 1024


class TooLarge(ValueError):
    """A file grew beyond its limit."""


class File:
    """Bytes that are written once and read from the start. Not for several tasks at once; close it."""

    def __init__(self, data: bytes = b"", *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._digest = hashlib.sha256()
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  # It lives as long as this does.
        self.size_bytes = 0
        self.head = b""
        """The first `HEAD_BYTES`, by which kinds of file are told apart."""
        self.write(data)

    def write(self, data: bytes) -> None:
        """Add to its end. Raises TooLarge."""
        if self.size_bytes + len(data) > self._limit:
            raise TooLarge(f"larger than {self._limit} bytes")
        if len(self.head) < HEAD_BYTES:
            self.head = (self.head + data[:HEAD_BYTES])[:HEAD_BYTES]
        self.size_bytes += len(data)
        self._digest.update(data)
        self._file.seek(0, 2)  # A reader may have stopped in the middle.
        self._file.write(data)

    @property
    def sha256(self) -> str:
        """Digest of what has been written, in hexadecimal."""
        return self._digest.hexdigest()

    def pieces(self, size: int = _PIECE) -> Iterator[bytes]:
        """Its bytes from the start, in pieces of this size."""
        self._file.seek(0)
        while piece := self._file.read(size):
            yield piece

    def read(self) -> bytes:
        """All of it: for what is known to be small."""
        return b"".join(self.pieces())

    def close(self) -> None:
        """Give its memory or disk back. May be called twice."""
        self._file.close()
