"""The order of the permitted: by score within groups, then by the rules of fallback chains. Pure.

Groups, the first weighing most: who failed this job least often; other backends before other models of one whose model failed;
the preferred backend or model; who is not degraded; who makes
the deadline; the pool before the rest; code models before others for code. With routing switched off only the first two count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from actors.router.case import Case, Row
from actors.router.strategies.pool import crowd, places
from actors.succession import NEVER_SPENT, WHOLE_BACKEND
from messages import Attempt
from messages.deciding import is_meant, meaning

PREMIUM_TIER = 5
CLOUD_HOPS = 2
"""A premium cloud model is followed by so many cloud hops before the local cliff, when they exist (C4)."""
AS_WRITTEN = frozenset({"manual", "pool_order", "direct"})
"""Strategies that follow the pool as the policy wrote it: with a pool, their order is an explicit chain."""
_FAILED, _BESIDE, _UNWANTED, _DEGRADED, _LATE, _OUTSIDE, _NO_CODE = 64, 32, 16, 8, 4, 2, 1
_LIGHT = _BESIDE | _DEGRADED | _LATE | _NO_CODE
"""What a hop in the cloud may be and still go before a local one."""


Failures = Mapping[tuple[str, str], int]
"""How often a backend's model failed this job, and under model "" how often the backend itself did."""


def failures_of(attempts: Sequence[Attempt]) -> Failures:
    """What failed this job so far, as wide as the fault was."""
    return Counter(
        (attempt.backend, "" if attempt.outcome in WHOLE_BACKEND else attempt.model)
        for attempt in attempts
        if attempt.outcome not in NEVER_SPENT
    )


def groups(rows: Sequence[Row], case: Case, failures: Failures) -> list[int]:
    """The group of each row; lower comes first."""
    needs, plan = case.needs, case.plan
    found = [0] * len(rows)
    if not plan.fixed:
        left = case.deadline_at - case.now
        code = needs.task == "code"
        for i, row in enumerate(rows):
            f = row.features
            if f.wait_seconds + f.switch_seconds + f.service_seconds > left:
                found[i] = _LATE
            if code and "code" not in row.known.capabilities:
                found[i] += _NO_CODE
            if row.parameters is not None and row.parameters.degrade:
                found[i] += _DEGRADED
        if plan.pool:
            beyond = len(plan.pool)
            for i, place in enumerate(places(rows, plan.pool)):
                if place == beyond:
                    found[i] += _OUTSIDE
    if needs.preferred_backend or needs.preferred_model:
        means = meaning(needs.preferred_backend, {row.backend for row in rows})
        for i, row in enumerate(rows):
            if not _preferred(row, needs.preferred_backend, means, needs.preferred_model):
                found[i] += _UNWANTED
    if failures:
        touched = {backend for backend, _ in failures}
        for i, row in enumerate(rows):
            if row.backend in touched:
                times = failures.get((row.backend, ""), 0) + failures.get((row.backend, row.model), 0)
                found[i] += _FAILED * times if times else _BESIDE
    return found


def _preferred(row: Row, backend: str, means: Literal["name", "kind", "provider"], model: str) -> bool:
    if backend and not is_meant(backend, means, row.backend, row.known):
        return False
    return not model or row.model == model or model in row.known.names


def outside(group: int) -> bool:
    """Whether a row of this group is not of the job's pool."""
    return bool(group & _OUTSIDE)


