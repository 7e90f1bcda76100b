"""Disk: whether the data directory of a nats-server takes writes, and since when it did not.

A stream that met a full disk refuses every write until its server is started again, also when there is room. The server says
so in its log, unless the disk was too full for that as well: so the room that is left is looked at, too.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

FULL_BYTES = 512 * 1024
"""With less room than this a disk counts as full."""
ROOM_BYTES = 4 * 1024 * 1024
"""With so much it counts as having room again."""
_PROBE_BYTES = 256 * 1024
_MOST_READ = 1_000_000
_FAILED = re.compile(
    rb"critical write error|failed to store a msg|no space left on device|resources, will be disabled", re.IGNORECASE
)
_STREAM = re.compile(rb"Filestore \[([^\]]+)\]|stream '[^']*> ([^'>]+)'|consumer '[^']*?> ([^'>]+) >")


class Disk:
    """The data directory of one server. Look at it again and again."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory, self._log = directory, log
        self._read = 0
        self._said = ""
        """What the server last said about a write that failed; empty: nothing."""
        self.streams: set[str] = set()
        """Those which the server named."""
        self.full = False
        """Whether it was full at the last look."""
        self._was_full = False

    @property
    def trouble(self) -> str:
        """Why the server stores nothing now, in words; empty: it does."""
        if not self._said and not self._was_full:
            return ""
        free = _mb(self.free())
        if self.full:
            return f"the disk of {self.directory} is full ({free} MB free)"
        names = ", ".join(sorted(self.streams))
        why = f" ({self._said})" if self._said else ""
        return f"writes to {self.directory} failed{f' in {names}' if names else ''}{why}; {free} MB are free there now"

    def begin(self, log_from: int) -> None:
        """The server is started: what its log said before no longer holds."""
        self._read, self._said, self._was_full = log_from, "", False
        self.streams.clear()

    def look(self) -> bool:
        """Look at the room and at what the server has said since the last time; whether there is trouble."""
        self.full = self.free() < FULL_BYTES
        self._was_full = self._was_full or self.full
        for line in self._news():
            if _FAILED.search(line):
                self._said = line.rpartition(b": ")[2].decode(errors="replace").strip()[:200]
                self.streams.update(name.decode() for found in _STREAM.findall(line) for name in found if name)
        return bool(self._said or self._was_full)

    def _news(self) -> list[bytes]:
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(min(self._read, size), size - _MOST_READ))
                text = file.read()
        except OSError:
            return []
        whole, newline, _ = text.rpartition(b"\n")
        self._read = size - len(text) + len(whole) + len(newline)
        return whole.splitlines()

    def free(self) -> int:
        """Bytes that are free there; 0 when even that can't be told."""
        try:
            return shutil.disk_usage(self.directory).free
        except OSError:
            return 0

    def has_room(self) -> bool:
        """Whether something can be written there, tried out. Blocks as long as the disk takes."""
        if self.free() < ROOM_BYTES:
            return False
        try:
            with tempfile.TemporaryFile(dir=self.directory) as file:
                file.write(b"\0" * _PROBE_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            return False
        return True


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}" if size < 100_000_000 else f"{size / 1e6:,.0f}"
