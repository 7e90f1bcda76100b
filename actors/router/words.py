"""Decisions in words: why the first leads, and why nobody can run a job. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from actors.router.case import Case, Row, Strategy
from messages import Needs, Plan, Problem
from messages.deciding import is_meant, meaning

MOST_REASONS = 3
"""So many different reasons are told when nobody may run a job, the most useful ones, each with one example."""
MOST_OF_POOL = 64
"""So many of an exhausted pool: every model of a usual one, and still short enough for an event."""
_FIGURES = re.compile(r"\d[\d,.]*")


def reason_of(ranking: Sequence[Row], strategy: Strategy, case: Case, *, explored: bool) -> str:
    """One sentence: why the first leads."""
    best, needs = ranking[0], case.needs
    wanted = needs.preferred_backend
    means = meaning(wanted, {row.backend for row in ranking})
    if wanted and is_meant(wanted, means, best.backend, best.known):
        if means == "name":
            return f"{best.backend} is the preferred backend"
        among = [row for row in ranking if is_meant(wanted, means, row.backend, row.known)]
        if len(among) == 1:
            return f"{best.backend} is the preferred backend, the only one of {wanted} that may run it"
    if needs.preferred_model and best.is_called(needs.preferred_model):
        return f"{best.backend} serves the preferred model {needs.preferred_model}"
    if len(ranking) == 1:
        return f"{best.backend} is the only one that may run it"
    follower = ranking[1]
    both = best.backend == follower.backend  # Then only the models tell them apart.
    first, second = (f"{row.backend}/{row.model}" if both else row.backend for row in (best, follower))
    if explored:
        return f"{first} is tried by {strategy.name} to learn how it does"
    if any(best.is_called(name) for name in case.plan.chain):
        return f"{first} is next in the chain of the model that failed"
    why = f", which {follower.reason}" if follower.reason and not best.reason else ""
    if strategy.name == "expected_cost":
        hour = case.plan.cost.per_hour(needs.value_per_hour_microdollars, speed=needs.prioritize_speed)
        mine, theirs = (f"${-row.score / 1e6:.6f}" for row in (best, follower))
        return (
            f"{first} leads with an expected cost of {mine} (an hour of waiting counts ${hour / 1e6:.2f}); "
            f"next is {second} with {theirs}{why}"
        )
    if strategy.name != "weighted_score":  # Else only points say something by themselves.
        return f"{first} leads by {strategy.name}; next is {second}{why}"
    return f"{first} leads with {best.score:.1f} points; next is {second} with {follower.score:.1f}{why}"


def exhausted(rows: Sequence[Row], plan: Plan, needs: Needs) -> Problem:
    """Why nobody can run the job: the most frequent reasons; an exhausted pool names its role and each model."""
    if not rows:
        return Problem(reason="no_backend", message="no backend is known; start one, or see `turnout doctor`")
    if not (plan.strict and plan.pool):
        return Problem(reason="no_backend", message=f"no backend may run this job: {_nobody(rows, needs)}")
    what = f"the pool of the role {needs.role}" if needs.role else f"the pool of {plan.rule}"
    skipped: list[str] = []
    for name in plan.pool:
        there = [row for row in rows if row.is_called(name)]
        skipped += [f"{name} ({row.backend}/{row.model}) {row.reason}" for row in there]
        skipped += [] if there else [f"{name} is served by nobody"]
    more = f"; and {len(skipped) - MOST_OF_POOL} more" if len(skipped) > MOST_OF_POOL else ""
    return Problem(reason="no_backend", message=f"{what} is exhausted: {'; '.join(skipped[:MOST_OF_POOL])}{more}")


_LATER: Mapping[str, int] = {
    # First what passes by itself or somebody can mend at a backend that has what the job asks for (everything not listed).
    # Then what the job's own limits, or its size, rule out.
    "cost": 1, "guardrail": 1, "cloud": 1, "context": 1, "vram": 1, "pool": 1, "role": 1,
    # Then who lacks something that the job needs.
    "lora": 2, "graph": 2, "capability": 2,
    # At last those that serve another model: mostly many, and never the reason.
    "model": 3,
}  # fmt: skip
"""In which order reasons are told, by the name of their filter; of equal ones the most frequent first."""


def _nobody(rows: Sequence[Row], needs: Needs) -> str:
    """`none of 18 models can do audio`; else `b/n is unhealthy; a/m lacks audio (12 of 18 models); …`."""
    alike: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.barred, _kind(row)), []).append(row)
    if len(alike) == 1 and len(rows) > 1:
        first = rows[0]
        if first.barred == "model":
            return f"none of {len(rows)} models is {needs.model}"
        lacking = first.reason.removeprefix("lacks ")
        if first.barred == "capability" and lacking in (*needs.capabilities, needs.asset):
            return f"none of {len(rows)} models can do {lacking}"
    groups = sorted(alike.values(), key=lambda group: (_LATER.get(group[0].barred, 0), -len(group)))
    told = [_example(group, len(rows)) for group in groups[:MOST_REASONS]]
    left = sum(len(group) for group in groups[MOST_REASONS:])
    if left:
        told.append(f"and {left} {'model' if left == 1 else 'models'} for other reasons")
    return "; ".join(told)


def _kind(row: Row) -> str:
    """What two reasons must share to be told as one: the text without its figures; of `model`, whose text names it, nothing."""
    return "" if row.barred == "model" else _FIGURES.sub("#", row.reason)


def _example(group: Sequence[Row], of: int) -> str:
    """The first of a group with its reason, and how many it stands for."""
    said = f"{group[0].backend}/{group[0].model} {group[0].reason}"
    if len(group) == 1:
        return said
    share = f"{len(group)} of {of}" if len(group) < of else "both" if of == 2 else f"all {of}"
    return f"{said} ({share} models)"
