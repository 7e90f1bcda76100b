from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scenarios.bench.burst import Burst, measure_bursts


def test_the_last_end_counts_and_the_first_to_end_tells_how_far_they_are_apart() -> None:
    burst = Burst(jobs=6, ends={"a": [1.0, 2.0, 4.0, 3.0], "b": [1.0, 3.0]})
    assert (burst.per_second, burst.ends_apart, burst.fewest_to_most) == (1.5, 0.25, 0.5)
    assert Burst(jobs=2, ends={"a": [2.0], "b": [2.0]}).ends_apart == 0.0
    idle = Burst(jobs=2, ends={"a": [1.0, 2.0], "b": []})
    assert (idle.ends_apart, idle.fewest_to_most, idle.per_second) == (1.0, 0.0, 1.0)


def test_a_tiny_burst_is_measured_on_processes_of_its_own(tmp_path: Path) -> None:
    figures = asyncio.run(measure_bursts(tmp_path, jobs=12, seconds=0.1, sizes=(1, 2, 4)))
    assert figures.keys() == {
        "burst.backends_1.jobs_per_second", "burst.backends_1.speedup",
        *(f"burst.{fleet}.{figure}" for fleet in ("backends_2", "backends_4", "measured")
          for figure in ("ends_apart", "fewest_to_most")),
        "burst.backends_2.speedup", "burst.backends_4.speedup",
    }  # fmt: skip
    assert figures["burst.backends_1.speedup"] == 1.0
    assert all(value > 0 for name, value in figures.items() if "ends_apart" not in name)
    assert figures["burst.backends_4.fewest_to_most"] == pytest.approx(1.0, abs=0.5)
