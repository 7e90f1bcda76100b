"""The rules that match as one: per field the nearest that says it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.merging import BY_POOL, EVERYBODY, merge, said
from messages import AnswerChecks, Rule
from tests.actors.router.seeds.fleet import decision, fleet_004, policy, spread_004, view_of
from tests.messages.samples import needs

MEMBERS = st.lists(st.sampled_from(["m", "n", "o"]), max_size=2, unique=True).map(tuple)
RULES = st.builds(
    lambda strategy, pool, fallbacks, classes, requires, prefers, fields, checks, attempts: Rule(
        name="r", strategy=strategy, pool=pool, fallbacks=fallbacks, strict=bool(pool) and fallbacks == 1,
        classes={"simple": pool} if classes else {}, requires=requires, prefers=prefers, required_fields=fields,
        checks=AnswerChecks(whole=checks), max_attempts=attempts,
    ),
    st.sampled_from(["", "cost_first", "direct"]), MEMBERS | st.just(EVERYBODY), st.integers(0, 3), st.booleans(),
    MEMBERS, MEMBERS, MEMBERS, st.booleans(), st.none() | st.integers(1, 4),
)  # fmt: skip


def merged(*rules: Rule, **wishes: Any) -> Any:
    return merge([(f"p{i}@0", rule) for i, rule in enumerate(rules)], needs(**wishes))


@given(st.lists(RULES, max_size=4))
def test_per_field_the_nearest_that_says_it(rules: list[Rule]) -> None:
    found = merged(*rules)
    for field in ("strategy", "requires", "required_fields", "checks"):
        place = next((i for i, rule in enumerate(rules) if field in said(rule)), None)
        assert found.set_by.get(field) == (None if place is None else f"p{place}@0 r")
        if place is not None:
            assert getattr(found.rule, field) == getattr(rules[place], field)
    assert set(found.rule.prefers).isdisjoint(found.rule.requires)


@given(st.lists(RULES, max_size=4))
def test_what_belongs_to_a_pool_comes_with_it_from_one_rule(rules: list[Rule]) -> None:
    found = merged(*rules)
    giver = next((rule for rule in rules if rule.pool), None)
    if giver is None:
        assert (found.rule.pool, found.rule.classes, found.rule.strict) == ((), {}, False)
        return
    assert found.rule.pool == (() if giver.pool == EVERYBODY else giver.pool)
    assert (found.rule.strict, found.rule.fallbacks, found.rule.classes) == (
        giver.strict,
        giver.fallbacks,
        giver.classes,
    )
    assert all(rule.pool == () for rule in rules[: rules.index(giver)])


@given(st.lists(RULES, max_size=3), RULES)
def test_a_farther_rule_takes_nothing_from_a_nearer_one(rules: list[Rule], far: Rule) -> None:
    before, after = merged(*rules), merged(*rules, far)
    assert before.set_by.items() <= after.set_by.items()


def test_how_often_a_nearer_pool_is_tried_is_its_own_word() -> None:
    found = merged(Rule(name="near", pool=("m",), fallbacks=1), Rule(name="far", pool=("n",), max_attempts=4))
    assert (found.rule.max_attempts, found.rule.fallbacks) == (None, 1)
    found = merged(Rule(name="near", max_attempts=2), Rule(name="far", pool=("n",), max_attempts=4))
    assert found.rule.max_attempts == 2


@pytest.mark.parametrize("wishes", [{"strategy": "cost_first"}, {"prioritize_speed": True}])
def test_who_outvotes_a_pool_keeps_what_else_its_rule_says(wishes: dict[str, Any]) -> None:
    rule = Rule(name="r", pool=("m",), strategy="direct", required_fields=("title",))
    found = merged(rule, **wishes)
    assert (found.rule.pool, found.rule.strategy, found.rule.required_fields) == ((), "", ("title",))
    strict = merged(Rule(name="r", pool=("m",), strict=True), **wishes)
    assert strict.rule.pool == ("m",)
    assert merged(rule, strategy=min(BY_POOL)).rule.pool == ("m",)


# ----------------------------------------------------------------------------- the shipped policies: 000 meets 004

CODE = {"qwen3-coder:480b-cloud", "Qwen2.5-Coder-7B-AWQ", "qwen2.5-coder:7b"}
TABLE = [
    # task, quality, complexity, who leads (model), strategy
    ("code", "final", "simple", "qwen3-coder:480b-cloud", "quality_based"),
    ("code", "final", "complex", "qwen3-coder:480b-cloud", "quality_based"),
    ("code", "standard", "simple", "qwen2.5-coder:7b", "adaptive_weighted"),
    ("creative", "final", "high", "gpt-oss:120b-cloud", "quality_based"),
    ("creative", "standard", "standard", "mythomax-l2-13b", "quality_based"),
    ("analytical", "final", "simple", "deepseek-v3.1:671b-cloud", "quality_based"),
    ("chat", "final", "simple", "gpt-oss:120b-cloud", "quality_based"),
]


@pytest.mark.parametrize(("task", "quality", "complexity", "model", "strategy"), TABLE)
def test_kind_of_work_and_quality_combine(task: str, quality: str, complexity: str, model: str, strategy: str) -> None:
    made = decision(view_of(spread_004()), {"task": task, "quality": quality, "complexity": complexity})
    assert (made.ranking[0].model, made.strategy) == (model, strategy)
    assert made.plan.set_by["pool"].startswith(f"chains@0 {task}")
    assert made.plan.set_by["strategy"] == ("quality@0 final" if quality == "final" else made.plan.set_by["pool"])


@pytest.mark.parametrize("quality", ["draft", "final"])
def test_code_stays_among_code_models_and_a_draft_takes_the_quickest_of_them(quality: str) -> None:
    view = view_of(fleet_004())
    made = decision(view, {"task": "code", "quality": quality, "complexity": "medium"})
    pool = [c for c in made.ranking if c.model in CODE]  # Who follows is the chain's matter.
    assert made.ranking[0] == pool[0]
    if quality == "draft":
        seconds = [f.wait_seconds + f.switch_seconds + f.service_seconds for f in (c.features for c in pool)]
        assert seconds[0] == min(seconds)


def test_ones_own_rule_fills_nothing_it_does_not_say_and_keeps_what_it_says() -> None:
    mine = policy('policy = "mine"\n[[rules]]\nname = "thrift"\nmatch.task = ["code"]\nstrategy = "cost_first"')
    made = decision(view_of(fleet_004(), mine), {"task": "code", "quality": "final", "complexity": "simple"})
    assert made.plan.set_by == {"strategy": "mine@0 thrift", "pool": "chains@0 code"}
    assert (made.strategy, made.policy) == ("cost_first", "mine@0 thrift + chains@0 code")
    every = policy('policy = "mine"\n[[rules]]\nname = "all"\nstrategy = "cost_first"\npool = ["*"]')
    made = decision(view_of(fleet_004(), every), {"task": "code", "complexity": "simple"})
    assert (made.plan.pool, made.plan.set_by["pool"]) == ((), "mine@0 all")
