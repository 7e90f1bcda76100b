"""Which rounds of a job count against `failover.max_extra_rounds`. Pure, and told by the event of a round alone.

Rounds that wait for a budget's window or for a person end with the job's deadline, however many they are. All others count:
they could follow each other for ever.
"""

from __future__ import annotations

from actors.succession import NEVER_SPENT
from messages import Attempt, Problem

OVER_BUDGET = "over_budget"
"""Reason of a round that follows one in which budgets alone stood in the way."""
RESUMED = "resumed"
"""Reason of a round that a person asked for."""
STILL_WAITING = "still_waiting"
"""Reason of a round that follows a wait for budgets or a person, and then something else stood in the way. How many rounds
were waits is not known any more, so none of them counts until an attempt is made."""
_UNCOUNTED = (OVER_BUDGET, RESUMED, STILL_WAITING)


def counts(cause: Problem | None) -> bool:
    """Whether the round that began for this reason counts."""
    return cause is None or cause.reason not in _UNCOUNTED


def extra_rounds(n: int, attempts: tuple[Attempt, ...]) -> int:
    """Rounds before round `n` that count beside the attempts: those in a row since the last attempt, and every attempt that
    nobody made.

    What lies between earlier attempts is over: it may have been a wait, and has led to an attempt.
    """
    last = attempts[-1].n if attempts else 0
    return max(0, n - 1 - last) + sum(attempt.outcome in NEVER_SPENT for attempt in attempts)
