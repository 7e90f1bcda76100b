"""How long one decision takes: `decide()` alone, over fleets of several sizes with loads and measurements."""

from __future__ import annotations

import gc
from time import perf_counter

import msgspec

from actors import node
from actors.router.decide import decide
from actors.router.view import View
from messages import Backend, Load, Model, Needs, Price, Slip, Stats
from scenarios.bench.figures import percentile

STRATEGIES = ("weighted_score", "expected_cost")
SIZES = (3, 10, 100, 1_000)
NOW = 1_767_225_600.0
"""The clock of all decisions: 2026-01-01T00:00:00Z."""
BLOCKS = 5
DECISIONS = 200_000
"""Candidates looked at per block, whatever the size of the fleet."""


def fleet(size: int) -> View:
    """So many backends with one model each: every third in the cloud, every second measured, all loaded."""
    view = View(node.routing({})[0])
    for number in range(size):
        name, model = f"b-{number:04}", f"bench-{number % 7}b"
        cloud = number % 3 == 0
        price = Price(input_per_mtok=100_000 * (number % 5), output_per_mtok=400_000) if cloud else Price()
        served = Model(
            name=model, capabilities=("text", "json", "tools"), context_tokens=32_768, max_output_tokens=4_096,
            price=price, quality_tier=1 + number % 5, tokens_per_second=20.0 + number % 40, first_token_seconds=0.3,
            parameters_billion=8.0, vram_mb=None if cloud else 9_000, swap_seconds=None if cloud else 8.0,
        )  # fmt: skip
        view.learn_backend(
            Backend(
                backend=name, protocol="openai", local=not cloud, provider="bench" if cloud else "",
                priority=1 + number % 3, slots=4, executors=("bench",), models=(served,),
                vram_total_mb=None if cloud else 24_000, healthy=True, at=NOW,
            )
        )  # fmt: skip
        loaded = () if cloud else (model if number % 2 else "another",)
        view.learn_load(Load(backend=name, waiting=number % 3, running=number % 5, loaded=loaded, at=NOW - 0.1))
        if number % 2:
            view.learn_stats(
                Stats(
                    backend=name, model=model, scope="-", attempts=40, successes=39, weight=18.0,
                    latency_seconds=1.0 + number % 6, latency_spread=0.4, first_token_seconds=0.3,
                    tokens_per_second=40.0, output_tokens=180.0, input_ratio=1.05, failure_rate=0.02, at=NOW - 20.0,
                )
            )  # fmt: skip
    return view


def job(number: int, strategy: str) -> Slip:
    """An ordinary job of text."""
    needs = Needs(
        task="high_throughput", quality="standard", complexity="medium", complexity_score=30.0, input_tokens=240,
        max_output_tokens=1_024, output_tokens=512, capabilities=("text",), strategy=strategy,
    )  # fmt: skip
    return Slip(
        tenant="bench", job=f"d{number}", submitted_at=NOW, deadline_at=NOW + 600.0, input_seq=number + 1, needs=needs,
        input=msgspec.Raw(b'{"prompt":"hello"}'),
    )  # fmt: skip


def seconds_of(view: View, strategy: str, count: int) -> list[float]:
    """Seconds of each of so many decisions."""
    found: list[float] = []
    for number in range(count):
        slip = job(number, strategy)
        began = perf_counter()
        decide(slip, n=1, attempts=(), excluded=(), view=view, now=NOW)
        found.append(perf_counter() - began)
    return found


def measure_decisions(*, blocks: int = BLOCKS, decisions: int = DECISIONS) -> dict[str, float]:
    """p50 and p99 of a decision in microseconds, by strategy and number of backends.

    The collector is told what a node tells it. Strategies and sizes take turns, and the block with the least p99 counts: a busy
    neighbour only ever adds.
    """
    views = {size: fleet(size) for size in SIZES}
    thresholds = gc.get_threshold()
    node.spare_collector()
    figures: dict[str, float] = {}
    try:
        for _ in range(blocks):
            for strategy in STRATEGIES:
                for size, view in views.items():
                    count = max(10, min(2_000, decisions // size))
                    seconds_of(view, strategy, count // 10)
                    seconds = seconds_of(view, strategy, count)
                    for label, share in (("p50", 0.5), ("p99", 0.99)):
                        name, found = f"decide.{strategy}.{size}.{label}_us", percentile(seconds, share) * 1e6
                        figures[name] = min(found, figures.get(name, found))
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
    return figures
