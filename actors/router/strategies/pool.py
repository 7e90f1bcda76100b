"""Where a row stands in a list of names: the pool, a class, the overflow."""

from __future__ import annotations

from collections.abc import Sequence

from actors.router.case import Row

PLACE = 1_000.0
"""Points between two places of a list; what is added within a place stays below it."""
LIMIT = 999.0
"""The most that is added within a place."""
STAGE = 1_000_000.0
"""Points between two groups of rows, whatever is scored within each."""


def places(rows: Sequence[Row], names: Sequence[str]) -> list[int]:
    """For each row the first of `names` that means it (`Row.is_called`), from 0; `len(names)` when none does."""
    outside = len(names)
    if not outside:
        return [0] * len(rows)
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        first.setdefault(name, place)
    slashed = any("/" in name for name in names)
    found: list[int] = []
    for row in rows:
        place = first.get(row.model, outside)
        if row.backend in first:
            place = min(place, first[row.backend])
        for name in row.known.names:
            if name in first:
                place = min(place, first[name])
        if slashed:
            place = min(place, first.get(f"{row.backend}/{row.model}", outside))
        found.append(place)
    return found


def squash(value: float, half: float) -> float:
    """A not negative `value` as a part of 1, always growing and never reaching it; `half` gives 0.5.

    It breaks ties: added to a score, it never outweighs a whole point.
    """
    return value / (value + half)


def leader(rows: Sequence[Row], scores: Sequence[float], among: Sequence[int]) -> int:
    """The best of the rows `among`, equal scores as the ranking takes them: by `crowd`, then by name. Must not be empty."""
    return min(among, key=lambda i: (-scores[i], crowd(rows[i]), rows[i].backend, rows[i].model))


def crowd(row: Row) -> float:
    """Jobs ahead per slot. Among equal scores the emptier one: a flood outgrows the scores' anchors, and would all go to one."""
    return row.features.ahead / max(1, row.known.slots)
