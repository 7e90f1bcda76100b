"""Strategies that keep shares of the traffic, counted in a sliding window."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.router.case import Case, Row, Scored
from actors.router.strategies.points import weighted_score
from actors.router.strategies.pool import PLACE, STAGE, places, squash

LEAST_SHARE = 1e-6
"""A smaller share is none."""
SHARE_PARTS = ("used_share", "target_share")
"""The member's share of the window and its target, 0 to 1, where shares decided; 0 and 0 elsewhere."""


def usage_based(rows: Sequence[Row], case: Case) -> Scored:
    """Who was used least within the window, relative to its share (seed 004, creative and chat): minus `used / share`.

    Shares are those of the policy, else equal for all of the pool, else equal for all backends. The backends of one member
    share its part. Ties go by the order of the pool, then to the member's least used backend. Whoever has no share comes last.
    """
    plan = case.plan
    shares = {name: share for name, share in plan.shares.items() if share >= LEAST_SHARE} or dict.fromkeys(
        plan.pool, 1.0
    )
    if shares:
        names, member = tuple(shares), places(rows, tuple(shares))
    else:
        names, member = (), list(range(len(rows)))
    outside = len(names) or len(rows)
    used = [0.0] * (outside + 1)
    for i, row in zip(member, rows, strict=True):
        used[i] += row.features.used
    scores: list[float] = []
    for i, place, row in zip(member, places(rows, plan.pool), rows, strict=True):
        own = row.features.used
        ratio = STAGE * PLACE + own if i == outside else used[i] / (shares[names[i]] if names else 1.0)
        scores.append(-ratio - (place + squash(own, 1.0)) / 1e6)
    return Scored(scores)


class _Member(msgspec.Struct):
    """One part of the traffic: all rows that its name means."""

    target: float
    used: float = 0.0
    free: bool = False
    """One of its backends at least is not saturated."""


def by_shares(rows: Sequence[Row], case: Case, rest: Sequence[float]) -> Scored | None:
    """Most below its target share first (requirement C5); None when the plan has no shares, or none of the members is here.

    A member's score is `2,000,000 + 1000 x (target - used)`, both as shares of the members that can take work. When all of a
    member's backends are saturated, its target and its use pass to the first of `plan.overflow` that is not, so the other
    shares stay as they are; itself it waits behind, at `1,000,000`. Rows without a share keep their score of `rest`.
    """
    names = tuple(name for name, share in case.plan.shares.items() if share >= LEAST_SHARE)
    count = len(names)
    member = places(rows, names)
    members: dict[int, _Member] = {}
    for i, row in zip(member, rows, strict=True):
        if i < count:
            found = members.get(i)
            if found is None:
                found = members[i] = _Member(case.plan.shares[names[i]])
            found.used += row.features.used
            found.free = found.free or not row.features.saturated
    if not members:
        return None
    full = [found for found in members.values() if not found.free]
    taker = _taker(rows, case.plan.overflow, member, members) if full else None
    if taker is not None:
        taker.target += sum(found.target for found in full)
        taker.used += sum(found.used for found in full)
    some_free = any(found.free for found in members.values())
    active = [found for found in members.values() if found.free or not some_free]
    all_target = sum(found.target for found in active)
    all_used = sum(found.used for found in active) or 1.0
    scores, parts = list(rest), [(0.0, 0.0)] * len(rows)
    for k, points in enumerate(weighted_score(rows, case).scores):
        found = members.get(member[k])
        if found is None:
            continue
        stage, tie = STAGE, squash(points, 100.0) / 1e3
        if found.free or not some_free:
            parts[k] = (found.used / all_used, found.target / all_target)
            if not (some_free and rows[k].features.saturated):
                stage = 2 * STAGE
        scores[k] = stage + PLACE * (parts[k][1] - parts[k][0]) + tie
    return Scored(scores, parts)


def _taker(
    rows: Sequence[Row], overflow: Sequence[str], member: list[int], members: dict[int, _Member]
) -> _Member | None:
    """Who takes the work of saturated members: the first of the overflow that is not saturated; None when all are.

    One without a share of its own becomes a member.
    """
    over = places(rows, overflow)
    free = [k for k, row in enumerate(rows) if over[k] < len(overflow) and not row.features.saturated]
    if not free:
        return None
    place = min(over[k] for k in free)
    for k in free:
        if over[k] == place and member[k] in members:
            return members[member[k]]
    newcomer = 1 + max(*members, *member)
    taker = members[newcomer] = _Member(0.0, free=True)
    for k, row in enumerate(rows):
        if over[k] == place:
            member[k] = newcomer
            taker.used += row.features.used
    return taker
