"""Who waits for what: the oldest first, nobody twice, and never more than there are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.parking.index import (
    AGAIN_SECONDS,
    EVERYBODY,
    FORGET_SECONDS,
    LONGEST_AGAIN_SECONDS,
    Index,
    name_of,
    parked_of,
)
from messages import Attempt
from tests.actors.parking.parts import on_backend, on_breaker, on_budget, parked, retry
from tests.messages.samples import T0

A, B = name_of(on_backend("a")), name_of(on_breaker("b"))


def oldest(index: Index, *names: Any, now: float = T0) -> str:
    found = index.oldest(names or (A,), now)
    return found[0].job if found is not None else ""


def test_only_who_waits_for_something_is_parked() -> None:
    assert parked_of(retry(1)) is None
    assert parked_of(retry(1, on_backend(), not_before=0.0)) is None
    called = Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=0)
    entry = parked_of(retry(1, on_backend(), attempts=(called,)))
    assert entry is not None
    assert (entry.key, entry.n, entry.since, entry.until) == (("acme", "j-1"), 2, T0 + 1, T0 + 600)
    assert entry.called == {("a", "m")}


def test_the_oldest_goes_first_over_all_that_is_asked_for() -> None:
    index = Index()
    for number in (3, 1, 2):
        index.add(parked(number), T0)
    index.add(parked(0, on_breaker("b")), T0)
    assert (oldest(index), oldest(index, A, B), oldest(index, B)) == ("j-1", "j-0", "j-0")
    index.wake(("acme", "j-0"), 2, T0)
    assert (oldest(index, A, B), oldest(index, B)) == ("j-1", "")


def test_it_is_passed_over_where_it_does_not_fit() -> None:
    index = Index()
    for number, amount in enumerate((50, 5)):
        index.add(parked(number, on_budget(amount)), T0)
    name = name_of(on_budget())
    assert oldest(index, name) == "j-0"
    found = index.oldest((name,), T0, lambda one, named: one.needs(named) <= 10)
    assert found is not None
    assert found[0].job == "j-1"
    assert oldest(index, name) == "j-0", "who was passed over is still the first"


def test_a_wait_is_known_once_and_an_older_round_never_takes_the_place_of_a_later() -> None:
    index = Index()
    assert index.add(parked(1, n=3), T0)
    assert not index.add(parked(1, n=3), T0)
    assert not index.add(parked(1, n=2), T0)
    index.wake(("acme", "j-1"), 3, T0)
    assert not index.add(parked(1, n=3), T0), "heard late: it was woken from this very wait"
    assert index.add(parked(1, n=4), T0)
    index.drop(("acme", "j-1"), 3)
    assert ("acme", "j-1") in index
    index.drop(("acme", "j-1"), 4)
    assert len(index) == 0
    assert oldest(index) == ""


def test_who_is_woken_for_nothing_is_woken_ever_more_seldom_unless_something_gets_better() -> None:
    index, now, waits = Index(), T0, []
    for n in range(2, 14):
        assert index.add(parked(1, n=n, until=T0 + 9999), now)
        began = now
        while not oldest(index, now=now):
            now += AGAIN_SECONDS / 5
        waits.append(now - began)
        index.wake(("acme", "j-1"), n, now)
    assert waits[0] == 0.0
    assert waits[1:4] == sorted(waits[1:4])
    assert 0.9 * LONGEST_AGAIN_SECONDS < waits[-1] < 1.1 * LONGEST_AGAIN_SECONDS
    index.add(parked(1, n=14, until=T0 + 9999), now)
    assert oldest(index, now=now) == ""
    index.better(A)
    assert oldest(index, now=now) == "j-1"


def test_how_often_it_was_woken_is_forgotten() -> None:
    index = Index()
    for number in range(50):
        index.wake(("acme", f"j-{number}"), 2, T0 + number)
    index.wake(("acme", "last"), 2, T0 + 50 + FORGET_SECONDS)
    assert len(index._woken) == 1


def test_whose_time_has_come_is_no_longer_there() -> None:
    index = Index()
    index.add(parked(1, until=T0 + 5), T0)
    assert not index.add(parked(2, until=T0), T0)
    assert oldest(index, now=T0 + 5) == ""
    index.over(T0 + 5)
    assert (len(index), list(index.names)) == (0, [])


def test_everybody_who_waits_may_look_at_something_new_once() -> None:
    index = Index()
    for number in range(3):
        index.add(parked(number, on_breaker("b")), T0)
    assert oldest(index, EVERYBODY) == ""
    assert not index.something_new(T0), "they have seen what was there"
    assert index.something_new(T0 + 1)
    assert oldest(index, EVERYBODY) == "j-0"
    for number in range(3):
        index.wake(("acme", f"j-{number}"), 2, T0)
        index.add(parked(number, on_breaker("b"), n=3), T0)
    assert oldest(index, EVERYBODY, now=T0 + 99) == "", "who has looked is not asked again"


def test_there_is_a_most() -> None:
    index = Index(most=3)
    assert [index.add(parked(number), T0) for number in range(5)] == [True, True, True, False, False]
    index.wake(("acme", "j-0"), 2, T0)
    assert index.add(parked(4), T0)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(("park", "wake", "drop", "over"))), max_size=120))
def test_lines_hold_no_more_than_twice_those_who_are_there(steps: list[tuple[int, str]]) -> None:
    index, rounds, now = Index(), [2] * 6, T0
    for number, what in steps:
        now += 1.0
        if what == "park":
            rounds[number] += 1
            index.add(parked(number, on_backend(), on_breaker("b"), n=rounds[number], until=now + 40), now)
        elif what == "wake":
            index.wake(("acme", f"j-{number}"), rounds[number], now)
        elif what == "drop":
            index.drop(("acme", f"j-{number}"), rounds[number])
        else:
            index.over(now)
        for line in index._lines.values():
            assert len(line) <= 2 * len(index) + 65


def test_a_million_names_leave_nothing_behind() -> None:
    index = Index()
    for number in range(20_000):
        index.add(parked(number, on_budget(counter=f"c-{number}"), until=T0 + number + 10), T0 + number)
        if number % 500 == 0:
            index.over(T0 + number)
            assert len(index._lines) <= 600
            assert len(index) <= 600
