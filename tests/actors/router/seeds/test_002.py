"""Seed 002_be4394d5e206ede2.txt: the weighted score, and three attempts."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.shipped import named_sets
from actors.router.strategies import STRATEGIES
from messages import Backend, Decided, Load, Model, Policy, Price
from messages.policies import FailoverRules, Weights
from tests.actors.router.seeds.fleet import decision, policy, shipped, view_of, walk
from tests.messages.samples import T0, backend


def one(name: str, priority: int, price: int, seconds: float) -> Backend:
    model = Model(name="m", capabilities=("image",), price=Price(per_request=price), seconds_per_job=seconds)
    return backend(name, local=name == "local", priority=priority, slots=1, models=(model,))


# "Backend Configuration": priority, cost per job, speed.
FLEET = [one("local", 1, 0, 10.0), one("cloud", 2, 7_000, 20.0), one("gemini", 3, 80_000, 5.0)]
IMAGE: dict[str, Any] = {"asset": "image", "capabilities": ("image",)}


def view_002(*policies: Policy, at_rest: bool = False) -> Any:
    """A live fleet under the set 002: one job runs on the GPU, and two wait."""
    view = view_of(FLEET, named_sets()["002"], *policies)
    if not at_rest:
        view.learn_load(Load(backend="local", waiting=2, running=1, at=T0))
    return view


def test_the_numbers_of_the_score() -> None:
    """Seed 002, "Scoring algorithm", and the anchors of section I."""
    policy = shipped("balancer")
    assert policy.strategy == "weighted_score"
    assert policy.weights == Weights(
        priority=40.0, cost=30.0, speed=20.0, queue=10.0, speed_mode_cost=10.0, speed_mode_speed=40.0,
        priorities=3.0, fast_seconds=5.0, slow_seconds=20.0, dear_microdollars=80_000.0, long_queue=10.0,
    )  # fmt: skip


def test_the_file_is_the_seeds() -> None:
    """Whatever else is the usual choice, what seed 002 says stays as it is."""
    text = (resources.files("actors.router") / "policies" / "balancer.toml").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "26b4fd77a4e3d1cc4f171ac1f1b6f30e2d8890e713e5bbf5ae620bef2ba673c2"


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


@pytest.mark.parametrize(("seconds", "leader"), [(17.0, "local"), (18.5, "gemini")])
def test_speed_mode_leaves_a_gpu_that_is_slower(seconds: float, leader: str) -> None:
    """Section I: Gemini wins once local is measured slower than about 17 s."""
    view = view_of([one("local", 1, 0, seconds), *FLEET[1:]], named_sets()["002"])
    assert decision(view, {**IMAGE, "prioritize_speed": True}).ranking[0].backend == leader


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


# ------------------------------------------------------------------------------------- the usual choice on this fleet


def usual(seconds: float, **wishes: Any) -> Decided:
    """What the shipped defaults decide for the fleet at rest, when a job takes so long on the GPU."""
    return decision(view_of([one("local", 1, 0, seconds), *FLEET[1:]]), {**IMAGE, **wishes})


@pytest.mark.parametrize(("seconds", "leader"), [(10.0, "local"), (60.0, "local"), (61.9, "local"), (62.2, "cloud")])
def test_a_free_gpu_at_rest_wins_up_to_the_stated_limit(seconds: float, leader: str) -> None:
    """62 s: (62 - 20) s x $0.60 / 3600 s = $0.007."""
    made = usual(seconds)
    assert (made.strategy, made.policy, made.ranking[0].backend) == ("expected_cost", "default@0", leader)
    assert "(an hour of waiting counts $0.60)" in made.reason


@pytest.mark.parametrize(("seconds", "leader"), [(10.0, "local"), (16.8, "local"), (17.2, "gemini")])
def test_in_speed_mode_the_usual_choice_leaves_it_where_the_seed_does(seconds: float, leader: str) -> None:
    made = usual(seconds, prioritize_speed=True)
    assert (made.strategy, made.ranking[0].backend) == ("expected_cost", leader)
    assert "(an hour of waiting counts $24.00)" in made.reason


@pytest.mark.parametrize(("waiting", "leader"), [(0, "local"), (2, "local"), (6, "cloud"), (40, "cloud")])
def test_the_usual_choice_does_not_let_a_queue_grow(waiting: int, leader: str) -> None:
    """The seed: "15 overflow to cloud", "avoid overloaded backends". Its own score leaves a free GPU at no length of queue."""
    view = view_of(FLEET)
    view.learn_load(Load(backend="local", waiting=waiting, running=1, at=T0))
    assert decision(view, IMAGE).ranking[0].backend == leader


@pytest.mark.parametrize("own", ['strategy = "weighted_score"', 'shipped = ["balancer"]'])
def test_the_seeds_score_is_one_line_away(own: str) -> None:
    made = decision(view_of(FLEET, policy(f'policy = "mine"\n{own}')), IMAGE)
    assert made.strategy == "weighted_score"


@given(st.sampled_from(sorted(named_sets())), st.sampled_from(sorted(STRATEGIES)))
def test_a_set_keeps_ones_own_rules(name: str, strategy: str) -> None:
    mine = policy(f'policy = "mine"\n[[rules]]\nname = "r"\nmatch.asset = ["image"]\nstrategy = "{strategy}"')
    made = decision(view_of(FLEET, named_sets()[name], mine), IMAGE)
    assert (made.plan.strategy, made.plan.rule) == (strategy, "mine@0 r")
