"""Seed 001_3dd1cfe1d6ea2561.txt: roles, pools per product, the catalogue, fallback."""

from __future__ import annotations

from typing import Any

import pytest

from messages import Attempt, Model
from messages.policies import Rule
from messages.values import Outcome
from tests.actors.router.seeds.fleet import decision, served, shipped, view_of, walk
from tests.messages.samples import backend

# "Configuration Structure", as it stands there.
MODEL_POOLS: dict[str, Any] = {
    "classifier": ["light-1", "light-2"],
    "writer": {
        "default": ["stable-1", "stable-2"],
        "landing": ["fast-1", "stable-1"],
        "card": ["fast-1", "stable-1"],
        "ecommerce": ["stable-1", "stable-2"],
        "booking": ["stable-1", "stable-2"],
        "dashboard": ["stable-1", "stable-2"],
    },
    "expander": ["mid-1", "stable-1"],
    "validator": ["stable-1", "stable-2"],
    "style_refiner": {
        "default": ["aesthetic-1", "stable-1"],
        "landing": ["aesthetic-1", "aesthetic-2"],
        "card": ["aesthetic-1", "aesthetic-2"],
    },
}
IDS = ("light-1", "light-2", "stable-1", "stable-2", "fast-1", "mid-1", "aesthetic-1", "aesthetic-2")
PRODUCTS = ("default", "landing", "card", "ecommerce", "booking", "dashboard")
CELLS = [(role, product) for role in MODEL_POOLS for product in PRODUCTS]


def cell(role: str, product: str) -> tuple[str, ...]:
    pools = MODEL_POOLS[role]
    return tuple(pools.get(product, pools["default"]) if isinstance(pools, dict) else pools)


def rule_for(role: str, product: str, mode: str = "") -> Rule:
    for rule in shipped("roles").rules:
        match = rule.match
        if (
            role in match.role
            and (not match.product or product in match.product)
            and (not match.mode or mode in match.mode)
        ):
            return rule
    raise AssertionError(f"no rule for {role} {product}")


def wanted(role: str, product: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "product": "" if product == "default" else product, **more}


REAL = {name: entry.model for name, entry in shipped("roles").models.items()}


@pytest.mark.parametrize(("role", "product"), CELLS)
def test_pools_per_role_and_product(role: str, product: str) -> None:
    """Seed 001, MODEL_POOLS: every cell; first and three fallbacks ("Max 3 fallback attempts")."""
    for mode in ("", "full_mimic"):
        rule = rule_for(role, product, mode)
        assert rule.pool == cell(role, product)
        assert (rule.strategy, rule.fallbacks, rule.max_attempts) == ("pool_order", 3, 4)


@pytest.mark.parametrize(("role", "product"), CELLS)
def test_the_first_available_then_the_next(role: str, product: str) -> None:
    """Seed 001, task 3: first available model of the pool, next model on failure; nothing outside the pool."""
    fleet = [*served(*REAL.values()), *served("other", local=True)]
    tried = walk(view_of(fleet), wanted(role, product))
    first = [REAL[name] for name in cell(role, product)]
    assert [model for _, model in tried[: len(first)]] == first
    assert {model for _, model in tried} == set(first)
    assert len(tried) <= 4


def test_the_catalogue_has_all_eight_ids() -> None:
    """Seed 001, MODEL_CATALOG, and section I: eight ids, mapped to models that differ."""
    models = shipped("roles").models
    assert tuple(models) == IDS
    assert {name for pool in (cell(*place) for place in CELLS) for name in pool} == set(IDS)
    assert len(set(REAL.values())) == len(IDS)
    assert "" not in REAL.values()


@pytest.mark.parametrize(
    ("name", "model", "capabilities"),
    [("light-1", "gpt-4o-mini", ("text",)), ("stable-1", "gpt-4o", ("text", "vision"))],
)
def test_the_two_entries_it_defines(name: str, model: str, capabilities: tuple[str, ...]) -> None:
    """Seed 001, MODEL_CATALOG: its max_tokens of 128000 is the context; the limit of an answer is another number."""
    entry = shipped("roles").models[name]
    assert (entry.model, entry.base_url, entry.capabilities) == (model, "https://api.openai.com/v1", capabilities)
    assert entry.context_tokens == 128_000
    assert entry.max_output_tokens == 16_384


