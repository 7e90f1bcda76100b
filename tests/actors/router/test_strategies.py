from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.strategies import STRATEGIES, weighted_score
from messages import Candidate, Policy, Weights
from tests.messages.samples import candidate, needs

POLICY = Policy()
SEED = {
    "local": {"priority": 1, "price_microdollars": 0, "service_seconds": 10, "queue": 2},
    "runpod": {"priority": 2, "price_microdollars": 7_000, "service_seconds": 20, "queue": 0},
    "gemini": {"priority": 3, "price_microdollars": 80_000, "service_seconds": 5, "queue": 0},
}


def seed(name: str, **changes: float) -> Candidate:
    return candidate(name, features={**SEED[name], "wait_seconds": 0.0, **changes})


def score(given: Candidate, policy: Policy = POLICY, **wishes: Any) -> float:
    return weighted_score(given, needs(**wishes), policy)[0]


@pytest.mark.parametrize(("name", "points"), [("local", 88.0), ("runpod", 64.04), ("gemini", 43.33)])
def test_the_seeds_example(name: str, points: float) -> None:
    assert round(score(seed(name)), 2) == points


@pytest.mark.parametrize(("name", "points"), [("local", 78.0), ("runpod", 45.8), ("gemini", 63.3)])
def test_the_seeds_example_when_speed_counts(name: str, points: float) -> None:
    assert score(seed(name), prioritize_speed=True) == pytest.approx(points, abs=0.05)


@pytest.mark.parametrize(("seconds", "local_wins"), [(10, True), (16, True), (17, False), (30, False)])
def test_when_speed_counts_local_wins_until_it_is_measured_slow(seconds: float, local_wins: bool) -> None:
    local = score(seed("local", service_seconds=seconds), prioritize_speed=True)
    assert (local > score(seed("gemini"), prioritize_speed=True)) == local_wins


def test_without_the_speed_wish_local_wins_however_slow_it_is() -> None:
    assert score(seed("local", service_seconds=1e6)) > score(seed("runpod")) > score(seed("gemini"))


def test_the_words_tell_the_parts() -> None:
    assert weighted_score(seed("local"), needs(), POLICY)[1] == (
        "88.0 points: priority 40.0, cost 30.0, speed 10.0, queue 8.0"
    )


FIGURES = st.fixed_dictionaries(
    {
        "priority": st.floats(1, 50), "price_microdollars": st.floats(0, 1e9), "service_seconds": st.floats(0, 1e6),
        "wait_seconds": st.floats(0, 1e6), "queue": st.floats(0, 1e4),
    }
)  # fmt: skip
WORSE = {"priority": 1.0, "price_microdollars": 5_000.0, "service_seconds": 3.0, "wait_seconds": 3.0, "queue": 1.0}


@given(FIGURES, st.booleans())
def test_a_score_lies_between_0_and_100(figures: dict[str, float], fast: bool) -> None:
    points = score(candidate(features=figures), prioritize_speed=fast)
    assert 0.0 <= points <= 100.0 + 1e-9


@given(FIGURES, st.sampled_from(sorted(WORSE)), st.floats(0, 1e5), st.sampled_from(sorted(STRATEGIES)))
def test_worse_figures_never_score_better(figures: dict[str, float], which: str, more: float, strategy: str) -> None:
    worse = {**figures, which: figures[which] + more}
    better, other = (STRATEGIES[strategy](candidate(features=f), needs(), POLICY)[0] for f in (figures, worse))
    assert other <= better


@given(FIGURES, st.sampled_from(sorted(STRATEGIES)))
def test_a_score_is_a_finite_number_with_words(figures: dict[str, float], strategy: str) -> None:
    points, words = STRATEGIES[strategy](candidate(features=figures), needs(), POLICY)
    assert math.isfinite(points)
    assert words


def test_weights_are_the_policys() -> None:
    policy = Policy(weights=Weights(priority=0.0, cost=100.0, speed=0.0, queue=0.0, dear_microdollars=14_000.0))
    assert score(seed("runpod"), policy) == pytest.approx(50.0)


def test_cost_first_takes_the_cheapest_and_then_the_fastest() -> None:
    cost_first = STRATEGIES["cost_first"]
    names = sorted(SEED, key=lambda name: -cost_first(seed(name), needs(), POLICY)[0])
    assert names == ["local", "runpod", "gemini"]
    slow, fast = (cost_first(seed("local", service_seconds=s), needs(), POLICY)[0] for s in (9, 2))
    assert fast > slow


def test_latency_first_counts_the_wait() -> None:
    latency_first = STRATEGIES["latency_first"]
    names = sorted(SEED, key=lambda name: -latency_first(seed(name), needs(), POLICY)[0])
    assert names == ["gemini", "local", "runpod"]
    assert (
        latency_first(seed("gemini", wait_seconds=6), needs(), POLICY)[0]
        < (latency_first(seed("local"), needs(), POLICY)[0])
    )
