"""Percentiles, alternation and the report of a benchmark run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter

Step = Callable[[int], Awaitable[None]]
"""One repetition, by number."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def timed(step: Step, numbers: range) -> list[float]:
    """Seconds of each repetition, one after the other."""
    seconds: list[float] = []
    for number in numbers:
        began = perf_counter()
        await step(number)
        seconds.append(perf_counter() - began)
    return seconds


async def rate(step: Step, numbers: range, in_flight: int) -> float:
    """Repetitions per second with so many in flight."""
    free = asyncio.Semaphore(in_flight)

    async def one(number: int) -> None:
        async with free:
            await step(number)

    began = perf_counter()
    await asyncio.gather(*(one(number) for number in numbers))
    return len(numbers) / (perf_counter() - began)


async def alternate(steps: dict[str, Step], *, blocks: int, size: int, warm_up: int) -> dict[str, list[float]]:
    """Seconds of several steps, in blocks by turns, so that a busy neighbour meets them all alike."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        await timed(step, range(-warm_up, 0))
    for block in range(blocks):
        for name, step in steps.items():
            found[name] += await timed(step, range(block * size, (block + 1) * size))
    return found


def report(figures: dict[str, float], path: Path) -> str:
    """Write the figures as one flat JSON object, and give them as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    width = max(len(name) for name in figures)
    return "\n".join(f"{name:<{width}}  {value:>14,.2f}" for name, value in figures.items())
