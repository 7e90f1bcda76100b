"""A server that is gone for longer than a heartbeat's patience kills nobody: who was not heard could not be heard."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from bus import codec, simloop
from messages import Attempted, Started
from scenarios.backends import Script
from scenarios.world import Spec, World, offer


@pytest.mark.parametrize("seconds", [4.0, 10.0, 30.0])
def test_running_calls_and_queues_outlive_an_outage_of_the_server(seconds: float) -> None:
    async def story() -> None:
        world = World(seed=3, write=lambda _: Script(seconds=15.0, chunks=30))
        x = offer("X", slots=2)
        await world.open(
            {
                "registry": Spec(("registry",)), "front": Spec(("front",)), "x1": Spec(("executor",), (x,)),
                "x2": Spec(("executor",), (x,)),
            }
        )  # fmt: skip
        await asyncio.sleep(3.0)
        jobs = [f"j{number}" for number in range(8)]
        for job in jobs:
            await world.submit(job)
        await asyncio.sleep(5.0)
        await world.restart_server(seconds)
        assert await world.until_done(jobs, 200.0)
        log = world.log("EV")
        outcomes = Counter(
            codec.decode(Attempted, r.data).outcome for r in log if r.subject.startswith("ev.attempted.")
        )
        claims = Counter(codec.decode(Started, r.data).purpose for r in log if r.subject.startswith("ev.started."))
        assert outcomes == {"ok": 8}
        assert claims == {"run": 8}
        await world.close()

    simloop.run(story(), seed=3)
