"""Seeds: jobs, faults and chances drawn from a number; safety while things break, convergence after they heal."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from scenarios.simulation import events_per_second, plan_of, quiet, report, seeds_of, simulate

ROOT = Path(__file__).parents[2]
BATCH = 10
SEEDS = 200
SOAK = 3000
"""How many seeds a soak takes by itself, from 1001 on."""


class Ran(NamedTuple):
    failed: bool
    report: str
    digest: str


@cache
def ran(seed: int) -> Ran:
    """A run in this process."""
    with quiet():
        outcome = simulate(seed)
    return Ran(bool(outcome.violations), report(outcome), outcome.digest)


@pytest.mark.parametrize("first", range(1, SEEDS + 1, BATCH))
def test_seeds(first: int) -> None:
    failed = [run.report for seed in range(first, first + BATCH) if (run := ran(seed)).failed]
    assert not failed, "\n".join(failed)


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    command = [sys.executable, "-m", "scenarios.simulation", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_the_same_seed_gives_the_same_digest_in_another_process() -> None:
    elsewhere = start("1-60", "-q")
    here = [f"{seed} {ran(seed).digest}" for seed in range(1, 61)]
    assert elsewhere.communicate()[0].splitlines() == here
    assert len({line.split()[1] for line in here}) == 60


def test_seeds_differ_in_everything_that_matters() -> None:
    plans = [plan_of(seed) for seed in range(1, SEEDS + 1)]
    assert {plan.rooms for plan in plans} == {"together", "apart"}
    assert {plan.alone for plan in plans} == {False, True}
    assert {plan.replicas for plan in plans} == {1, 3}
    assert {plan.registries for plan in plans} == {1, 2}
    assert {plan.dies for plan in plans} == {"", "x1", "y1"}
    assert any(plan.budgets for plan in plans)
    assert not all(plan.budgets for plan in plans)


def test_ranges_of_seeds() -> None:
    assert seeds_of(["3", "7-9"]) == [3, 7, 8, 9]


@pytest.mark.soak
def test_soak() -> None:
    """SEEDS=500 says how many, SEEDS=5000-5099 says which."""
    workers = os.cpu_count() or 1
    wanted = os.environ.get("SEEDS", str(SOAK))
    seeds = seeds_of([wanted] if "-" in wanted else [f"1001-{1000 + int(wanted)}"])
    print(f"simulating {len(seeds)} seeds from {seeds[0]} to {seeds[-1]}")
    shares = [[str(seed) for seed in seeds[worker::workers]] for worker in range(workers)]
    running = [start("-q", *share) for share in shares if share]
    told = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(told)


@pytest.mark.soak
def test_speed() -> None:
    rate = events_per_second()
    print(f"simulation.events_per_second {rate:.0f}")
    assert rate >= 3_000
