"""Strategies that look at one figure: time, load or price."""

from __future__ import annotations

from collections.abc import Sequence

from actors.router.case import Case, Row, Scored
from actors.router.strategies.pool import squash

_HALF = 1_000.0
"""Seconds that count half, where time only breaks ties."""


def cost_first(rows: Sequence[Row], _case: Case) -> Scored:
    """The cheapest; among equals the one expected to finish first (seed 003).

    Minus the price in micro-dollars, and less than one more for the time: `t / (t + 1000 s)`.
    """
    scores: list[float] = []
    for row in rows:
        f = row.features
        seconds = f.wait_seconds + f.switch_seconds + f.service_seconds
        scores.append(-f.price_microdollars - squash(seconds, _HALF))
    return Scored(scores)


def latency_first(rows: Sequence[Row], _case: Case) -> Scored:
    """The one expected to finish first (seed 003): minus wait + switch + service in seconds.

    Among equals the cheapest: a dollar counts as a thousandth of a second.
    """
    scores: list[float] = []
    for row in rows:
        f = row.features
        scores.append(-(f.wait_seconds + f.switch_seconds + f.service_seconds) - f.price_microdollars / 1e9)
    return Scored(scores)


def fastest_response(rows: Sequence[Row], _case: Case) -> Scored:
    """The one whose first token is expected first (seed 004, low_latency): minus wait + switch + first token in seconds.

    Among equals the one that answers quickest: a second of service counts as a millionth.
    """
    scores: list[float] = []
    for row in rows:
        f = row.features
        scores.append(-(f.wait_seconds + f.switch_seconds + f.first_token_seconds) - f.service_seconds / 1e6)
    return Scored(scores)


def least_loaded(rows: Sequence[Row], _case: Case) -> Scored:
    """The one with the fewest jobs per slot (seed 004, high_throughput): minus jobs running or waiting / slots.

    Among equals the one expected to finish first, by less than a millionth.
    """
    scores: list[float] = []
    for row in rows:
        f, slots = row.features, row.known.slots
        seconds = f.wait_seconds + f.switch_seconds + f.service_seconds
        scores.append(-f.ahead / (slots or 1) - squash(seconds, _HALF) / 1e6)
    return Scored(scores)
