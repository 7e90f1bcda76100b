"""What an executor announces of its backends, and how it looks after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from actors.executor.backends import port
from actors.executor.served import LOOKS, SLOTS, Served, can_run, own_calls
from bus.topology import work_queue
from messages import Attempted, ExecutorAlive, Failover, Model, Offer, Parameters
from tests.actors.executor.desk import Adapter, answer, desk, item, saying
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
        async def hang() -> port.Vitals:
            await asyncio.sleep(1e6)
            return port.Vitals()

        here = await desk(rig, saying(answer("x")), heartbeat_seconds=1000.0)
        here.adapter.health = hang
        await rig.settle(40)
        offered = here.heard(ExecutorAlive)[-1].offers[0]
        assert not offered.healthy
        assert offered.health_reason == "no answer to a health check within 5 s"

    play(story)


def test_an_adapter_that_breaks_at_a_health_check_is_ill_and_takes_nobody_along() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(answer("x")), health=KeyError("status"), heartbeat_seconds=1000.0)
        await rig.settle(40)
        offered = here.heard(ExecutorAlive)[-1].offers[0]
        assert (offered.healthy, offered.health_reason) == (False, "its adapter failed: KeyError: 'status'")
        assert not [name for name in here.host.counts if "crash" in name]

    play(story)


def test_the_context_is_that_of_the_model_that_runs() -> None:
    offer = Offer(
        backend="a", protocol="openai", local=True, models=(Model(name="m", context_tokens=8192), Model(name="n"))
    )
    served = Served(offer=offer, adapter=Adapter(saying()))
    assert [served.context_of(name) for name in "mnx"] == [8192, None, None]


@pytest.mark.parametrize(("status", "hint"), [(404, True), (500, False), (None, False)])
def test_a_path_that_is_not_there_may_mean_another_kind_of_server(status: int | None, *, hint: bool) -> None:
    error = port.BackendError("unknown_model", "HTTP 404: no such path", status=status)
    served = Served(offer=Offer(backend="a", protocol="openai", local=True), adapter=Adapter(saying(), health=error))
    assert not asyncio.run(served.answers())
    assert served.reason.startswith("HTTP 404: no such path")
    assert (
        served.reason.endswith("; is it another kind of server? `turnout backends add URL` says what is there") is hint
    )


def test_only_who_is_well_and_has_the_model_that_really_runs_can_run_it() -> None:
    well = Offer(backend="a", protocol="openai", local=True, models=(Model(name="m"), Model(name="m-turbo")))
    ill = Offer(backend="a", protocol="openai", local=True, models=well.models, healthy=False)
    assert can_run(well, work())
    assert not can_run(ill, work())
    assert not can_run(well, work(model="n"))
    assert can_run(well, work(parameters=Parameters(model="m-turbo")))
    assert not can_run(well, work(parameters=Parameters(model="m-mini")))


def vitals(served: Served, *, own: int = 0, **said: Any) -> Offer:
    async def health() -> port.Vitals:
        return port.Vitals(**said)

    adapter: Any = served.adapter
    adapter.health = health
    asyncio.run(served.check(lambda: own))
    return served.offer


def one(**changes: Any) -> Served:
    given: dict[str, Any] = {"backend": "a", "protocol": "x", "local": True, "slots": 4, "models": (Model(name="m"),)}
    return Served(offer=Offer(**{**given, **changes}), adapter=Adapter(saying()))


def test_what_a_backend_says_of_itself_is_announced() -> None:
    served = one()
    offer = vitals(
        served, own=2, version="1.2", waiting=3, running=4, slots=3, loaded=("m",), vram_total_mb=8000, vram_free_mb=900,
        cold=True,
    )  # fmt: skip
    assert (offer.version, offer.foreign, offer.slots, offer.loaded) == ("1.2", 5, 3, ("m",))
    assert (offer.vram_total_mb, offer.vram_free_mb, offer.cold, offer.switchable) == (8000, 900, True, False)
    offer = vitals(served, own=9, running=4)
    assert (offer.foreign, offer.slots, offer.version, offer.cold) == (0, 4, "1.2", False)
    assert vitals(one(vram_total_mb=7000), vram_total_mb=8000).vram_total_mb == 7000
    capped = Served(offer=one(slots=2).offer, adapter=Adapter(saying()), slots=2)
    assert vitals(capped, slots=16).slots == 2, "what is configured is the most"
    assert vitals(capped, slots=1).slots == 1
    free = one(slots=1)
    assert vitals(free, slots=6).slots == 6, "nobody says otherwise"
    assert (vitals(free).slots, free.most) == (1, 1)
    assert vitals(free, slots=100_000).slots == SLOTS


def test_requests_that_came_or_went_meanwhile_are_not_somebody_elses() -> None:
    served, counts = one(), iter([1, 3, 3, 1])

    async def health() -> port.Vitals:
        return port.Vitals(running=3)

    adapter: Any = served.adapter
    adapter.health = health
    for _ in range(2):
        asyncio.run(served.check(lambda: next(counts)))
        assert served.offer.foreign == 0


def test_own_calls_are_those_to_the_same_server() -> None:
    first, other = one(), one(backend="b")
    second = Served(offer=Offer(backend="c", protocol="x", local=False), adapter=first.adapter)
    fleet = {"a": first, "b": other, "c": second}
    calls = {number: SimpleNamespace(backend=name) for number, name in enumerate("aabcx")}
    assert [own_calls(fleet, name, calls) for name in "abc"] == [3, 1, 3]


def test_a_model_that_is_being_loaded_counts_as_loaded_until_the_backend_lists_it() -> None:
    served = one()
    served.took("m")
    assert served.offer.loaded is None, "the backend says nothing of its memory"
    vitals(served, loaded=("n",))
    served.took("n")
    assert not served.taking
    served.took("m")
    assert served.offer.loaded == ("m",)
    assert vitals(served, loaded=("n",)).loaded == ("m",), "it is still at it"
    assert vitals(served, loaded=("m", "n")).loaded == ("m", "n")
    served.took("z")
    for _ in range(LOOKS):
        vitals(served, loaded=("m",))
    assert served.offer.loaded == ("m",), "it goes by another name there"


def test_what_can_load_on_command_says_so() -> None:
    class Loader(Adapter):
        async def load(self, model: str) -> None: ...
        async def unload(self, model: str) -> None: ...

    assert Served(offer=one().offer, adapter=Loader(saying())).offer.switchable


@pytest.mark.parametrize("interval", [5.0, 10.0, 30.0, 120.0])
def test_a_backend_that_goes_away_is_known_within_its_interval(interval: float) -> None:
    async def story(rig: Rig) -> None:
        for number in range(6):
            here = await desk(rig, saying(answer("x")), health_seconds=interval, heartbeat_seconds=1000.0)
            await rig.settle(2.3 * interval + 1.7 * number)
            assert here.heard(ExecutorAlive)[-1].offers[0].healthy

            async def hang() -> port.Vitals:
                await asyncio.sleep(1e6)
                return port.Vitals()

            here.adapter.health = hang
            await rig.settle(interval)
            assert not here.heard(ExecutorAlive)[-1].offers[0].healthy
            await here.host.close()

    play(story)


def test_health_checks_do_not_go_in_step() -> None:
    async def story(rig: Rig) -> None:
        asked: list[float] = []
        here = await desk(
            rig, saying(answer("x")), health_seconds=100.0, heartbeat_seconds=1000.0, recovery_seconds=0.1
        )

        async def health() -> port.Vitals:
            asked.append(rig.bus.now())
            return port.Vitals()

        here.adapter.health = health
        await rig.settle(3000)
        pauses = [round(later - earlier) for earlier, later in pairwise(asked)]
        assert len(set(pauses)) > 5
        assert min(pauses) >= 70
        assert max(pauses) <= 100

    play(story)


def test_what_is_new_is_announced_with_one_event_within_a_second() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(answer("x")), heartbeat_seconds=1000.0)
        await rig.settle(5)
        before = len(here.heard(ExecutorAlive))
        actor: Any = here.host.rooms[0].actor
        await rig.bus.set_up_queue(work_queue("b", 4))
        actor.served["b"] = Served(offer=one(backend="b").offer, adapter=Adapter(saying(answer("y"))))
        await rig.publish(item(job="new", backend="b"))
        await rig.settle(1.0)
        (news,) = here.heard(ExecutorAlive)[before:][:1]
        assert [offer.backend for offer in news.offers] == ["a", "b"]
        announced = [beat for beat in here.heard(ExecutorAlive)[before:] if not beat.running]
        assert len(announced) == 1
        assert [(end.job, end.outcome) for end in rig.stored(Attempted)] == [("new", "ok")]

    play(story)


def test_a_worker_that_was_called_is_no_longer_cold() -> None:
    served = one()
    assert vitals(served, cold=True).cold
    served.took("m")
    assert not served.offer.cold


def test_a_backend_that_takes_more_than_at_first_is_heard_anew_with_more() -> None:
    async def story(rig: Rig) -> None:
        busy = most = 0

        async def run(_: port.Call) -> AsyncIterator[port.Item]:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(5.0)
            busy -= 1
            yield answer("x")

        down = port.BackendError("connection_error", "it starts")
        here = await desk(rig, run, health=down)  # Four slots, as is usual where nobody says otherwise.
        await rig.settle(3)
        await rig.bus.set_up_queue(work_queue("a", 8))
        here.adapter._health = None
        here.adapter.health = vitals  # type: ignore[method-assign]
        await rig.settle(5)
        for number in range(8):
            await rig.publish(item(job=f"j-{number}"))
        await rig.settle(60)
        assert most == 8
        assert [end.outcome for end in rig.stored(Attempted)] == ["ok"] * 8
        assert await rig.unacknowledged(work_queue("a", 8)) == 0

    async def vitals() -> port.Vitals:
        return port.Vitals(slots=8)

    play(story)


@pytest.mark.parametrize("configured", [0, 3])
def test_a_kind_that_takes_nothing_at_once_is_served_with_one(configured: int) -> None:
    down = port.BackendError("connection_error", "nobody there")
    offer = Offer(backend="a", protocol="own", local=True, slots=0)
    served = Served(offer=offer, adapter=Adapter(saying(), health=down), slots=configured)
    assert (served.offer.slots, served.most) == (1, configured or 1)
    assert (vitals(served).slots, vitals(served, slots=2).slots) == (configured or 1, 2)


@pytest.mark.parametrize("outcome", ["connection_error", "server_error"])
def test_a_backend_that_lost_a_call_is_asked_at_once(outcome: Any) -> None:
    async def story(rig: Rig) -> None:
        asked: list[float] = []

        async def health() -> port.Vitals:
            asked.append(rig.bus.now())
            raise port.BackendError("connection_error", "refused")

        here = await desk(
            rig, saying(port.BackendError(outcome, "refused")), health_seconds=600.0, heartbeat_seconds=1000.0
        )
        await rig.settle(5.0)
        here.adapter.health = health  # type: ignore[method-assign]
        began = rig.bus.now()
        await here.end(item(failover=Failover(max_attempts=1)), seconds=1.5)
        if outcome == "server_error":
            assert asked == []
            return
        assert asked[0] - began < 0.5
        offer = here.heard(ExecutorAlive)[-1].offers[0]
        assert (offer.healthy, offer.health_reason) == (False, "refused")

    play(story)


def test_who_hangs_when_asked_delays_neither_the_attempt_nor_the_end() -> None:
    async def story(rig: Rig) -> None:
        async def health() -> port.Vitals:
            await asyncio.sleep(1000.0)
            return port.Vitals()

        here = await desk(rig, saying(port.BackendError("connection_error", "cut")), health_seconds=600.0)
        await rig.settle(5.0)
        here.adapter.health = health  # type: ignore[method-assign]
        await here.end(item(failover=Failover(max_attempts=1)), seconds=1.0)
        assert [task.get_name() for task in asyncio.all_tasks()].count("a health") == 1
        await here.host.close()
        assert "a health" not in [task.get_name() for task in asyncio.all_tasks()]

    play(story)


@pytest.mark.parametrize(("local", "most"), [(True, 400), (False, 30)])
def test_an_account_that_is_refused_is_not_asked_every_second(local: bool, most: int) -> None:
    async def story(rig: Rig) -> None:
        asked: list[float] = []

        async def health() -> port.Vitals:
            asked.append(rig.bus.now())
            if len(asked) < most_fails:
                raise port.BackendError("account", "the key is wrong", status=401)
            return port.Vitals()

        most_fails = 10_000
        here = await desk(rig, saying(answer("x")), local=local, health_seconds=30.0)
        here.adapter.health = health  # type: ignore[method-assign]
        await rig.settle(400)
        assert len(asked) <= most
        assert max(later - before for before, later in pairwise(asked)) <= 30.0
        most_fails = 0
        await rig.settle(30)
        assert here.heard(ExecutorAlive)[-1].offers[0].healthy, "it is noticed within the interval"

    play(story)


def no_list(status: int, kind: port.ErrorKind = "unknown_model") -> port.BackendError:
    return port.NoList.or_worse(port.BackendError(kind, f"gateway: HTTP {status}: Not Found", status=status))


@pytest.mark.parametrize(
    ("error", "stated", "proven", "well"),
    [
        (no_list(404), True, False, True),
        (
            port.BackendError("unknown_model", "no such path", status=404),
            True,
            True,
            False,
        ),  # Of another kind of server.
        (no_list(405), True, False, True),
        (no_list(404), False, True, True),
        (no_list(404), False, False, False),
        (no_list(403, "account"), True, False, False),  # The key may be wrong for everything.
        (no_list(403, "account"), False, True, True),
        (no_list(500, "server_error"), True, True, False),
        (port.BackendError("connection_error", "nobody listens there"), True, True, False),
    ],
)
def test_case_21_no_list_of_models_is_no_illness_where_they_are_stated_or_a_call_has_worked(
    error: port.BackendError, *, stated: bool, proven: bool, well: bool
) -> None:
    adapter = saying(answer("x"))
    offer = Offer(backend="gateway", protocol="openai", local=False, models=(Model(name="m"),))
    served = Served(offer=offer, adapter=Adapter(adapter, error), stated=stated, proven=proven)
    asyncio.run(served.check())
    assert (served.offer.healthy, served.well) == (well, well)
    assert ("does not list its models" in " ".join(served.offer.notes)) is well


def test_a_call_that_worked_is_remembered() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(answer("x")), health_seconds=5.0)
        await here.end(item())
        await rig.settle(2)
        here.adapter._health = no_list(404)
        await rig.settle(20)
        assert here.heard(ExecutorAlive)[-1].offers[0].healthy

    play(story)
