"""Seed 003_dee7a36bbdd74132.txt: adaptive routing and its flag."""

from __future__ import annotations

import pytest

from actors.router.shipped import overrides_from
from messages import Backend, Model, Policy
from messages.policies import AdaptiveRules
from tests.actors.router.seeds.fleet import decision, policy, shipped, view_of
from tests.messages.samples import backend


def fleet() -> list[Backend]:
    return [backend("slow", models=(Model(name="m", tokens_per_second=10.0),)), backend("quick", priority=2)]


def flag(value: str) -> list[Policy]:
    found = overrides_from({"FEATURE_MODELS_ADAPTIVE": value})
    return [found] if found else []


def test_exploration_is_small() -> None:
    """Seed 003, "Multi-armed bandit approaches": epsilon-greedy; the size is ours (requirement C7)."""
    adaptive = shipped("adaptive").adaptive
    assert adaptive == AdaptiveRules(method="epsilon", epsilon=0.01, enough=3, stale_seconds=1800.0, slack=3.0)


@pytest.mark.parametrize(("value", "strategy"), [("1", "adaptive"), ("0", "expected_cost"), ("", "expected_cost")])
def test_the_flag_acts(value: str, strategy: str) -> None:
    """Seed 003, FEATURE_MODELS_ADAPTIVE=1 enables adaptive routing; without it nothing is adaptive."""
    assert decision(view_of(fleet(), *flag(value)), {}).strategy == strategy


@pytest.mark.parametrize("strategy", ["manual", "adaptive", "cost_first", "latency_first"])
def test_the_selector_of_strategies(strategy: str) -> None:
    """Seed 003, "Routing strategy selector": Manual, Adaptive, Cost-First, Latency-First, per job and per workflow."""
    assert decision(view_of(fleet()), {"strategy": strategy}).strategy == strategy
    rule = f'policy = "p"\n[[rules]]\nname = "r"\nmatch.workflow = ["site"]\nmatch.step = ["hero"]\nstrategy = "{strategy}"'
    view = view_of(fleet(), policy(rule))
    assert decision(view, {"workflow": "site", "step": "hero"}).strategy == strategy
    assert decision(view, {"workflow": "site", "step": "footer"}).strategy == "expected_cost"


def test_routing_weights_are_the_prior_shares() -> None:
    """Seed 003, routingWeight: the initial probability, until something is measured."""
    wanted = {"strategy": "adaptive"}
    text = 'policy = "p"\n[backends.slow]\nrouting_weight = {}\n[backends.quick]\nrouting_weight = {}'
    for slow, quick, leader in ((1.0, 0.0, "slow"), (0.0, 1.0, "quick")):
        made = decision(view_of(fleet(), policy(text.format(slow, quick))), wanted)
        assert {c.backend: c.known.routing_weight for c in made.ranking} == {"slow": slow, "quick": quick}
        assert made.ranking[0].backend == leader
