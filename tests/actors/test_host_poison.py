"""No submission can stop the house: what can't be handled is put away, and nothing that is paid goes uncounted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.analyzer.needs import needs_of
from actors.settings import Budget, Settings
from bus import codec, simloop
from messages import DeadLetter, Done, JobSubmit
from scenarios.world import FOREVER, Spec, World, offer

FACES = "\N{GRINNING FACE}" * 128


async def opened(**more: Any) -> World:
    world = World(seed=3, **more)
    await world.open(
        {
            "registry": Spec(("registry",)),
            "front": Spec(("front",)),
            "x1": Spec(("executor",), (offer("X", price=1_000_000),)),
        }
    )
    await asyncio.sleep(3.0)
    return world


def lives(world: World) -> bool:
    host = world.processes["front"].host
    assert host is not None
    assert host.failed is not None
    return not host.failed.done()


@pytest.mark.parametrize(
    "field", [{"capabilities": ("p" * 700_000,)}, {"product": "p" * 700_000}, {"preferred_backend": "p" * 700_000}]
)  # fmt: skip
def test_fields_that_travel_with_the_job_are_bounded(field: dict[str, Any]) -> None:
    async def story() -> None:
        world = await opened()
        for number in range(3):
            await world.submit(f"j{number}", **field)
        await asyncio.sleep(100.0)
        assert lives(world)
        assert [done and done.ending for done in (world.done(f"j{number}") for number in range(3))] == ["rejected"] * 3
        await world.close()

    simloop.run(story(), seed=3)


def test_names_that_are_too_long_for_a_subject_go_out_of_the_way_and_stop_nobody() -> None:
    async def story() -> None:
        world = await opened(settings=Settings(budgets=(Budget(scope="user", limit=10**9),)))
        await world.put("job.submit." + "t" * 600, codec.encode(JobSubmit(id=FACES, prompt="hi")))
        for number in range(3):
            await world.submit(f"u{number}", user=FACES)
        await asyncio.sleep(150.0)
        assert lives(world)
        assert world.pending() == {}
        letters = [codec.decode(DeadLetter, r.data) for r in world.log("EV") if codec.type_at(r.subject) is DeadLetter]
        assert {(letter.stream, letter.seq) for letter in letters} == {("IN", seq) for seq in range(1, 5)}
        await world.submit("fine")
        assert await world.until_done(["fine"], 10.0)
        await world.close()

    simloop.run(story(), seed=3)


def test_a_job_without_an_id_keeps_the_one_made_for_it() -> None:
    async def story() -> None:
        world = await opened()
        await world.submit("in-2", prompt="first")
        await world.put("job.submit.acme", b'{"prompt":"no id of my own"}')
        await asyncio.sleep(5.0)
        done = [record for record in world.log("EV") if codec.type_at(record.subject) is Done]
        ends = {record.subject: codec.decode(Done, record.data).ending for record in done}
        assert ends == {"ev.done.acme.in-1": "rejected", "ev.done.acme.in-2": "succeeded"}
        await world.close()

    simloop.run(story(), seed=3)


@pytest.mark.parametrize(
    "submit",
    [
        JobSubmit(prompt="hi", tools=({"type": "function", "function": {"name": "f", "description": "x y " * 10_000}},)),
        JobSubmit(prompt="hi", response_format={"type": "json_schema", "json_schema": {"description": "x y " * 10_000}}),
        JobSubmit(messages=(
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "x y " * 10_000}}]},
        )),
    ],
)  # fmt: skip
def test_tools_calls_and_schema_count_as_input(submit: JobSubmit) -> None:
    assert needs_of(submit).input_tokens > 9_000


def test_a_long_outage_settles_nothing_twice() -> None:
    async def story() -> None:
        world = await opened(settings=Settings(budgets=(Budget(scope="global", window="total", limit=10**9),)))
        jobs = ["j0", "j1", "j2"]
        for job in jobs:
            await world.submit(job)
        assert await world.until_done(jobs)
        await asyncio.sleep(2.0)
        before = world.log("LEDGER")[-1].data
        world.crash("front", down_seconds=FOREVER)
        await asyncio.sleep(5 * 3600.0)  # Longer than the server remembers message ids.
        await world.start("front")
        await asyncio.sleep(120.0)
        assert world.log("LEDGER")[-1].data == before
        assert world.pending() == {}
        await world.close()

    simloop.run(story(), seed=3)
