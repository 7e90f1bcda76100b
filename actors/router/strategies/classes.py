"""Strategies by the class of the job: simple, medium, complex; standard and high for creative work."""

from __future__ import annotations

from collections.abc import Sequence

from actors.router.case import Case, Row, Scored
from actors.router.strategies.order import pool_order
from actors.router.strategies.points import weighted_score
from actors.router.strategies.pool import LIMIT, PLACE, STAGE, places, squash
from actors.router.strategies.shares import by_shares

USUAL_RATING = 3.0
"""The rating of whoever nobody rated: the middle of 1 to 5."""
PSEUDO_RATINGS = 5.0
"""The mean rating is drawn to the middle as if so many had rated it 3, so that one rating does not decide."""


def by_class(rows: Sequence[Row], case: Case, rest: Sequence[float]) -> list[float] | None:
    """The members of the job's class first, in their order; None when the class has none here.

    Four groups, 1,000,000 points apart: members that are not saturated; when one is, the overflow that is not (in its order);
    saturated members; all others with their score of `rest`. Within a group: `-1000 x place + points`.
    """
    members = case.plan.classes.get(case.needs.complexity, ())
    inside = len(members)
    at = places(rows, members)
    if not any(place < inside for place in at):
        return None
    overflow: Sequence[str] = ()
    if any(row.features.saturated for row, place in zip(rows, at, strict=True) if place < inside):
        overflow = case.plan.overflow
    over, taken = places(rows, overflow), len(overflow)
    scores = list(rest)
    for k, points in enumerate(weighted_score(rows, case).scores):
        saturated, place, stage = rows[k].features.saturated, at[k], 0
        if place < inside:
            stage = 1 if saturated else 3
        elif over[k] < taken and not saturated:
            place, stage = over[k], 2
        if stage:
            scores[k] = stage * STAGE - PLACE * place + min(points, LIMIT)
    return scores


def complexity_based(rows: Sequence[Row], case: Case) -> Scored:
    """The members of the job's class in order, then the rest of the pool, then others (seed 004, code).

    Saturated members give way to the overflow; `by_class` says how. Without members here: `pool_order`.
    """
    rest = pool_order(rows, case).scores
    return Scored(by_class(rows, case, rest) or rest)


def adaptive_weighted(rows: Sequence[Row], case: Case) -> Scored:
    """The class picks the pool; where it can't, target shares of a sliding window do (requirement C5; seed 004, code).

    As `complexity_based`; when the class is `unknown` or none of its members is here, most below its target share first
    (`by_shares`). Without shares: `pool_order`.
    """
    rest = pool_order(rows, case).scores
    if case.needs.complexity != "unknown":
        scores = by_class(rows, case, rest)
        if scores is not None:
            return Scored(scores)
    return by_shares(rows, case, rest) or Scored(by_class(rows, case, rest) or rest)


def quality_based(rows: Sequence[Row], case: Case) -> Scored:
    """The best quality (requirements C3, C5; seed 004, creative).

    A job of quality final goes to the best tier, whatever its class. Else, where the policy gives members for the job's class
    (`standard`, `high`), they come first, as in `complexity_based`; where the class can't decide and there are shares, most
    below its share first (`by_shares`). Otherwise, and for the rest:
    `1000 x tier + 100 x rating + 1000 / (1000 + t)`, with the mean rating for the task drawn to 3 by five pseudo-ratings (a
    Bayesian average, to a hundredth) and t = wait + switch + service in seconds. So the tier decides, then the rating, then
    the time.
    """
    rest: list[float] = []
    for row in rows:
        f = row.features
        rating = (f.rating * f.ratings + USUAL_RATING * PSEUDO_RATINGS) / (f.ratings + PSEUDO_RATINGS)
        seconds = f.wait_seconds + f.switch_seconds + f.service_seconds
        rest.append(PLACE * row.known.quality_tier + round(100.0 * rating) + 1.0 - squash(seconds, 1_000.0))
    if case.needs.quality == "final":
        return Scored(rest)
    if case.needs.complexity != "unknown":
        scores = by_class(rows, case, rest)
        if scores is not None:
            return Scored(scores)
    return by_shares(rows, case, rest) or Scored(by_class(rows, case, rest) or rest)
