from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.budgets import Budgets
from actors.guardrail.state import DROP_AFTER_SECONDS, MOST_AT_ONCE, Booked, States, fold, place_of
from actors.settings import Budget
from messages import BudgetState, LedgerEntry
from tests.messages.samples import T0

DAILY = Budget(name="daily", scope="tenant", limit=100)
PLACE = place_of(DAILY, "acme", T0)


def booked(seq: int, step: Any, amount: int, total: int) -> Booked:
    entry = LedgerEntry(
        step=step, budget="daily", counter=PLACE.counter, amount=amount, unit="microdollars", tenant="acme", job="j", n=1,
        backend="a", model="m", at=T0,
    )  # fmt: skip
    return Booked(seq, entry, total)


STORY = (
    booked(3, "reserve", 60, 60), booked(4, "reserve", 50, 110), booked(7, "release", 50, 60),
    booked(9, "settle", 60, 25), booked(12, "reserve", 70, 95),
)  # fmt: skip


def test_what_is_held_and_what_is_spent() -> None:
    state = fold(None, PLACE, STORY, T0 + 5)
    assert (state.spent, state.reserved, state.through_seq) == (25, 70, 12)
    assert (state.budget, state.holder, state.counter) == (
        "daily",
        "acme",
        "ledger.tenant.acme.microdollars.day-20260101",
    )
    assert (state.began_at, state.ends_at, state.at) == (T0, T0 + 86_400, T0 + 5)
    assert fold(state, place_of(DAILY, "acme", T0 + 86_400), (), T0 + 86_400).spent == 0


@pytest.mark.parametrize(("used", "soft"), [(79, False), (80, True), (100, True)])
def test_it_warns_from_the_soft_share_on(used: int, soft: bool) -> None:
    assert fold(None, PLACE, [booked(1, "reserve", used, used)], T0).soft is soft


def test_a_limit_of_nothing_is_not_reached_by_nothing() -> None:
    place = place_of(Budget(name="daily", scope="tenant", limit=0), "acme", T0)
    assert not fold(None, place, (), T0).soft


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(0, 5))
def test_however_the_reading_is_cut_it_is_folded_once(cuts: list[int], back: int) -> None:
    state: BudgetState | None = None
    start = 0
    for cut in (*cuts, len(STORY)):
        state = fold(state, PLACE, STORY[max(0, start - back) : max(start, cut)], T0 + 5)
        start = max(start, cut)
    assert state == fold(None, PLACE, STORY, T0 + 5)


def told(at: float, **changes: Any) -> BudgetState:
    given: dict[str, Any] = {
        "budget": "daily", "holder": "acme", "counter": PLACE.counter, "unit": "microdollars", "window": "day", "spent": 1,
        "reserved": 0, "limit": 100, "ends_at": T0 + 86_400, "at": at,
    }  # fmt: skip
    return BudgetState(**{**given, **changes})


def test_what_was_written_to_is_told_at_most_once_a_second() -> None:
    states = States(Budgets((DAILY,)))
    states.touch("daily", PLACE.counter, T0)
    assert [place.counter for place in states.due(T0)] == [PLACE.counter]
    states.learn(told(T0 + 0.1))
    assert states.due(T0 + 5) == [], "all of it is told"
    states.touch("daily", PLACE.counter, T0 + 0.5)
    assert states.due(T0 + 0.9) == []
    assert len(states.due(T0 + 1.1)) == 1
    states.learn(told(T0 + 0.4))
    assert len(states.due(T0 + 1.5)) == 1, "told before it was written to"


def test_nothing_new_is_not_looked_at_again() -> None:
    states = States(Budgets((DAILY,)))
    states.touch("daily", PLACE.counter, T0)
    (place,) = states.due(T0 + 1)
    states.told(place, T0 + 1)
    assert states.due(T0 + 2) == []


def test_what_holds_something_is_looked_at_now_and_then() -> None:
    """A sweeper elsewhere may have given it back."""
    states = States(Budgets((DAILY,)))
    states.learn(told(T0, reserved=5))
    looks: list[float] = []
    for second in range(1, 400):
        for place in states.due(T0 + second):
            states.told(place, T0 + second)
            looks.append(second)
    assert looks == [2, 4, 8, 16, 32, 64, 124, 184, 244, 304, 364]


