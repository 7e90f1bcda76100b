"""What stands about a model: its backend's word, completed by the catalogue and the policies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.router.known import known_of, lean
from actors.router.rulebook import Rulebook
from messages import Backend, BackendRule, CatalogueEntry, Known, Model, Plan, Policy, Price, Weights
from tests.messages.samples import backend


def known(there: Backend, *policies: Policy) -> Any:
    return known_of(there, there.models[0], Rulebook(policies), {})


def test_the_catalogue_completes_what_the_backend_says_and_outweighs_its_tier() -> None:
    entry_ = CatalogueEntry(
        model="m", capabilities=("vision",), context_tokens=10, max_output_tokens=5, quality_tier=5, parameters_billion=8.0,
        roles=("writer",), roles_denied=("judge",), vram_mb=7,
    )  # fmt: skip
    policy = Policy(policy="p", models={"id": entry_}, chains={"id": ("n",)})
    bare = known(backend("a", models=(Model(name="m", quality_tier=1),)), policy)
    assert (bare.capabilities, bare.context_tokens, bare.max_output_tokens) == (("text", "vision"), 10, 5)
    assert (bare.quality_tier, bare.parameters_billion, bare.vram_mb) == (5, 8.0, 7)
    assert (bare.roles, bare.roles_denied, bare.chain, bare.names) == (
        ("writer",),
        ("judge",),
        ("n",),
        ("id", "m:latest"),
    )
    told = Model(name="m", context_tokens=99, max_output_tokens=88, parameters_billion=7.0, vram_mb=66)
    full = known(backend("a", models=(told,)), policy)
    assert (full.context_tokens, full.max_output_tokens, full.parameters_billion, full.vram_mb) == (99, 88, 7.0, 66)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ((), ("text",)),
        (("code",), ("code", "text")),
        (("image", "lora"), ("image", "lora")),
        (("embedding", "text"), ("embedding", "text")),
    ],
)
def test_who_makes_nothing_else_makes_text(said: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert known(backend("a", models=(Model(name="m", capabilities=said),))).capabilities == found


def test_a_policy_may_see_a_backend_otherwise() -> None:
    rule = BackendRule(multiplier=1.5, routing_weight=0.2, priority=9)
    seen = known(backend("a", priority=2), Policy(policy="p", backends={"a": rule}))
    assert (seen.multiplier, seen.routing_weight, seen.priority) == (1.5, 0.2, 9)
    assert known(backend("b", priority=2), Policy(policy="p", backends={"a": rule})).priority == 2


def test_price_slots_and_memory_are_the_backends() -> None:
    price = Price(per_request=7)
    there = backend(
        "a", slots=3, vram_total_mb=24_000, provider="us", models=(Model(name="m", price=price, swap_seconds=4.0),)
    )
    seen = known(there)
    assert (seen.price, seen.slots, seen.vram_total_mb, seen.provider, seen.swap_seconds) == (
        price,
        3,
        24_000,
        "us",
        4.0,
    )


@pytest.mark.parametrize(
    ("changes", "unfit"),
    [
        ({}, ""),
        ({"slots": 0, "healthy": False}, "has no live executor"),
        (
            {"exclusive_group": "gpu", "active": False},
            "is inactive: another backend of the group gpu holds its hardware",
        ),
        ({"exclusive_group": "gpu"}, ""),
        ({"healthy": False, "health_reason": "on fire"}, "is unhealthy: on fire"),
    ],
)
def test_why_a_backend_takes_no_work(changes: dict[str, Any], unfit: str) -> None:
    assert known(backend("a", **changes)).unfit == unfit


def test_what_equals_a_default_is_left_out_of_events() -> None:
    plan = Plan(strategy="weighted_scores"[:-1], output_share=1 / 2, weights=Weights(cost=60.0 / 2, speed=7.0))
    slim = lean(plan)
    assert slim == plan
    assert slim.weights.cost is Weights().cost
    assert msgspec.json.encode(slim) == b'{"weights":{"speed":7.0}}'
    assert msgspec.json.decode(msgspec.json.encode(slim), type=Plan) == plan
    assert msgspec.json.encode(lean(Plan(weights=Weights(cost=60.0 / 2)))) == b"{}"


def test_another_type_of_number_stays_as_it_is() -> None:
    assert type(lean(Known(multiplier=1.0)).multiplier) is float
