from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.guardrail.breaker import (
    COUNTED,
    fold,
    holds_lease,
    is_half_open,
    is_open,
    lease_is_taken,
    with_lease,
)
from actors.settings import BreakerRules
from messages import Attempted, Breaker, Problem
from messages.values import Outcome
from tests.messages.samples import T0, attempted

RULES = BreakerRules()
PLAIN = BreakerRules(jitter=0.0)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def after(*events: Attempted, rules: BreakerRules = PLAIN, breaker: Breaker | None = None, seq: int = 0) -> Breaker:
    """Fold events into a breaker, as the room does."""
    for number, event in enumerate(events, seq + 1):
        breaker = fold(breaker, event, number, rules) or breaker
    return breaker or Breaker(backend="a", model="m")


def failures(number: int, **changes: Any) -> list[Attempted]:
    return [attempted(job=f"j-{n}", outcome="timeout", **changes) for n in range(number)]


def limited(seconds: float | None, **changes: Any) -> Attempted:
    problem = Problem(reason="rate_limited", message="slow down", retry_after_seconds=seconds)
    return attempted(outcome="rate_limited", problem=problem, **changes)


def test_it_opens_after_three_failures_in_a_row() -> None:
    assert not is_open(after(*failures(2)), T0 + 2)
    breaker = after(*failures(3))
    assert (breaker.failures_in_row, breaker.times_opened) == (3, 1)
    assert breaker.open_until == T0 + 2 + PLAIN.open_seconds
    assert "3 failures in a row, last: timeout" in breaker.reason
    assert is_open(breaker, T0 + 31.9)
    assert not is_open(breaker, T0 + 32)
    assert is_half_open(breaker, T0 + 32)


def test_a_success_between_begins_the_count_anew() -> None:
    breaker = after(*failures(2), attempted(), *failures(2))
    assert breaker.failures_in_row == 2
    assert not is_open(breaker, T0 + 2)


def test_a_success_that_began_before_the_opening_does_not_close_it() -> None:
    limited = attempted(
        outcome="rate_limited", problem=Problem(reason="rate_limited", message="x", retry_after_seconds=60.0)
    )
    before = attempted(at=T0 + 1, started_at=T0 - 5)
    since = attempted(at=T0 + 9, started_at=T0 + 8)
    assert is_open(after(limited, before), T0 + 10)
    assert not is_open(after(limited, since), T0 + 10)


@pytest.mark.parametrize("outcome", [o for o in OUTCOMES if o not in {*COUNTED, "ok", "rate_limited", "account"}])
def test_what_is_not_the_backends_fault_changes_nothing(outcome: Outcome) -> None:
    before = after(*failures(2))
    assert fold(before, attempted(outcome=outcome), 9, PLAIN) is None
    assert fold(None, attempted(outcome=outcome), 9, PLAIN) is None


@pytest.mark.parametrize("outcome", COUNTED)
def test_what_is_the_backends_fault_counts(outcome: Outcome) -> None:
    assert after(attempted(outcome=outcome)).failures_in_row == 1


def test_a_rate_limit_opens_it_at_once_for_as_long_as_asked() -> None:
    breaker = after(limited(12.5))
    assert breaker.open_until == T0 + 2 + 12.5
    assert breaker.reason == "rate limited"


def test_a_rate_limit_without_a_time_takes_the_usual_one_and_a_long_one_is_cut() -> None:
    assert after(limited(None)).open_until == T0 + 2 + PLAIN.open_seconds
    assert after(limited(1e9)).open_until == T0 + 2 + PLAIN.account_seconds


def test_an_account_error_opens_it_for_long() -> None:
    event = attempted(outcome="account", problem=Problem(reason="account", message="pay first"))
    breaker = after(event)
    assert (breaker.open_until, breaker.reason) == (T0 + 2 + PLAIN.account_seconds, "pay first")


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 100)), min_size=1, max_size=6))
def test_of_overlapping_reasons_the_longest_deadline_wins(waits: list[tuple[float, float]]) -> None:
    breaker = after(*(limited(wait, at=T0 + at) for wait, at in waits))
    assert breaker.open_until == max(T0 + at + min(wait, PLAIN.account_seconds) for wait, at in waits)


def test_the_time_doubles_and_has_an_end() -> None:
    breaker, at, times = after(*failures(3)), T0, []
    for seq in range(4, 12):
        at = breaker.open_until
        breaker = fold(breaker, attempted(outcome="timeout", at=at), seq, PLAIN) or breaker
        times.append(breaker.open_until - at)
    assert times[:3] == [60.0, 120.0, 240.0]
    assert set(times[3:]) == {PLAIN.longest_open_seconds}


@given(st.text(min_size=1, max_size=8))
def test_the_jitter_is_within_its_share_and_always_the_same(job: str) -> None:
    events = [attempted(job=job, n=n, outcome="timeout") for n in range(3)]
    breaker = after(*events, rules=RULES)
    seconds = breaker.open_until - (T0 + 2)
    assert abs(seconds - RULES.open_seconds) <= RULES.open_seconds * RULES.jitter / 2 + 1e-3
    assert after(*events, rules=RULES) == breaker


