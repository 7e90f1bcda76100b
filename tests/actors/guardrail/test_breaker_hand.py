"""Breakers that a person, or a new executor, changes."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from actors.guardrail.breaker import fold, fold_account, is_open, state, with_lease
from actors.guardrail.breaker_hand import changed, closed_by_hand, opened_by_hand, tried_early
from actors.settings import BreakerRules
from messages import Breaker
from messages.fleet import ALL_MODELS
from messages.values import Outcome
from tests.messages.samples import T0, attempted

RULES = BreakerRules(jitter=0.0)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
CLOSED = Breaker(backend="a", model="m", through_seq=5)
UNPAID = Breaker(
    backend="a",
    model=ALL_MODELS,
    cause="account",
    times_opened=1,
    opened_at=T0,
    open_until=T0 + 3600,
    executors=("x", "y"),
)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_was_opened_by_hand_stays_open_whatever_happens(outcome: Outcome) -> None:
    opened = opened_by_hand(CLOSED, "ada", T0)
    assert (opened.cause, opened.reason, opened.by) == ("manual", "opened by hand by ada", "ada")
    event = attempted(outcome=outcome, at=T0 + 9)
    folded = [fold(opened, event, 9, RULES) or opened]
    account = opened_by_hand(Breaker(backend="a", model=ALL_MODELS), "ada", T0)
    folded.append(fold_account(account, event, 9, RULES, ("x",)) or account)
    for one in folded:
        assert (one.cause, one.open_until, one.by) == ("manual", opened.open_until, "ada")
        assert is_open(one, T0 + 1e9)


def test_opening_by_hand_takes_the_lease_away() -> None:
    leased = with_lease(CLOSED, RULES, tenant="acme", job="j", n=1, now=T0)
    assert opened_by_hand(leased, "ada", T0).probe_job == ""


def test_what_was_closed_by_hand_has_nothing_held_against_it() -> None:
    struck = Breaker(
        backend="a",
        model="m",
        through_seq=5,
        failures_in_row=7,
        times_opened=2,
        strikes=4,
        open_until=T0 + 300,
        opened_at=T0,
    )
    closed = closed_by_hand(struck, "ada", T0 + 9)
    assert closed == Breaker(backend="a", model="m", through_seq=5, quiet_since=T0 + 9, by="ada")
    assert state(closed, T0 + 9) == "closed"


def test_an_executor_that_was_not_there_opens_the_account_again() -> None:
    closed = changed(UNPAID, ("x", "y", "new"), T0 + 9)
    assert closed is not None
    assert (state(closed, T0 + 9), closed.quiet_since) == ("closed", T0 + 9)


def test_an_executor_that_comes_back_under_its_name_is_a_new_one() -> None:
    left = changed(UNPAID, ("y",), T0 + 9)
    assert left is not None
    assert (left.executors, is_open(left, T0 + 9)) == (("y",), True)
    back = changed(left, ("x", "y"), T0 + 20)
    assert back is not None
    assert state(back, T0 + 20) == "closed"


@pytest.mark.parametrize("executors", [("x", "y"), ("y", "x")])
def test_the_same_executors_change_nothing(executors: tuple[str, ...]) -> None:
    assert changed(UNPAID, executors, T0) is None


@pytest.mark.parametrize("breaker", [CLOSED, opened_by_hand(CLOSED, "ada", T0)])
def test_executors_matter_for_accounts_that_errors_closed_off(breaker: Breaker) -> None:
    assert changed(breaker, ("new",), T0) is None


FAILED = Breaker(
    backend="a", model="m", cause="failures", times_opened=1, strikes=1, opened_at=T0, open_until=T0 + 30, suspects=("x",)
)  # fmt: skip


def test_a_good_health_check_makes_it_half_open_and_never_closes_it() -> None:
    early = tried_early(FAILED, T0 + 9)
    assert early is not None
    assert early == msgspec.structs.replace(FAILED, open_until=T0 + 9)
    assert state(early, T0 + 9) == "half-open"
    closes = fold(early, attempted(outcome="ok", at=T0 + 11, started_at=T0 + 10), 9, RULES)
    assert closes is not None
    assert state(closes, T0 + 11) == "closed"


@pytest.mark.parametrize(
    "changes",
    [
        {"strikes": 2},
        {"cause": "rate_limited"},
        {"cause": "account"},
        {"cause": "manual"},
        {"open_until": T0 + 9},
        {"opened_at": T0 + 10},
        {"times_opened": 0, "open_until": 0.0, "cause": ""},
    ],
)
def test_what_is_no_first_failure_keeps_its_time(changes: dict[str, Any]) -> None:
    assert tried_early(msgspec.structs.replace(FAILED, **changes), T0 + 9) is None
