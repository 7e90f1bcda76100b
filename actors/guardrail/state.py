"""How far each budget is used: a fold of the ledger's entries, per budget and holder. Pure, but for what it remembers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import msgspec

from actors.bounded import Bounded
from actors.guardrail.budgets import Budgets
from actors.settings import Budget
from actors.windows import UTC, Span, span
from messages import BudgetState, LedgerEntry, token, untoken
from messages.fleet import scope_key

TELL_EVERY_SECONDS = 1.0
"""One budget of one holder is told at most so often."""
FIRST_LOOK_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 60.0
"""What still holds something is looked at though nobody here wrote to it: a sweeper may have, or who died before it told. After
the first of these, then after as long again as it has stood unchanged, and at least as often as the second.
"""
MOST_AT_ONCE = 64
"""So many are told in one go; the others wait for the next second."""
DROP_AFTER_SECONDS = 600.0
"""What is known of a window is dropped so long after its end."""
MOST_TOUCHED = 10_000
"""So many wait to be told; beyond it those that were written to longest ago are told when they are written to again."""
MOST_STATES = 500
"""So many are given in an answer."""

Key = tuple[str, str]
"""Budget and holder."""


class Booked(NamedTuple):
    """One entry of a counter as it is stored."""

    seq: int
    entry: LedgerEntry
    total: int
    """What the counter stands at since."""


class Place(NamedTuple):
    """A counter that was written to."""

    budget: Budget
    holder: str
    counter: str
    window: Span


def holder_at(counter: str) -> str:
    """Whose counter it is, as its subject tells."""
    return untoken(counter.split(".")[2])


def place_of(budget: Budget, holder: str, at: float) -> Place:
    """The counter of a budget's present window."""
    window = span(budget.window, at, budget.time_zone or UTC)
    counter = f"ledger.{scope_key(budget.scope)}.{token(holder)}.{budget.unit}.{token(window.name)}"
    return Place(budget, holder, counter, window)


def fold(before: BudgetState | None, place: Place, entries: Iterable[Booked], now: float) -> BudgetState:
    """The state after more entries of the counter, in stream order; those that are folded in already change nothing.

    Every hold ends by exactly one release or settlement, so what is held is the sum of those that have not; the rest of the
    counter's total is spent. A fold from the beginning leaves out ends of holds that are not stored any more: the ledger of a
    long window is shortened.
    """
    begins = before is None or before.counter != place.counter or not before.through_seq
    seen: set[tuple[object, ...]] | None = set() if begins else None
    if before is None or before.counter != place.counter:
        before = BudgetState(
            budget=place.budget.name, holder=place.holder, counter=place.counter, unit=place.budget.unit,
            window=place.budget.window, spent=0, reserved=0, limit=0, at=now,
        )  # fmt: skip
    reserved, total, seq = before.reserved, before.spent + before.reserved, before.through_seq
    for booked in entries:
        if booked.seq <= seq:
            continue
        reserved += _change(booked.entry, seen)
        total, seq = booked.total, booked.seq
    budget = place.budget
    return msgspec.structs.replace(
        before, spent=total - reserved, reserved=reserved, limit=budget.limit,
        soft=total > 0 and total >= budget.soft_share * budget.limit, began_at=place.window.begins_at,
        ends_at=place.window.ends_at, through_seq=seq, at=now,
    )  # fmt: skip


def _change(entry: LedgerEntry, seen: set[tuple[object, ...]] | None) -> int:
    """What an entry adds to what is held; `seen` remembers the holds of a fold from the beginning."""
    hold = (entry.tenant, entry.job, entry.n, entry.backend, entry.model, entry.hold)
    if entry.step == "correct":
        return 0  # The hold has ended.
    if entry.step == "reserve":
        if seen is not None:
            seen.add(hold)
        return entry.amount
    return -entry.amount if seen is None or hold in seen else 0


class States:
    """What is known of all budgets' use, and which of it has changed since it was told."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._known: dict[Key, BudgetState] = {}
        """What is told and not deleted: as many as there are facts."""
        self._touched = Bounded[Key, float](MOST_TOUCHED)
        self._looked: dict[Key, float] = {}

    def touch(self, budget: str, counter: str, at: float) -> None:
        """A counter was written to. Jobs' own counters are as many as jobs: they are not told."""
        if not counter.startswith(("ledger.job.", "ledger.job+")):
            self._touched.in_place((budget, holder_at(counter)), at)

    def learn(self, state: BudgetState) -> None:
        """Somebody told it, with all that had been written by then."""
        key = (state.budget, state.holder)
        self._known[key] = state
        if self._touched.get(key, state.at) < state.at:
            del self._touched[key]

    def known(self, place: Place) -> BudgetState | None:
        """What was told last."""
        return self._known.get((place.budget.name, place.holder))

    def due(self, now: float) -> list[Place]:
        """What is to be told now: written to, and not told within the last second."""
        for key, state in self._known.items():
            if not state.reserved or 0 < state.ends_at <= now:
                continue  # Nothing is held, or in a window that nobody asks for any more.
            looked = max(state.at, self._looked.get(key, 0.0))
            if now - looked >= min(max(looked - state.at, FIRST_LOOK_SECONDS), LOOK_AGAIN_SECONDS):
                self._looked[key] = now
                self._touched.setdefault(key, now - TELL_EVERY_SECONDS)
        found: list[Place] = []
        for name, holder in list(self._touched):
            budget = self._budgets.named(name)
            if budget is None:  # It was removed meanwhile.
                del self._touched[name, holder]
                continue
            known = self._known.get((name, holder))
            if len(found) < MOST_AT_ONCE and (known is None or now - known.at >= TELL_EVERY_SECONDS):
                found.append(place_of(budget, holder, now))
        return found

    def told(self, place: Place, touched_before: float) -> None:
        """Nothing is new about it: not of interest until it is written to again."""
        key = (place.budget.name, place.holder)
        if self._touched.get(key, touched_before) < touched_before:
            del self._touched[key]

    def over(self, now: float) -> list[BudgetState]:
        """Some of those whose window ended a while ago."""
        ended = (s for s in self._known.values() if 0 < s.ends_at <= now - DROP_AFTER_SECONDS)
        return list(islice(ended, MOST_AT_ONCE))

    def drop(self, state: BudgetState) -> None:
        """Know it no more. Holders are named by clients, so what is over must not stay."""
        key = (state.budget, state.holder)
        if self._known.get(key) == state:
            self._known.pop(key)
            self._looked.pop(key, None)

    def now(self, at: float, name: str = "") -> tuple[BudgetState, ...]:
        """The states of windows that have not ended, of budgets in force, the fullest first."""
        there = [
            state
            for (budget, _), state in self._known.items()
            if name in ("", budget) and self._budgets.named(budget) and not 0 < state.ends_at <= at
        ]
        there.sort(
            key=lambda state: (-(state.spent + state.reserved) / max(state.limit, 1), state.budget, state.holder)
        )
        return tuple(there[:MOST_STATES])
