"""Work scales with equal backends: 1, 2, 4 and 8 of them do at least 0.9 times as much as so many times one (requirement H4)."""

from __future__ import annotations

import asyncio

import pytest

from actors.settings import JobSettings, Settings
from bus import simloop
from scenarios.world import Spec, World, offer
from tests.simulation.directed import seconds

SLOTS, SECONDS, WAVES = 2, 4.0, 20


def rate(backends: int, strategy: str, *, at_once: bool) -> float:
    """Jobs per second of virtual time, from the first submission to the last end."""

    async def main() -> float:
        world = World(seed=1, settings=Settings(jobs=JobSettings(deadline_seconds=3600.0)), write=seconds(SECONDS)())
        names = [f"b{i}" for i in range(backends)]
        executors = {f"x-{name}": Spec(("executor",), (offer(name, slots=SLOTS),)) for name in names}
        await world.open({"front-1": Spec(("front",)), "registry-1": Spec(("registry",)), **executors})
        await asyncio.sleep(2.0)
        began = world.server.now()
        jobs = [f"j{i}" for i in range(backends * SLOTS * WAVES)]
        for job in jobs:
            await world.submit(job, strategy=strategy)
            if not at_once:
                await asyncio.sleep(SECONDS / (backends * SLOTS))
        assert await world.until_done(jobs, 4 * SECONDS * WAVES)
        lasted = world.server.now() - began
        await world.close()
        return len(jobs) / lasted

    return simloop.run(main(), seed=1)


@pytest.mark.parametrize("strategy", ["", "expected_cost", "least_loaded"])
@pytest.mark.parametrize("at_once", [True, False], ids=["flood", "stream"])
def test_work_scales_with_equal_backends(strategy: str, *, at_once: bool) -> None:
    one, *more = (rate(n, strategy, at_once=at_once) for n in (1, 2, 4, 8))
    assert [
        round(found / (one * n), 3) for n, found in zip((2, 4, 8), more, strict=True) if found < 0.9 * one * n
    ] == []
