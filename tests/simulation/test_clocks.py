"""Clocks are set while jobs run: those of the processes' machines, which concerns nobody, and the server's own."""

from __future__ import annotations

import asyncio

import pytest

from actors.settings import Budget, JobSettings, Settings
from bus import simloop
from scenarios.backends import Script
from scenarios.invariants import broken, unfinished
from scenarios.world import Spec, World, offer

FLEET = {
    "front-1": Spec(("front",)), "front-2": Spec(("front",)), "registry-1": Spec(("registry",)),
    "x1": Spec(("executor",), (offer("X", slots=4, price=1_000_000),)),
}  # fmt: skip
HOURLY = Budget(scope="tenant", unit="requests", window="hour", limit=5)


def world_of(*budgets: Budget) -> World:
    settings = Settings(jobs=JobSettings(deadline_seconds=600.0), budgets=budgets)
    return World(seed=1, settings=settings, write=lambda _: Script(seconds=3.0))


def windows(world: World) -> dict[str, int]:
    """What was admitted by window of the budget."""
    found: dict[str, int] = {}
    for record in world.log("LEDGER"):
        window = record.subject.rpartition(".")[2]
        found[window] = found.get(window, 0) + int(record.headers["Nats-Incr"])
    return found


@pytest.mark.parametrize("step", [-3600.0, -1200.0, 1200.0, 3600.0])
def test_no_job_expires_and_one_window_is_spent_whoever_sets_the_machines_clocks(step: float) -> None:
    async def main() -> None:
        world = world_of(HOURLY)
        await world.open(FLEET)
        jobs = [f"j{number}" for number in range(12)]
        for number, job in enumerate(jobs):
            await world.submit(job)
            if number % 3 == 0:
                world.set_clock(("front-1", "front-2", "x1")[number // 3 % 3], step)
            await asyncio.sleep(1.0)
        await world.until_done(jobs)
        endings = [done.ending for job in jobs if (done := world.done(job))]
        assert endings.count("succeeded") == HOURLY.limit
        assert endings.count("failed") == len(jobs) - HOURLY.limit, "nobody finds another window"
        assert windows(world) == {"hour-20260101T00": HOURLY.limit}
        assert broken(world.story()) == []
        await world.close()

    simloop.run(main(), seed=1)


@pytest.mark.parametrize("step", [-3600.0, -1200.0, 1200.0, 3600.0])
def test_the_server_s_own_clock_is_followed_by_all_and_nothing_is_lost(step: float) -> None:
    """What was due by then is due; all that comes later goes by the new time, with everybody agreeing on it."""

    async def main() -> None:
        world = world_of()
        await world.open(FLEET)
        await world.submit("running")
        await asyncio.sleep(1.0)
        world.server.set_clock(step)
        await asyncio.sleep(12.0)
        for process in world.processes.values():
            assert process.bus is not None
            assert process.bus.now() == pytest.approx(world.server.now(), abs=1e-3)
        later = [f"later{number}" for number in range(6)]
        for job in later:
            await world.submit(job)
        assert await world.until_done(["running", *later])
        assert [done.ending for job in later if (done := world.done(job))] == ["succeeded"] * 6
        ended = world.done("running")
        assert ended is not None
        assert ended.ending == ("expired" if step > 600 else "succeeded")
        await world.until(lambda: not unfinished(world.story(), world.pending()), 200.0, 5.0)
        assert unfinished(world.story(), world.pending()) == []
        await world.close()

    simloop.run(main(), seed=1)


def test_windows_follow_the_server_s_clock_and_each_is_spent_once() -> None:
    async def main() -> None:
        world = world_of(HOURLY)
        await world.open(FLEET)
        for number, step in enumerate((3600.0, -3600.0, 3600.0)):
            jobs = [f"j{number}-{n}" for n in range(8)]
            for job in jobs:
                await world.submit(job)
            assert await world.until_done(jobs)
            world.server.set_clock(step)
            await asyncio.sleep(12.0)
        assert windows(world) == {"hour-20260101T00": HOURLY.limit, "hour-20260101T01": HOURLY.limit}
        await world.close()

    simloop.run(main(), seed=1)
