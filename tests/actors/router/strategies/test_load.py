from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.router.strategies.load import cost_first, fastest_response, latency_first, least_loaded
from tests.actors.router.strategies.rows import FIGURES, case, order, row


def test_cost_first_takes_the_cheapest_and_then_the_quickest() -> None:
    rows = [row("dear", price_microdollars=2.0), row("slow", wait_seconds=9e9), row("quick")]
    assert order(rows, cost_first(rows, case())) == ["quick", "slow", "dear"]


def test_latency_first_counts_wait_and_switch() -> None:
    rows = [
        row("a", service_seconds=10.0),
        row("b", service_seconds=5.0, wait_seconds=6.0),
        row("c", service_seconds=5.0, switch_seconds=7.0),
        row("d", service_seconds=10.0, price_microdollars=5_000.0),
    ]
    assert order(rows, latency_first(rows, case())) == ["a", "d", "b", "c"]


def test_fastest_response_counts_to_the_first_token() -> None:
    rows = [
        row("a", first_token_seconds=0.5, service_seconds=60.0),
        row("b", first_token_seconds=0.2, wait_seconds=1.0),
        row("c", first_token_seconds=0.5, service_seconds=30.0),
        row("d", first_token_seconds=0.2, switch_seconds=2.0),
    ]
    assert order(rows, fastest_response(rows, case())) == ["c", "a", "b", "d"]


def test_least_loaded_counts_jobs_per_slot() -> None:
    """Seed 004_e1662a726daf0a45.txt: "high_throughput -> least_loaded"."""
    rows = [
        row("small", known={"slots": 1}, ahead=1.0),
        row("large", known={"slots": 16}, ahead=8.0),
        row("none", known={"slots": 0}, ahead=2.0),
        row("idle", service_seconds=60.0),
        row("quick", service_seconds=1.0),
    ]
    assert order(rows, least_loaded(rows, case())) == ["quick", "idle", "large", "small", "none"]


WORSE = {
    cost_first: ("price_microdollars", "service_seconds", "wait_seconds", "switch_seconds"),
    latency_first: ("price_microdollars", "service_seconds", "wait_seconds", "switch_seconds"),
    fastest_response: ("first_token_seconds", "service_seconds", "wait_seconds", "switch_seconds"),
    least_loaded: ("ahead", "service_seconds", "wait_seconds", "switch_seconds"),
}


@given(st.data(), st.sampled_from(sorted(WORSE, key=lambda s: s.__name__)), FIGURES, st.floats(0, 1e4))
def test_worse_figures_never_score_better(
    data: st.DataObject, score: Any, figures: dict[str, Any], more: float
) -> None:
    which = data.draw(st.sampled_from(WORSE[score]))
    better, worse = score([row(**figures), row(**{**figures, which: figures[which] + more})], case()).scores
    assert worse <= better
