"""The benchmark of decisions: its fleets are what they claim, and every promised figure comes out."""

from __future__ import annotations

import gc
import math

import pytest

from actors.router.decide import decide
from scenarios.bench.decide import NOW, SIZES, STRATEGIES, fleet, job, measure_decisions


@pytest.mark.parametrize("size", [3, 10, 100])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_of_a_fleet_is_ranked_by_the_strategy(size: int, strategy: str) -> None:
    view = fleet(size)
    made = decide(job(0, strategy), n=1, attempts=(), excluded=(), view=view, now=NOW)
    assert (made.decided.strategy, len(made.ranking)) == (strategy, size)
    features = [row.features for row in made.ranking]
    assert any(f.runs > 0 for f in features)
    assert any(f.ahead > 0 for f in features)
    assert len({row.score for row in made.ranking}) > size // 2


def test_every_promised_figure_comes_out_and_the_collector_is_as_before() -> None:
    before = gc.get_threshold()
    figures = measure_decisions(blocks=1, decisions=100)
    names = {
        f"decide.{strategy}.{size}.{label}_us" for strategy in STRATEGIES for size in SIZES for label in ("p50", "p99")
    }
    assert set(figures) == names
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
