"""Reserving: hold the worst case of a candidate on every counter, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from actors.guardrail.budgets import Budgets
from actors.guardrail.held import Over
from actors.guardrail.ledger import Ledger, entry_of
from actors.guardrail.limits import Hold, holds, name_of, unpriced
from actors.guardrail.state import States
from messages import Candidate, Decided, LedgerEntry, Reservation

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
            return Tried(why=f"its price is unknown, and a budget limits dollars ({blind.name})")
        wanted = holds(
            self._budgets.in_force, decided.slip, candidate, decided.at, longest_gpu_seconds=rules.longest_gpu_seconds
        )
        for hold in wanted:
            if hold.reservation.amount > hold.budget.limit:
                return self._refused(hold)
        for again in range(TRIES):
            kept, refused, left = await self._take(decided, candidate, wanted, name_of(wanted, again))
            if refused is None:
                return Tried(held=kept)
            if left < refused.reservation.amount or again + 1 == TRIES:
                return self._refused(refused)
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

    def _refused(self, hold: Hold) -> Tried:
        budget = hold.budget
        hopeless = hold.reservation.amount > budget.limit
        over = Over(budget, hold.window.ends_at, hopeless, self._budgets.wish_of(budget))
        return Tried(why=f"over budget ({budget.name})", over=over)


def entry_for(reservation: Reservation, decided: Decided, candidate: Candidate) -> LedgerEntry:
    """The ledger entry of a reservation for one candidate of a decision."""
    return entry_of(
        reservation, tenant=decided.tenant, job=decided.job, n=decided.n, backend=candidate.backend,
        model=candidate.model, at=decided.at,
    )  # fmt: skip
