from __future__ import annotations

import asyncio
from pathlib import Path

from scenarios.bench.reserve import measure_reservations


def test_reservations_are_measured_beside_a_publish(tmp_path: Path) -> None:
    figures = asyncio.run(measure_reservations(tmp_path, blocks=1, size=5, load=20))
    assert figures.keys() == {
        "reserve.p50_us", "reserve.p99_us", "reserve.publish.p50_us", "reserve.three_per_scope_us", "reserve.per_second",
        "ratio.reserve_to_publish",
    }  # fmt: skip
    assert all(value > 0 for value in figures.values())
