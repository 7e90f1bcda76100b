"""Who may be asked after a backend refused a job: as wrong, or as too large for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from actors.router.case import Row
from messages import Attempt

TOO_LARGE = "too_large"
"""Reason of a problem: the request holds more tokens than the backend takes."""


def second_opinions(permitted: Sequence[Row], rows: Sequence[Row], refusal: Attempt) -> list[Row]:
    """Those of the permitted that may say whether a request is as wrong as one backend found it.

    Another backend than that one; never a cloud's after one of our own hardware, for the data would leave; and none that could
    cost more. The others get `barred` and `reason`.
    """
    first = _row_of(rows, refusal)
    local = first is None or first.known.local
    limit = 0 if first is None or first.known.price.unknown else first.worst_case_microdollars
    found: list[Row] = []
    for row in permitted:
        if row.backend == refusal.backend:
            row.reason = "has refused the request"
        elif local and not row.known.local:
            row.reason = (
                "is a cloud backend, and what a local one refused is not sent there to hear whether it is wrong"
            )
        elif row.known.price.unknown or row.worst_case_microdollars > limit:
            row.reason = "could cost more than the backend that refused the request, and only its opinion is wanted"
        else:
            found.append(row)
            continue
        row.barred = "opinion"
    return found


def with_larger(permitted: Sequence[Row], rows: Sequence[Row], attempts: Sequence[Attempt]) -> list[Row]:
    """Those of the permitted whose context is larger than every one that was too small; the others get `barred` and `reason`.

    Where a backend tells how many tokens it counted, the filter of the context has done it already; most do not.
    """
    too_small = 0
    for attempt in attempts:
        problem = attempt.problem
        if problem is None or problem.reason != TOO_LARGE or problem.input_tokens:
            continue
        row = _row_of(rows, attempt)
        known = row.known.context_tokens if row is not None else None
        too_small = max(too_small, problem.limit_tokens or known or 0)
    found: list[Row] = []
    for row in permitted:
        context = row.known.context_tokens
        if too_small and context is not None and context <= too_small:
            row.barred, row.reason = "context", f"has {context:,} tokens of context; {too_small:,} were too few"
        else:
            found.append(row)
    return found


def _row_of(rows: Sequence[Row], attempt: Attempt) -> Row | None:
    return next((row for row in rows if (row.backend, row.model) == (attempt.backend, attempt.model)), None)
