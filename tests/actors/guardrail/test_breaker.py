from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.breaker import (
    COUNTED,
    MOST_SUSPECTS,
    closed,
    fold,
    fold_account,
    holds_lease,
    is_half_open,
    is_open,
    lease_is_taken,
    only_counted,
    remembered_strikes,
    state,
    timed,
    with_lease,
)
from actors.settings import BreakerRules
from messages import Attempted, Breaker, Minute, Problem
from messages.fleet import ALL_MODELS
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
    breaker = after(*failures(2), *[attempted()] * 5, *failures(2))
    assert breaker.failures_in_row == 2
    assert not is_open(breaker, T0 + 2)


def test_it_opens_when_half_of_the_calls_of_ten_minutes_failed() -> None:
    mixed = [
        attempted(outcome=outcome, at=T0 + 100 * n) for n, outcome in enumerate(("timeout", "ok", "timeout", "ok"))
    ]
    assert not is_open(after(*mixed), T0 + 300)
    breaker = after(*mixed, attempted(outcome="timeout", at=T0 + 400))
    assert (breaker.reason, breaker.cause) == ("3 failures in 5 calls, last: timeout", "failures")
    assert breaker.open_until == T0 + 400 + PLAIN.open_seconds


def test_fewer_calls_than_five_have_no_share_and_fewer_failures_than_half_are_no_reason() -> None:
    assert not is_open(after(attempted(), *failures(2)), T0 + 2)
    assert not is_open(after(*[attempted()] * 3, *failures(2)), T0 + 2)
    assert is_open(after(*[attempted()] * 2, *failures(1), attempted(), *failures(2)), T0 + 2)


@pytest.mark.parametrize(("apart", "opens"), [(540.0, True), (660.0, False)])
def test_failures_are_forgotten_with_the_window(apart: float, opens: bool) -> None:
    breaker = after(*failures(2), *failures(1, at=T0 + apart))
    assert is_open(breaker, T0 + apart) is opens
    assert breaker.failures_in_row == (3 if opens else 1)


def test_slow_calls_are_failures_where_that_is_wanted() -> None:
    slow = [attempted(job=f"j-{n}", latency_seconds=10.0) for n in range(3)]
    assert not is_open(after(*slow), T0 + 2)
    breaker = after(*slow, rules=BreakerRules(slow_seconds=10.0, jitter=0.0))
    assert breaker.reason == "3 failures in a row, last: slow"
    assert not is_open(after(*slow, rules=BreakerRules(slow_seconds=10.1)), T0 + 2)
    unknown = [attempted(job=f"j-{n}") for n in range(3)]
    assert not is_open(after(*unknown, rules=BreakerRules(slow_seconds=10.0)), T0 + 2)


@pytest.mark.parametrize("outcome", ["expired", "over_gpu_time", "aborted", "interrupted"])
def test_what_a_limit_of_ours_ended_is_no_failure(outcome: Outcome) -> None:
    assert fold(None, attempted(outcome=outcome), 1, PLAIN) is None


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
    assert after(attempted(outcome=outcome), attempted(job="j-2", outcome=outcome)).failures_in_row == 2


def answers(*jobs: str, outcome: Outcome = "server_error", request: str = "", **changes: Any) -> list[Attempted]:
    return [attempted(job=job, outcome=outcome, request=request, **changes) for job in jobs]


@pytest.mark.parametrize("outcome", ["server_error", "invalid_structure", "missing_field", "empty"])
def test_one_request_that_fails_is_its_own_fault_however_often_it_comes(outcome: Outcome) -> None:
    breaker = after(*answers(*(f"j-{n}" for n in range(50)), outcome=outcome, request="graph"))
    assert (breaker.failures_in_row, breaker.recent, is_open(breaker, T0 + 2)) == (0, (), False)
    assert breaker.suspects == ("graph",)


