"""Decisions in words: why the first leads, and why nobody can run a job. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from actors.router.case import Case, Row, Strategy
from messages import Plan, Problem

MOST_REASONS = 12
"""So many candidates are named when nobody may run a job."""
MOST_OF_POOL = 64
"""So many of an exhausted pool: every model of a usual one, and still short enough for an event."""


def reason_of(ranking: Sequence[Row], strategy: Strategy, case: Case, *, explored: bool) -> str:
    """One sentence: why the first leads."""
    best, needs = ranking[0], case.needs
    if needs.preferred_backend == best.backend:
        return f"{best.backend} is the preferred backend"
    if needs.preferred_model and best.is_called(needs.preferred_model):
        return f"{best.backend} serves the preferred model {needs.preferred_model}"
    if len(ranking) == 1:
        return f"{best.backend} is the only one that may run it"
    if explored:
        return f"{best.backend} is tried by {strategy.name} to learn how it does"
    if any(best.is_called(name) for name in case.plan.chain):
        return f"{best.backend} is next in the chain of the model that failed"
    follower = ranking[1]
    why = f", which {follower.reason}" if follower.reason and not best.reason else ""
    if strategy.name != "weighted_score":  # Only points say something by themselves.
        return f"{best.backend} leads by {strategy.name}; next is {follower.backend}{why}"
    return (
        f"{best.backend} leads with {best.score:.1f} points; next is {follower.backend} with {follower.score:.1f}{why}"
    )


def exhausted(rows: Sequence[Row], plan: Plan, role: str) -> Problem:
    """Why nobody can run the job, naming each candidate's reason; an exhausted pool names its role and each model."""
    if not rows:
        return Problem(reason="no_backend", message="no backend is known; start one, or see `turnout doctor`")
    if not (plan.strict and plan.pool):
        reasons = "; ".join(f"{row.backend}/{row.model} {row.reason}" for row in rows[:MOST_REASONS])
        more = f"; and {len(rows) - MOST_REASONS} more" if len(rows) > MOST_REASONS else ""
        return Problem(reason="no_backend", message=f"no backend may run this job: {reasons}{more}")
    what = f"the pool of the role {role}" if role else f"the pool of {plan.rule}"
    skipped: list[str] = []
    for name in plan.pool:
        there = [row for row in rows if row.is_called(name)]
        skipped += [f"{name} ({row.backend}/{row.model}) {row.reason}" for row in there]
        skipped += [] if there else [f"{name} is served by nobody"]
    more = f"; and {len(skipped) - MOST_OF_POOL} more" if len(skipped) > MOST_OF_POOL else ""
    return Problem(reason="no_backend", message=f"{what} is exhausted: {'; '.join(skipped[:MOST_OF_POOL])}{more}")
