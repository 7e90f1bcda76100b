"""Whether counting a job's input exactly may let a model run it that a limit keeps away. Pure.

The bound by bytes is several times what most texts really have. A count costs a call to the backend, so it is only asked for
when nobody could run the job otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.router.case import Row
from actors.router.decide import Choice
from messages import CountOf, Parameters, Room, Slip
from messages.reading import least_output

MOST_COUNTS = 4
"""So many models are asked at once, those that would be tried first."""


def worth_counting(choice: Choice) -> tuple[CountOf, ...]:
    """The questions to ask before a job is refused for its bound; none when somebody may run it, or a count can't help."""
    decided = choice.decided
    slip = decided.slip
    if slip.needs.asset != "text" or (not choice.ranking and decided.gave_up is None):
        return ()
    limit = slip.needs.max_cost_microdollars
    left = None if limit is None else limit - sum(attempt.billed_microdollars for attempt in decided.attempts)
    refused = {(room.backend, room.model) for room in decided.rooms}
    if any(
        (row.backend, row.model) not in refused
        or _fits(row, row.worst_case_input_tokens, decided.rooms, decided.at, None)
        for row in choice.ranking
    ):
        return ()
    rows = [
        *choice.ranking,
        *(row for row in choice.others if row.barred in ("cost", "guardrail") and not row.known.price.unknown),
    ]
    known = {(one.backend, one.model) for one in decided.counted}
    asked = [
        row
        for row in rows
        if (row.backend, _model(row)) not in known and _may_fit(row, slip, decided.rooms, decided.at, left)
    ]
    return tuple(
        CountOf(
            backend=row.backend, model=row.model, slip=slip, parameters=row.parameters or Parameters(),
            max_output_tokens=row.max_output_tokens,
        )
        for row in asked[:MOST_COUNTS]
    )  # fmt: skip


def _model(row: Row) -> str:
    return row.model if row.parameters is None else row.parameters.model or row.model


def _may_fit(row: Row, slip: Slip, rooms: Sequence[Room], now: float, left: int | None) -> bool:
    """Whether it would fit with an input of about the estimate, and the shortest answer that the job may get."""
    needs = slip.needs
    read = needs.input_tokens if row.unbounded else min(needs.input_tokens, row.worst_case_input_tokens)
    cap = row.max_output_tokens
    if "max_output_tokens" not in needs.stated:
        cap = least_output(cap)
    return _fits(row, read, rooms, now, left, cap)


def _fits(row: Row, read: int, rooms: Sequence[Room], now: float, left: int | None, cap: int | None = None) -> bool:
    """Whether a candidate stays within what is left with so many tokens of input."""
    cap = row.max_output_tokens if cap is None else cap
    worst = row.known.price.worst(read, cap)
    if left is not None and worst > left:
        return False
    mine = [room for room in rooms if (room.backend, room.model) == (row.backend, row.model)]
    return all((worst if room.unit == "microdollars" else read + cap) <= room.at(now) for room in mine)
