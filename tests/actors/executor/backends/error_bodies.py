"""Error bodies as real servers give them, each with its source and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

NOW = 1_790_000_000.0
"""When the bodies come that name a point in time: 2026-09-21 14:13:20 UTC."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One body."""

    gathered: int
    """In which gathering. 0: the rules were written for these. Those of each later one were labelled before any rule knew them,
    and measured at first look: 89 of 105 of the first, then 360 of 418, 68 of 81, and 59 of 65."""
    source: str
    """The server, and the public report or page that shows the body; a server alone: as its documentation words it; `recalled`:
    in the form and words that the server is known for, without a page at hand."""
    status: int
    body: Any
    """JSON, or text as it is."""
    kind: str
    headers: dict[str, str] = {}
    wait: float | None = None
    """Seconds that it asks for; None: nothing is held about that."""
    input_tokens: int | None = None
    """Of the request, where the body tells."""
    limit_tokens: int | None = None
    """That it takes, where the body tells."""

    @property
    def text(self) -> str:
        """The body as it comes over the wire."""
        return self.body if isinstance(self.body, str) else msgspec.json.encode(self.body).decode()


def rows() -> list[Row]:
    """All of them."""
    lines = Path(__file__).with_suffix(".jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Row) for line in lines]
