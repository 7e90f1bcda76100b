"""Every decision of simulated runs derives again from its stored event, and the demo's do (requirement C8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.console.verify import Verified, findings
from actors.router.strategies import STRATEGIES
from actors.router.verify import check
from bus import codec, simloop
from messages import Decided
from scenarios.demo.fleet import FLEET
from scenarios.demo.screen import Screen
from scenarios.demo.story import Story, running, submissions
from scenarios.simulation import Run, plan_of, quiet

SEEDS = (3, 7, 11, 19)


def decisions_of(seed: int) -> list[Decided]:
    """What the routers of one seed decided, as the server stored it."""
    run = Run(plan_of(seed))

    async def main() -> None:
        try:
            await run.play()
        finally:
            await run.world.close()

    simloop.run(main(), seed=seed)
    records = [record for record in run.world.log("EV") if codec.type_at(record.subject) is Decided]
    return [codec.decode(Decided, record.data, record.headers) for record in records]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_decision_of_a_simulated_run_derives_identically(seed: int) -> None:
    with quiet():
        made = decisions_of(seed)
    differences = Counter(check(decided) for decided in made)
    assert differences == {"": len(made)}
    assert len(made) > 10


def test_simulated_runs_fail_over_wait_and_give_up() -> None:
    with quiet():
        made = [decided for seed in SEEDS for decided in decisions_of(seed)]
    assert any(decided.attempts for decided in made)
    assert any(decided.excluded for decided in made)
    assert any(decided.others for decided in made)
    assert any(not decided.ranking for decided in made)


def test_every_decision_of_the_demo_derives_identically(tmp_path: Path) -> None:
    async def play() -> tuple[Verified, list[Any]]:
        async with running(str(tmp_path)) as world:
            screen = Screen(Console(quiet=True), FLEET, 9)
            with screen:
                summary, _ = await Story(world, screen, submissions(9), 0.05).play()
            assert summary.exit_code == 0
            total = Verified()
            wrong = [found async for found in findings(world.bus, STRATEGIES, total) if found is not None]
            return total, wrong

    total, wrong = asyncio.run(play())
    assert wrong == []
    assert total.decisions >= 9
    assert total.identical == total.decisions
