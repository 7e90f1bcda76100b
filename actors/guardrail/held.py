"""When nobody can run a job because of budgets: what its budgets want to happen then, and how a held job goes on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from actors.rounds import RESUMED
from actors.settings import Budget
from actors.succession import in_force
from messages import Awaited, Decided, Granted, Held, Problem, Retry
from messages.attempts import WhenOver


class Over(NamedTuple):
    """One budget in the way of one candidate."""

    budget: Budget
    counter: str
    """The counter's subject."""
    amount: int
    """The room that the candidate needs on it."""
    ends_at: float
    """When its present window ends; 0: never."""
    hopeless: bool
    """The candidate's worst case exceeds the whole limit."""
    wants: WhenOver
    """What it wants to happen when nobody can run the job."""
    softens: bool = False
    """A shorter answer, or an exact count of the input, may bring it under the limit."""
    settles: bool = False
    """There will be room enough once what others hold is settled."""

    def awaits(self, deadline_at: float) -> Awaited | None:
        """The counter, where waiting for room on it is worth while: what is held will be settled, or its window ends in time
        and the budget wants to be waited for.
        """
        rolls = self.wants == "wait" and 0 < self.ends_at < deadline_at and not self.hopeless
        if not (self.settles or rolls):
            return None
        kind = "settlement" if self.settles else "budget"
        return Awaited(kind=kind, name=self.counter, budget=self.budget.name, amount=self.amount)


def standing(overs: Sequence[Over], *, alone: bool = True) -> dict[str, Any]:
    """The fields of a verdict about a job with candidates over budget: what follows, and when there is room.

    `alone`: every candidate is. Then the gentlest wish of the budgets in the way holds: ask, else wait, else fail; unless one
    of them has room once what is held is settled, for which the job waits whatever they wish. Only windows that end, and limits
    that can hold the job at all, are worth waiting for.
    """
    if not overs:
        return {}
    settling = any(over.settles for over in overs)
    rolling = [over.ends_at for over in overs if over.wants == "wait" and over.ends_at and not over.hopeless]
    when: WhenOver = "ask" if any(over.wants == "ask" for over in overs) else "wait" if rolling else "fail"
    worth = rolling if when == "wait" or not alone else []
    if settling:
        worth = [over.ends_at for over in overs if over.ends_at and not over.hopeless]
    return {
        "when_over": when if alone else None,
        "room_at": min(worth, default=0.0),
        "over": tuple(sorted({over.budget.name for over in overs})) if alone else (),
        "hopeless": alone and all(over.hopeless for over in overs),
        "settling": settling,
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
        excluded=in_force(decided.excluded, now), cause=cause, at=now,
    )  # fmt: skip
