"""Strategies that follow the order of the pool, or the size of the context."""

from __future__ import annotations

from collections.abc import Sequence

from actors.router.case import Case, Row, Scored
from actors.router.strategies.points import weighted_score
from actors.router.strategies.pool import LIMIT, PLACE, STAGE, places, squash

HEADROOM = 1.25
"""A context is enough when it holds this many times the estimate: token counts are estimated, not counted."""


def manual(rows: Sequence[Row], case: Case) -> Scored:
    """The pool in its order, then by priority; nothing measured counts: `-1000 x place - priority` (seed 003, `Manual`)."""
    scores = [
        -PLACE * place - min(row.known.priority, LIMIT)
        for row, place in zip(rows, places(rows, case.plan.pool), strict=True)
    ]
    return Scored(scores)


def pool_order(rows: Sequence[Row], case: Case) -> Scored:
    """The pool in its order, those outside it last; among equals the weighted score: `-1000 x place + points` (seed 001).

    Points above 999 (by a multiplier over 10) count as 999, so that a place is never outweighed.
    """
    scores = [
        -PLACE * place + min(points, LIMIT)
        for place, points in zip(places(rows, case.plan.pool), weighted_score(rows, case).scores, strict=True)
    ]
    return Scored(scores)


def direct(rows: Sequence[Row], case: Case) -> Scored:
    """The first of the pool whatever its load, the others only as fallbacks in their order (seed 004, reasoning).

    `-1000 x place`, and of several backends that serve one member the one that answers quickest, waits not counted.
    """
    scores = [
        -PLACE * place - squash(row.features.service_seconds, 1_000.0)
        for row, place in zip(rows, places(rows, case.plan.pool), strict=True)
    ]
    return Scored(scores)


def context_based(rows: Sequence[Row], case: Case) -> Scored:
    """Who has context enough for the job first, in the order of the pool; of the rest the largest (seed 004, analytical).

    Enough is 1.25 times the input estimate and the output cap (`Needs.max_output_tokens`, or the model's own limit if lower).
    Enough: `1,000,000,000 - 1000 x place + points`; else the context in tokens. An unknown context counts as 0.
    """
    needs = case.needs
    scores = pool_order(rows, case).scores
    for i, row in enumerate(rows):
        known = row.known
        context, cap = known.context_tokens or 0, needs.max_output_tokens
        if known.max_output_tokens is not None and known.max_output_tokens < cap:
            cap = known.max_output_tokens
        if context >= HEADROOM * (needs.input_tokens + cap):
            scores[i] += STAGE * PLACE
        else:
            scores[i] = float(context)
    return Scored(scores)


def most_capacity(rows: Sequence[Row], _case: Case) -> Scored:
    """The largest context, then the most free slots: tokens plus a part of 1 for the slots (seed 004, large_context).

    An unknown context counts as 0.
    """
    scores: list[float] = []
    for row in rows:
        free = row.known.slots - row.features.ahead
        scores.append((row.known.context_tokens or 0) + (squash(free, 1.0) if free > 0 else 0.0))
    return Scored(scores)
