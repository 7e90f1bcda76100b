"""The guardrail: may it run? Reserves, gives the verdict, queues the work; settles what was used."""

from __future__ import annotations

import logging

import msgspec

from actors import door
from actors.actor import Actor, Heard, Says, Steps, Stored, answers, every, hears
from actors.guardrail.budgets import Budgets
from actors.guardrail.gate import Gate
from actors.guardrail.held import Over, resumed, standing
from actors.guardrail.ledger import Ledger
from actors.guardrail.reserve import Reserver, Tried, entry_for
from actors.guardrail.settling import correct, settle
from actors.guardrail.state import TELL_EVERY_SECONDS, States, fold
from actors.guardrail.verdict import queued, refusal, rerouted, work_of
from actors.journal import Journal
from actors.problem import invalid
from actors.rounds import pace
from actors.settings import BreakerRules, Budget, BudgetRules
from messages import (
    Analyzed,
    Attempted,
    Awaited,
    Breaker,
    BudgetsAre,
    BudgetsOf,
    BudgetState,
    Candidate,
    Decided,
    Done,
    Granted,
    Held,
    JobResume,
    Limit,
    Message,
    Queued,
    Refused,
    Rerouted,
    Reservation,
    Retry,
    Skipped,
    Work,
)
from messages.fleet import scopes_of

log = logging.getLogger("turnout.guardrail")


