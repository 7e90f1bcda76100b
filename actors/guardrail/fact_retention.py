"""How long facts are kept that are named from outside: by tenants, users and workflows, by models and backends that come and go.

What nobody can need any more goes by time: what was said of a budget once its window has ended for as long as its counter in the
ledger is kept, a row of late calls once no event can reach it any more that it has counted, what was measured or told of a
backend's model once it was idle for long. What can be found again, or begin anew, is bounded by number as well: beyond it those
that were written longest ago go first. Every process keeps no more of the facts than there are, so this bounds them all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final

from actors.guardrail.ledger import Ledger
from actors.guardrail.retention import FOR_EVER, KEPT_SECONDS, LONGEST, over_at
from bus import codec
from bus.bus import Record
from bus.topology import DAY_SECONDS
from messages import (
    Backend,
    Breaker,
    BudgetState,
    Gpu,
    LatencyRow,
    Load,
    Message,
    ModelPrice,
    Preference,
    Spending,
    Stats,
)

LOOK_SECONDS: Final = 60.0
"""How often it is looked for what is over or too much."""
MARKER_SECONDS: Final = 3600.0
"""A fact without a value is about to be removed; after this time whoever did has died."""
MOST_REMOVED: Final = 1_000
"""So many facts go in one turn; the others in the next."""
AT_ONCE: Final = 32
"""Removals at the same time."""
MOST_FACTS: Final = 4_000
"""Facts of each of the kinds that may go by number."""
MOST_OF_ONE: Final = 500
"""Averages by name of one tenant's workflows: nobody may push out everybody else's."""
ROW_SECONDS: Final = KEPT_SECONDS + LONGEST["month"]
"""A row whose last call was late goes so long after it was written last: whoever called is not coming back."""
IDLE_SECONDS: Final = 90 * DAY_SECONDS
"""Averages of what nobody called for so long say nothing about today, and a backend that nobody ran is not coming back."""
NOTHING_SECONDS: Final = DAY_SECONDS
"""A fact that says the same as none, written to end an earlier one, goes so long after it."""

Group = tuple[type[Message], str]
"""A kind of fact, and whose: empty for the whole kind."""


def fact_over_at(fact: Message, stored_at: float) -> float:
    """When a fact may go that was stored at this time; infinite: never."""
    match fact:
        case Spending():
            return over_at(fact.counter, max(fact.at, stored_at))
        case LatencyRow():
            return max(fact.at, stored_at) + (ROW_SECONDS if fact.in_row else KEPT_SECONDS)
        case Stats() | Gpu():
            return stored_at + IDLE_SECONDS
        case Backend():
            return stored_at + IDLE_SECONDS if fact.slots <= 0 else FOR_EVER
        case Breaker():
            return stored_at + IDLE_SECONDS if _is_closed(fact) else FOR_EVER
        case Preference():
            return stored_at + NOTHING_SECONDS if _prefers_nothing(fact) else FOR_EVER
        case ModelPrice():
            return stored_at + NOTHING_SECONDS if fact.withdrawn else FOR_EVER
        case _:
            return FOR_EVER


def groups_of(fact: Message) -> Iterator[tuple[Group, int]]:
    """Where a fact is one of many, and how many may be there; none when it must stay.

    A budget's state is folded anew from its counter, rows and averages begin anew; an open breaker must stay open.
    """
    match fact:
        case BudgetState() | Spending() | LatencyRow():
            yield (type(fact), ""), MOST_FACTS
        case Breaker():
            if _is_closed(fact):
                yield (Breaker, ""), MOST_FACTS
        case Stats():
            yield (Stats, ""), MOST_FACTS
            tenant, slash, _ = fact.scope.partition("/")
            if slash:
                yield (Stats, tenant), MOST_OF_ONE
        case _:
            return


def _is_closed(breaker: Breaker) -> bool:
    return not (breaker.times_opened or breaker.open_until or breaker.probe_job)


def _prefers_nothing(preference: Preference) -> bool:
    named = ("tenant", "scope", "at")
    return all(getattr(preference, field) is None for field in Preference.__struct_fields__ if field not in named)


class FactRetention:
    """Removes the facts that are over, or too many. It keeps nothing but when it looks again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._look_at = 0.0

    async def clear(self, now: float) -> None:
        """Remove what is over or too much, some at a time; nothing between the looks. Raises the bus's errors."""
        if now < self._look_at:
            return
        going, excess = await self._over(now)
        if excess and len(going) < MOST_REMOVED:
            going += await self._oldest(excess, MOST_REMOVED - len(going))
        for first in range(0, len(going), AT_ONCE):
            await asyncio.gather(*(self._ledger.forget(record) for record in going[first : first + AT_ONCE]))
        self._look_at = now if len(going) == MOST_REMOVED else now + LOOK_SECONDS

    async def _over(self, now: float) -> tuple[list[Record], Counter[Group]]:
        """What is over, and of which groups there are too many, by how many."""
        found: list[Record] = []
        loads: list[Record] = []
        backends: set[str] = set()
        counts, most = Counter[Group](), dict[Group, int]()
        async for record in self._ledger.facts():
            fact = _decoded(record)
            if _goes_at(fact, record) <= now:
                found.append(record)
                if len(found) == MOST_REMOVED:
                    return found, Counter()
            elif isinstance(fact, Backend):
                backends.add(fact.backend)
            elif isinstance(fact, Load) and record.time <= now - IDLE_SECONDS:
                loads.append(record)
            elif fact is not None:
                for group, limit in groups_of(fact):
                    counts[group] += 1
                    most[group] = limit
        found += [record for record in loads if _backend_at(record) not in backends]  # They go with their backend.
        return found[:MOST_REMOVED], Counter({group: n - most[group] for group, n in counts.items() if n > most[group]})

    async def _oldest(self, excess: Counter[Group], most: int) -> list[Record]:
        """Those of the groups that were written longest ago."""
        found: list[Record] = []
        async for record in self._ledger.facts():
            fact = _decoded(record)
            groups = [group for group, _ in groups_of(fact)] if fact is not None else []
            if any(excess[group] > 0 for group in groups):
                excess.subtract(groups)
                found.append(record)
                if len(found) == most or not any(left > 0 for left in excess.values()):
                    break
        return found


def _goes_at(fact: Message | None, record: Record) -> float:
    if fact is None:
        return FOR_EVER if record.data else record.time + MARKER_SECONDS
    try:
        return fact_over_at(fact, record.time)
    except ValueError:  # Its counter is none: what that is, a person may see.
        return FOR_EVER


def _decoded(record: Record) -> Message | None:
    """The fact of a record; None when it has none, or is not understood: what that is, a person may see."""
    kind = codec.type_at(record.subject)
    if kind is None or not record.data:
        return None
    try:
        return codec.decode(kind, record.data, record.headers)
    except ValueError:
        return None


def _backend_at(record: Record) -> str:
    load = _decoded(record)
    return load.backend if isinstance(load, Load) else ""
