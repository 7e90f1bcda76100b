from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.guardrail.verdict import LONGEST_PATIENCE_SECONDS, ROLLOVER_SECONDS, refusal, rerouted, work_of
from messages import (
    Attempt,
    Done,
    Exclusion,
    Granted,
    Held,
    Parameters,
    Plan,
    Price,
    Problem,
    Rerouted,
    Reservation,
    Retry,
    Skipped,
)
from tests.messages.samples import T0, candidate, decided, slip

PRICE = Price(input_per_mtok=1, output_per_mtok=2)
HELD = (Reservation(budget="b", subject="ledger.global.all.tokens.total", amount=5, unit="tokens"),)


def granted(**changes: Any) -> Granted:
    given: dict[str, Any] = {"tenant": "acme", "job": "j-1", "n": 1, "verdict": "candidate", "at": T0 + 1}
    return Granted(**{**given, **changes})


def test_the_work_is_what_was_decided_for_the_granted_candidate() -> None:
    past = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=5),)
    away = (Exclusion(backend="x", until=0.0, reason="timeout"),)
    adjusted = Parameters(model="n-turbo", degrade=("drop_images",))
    chosen = candidate(
        "b", model="n", known={"price": PRICE}, worst_case_microdollars=60, max_output_tokens=77, parameters=adjusted
    )
    ranking = (candidate("b"), chosen, candidate("a", model="n"))
    made = decided(n=2, ranking=ranking, attempts=past, excluded=away, plan=Plan(required_fields=("state_contract",)))
    item = work_of(made, granted(n=2, backend="b", model="n", reserved=HELD, probe=True))
    assert (item.backend, item.model, item.n) == ("b", "n", 2)
    assert (item.price, item.worst_case_microdollars, item.max_output_tokens) == (PRICE, 60, 77)
    assert (item.attempts, item.excluded, item.reserved, item.probe) == (past, away, HELD, True)
    assert (item.slip, item.failover) == (made.slip, made.failover)
    assert (item.parameters, item.required_fields) == (adjusted, ("state_contract",))


def skipped(*pairs: tuple[str, float]) -> tuple[Skipped, ...]:
    return tuple(Skipped(backend=f"b{n}", reason=reason, until=until) for n, (reason, until) in enumerate(pairs))


def again(*given: Any) -> Retry:
    follows = refusal(*given)
    assert isinstance(follows, Retry)
    return follows


def test_a_refusal_is_the_next_round_without_an_attempt() -> None:
    made = decided(n=1)
    follows = again(made, granted(verdict="refused", skipped=skipped(("its breaker is open: x", T0 + 30))))
    assert (follows.n, follows.attempts, follows.not_before) == (2, (), T0 + 2)
    assert follows.excluded == (Exclusion(backend="b0", until=T0 + 30, reason="its breaker is open: x"),)
    assert (follows.cause.reason, follows.cause.message) == ("refused", "b0: its breaker is open: x")


def test_a_model_that_was_refused_leaves_the_others_of_its_backend_in() -> None:
    skip = Skipped(backend="b0", model="m", reason="its breaker is open: x", until=T0 + 30)
    follows = again(decided(), granted(verdict="refused", skipped=(skip,)))
    assert follows.excluded == (Exclusion(backend="b0", model="m", until=T0 + 30, reason="its breaker is open: x"),)
    assert follows.cause.message == "b0/m: its breaker is open: x"


def test_who_was_refused_for_this_round_only_stays_in() -> None:
    follows = again(decided(), granted(verdict="refused", skipped=skipped(("over budget (x)", 0.0), ("y", T0 - 1))))
    assert follows.excluded == ()


@pytest.mark.parametrize(
    ("when_over", "reasons", "reason"),
    [
        ("fail", ("over budget (a)", "over budget (b)"), "over_budget"),
        (None, ("over budget (a)", "its breaker is open"), "refused"),
        (None, (), "no_backend"),
    ],
)
def test_the_cause_says_whether_money_alone_stood_in_the_way(
    when_over: Any, reasons: tuple[str, ...], reason: str
) -> None:
    verdict = granted(verdict="refused", skipped=skipped(*((text, 0.0) for text in reasons)), when_over=when_over)
    assert again(decided(), verdict).cause.reason == reason


# When everybody is over budget.

OVER = Problem(reason="over_budget", message="a: over budget (x)")


def over(when: str, **changes: Any) -> Granted:
    refused = skipped(("over budget (x)", 0.0))
    return granted(**{"verdict": "refused", "skipped": refused, "when_over": when, "over": ("x",), **changes})


