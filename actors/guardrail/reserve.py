"""Reserving: hold the worst case of a candidate on every counter, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from actors.guardrail.budgets import Budgets
from actors.guardrail.held import Over
from actors.guardrail.ledger import Ledger, entry_of
from actors.guardrail.limits import Hold, holds, name_of, softest, unbounded, unpriced
from actors.guardrail.state import Place, States, fold, holder_at
from actors.guardrail.words import over_in_words, unbounded_in_words
from messages import Candidate, Decided, LedgerEntry, Reservation, Room

TRIES = 3
"""So often one round tries a candidate, when there was room after all once its refused hold was given back."""


class Tried(NamedTuple):
    """What came of reserving for one candidate."""

    held: tuple[Reservation, ...] = ()
    """What is held now; empty when it was refused, or nothing limits it."""
    why: str = ""
    """Why it was refused; empty when it was not."""
    over: Over | None = None
    """The budget in the way."""
    budget: str = ""
    """The name of the budget in the way."""
    rooms: tuple[Room, ...] = ()
    """What budgets leave for it, so that the next round can fit it to them."""


class Reserver:
    """Takes counters in one fixed order and gives them back on a refusal. Raises the bus's errors.

    Every step is known by its cause, so that a repetition after a crash comes to the same end: the server answers it with
    the total of then.
    """

    def __init__(self, ledger: Ledger, budgets: Budgets, states: States) -> None:
        self._ledger, self._budgets, self._states = ledger, budgets, states

    async def reserve(self, decided: Decided, candidate: Candidate) -> Tried:
        """Hold the worst case of `decided.<n>` on every counter, or say which budget is in the way."""
        rules = self._budgets.rules
        blind = unpriced(self._budgets.in_force, decided.slip, candidate)
        if blind is not None:
            return Tried(why=f"its price is unknown, and a budget limits dollars ({blind.name})", budget=blind.name)
        endless = unbounded(self._budgets.in_force, decided.slip, candidate)
        if endless is not None:
            return Tried(why=unbounded_in_words(endless, candidate), budget=endless.name)
        wanted = holds(
            self._budgets.in_force, decided.slip, candidate, decided.at, longest_gpu_seconds=rules.longest_gpu_seconds
        )
        for hold in wanted:
            if hold.reservation.amount > hold.budget.limit:
                return self._refused(decided, candidate, hold, wanted, hold.budget.limit, settles=False)
        for again in range(TRIES):
            kept, refused, left = await self._take(decided, candidate, wanted, name_of(wanted, again))
            if refused is None:
                return Tried(held=kept)
            if left < refused.reservation.amount or again + 1 == TRIES:
                settles = await self._settles(refused)
                return self._refused(decided, candidate, refused, wanted, left, settles=settles)
        raise AssertionError(TRIES)

    async def _take(
        self, decided: Decided, candidate: Candidate, wanted: Sequence[Hold], name: str
    ) -> tuple[tuple[Reservation, ...], Hold | None, int]:
        """What is held; or what refused it, and how much of that limit was left when all was given back."""
        held: list[Reservation] = []
        for hold in wanted:
            reservation = msgspec.structs.replace(hold.reservation, hold=name)
            entry = entry_for(reservation, decided, candidate)
            left = await self._ledger.room(reservation, entry, hold.budget.limit)
            self._states.touch(hold.budget.name, reservation.subject, self._ledger.now())
            if left is None:
                held.append(reservation)
                continue
            for earlier in reversed(held):  # The widest first: most wait for it.
                await self._ledger.release(entry_for(earlier, decided, candidate))
            return (), hold, left
        return tuple(held), None, 0

    async def _settles(self, hold: Hold) -> bool:
        """Whether what is spent leaves room, so that only what others hold is in the way.

        What is spent never gets less, so what was told of it lately is enough to say no. Where nothing was told yet the
        counter is read.
        """
        budget, counter = hold.budget, hold.reservation.subject
        place = Place(budget, holder_at(counter), counter, hold.window)
        state = self._states.known(place)
        if state is None or state.counter != counter:
            state = fold(None, place, await self._ledger.booked(counter, 0), self._ledger.now())
        return state.spent + hold.reservation.amount <= budget.limit

    def _refused(
        self, decided: Decided, candidate: Candidate, hold: Hold, wanted: Sequence[Hold], left: int, *, settles: bool
    ) -> Tried:
        budget = hold.budget
        hopeless = hold.reservation.amount > budget.limit
        softens = _may_soften(decided, candidate, hold, min(left, budget.limit))
        amount, wish = hold.reservation.amount, self._budgets.wish_of(budget)
        over = Over(
            budget, hold.reservation.subject, amount, hold.window.ends_at, hopeless, wish, settles=settles, softens=softens
        )  # fmt: skip
        rooms = [_room(hold, candidate, max(0, left))]
        rooms += [
            _room(other, candidate, other.budget.limit)
            for other in wanted
            if other is not hold and other.reservation.amount > other.budget.limit
        ]
        told = tuple(room for room in rooms if room.unit in ("tokens", "microdollars"))
        return Tried(why=over_in_words(hold, decided.slip, candidate, left), over=over, budget=budget.name, rooms=told)


def _room(hold: Hold, candidate: Candidate, left: int) -> Room:
    return Room(
        backend=candidate.backend, model=candidate.model, budget=hold.budget.name, unit=hold.reservation.unit, left=left,
        limit=hold.budget.limit, ends_at=hold.window.ends_at,
    )  # fmt: skip


def _may_soften(decided: Decided, candidate: Candidate, hold: Hold, left: int) -> bool:
    """Whether so much less may be held for it in another round that there is room: not when that was tried."""
    least = softest(hold.reservation.unit, decided.slip, candidate, decided.at)
    if least is None or least > left:
        return False
    place = (candidate.backend, candidate.model, hold.budget.name)
    return not any(
        (room.backend, room.model, room.budget) == place and least <= room.at(decided.at) for room in decided.rooms
    )


def entry_for(reservation: Reservation, decided: Decided, candidate: Candidate) -> LedgerEntry:
    """The ledger entry of a reservation for one candidate of a decision."""
    return entry_of(
        reservation, tenant=decided.tenant, job=decided.job, n=decided.n, backend=candidate.backend,
        model=candidate.model, at=decided.at,
    )  # fmt: skip