def test_what_a_dead_one_had_not_told_is_looked_at_at_once_after_a_start() -> None:
    states = States(Budgets((DAILY,)))
    states.learn(told(T0, reserved=5))
    assert [place.counter for place in states.due(T0 + 30)] == [PLACE.counter]


def test_jobs_and_removed_budgets_are_not_told() -> None:
    states = States(Budgets((DAILY,)))
    states.touch("gone", PLACE.counter, T0)
    states.touch("daily", "ledger.job.acme%2Fj.tokens.total", T0)
    assert states.due(T0) == []


def test_so_many_at_once() -> None:
    states = States(Budgets((DAILY,)))
    for number in range(100):
        states.touch("daily", f"ledger.tenant.t{number}.microdollars.day-20260101", T0)
    assert len(states.due(T0)) == MOST_AT_ONCE


def test_who_is_written_to_all_the_time_waits_no_longer_than_others() -> None:
    states = States(Budgets((DAILY,)))
    for number in range(3 * MOST_AT_ONCE):
        states.touch("daily", f"ledger.tenant.t{number}.microdollars.day-20260101", T0)
        states.touch("daily", PLACE.counter, T0)
    assert "acme" in {place.holder for place in states.due(T0)}


def test_the_fullest_that_still_count_come_first() -> None:
    states = States(Budgets((DAILY,)))
    for holder, spent, ends_at in (("a", 5, T0 + 60), ("b", 9, T0 + 60), ("c", 99, T0), ("d", 7, 0.0)):
        states.learn(told(T0, holder=holder, spent=spent, ends_at=ends_at))
    states.learn(told(T0, budget="gone"))
    assert [state.holder for state in states.now(T0)] == ["b", "d", "a"]
    assert states.now(T0, "other") == ()


def test_what_is_known_of_a_window_is_dropped_after_its_end() -> None:
    states = States(Budgets((DAILY,)))
    for number in range(100):
        states.learn(told(T0, holder=f"user-{number}", ends_at=T0 + 60))
    states.learn(told(T0, holder="later", ends_at=T0 + 61 + DROP_AFTER_SECONDS))
    states.learn(told(T0, holder="never", ends_at=0.0))
    assert states.over(T0 + 59 + DROP_AFTER_SECONDS) == []
    at, dropped = T0 + 60 + DROP_AFTER_SECONDS, 0
    while over := states.over(at):
        assert len(over) <= MOST_AT_ONCE
        for state in over:
            states.drop(state)
        dropped += len(over)
    assert dropped == 100
    assert {state.holder for state in states.now(at)} == {"later", "never"}


def test_a_newer_window_is_not_dropped_with_the_old_one() -> None:
    states = States(Budgets((DAILY,)))
    states.learn(told(T0, ends_at=T0 + 60))
    (old,) = states.over(T0 + 60 + DROP_AFTER_SECONDS)
    newer = told(T0 + 70, ends_at=0.0)
    states.learn(newer)
    states.drop(old)
    assert states.now(T0 + 70) == (newer,)


def test_a_fold_of_a_shortened_ledger_counts_no_ends_whose_holds_are_gone() -> None:
    """What is held is what began and has not ended since; the total is right in any case."""
    cut = (
        booked(9, "settle", 60, 25),
        of_job(12, "reserve", 70, 95, "k"),
        of_job(13, "release", 70, 25, "k"),
        of_job(14, "reserve", 5, 30, "l"),
    )
    state = fold(None, PLACE, cut, T0)
    assert (state.spent, state.reserved) == (25, 5)
    ended = fold(state, PLACE, [of_job(15, "settle", 5, 29, "l")], T0)
    assert (ended.spent, ended.reserved) == (29, 0)
    assert fold(fold(None, PLACE, (), T0), PLACE, cut, T0) == state


def of_job(seq: int, step: Any, amount: int, total: int, job: str) -> Booked:
    one = booked(seq, step, amount, total)
    return one._replace(entry=msgspec.structs.replace(one.entry, job=job))
