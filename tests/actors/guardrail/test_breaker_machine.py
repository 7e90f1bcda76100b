"""Breakers as a whole, over 10,000 random steps: guardrails that know facts late, calls that end in any way at odd times and are
heard out of order and again, clocks that jump, guardrails that die between a lease and its verdict, hands, new executors.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar, get_args

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.guardrail import breaker as breakers
from actors.guardrail.breaker_hand import changed, closed_by_hand, opened_by_hand
from actors.guardrail.gate import FOLDED_SECONDS, Gate, Look
from actors.settings import BreakerRules
from messages import Attempted, Breaker, Candidate, Decided, Done, Granted, Problem
from messages.fleet import ALL_MODELS
from messages.values import Outcome
from tests.messages.samples import T0, attempted, candidate, decided, slip

RULES = BreakerRules()
MODELS = ("m", "n")
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
LIKELY: tuple[Outcome, ...] = ("ok", "timeout", "server_error", "rate_limited", "account")
LONGEST = max(
    RULES.longest_open_seconds * (1 + RULES.jitter / 2), RULES.longest_wait_seconds, RULES.account_seconds
)  # fmt: skip
MOST_LOOKS = 8
T = TypeVar("T")


def action(name: str, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Something that may happen, by the name of its method."""
    return st.tuples(st.just(name), st.fixed_dictionaries(given))


SELDOM = st.sampled_from([False, False, False, True])
MODEL, EITHER = st.sampled_from(MODELS), st.sampled_from([*MODELS, ALL_MODELS])
ASK = action(
    "jobs_ask", who=st.integers(0, 1), model=MODEL, panic=SELDOM, patient=st.booleans(), times=st.integers(1, 3), stale=SELDOM,
    fate=st.sampled_from(["granted", "granted", "granted", "elsewhere", "died"]),
)  # fmt: skip
END = action(
    "a_call_ends", which=st.integers(0, 9), outcome=st.sampled_from([*LIKELY, *OUTCOMES]),
    wait=st.none() | st.floats(0, 1e6), odd=st.sampled_from([0.0, 0.0, 0.0, -1e4, 1e4]), late=SELDOM,
)  # fmt: skip
DOWN = action("it_goes_down", model=MODEL, outcome=st.sampled_from(["timeout", "server_error", "account"]))
ACTIONS = st.one_of(
    ASK, ASK, ASK, ASK, END, END, END, DOWN,
    action("an_end_is_heard", back=st.integers(0, 3)),
    action("a_call_ends_that_began_long_ago", outcome=st.sampled_from(LIKELY), model=MODEL, began=st.floats(-600, 0)),
    action("time_passes", seconds=st.floats(0, 400)),
    action("time_passes", seconds=st.floats(-500, 4000)),
    action("all_calls_are_cancelled"),
    action("a_hand", model=EITHER, opens=SELDOM),
    action("an_executor_comes_or_goes", number=st.integers(0, 3)),
)  # fmt: skip
Key = tuple[str, str]
Round = tuple[str, str, int]


