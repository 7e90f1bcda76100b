"""Composition: which parts may run, how a deployment is arranged, and who hears what in either arrangement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import node
from actors.actor import Actor
from actors.room import Room
from actors.settings import JobSettings, Settings, SettingsError
from bus import codec, simloop, topology
from bus.bus import Conflict, Record
from bus.memory import MemoryBus, MemoryServer
from bus.topology import APART, QUEUES, work_queue
from messages import Deployment

TOGETHER, APART_SETTINGS = Settings(), Settings(rooms="apart")


def on_a_bus(story: Callable[[MemoryBus], Awaitable[Any]]) -> None:
    """Play a story on an empty server in virtual time."""

    async def main() -> None:
        bus = await MemoryServer(seed=1).connect("node")
        await story(bus)
        await bus.close()

    simloop.run(main(), seed=1)


async def arranged(bus: MemoryBus) -> str | None:
    wanted = Deployment(rooms="together")
    record = await bus.last("KV_facts", wanted.subject)
    return codec.decode(Deployment, record.data).rooms if record else None


async def exist(bus: MemoryBus, queues: tuple[topology.Queue, ...]) -> set[bool]:
    return {await bus.queue_state(queue) is not None for queue in queues}


# Parts.


@pytest.mark.parametrize("settings", [TOGETHER, APART_SETTINGS])
def test_an_unknown_part_is_named_and_the_known_ones_too(settings: Settings) -> None:
    with pytest.raises(SettingsError) as caught:
        node.check_parts(["front", "routr"], settings)
    text = str(caught.value)
    assert text.startswith("part 'routr': use one of ")
    assert all(part in text for part in node.PARTS)


@pytest.mark.parametrize("part", ["analyzer", "router", "guardrail"])
def test_a_part_that_lives_in_the_front_runs_alone_only_apart(part: str) -> None:
    with pytest.raises(SettingsError) as caught:
        node.check_parts([part], TOGETHER)
    assert str(caught.value) == (
        f"part {part!r} runs alone only with rooms = 'apart'; use `front`, or --rooms apart"
    )  # fmt: skip
    assert set(node.check_parts([part], APART_SETTINGS)) == set(node.PARTS[part])


@pytest.mark.parametrize("part", [part for part in node.PARTS if part not in {"analyzer", "router", "guardrail"}])
def test_every_other_part_runs_in_both_arrangements(part: str) -> None:
    for settings in (TOGETHER, APART_SETTINGS):
        assert set(node.check_parts([part], settings)) == set(node.PARTS[part])


def test_rooms_of_several_parts_come_once_and_in_one_order() -> None:
    assert node.check_parts([*reversed(list(node.PARTS))], APART_SETTINGS) == node.ALL_ROOMS
    assert node.check_parts(["executor", "registry", "executor"], TOGETHER) == (
        "registry",
        "drainer",
        "executor",
        "sensor",
    )
    assert node.check_parts([], TOGETHER) == ()


def test_every_room_belongs_to_a_part_and_has_an_actor() -> None:
    assert {room for rooms in node.PARTS.values() for room in rooms} == set(node.ALL_ROOMS)
    assert [actor.room for actor in node.actor_classes()] == list(node.ALL_ROOMS)


# The arrangement.


@pytest.mark.parametrize("mode", ["together", "apart"])
def test_the_first_set_up_arranges_and_repeating_it_changes_nothing(mode: Any) -> None:
    async def story(bus: MemoryBus) -> None:
        assert await arranged_or_none(bus) is None
        for _ in range(2):
            await node.set_up(bus, Settings(rooms=mode))
            assert await arranged(bus) == mode
        assert await exist(bus, QUEUES) == {True}
        assert await exist(bus, APART) == {mode == "apart"}
        wanted = Deployment(rooms=mode)
        record = await bus.last("KV_facts", wanted.subject)
        assert record is not None
        assert record.seq == 1  # Written once.

    on_a_bus(story)


async def arranged_or_none(bus: MemoryBus) -> str | None:
    await bus.set_up(topology.topology("together"))
    return await arranged(bus)


@pytest.mark.parametrize(("there", "ours"), [("together", "apart"), ("apart", "together")])
def test_a_process_arranged_otherwise_is_refused_with_both_ways_out(there: Any, ours: Any) -> None:
    async def story(bus: MemoryBus) -> None:
        await node.set_up(bus, Settings(rooms=there))
        with pytest.raises(SettingsError) as caught:
            await node.set_up(bus, Settings(rooms=ours))
        assert str(caught.value) == (
            f"rooms is {ours!r}, but this deployment runs them {there!r}. Use --rooms {there}, or stop all its "
            f"processes and run `turnout setup --rooms {ours}`"
        )
        assert await arranged(bus) == there
        assert await exist(bus, APART) == {there == "apart"}

    on_a_bus(story)


@pytest.mark.parametrize(("there", "ours"), [("together", "apart"), ("apart", "together")])
def test_a_deployment_is_rearranged_when_that_is_asked_for(there: Any, ours: Any) -> None:
    async def story(bus: MemoryBus) -> None:
        await node.set_up(bus, Settings(rooms=there))
        await node.set_up(bus, Settings(rooms=ours), rearrange=True)
        assert await arranged(bus) == ours
        await node.set_up(bus, Settings(rooms=ours))
        with pytest.raises(SettingsError):
            await node.set_up(bus, Settings(rooms=there))

    on_a_bus(story)


@pytest.mark.parametrize(("first", "fails"), [("together", False), ("apart", True)])
def test_of_two_first_set_ups_at_once_one_arranges_and_the_other_agrees_or_is_refused(first: Any, fails: bool) -> None:
    """The other one wrote between our look and our write."""

    async def story(bus: MemoryBus) -> None:
        put, last = bus.put_fact, bus.last
        looks: list[Record | None] = []

        async def beaten(subject: str, data: bytes, *, expected_revision: int | None = None) -> int:
            await put(subject, codec.encode(Deployment(rooms=first)), expected_revision=0)
            with pytest.raises(Conflict):
                await put(subject, data, expected_revision=expected_revision)
            raise Conflict(subject)

        async def look(stream: str, subject: str) -> Record | None:
            looks.append(await last(stream, subject))
            return looks[-1]

        bus.put_fact, bus.last = beaten, look  # type: ignore[method-assign]
        if fails:
            with pytest.raises(SettingsError, match="runs them 'apart'"):
                await node.set_up(bus, TOGETHER)
        else:
            await node.set_up(bus, TOGETHER)
        assert looks[0] is None
        assert looks[-1] is not None
        assert await arranged(bus) == first

    on_a_bus(story)


def test_rooms_that_move_apart_hear_what_was_on_its_way_and_nothing_older_than_a_job_can_be() -> None:
    async def story(bus: MemoryBus) -> None:
        settings = Settings(rooms="apart", jobs=JobSettings(longest_deadline_seconds=100.0))
        made: list[topology.Queue] = []
        set_up = bus.set_up

        async def note(topology: topology.Topology) -> None:
            made.extend(queue for queue in topology.queues if queue.start_time is not None)
            await set_up(topology)

        bus.set_up = note  # type: ignore[method-assign]
        await node.set_up(bus, settings)
        assert [queue.name for queue in made] == [queue.name for queue in APART]
        assert all(queue.start_time == pytest.approx(bus.now() - 100.0, abs=1.0) for queue in made)

    on_a_bus(story)


# Rooms.


async def rooms_of(bus: MemoryBus, settings: Settings) -> dict[str, Room]:
    rooms = {room.name: room for room in node.build(node.ALL_ROOMS, bus, settings, offload=node.here)}
    telemetry: Any = rooms["telemetry"].actor
    await telemetry.closing()
    return rooms


def test_rooms_apart_have_queues_for_what_a_front_hands_on_in_memory() -> None:
    async def story(bus: MemoryBus) -> None:
        together, apart = await rooms_of(bus, TOGETHER), await rooms_of(bus, APART_SETTINGS)
        assert list(together) == list(apart) == list(node.ALL_ROOMS)
        for name, room in together.items():
            more = {queue.name for queue, _ in apart[name].queues} - {queue.name for queue, _ in room.queues}
            assert more == {"router": {"router-analyzed"}, "guardrail": {"guardrail-decided"}}.get(name, set())
        heard = [queue.name for room in apart.values() for queue, _ in room.queues]
        assert sorted(heard) == sorted(queue.name for queue in QUEUES + APART)

    on_a_bus(story)


@pytest.mark.parametrize("settings", [TOGETHER, APART_SETTINGS])
def test_only_a_front_hands_on_between_rooms(settings: Settings) -> None:
    async def story(bus: MemoryBus) -> None:
        rooms = node.build(["analyzer", "router"], bus, settings)
        host = node.host(bus, rooms, settings, instance="front", boot="b1")
        assert host.chain.hand_on is (settings.rooms == "together")
        assert (host.instance, host.boot, host.rooms) == ("front", "b1", rooms)

    on_a_bus(story)


def test_only_the_asked_rooms_are_built_and_each_restart_gets_a_fresh_actor() -> None:
    async def story(bus: MemoryBus) -> None:
        rooms = node.build(["registry", "drainer", "executor"], bus, TOGETHER)
        assert [room.name for room in rooms] == ["registry", "drainer", "executor"]
        for room in rooms:
            fresh: Actor = room.factory()
            assert fresh is not room.actor
            assert fresh.__dict__["roster"] is room.actor.__dict__["roster"]  # Whom it has heard outlives a crash.
        in_hand = [room.actor.__dict__["in_hand"] for room in rooms[1:]]
        assert in_hand[0] is not in_hand[1]

    on_a_bus(story)


# Queues of executors.


def test_the_executors_queues_are_created_resized_and_counted() -> None:
    async def story(bus: MemoryBus) -> None:
        await bus.set_up(topology.topology("together"))
        queues = node.ServerQueues(bus)
        assert await queues.states(["gpu 1"]) == (0, [None])
        await queues.set_up("gpu 1", 3)
        seq, (state,) = await queues.states(["gpu 1"])
        assert state is not None
        assert (seq, state.waiting, state.running, state.deliveries) == (0, 0, 0, 0)
        subject = work_queue("gpu 1", 3).filters[0].removesuffix(">")
        for number in range(5):
            await bus.publish(f"{subject}acme.j-{number}.1", b"{}", msg_id=str(number))
        hands: list[int] = []

        async def hold(delivery: Any) -> None:
            hands.append(delivery.seq)

        await bus.consume(work_queue("gpu 1", 1), hold, slots=10)
        await asyncio.sleep(0.5)
        seq, (state,) = await queues.states(["gpu 1"])
        assert state is not None
        assert (seq, state.waiting, state.running, state.deliveries) == (5, 2, 3, 3)
        await queues.set_up("gpu 1", 4)
        await asyncio.sleep(0.5)
        seq, (state,) = await queues.states(["gpu 1"])
        assert state is not None
        assert (seq, state.waiting, state.running, len(hands)) == (5, 1, 4, 4)
        assert (await queues.states(["gpu"]))[1] == [None]

    on_a_bus(story)
