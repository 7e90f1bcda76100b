"""The benchmark: its arithmetic, and one tiny real run that yields every figure that is promised."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.bus import Record
from scenarios.bench.__main__ import measure
from scenarios.bench.figures import alternate, percentile, rate, report, timed
from scenarios.bench.floor import STAGES, bodies_of

PROMISED = (
    "floor.publish_ack.p50_us",
    "floor.four_writes.p50_us",
    "floor.chain.p50_us",
    "job.p50_us",
    "job.p99_us",
    "jobs_per_second",
)


# Arithmetic.


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles_of_a_hundred(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_percentile_occurred_and_grows_with_its_share(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert percentile(values, low) in values
    assert percentile(values, low) <= percentile(values, high)
    assert sum(value < percentile(values, low) for value in values) <= low * len(values)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


# Repetitions.


def test_steps_take_turns_after_a_warm_up_that_does_not_count() -> None:
    order: list[tuple[str, int]] = []

    async def first(number: int) -> None:
        order.append(("first", number))

    async def second(number: int) -> None:
        order.append(("second", number))

    found = asyncio.run(alternate({"first": first, "second": second}, blocks=2, size=2, warm_up=1))
    assert order == [
        ("first", -1), ("second", -1),
        ("first", 0), ("first", 1), ("second", 0), ("second", 1),
        ("first", 2), ("first", 3), ("second", 2), ("second", 3),
    ]  # fmt: skip
    assert {name: len(seconds) for name, seconds in found.items()} == {"first": 4, "second": 4}
    assert all(second >= 0 for seconds in found.values() for second in seconds)


def test_a_rate_keeps_as_many_in_flight_as_it_may_and_runs_each_once() -> None:
    running, most = 0, 0
    ran: Counter[int] = Counter()

    async def step(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        ran[number] += 1
        await asyncio.sleep(0)
        running -= 1

    assert asyncio.run(rate(step, range(10, 60), 7)) > 0
    assert (most, running) == (7, 0)
    assert ran == Counter(range(10, 60))


def test_a_failing_repetition_fails_the_run() -> None:
    async def step(number: int) -> None:
        if number == 3:
            raise TimeoutError("no end")

    for measured in (timed(step, range(5)), rate(step, range(5), 2)):
        with pytest.raises(TimeoutError):
            asyncio.run(measured)


# What comes out.


def test_a_report_is_one_flat_object_and_a_table(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench.json"
    table = report({"job.p50_us": 1234.5678, "jobs_per_second": 1_000_000.0}, out)
    assert json.loads(out.read_text(encoding="utf-8")) == {"job.p50_us": 1234.5678, "jobs_per_second": 1_000_000.0}
    assert table.splitlines() == [
        "job.p50_us             1,234.57",
        "jobs_per_second    1,000,000.00",
    ]  # fmt: skip


def test_the_floor_takes_its_bodies_from_one_whole_job() -> None:
    stored = [stage for stage in STAGES if stage not in {"submit", "work"}]
    records = [
        Record(subject=f"ev.{stage}.bench.j", seq=number, data=stage.encode(), headers={}, time=0.0)
        for number, stage in enumerate(stored)
    ]
    bodies = bodies_of(records, b"submit")
    assert bodies == {stage: stage.encode() for stage in STAGES} | {"work": b"decided"}
    with pytest.raises(ValueError, match="no example of analyzed"):
        bodies_of([record for record in records if ".analyzed." not in record.subject], b"submit")


def test_a_tiny_run_yields_every_promised_figure(tmp_path: Path) -> None:
    figures = asyncio.run(measure(tmp_path, blocks=1, size=5, load=20))
    assert set(PROMISED) <= set(figures)
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
