"""Play a trace under every policy and print what it costs. Deterministic: the same file and seed give the same table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Column, Table

from actors.router.shipped import shipped_policies
from scenarios.lab.policies import PEERS, Chooser, Ours, Peer, play
from scenarios.lab.world import LOCAL, Job, Ran, jobs

DEFAULT = "as shipped"
"""No strategy is asked for: what the shipped policies make of it."""
OURS = (
    DEFAULT,
    "expected_cost",
    "weighted_score",
    "cost_first",
    "latency_first",
    "adaptive",
    "least_loaded",
    "fastest_response",
)
"""`manual`, `pool_order` and the others choose by lists that this fleet does not have."""


class Result(msgspec.Struct, frozen=True):
    """What a policy made of a trace."""

    name: str
    dollars: float
    """Value of time and price of all jobs."""
    money: float
    """Price alone, in dollars."""
    p50: float
    p95: float
    """Seconds from arrival to end."""
    local: float
    """Share of jobs on the local GPU."""
    switches: int


def result(name: str, done: Sequence[Ran]) -> Result:
    """The figures of one run. Raises ValueError for an empty one."""
    if not done:
        raise ValueError("the trace has no jobs")
    times = sorted(ran.ended - ran.job.at for ran in done)
    return Result(
        name=name, dollars=sum(ran.cost for ran in done) / 1e6, money=sum(ran.microdollars for ran in done) / 1e6,
        p50=times[len(times) // 2], p95=times[int(len(times) * 0.95)],
        local=sum(ran.backend == LOCAL for ran in done) / len(done), switches=sum(ran.switched for ran in done),
    )  # fmt: skip


def compare(trace: list[Job], names: Sequence[str], *, seed: int = 1, told: bool = True) -> list[Result]:
    """Every named policy on one trace, the cheapest first. `told`: our router hears what a job's time is worth."""
    models = tuple(sorted({job.model for job in trace}))

    def chooser(name: str) -> Chooser:
        if name in PEERS:
            return Peer(name, seed)
        return Ours("" if name == DEFAULT else name, shipped_policies(), models, told=told)

    found = [result(name, play(trace, chooser(name), seed=seed)) for name in names]
    return sorted(found, key=lambda one: one.dollars)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m scenarios.lab", description="Policies on a trace of image jobs.")
    parser.add_argument(
        "trace", type=Path, help="CSV with arrival_s, tenant, task, num_images, steps, has_lora, model, exec_s, status"
    )
    parser.add_argument("--jobs", type=int, help="only so many of its first rows")
    parser.add_argument("--seed", type=int, default=1, help="of the backends' moods")
    parser.add_argument("--untold", action="store_true", help="jobs don't say what their time is worth")
    given = parser.parse_args(arguments)
    trace = list(jobs(given.trace, most=given.jobs))
    table = Table(Column("policy", no_wrap=True), "cost USD", "money USD", "p50 s", "p95 s", "local", "switches")
    for one in compare(trace, (*OURS, *PEERS), seed=given.seed, told=not given.untold):
        table.add_row(one.name, f"{one.dollars:,.0f}", f"{one.money:,.0f}", f"{one.p50:.1f}", f"{one.p95:.1f}",
                      f"{one.local:.0%}", f"{one.switches:,}")  # fmt: skip
    Console().print(f"{len(trace):,} jobs, seed {given.seed}", table)


if __name__ == "__main__":
    main()
