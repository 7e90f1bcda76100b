"""Executors in a whole deployment: what they must not do: crash on an end that comes late, take what only another can
run, mix tenants' results, take more when they leave.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors import node
from actors.executor.backends import port
from actors.executor.results import LARGE_RESULT_BYTES
from bus import codec, simloop
from bus.topology import work_queue
from messages import Attempted, Decided, ExecutorAlive, Usage
from scenarios.backends import Call, Script
from scenarios.world import Spec, World, offer
from tests.actors.executor.desk import Adapter, answer, desk, item, saying
from tests.actors.rig import Rig, play


def executor_of(world: World, name: str) -> Any:
    host = world.processes[name].host
    assert host is not None
    return next(room for room in host.rooms if room.name == "executor").actor


async def opened(world: World, **executors: Any) -> None:
    found = {name: Spec(("executor",), (offered,)) for name, offered in executors.items()}
    await world.open({"registry": Spec(("registry",)), "front": Spec(("front",)), **found})


def decisions(world: World) -> list[Decided]:
    return [codec.decode(Decided, r.data) for r in world.log("EV") if r.subject.startswith("ev.decided.")]


def attempts(world: World) -> list[Attempted]:
    return [codec.decode(Attempted, r.data) for r in world.log("EV") if r.subject.startswith("ev.attempted.")]


@pytest.mark.parametrize("unwinding", [0.0, 0.1, 0.3])
def test_an_end_that_comes_while_a_call_is_closing_crashes_nothing(unwinding: float) -> None:
    async def run(_: port.Call) -> AsyncIterator[port.Chunk]:
        try:
            yield port.Chunk(text="a")
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(unwinding)

    async def story() -> None:
        world = World(seed=3)
        await opened(world, x1=offer("X"))
        executor_of(world, "x1").served["X"].adapter = Adapter(run)
        await asyncio.sleep(3.0)
        for number in range(3):
            await world.submit(f"j{number}", deadline_seconds=2.0)
        await asyncio.sleep(60.0)
        host = world.processes["x1"].host
        assert host is not None
        assert not [name for name in host.counts if "crash" in name]
        await world.close()

    simloop.run(story(), seed=3)


def test_one_backend_on_two_machines_with_other_models_serves_both() -> None:
    jobs = {f"j{number}": f"m{number * 7 % 5 % 2 + 1}" for number in range(20)}
    has = {"x1": "m1", "x2": "m2"}

    def write(call: Call) -> Script:
        return Script(fate="ok" if has[call.instance] == jobs[call.job] else "unknown_model")

    async def story() -> None:
        world = World(seed=3, write=write)
        await opened(world, x1=offer("ollama", models=("m1",)), x2=offer("ollama", models=("m2",)))
        await asyncio.sleep(5.0)
        for job, model in jobs.items():
            await world.submit(job, model=model)
            await asyncio.sleep(0.5)
        assert await world.until_done(jobs, 200.0)
        assert Counter(attempted.outcome for attempted in attempts(world)) == {"ok": 20}
        await world.close()

    simloop.run(story(), seed=3)


def test_who_fails_its_health_check_leaves_the_work_to_the_healthy_one() -> None:
    def write(call: Call) -> Script:
        return Script(fate="connection_error", seconds=0.01) if call.instance == "x1" else Script(seconds=1.0)

    async def story() -> None:
        world = World(seed=3, write=write)
        await opened(world, x1=offer("ollama"), x2=offer("ollama"))
        served = executor_of(world, "x1").served["ollama"]
        served.adapter = Adapter(served.adapter.run, port.BackendError("connection_error", "down"))
        await asyncio.sleep(40.0)
        jobs = [f"j{number}" for number in range(10)]
        for job in jobs:
            await world.submit(job)
        assert await world.until_done(jobs, 200.0)
        assert Counter(attempted.outcome for attempted in attempts(world)) == {"ok": 10}
        await world.close()

    simloop.run(story(), seed=3)


def test_results_of_names_with_slashes_lie_apart() -> None:
    async def run(call: port.Call) -> AsyncIterator[port.Chunk | port.Answer]:
        text = str(call.messages[-1]["content"]) * (LARGE_RESULT_BYTES + 1)
        yield port.Answer(text=text, finish_reason="stop", model=call.model, usage=port.Usage())

    async def story() -> None:
        world = World(seed=3)
        await opened(world, x1=offer("X"))
        executor_of(world, "x1").served["X"].adapter = Adapter(run)
        await asyncio.sleep(3.0)
        await world.submit("c", tenant="a%2Fb", prompt="1")
        await world.submit("b/c", tenant="a", prompt="2")
        await asyncio.sleep(10.0)
        keys = [a.result.ref.key for a in attempts(world) if a.result and a.result.ref]
        assert len(keys) == len(set(keys)) == 2
        await world.close()

    simloop.run(story(), seed=3)


def test_an_attempt_without_usage_tells_our_own_counts_and_that_they_are_ours() -> None:
    async def run(call: port.Call) -> AsyncIterator[port.Chunk | port.Answer]:
        yield port.Chunk(text="12345678")
        if call.key.split("/")[2] == "1":
            raise port.BackendError("cut_stream", "cut")
        yield port.Answer(text="12345678", finish_reason="stop", model=call.model, usage=port.Usage())

    async def story() -> None:
        world = World(seed=3)
        await opened(world, x1=offer("X", price=1_000_000))
        executor_of(world, "x1").served["X"].adapter = Adapter(run)
        await asyncio.sleep(3.0)
        await world.submit("j")
        await asyncio.sleep(30.0)
        ended = attempts(world)
        assert [attempt.outcome for attempt in ended] == ["connection_error", "ok"]
        for attempt in ended:
            assert attempt.usage == Usage(input_tokens=attempt.input_estimate, output_tokens=3, estimated=True)
        cut, whole = ended
        assert whole.billed_microdollars == whole.counted_tokens == whole.input_estimate + 3
        chosen = next(c for c in decisions(world)[0].ranking if c.backend == "X")
        assert (cut.billed_microdollars, cut.counted_tokens) == (chosen.worst_case_microdollars, None)
        await world.close()

    simloop.run(story(), seed=3)


def test_tokens_that_the_backend_reported_before_a_cut_are_the_least_that_is_billed() -> None:
    async def run(_: port.Call) -> AsyncIterator[port.Chunk]:
        yield port.Chunk(text="")
        raise port.BackendError("cut_stream", "cut", usage=port.Usage(input_tokens=10, output_tokens=90))

    async def story() -> None:
        world = World(seed=3)
        await opened(world, x1=offer("X", price=1_000_000))
        executor_of(world, "x1").served["X"].adapter = Adapter(run)
        await asyncio.sleep(3.0)
        await world.submit("j")
        await asyncio.sleep(1.0)
        first = attempts(world)[0]
        assert first.usage == Usage(input_tokens=10, output_tokens=90, estimated=True)
        chosen = next(c for c in decisions(world)[0].ranking if c.backend == "X")
        assert 100 <= first.billed_microdollars <= chosen.worst_case_microdollars, "there may have been more"
        await world.close()

    simloop.run(story(), seed=3)


def test_who_leaves_says_so_ends_what_it_runs_and_takes_no_more() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(5.0, answer("x")))
        await rig.publish(item())
        await rig.settle(1)
        await node.leave(here.host)
        await rig.settle(0.1)
        last = here.heard(ExecutorAlive)[-1]
        assert (last.leaving, [running.job for running in last.running]) == (True, ["j-1"])
        await rig.publish(item(job="j-2"))
        await rig.settle(10)
        assert [(end.job, end.outcome) for end in rig.stored(Attempted)] == [("j-1", "ok")]
        assert await rig.unacknowledged(work_queue("a", 4)) == 1
        assert all(beat.leaving for beat in here.heard(ExecutorAlive)[-3:])

    play(story)