def test_with_a_second_request_both_count_and_a_third_opens() -> None:
    one, two, three = (answers("j", request=name)[0] for name in ("a", "b", "c"))
    breaker = after(one, one, two)
    assert (breaker.failures_in_row, breaker.recent[0].failures, breaker.recent[0].calls) == (2, 2, 2)
    assert after(one, two, one, two, one).failures_in_row == 2
    assert is_open(after(one, one, two, two, three), T0 + 2)


def test_a_request_without_a_fingerprint_is_known_by_its_job() -> None:
    assert after(*answers("j-1", "j-1", "j-1")).failures_in_row == 0
    assert is_open(after(*answers("j-1", "j-2", "j-3")), T0 + 2)


@pytest.mark.parametrize("outcome", ["timeout", "connection_error", "overloaded"])
def test_where_nobody_answered_every_failure_counts(outcome: Outcome) -> None:
    assert is_open(after(*answers("j-1", "j-1", "j-1", outcome=outcome)), T0 + 2)
    assert after(*answers("j-1"), attempted(job="j-2", outcome=outcome)).failures_in_row == 2


@pytest.mark.parametrize(("status", "counts"), [(500, False), (None, False), (502, True), (503, True), (504, True)])
def test_what_stands_before_a_backend_does_not_answer_for_it(status: int | None, counts: bool) -> None:
    problem = Problem(reason="server_error", message="x", status=status)
    assert is_open(after(*answers("j", "j", "j", problem=problem)), T0 + 2) is counts


def test_a_success_clears_what_is_suspected() -> None:
    one, two = (answers("j", request=name)[0] for name in ("a", "b"))
    assert after(one, attempted(), two).failures_in_row == 0
    assert after(one, answers("j", request="b", at=T0 + 601)[0]).failures_in_row == 2
    assert after(one, answers("j", request="b", at=T0 + 603)[0]).failures_in_row == 0, "forgotten with the window"


def test_a_trial_call_with_a_request_that_is_suspected_decides_nothing() -> None:
    opened = after(*answers("j-1", "j-2", "j-3"))
    at = opened.open_until + 1
    leased = with_lease(opened, PLAIN, tenant="acme", job="j-2", n=1, now=at - 1)
    stays = fold(leased, attempted(job="j-2", outcome="server_error", at=at), 9, PLAIN)
    assert stays is not None
    assert state(stays, at) == "half-open", "another one may try at once"
    again = fold(stays, attempted(job="j-9", outcome="server_error", at=at), 10, PLAIN)
    assert again is not None
    assert is_open(again, at)


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=60))
def test_no_more_counts_than_there_are_requests(requests: list[str]) -> None:
    breaker = after(
        *(answers("j", request=name)[0] for name in requests), rules=BreakerRules(failures_in_row=99, window_calls=99)
    )
    distinct = len(set(requests))
    assert breaker.failures_in_row <= len(requests)
    if distinct <= MOST_SUSPECTS:
        assert breaker.failures_in_row == (distinct if distinct > 1 else 0)
    assert len(breaker.suspects) <= MOST_SUSPECTS


def test_a_rate_limit_opens_it_at_once_for_as_long_as_asked() -> None:
    breaker = after(limited(12.5))
    assert breaker.open_until == T0 + 2 + 12.5
    assert breaker.reason == "rate limited"


def test_a_rate_limit_without_a_time_takes_the_usual_one_and_a_long_one_is_cut() -> None:
    assert after(limited(None)).open_until == T0 + 2 + PLAIN.open_seconds
    assert after(limited(1e9)).open_until == T0 + 2 + PLAIN.account_seconds


def test_a_rate_limit_with_a_time_is_no_strike_and_one_without_is() -> None:
    assert after(limited(10.0)).strikes == 0
    assert after(limited(None)).strikes == 1
    again = after(limited(None), limited(None, job="j-2", at=T0 + 3))
    assert (again.strikes, again.times_opened) == (1, 1)
    assert again.open_until == T0 + 3 + PLAIN.open_seconds


