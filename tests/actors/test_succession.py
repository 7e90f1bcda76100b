from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from actors.succession import (
    LEAST_WAIT_SECONDS,
    LEFT_ALONE_SECONDS,
    MOST_ATTEMPTS,
    NEVER_SPENT,
    NOT_AGAIN,
    NOT_COUNTED,
    REFUSED,
    UNHEARD,
    WHOLE_BACKEND,
    cost_of,
    exclusion,
    first_problem,
    history,
    in_force,
    is_final,
    left_behind,
    needed,
    spent,
    successor,
    unheard,
)
from messages import Attempt, Attempted, Correction, Done, Exclusion, Failover, Problem, Result, Retry, Work
from messages.values import Outcome
from tests.messages.samples import T0, attempted, slip, work

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILURES: list[Outcome] = [outcome for outcome in OUTCOMES if outcome not in {"ok", "aborted"}]


@st.composite
def pasts(draw: st.DrawFn) -> tuple[Attempt, ...]:
    """Draw what a job may have behind it."""
    outcomes = draw(st.lists(st.sampled_from(FAILURES), max_size=6))
    return tuple(
        Attempt(
            n=n, backend=f"b{n}", model="m", outcome=outcome, billed_microdollars=draw(st.integers(0, 500)),
            problem=draw(st.none() | st.just(Problem(reason=outcome, message=f"attempt {n}"))),
        )
        for n, outcome in enumerate(outcomes, 1)
    )  # fmt: skip


@st.composite
def ends(draw: st.DrawFn) -> tuple[Work, Attempted]:
    """Draw a work item and how it ended."""
    past = draw(pasts())
    failover = Failover(
        max_attempts=draw(st.integers(1, 5)), waits_seconds=tuple(draw(st.lists(st.floats(0, 60), max_size=3)))
    )
    deadline = T0 + draw(st.floats(0.5, 300))
    item = work(n=len(past) + 1, slip=slip(deadline_at=deadline), failover=failover, attempts=past)
    outcome = draw(st.sampled_from(OUTCOMES))
    problem = None if outcome == "ok" else draw(st.none() | st.just(Problem(reason=outcome, message="the last")))
    end = attempted(
        n=item.n, outcome=outcome, problem=problem, at=T0 + draw(st.floats(0, 400)),
        billed_microdollars=draw(st.integers(0, 500)),
    )  # fmt: skip
    return item, end


def test_a_price_that_nobody_knows_makes_no_job_free() -> None:
    """What ran at an unknown price costs `?`, whatever else the job's attempts cost."""
    told = Attempt(n=1, backend="a", model="m", outcome="server_error", billed_microdollars=12)
    assert (cost_of(()), cost_of((told, told))) == (0, 24)
    assert cost_of((told, msgspec.structs.replace(told, billed_microdollars=0, unpriced=True))) is None
    ran = successor(work(), attempted(unpriced=True))
    assert isinstance(ran, Done)
    assert ran.cost_microdollars is None


@given(ends())
def test_exactly_one_thing_follows_and_it_carries_the_whole_history(end: tuple[Work, Attempted]) -> None:
    item, ended = end
    follows = successor(item, ended)
    if ended.outcome == "aborted":
        assert follows is None
        return
    assert isinstance(follows, Done | Retry)
    assert (follows.tenant, follows.job, follows.at) == (item.tenant, item.job, ended.at)
    assert follows.attempts == (*item.attempts, history(item, ended)[-1])  # So few are all kept.
    assert successor(item, ended) == follows


@given(ends())
def test_no_retry_once_the_attempts_are_spent(end: tuple[Work, Attempted]) -> None:
    item, ended = end
    follows = successor(item, ended)
    if spent(history(item, ended)) >= item.failover.max_attempts:
        assert not isinstance(follows, Retry)


@given(ends())
def test_a_retry_starts_before_the_deadline(end: tuple[Work, Attempted]) -> None:
    item, ended = end
    follows = successor(item, ended)
    if isinstance(follows, Retry):
        assert max(follows.not_before, ended.at) < item.slip.deadline_at
        assert follows.n == item.n + 1
    if isinstance(follows, Done) and follows.ending == "expired":
        assert ended.outcome == "expired" or ended.at >= item.slip.deadline_at


