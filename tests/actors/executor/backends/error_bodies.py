"""Error bodies as real servers give them, each with its source and what it means.

Those that are `held_out` were gathered and labelled after the rules had been written, and measured before any rule knew them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One body."""

    held_out: bool
    source: str
    """The server, and the public report or page that shows the body; a server alone: as its documentation words it."""
    status: int
    body: Any
    """JSON, or text as it is."""
    kind: str

    @property
    def text(self) -> str:
        """The body as it comes over the wire."""
        return self.body if isinstance(self.body, str) else msgspec.json.encode(self.body).decode()


def rows() -> list[Row]:
    """All of them."""
    lines = Path(__file__).with_suffix(".jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Row) for line in lines]
