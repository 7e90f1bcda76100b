"""Seed 002_be4394d5e206ede2.txt: the weighted score, and three attempts."""

from __future__ import annotations

from typing import Any

import pytest

from messages import Backend, Load, Model, Price
from messages.policies import FailoverRules, Weights
from tests.actors.router.seeds.fleet import decision, shipped, view_of, walk
from tests.messages.samples import T0, backend

SLOTS = 1_000
"""So many that two waiting jobs mean no wait worth counting, as in the example."""


def one(name: str, priority: int, price: int, seconds: float) -> Backend:
    model = Model(name="m", capabilities=("image",), price=Price(per_request=price), seconds_per_job=seconds)
    return backend(name, local=name == "local", priority=priority, slots=SLOTS, models=(model,))


# "Backend Configuration": priority, cost per job, speed.
FLEET = [one("local", 1, 0, 10.0), one("cloud", 2, 7_000, 20.0), one("gemini", 3, 80_000, 5.0)]
IMAGE: dict[str, Any] = {"asset": "image", "capabilities": ("image",)}


def view_002() -> Any:
    view = view_of(FLEET)
    view.learn_load(Load(backend="local", waiting=2, running=SLOTS - 1, at=T0))
    return view


def test_the_numbers_of_the_score() -> None:
    """Seed 002, "Scoring algorithm", and the anchors of section I."""
    policy = shipped("balancer")
    assert policy.strategy == "weighted_score"
    assert policy.weights == Weights(
        priority=40.0, cost=30.0, speed=20.0, queue=10.0, speed_mode_cost=10.0, speed_mode_speed=40.0,
        priorities=3.0, fast_seconds=5.0, slow_seconds=20.0, dear_microdollars=80_000.0, long_queue=10.0,
    )  # fmt: skip


def test_three_attempts_with_waits_of_one_and_three_seconds() -> None:
    """Seed 002, "Auto-Failover Mechanism"."""
    assert shipped("balancer").failover == FailoverRules(max_attempts=3, waits_seconds=(1.0, 3.0))
    view = view_002()
    assert [name for name, _ in walk(view, IMAGE)] == ["local", "cloud", "gemini"]
    failover = decision(view, IMAGE).failover
    assert [failover.wait_before(attempt) for attempt in (1, 2, 3)] == [0.0, 1.0, 3.0]


def test_the_example_is_reproduced() -> None:
    """Seed 002, "Load Balancer Selects Backend": 88, 64 and 43 points."""
    made = decision(view_002(), IMAGE)
    assert [c.backend for c in made.ranking] == ["local", "cloud", "gemini"]
    assert [c.score for c in made.ranking] == pytest.approx([88.00, 64.04, 43.33], abs=0.04)
    assert made.parts == ("priority", "cost", "speed", "queue")
    assert made.ranking[0].parts == pytest.approx((40.0, 30.0, 10.0, 8.0), abs=0.04)


def test_speed_mode() -> None:
    """Seed 002, "Speed Mode", read as section I does: speed 40 and cost 10, and local still wins at 10 s."""
    made = decision(view_002(), {**IMAGE, "prioritize_speed": True})
    scores = {c.backend: c.score for c in made.ranking}
    assert scores == {
        "local": pytest.approx(78.0, abs=0.06),
        "cloud": pytest.approx(45.8, abs=0.06),
        "gemini": pytest.approx(63.3, abs=0.06),
    }


@pytest.mark.parametrize(
    ("limit", "names"), [(None, {"local", "cloud", "gemini"}), (10_000, {"local", "cloud"}), (0, {"local"})]
)
def test_cost_conscious_mode(limit: int | None, names: set[str]) -> None:
    """Seed 002, "Cost-Conscious Mode": Gemini is too expensive at $0.01 per job."""
    made = decision(view_002(), {**IMAGE, "max_cost_microdollars": limit})
    assert {c.backend for c in made.ranking} == names


def test_no_cloud_fallback() -> None:
    """Seed 002, allowCloudFallback: false excludes every cloud hop."""
    assert [c.backend for c in decision(view_002(), {**IMAGE, "allow_cloud": False}).ranking] == ["local"]


@pytest.mark.parametrize("name", ["local", "cloud", "gemini"])
def test_a_preferred_backend_leads(name: str) -> None:
    """Seed 002, "Force Specific Backend"."""
    assert decision(view_002(), {**IMAGE, "preferred_backend": name}).ranking[0].backend == name
