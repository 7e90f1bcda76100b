from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.case import Row
from actors.router.strategies.points import weighted_score
from messages import Weights
from tests.actors.router.strategies.rows import FIGURES, case, row

SEED: dict[str, dict[str, Any]] = {
    "local": {"known": {"priority": 1}, "price_microdollars": 0.0, "service_seconds": 10.0, "queue": 2.0},
    "runpod": {"known": {"priority": 2}, "price_microdollars": 7_000.0, "service_seconds": 20.0},
    "gemini": {"known": {"priority": 3}, "price_microdollars": 80_000.0, "service_seconds": 5.0},
}
"""The fleet of seed 002_be4394d5e206ede2.txt, "Backend Configuration"; two jobs wait for the local one."""


def seed(name: str, **changes: Any) -> Row:
    return row(name, **{**SEED[name], **changes})


def score(given: Row, *, weights: Weights | None = None, **wishes: Any) -> float:
    (points,) = weighted_score([given], case(plan={"weights": weights or Weights()}, needs=wishes)).scores
    return points


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("local", 88.00, (40, 30, 10, 8)),
        ("runpod", 64.04, (26.67, 27.375, 0, 10)),
        ("gemini", 43.33, (13.33, 0, 20, 10)),
    ],
)
def test_the_seeds_example(name: str, total: float, parts: tuple[float, ...]) -> None:
    """Seed 002_be4394d5e206ede2.txt, "Load Balancer Selects Backend": 88, 64 and 43 points, part by part."""
    scored = weighted_score([seed(name)], case())
    assert round(scored.scores[0], 2) == total
    assert scored.parts[0] == pytest.approx(parts, abs=0.005)


@pytest.mark.parametrize(("name", "points"), [("local", 78.0), ("runpod", 45.8), ("gemini", 63.3)])
def test_the_seeds_example_in_speed_mode(name: str, points: float) -> None:
    """Seed 002_be4394d5e206ede2.txt, "Speed Mode": speed weighs 40, cost 10."""
    assert score(seed(name), prioritize_speed=True) == pytest.approx(points, abs=0.05)


@pytest.mark.parametrize(("seconds", "local_wins"), [(10, True), (16.5, True), (16.7, False), (17, False), (30, False)])
def test_in_speed_mode_local_wins_until_it_is_measured_slower_than_about_17_seconds(
    seconds: float, local_wins: bool
) -> None:
    """Seed 002_be4394d5e206ede2.txt: "May prefer Gemini (5s) over local (10s)"."""
    local = score(seed("local", service_seconds=seconds), prioritize_speed=True)
    assert (local > score(seed("gemini"), prioritize_speed=True)) == local_wins


def test_without_speed_mode_local_wins_however_slow_it_is() -> None:
    assert score(seed("local", service_seconds=1e6)) > score(seed("runpod")) > score(seed("gemini"))


@pytest.mark.parametrize("figure", ["service_seconds", "switch_seconds"])
def test_service_and_switch_count_as_time(figure: str) -> None:
    slow = seed("local", **{"service_seconds": 5.0, figure: SEED["local"]["service_seconds"]})
    assert score(slow) < score(seed("local", service_seconds=5.0))


@given(st.floats(0, 1e4), st.integers(0, 12))
def test_who_waits_counts_as_queue_and_not_as_time(wait: float, waiting: int) -> None:
    """Seed 002: ten points of queue, and nothing else for it."""
    (idle,) = weighted_score([seed("local")], case()).parts
    (busy,) = weighted_score([seed("local", wait_seconds=wait, queue=float(waiting))], case()).parts
    assert busy[:3] == idle[:3]
    assert idle[3] == pytest.approx(10.0 if not SEED["local"].get("queue") else 10.0 - SEED["local"]["queue"])
    assert busy[3] == pytest.approx(max(0.0, 10.0 - waiting))


def test_one_more_backend_moves_nobody() -> None:
    alone = weighted_score([seed("local"), seed("gemini")], case()).scores
    assert weighted_score([seed("local"), seed("gemini"), seed("runpod")], case()).scores[:2] == alone


@given(FIGURES, st.integers(-3, 50), st.booleans())
def test_a_score_lies_between_0_and_100_and_is_the_sum_of_its_parts(
    figures: dict[str, Any], priority: int, speed: bool
) -> None:
    scored = weighted_score([row(known={"priority": priority}, **figures)], case(needs={"prioritize_speed": speed}))
    assert 0.0 <= scored.scores[0] <= 100.0 + 1e-9
    assert all(part >= 0.0 for part in scored.parts[0])
    assert sum(scored.parts[0]) == pytest.approx(scored.scores[0])


def test_the_multiplier_multiplies_the_total() -> None:
    given = seed("local", known={"priority": 1, "multiplier": 0.5})
    scored = weighted_score([given], case())
    assert scored.scores == pytest.approx([44.0])
    assert sum(scored.parts[0]) == pytest.approx(88.0)


def test_weights_and_anchors_are_the_policys() -> None:
    only_cost = Weights(priority=0.0, cost=100.0, speed=0.0, queue=0.0, dear_microdollars=14_000.0)
    assert score(seed("runpod"), weights=only_cost) == pytest.approx(50.0)
    only_speed = Weights(priority=0.0, cost=0.0, speed=100.0, queue=0.0, fast_seconds=1.0, slow_seconds=100.0)
    assert score(seed("local"), weights=only_speed) == pytest.approx(50.0)
    own = Weights(speed_mode_cost=0.0, speed_mode_speed=100.0)
    assert score(seed("gemini"), weights=own, prioritize_speed=True) == pytest.approx(40 / 3 + 100 + 10)
    five = Weights(priorities=5.0)
    assert score(seed("gemini"), weights=five) == pytest.approx(43.33 - 40 / 3 + 24, abs=0.01)


def test_equal_anchors_are_a_step() -> None:
    step = Weights(fast_seconds=10.0, slow_seconds=10.0)
    assert score(seed("local"), weights=step) - score(seed("local", service_seconds=10.1), weights=step) == 20.0
