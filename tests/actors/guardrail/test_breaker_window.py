"""The minutes that a breaker remembers, compared with a plain list of calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.breaker_window import counted, kept, minute_of, too_many, totals, with_calls
from actors.settings import BreakerRules
from messages import Minute

RULES = BreakerRules()
CALLS = st.lists(st.tuples(st.floats(0, 4000), st.booleans()), max_size=60)


@given(CALLS)
def test_it_counts_what_a_list_of_the_calls_of_ten_minutes_counts(calls: list[tuple[float, bool]]) -> None:
    recent: tuple[Minute, ...] = ()
    listed: list[tuple[int, bool]] = []
    for at, failed in calls:
        recent = counted(recent, at, RULES, failures=int(failed))
        listed.append((minute_of(at), failed))
        newest = max(minute for minute, _ in listed)
        listed = [one for one in listed if one[0] > newest - 10]
        assert totals(recent) == (len(listed), sum(failed for _, failed in listed))
        assert [one.minute for one in recent] == sorted({minute for minute, _ in listed})


@given(CALLS)
def test_it_stays_small(calls: list[tuple[float, bool]]) -> None:
    recent: tuple[Minute, ...] = ()
    for at, failed in calls:
        recent = counted(recent, at, RULES, failures=int(failed))
        assert len(recent) <= RULES.window_seconds / 60


@given(st.dictionaries(st.integers(0, 20), st.integers(1, 9), max_size=9))
def test_many_calls_at_once_are_those_calls_one_after_the_other(calls: dict[int, int]) -> None:
    at_once = with_calls((), calls, RULES)
    one_by_one: tuple[Minute, ...] = ()
    for minute, number in sorted(calls.items()):
        for _ in range(number):
            one_by_one = counted(one_by_one, 60.0 * minute, RULES, failures=0)
    assert at_once == one_by_one


def test_a_clock_that_goes_back_forgets_nothing_and_one_that_goes_on_forgets() -> None:
    recent = counted((), 6_000.0, RULES, failures=1)
    assert kept(recent, 3, RULES) == recent
    assert counted(recent, 60.0, RULES, failures=1) == recent, "older than the window"
    assert kept(recent, 109, RULES) == recent
    assert kept(recent, 110, RULES) == ()


def test_the_share_counts_from_five_calls_on() -> None:
    assert not too_many((Minute(minute=1, calls=4, failures=4),), RULES)
    assert too_many((Minute(minute=1, calls=4, failures=2), Minute(minute=2, calls=1, failures=1)), RULES)
    assert not too_many((Minute(minute=1, calls=5, failures=2),), RULES)
    assert too_many((Minute(minute=1, calls=6, failures=3),), RULES)


def test_several_failures_may_be_told_at_once() -> None:
    assert counted((), 6_000.0, RULES, failures=2) == (Minute(minute=100, calls=2, failures=2),)
