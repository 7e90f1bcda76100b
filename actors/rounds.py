"""When a job that waits looks again by itself, and what waits are called. Pure, and told by the event of a round alone.

Who can't run now is parked, and woken by what changes (`actors/parking`). The time that is scheduled in the server beside it is
there for what nobody noticed: it leaves half of what remains until the deadline, so a job looks again by itself a few times
only, however long it waits.
"""

from __future__ import annotations

import hashlib

from messages import Attempt

OVER_BUDGET = "over_budget"
"""Reason of a round that follows one in which budgets alone stood in the way."""
RESUMED = "resumed"
"""Reason of a round that a person asked for."""
LAST_LOOK_SECONDS = 10.0
"""With no more than this left until its deadline, a job is woken or ends: there is no further look."""
LONGEST_LOOK_SECONDS = 900.0
"""A job looks again after this time at the latest."""
LATE_SECONDS = 2.0
"""So long after what it waits for was to end by itself a job looks at the earliest: those that are woken go before."""
MOST_SPREAD_SECONDS = 30.0
"""Those whose wait ends at one time look again spread over this much."""
PACE_SECONDS = 1.0
"""The first wait for what ends by itself within a moment; doubles with each round since the last attempt."""
LONGEST_PACE_SECONDS = 30.0


def place(tenant: str, job: str, n: int) -> float:
    """The job's own place among those that wait alike: from 0 to 1, by a hash, another one in every round."""
    told = f"{tenant}\0{job}\0{n}".encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") / 2**64


def look_again(now: float, deadline_at: float, at: float, *, ends_at: float = 0.0) -> float:
    """Seconds until a parked job looks again though nothing woke it; all that is left when there is to be no further look.

    `at`: its place, 0 to 1. `ends_at`: when the first of what it waits for ends by itself; 0: nobody knows.
    """
    left = max(0.0, deadline_at - now)
    if left <= LAST_LOOK_SECONDS:
        return left
    wait = min(left * (0.5 - 0.1 * at), LONGEST_LOOK_SECONDS)
    if ends_at > now:
        rest = ends_at - now + LATE_SECONDS
        wait = max(wait, rest + at * min(MOST_SPREAD_SECONDS, max(0.0, left - rest) / 2))
    return min(wait, left)


def pace(n: int, attempts: tuple[Attempt, ...]) -> float:
    """Seconds until the next look at what ends by itself within a moment: longer with each round since the last attempt."""
    rounds = n - 1 - (attempts[-1].n if attempts else 0)
    return min(PACE_SECONDS * 2.0 ** min(max(0, rounds), 10), LONGEST_PACE_SECONDS)