class Guardrail(Actor):
    """Gives every decision exactly one verdict and writes the work from it. Any number of guardrails may run."""

    room = "guardrail"

    tell_every_seconds = TELL_EVERY_SECONDS
    drop_every_seconds = 5.0

    def __init__(
        self,
        *,
        journal: Journal,
        ledger: Ledger,
        budgets: tuple[Budget, ...],
        rules: BreakerRules,
        budgeting: BudgetRules | None = None,
    ) -> None:
        self.journal, self.ledger = journal, ledger
        self.budgets = Budgets(budgets, budgeting)
        self.states = States(self.budgets)
        self.reserver = Reserver(ledger, self.budgets, self.states)
        self.gate = Gate(rules, journal)

    @hears
    def limit(self, limit: Limit, heard: Heard) -> None:
        problem = self.budgets.learn(limit)
        if problem:
            log.warning("the budget %s is left as it was: %s", limit.name, problem)

    @hears
    def budget_state(self, state: BudgetState, heard: Heard) -> None:
        self.states.learn(state)

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        self.gate.learn(breaker)

    def forget(self, message: Message) -> None:
        """A fact is deleted: what is known of it goes too, unless that is newer."""
        if isinstance(message, BudgetState):
            self.states.drop(message)
        elif isinstance(message, Breaker):
            self.gate.forget(message)

    @hears
    async def decided(
        self, decided: Decided, heard: Heard
    ) -> Steps[Breaker | Granted | Rerouted | Work | Queued | Retry | Held | Done]:
        if decided.gave_up is not None:
            return  # The router ends it.
        held: list[tuple[Candidate, Reservation]] = []
        skipped: list[Skipped] = []
        overs: list[Over] = []
        chosen: Candidate | None = None
        kept: tuple[Reservation, ...] = ()
        probe = False
        void = await self.has_ended(decided)
        for candidate in () if void else decided.ranking:
            # A look at the breaker first: what is held is only returned after the verdict, and would stand in the way of
            # the next candidate until then.
            look = await self.gate.look(candidate, decided, heard.now)
            if look.why:
                skipped.append(_skipped(candidate, look.why, look.until, look.awaits))
                continue
            tried = await self.reserver.reserve(decided, candidate)
            mine = tried.held
            held.extend((candidate, reservation) for reservation in mine)
            if tried.why:
                skipped.append(_over(candidate, tried, decided, heard.now))
                overs.extend([tried.over] if tried.over else [])
                continue
            while True:  # Until no lease is left to take. A lost compare-and-set shows the fresh breaker.
                look = await self.gate.look(candidate, decided, heard.now)
                if look.lease is None:
                    break
                yield look.lease
            if look.why:
                skipped.append(_skipped(candidate, look.why, look.until, look.awaits))
                continue
            chosen, kept = candidate, mine
            probe = self.gate.probes(candidate, decided)
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
            **(standing(overs, alone=len(overs) == len(skipped)) if not chosen else {}),
        )
        granted: Granted = stored.message  # pyright: ignore[reportAssignmentType]
        for candidate, reservation in held:  # What the verdict does not name is returned.
            there = (candidate.backend, candidate.model) == (granted.backend, granted.model)
            if not there or reservation not in granted.reserved:
                await self.ledger.release(entry_for(reservation, decided, candidate))
        if granted.verdict == "candidate":
            if stored.ours:
                self.gate.granted(decided, granted)
            told = rerouted(decided, granted)
            if told is not None:
                yield told  # Before the work exists, so nobody can start it before the user knows.
            stored = yield work_of(decided, granted)
            yield queued(decided, granted.backend, stored.seq)
            return
        yield queued(decided)  # First, so that whoever decides what follows doesn't count this one.
        if granted.verdict == "refused":
            yield refusal(decided, granted)

    async def has_ended(self, decided: Decided) -> bool:
        """Whether the job has its `done` already (rule 6)."""
        return await self.journal.done(decided.tenant, decided.job) is not None

    @hears
    async def attempted(self, attempted: Attempted, heard: Heard) -> None:
        """Settle: every reservation becomes what was used, and those of earlier attempts what turned out to be right."""
        await settle(self.ledger, attempted)
        late = await correct(self.ledger, self.journal, attempted)
        for reservation in (*attempted.reserved, *late):
            self.states.touch(reservation.budget, reservation.subject, self.ledger.now())

    @hears
    async def job_resume(self, resume: JobResume, heard: Heard) -> Says[Retry | Refused]:
        """A person lets a held job try again: its next round. Twice is once, and what has ended or moved on stays.

        A word that comes again must not release a hold that came after it, nor be refused for what followed from it.
        """
        problem = door.fault(resume, heard)
        if problem is not None:
            return [door.refused(resume, problem, heard)]
        tenant, job = door.job_at(heard)
        held = await self.journal.held(tenant, job, heard.stored_at)
        done = await self.journal.done(tenant, job)
        if done is not None:
            late = held is None or done.at < heard.stored_at
            return [door.refused(resume, door.over(done, "nothing is left to resume."), heard)] if late else []
        decided = await self.journal.read(Decided, tenant=tenant, job=job, n=held.n) if held is not None else None
        if held is not None and decided is not None:
            return [resumed(decided, held, resume.by, heard.now)]
        if await self.journal.read(Analyzed, tenant=tenant, job=job) is None:
            return [door.refused(resume, door.unknown(heard), heard)]
        problem = invalid("job", job, "it is not held: only a job that waits for a person is resumed.")
        return [door.refused(resume, problem, heard)]

    @every("tell_every_seconds")
    async def tell(self, heard: Heard) -> Says[BudgetState]:
        """How far the budgets that were written to are used, each at most once a second."""
        said: list[BudgetState] = []
        for place in self.states.due(heard.now):
            before = self.states.known(place)
            seq = before.through_seq if before is not None and before.counter == place.counter else 0
            state = fold(before, place, await self.ledger.booked(place.counter, seq), heard.now)
            if before is not None and state.through_seq == seq and state.limit == before.limit and seq:
                self.states.told(place, heard.now)
                continue
            if state.soft and not (before is not None and before.soft and before.counter == state.counter):
                used, unit = state.spent + state.reserved, state.unit
                log.warning("budget %s of %s: %d of %d %s used", state.budget, state.holder, used, state.limit, unit)
            said.append(state)
        return said

    @every("drop_every_seconds")
    async def drop(self, heard: Heard) -> None:
        """What was told of windows that are over is dropped, here and on the server."""
        for state in self.states.over(heard.now):
            await self.ledger.drop(state)
            self.states.drop(state)

    @answers
    def budgets_of(self, question: BudgetsOf, heard: Heard) -> BudgetsAre:
        limits = tuple(limit for limit in self.budgets.limits() if question.name in ("", limit.name))
        return BudgetsAre(limits=limits, states=self.states.now(heard.now, question.name))


def _skipped(candidate: Candidate, why: str, until: float = 0.0, awaits: Awaited | None = None) -> Skipped:
    return Skipped(backend=candidate.backend, model=candidate.model, reason=why, until=until, awaits=awaits)


def _over(candidate: Candidate, tried: Tried, decided: Decided, now: float) -> Skipped:
    """Passed over because of a budget. How far a job's own budget is used is told to nobody, and its last hold is settled within
    a moment: time is waited for.
    """
    over, why = tried.over, tried.why
    if over is None:
        skipped = _skipped(candidate, why)
    elif over.settles and "job" in scopes_of(over.budget.scope):
        skipped = _skipped(candidate, why, now + pace(decided.n, decided.attempts))
    else:
        skipped = _skipped(candidate, why, awaits=over.awaits(decided.slip.deadline_at))
    return msgspec.structs.replace(skipped, rooms=tried.rooms, budget=tried.budget)
