"""All policies as one: who speaks first, which rule matches, what a ruling holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.rulebook import SATURATED_AT, WINDOW_SECONDS, Rulebook, in_order, spellings
from messages import (
    AdaptiveRules,
    AnalysisRules,
    CatalogueEntry,
    Change,
    CostRules,
    Failover,
    FailoverRules,
    Match,
    Media,
    Policy,
    Preset,
    Rule,
    Weights,
)
from tests.actors.router.fleets import POLICIES, WISHES
from tests.messages.samples import needs

SERVED = frozenset({"m", "n", "a", "b"})


def rule(name: str = "r", **changes: Any) -> Rule:
    match = Match(**changes.pop("match", {}))
    return Rule(name=name, match=match, **changes)


def ruled(*policies: Policy, served: frozenset[str] = SERVED, tenant: str = "acme", **wishes: Any) -> Any:
    return Rulebook(policies).ruling(needs(**wishes), tenant, served)


def test_policies_speak_by_order_and_name_and_removed_ones_are_silent() -> None:
    named = [Policy(policy="b"), Policy(policy="z", order=1), Policy(policy="a"), Policy(policy="gone", removed=True)]
    assert [policy.policy for policy in in_order(named)] == ["z", "a", "b"]


@pytest.mark.parametrize(
    ("name", "others"), [("m", ("m:latest",)), ("m:latest", ("m",)), ("m:7b", ())]
)  # fmt: skip
def test_a_model_may_be_called_without_its_latest(name: str, others: tuple[str, ...]) -> None:
    assert spellings(name) == others


def test_without_any_policy_everything_has_its_default() -> None:
    book = Rulebook()
    assert (book.strategy, book.enabled, book.failover) == ("expected_cost", True, Failover())
    assert (book.saturated_at, book.window_seconds) == (SATURATED_AT, WINDOW_SECONDS)
    found = ruled()
    assert (found.policy, found.plan.rule, found.plan.strategy) == ("built-in@0", "", "expected_cost")


def test_the_first_to_say_something_decides_each_matter_by_itself() -> None:
    first = Policy(policy="a", version=3, weights=Weights(priority=1.0), failover=FailoverRules(max_attempts=7))
    second = Policy(
        policy="b", strategy="cost_first", weights=Weights(priority=2.0), window_seconds=9.0,
        failover=FailoverRules(max_attempts=2, stall_seconds=4.0), chains={"m": ("n",)},
        models={"id": CatalogueEntry(model="m", quality_tier=5)}, degrade={"vision": "drop_images"},
    )  # fmt: skip
    third = Policy(policy="c", strategy="direct", chains={"m": ("a",), "n": ("b",)}, degrade={"vision": "shorten"})
    book = Rulebook((third, second, first))
    assert (book.strategy, book.weights.priority, book.window_seconds) == ("cost_first", 1.0, 9.0)
    assert (book.failover.max_attempts, book.failover.stall_seconds) == (7, 4.0)
    assert book.failover.waits_seconds == Failover().waits_seconds
    assert book.chains == {"m": ("n",), "n": ("b",)}
    assert book.degrade == {"vision": "drop_images"}
    assert ruled(first, second, third).policy == "b@0"


def test_every_number_of_a_plan_is_the_policys() -> None:
    policy = Policy(
        policy="p", weights=Weights(cost=1.0), adaptive=AdaptiveRules(epsilon=0.2), cost=CostRules(queue_price=0.7),
        analysis=AnalysisRules(output_share=0.3),
    )  # fmt: skip
    plan = ruled(policy).plan
    assert (plan.weights.cost, plan.adaptive.epsilon, plan.cost.queue_price, plan.output_share) == (1.0, 0.2, 0.7, 0.3)


@pytest.mark.parametrize(
    ("field", "good", "other"),
    [
        ("task", {"task": "code"}, {"task": "chat"}),
        ("asset", {"asset": "image"}, {"asset": "text"}),
        ("quality", {"quality": "draft"}, {"quality": "final"}),
        ("complexity", {"complexity": "simple"}, {"complexity": "complex"}),
        ("capability", {"capabilities": ("json", "vision")}, {"capabilities": ("json",)}),
        ("role", {"role": "writer"}, {"role": ""}),
        ("mode", {"mode": "full_mimic"}, {"mode": ""}),
        ("product", {"product": "card"}, {"product": "landing"}),
        ("workflow", {"workflow": "site"}, {"workflow": ""}),
        ("step", {"step": "hero"}, {"step": ""}),
        ("node_type", {"media": Media(node_types=("KSampler", "VAEDecode"))}, {"media": Media()}),
    ],
)
def test_what_a_rule_matches(field: str, good: dict[str, Any], other: dict[str, Any]) -> None:
    words = {"capability": "vision", "node_type": "VAEDecode"}
    policy = Policy(
        policy="p", version=2, rules=(rule(match={field: (words.get(field) or next(iter(good.values())),)}),)
    )
    assert ruled(policy, **good).plan.rule == "p@2 r"
    assert ruled(policy, **good).policy == "p@2 r"
    assert ruled(policy, **other).plan.rule == ""


def test_a_rule_for_a_tenant_is_for_nobody_else() -> None:
    policy = Policy(policy="p", rules=(rule(match={"tenant": ("acme",)}, strategy="direct"),))
    assert ruled(policy).plan.strategy == "direct"
    assert ruled(policy, tenant="other").plan.strategy == "expected_cost"


def test_all_that_is_given_must_match_and_the_first_that_does_decides() -> None:
    narrow = rule("narrow", match={"task": ("code", "chat"), "role": ("writer",)}, strategy="direct")
    policy = Policy(policy="p", rules=(narrow, rule("wide", strategy="cost_first")))
    assert ruled(policy, role="writer").plan.rule == "p@0 narrow"
    assert ruled(policy, role="writer", task="creative").plan.rule == "p@0 wide"


def test_a_rule_with_a_pool_holds_where_somebody_serves_one_of_it() -> None:
    policy = Policy(policy="p", rules=(rule("far", pool=("x", "y")), rule("near", pool=("x", "m"))))
    assert ruled(policy).plan.rule == "p@0 near"
    assert ruled(policy, served=frozenset({"z"})).plan.rule == ""
    assert ruled(policy, served=frozenset({"y"})).plan.rule == "p@0 far"


def test_a_jobs_own_strategy_weighs_more_than_the_rules_and_that_more_than_the_policys() -> None:
    policy = Policy(policy="p", strategy="cost_first", rules=(rule(match={"role": ("writer",)}, strategy="direct"),))
    assert ruled(policy).plan.strategy == "cost_first"
    assert ruled(policy, role="writer").plan.strategy == "direct"
    assert ruled(policy, role="writer", strategy="least_loaded").plan.strategy == "least_loaded"


@pytest.mark.parametrize(
    ("changes", "attempts"),
    [({}, 6), ({"pool": ("m",)}, 4), ({"pool": ("m",), "fallbacks": 1}, 2), ({"pool": ("m",), "max_attempts": 5}, 5)],
)  # fmt: skip
def test_how_often_a_pool_is_tried(changes: dict[str, Any], attempts: int) -> None:
    policy = Policy(policy="p", failover=FailoverRules(max_attempts=6), rules=(rule(**changes),))
    assert ruled(policy).failover.max_attempts == attempts


def test_a_plan_says_how_what_is_wished_for_is_replaced_and_nothing_else() -> None:
    policy = Policy(
        policy="p", degrade={"vision": "drop_images", "tools": "drop_tools", "json": "plain_text"},
        rules=(rule(prefers=("tools",)),),
    )  # fmt: skip
    plan = ruled(policy, preferred=("vision",)).plan
    assert plan.degrade == {"vision": "drop_images", "tools": "drop_tools"}
    assert plan.prefers == ("tools",)


def test_of_a_preset_only_what_can_still_change_something_travels() -> None:
    preset = Preset(steps=8, variants={"m": "n"}, backends={"a": Change(steps=4), "b": Change(max_output_tokens=9)})
    policy = Policy(policy="p", presets={"draft": preset})
    assert ruled(policy, quality="draft", asset="image").plan.preset == preset
    text = ruled(policy, quality="draft").plan.preset
    assert text == Preset(variants={"m": "n"}, backends={"b": Change(max_output_tokens=9)})
    assert ruled(policy, quality="final", asset="image").plan.preset == Preset()


def test_routing_switched_off_leaves_a_fixed_order_and_what_delivery_needs() -> None:
    off = Policy(policy="off", version=2, order=1, enabled=False, fixed_order=("b", "a"))
    rest = Policy(
        policy="p", strategy="cost_first", failover=FailoverRules(max_attempts=5), degrade={"vision": "drop_images"},
        rules=(rule(strategy="direct", pool=("m",), strict=True),), analysis=AnalysisRules(output_share=0.2),
    )  # fmt: skip
    found = ruled(rest, off, strategy="expected_cost", preferred=("vision",))
    assert (found.plan.strategy, found.plan.fixed, found.plan.pool, found.plan.rule) == ("manual", True, ("b", "a"), "")
    assert (found.policy, found.failover.max_attempts) == ("off@2", 5)
    assert (found.plan.degrade, found.plan.output_share) == ({"vision": "drop_images"}, 0.2)
    on = Policy(policy="on", order=0, enabled=True)
    assert ruled(rest, off, on).plan.strategy == "direct"


def test_the_catalogues_words_about_a_model_begin_with_those_for_the_backend() -> None:
    policy = Policy(
        policy="p",
        models={
            "any": CatalogueEntry(model="m"), "here": CatalogueEntry(model="m:latest", backend="a"), "m": CatalogueEntry(),
            "there": CatalogueEntry(model="m", backend="b"), "n": CatalogueEntry(),
        },
    )  # fmt: skip
    assert [key for key, _ in Rulebook((policy,)).entries("a", "m")] == ["here", "any", "m"]
    assert [key for key, _ in Rulebook((policy,)).entries("b", "m")] == ["there", "any", "m"]


def test_a_chain_is_found_under_any_name() -> None:
    book = Rulebook((Policy(policy="p", chains={"id": ("x",)}),))
    assert book.chain_of(("m", "id")) == ("x",)
    assert book.chain_of(("m",)) == ()


@given(POLICIES, WISHES, WISHES)
def test_jobs_of_the_same_key_get_the_same_ruling(
    policies: list[Policy], one: dict[str, Any], other: dict[str, Any]
) -> None:
    book = Rulebook(policies)
    first, second = needs(**one), needs(**other)
    if book.key(first, "acme") == book.key(second, "acme"):
        assert book.ruling(first, "acme", SERVED) == book.ruling(second, "acme", SERVED)
    mixed = needs(**{**one, **{field: other[field] for field in ("input_tokens", "vram_mb", "model", "allow_cloud")}})
    assert book.key(mixed, "acme") == book.key(first, "acme")
    assert book.ruling(mixed, "acme", SERVED) == book.ruling(first, "acme", SERVED)


@given(POLICIES, st.randoms())
def test_the_order_in_which_policies_came_leaves_no_trace(policies: list[Policy], chance: Any) -> None:
    shuffled = list(policies)
    chance.shuffle(shuffled)
    assert ruled(*policies) == ruled(*shuffled)