def arrange(
    rows: list[Row], group_of: Sequence[int], case: Case, *, explored: int | None = None, began: Row | None = None
) -> list[Row]:
    """The rows in the order they are to be tried; who got a place by more than the score gets a `reason`.

    `rows` come ordered by name: equal scores go by fewer jobs ahead per slot, then by name. `explored` leads its group. `began`
    is the row of the attempt that failed first.
    """
    order = sorted(range(len(rows)), key=lambda i: (group_of[i], -rows[i].score, crowd(rows[i])))
    if not order:
        return []
    _give_reasons(rows, group_of, case)
    if explored is not None and group_of[explored] == group_of[order[0]]:
        order.remove(explored)
        order.insert(0, explored)
    head, plan = rows[order[0]], case.plan
    if plan.fixed:
        pass
    elif plan.chain:  # The job began with a model that has an explicit chain, and that model failed.
        wanted = case.needs.preferred_backend or case.needs.preferred_model
        first = order[:1] if wanted and not group_of[order[0]] & _UNWANTED else []
        order = _along(plan.chain, first, order[len(first) :], group_of, rows)
    elif began is None and head.known.chain:
        order = _along(head.known.chain, order[:1], order[1:], group_of, rows)
    elif not (plan.pool and plan.strategy in AS_WRITTEN):
        hops = CLOUD_HOPS - len(_later(case, began))
        if began is None and _premium(head):
            order = [order[0], *_cloud_first(order[1:], hops, group_of, rows, case)]
        elif began is not None and _premium(began) and hops > 0:
            order = _cloud_first(order, hops, group_of, rows, case)
    return [rows[i] for i in order]


def _premium(row: Row) -> bool:
    return not row.known.local and row.known.quality_tier >= PREMIUM_TIER


def _later(case: Case, began: Row | None) -> list[str]:
    """Backends of the attempts after the first one that failed."""
    names = [attempt.backend for attempt in case.attempts if attempt.outcome != "not_started"]
    return names[1:] if began is not None else []


def _along(
    chain: Sequence[str], first: list[int], rest: list[int], group_of: Sequence[int], rows: Sequence[Row]
) -> list[int]:
    """`first`, then the hops of an explicit chain in its order, then the others as they are.

    A hop that failed this job, or whose backend did, goes back to the others; another model of the same backend is a hop.
    """
    found, taken = list(first), set(first)
    for name in chain:
        for i in rest:
            if i not in taken and group_of[i] < _FAILED and rows[i].is_called(name):
                taken.add(i)
                found.append(i)
                rows[i].reason = f"{name} is the next hop of an explicit chain"
    return found + [i for i in rest if i not in taken]


def _cloud_first(rest: list[int], most: int, group_of: Sequence[int], rows: Sequence[Row], case: Case) -> list[int]:
    """So many cloud hops before the first local one; for code, only hops that have the code flag go before code models.

    They come from those that are as little failed, as wanted and as much of the pool as the first of the rest.
    """
    if not rest:
        return rest
    code, weight = case.needs.task == "code", group_of[rest[0]] & ~_LIGHT
    early: list[int] = []
    for i in rest:
        known = rows[i].known
        if known.local or group_of[i] & ~_LIGHT != weight or (code and "code" not in known.capabilities):
            continue
        early.append(i)
        if len(early) == most:
            break
    for place, i in enumerate(early):
        if rest[place] != i:
            rows[i].reason = "is a hop in the cloud before the local ones"
    return early + [i for i in rest if i not in early]


def _give_reasons(rows: Sequence[Row], group_of: Sequence[int], case: Case) -> None:
    words: dict[int, str] = {0: ""}
    for row, group in zip(rows, group_of, strict=True):
        if group:
            found = words.get(group)
            if found is None:
                found = words[group] = _in_words(group, case)
            row.reason = found


def _in_words(group: int, case: Case) -> str:
    """Why a row stands where it does, beside its score."""
    needs = case.needs
    times = group // _FAILED
    said = [f"failed this job {'before' if times == 1 else f'{times} times'}"] if times else []
    if group & _BESIDE:
        said.append("is on a backend whose other model failed this job")
    if group & _UNWANTED:
        said.append(f"is not the preferred {needs.preferred_backend or needs.preferred_model}")
    if group & _DEGRADED:
        said.append("can serve only a part of what is preferred")
    if group & _LATE:
        said.append("would probably miss the deadline")
    if group & _OUTSIDE:
        said.append(f"is not in the pool of {case.plan.rule}")
    if group & _NO_CODE:
        said.append("has no code flag")
    return ", ".join(said)
