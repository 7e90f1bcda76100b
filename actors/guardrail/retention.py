"""How long the ledger is kept: a counter goes once nothing can happen to it any more, and a live one keeps its total.

The stream has no age limit, since a counter's total lies in its latest entry: a budget that is seldom written to, or that never
ends, would begin at 0 again. So counters are cleared one by one, when their window has ended for longer than any event lasts
that could still be settled.
"""

from __future__ import annotations

import heapq
from typing import Final

from actors.guardrail.ledger import Ledger
from bus.topology import DAY_SECONDS, EV
from messages import untoken

KEPT_SECONDS: Final = EV.max_age_seconds + DAY_SECONDS
"""Longer than the events that could add to a counter late: an attempt that is settled is an event."""
CLEAR_SECONDS: Final = 60.0
"""How often it is looked for what is over."""
MOST_READ: Final = 20_000
"""Entries of one look."""
MOST_LATER: Final = 50_000
"""Counters that are remembered until they may be cleared, the soonest; the others are found by reading again."""
AGAIN_SECONDS: Final = DAY_SECONDS
"""Then it reads from the beginning again after so long."""
LONGEST: Final[dict[str, float]] = {
    "minute": 60.0, "hour": 3600.0, "day": 25 * 3600.0, "week": 7 * DAY_SECONDS + 3600.0,
    "month": 31 * DAY_SECONDS + 3600.0,
}  # fmt: skip
"""The most seconds that a window of a kind lasts; an hour more where the clocks may change."""
FOR_EVER: Final = float("inf")


def over_at(counter: str, at: float) -> float:
    """When a counter may be cleared that was last written to because of something at time `at`; infinite: never.

    A window that contains the time has ended by its longest length later. A job's counter has no window, but ends with the
    job, which no event outlasts.
    """
    _, scope, _, _, window = counter.split(".")
    kind = untoken(window).partition("-")[0]
    if kind in LONGEST:
        return at + LONGEST[kind] + KEPT_SECONDS
    return at + KEPT_SECONDS if "job" in scope.split("+") else FOR_EVER


class Retention:
    """Clears the ledger from its beginning on. What it knows is found again by reading, so that nothing has to be kept."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._through = 0
        self._later: dict[str, float] = {}
        """Counters of which old entries were seen, and when they may be cleared."""
        self._look_at = 0.0
        self._begin_at = FOR_EVER
        """When it reads from the beginning again, because it could not remember all that it saw."""

    async def clear(self, now: float) -> None:
        """Look at the oldest entries: forget the counters that are over, and of the others all but the latest entry."""
        if now < self._look_at:
            return
        if now >= self._begin_at:
            self._through, self._begin_at = 0, FOR_EVER
        old: dict[str, tuple[int, float]] = {}
        count = 0
        async for line in self._ledger.lines(self._through):
            if line.stored_at > now - KEPT_SECONDS or count == MOST_READ:
                break
            count += 1
            self._through = line.seq
            _, before = old.get(line.counter, (0, 0.0))
            old[line.counter] = line.seq, max(before, line.at, line.stored_at)
        for counter, (seq, at) in old.items():
            over = self._later[counter] = max(over_at(counter, at), self._later.get(counter, 0.0))
            if over > now:
                await self._shorten(counter, seq)
        for counter, over in [found for found in self._later.items() if found[1] <= now]:
            await self._forget(counter, over, now)
        self._later = {counter: over for counter, over in self._later.items() if over < FOR_EVER}
        if len(self._later) > MOST_LATER:
            self._later = dict(heapq.nsmallest(MOST_LATER, self._later.items(), key=lambda found: found[1]))
            self._begin_at = min(self._begin_at, now + AGAIN_SECONDS)
        self._look_at = now if count == MOST_READ else now + CLEAR_SECONDS

    async def _shorten(self, counter: str, through: int) -> None:
        last = await self._ledger.last_seq(counter)
        await self._ledger.clear(counter, min(through + 1, last))

    async def _forget(self, counter: str, over: float, now: float) -> None:
        """Clear a counter, unless it was written to since it was seen."""
        del self._later[counter]
        last = await self._ledger.last_seq(counter)
        found = await self._ledger.line(last) if last else None
        if found is None:
            return
        line, _ = found
        over = max(over, over_at(counter, max(line.at, line.stored_at)))
        if over > now:
            self._later[counter] = over
        else:
            await self._ledger.clear(counter)
