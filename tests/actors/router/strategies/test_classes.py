from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.strategies.classes import adaptive_weighted, complexity_based, quality_based
from tests.actors.router.strategies.rows import case, order, row

CODE = {
    "pool": ("qwen3-coder:480b", "qwen-coder-vllm", "qwen2.5-coder:7b"),
    "classes": {"simple": ("qwen2.5-coder:7b",), "medium": ("qwen-coder-vllm",), "complex": ("qwen3-coder:480b",)},
    "shares": {"qwen2.5-coder:7b": 0.3, "qwen-coder-vllm": 0.5, "qwen3-coder:480b": 0.2},
    "overflow": ("qwen3-coder:480b",),
}
CREATIVE = {
    "classes": {"standard": ("mythomax-l2-13b",), "high": ("gpt-oss:120b-cloud",)},
    "shares": {"mythomax-l2-13b": 0.7, "gpt-oss:120b-cloud": 0.3},
    "overflow": ("gpt-oss:120b-cloud",),
}
"""Code and creative work as in seed 004_e1662a726daf0a45.txt, "Load Balancing Architecture"."""


def code(**saturated: bool):
    return [
        row("ollama/qwen2.5-coder:7b", saturated=saturated.get("ollama", False), used=500.0),
        row("vllm/qwen-coder-vllm", saturated=saturated.get("vllm", False)),
        row("cloud/qwen3-coder:480b", saturated=saturated.get("cloud", False)),
        row("other"),
    ]


@pytest.mark.parametrize("strategy", [complexity_based, adaptive_weighted])
@pytest.mark.parametrize(
    ("complexity", "expected"),
    [
        ("simple", ["ollama", "cloud", "vllm", "other"]),
        ("medium", ["vllm", "cloud", "ollama", "other"]),
        ("complex", ["cloud", "vllm", "ollama", "other"]),
    ],
)
def test_the_class_picks_the_pool(strategy, complexity: str, expected: list[str]) -> None:
    """Seed 004_e1662a726daf0a45.txt: simple to ollama, medium to vLLM, complex to the cloud."""
    rows = code()
    assert order(rows, strategy(rows, case(plan=CODE, needs={"complexity": complexity}))) == expected


@pytest.mark.parametrize("strategy", [complexity_based, adaptive_weighted])
def test_a_saturated_class_overflows_to_the_cloud(strategy) -> None:
    """Seed 004_e1662a726daf0a45.txt: "Saturation: 80% capacity -> overflow to cloud"."""
    rows = code(vllm=True)
    assert order(rows, strategy(rows, case(plan=CODE, needs={"complexity": "medium"}))) == [
        "cloud", "vllm", "ollama", "other"
    ]  # fmt: skip
    everybody = code(vllm=True, cloud=True)
    assert order(everybody, strategy(everybody, case(plan=CODE, needs={"complexity": "medium"})))[0] == "vllm"


def test_a_free_member_of_the_class_comes_before_the_overflow() -> None:
    rows = [row("a", saturated=True), row("b"), row("cloud"), row("first")]
    plan = {"classes": {"simple": ("a", "b")}, "overflow": ("cloud",), "pool": ("first", "a", "b", "cloud")}
    assert order(rows, complexity_based(rows, case(plan=plan))) == ["b", "cloud", "a", "first"]


def test_overflow_keeps_its_place_while_nobody_is_saturated() -> None:
    rows = [row("a"), row("cloud"), row("first")]
    plan = {"classes": {"simple": ("a",)}, "overflow": ("cloud",), "pool": ("first", "cloud")}
    assert order(rows, complexity_based(rows, case(plan=plan))) == ["a", "first", "cloud"]


def test_complexity_without_members_is_the_pools_order() -> None:
    rows = code()
    assert order(rows, complexity_based(rows, case(plan=CODE, needs={"complexity": "high"})))[:3] == [
        "cloud", "vllm", "ollama"
    ]  # fmt: skip


def test_shares_decide_when_the_class_is_unknown_or_its_members_are_gone() -> None:
    unknown = case(plan=CODE, needs={"complexity": "unknown"})
    assert order(code(), adaptive_weighted(code(), unknown)) == ["vllm", "cloud", "ollama", "other"]
    without = [r for r in code() if r.backend != "vllm"]
    medium = case(plan=CODE, needs={"complexity": "medium"})
    assert order(without, adaptive_weighted(without, medium)) == ["cloud", "ollama", "other"]


def test_without_shares_an_unknown_class_may_have_members_of_its_own() -> None:
    rows = [row("a"), row("b")]
    plan = {"classes": {"unknown": ("b",)}, "pool": ("a", "b")}
    where = case(plan=plan, needs={"complexity": "unknown"})
    assert order(rows, adaptive_weighted(rows, where)) == ["b", "a"]
    assert order(rows, quality_based(rows, where)) == ["b", "a"]


@pytest.mark.parametrize(
    ("complexity", "full", "expected"),
    [
        ("standard", False, ["ollama", "cloud"]),
        ("high", False, ["cloud", "ollama"]),
        ("standard", True, ["cloud", "ollama"]),
    ],
)
def test_creative_work_by_class(complexity: str, full: bool, expected: list[str]) -> None:
    """Seed 004_e1662a726daf0a45.txt: standard to ollama, high or long to the cloud, with overflow."""
    rows = [row("ollama/mythomax-l2-13b", saturated=full), row("cloud/gpt-oss:120b-cloud")]
    assert order(rows, quality_based(rows, case(plan=CREATIVE, needs={"complexity": complexity}))) == expected


def test_quality_is_the_tier_then_the_rating_then_the_time() -> None:
    rows = [
        row("tier2", known={"quality_tier": 2}, rating=5.0, ratings=1_000.0),
        row("good", known={"quality_tier": 4}, rating=4.5, ratings=50.0, service_seconds=90.0),
        row("quick", known={"quality_tier": 4}),
        row("slow", known={"quality_tier": 4}, wait_seconds=30.0),
        row("bad", known={"quality_tier": 4}, rating=1.5, ratings=50.0),
    ]
    assert order(rows, quality_based(rows, case())) == ["good", "quick", "slow", "bad", "tier2"]


def test_one_rating_weighs_less_than_many() -> None:
    rows = [row("once", rating=5.0, ratings=1.0), row("often", rating=4.5, ratings=100.0), row("never")]
    assert order(rows, quality_based(rows, case())) == ["often", "once", "never"]
    assert quality_based(rows[:1], case()).scores[0] == pytest.approx(1_000 + 333 + 1, abs=0.01)


@given(st.integers(1, 5), st.integers(1, 5), st.floats(1, 5), st.floats(1, 5), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_higher_tier_always_wins(one: int, other: int, r1: float, r2: float, s1: float, s2: float) -> None:
    rows = [
        row("a", known={"quality_tier": one}, rating=r1, ratings=9.0, service_seconds=s1),
        row("b", known={"quality_tier": other}, rating=r2, ratings=9.0, service_seconds=s2),
    ]
    first, second = quality_based(rows, case()).scores
    assert (first > second) == (one > other) or one == other
