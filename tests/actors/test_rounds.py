"""When a job looks again though nothing woke it: seldom, never together with all others, and never behind its deadline."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.rounds import LAST_LOOK_SECONDS, LATE_SECONDS, LONGEST_LOOK_SECONDS, look_again, pace, place
from messages import Attempt
from tests.messages.samples import T0

PLACES = st.floats(0, 1, exclude_max=True)


@given(st.floats(-5, 400_000), PLACES, st.floats(-100, 400_000))
def test_a_look_is_neither_at_once_nor_behind_the_deadline(left: float, at: float, rest: float) -> None:
    wait = look_again(T0, T0 + left, at, ends_at=T0 + rest)
    assert 0.0 <= wait <= max(0.0, left) + 1e-6
    if left > LAST_LOOK_SECONDS:
        assert wait >= min(0.4 * LAST_LOOK_SECONDS, left)
        assert wait >= min(rest + LATE_SECONDS, left) - 1e-6, "not before what it waits for can end"


@given(st.floats(1, 400_000), st.lists(PLACES, min_size=1, max_size=9))
def test_the_looks_until_a_deadline_are_few_and_the_last_of_them_is_there(left: float, places: list[float]) -> None:
    now, looks = T0, 0
    while now < T0 + left - 1e-3:
        now += look_again(now, T0 + left, places[looks % len(places)])
        looks += 1
    assert looks <= 14 + left / (0.8 * LONGEST_LOOK_SECONDS)
    assert now == pytest.approx(T0 + left)


def test_places_are_spread_and_change_with_each_round() -> None:
    found = sorted(place("acme", f"j-{i}", 2) for i in range(1000))
    assert found[0] < 0.01
    assert found[-1] > 0.99
    assert place("acme", "j", 2) == place("acme", "j", 2) != place("acme", "j", 3)


def attempt(n: int, outcome: str = "timeout") -> Attempt:
    return Attempt(n=n, backend="x", model="m", outcome=outcome, billed_microdollars=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "attempts", "seconds"),
    [(1, (), 1.0), (2, (), 2.0), (4, (), 8.0), (5000, (), 30.0), (3, (attempt(2),), 1.0), (5, (attempt(2),), 4.0)],
)
def test_the_pace_slows_down_with_each_round_since_the_last_attempt(
    n: int, attempts: tuple[Attempt, ...], seconds: float
) -> None:
    assert pace(n, attempts) == seconds
