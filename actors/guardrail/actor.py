"""The guardrail: may it run? Reserves, gives the verdict, queues the work; settles what was used; returns what leaked."""

from __future__ import annotations

from collections.abc import Sequence

from actors.actor import Actor, Again, Heard, Says, Steps, Stored, hears
from actors.guardrail import breaker as breakers
from actors.guardrail.ledger import REMEMBERED_SECONDS, Ledger, entry_of
from actors.guardrail.limits import billed, reservations, unpriced
from actors.guardrail.verdict import refusal, rerouted, work_of
from actors.journal import Journal
from actors.settings import BreakerRules, Budget
from messages import (
    Attempted,
    Breaker,
    Candidate,
    Decided,
    Done,
    Granted,
    LedgerEntry,
    Rerouted,
    Reservation,
    Retry,
    Skipped,
    Work,
)

SWEEP_AFTER_SECONDS = 60.0
"""A reservation this old is compared with the verdicts; younger ones may still be on their way."""


class Guardrail(Actor):
    """Gives every decision exactly one verdict and writes the work from it. Any number of guardrails may run."""

    room = "guardrail"

    def __init__(self, *, journal: Journal, ledger: Ledger, budgets: tuple[Budget, ...], rules: BreakerRules) -> None:
        self.journal, self.ledger = journal, ledger
        self.budgets, self.rules = budgets, rules
        self._breakers: dict[tuple[str, str], Breaker] = {}

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        self._breakers[breaker.backend, breaker.model] = breaker

    @hears
    async def decided(
        self, decided: Decided, heard: Heard
    ) -> Steps[Breaker | Granted | Rerouted | Work | Retry | Done]:
        if decided.gave_up is not None:
            return  # The router ends it.
        held: list[tuple[Candidate, Reservation]] = []
        skipped: list[Skipped] = []
        chosen: Candidate | None = None
        kept: tuple[Reservation, ...] = ()
        probe = False
        void = await self.has_ended(decided)
        for candidate in () if void else decided.ranking:
            # A look at the breaker first: what is held is only returned after the verdict, and would stand in the way of
            # the next candidate until then.
            until, why, _ = self._may_call(candidate, decided, heard)
            if why:
                skipped.append(Skipped(backend=candidate.backend, reason=why, until=until))
                continue
            mine, why = await self._reserve(decided, candidate)
            held.extend((candidate, reservation) for reservation in mine)
            if why:
                skipped.append(Skipped(backend=candidate.backend, reason=why))
                continue
            while True:  # A lost compare-and-set shows the fresh breaker: look again.
                until, why, lease = self._may_call(candidate, decided, heard)
                if lease is None:
                    break
                reply: Stored = yield lease
                if reply.ours:
                    probe = True
                    break
            if why:
                skipped.append(Skipped(backend=candidate.backend, reason=why, until=until))
                continue
            chosen, kept = candidate, mine
            probe = probe or self._probes(candidate, decided)
            break
        stored: Stored = yield Granted(
            tenant=decided.tenant,
            job=decided.job,
            n=decided.n,
            verdict="void" if void else "candidate" if chosen else "refused",
            backend=chosen.backend if chosen else "",
            model=chosen.model if chosen else "",
            reserved=kept,
            skipped=tuple(skipped),
            probe=probe,
            at=heard.now,
        )
        granted: Granted = stored.message  # pyright: ignore[reportAssignmentType]
        for candidate, reservation in held:  # What the verdict does not name is returned.
            if (candidate.backend, candidate.model) != (granted.backend, granted.model):
                await self.ledger.release(self._entry(reservation, decided, candidate))
        if granted.verdict == "candidate":
            told = rerouted(decided, granted)
            if told is not None:
                yield told  # Before the work exists, so nobody can start it before the user knows.
            yield work_of(decided, granted)
        elif granted.verdict == "refused":
            yield refusal(decided, granted)

    async def has_ended(self, decided: Decided) -> bool:
        """Whether the job has its `done` already (rule 6)."""
        return await self.journal.done(decided.tenant, decided.job) is not None

    async def _reserve(self, decided: Decided, candidate: Candidate) -> tuple[tuple[Reservation, ...], str]:
        """Hold the worst case of `decided.<n>` on every counter; on a refusal give back what was held for this candidate."""
        blind = unpriced(self.budgets, decided.slip, candidate)
        if blind is not None:
            return (), f"its price is unknown, and a budget limits dollars ({blind.name})"
        held: list[Reservation] = []
        for budget, reservation in reservations(self.budgets, decided.slip, candidate, decided.at):
            entry = self._entry(reservation, decided, candidate)
            if await self.ledger.reserve(reservation, entry, budget.limit):
                held.append(reservation)
                continue
            for earlier in held:
                await self.ledger.release(self._entry(earlier, decided, candidate))
            return (), f"over budget ({budget.name})"
        return tuple(held), ""

    def _entry(self, reservation: Reservation, decided: Decided, candidate: Candidate) -> LedgerEntry:
        return entry_of(
            reservation, tenant=decided.tenant, job=decided.job, n=decided.n, backend=candidate.backend,
            model=candidate.model, at=decided.at,
        )  # fmt: skip

    def _may_call(self, candidate: Candidate, decided: Decided, heard: Heard) -> tuple[float, str, Breaker | None]:
        """(excluded until, why not, the lease to take first) as the breaker stands."""
        fact = self._breakers.get((candidate.backend, candidate.model))
        if fact is None or breakers.holds_lease(fact, decided.tenant, decided.job, decided.n):
            return 0.0, "", None
        if breakers.is_open(fact, heard.now):
            return fact.open_until, f"its breaker is open: {fact.reason}", None
        if not breakers.is_half_open(fact, heard.now):
            return 0.0, "", None
        if breakers.lease_is_taken(fact, heard.now):
            return heard.now + 1.0, "its breaker is half-open and another job probes it", None
        return 0.0, "", breakers.with_lease(fact, self.rules, decided.tenant, decided.job, decided.n, heard.now)

    def _probes(self, candidate: Candidate, decided: Decided) -> bool:
        fact = self._breakers.get((candidate.backend, candidate.model))
        return fact is not None and breakers.holds_lease(fact, decided.tenant, decided.job, decided.n)

    @hears
    async def attempted(self, attempted: Attempted, heard: Heard) -> None:
        """Settle: every reservation becomes what was used."""
        await settle(self.ledger, attempted)