@pytest.mark.parametrize("name", IDS)
def test_limits_are_known_per_model(name: str) -> None:
    """Seed 001, task 6: token limits and capabilities known per model."""
    entry = shipped("roles").models[name]
    assert entry.context_tokens is not None
    assert entry.max_output_tokens is not None
    assert 0 < entry.max_output_tokens < entry.context_tokens
    assert "text" in entry.capabilities
    assert entry.base_url.startswith("https://")


def test_who_refines_styles_can_see() -> None:
    """Seed 001, notes: vision is required for style_refiner in full_mimic mode; other modes degrade and say so."""
    models = shipped("roles").models
    for product in PRODUCTS:
        mimic, other = rule_for("style_refiner", product, "full_mimic"), rule_for("style_refiner", product, "tone")
        assert (mimic.requires, mimic.prefers) == (("vision",), ())
        assert (other.requires, other.prefers) == ((), ("vision",))
        assert all("vision" in models[name].capabilities for name in mimic.pool)
    assert shipped("roles").degrade["vision"] == "describe_style"


def test_without_eyes_a_mimic_fails_and_another_mode_degrades() -> None:
    """Seed 001, task 6: capability checked before use, graceful degradation where it may be missing."""
    blind = view_of([backend("a", models=(Model(name="blind"),))], _blind_pool())
    mimic = decision(blind, wanted("style_refiner", "card", mode="full_mimic"))
    assert mimic.gave_up is not None
    assert "lacks vision" in mimic.gave_up.message
    assert "style_refiner" in mimic.gave_up.message
    other = decision(blind, wanted("style_refiner", "card", mode="tone")).ranking[0]
    assert other.parameters.degrade == ("describe_style",)
    assert other.changes


def _blind_pool() -> Any:
    from actors.router.shipped import overrides_from

    return overrides_from({"MODEL_STYLE_REFINER": "blind"})


@pytest.mark.parametrize("product", [*PRODUCTS, "other"])
def test_required_fields(product: str) -> None:
    """Seed 001, should_fallback: the writer of ecommerce and booking owes a state_contract; nobody else does."""
    for role in MODEL_POOLS:
        owed = role == "writer" and product in {"ecommerce", "booking"}
        assert rule_for(role, product).required_fields == (("state_contract",) if owed else ())
    made = decision(view_of(served(*REAL.values())), wanted("writer", product))
    assert made.plan.required_fields == (("state_contract",) if product in {"ecommerce", "booking"} else ())


TRIGGERS: list[Outcome] = ["timeout", "connection_error", "server_error", "missing_field", "invalid_structure"]


@pytest.mark.parametrize("outcome", TRIGGERS)
def test_every_trigger_leads_to_the_next_model(outcome: Outcome) -> None:
    """Seed 001, FallbackTrigger."""
    view = view_of(served(*REAL.values()))
    attempt = Attempt(n=1, backend="on gpt-4o", model="gpt-4o", outcome=outcome, billed_microdollars=0)
    made = decision(view, wanted("writer", "booking"), attempts=(attempt,))
    assert made.ranking[0].model == REAL["stable-2"]


def test_an_exhausted_pool_names_the_role_and_each_model() -> None:
    """Seed 001, ModelExhaustedError: "No models available for role", and why each was skipped (requirement D2)."""
    fleet = served("gpt-4o", slots=0) + served("other", local=True)
    made = decision(view_of(fleet), {**wanted("validator", "default"), "max_cost_microdollars": 0, "model": "x"})
    assert made.gave_up is not None
    assert "the role validator" in made.gave_up.message
    assert "stable-1 (on gpt-4o/gpt-4o)" in made.gave_up.message
    assert "stable-2 is served by nobody" in made.gave_up.message


def test_roles_wait_for_models_that_nobody_serves() -> None:
    """Without any of its pool a role is like any other job: the next rules decide."""
    made = decision(view_of(served("other", local=True)), wanted("writer", "landing"))
    assert [c.model for c in made.ranking] == ["other"]
    assert made.strategy == "expected_cost"