def ended(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something")


class Journal:
    """What is stored about rounds, in memory."""

    def __init__(self) -> None:
        self.verdicts: dict[Round, Granted] = {}
        self.ends: dict[Round, Attempted] = {}
        self.dones: set[tuple[str, str]] = set()

    async def granted(self, *whose: Any) -> Granted | None:
        return self.verdicts.get(whose)

    async def attempted(self, *whose: Any) -> Attempted | None:
        return self.ends.get(whose)

    async def done(self, tenant: str, job: str) -> Done | None:
        return Done(tenant=tenant, job=job, ending="failed", at=T0) if (tenant, job) in self.dones else None


class Later(Journal):
    """The same a long time after: whatever ran has ended, and is folded."""

    def __init__(self, before: Journal) -> None:
        super().__init__()
        self.verdicts, self.ends, self.dones = before.verdicts, before.ends, before.dones

    async def attempted(self, *whose: Any) -> Attempted | None:
        return attempted(at=T0 - 1e9)


class Breakers(RuleBasedStateMachine):
    """One backend with two models and an account; two guardrails; one fold."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.latest = T0
        self.facts: dict[Key, Breaker] = {}
        self.revisions: dict[Key, int] = {}
        self.journal = Journal()
        self.gates = [Gate(RULES, self.journal) for _ in range(2)]  # type: ignore[arg-type]
        self.seen: list[dict[Key, int]] = [{}, {}]
        self.stream: list[tuple[Attempted, float]] = []
        self.running: dict[str, tuple[Candidate, float]] = {}
        self.probes: dict[str, set[tuple[Key, int]]] = {}
        self.times_closed: dict[Key, int] = {}
        self.executors: tuple[str, ...] = ("exec-0",)
        self.jobs = 0

    @rule(happens=ACTIONS)
    def step(self, happens: tuple[str, dict[str, Any]]) -> None:
        """One rule for all that may happen: of several, hypothesis leaves some out in each run, and few probes would be seen."""
        name, given = happens
        getattr(self, name)(**given)

    # ------------------------------------------------------------------------------------------------ the bus

    def put(self, fact: Breaker) -> None:
        key = fact.backend, fact.model
        before = self.facts.get(key)
        if before is not None and (fact.times_opened == 0 or fact.cause != before.cause == "manual"):
            self.times_closed[key] = self.times_closed.get(key, 0) + 1
        if fact.cause == "manual":  # A hand takes the lease away as well.
            self.times_closed[key] = self.times_closed.get(key, 0) + 1
        self.facts[key] = fact
        self.revisions[key] = self.revisions.get(key, 0) + 1

    def refresh(self, who: int, key: Key) -> None:
        self.seen[who][key] = self.revisions[key]
        self.gates[who].learn(self.facts[key])

    def learns(self, who: int) -> None:
        for key in self.facts:
            self.refresh(who, key)

    # --------------------------------------------------------------------------------------------------- time

    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.latest = max(self.latest, self.now)

    def their_time_is_over(self, model: str) -> None:
        for fact in self.facts.values():
            if fact.cause != "manual" and fact.model in (ALL_MODELS, model):
                self.time_passes(max(0.0, fact.open_until - self.now))

    # ------------------------------------------------------------------------------------------------- asking

    def look(self, who: int, chosen: Candidate, asked: Decided) -> Look:
        """Look and take leases until there is none left to take, as the guardrail does."""
        gate = self.gates[who]
        for _ in range(MOST_LOOKS):
            look = ended(gate.look(chosen, asked, self.now))
            if look.lease is None:
                return look
            key = look.lease.backend, look.lease.model
            if self.seen[who].get(key, 0) == self.revisions.get(key, 0):
                self.put(look.lease)
            self.refresh(who, key)
        raise AssertionError("it looks at the breakers for ever")

    def jobs_ask(
        self, who: int, model: str, panic: bool, fate: str, patient: bool, times: int, stale: bool
    ) -> None:  # fmt: skip
        """Some at a time, at once or when nothing is open any more; the first by a guardrail that may not know it yet."""
        if patient:
            self.their_time_is_over(model)
        for number in range(times):
            self.jobs += 1
            one = who if number == 0 else 1 - who
            if number or not stale:
                self.learns(one)
            self.ask(one, f"j-{self.jobs}", candidate("a", model=model, panic=panic), fate)

    def ask(self, who: int, job: str, chosen: Candidate, fate: str) -> None:
        asked = decided(job=job, slip=slip(job=job), ranking=(chosen,))
        look = self.look(who, chosen, asked)
        if fate == "died":  # Between the lease and the verdict.
            return
        backend = "a" if fate == "granted" and not look.why else "b"
        verdict = Granted(
            tenant="acme", job=job, n=1, verdict="candidate", backend=backend, model=chosen.model, at=self.now
        )
        self.journal.verdicts["acme", job, 1] = verdict
        if backend == "b":
            return
        for fact in self.facts.values():
            key = fact.backend, fact.model
            if self.seen[who].get(key) == self.revisions[key] and fact.model in (ALL_MODELS, chosen.model):
                shut = breakers.is_open(fact, self.now)
                assert not shut or (chosen.panic and fact.cause not in breakers.ONLY_CHANGED), fact
        self.running[job] = (chosen, self.now)
        held = [key for key, fact in self.facts.items() if breakers.holds_lease(fact, "acme", job, 1)]
        self.probes[job] = {(key, self.times_closed.get(key, 0)) for key in held}

    # -------------------------------------------------------------------------------------------------- ending

    def a_call_ends(self, which: int, outcome: Outcome, wait: float | None, odd: float, late: bool) -> None:
        if not self.running:
            return
        job = sorted(self.running)[which % len(self.running)]
        chosen, began = self.running.pop(job)
        self.say(outcome, wait, job=job, model=chosen.model, started_at=began, at=self.now + odd)
        if not late:
            self.heard(len(self.stream) - 1)

    def a_call_ends_that_began_long_ago(self, outcome: Outcome, model: str, began: float) -> None:
        self.jobs += 1
        self.say(outcome, None, job=f"old-{self.jobs}", model=model, started_at=self.now + began, at=self.now)

    def it_goes_down(self, model: str, outcome: Outcome) -> None:
        for _ in range(RULES.failures_in_row):
            self.a_call_ends_that_began_long_ago(outcome, model, 0.0)
            self.heard(len(self.stream) - 1)

    def say(self, outcome: Outcome, wait: float | None, **fields: Any) -> None:
        problem = Problem(reason=outcome, message=outcome, retry_after_seconds=wait)
        event = attempted(outcome=outcome, problem=None if outcome == "ok" else problem, **fields)
        self.journal.ends["acme", event.job, 1] = attempted(job=event.job, at=self.now)
        self.stream.append((event, self.now))

    def an_end_is_heard(self, back: int) -> None:
        """Any event of the last ones: early, late, or again."""
        if self.stream:
            self.heard(max(0, len(self.stream) - 1 - back))

    def heard(self, place: int) -> None:
        event, stored_at = self.stream[place]
        event, seq = breakers.timed(event, stored_at), place + 1
        before, account = self.facts.get(("a", event.model)), self.facts.get(("a", ALL_MODELS))
        self.check(before, breakers.fold(before, event, seq, RULES), event, seq)
        self.check(account, breakers.fold_account(account, event, seq, RULES, self.executors), event, seq)

    def check(self, before: Breaker | None, after: Breaker | None, event: Attempted, seq: int) -> None:
        """What one event may and must do to a breaker."""
        news = before is None or seq > before.through_seq
        if not news:
            assert after is None, "it was heard before, or a later one was"
        began = event.started_at or event.at
        if before is not None and before.times_opened:
            closes = after is not None and after.times_opened == 0
            proof = event.outcome == "ok" and began >= before.opened_at and before.cause != "manual"
            assert closes == (proof and news), "a success since it opened closes it, and nothing else does"
            if after is not None and not closes:
                assert after.open_until >= before.open_until, "the longest deadline wins"
        if after is not None:
            assert after.through_seq == seq
            assert not breakers.holds_lease(after, event.tenant, event.job, event.n)
            self.put(after)

    def all_calls_are_cancelled(self) -> None:
        self.journal.dones.update(("acme", job) for job in self.running)
        for job in self.running:
            self.probes[job] = set()

    # ------------------------------------------------------------------------------------------- from outside

    def a_hand(self, model: str, opens: bool) -> None:
        fact = self.facts.get(("a", model)) or Breaker(backend="a", model=model)
        self.put((opened_by_hand if opens else closed_by_hand)(fact, "ada", self.now))

    def an_executor_comes_or_goes(self, number: int) -> None:
        name = f"exec-{number}"
        there = set(self.executors)
        self.executors = tuple(sorted(there - {name} if name in there else there | {name}))
        account = self.facts.get(("a", ALL_MODELS))
        after = changed(account, self.executors, self.now) if account is not None else None
        if after is not None:
            self.put(after)

    # ------------------------------------------------------------------------------------------------- always

    @invariant()
    def never_more_than_one_probe_at_once(self) -> None:
        at_work = [probed for job in self.running for probed in self.probes[job]]
        assert len(at_work) == len(set(at_work))

    @invariant()
    def it_never_blocks_for_ever(self) -> None:
        """When its time is over and what ran has ended, the next job gets through, as a trial call."""
        for fact in self.facts.values():
            if fact.cause != "manual":
                assert fact.open_until <= self.latest + LONGEST
        later = max(self.latest, *(0.0, *(fact.open_until for fact in self.facts.values())))
        later += RULES.lease_seconds + FOLDED_SECONDS + 1
        for model in MODELS:
            facts = [self.facts[key] for key in (("a", ALL_MODELS), ("a", model)) if key in self.facts]
            if any(fact.cause == "manual" for fact in facts):
                continue
            gate = Gate(RULES, Later(self.journal))  # type: ignore[arg-type]
            for fact in facts:
                gate.learn(fact)
            chosen, asked = candidate("a", model=model), decided(job="next", slip=slip(job="next"))
            look = ended(gate.look(chosen, asked, later))
            for _ in facts:
                if look.lease is not None:
                    gate.learn(look.lease)
                    look = ended(gate.look(chosen, asked, later))
            assert look == Look(), "after its leases were taken it may be called"
            assert gate.probes(chosen, asked) == any(fact.times_opened for fact in facts)

    @invariant()
    def it_stays_small(self) -> None:
        for fact in self.facts.values():
            assert len(fact.recent) <= RULES.window_seconds / 60
            assert fact.strikes >= 0


Breakers.TestCase.settings = hypothesis_settings(
    max_examples=250, stateful_step_count=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestBreakers = Breakers.TestCase