@pytest.mark.parametrize("when", ["fail", "wait", "ask"])
def test_a_job_over_budget_gets_a_second_look_first(when: str) -> None:
    follows = again(decided(), over(when, room_at=T0 + 60))
    assert (follows.n, follows.not_before, follows.cause.reason) == (2, T0 + 2, "over_budget")


def test_then_it_fails_with_the_first_problem() -> None:
    follows = refusal(decided(n=2, cause=OVER), over("fail", n=2))
    assert isinstance(follows, Done)
    assert follows.problem == Problem(reason="over_budget", message="b0: over budget (x)")
    past = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=5, problem=FIRST),)
    follows = refusal(decided(n=3, cause=OVER, attempts=past), over("fail", n=3))
    assert isinstance(follows, Done)
    assert (follows.problem, follows.cost_microdollars) == (FIRST, 5)


def test_what_no_window_can_hold_fails_at_once() -> None:
    assert isinstance(refusal(decided(), over("fail", hopeless=True)), Done)


def test_it_waits_for_the_next_window() -> None:
    made = decided(n=2, cause=OVER)
    follows = again(made, over("wait", n=2, room_at=T0 + 60))
    assert (follows.n, follows.not_before) == (3, T0 + 60 + ROLLOVER_SECONDS)


def test_it_does_not_wait_for_a_window_behind_its_deadline() -> None:
    follows = refusal(decided(n=2, cause=OVER), over("wait", n=2, room_at=T0 + 600))
    assert isinstance(follows, Done)
    assert follows.problem is not None
    assert follows.problem.reason == "over_budget"


def test_it_is_held_for_a_person() -> None:
    first = candidate("dear", worst_case_microdollars=60, worst_case_tokens=110)
    made = decided(n=2, cause=OVER, ranking=(first, candidate()), slip=slip(needs={"user": "ada", "workflow": "w"}))
    for verdict, given in (
        (over("ask", n=2), made),
        (over("ask", hopeless=True), msgspec.structs.replace(made, cause=None)),
    ):
        follows = refusal(given, verdict)
        assert isinstance(follows, Held)
        assert (follows.user, follows.workflow, follows.budgets) == ("ada", "w", ("x",))
        assert (follows.cost_microdollars, follows.tokens, follows.until) == (60, 110, T0 + 600)
        assert follows.problem.reason == "over_budget"


def test_the_wait_is_the_decisions_or_doubles_with_each_refusal() -> None:
    verdict = granted(verdict="refused")
    assert again(decided(ranking=(), wait_seconds=0.5), verdict).not_before == T0 + 1.5
    waits = [again(decided(n=n), verdict).not_before - verdict.at for n in range(1, 9)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == LONGEST_PATIENCE_SECONDS


def test_a_wait_that_would_outlast_the_deadline_is_an_end() -> None:
    past = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=5, problem=FIRST),)
    made = decided(n=2, attempts=past, ranking=(), wait_seconds=10_000.0)
    follows = refusal(made, granted(n=2, verdict="refused"))
    assert isinstance(follows, Done)
    assert (follows.ending, follows.problem, follows.cost_microdollars) == ("failed", FIRST, 5)


FIRST = Problem(reason="timeout", message="x: silent for 20 s")


def test_the_user_is_told_where_a_failed_job_really_goes() -> None:
    past = (Attempt(n=1, backend="b", model="n", outcome="timeout", billed_microdollars=5, problem=FIRST),)
    passed_over = candidate("c")
    changes = ("output capped at 10 instead of 100 tokens", "the image is left out: m can't see")
    chosen = candidate("a", changes=changes)
    made = decided(n=2, attempts=past, ranking=(passed_over, chosen))
    verdict = granted(n=2, backend="a", model=chosen.model)
    assert rerouted(made, verdict) == Rerouted(
        tenant="acme", job="j-1", n=2, from_backend="b", to_backend="a", cause=FIRST, at=verdict.at,
        changes=("model n -> m", *changes),
    )  # fmt: skip


def test_a_failure_without_words_still_has_a_cause() -> None:
    past = (Attempt(n=1, backend="a", model="m", outcome="empty", billed_microdollars=5),)
    made = decided(n=2, attempts=past)
    said = rerouted(made, granted(n=2, backend=made.ranking[0].backend, model=made.ranking[0].model))
    assert said is not None
    assert said.cause == Problem(reason="empty", message="a: empty")


def test_the_first_attempt_is_no_reroute() -> None:
    made = decided(n=3)
    assert rerouted(made, granted(n=3, backend=made.ranking[0].backend, model=made.ranking[0].model)) is None
