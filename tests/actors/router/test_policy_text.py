from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.router.policyfile import differences, load_policy, to_toml
from actors.router.strategies.registry import STRATEGIES
from messages.policies import (
    AdaptiveRules,
    AnalysisRules,
    BackendRule,
    CatalogueEntry,
    Change,
    CostRules,
    FailoverRules,
    Match,
    Policy,
    Preset,
    Rule,
    Weights,
)
from messages.values import Quality

NAMES = st.one_of(st.sampled_from(["a", "llama3.1:8b", "gpt-oss:120b-cloud", "gpu-1"]), st.text(min_size=1, max_size=6))
LISTS = st.lists(NAMES, max_size=3, unique=True).map(tuple)
SHARES = st.floats(0, 0.25)
NOT_NEGATIVE = st.one_of(st.floats(0, 1e12), st.integers(0, 10**9).map(float))
POSITIVE = NOT_NEGATIVE.filter(bool)
WHOLE = st.integers(1, 2**53)
CHANGE: dict[str, Any] = {
    name: st.none() | WHOLE for name in ("max_output_tokens", "steps", "width", "height", "frames")
}
VARIANTS = st.dictionaries(NAMES, NAMES, max_size=2).map(lambda d: {k: v for k, v in d.items() if k != v})
CHANGES = st.builds(Change, **CHANGE, variants=VARIANTS)
PRESETS = st.builds(
    Preset, **CHANGE, variants=VARIANTS, backends=st.dictionaries(NAMES, CHANGES, max_size=2)
)  # fmt: skip
WAITS = st.none() | st.lists(NOT_NEGATIVE, max_size=3).map(tuple)
FAILOVERS = st.builds(FailoverRules, max_attempts=st.none() | WHOLE, waits_seconds=WAITS)
QUALITIES: st.SearchStrategy[Quality] = st.sampled_from(["draft", "standard", "final"])
MATCHES = st.builds(
    Match,
    quality=st.lists(QUALITIES, unique=True).map(tuple),
    role=LISTS, mode=LISTS, product=LISTS, tenant=LISTS, node_type=LISTS, capability=LISTS,
)  # fmt: skip


@st.composite
def rules(draw: st.DrawFn, name: str) -> Rule:
    pool = draw(LISTS)
    members = st.sampled_from(pool) if pool else st.nothing()
    some = st.lists(members, max_size=2, unique=True).map(tuple) if pool else st.just(())
    fallbacks = draw(st.integers(0, 5))
    requires = draw(LISTS)
    return Rule(
        name=name,
        match=draw(MATCHES),
        strategy=draw(st.sampled_from(["", *STRATEGIES])),
        pool=pool,
        strict=bool(pool) and draw(st.booleans()),
        fallbacks=fallbacks,
        classes=draw(st.dictionaries(st.sampled_from(["simple", "high", "unknown"]), some, max_size=2)),
        shares=draw(st.dictionaries(members, SHARES, max_size=3)) if pool else {},
        overflow=draw(some),
        requires=requires,
        prefers=tuple(name for name in draw(LISTS) if name not in requires),
        required_fields=draw(LISTS),
        max_attempts=draw(st.none() | st.integers(1 + fallbacks, 9)),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    until = draw(st.none() | st.floats(0, 0.5))
    chains = draw(st.dictionaries(NAMES, LISTS, max_size=2))
    entry = st.builds(
        CatalogueEntry,
        model=st.text(max_size=4), base_url=st.text(max_size=4), backend=st.text(max_size=4), capabilities=LISTS,
        context_tokens=st.none() | st.just(2**53), max_output_tokens=st.none() | WHOLE,
        quality_tier=st.none() | st.integers(1, 5), parameters_billion=st.none() | POSITIVE,
        roles=LISTS, vram_mb=st.none() | WHOLE,
    )  # fmt: skip
    return Policy(
        policy=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)),
        version=draw(st.integers(0, 9)),
        order=draw(st.integers(-5, 99)),
        source=draw(st.text(max_size=20)),
        applied_at=draw(NOT_NEGATIVE),
        applied_by=draw(st.text(max_size=4)),
        removed=draw(st.booleans()),
        enabled=draw(st.none() | st.booleans()),
        fixed_order=draw(LISTS),
        strategy=draw(st.sampled_from(["", *STRATEGIES])),
        failover=draw(st.none() | FAILOVERS),
        weights=draw(st.none() | st.builds(Weights, cost=NOT_NEGATIVE, fast_seconds=st.floats(0.1, 19))),
        adaptive=draw(st.none() | st.builds(AdaptiveRules, epsilon=SHARES)),
        cost=draw(st.none() | st.builds(CostRules, spread=POSITIVE)),
        analysis=draw(st.none() | st.builds(AnalysisRules, output_share=SHARES)),
        saturated_at=draw(st.none() | st.floats(0.6, 1)),
        saturated_until=until,
        window_seconds=draw(st.none() | POSITIVE),
        rules=tuple(draw(rules(name)) for name in names),
        chains={head: tuple(name for name in chain if name != head) for head, chain in chains.items()},
        models=draw(st.dictionaries(NAMES, entry, max_size=2)),
        backends=draw(st.dictionaries(NAMES, st.builds(BackendRule, multiplier=NOT_NEGATIVE), max_size=2)),
        presets=draw(st.dictionaries(QUALITIES, PRESETS, max_size=2)),
        degrade=draw(st.dictionaries(NAMES, st.sampled_from(["shorten", "plain_text"]), max_size=2)),
    )  # fmt: skip