def test_a_probe_closes_it_or_opens_it_again() -> None:
    opened = after(*failures(3))
    leased = with_lease(opened, PLAIN, tenant="acme", job="probe", n=1, now=opened.open_until)
    assert lease_is_taken(leased, opened.open_until)
    assert not lease_is_taken(leased, opened.open_until + PLAIN.lease_seconds)
    closed = fold(leased, attempted(job="probe", at=opened.open_until + 1), 9, PLAIN)
    assert closed == Breaker(backend="a", model="m", through_seq=9)
    again = fold(leased, attempted(job="probe", outcome="empty", at=opened.open_until + 1), 9, PLAIN)
    assert again is not None
    assert (again.times_opened, again.probe_job) == (2, "")
    assert again.open_until == opened.open_until + 1 + 2 * PLAIN.open_seconds


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_end_of_a_probe_ends_its_lease_however_it_ended(outcome: Outcome) -> None:
    opened = after(*failures(3))
    leased = with_lease(opened, PLAIN, tenant="acme", job="probe", n=1, now=opened.open_until)
    freed = fold(leased, attempted(job="probe", outcome=outcome, at=opened.open_until + 1), 9, PLAIN)
    assert freed is not None
    assert not lease_is_taken(freed, opened.open_until + 1)


@pytest.mark.parametrize("other", [{"job": "x"}, {"tenant": "x"}, {"n": 2}])
def test_another_attempt_leaves_the_lease_alone(other: dict[str, Any]) -> None:
    opened = after(*failures(3))
    leased = with_lease(opened, PLAIN, tenant="acme", job="probe", n=1, now=T0 + 40)
    kept = fold(leased, attempted(**{"job": "probe", "outcome": "timeout", **other}), 9, PLAIN)
    assert kept is not None
    assert holds_lease(kept, tenant="acme", job="probe", n=1)


EVENTS = st.lists(
    st.builds(
        lambda outcome, at, job: attempted(outcome=outcome, at=T0 + at, job=job),
        st.sampled_from(OUTCOMES), st.floats(0, 1000), st.sampled_from(["j-1", "j-2"]),
    ),
    max_size=20,
)  # fmt: skip


@given(EVENTS, st.data())
def test_events_heard_again_change_nothing(events: list[Attempted], data: st.DataObject) -> None:
    """The stored breaker tells how far it has folded, so any replay from its past is without effect."""
    breaker = after(*events)
    for number, event in enumerate(events[: breaker.through_seq], 1):
        if data.draw(st.booleans()):
            assert fold(breaker, event, number, PLAIN) is None


@given(EVENTS)
def test_the_fold_of_a_stream_is_one_whatever_was_redelivered(events: list[Attempted]) -> None:
    once = after(*events)
    twice: Breaker | None = None
    for number, event in enumerate(events, 1):
        for _ in range(2):
            twice = fold(twice, event, number, PLAIN) or twice
    assert twice == once or (twice is None and once == Breaker(backend="a", model="m"))


class Leases(RuleBasedStateMachine):
    """Two guardrails ask for the probe of one breaker while attempts end, in compare-and-set steps as on the bus."""

    @initialize()
    def open_it(self) -> None:
        self.stored = after(*failures(3))
        self.revision, self.seq, self.now = 1, 3, T0 + 2
        self.seen = [(self.revision, self.stored)] * 2
        self.probing: dict[str, float] = {}
        self.jobs = 0

    @rule(who=st.sampled_from([0, 1]))
    def look(self, who: int) -> None:
        self.seen[who] = (self.revision, self.stored)

    @rule(seconds=st.floats(0, 90))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(who=st.sampled_from([0, 1]))
    def ask_for_the_probe(self, who: int) -> None:
        revision, seen = self.seen[who]
        if is_open(seen, self.now) or not is_half_open(seen, self.now) or lease_is_taken(seen, self.now):
            return
        if revision != self.revision:
            return  # The compare-and-set is refused.
        self.jobs += 1
        job = f"probe-{self.jobs}"
        self.stored = with_lease(seen, RULES, tenant="acme", job=job, n=1, now=self.now)
        self.revision += 1
        self.probing[job] = self.now + RULES.lease_seconds

    @rule(outcome=st.sampled_from(OUTCOMES), data=st.data())
    def an_attempt_ends(self, outcome: Outcome, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from([*sorted(self.probing), "other"]))
        self.seq += 1
        changed = fold(self.stored, attempted(job=job, outcome=outcome, at=self.now), self.seq, RULES)
        self.probing.pop(job, None)
        if changed:
            self.stored, self.revision = changed, self.revision + 1

    @rule(back=st.integers(0, 5), outcome=st.sampled_from(OUTCOMES))
    def an_old_event_comes_again(self, back: int, outcome: Outcome) -> None:
        seq = max(0, self.stored.through_seq - back)
        assert fold(self.stored, attempted(outcome=outcome, at=self.now), seq, RULES) is None

    @invariant()
    def at_most_one_lease_holds(self) -> None:
        live = [job for job, until in self.probing.items() if self.now < until]
        assert len(live) <= 1
        if live and lease_is_taken(self.stored, self.now):
            assert self.stored.probe_job == live[0]


Leases.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLeases = Leases.TestCase
