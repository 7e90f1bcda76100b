"""Held jobs in a whole deployment: whatever happens to who holds them, none is lost and none runs twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from actors.executor.backends import port
from actors.settings import GroupSettings, Settings
from bus import simloop
from scenarios.backends import Call, Script
from scenarios.invariants import broken, unfinished
from scenarios.world import Spec, World, offer


def quick(_: Call) -> Script:
    return Script(seconds=1.0, chunks=1)


async def opened(seed: int, *executors: str) -> World:
    world = World(seed=seed, write=quick)
    box = offer("box", slots=1, models=("m", "n"))
    parts = {name: Spec(("executor",), (box,)) for name in executors}
    await world.open({"registry": Spec(("registry",)), "front": Spec(("front",)), **parts})
    await asyncio.sleep(4.0)
    return world


async def submit(world: World, count: int) -> list[str]:
    jobs = [f"j{number}" for number in range(count)]
    for number, job in enumerate(jobs):
        await world.submit(job, model="mn"[number % 2], deadline_seconds=500.0)
    return jobs


def test_jobs_of_one_model_go_together() -> None:
    async def story() -> None:
        world = await opened(3, "x1")
        jobs = await submit(world, 24)
        assert await world.until_done(jobs, 200.0)
        assert broken(world.story()) == []
        models = ["mn"[int(call.job[1:]) % 2] for call in sorted(world.story().calls, key=lambda call: call.began_at)]
        assert len(models) == 24
        assert sum(one != other for one, other in pairwise(models)) <= 10, (
            "first come, first served would change 23 times"
        )
        await world.close()

    simloop.run(story(), seed=3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("harm", ["crash", "stop", "freeze", "partition", "server"])
def test_whatever_happens_to_who_holds_them_every_job_has_one_end(harm: str, seed: int) -> None:
    async def story() -> None:
        world = await opened(seed, "x1", "x2")
        jobs = await submit(world, 16)
        await asyncio.sleep(1.0 + 0.7 * seed)
        if harm == "crash":
            world.crash("x1")
        elif harm == "stop":
            await world.stop("x1")
        elif harm == "freeze":
            world.freeze("x1", 9.0)
        elif harm == "partition":
            world.partition("x1", 9.0)
        else:
            await world.restart_server()
        assert await world.until_done(jobs, 400.0)
        await world.heal()
        await world.until(lambda: not unfinished(world.story(), world.pending()), 60.0, 2.0)
        assert broken(world.story()) == []
        assert unfinished(world.story(), world.pending()) == []
        if harm == "stop":
            assert len(world.story().calls) == len(jobs), "what was given back had not begun"
        await world.close()

    simloop.run(story(), seed=seed)


@pytest.mark.parametrize("automatic", [True, False])
def test_a_job_for_another_member_of_a_group_is_sent_there_only_when_it_may_be_switched(automatic: bool) -> None:
    async def story() -> None:
        group = GroupSettings(name="gpu", switch=("switch", "{backend}"), automatic=automatic, min_active_seconds=5.0)
        world = World(seed=3, write=quick, settings=Settings(groups=(group,)))
        one, two = (
            msgspec.structs.replace(offer(name, models=(model,)), exclusive_group="gpu", active=name == "one")
            for name, model in (("one", "m"), ("two", "n"))
        )
        parts = {"registry": Spec(("registry",)), "front": Spec(("front",)), "x1": Spec(("executor",), (one, two))}
        await world.open(parts)
        switched: list[str] = []

        async def switch(command: Sequence[str], variables: Mapping[str, str], timeout_seconds: float) -> None:
            await asyncio.sleep(7.0)
            switched.append(variables["TURNOUT_BACKEND"])

        host = world.processes["x1"].host
        assert host is not None
        executor: Any = next(room for room in host.rooms if room.name == "executor").actor
        executor.switcher._run = switch
        await asyncio.sleep(5.0)
        await world.submit("own", model="m")
        await world.submit("other", model="n", deadline_seconds=100.0)
        assert await world.until_done(["own", "other"], 200.0)
        own, other = world.done("own"), world.done("other")
        assert own is not None
        assert other is not None
        assert own.ending == "succeeded"
        if automatic:
            assert (other.ending, other.backend, switched) == ("succeeded", "two", ["two"])
            assert [attempt.problem for attempt in other.attempts] == [None]
        else:
            assert (other.ending, switched) == ("failed", [])
            assert other.problem is not None
            assert "inactive" in str(other.problem)
        assert broken(world.story()) == []
        await world.close()

    simloop.run(story(), seed=3)


def test_of_two_executors_of_a_group_one_switches_and_the_other_keeps_no_job_from_it() -> None:
    async def story() -> None:
        group = GroupSettings(name="gpu", switch=("switch", "{backend}"), automatic=True, min_active_seconds=5.0)
        world = World(seed=5, write=quick, settings=Settings(groups=(group,)))
        both = tuple(
            msgspec.structs.replace(offer(name, models=(model,)), exclusive_group="gpu", active=name == "one")
            for name, model in (("one", "m"), ("two", "n"))
        )
        up = {"one"}

        async def switch(command: Sequence[str], variables: Mapping[str, str], timeout_seconds: float) -> None:
            up.clear()
            await asyncio.sleep(3.0)
            up.add(variables["TURNOUT_BACKEND"])
            switches.append(variables["TURNOUT_BACKEND"])

        switches: list[str] = []
        parts = {name: Spec(("executor",), both) for name in ("x1", "x2")}
        await world.open({"registry": Spec(("registry",)), "front": Spec(("front",)), **parts})
        for name in parts:
            host = world.processes[name].host
            assert host is not None
            executor: Any = next(room for room in host.rooms if room.name == "executor").actor
            executor.switcher._run = switch
            for backend, served in executor.served.items():
                served.adapter = AsUp(served.adapter, backend, up)
        await asyncio.sleep(5.0)
        jobs = [f"j{number}" for number in range(6)]
        for job in jobs:
            await world.submit(job, model="n", deadline_seconds=200.0)
        assert await world.until_done(jobs, 250.0)
        ends = [world.done(job) for job in jobs]
        assert {end.ending for end in ends if end is not None} == {"succeeded"}
        assert switches == ["two"]
        assert broken(world.story()) == []
        await world.close()

    simloop.run(story(), seed=5)


class AsUp:
    """A server that answers only while it is up."""

    def __init__(self, adapter: Any, backend: str, up: set[str]) -> None:
        self.run, self.discover, self.close = adapter.run, adapter.discover, adapter.close
        self.backend, self.up = backend, up

    async def health(self) -> port.Vitals:
        if self.backend not in self.up:
            raise port.BackendError("connection_error", "nobody listens there")
        return port.Vitals()