class Fold(Actor):
    """The breakers: one durable consumer folds `attempted` in stream order; late events are ignored by `through_seq`."""

    room = "breaker"

    def __init__(self, *, rules: BreakerRules) -> None:
        self.rules = rules
        self._breakers: dict[tuple[str, str], Breaker] = {}

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        self._breakers[breaker.backend, breaker.model] = breaker

    @hears
    def attempted(self, attempted: Attempted, heard: Heard) -> Says[Breaker]:
        before = self._breakers.get((attempted.backend, attempted.model))
        after = breakers.fold(before, attempted, heard.seq, self.rules)
        return [after] if after else []


class Sweeper(Actor):
    """Returns what leaked: compares the ledger with the verdicts and with what was attempted."""

    room = "sweeper"

    def __init__(self, *, journal: Journal, ledger: Ledger) -> None:
        self.journal, self.ledger = journal, ledger

    @hears
    async def ledger_entry(self, entry: LedgerEntry, heard: Heard) -> Sequence[Again]:
        """The sweeper: a reservation no verdict names is returned; one whose attempt has ended is settled."""
        if entry.step != "reserve":
            return []
        age = heard.now - heard.stored_at
        if age < SWEEP_AFTER_SECONDS:
            return [Again(SWEEP_AFTER_SECONDS - age + 0.1)]
        if age > REMEMBERED_SECONDS and await self.ledger.has_ended(entry, heard.seq):
            return []
        granted = await self.journal.granted(entry.tenant, entry.job, entry.n)
        if granted is None:
            return [Again(SWEEP_AFTER_SECONDS)]
        there = (granted.backend, granted.model) == (entry.backend, entry.model)
        named = there and any(r.subject == entry.counter for r in granted.reserved)
        if not named:
            await self.ledger.release(entry)
            return []
        attempted = await self.journal.attempted(entry.tenant, entry.job, entry.n)
        if attempted is None:
            return [Again(SWEEP_AFTER_SECONDS)]
        await settle(self.ledger, attempted)
        return []


async def settle(ledger: Ledger, attempted: Attempted) -> None:
    """Replace every reservation of an attempt by what it used."""
    for reservation in attempted.reserved:
        await ledger.settle(_entry_of_attempt(reservation, attempted), billed(reservation, attempted))


def _entry_of_attempt(reservation: Reservation, attempted: Attempted) -> LedgerEntry:
    return entry_of(
        reservation,
        tenant=attempted.tenant,
        job=attempted.job,
        n=attempted.n,
        backend=attempted.backend,
        model=attempted.model,
        at=attempted.at,
    )
