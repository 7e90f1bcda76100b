from __future__ import annotations

import pytest

from actors.router.strategies.order import context_based, direct, manual, most_capacity, pool_order
from tests.actors.router.strategies.rows import case, order, row

REASONING = ("deepseek-v3.1:671b", "kimi-k2:1t", "llama3.1")
"""The pool "reasoning: direct" of seed 004_e1662a726daf0a45.txt."""


def test_manual_is_the_pool_and_then_the_priority_whatever_is_measured() -> None:
    rows = [
        row("a", known={"priority": 3}, service_seconds=0.1),
        row("b", known={"priority": 2}, price_microdollars=1e6),
        row("c", known={"priority": 9}, service_seconds=900.0, saturated=True, queue=99.0),
    ]
    assert order(rows, manual(rows, case(plan={"pool": ("c",)}))) == ["c", "b", "a"]
    assert order(rows, manual(rows, case())) == ["b", "a", "c"]


def test_pool_order_puts_those_outside_last_by_weighted_score() -> None:
    rows = [row("a", known={"priority": 3}), row("b"), row("c/late"), row("d/first", service_seconds=900.0)]
    assert order(rows, pool_order(rows, case(plan={"pool": ("first", "late")}))) == ["d", "c", "b", "a"]


def test_pool_order_takes_the_best_of_the_backends_that_serve_one_member() -> None:
    rows = [row("a/x", queue=9.0), row("b/x"), row("c/y")]
    assert order(rows, pool_order(rows, case(plan={"pool": ("x", "y")}))) == ["b", "a", "c"]


def test_a_great_multiplier_does_not_outweigh_a_place() -> None:
    rows = [row("a"), row("b", known={"multiplier": 1e6})]
    assert order(rows, pool_order(rows, case(plan={"pool": ("a", "b")}))) == ["a", "b"]


def test_direct_heeds_no_load() -> None:
    """Seed 004_e1662a726daf0a45.txt: "reasoning -> direct"."""
    rows = [
        row("local", known={"names": ("llama3.1",)}),
        row("cloud/deepseek-v3.1:671b", ahead=50.0, queue=46.0, wait_seconds=300.0, saturated=True),
        row("cloud2/kimi-k2:1t"),
    ]
    assert order(rows, direct(rows, case(plan={"pool": REASONING}))) == ["cloud", "cloud2", "local"]
    twice = [row("a/x", service_seconds=3.0), row("b/x", service_seconds=2.0, wait_seconds=99.0)]
    assert order(twice, direct(twice, case(plan={"pool": ("x",)}))) == ["b", "a"]


def test_context_based_follows_the_pool_among_those_with_room() -> None:
    """Seed 004_e1662a726daf0a45.txt: "analytical -> context_based"."""
    rows = [
        row("small", known={"context_tokens": 4_096}),
        row("large", known={"context_tokens": 131_072}),
        row("largest", known={"context_tokens": 1_000_000}),
        row("unknown"),
    ]
    plan = {"pool": ("small", "unknown", "large", "largest")}
    short = case(plan=plan, needs={"input_tokens": 1_000, "max_output_tokens": 1_000})
    assert order(rows, context_based(rows, short)) == ["small", "large", "largest", "unknown"]
    long = case(plan=plan, needs={"input_tokens": 20_000, "max_output_tokens": 2_000})
    assert order(rows, context_based(rows, long)) == ["large", "largest", "small", "unknown"]


@pytest.mark.parametrize(("context", "enough"), [(2_499, False), (2_500, True)])
def test_a_quarter_of_headroom_is_asked_for(context: int, enough: bool) -> None:
    rows = [row("a", known={"context_tokens": context}), row("b", known={"context_tokens": 1_000_000})]
    where = case(plan={"pool": ("a", "b")}, needs={"input_tokens": 1_000, "max_output_tokens": 1_000})
    assert order(rows, context_based(rows, where)) == (["a", "b"] if enough else ["b", "a"])


def test_a_models_own_output_limit_leaves_more_room() -> None:
    rows = [
        row("a", known={"context_tokens": 2_000, "max_output_tokens": 500}),
        row("b", known={"context_tokens": 9_999}),
    ]
    where = case(plan={"pool": ("a", "b")}, needs={"input_tokens": 1_000, "max_output_tokens": 1_000})
    assert order(rows, context_based(rows, where)) == ["a", "b"]


def test_most_capacity_is_the_largest_context_and_then_free_slots() -> None:
    rows = [
        row("unknown", known={"slots": 99}),
        row("small", known={"context_tokens": 8_192}),
        row("busy", known={"context_tokens": 131_072}, ahead=6.0),
        row("free", known={"context_tokens": 131_072}, ahead=1.0),
    ]
    assert order(rows, most_capacity(rows, case())) == ["free", "busy", "small", "unknown"]
