"""Adaptive selection: the best by rolling averages, and now and then another, so that averages stay known (C7).

Randomness is a hash of the policy and the job: nothing hidden, so replay, retries and several routers agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from statistics import NormalDist

from actors.router.case import Case, Row, Scored
from actors.router.strategies.pool import leader

SHORTEST = 1e-3
"""Seconds; shorter expectations count as this."""
WIDE = 1.0
"""Standard deviation of the log of a service time that nobody measured: two in three within a factor of e."""
DEARER = 2.0
"""Exploration never takes who costs more than this many times the leader's price …"""
DEARER_MICRODOLLARS = 10_000.0
"""… and more than this above it, a cent."""
_NORMAL = NormalDist()


def number(*words: str) -> float:
    """A number of [0, 1) that anybody can derive: the first 8 bytes of blake2b over the words / 2^64, to 52 bits."""
    digest = blake2b("|".join(words).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 12) / 2**52


def adaptive(rows: Sequence[Row], case: Case) -> Scored:
    """The one expected to finish first by rolling averages, with little exploration (requirement C7; seed 003, `Adaptive`).

    Scores are `-ln(wait + switch + service)`; the only deviation is `explored`, the row that leads instead. `method`:

    - `epsilon` (epsilon-greedy; Sutton and Barto, "Reinforcement Learning", 2.2): rows with fewer than `enough` measured runs
      together get their part of the `routing_weight` of all (equal weights after a reset), each its own; in the other jobs
      the best measured one leads, and in a share of `epsilon` of these another measured one.
    - `thompson` (discounted Thompson sampling): each row's service time is drawn from a lognormal around its average, with
      standard deviation `spread / sqrt(runs + 1)`, or a wide one until it has `enough` runs; the best draw leads. Routing
      weights play no part: the wide draw brings the first jobs.

    Nobody is explored on a failover, nor who could take more than a part of the time left (`slack`), nor who costs more than
    the job may; besides, exploration by `epsilon` or a draw never takes who is much dearer than the leader. Prior shares do:
    the policy's weights ask for them. Estimates too old to trust are discounted in `runs` before they come here.
    """
    log = math.log
    seconds: list[float] = []
    for row in rows:
        f = row.features
        expected = f.wait_seconds + f.switch_seconds + f.service_seconds
        seconds.append(max(SHORTEST, expected))
    scores = [-log(expected) for expected in seconds]
    if len(rows) < 2 or case.attempts:
        return Scored(scores)
    slack, left = case.plan.adaptive.slack, case.deadline_at - case.now
    limit = case.needs.max_cost_microdollars  # Nothing is spent yet: this is no failover.
    allowed = [
        slack * expected <= left and (limit is None or row.features.price_microdollars <= limit)
        for row, expected in zip(rows, seconds, strict=True)
    ]
    choose = _thompson if case.plan.adaptive.method == "thompson" else _epsilon
    used, first = choose(rows, case, scores, allowed)
    return Scored(scores, number=used, explored=None if first == leader(rows, scores, range(len(rows))) else first)


def _by_name(rows: Sequence[Row], among: Sequence[int]) -> list[int]:
    """The same choice in whatever order the rows come."""
    return sorted(among, key=lambda i: (rows[i].backend, rows[i].model))


def _affordable(rows: Sequence[Row], best: int) -> float:
    """The highest price that exploration may pay in place of the leader's."""
    price = rows[best].features.price_microdollars
    return max(DEARER * price, price + DEARER_MICRODOLLARS)


def _epsilon(rows: Sequence[Row], case: Case, scores: Sequence[float], allowed: Sequence[bool]) -> tuple[float, int]:
    rules, drawn = case.plan.adaptive, number(case.policy, case.job)
    measured = [i for i, row in enumerate(rows) if row.features.runs >= rules.enough]
    fresh = _by_name(rows, [i for i, row in enumerate(rows) if row.features.runs < rules.enough and allowed[i]])
    rest = drawn
    if fresh:
        weights = [1.0 if case.plan.equal_weights else row.known.routing_weight for row in rows]
        total = sum(weights[i] for i in fresh) + sum(weights[i] for i in measured)
        upto = 0.0
        for i in fresh:
            upto += weights[i]
            if drawn * total < upto:
                return drawn, i
        if total > upto:
            rest = (drawn - upto / total) / (1.0 - upto / total)
    best = leader(rows, scores, measured or range(len(rows)))
    if rest < rules.epsilon:
        most = _affordable(rows, best)
        others = [i for i in measured if i != best and allowed[i] and rows[i].features.price_microdollars <= most]
        if others:
            # Rounding may carry the rest to the very end of its range.
            place = min(int(rest / rules.epsilon * len(others)), len(others) - 1)
            return drawn, _by_name(rows, others)[place]
    return drawn, best


def _thompson(rows: Sequence[Row], case: Case, scores: Sequence[float], allowed: Sequence[bool]) -> tuple[float, int]:
    rules, usual = case.plan.adaptive, case.plan.cost.spread
    best = leader(rows, scores, range(len(rows)))
    most = _affordable(rows, best)
    draws: dict[int, tuple[float, float]] = {}
    for i, row in enumerate(rows):
        f = row.features
        if i != best and not (allowed[i] and f.price_microdollars <= most):
            continue
        drawn = number(case.policy, case.job, row.backend, row.model)
        width = (f.spread or usual) / math.sqrt(f.runs + 1.0) if f.runs >= rules.enough else WIDE
        z = _NORMAL.inv_cdf(drawn + 2.0**-53)  # In the middle of its step: never 0 or 1.
        service = max(SHORTEST, f.service_seconds)
        draws[i] = (f.wait_seconds + f.switch_seconds + service * math.exp(width * z), drawn)
    first = min(draws, key=lambda i: (draws[i][0], rows[i].backend, rows[i].model))
    return draws[first][1], first
