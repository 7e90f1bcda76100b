"""Limits of single calls per step and model: seed 003, "Data & configuration", in its own spelling and in ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.met import met_of
from actors.router import policyfile
from actors.router.policyfile import PolicyError, load_policy, to_toml
from actors.router.strategies import STRATEGIES
from actors.router.verify import check
from messages import Decided, Granted, Model, Policy, Price, Skipped
from tests.actors.router.seeds.fleet import decision, view_of
from tests.messages.samples import T0, backend

PRICE = Price(input_per_mtok=10_000_000, output_per_mtok=10_000_000)
STEP = {"workflow": "site", "step": "hero", "max_output_tokens": 1_000, "stated": ("max_output_tokens",)}
SPELLED = """policy = "mine"
[[guardrails]]
workflow = "site"
step = "hero"
model = "gpt-4o"
costLimit = 10
tokenLimit = 2000
latencyTargetMs = 1500
dropIfOverBudget = false
routingWeight = 0.7
"""


def policy(text: str) -> Policy:
    return load_policy(f'policy = "mine"\n[[guardrails]]\nmodel = "gpt-4o"\n{text}', "p.toml", strategies=STRATEGIES)


def fleet() -> list[Any]:
    """A dear model, a cheap one beside it."""
    return [
        backend("openai", local=False, models=(Model(name="gpt-4o", price=PRICE, tokens_per_second=500.0),)),
        backend(
            "small", local=False, models=(Model(name="mini", price=Price(per_request=1), tokens_per_second=400.0),)
        ),
    ]


def decided(text: str, **wishes: Any) -> Decided:
    view = view_of(fleet(), policy(text))
    return decision(view, {**STEP, "strategy": "latency_first", **wishes})


def test_the_seeds_own_spelling_is_ours() -> None:
    """`costLimit` (USD cents), `tokenLimit`, `latencyTargetMs`, `dropIfOverBudget`, `routingWeight`."""
    (guard,) = load_policy(SPELLED, "p.toml", strategies=STRATEGIES).guardrails
    assert (guard.workflow, guard.step, guard.model) == (("site",), ("hero",), ("gpt-4o",))
    assert (guard.cost_limit_cents, guard.token_limit, guard.latency_target_ms) == (10.0, 2_000, 1_500.0)
    assert (guard.drop_if_over_budget, guard.routing_weight) == (False, 0.7)
    loaded = load_policy(SPELLED, "p.toml", strategies=STRATEGIES)
    assert load_policy(to_toml(loaded), "again.toml", strategies=STRATEGIES) == loaded


@pytest.mark.parametrize("ours", sorted(policyfile.SEEDS_WORDS.values()))
def test_either_spelling_may_be_used_and_not_both(ours: str) -> None:
    theirs = next(word for word, ours_ in policyfile.SEEDS_WORDS.items() if ours_ == ours)
    value = "false" if ours == "drop_if_over_budget" else "7"
    assert policy(f"{ours} = {value}") == policy(f"{theirs} = {value}")
    with pytest.raises(PolicyError, match="are the same: keep one"):
        policy(f"{ours} = {value}\n{theirs} = {value}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [("costLimit = -1", "p.toml:4: guardrails[0].costLimit"), ("tokenLimit = 1.5", "p.toml:4: guardrails[0].tokenLimit"),
     ("costLimits = 1", "p.toml:4: guardrails[0].costLimits")],
)  # fmt: skip
def test_a_wrong_value_is_said_in_the_words_of_the_file(text: str, fault: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(text)
    assert fault in str(caught.value)


def test_a_call_within_its_limits_runs() -> None:
    """Seed 003, "Execute within limits"."""
    made = decided("costLimit = 10\ntokenLimit = 2000")
    assert (made.ranking[0].backend, made.ranking[0].breaches, met_of(made)) == ("openai", (), ())


@pytest.mark.parametrize(("limit", "said"), [("costLimit = 1", "could cost $"), ("tokenLimit = 900", "could use 1,")])
def test_who_could_exceed_a_limit_is_passed_over_and_the_next_runs(limit: str, said: str) -> None:
    """Seed 003, "Trigger cost breach": invocation skipped, fallback executes, the breach is noted."""
    made = decided(limit)
    assert [c.backend for c in made.ranking] == ["small"]
    (met,) = met_of(made)
    assert (met.backend, met.kind, met.passed_over) == ("openai", "guardrail", True)
    assert said in met.text
    assert check(made) == ""


@pytest.mark.parametrize("wishes", [{"step": "footer"}, {"workflow": "blog"}, {"workflow": "", "step": ""}])
def test_a_limit_of_a_step_is_for_no_other(wishes: dict[str, str]) -> None:
    made = decided('workflow = "site"\nstep = "hero"\ncostLimit = 0', **wishes)
    assert made.ranking[0].backend == "openai"
    assert decided('workflow = "site"\nstep = "hero"\ncostLimit = 0').ranking[0].backend == "small"


def test_who_is_not_dropped_runs_and_says_so() -> None:
    made = decided("costLimit = 1\ndropIfOverBudget = false")
    leader = made.ranking[0]
    assert leader.backend == "openai"
    granted = Granted(tenant="acme", job="j-1", n=1, verdict="candidate", backend="openai", model="gpt-4o", at=T0)
    (met,) = met_of(made, granted)
    assert (met.kind, met.passed_over) == ("guardrail", False)
    assert "is not dropped for it" in met.text


def test_an_answer_that_nobody_gave_a_length_is_made_to_fit() -> None:
    made = decided("tokenLimit = 900", stated=())
    leader = made.ranking[0]
    assert leader.backend == "openai"
    assert leader.worst_case_tokens <= 900 < leader.worst_case_input_tokens + 1_000
    assert any("token_limit" in change for change in leader.changes)


def test_a_latency_target_is_a_wish() -> None:
    made = decided("latencyTargetMs = 1")
    assert made.ranking[0].backend == "openai"
    assert "1 are wished (latency_target)" in made.ranking[0].breaches[0]


def test_zero_admits_what_is_free_alone_and_an_unknown_price_is_not_free() -> None:
    """Seed 003, "edge cases (zero limits, missing pricing data)"."""
    free = backend("free", models=(Model(name="gpt-4o"),))
    odd = backend("odd", local=False, models=(Model(name="gpt-4o"),))
    made = decision(view_of([free, odd], policy("costLimit = 0")), STEP)
    assert [c.backend for c in made.ranking] == ["free"]
    assert "has no known price" in met_of(made)[0].text


@given(st.integers(0, 3_000), st.integers(0, 30_000))
def test_nobody_leads_who_could_exceed_a_limit(tokens: int, cents_thousandth: int) -> None:
    made = decided(f"tokenLimit = {tokens}\ncostLimit = {cents_thousandth / 1000}")
    for candidate in made.ranking:
        if candidate.model == "gpt-4o":
            assert candidate.worst_case_tokens <= tokens
            assert candidate.worst_case_microdollars <= cents_thousandth * 10 + 1


def test_routing_weights_per_step_and_model_are_the_prior_share() -> None:
    text = 'policy = "mine"\n' + "".join(
        f'[[guardrails]]\nworkflow = "site"\nmodel = "{model}"\nroutingWeight = {weight}\n'
        for model, weight in (("gpt-4o", 0), ("mini", 1))
    )
    mine = load_policy(text, "p.toml", strategies=STRATEGIES)
    made = decision(view_of(fleet(), mine), {**STEP, "strategy": "adaptive"})
    assert {c.model: c.known.routing_weight for c in made.ranking} == {"gpt-4o": 0.0, "mini": 1.0}
    assert made.ranking[0].model == "mini"
    other = decision(view_of(fleet(), mine), {**STEP, "workflow": "blog", "strategy": "adaptive"})
    assert {c.known.routing_weight for c in other.ranking} == {1}


def test_budgets_that_the_guardrail_met_are_told_too() -> None:
    made = decided("tokenLimit = 5000")
    skipped = (
        Skipped(backend="openai", model="gpt-4o", reason="over budget (team): …", budget="team"),
        Skipped(backend="x", model="y", reason="has an open breaker"),
    )
    granted = Granted(
        tenant="acme", job="j-1", n=1, verdict="candidate", backend="small", model="mini", skipped=skipped, at=T0
    )
    (met,) = met_of(made, granted)
    assert (met.backend, met.kind, met.budget, met.passed_over) == ("openai", "budget", "team", True)
