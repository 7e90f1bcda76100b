"""The figures of the console's start are there, and whole processes were run for them."""

from __future__ import annotations

from scenarios.bench.start import measure_starts


def test_every_way_is_measured() -> None:
    figures = measure_starts(rounds=1)
    assert set(figures) == {"floor.python_pass_ms", "ratio.version_to_pass", "ratio.help_to_pass"}
    assert all(value > 0 for value in figures.values())