@settings(max_examples=50)
@given(policies())
def test_what_is_shown_can_be_loaded_again(policy: Policy) -> None:
    """Text, tree and policy agree, whatever the names hold."""
    text = to_toml(policy)
    again = load_policy(text, "shown.toml", strategies=STRATEGIES)
    assert again == policy
    assert to_toml(again) == text
    assert differences(policy, again) == []


@settings(max_examples=30)
@given(policies(), policies())
def test_equal_policies_and_only_those_have_no_differences(old: Policy, new: Policy) -> None:
    new = msgspec.structs.replace(new, version=old.version, applied_at=old.applied_at, applied_by=old.applied_by)
    assert (differences(old, new) == []) == (to_toml(old) == to_toml(new))
    assert len(differences(old, new)) == len(differences(new, old))


def test_a_policy_reads_well() -> None:
    policy = Policy(
        policy="thrifty",
        weights=Weights(cost=40.0),
        rules=(Rule(name="a", pool=("x",), match=Match(task=("code",))), Rule(name="b")),
        chains={"llama3.1:8b": ("x",)},
    )
    assert to_toml(policy) == (
        'policy = "thrifty"\n\n[weights]\ncost = 40.0\n\n[[rules]]\nname = "a"\npool = ["x"]\n\n[rules.match]\n'
        'task = ["code"]\n\n[[rules]]\nname = "b"\n\n[chains]\n"llama3.1:8b" = ["x"]\n'
    )


def test_differences_name_fields_and_rules() -> None:
    old = Policy(
        policy="p", version=1, strategy="direct", weights=Weights(cost=40.0), rules=(Rule(name="a"), Rule(name="b"))
    )
    new = Policy(
        policy="p", version=2, applied_by="ada", strategy="manual", chains={"llama3.1:8b": ("x", "y")},
        rules=(Rule(name="b", pool=("m",)), Rule(name="a")),
    )  # fmt: skip
    assert differences(old, new) == [
        'strategy: "direct" -> "manual"',
        "weights: given -> nothing",
        "weights.cost: 40.0 -> nothing",
        'rules: ["a", "b"] -> ["b", "a"]',
        'rules[b].pool: nothing -> ["m"]',
        'chains."llama3.1:8b": nothing -> ["x", "y"]',
    ]


def test_a_section_that_holds_only_defaults_is_a_difference() -> None:
    """It speaks first, so the numbers of the next policy no longer hold."""
    plain, dear = Policy(policy="p", weights=Weights()), Policy(policy="p", weights=Weights(cost=40.0))
    assert differences(Policy(policy="p"), plain) == ["weights: nothing -> given"]
    assert differences(plain, dear) == ["weights.cost: nothing -> 40.0"]