@given(ends())
def test_success_is_the_end_and_its_cost_is_that_of_all_attempts(end: tuple[Work, Attempted]) -> None:
    item, ended = end
    follows = successor(item, ended)
    assert (ended.outcome == "ok") == (isinstance(follows, Done) and follows.ending == "succeeded")
    if isinstance(follows, Done):
        billed = [attempt.billed_microdollars for attempt in item.attempts]
        assert follows.cost_microdollars == sum(billed) + ended.billed_microdollars


@given(ends())
def test_the_caller_sees_the_first_error_when_all_fail(end: tuple[Work, Attempted]) -> None:
    item, ended = end
    follows = successor(item, ended)
    assume(isinstance(follows, Done) and follows.ending != "succeeded")
    assert isinstance(follows, Done)
    first = next((a.problem for a in item.attempts if a.problem and a.outcome not in NEVER_SPENT), None)
    if first:
        assert follows.problem == first


@given(ends())
def test_what_never_started_is_not_spent_and_excludes_nobody(end: tuple[Work, Attempted]) -> None:
    item, ended = end
    follows = successor(item, ended)
    if ended.outcome == "not_started":
        assert spent(history(item, ended)) == spent(item.attempts)
        if isinstance(follows, Retry):
            again = bool(item.attempts) and item.attempts[-1].outcome == "not_started"
            assert (follows.not_before > ended.at) == again, "at once the first time; then there is a wait"
            assert follows.excluded == item.excluded
    elif isinstance(follows, Retry) and ended.outcome == "rate_limited":
        assert follows.excluded == item.excluded, "its breaker keeps it away"
    elif isinstance(follows, Retry):
        assert follows.excluded == (*item.excluded, exclusion(ended))


MODELS_FAULT: list[Outcome] = [
    "server_error", "timeout", "overloaded", "invalid_structure", "missing_field", "empty",
    "unknown_model", "validator_hard_fail", "over_gpu_time",
]  # fmt: skip


@pytest.mark.parametrize("outcome", MODELS_FAULT)
def test_what_a_model_did_is_held_against_the_model_alone(outcome: Outcome) -> None:
    follows = successor(work(), attempted(outcome=outcome))
    assert isinstance(follows, Retry)
    assert follows.excluded == (Exclusion(backend="a", model="m", until=0.0, reason=outcome),)


@pytest.mark.parametrize("outcome", WHOLE_BACKEND)
def test_what_a_backend_did_is_held_against_all_its_models(outcome: Outcome) -> None:
    follows = successor(work(), attempted(outcome=outcome))
    assert isinstance(follows, Retry)
    until = follows.at + LEFT_ALONE_SECONDS if outcome == "interrupted" else 0.0
    assert follows.excluded == (Exclusion(backend="a", model="", until=until, reason=outcome),)


def test_every_failure_that_is_tried_again_tells_against_somebody() -> None:
    assert {*MODELS_FAULT, *WHOLE_BACKEND} == set(FAILURES) - {*NOT_COUNTED, "expired"}


def test_what_we_found_wrong_ourselves_is_tried_nowhere_else() -> None:
    problem = Problem(reason=REFUSED, message="messages: the arguments of a tool call are no JSON")
    follows = successor(work(), attempted(outcome=REFUSED, problem=problem))
    assert isinstance(follows, Done)
    assert (follows.ending, follows.problem) == ("failed", problem)


def refused(n: int, backend: str) -> Attempt:
    problem = Problem(reason=REFUSED, message=f"{backend} says no", status=400, body="{}")
    return Attempt(n=n, backend=backend, model="m", outcome=REFUSED, billed_microdollars=0, problem=problem)


