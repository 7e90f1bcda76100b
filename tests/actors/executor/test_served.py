"""What an executor announces of its backends, and how it looks after them."""

from __future__ import annotations

import asyncio

from actors.executor.backends import port
from actors.executor.served import Served, can_run
from messages import ExecutorAlive, Model, Offer, Parameters
from tests.actors.executor.desk import Adapter, answer, desk, saying
from tests.actors.rig import Rig, play
from tests.messages.samples import work


def test_a_backend_that_fails_its_health_check_is_announced_at_once_and_looked_after_until_it_is_well() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(answer("x")), health_seconds=30.0, heartbeat_seconds=1000.0)
        await rig.settle(5)
        before = len(here.heard(ExecutorAlive))
        here.adapter._health = port.BackendError("connection_error", "nobody listens there")
        await rig.settle(31)
        [ill] = here.heard(ExecutorAlive)[before:]
        assert (ill.offers[0].healthy, ill.offers[0].health_reason) == (False, "nobody listens there")
        here.adapter._health = None
        await rig.settle(2.5)
        [_, well] = here.heard(ExecutorAlive)[before:]
        assert (well.offers[0].healthy, well.offers[0].health_reason) == (True, "")

    play(story)


def test_a_health_check_that_never_answers_has_failed() -> None:
    async def story(rig: Rig) -> None:
        async def hang() -> None:
            await asyncio.sleep(1e6)

        here = await desk(rig, saying(answer("x")), heartbeat_seconds=1000.0)
        here.adapter.health = hang
        await rig.settle(40)
        offered = here.heard(ExecutorAlive)[-1].offers[0]
        assert not offered.healthy
        assert offered.health_reason == "no answer to a health check within 5 s"

    play(story)


def test_the_context_is_that_of_the_model_that_runs() -> None:
    offer = Offer(
        backend="a", protocol="openai", local=True, models=(Model(name="m", context_tokens=8192), Model(name="n"))
    )
    served = Served(offer=offer, adapter=Adapter(saying()))
    assert [served.context_of(name) for name in "mnx"] == [8192, None, None]


def test_only_who_is_well_and_has_the_model_that_really_runs_can_run_it() -> None:
    well = Offer(backend="a", protocol="openai", local=True, models=(Model(name="m"), Model(name="m-turbo")))
    ill = Offer(backend="a", protocol="openai", local=True, models=well.models, healthy=False)
    assert can_run(well, work())
    assert not can_run(ill, work())
    assert not can_run(well, work(model="n"))
    assert can_run(well, work(parameters=Parameters(model="m-turbo")))
    assert not can_run(well, work(parameters=Parameters(model="m-mini")))