def test_a_rate_limit_of_no_time_holds_for_a_second() -> None:
    breaker = after(limited(0.0))
    assert state(breaker, T0 + 2.9) == "open"
    assert state(breaker, T0 + 3) == "half-open"


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 100)), min_size=1, max_size=6))
def test_of_overlapping_reasons_the_longest_deadline_wins(waits: list[tuple[float, float]]) -> None:
    breaker = after(*(limited(wait, at=T0 + at) for wait, at in waits))
    assert breaker.open_until == max(T0 + at + min(max(wait, 1.0), PLAIN.account_seconds) for wait, at in waits)


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
    done = fold(leased, attempted(job="probe", at=opened.open_until + 1), 9, PLAIN)
    at = opened.open_until + 1
    assert done == Breaker(
        backend="a", model="m", through_seq=9, strikes=1, quiet_since=at,
        recent=(Minute(minute=int(at // 60), calls=1),),
    )  # fmt: skip
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


def test_what_fails_while_it_is_open_was_on_its_way_and_doubles_nothing() -> None:
    opened = after(*failures(3))
    later = after(*failures(5, at=T0 + 10), breaker=opened, seq=3)
    assert (later.open_until, later.times_opened, later.strikes) == (opened.open_until, 1, 1)


def test_a_failure_that_began_before_the_opening_opens_nothing_again() -> None:
    opened = after(*failures(3))
    old = attempted(job="old", outcome="timeout", started_at=T0, at=opened.open_until + 1)
    kept = fold(opened, old, 9, PLAIN)
    assert kept is not None
    assert (kept.open_until, kept.failures_in_row) == (opened.open_until, 4)
    news = fold(opened, attempted(job="new", outcome="timeout", at=opened.open_until + 1), 9, PLAIN)
    assert news is not None
    assert is_open(news, opened.open_until + 2)


def test_a_backend_that_flaps_stays_away_longer_each_time_until_it_was_quiet() -> None:
    breaker = after(*failures(3))
    healed = fold(breaker, attempted(at=T0 + 40), 4, PLAIN)
    assert healed is not None
    assert state(healed, T0 + 40) == "closed"
    soon = after(*failures(3, at=T0 + 60), breaker=healed, seq=4)
    assert soon.open_until == T0 + 60 + 2 * PLAIN.open_seconds
    quiet = T0 + 40 + PLAIN.forget_seconds
    later = after(*failures(3, at=quiet), breaker=healed, seq=4)
    assert later.open_until == quiet + PLAIN.open_seconds


@given(st.integers(0, 40), st.floats(-1e6, 1e6))
def test_strikes_are_only_ever_forgotten(strikes: int, quiet: float) -> None:
    breaker = Breaker(backend="a", model="m", strikes=strikes, quiet_since=T0)
    kept = remembered_strikes(breaker, T0 + quiet, PLAIN)
    assert kept == max(0, strikes - max(0, int(quiet // PLAIN.forget_seconds)))


def test_its_state_in_a_word() -> None:
    opened = after(*failures(3))
    assert state(Breaker(backend="a", model="m"), T0) == "closed"
    assert state(opened, T0 + 3) == "open"
    assert state(opened, opened.open_until) == "half-open"
    leased = with_lease(opened, PLAIN, tenant="acme", job="probe", n=1, now=opened.open_until)
    assert state(leased, opened.open_until) == "probing"


def test_the_servers_time_counts() -> None:
    wrong = attempted(at=T0 + 1e6)
    assert timed(wrong, T0).at == T0
    assert timed(wrong, 0.0) is wrong


def test_calls_that_only_count_are_told_from_those_that_change_something() -> None:
    one = after(attempted())
    more = after(attempted(job="j-2"), breaker=one, seq=1)
    assert only_counted(one, more)
    assert not only_counted(one, after(*failures(1), breaker=one, seq=1))
    failed = after(*failures(1))
    assert not only_counted(failed, after(attempted(), breaker=failed, seq=1))


# The account.

UNPAID = attempted(outcome="account", problem=Problem(reason="account", message="pay first"))


def account(*events: Attempted, breaker: Breaker | None = None, seq: int = 0) -> Breaker | None:
    """Fold events into the breaker of an account, as the room does."""
    for number, event in enumerate(events, seq + 1):
        breaker = fold_account(breaker, event, number, PLAIN, ("exec-a",)) or breaker
    return breaker


def test_an_account_error_opens_the_whole_account_and_not_the_model() -> None:
    assert fold(None, UNPAID, 1, PLAIN) is None
    breaker = account(UNPAID)
    assert breaker is not None
    assert (breaker.model, breaker.cause, breaker.reason) == (ALL_MODELS, "account", "pay first")
    assert (breaker.open_until, breaker.executors) == (T0 + 2 + PLAIN.account_seconds, ("exec-a",))


def refused(job: str, status: int, at: float = T0) -> Attempted:
    problem = Problem(reason="account", message="unknown role: account suspended", status=status)
    return attempted(outcome="account", job=job, at=at, problem=problem, request=f"request of {job}")


@pytest.mark.parametrize("status", [401, 402])
def test_a_status_that_says_so_opens_an_account_at_once(status: int) -> None:
    assert is_open(account(refused("j1", status)), T0)


@pytest.mark.parametrize("status", [200, 400, 403, 422, 429, 500])
def test_words_that_one_request_may_have_held_open_an_account_only_when_another_is_refused_so(status: int) -> None:
    """Whatever a prompt, a tool or a picture makes a server say, one job takes no backend from the others."""
    again = account(*(refused("j1", status, T0 + n) for n in range(5)))
    assert again is not None
    assert not is_open(again, T0 + 5)
    assert is_open(account(refused("j2", status, T0 + 6), breaker=again, seq=9), T0 + 6)
    served = account(attempted(job="j3", at=T0 + 6, started_at=T0 + 5), breaker=again, seq=9)
    assert served is not None
    assert not is_open(account(refused("j2", status, T0 + 7), breaker=served, seq=10), T0 + 7)
    later = T0 + 6 + PLAIN.account_seconds
    assert not is_open(account(refused("j2", status, later), breaker=again, seq=9), later)


@pytest.mark.parametrize("outcome", [outcome for outcome in OUTCOMES if outcome != "account"])
def test_nothing_else_opens_an_account(outcome: Outcome) -> None:
    assert account(attempted(outcome=outcome)) is None


def test_a_success_that_began_since_closes_the_account_and_an_older_one_does_not() -> None:
    old = account(UNPAID, attempted(at=T0 + 9, started_at=T0))
    assert old is not None
    assert is_open(old, T0 + 10)
    new = account(UNPAID, attempted(at=T0 + 9, started_at=T0 + 8, model="other"))
    assert new is not None
    assert state(new, T0 + 10) == "closed"


def test_what_was_called_with_the_old_key_does_not_close_the_account_off_again() -> None:
    opened = account(UNPAID)
    assert opened is not None
    mended = closed(opened, T0 + 20)
    late = attempted(outcome="account", started_at=T0 + 10, at=T0 + 30)
    assert fold_account(mended, late, 9, PLAIN, ("exec-b",)) is None
    fresh = attempted(outcome="account", started_at=T0 + 21, at=T0 + 30)
    again = fold_account(mended, fresh, 9, PLAIN, ("exec-b",))
    assert again is not None
    assert (is_open(again, T0 + 30), again.executors) == (True, ("exec-b",))


def test_the_trial_call_of_an_account_frees_its_lease_and_no_time_doubles() -> None:
    opened = account(UNPAID)
    assert opened is not None
    at = opened.open_until
    leased = with_lease(opened, PLAIN, tenant="acme", job="probe", n=1, now=at)
    unsure = account(attempted(job="probe", outcome="timeout", at=at + 1), breaker=leased, seq=5)
    assert unsure is not None
    assert state(unsure, at + 1) == "half-open"
    still = account(attempted(job="probe", outcome="account", at=at + 1), breaker=leased, seq=5)
    assert still is not None
    assert (still.open_until, still.probe_job) == (at + 1 + PLAIN.account_seconds, "")


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