def test_a_refusal_gets_a_second_opinion_at_once_that_spends_no_attempt() -> None:
    first = refused(1, "a")
    item = work(failover=Failover(max_attempts=1))
    opinion = successor(item, attempted(outcome=REFUSED, problem=first.problem, at=T0))
    assert isinstance(opinion, Retry)
    assert (opinion.n, opinion.not_before, spent(opinion.attempts)) == (2, 0.0, 0)
    assert opinion.excluded == (Exclusion(backend="a", model="", until=0.0, reason=REFUSED),), (
        "another backend is wanted"
    )
    assert unheard(opinion.attempts) == opinion.attempts[0]

    again = work(n=2, backend="b", attempts=opinion.attempts, failover=Failover(max_attempts=1))
    theirs = refused(2, "b").problem
    end = successor(again, attempted(n=2, backend="b", outcome=REFUSED, problem=theirs, at=T0 + 1))
    assert isinstance(end, Done)
    assert (end.ending, end.problem, len(end.attempts)) == ("failed", first.problem, 2), "the first error is told"

    good = successor(again, attempted(n=2, backend="b", result=Result(text="hi"), at=T0 + 1))
    assert isinstance(good, Done)
    assert good.ending == "succeeded"


@given(pasts(), st.lists(st.sampled_from(["a", "b"]), max_size=4))
def test_at_most_two_refusals_are_ever_heard(past: tuple[Attempt, ...], backends: list[str]) -> None:
    others = tuple(attempt for attempt in past if attempt.outcome != REFUSED)
    refusals = tuple(refused(len(others) + n, backend) for n, backend in enumerate(backends, 1))
    assert is_final((*others, *refusals)) == (len(set(backends)) > 1)
    assert spent((*others, *refusals)) == spent(others), "who refuses has not tried"


def test_what_a_backend_counted_is_what_the_job_needs() -> None:
    needs = slip().needs
    told = Problem(reason="too_large", message="x", status=400, input_tokens=needs.input_tokens + 7, limit_tokens=4)
    longer = Attempt(n=1, backend="a", model="m", outcome="unknown_model", billed_microdollars=0, problem=told)
    assert needed(needs, ()) is needs
    assert needed(needs, (longer,)).input_tokens == needs.input_tokens + 7
    shorter = msgspec.structs.replace(longer, problem=msgspec.structs.replace(told, input_tokens=1))
    assert needed(needs, (shorter,)) is needs, "nobody needs less than was estimated"


NOT_TRIED_AGAIN: list[Outcome] = ["account", "unknown_model"]


def test_who_can_not_serve_it_is_not_asked_again() -> None:
    assert {*NOT_AGAIN} == {*NOT_TRIED_AGAIN, REFUSED}


@pytest.mark.parametrize("outcome", [*NOT_TRIED_AGAIN, "timeout", "empty"])
def test_waits_are_one_and_three_seconds(outcome: Outcome) -> None:
    first = attempted(outcome=outcome, at=T0 + 2)
    second = successor(work(), first)
    assert isinstance(second, Retry)
    assert (second.n, second.not_before) == (2, T0 + 3)
    assert second.cause.reason == outcome
    third = successor(work(n=2, attempts=second.attempts), attempted(n=2, outcome=outcome, at=T0 + 10))
    assert isinstance(third, Retry)
    assert (third.n, third.not_before) == (3, T0 + 13)
    last = successor(work(n=3, attempts=third.attempts), attempted(n=3, outcome=outcome, at=T0 + 20))
    assert isinstance(last, Done)
    assert len(last.attempts) == 3


def test_the_death_of_an_executor_is_not_waited_for() -> None:
    follows = successor(work(), attempted(outcome="executor_lost", at=T0 + 2))
    assert isinstance(follows, Retry)
    assert follows.not_before == 0.0


def test_a_wait_that_cannot_end_in_time_fails_at_once() -> None:
    follows = successor(work(slip=slip(deadline_at=T0 + 3)), attempted(outcome="timeout", at=T0 + 2.5))
    assert isinstance(follows, Done)
    assert follows.ending == "failed"
    expired = successor(work(slip=slip(deadline_at=T0 + 3)), attempted(outcome="not_started", at=T0 + 3))
    assert isinstance(expired, Done)
    assert expired.ending == "expired"
    assert expired.problem is not None
    assert expired.problem.reason == "expired"


