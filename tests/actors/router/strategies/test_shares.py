from __future__ import annotations

import pytest

from actors.router.strategies.classes import adaptive_weighted, quality_based
from actors.router.strategies.shares import by_shares, usage_based
from tests.actors.router.strategies.rows import case, order, play, row

CODE = {"ollama": 0.3, "vllm-qwen": 0.5, "ollama_cloud": 0.2}
CREATIVE = {"ollama": 0.7, "ollama_cloud": 0.3}
"""The shares of seed 004_e1662a726daf0a45.txt, "Load Balancing Architecture"."""


@pytest.mark.parametrize("shares", [CODE, CREATIVE])
@pytest.mark.parametrize("strategy", [adaptive_weighted, quality_based, usage_based])
def test_traffic_converges_to_the_seeds_shares(strategy, shares: dict[str, float]) -> None:
    """Seed 004_e1662a726daf0a45.txt: 30/50/20 for code, 70/30 for creative work, where the class is unknown."""
    rows = [row(name) for name in shares]
    where = case(plan={"shares": shares, "pool": tuple(shares)}, needs={"complexity": "unknown"})
    counted = play(strategy, rows, where, jobs=4_000, window=1_000)
    for name, share in shares.items():
        assert counted[name] / 1_000 == pytest.approx(share, abs=0.02)


def test_the_backends_of_one_member_share_its_part() -> None:
    rows = [row("a/x"), row("b/x"), row("c/y")]
    where = case(plan={"shares": {"x": 0.5, "y": 0.5}}, needs={"complexity": "unknown"})
    counted = play(adaptive_weighted, rows, where, jobs=1_000, window=500)
    assert counted["c"] == pytest.approx(250, abs=5)
    fair = play(usage_based, rows, where, jobs=1_000, window=500)
    assert (fair["a"], fair["b"], fair["c"]) == pytest.approx((125, 125, 250), abs=3)


def test_shares_of_who_is_gone_are_spread_over_the_others() -> None:
    rows = [row("vllm-qwen"), row("ollama_cloud")]
    where = case(plan={"shares": CODE}, needs={"complexity": "unknown"})
    counted = play(adaptive_weighted, rows, where, jobs=2_000, window=700)
    assert counted["vllm-qwen"] == pytest.approx(500, abs=10)


def test_a_saturated_members_share_goes_to_the_overflow_alone() -> None:
    rows = [row("ollama", saturated=True), row("vllm-qwen"), row("ollama_cloud")]
    plan = {"shares": CODE, "overflow": ("ollama_cloud",)}
    where = case(plan=plan, needs={"complexity": "unknown"})
    counted = play(adaptive_weighted, rows, where, jobs=3_000, window=1_000)
    assert counted["ollama"] == 0
    assert counted["vllm-qwen"] == pytest.approx(500, abs=10)
    assert counted["ollama_cloud"] == pytest.approx(500, abs=10)


def test_what_the_saturated_one_did_counts_for_the_overflow_so_that_nothing_jumps() -> None:
    used = {"ollama": 300.0, "vllm-qwen": 500.0, "ollama_cloud": 200.0}
    rows = [row(name, used=count, saturated=name == "ollama") for name, count in used.items()]
    where = case(plan={"shares": CODE, "overflow": ("ollama_cloud",)}, needs={"complexity": "unknown"})
    scored = by_shares(rows, where, [0.0] * 3)
    assert scored is not None
    assert scored.parts == [(0.0, 0.0), (0.5, 0.5), (0.5, 0.5)]


def test_an_overflow_without_a_share_takes_over_and_the_rest_waits_behind() -> None:
    rows = [row("a", saturated=True), row("b", saturated=True), row("cloud"), row("other")]
    plan = {"shares": {"a": 0.5, "b": 0.5}, "overflow": ("dear", "cloud"), "pool": ("other", "a", "b", "cloud")}
    scored = adaptive_weighted(rows, case(plan=plan, needs={"complexity": "unknown"}))
    assert order(rows, scored) == ["cloud", "a", "b", "other"]
    half = [row("a", saturated=True), row("b"), row("cloud"), row("other")]
    counted = play(adaptive_weighted, half, case(plan=plan, needs={"complexity": "unknown"}), jobs=800, window=400)
    assert counted == pytest.approx({"b": 200, "cloud": 200}, abs=2)


def test_when_all_are_saturated_the_shares_decide_again() -> None:
    rows = [row("a", saturated=True), row("b", saturated=True)]
    plan = {"shares": {"a": 0.25, "b": 0.75}, "overflow": ("b",)}
    counted = play(adaptive_weighted, rows, case(plan=plan, needs={"complexity": "unknown"}), jobs=800, window=400)
    assert counted == pytest.approx({"a": 100, "b": 300}, abs=2)


def test_a_free_backend_of_a_member_comes_before_its_saturated_one() -> None:
    rows = [row("a/x", saturated=True), row("b/x", queue=9.0), row("c/y", used=100.0)]
    scored = adaptive_weighted(rows, case(plan={"shares": {"x": 0.5, "y": 0.5}}, needs={"complexity": "unknown"}))
    assert order(rows, scored) == ["b", "c", "a"]


def test_usage_is_equal_without_shares_and_ties_go_by_the_pool() -> None:
    """Seed 004_e1662a726daf0a45.txt: "creative -> usage_based" and "chat -> usage_based" give pools without shares."""
    rows = [row("a"), row("b"), row("c"), row("stranger")]
    where = case(plan={"pool": ("c", "a", "b")})
    assert order(rows, usage_based(rows, where)) == ["c", "a", "b", "stranger"]
    counted = play(usage_based, rows, where, jobs=900, window=300)
    assert counted == pytest.approx({"a": 100, "b": 100, "c": 100}, abs=2)
    everybody = play(usage_based, rows, case(), jobs=800, window=400)
    assert everybody == pytest.approx({"a": 100, "b": 100, "c": 100, "stranger": 100}, abs=2)


def test_no_shares_or_nobody_of_them_here_means_no_answer() -> None:
    rows = [row("a")]
    assert by_shares(rows, case(), [0.0]) is None
    assert by_shares(rows, case(plan={"shares": {"b": 1.0}}), [0.0]) is None
    assert by_shares(rows, case(plan={"shares": {"a": 0.0}}), [0.0]) is None
