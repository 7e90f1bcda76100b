"""How long the monitors' facts are kept: they are named by tenants, users and workflows, and would become more and more.

What was said of a budget goes once its window has ended for as long as its counter in the ledger is kept; a row of late calls
once no event can reach it any more that it has counted.
"""

from __future__ import annotations

from typing import Final

from actors.guardrail.ledger import Ledger
from actors.guardrail.retention import FOR_EVER, KEPT_SECONDS, LONGEST, over_at
from bus import codec
from bus.bus import Record
from messages import LatencyRow, Message, Spending

LOOK_SECONDS: Final = 3600.0
"""How often it is looked for what is over."""
MOST_REMOVED: Final = 200
"""So many facts go in one turn; the others in the next."""
ROW_SECONDS: Final = KEPT_SECONDS + LONGEST["month"]
"""A row whose last call was late goes so long after it was written last: whoever called is not coming back."""
KINDS: Final[tuple[type[Message], ...]] = (Spending, LatencyRow)


def fact_over_at(fact: Message, stored_at: float) -> float:
    """When a fact may go that was stored at this time; infinite: never."""
    if isinstance(fact, Spending):
        return over_at(fact.counter, max(fact.at, stored_at))
    if isinstance(fact, LatencyRow):
        return max(fact.at, stored_at) + (ROW_SECONDS if fact.in_row else KEPT_SECONDS)
    return FOR_EVER


class FactRetention:
    """Removes the facts that are over. It keeps nothing but when it looks again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._look_at = 0.0

    async def clear(self, now: float) -> None:
        """Remove what is over, some at a time; nothing between the looks. Raises the bus's errors."""
        if now < self._look_at:
            return
        over = await self._over(now)
        for record in over:
            await self._ledger.forget(record)
        self._look_at = now if len(over) == MOST_REMOVED else now + LOOK_SECONDS

    async def _over(self, now: float) -> list[Record]:
        found: list[Record] = []
        for kind in KINDS:
            async for record in self._ledger.facts(kind):
                if _is_over(kind, record, now):
                    found.append(record)
                    if len(found) == MOST_REMOVED:
                        return found
        return found


def _is_over(kind: type[Message], record: Record, now: float) -> bool:
    if not record.data:  # Whoever removed it died before it was gone.
        return record.time <= now - LOOK_SECONDS
    try:
        return fact_over_at(codec.decode(kind, record.data, record.headers), record.time) <= now
    except ValueError:  # It is not understood, or its counter is none: what that is, a person may see.
        return False
