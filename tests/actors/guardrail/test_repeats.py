"""The retry budget: a share of recent traffic, with a floor; per backend and model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.repeats import LONGEST_PACE_SECONDS, Repeats, is_repeat
from actors.settings import BreakerRules
from messages import Attempt
from tests.messages.samples import T0, candidate, decided

RULES = BreakerRules()


def attempt(backend: str = "a", model: str = "m", outcome: str = "timeout") -> Attempt:
    return Attempt(n=1, backend=backend, model=model, outcome=outcome, billed_microdollars=0)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=200))
def test_repeats_are_never_more_than_their_share_or_the_floor(asked: list[tuple[bool, float]]) -> None:
    repeats, now = Repeats(RULES), T0
    granted: list[tuple[float, bool]] = []
    for repeat, wait in asked:
        now += wait
        if repeat and repeats.pace("a", "m", now):
            continue
        repeats.count("a", "m", now, repeat=repeat)
        granted.append((now, repeat))
        if repeat:  # First calls leave the window as well, so the bar is that of the moment of the grant.
            recent = [again for at, again in granted if int(at) > now - RULES.repeat_seconds]
            assert sum(recent) <= max(RULES.repeat_floor, RULES.repeat_share * len(recent))


def test_the_floor_is_free_and_then_it_is_paced() -> None:
    repeats = Repeats(RULES)
    for _ in range(RULES.repeat_floor):
        assert repeats.pace("a", "m", T0) == 0
        repeats.count("a", "m", T0, repeat=True)
    assert 0 < repeats.pace("a", "m", T0) <= LONGEST_PACE_SECONDS
    assert repeats.pace("a", "other", T0) == 0
    assert repeats.pace("b", "m", T0) == 0
    assert repeats.pace("a", "m", T0 + RULES.repeat_seconds - 2) == 2
    assert repeats.pace("a", "m", T0 + RULES.repeat_seconds) == 0


def test_traffic_makes_room_for_repeats() -> None:
    repeats = Repeats(RULES)
    for _ in range(RULES.repeat_floor):
        repeats.count("a", "m", T0, repeat=True)
    assert repeats.pace("a", "m", T0)
    for _ in range(16):
        repeats.count("a", "m", T0, repeat=False)
    assert repeats.pace("a", "m", T0) == 0


def test_a_clock_that_goes_back_loses_nothing() -> None:
    repeats = Repeats(RULES)
    for at in (T0, T0 - 50, T0 - 5000):
        repeats.count("a", "m", at, repeat=True)
    assert repeats.pace("a", "m", T0) > 0


@pytest.mark.parametrize(
    ("before", "repeat"),
    [
        ((), False),
        ((attempt(),), True),
        ((attempt(backend="b"), attempt(model="other")), False),
        ((attempt(outcome="not_started"),), False),
    ],
)
def test_a_repeat_is_the_same_model_on_the_same_backend_once_more(before: tuple[Attempt, ...], repeat: bool) -> None:
    assert is_repeat(candidate("a"), decided(attempts=before)) is repeat
