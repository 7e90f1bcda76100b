"""When nobody can run a job because of budgets: what its budgets want to happen then, and how a held job goes on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from actors.rounds import RESUMED
from actors.settings import Budget
from messages import Decided, Granted, Held, Problem, Retry
from messages.attempts import WhenOver


class Over(NamedTuple):
    """One budget in the way of one candidate."""

    budget: Budget
    ends_at: float
    """When its present window ends; 0: never."""
    hopeless: bool
    """The candidate's worst case exceeds the whole limit."""
    wants: WhenOver
    """What it wants to happen when nobody can run the job."""
    softens: bool = False
    """A shorter answer, or an exact count of the input, may bring it under the limit."""


def standing(overs: Sequence[Over]) -> dict[str, Any]:
    """The fields of a verdict about a job whose every candidate is over budget: what follows, and when there is room.

    The gentlest wish of the budgets in the way holds: ask, else wait, else fail. Only windows that end, and limits that can
    hold the job at all, are worth waiting for.
    """
    if not overs:
        return {}
    rolling = [over.ends_at for over in overs if over.wants == "wait" and over.ends_at and not over.hopeless]
    when: WhenOver = "ask" if any(over.wants == "ask" for over in overs) else "wait" if rolling else "fail"
    return {
        "when_over": when,
        "room_at": min(rolling) if when == "wait" else 0.0,
        "over": tuple(sorted({over.budget.name for over in overs})),
        "hopeless": all(over.hopeless for over in overs),
        "softens": any(over.softens for over in overs),
    }


def held(decided: Decided, granted: Granted, problem: Problem) -> Held:
    """What is said of a job that waits for a person. Follows from the stored verdict alone."""
    slip, first = decided.slip, decided.ranking[0]
    return Held(
        tenant=decided.tenant, job=decided.job, n=decided.n, user=slip.needs.user, workflow=slip.needs.workflow,
        problem=problem, budgets=granted.over, cost_microdollars=first.worst_case_microdollars,
        tokens=first.worst_case_tokens, until=slip.deadline_at, at=granted.at,
    )  # fmt: skip


def resumed(decided: Decided, held: Held, by: str, now: float) -> Retry:
    """The next round of a held job."""
    who = f" by {by}" if by else ""
    cause = Problem(reason=RESUMED, message=f"resumed{who} after it was held: {held.problem.message}"[:2000])
    return Retry(
        tenant=decided.tenant, job=decided.job, n=decided.n + 1, slip=decided.slip, attempts=decided.attempts,
        excluded=decided.excluded, cause=cause, at=now,
    )  # fmt: skip