def test_the_answer_travels_with_the_end() -> None:
    follows = successor(work(), attempted(result=Result(text="hi")))
    assert isinstance(follows, Done)
    assert follows.result == Result(text="hi")
    assert (follows.backend, follows.model, follows.submitted_at) == ("a", "m", T0)


@given(pasts())
def test_the_first_problem_is_of_an_attempt_that_was_made(past: tuple[Attempt, ...]) -> None:
    found = first_problem(past)
    made = [a.problem for a in past if a.outcome != "not_started" and a.problem]
    assert found == (made[0] if made else None)


# ------------------------------------------------------------------------------ what is bounded by the deadline alone

LIMITED = Problem(reason="rate_limited", message="cloud: too many requests", status=429, retry_after_seconds=0.0)


@pytest.mark.parametrize("outcome", NOT_COUNTED)
@pytest.mark.parametrize("waits", [(), (1.0, 3.0)])
def test_what_does_not_count_goes_on_until_the_deadline_with_a_wait_between_and_fits_an_event(
    outcome: Outcome, waits: tuple[float, ...]
) -> None:
    item = work(
        slip=slip(deadline_at=T0 + 86_400), failover=Failover(max_attempts=3, waits_seconds=waits),
        attempts=(Attempt(n=1, backend="b", model="m", outcome="timeout", billed_microdollars=7, problem=FIRST),), n=2,
    )  # fmt: skip
    at = T0
    for n in range(2, 200):
        follows = successor(item, attempted(n=n, outcome=outcome, problem=LIMITED, at=at))
        assert isinstance(follows, Retry)
        assert n == 2 or follows.not_before >= at + LEAST_WAIT_SECONDS
        assert len(follows.attempts) <= MOST_ATTEMPTS
        assert follows.attempts[0].problem == FIRST, "the first error and what was billed are never left out"
        assert len(follows.excluded) <= 1
        at = max(at, follows.not_before) + 0.1
        item = work(
            n=n + 1, slip=item.slip, failover=item.failover, attempts=follows.attempts, excluded=follows.excluded
        )
    assert spent(item.attempts) == 1
    late = successor(item, attempted(n=200, outcome=outcome, problem=LIMITED, at=T0 + 86_399.9))
    assert isinstance(late, Done)


FIRST = Problem(reason="timeout", message="b: silent for 20 s")


def test_exclusions_that_are_over_are_left_out_and_of_one_model_the_longest_holds() -> None:
    def away(model: str, until: float) -> Exclusion:
        return Exclusion(backend="a", model=model, until=until, reason=f"until {until}")

    given = [away("m", T0 - 1), away("n", T0 + 5), away("n", T0 + 9), away("o", 0.0), away("o", T0 + 99), away("p", T0)]
    assert in_force(tuple(given), T0) == (given[2], given[3])
    assert in_force(tuple(given * 50), T0) == in_force(tuple(given), T0)


# -------------------------------------------------------------------------------------------- what turned out to be right


def test_a_jobs_cost_is_what_its_attempts_used_after_all() -> None:
    past = tuple(
        Attempt(n=n, backend="a", model="m", outcome="executor_lost", billed_microdollars=60, unpriced=n == 2)
        for n in (1, 2)
    )
    right = (Correction(n=1, billed_microdollars=5), Correction(n=2))
    follows = successor(
        work(n=3, attempts=past), attempted(n=3, billed_microdollars=7, took_up=1, corrections=right)
    )  # fmt: skip
    assert isinstance(follows, Done)
    assert [one.billed_microdollars for one in follows.attempts] == [5, 0, 7]
    assert follows.cost_microdollars == 12


@given(pasts(), st.sampled_from("abc"))
def test_only_the_latest_calls_whose_end_nobody_told_may_still_be_there(
    past: tuple[Attempt, ...], backend: str
) -> None:
    left = left_behind(past, backend)
    there = [one for one in past if one.backend == backend and one.outcome not in NEVER_SPENT]
    assert list(left) == [one.n for one in there[len(there) - len(left) :]]
    assert all(one.outcome in UNHEARD for one in there if one.n in left)
    assert len(left) == len(there) or there[-len(left) - 1].outcome not in UNHEARD
