"""The parking on a bus: it knows who waits from what is stored, says `due` early, and nothing is lost when it dies."""

from __future__ import annotations

from typing import Any

import pytest

from actors.actor import Heard, Later
from actors.host import Host
from actors.journal import Journal
from actors.parking.actor import CLEAR_SECONDS, Parking
from actors.parking.schedules import Schedules
from actors.voice import Voice
from bus import codec
from bus.memory import Faults
from messages import Done, Due, Message, Retry
from tests.actors.parking.parts import breaker, load, on_backend, on_breaker, on_budget, retry, there, used
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0


async def parking(rig: Rig, instance: str = "front") -> Any:
    bus = await rig.server.connect(instance)
    schedules = Schedules(bus)
    bus.on_reconnect(schedules.missed)
    room = room_of(lambda: Parking(schedules=schedules, journal=Journal(bus)))
    host = Host(bus, [room], instance=instance, boot="b1")
    await host.open()
    rig.hosts.append(host)
    return room


async def know(rig: Rig, *facts: Message) -> None:
    for fact in facts:
        await rig.bus.put_fact(fact.subject, codec.encode(fact))


async def wait(rig: Rig, *retries: Retry) -> None:
    """Jobs are parked: the retry is stored, and its router schedules the end of the wait."""
    voice = Voice(rig.bus, instance="router", boot="b1")
    for one in retries:
        await rig.publish(one)
        due = Due(tenant=one.tenant, job=one.job, n=one.n, retry=one)
        await voice.later(Later(due, at=one.not_before), Heard(now=rig.bus.now()))


def woken(rig: Rig) -> list[str]:
    return [due.job for due in rig.stored(Due) if due.woken_by is not None]


def scheduled(rig: Rig) -> list[str]:
    return [record.subject for record in rig.server.log("EV") if record.subject.startswith("sched.")]


def test_a_backend_that_comes_back_wakes_who_waits_for_it_and_the_schedule_is_gone() -> None:
    async def story(rig: Rig) -> None:
        await parking(rig)
        await know(rig, there(healthy=False))
        await wait(rig, *(retry(number, on_backend()) for number in range(6)))
        await rig.settle(30.0)
        assert rig.stored(Due) == []
        await know(rig, there(), load(at=rig.bus.now()))
        await rig.settle(0.4)
        assert sorted(woken(rig)) == ["j-0", "j-1", "j-2", "j-3"]
        due = min(rig.stored(Due), key=lambda due: due.job)
        assert (due.woken_by, due.retry) == (on_backend(), retry(0, on_backend()))
        assert len(scheduled(rig)) == 2
        await rig.settle(1000.0)
        assert len(rig.stored(Due)) == 6, "each wait ends once"

    play(story)


def test_what_waited_before_it_started_is_read_from_the_schedules() -> None:
    async def story(rig: Rig) -> None:
        await know(rig, there(at=T0 + 2.5), load())
        await wait(rig, *(retry(number, on_backend("elsewhere")) for number in (1, 2, 3)), retry(4, on_backend()))
        await parking(rig)
        await rig.settle(9.0)
        assert sorted(woken(rig)) == ["j-1", "j-2", "j-4"], "who waited before may look at what came since"

    play(story)


def test_a_wait_that_a_dead_router_had_not_scheduled_is_found_soon_after_a_start() -> None:
    async def story(rig: Rig) -> None:
        await know(rig, there(healthy=False))
        waiting = retry(0, on_backend())
        await rig.publish(waiting)
        await parking(rig)
        await rig.settle(7.0)  # The retry is heard again by another router, once its time at the dead one is over.
        due = Due(tenant=waiting.tenant, job=waiting.job, n=waiting.n, retry=waiting)
        await Voice(rig.bus, instance="router", boot="b2").later(
            Later(due, at=waiting.not_before), Heard(now=rig.bus.now())
        )
        await rig.settle(9.0)
        await know(rig, there(), load(at=rig.bus.now()))
        await rig.settle(1.0)
        assert woken(rig) == ["j-0"]

    play(story)


def test_without_any_instance_every_wait_ends_at_its_time() -> None:
    async def story(rig: Rig) -> None:
        await know(rig, there(), load())
        await wait(rig, retry(0, on_backend(), not_before=T0 + 50))
        await rig.settle(49.0)
        assert rig.stored(Due) == []
        await rig.settle(3.0)
        assert [due.woken_by for due in rig.stored(Due)] == [None]

    play(story)


def test_several_instances_wake_nobody_twice_and_no_more_than_one_would() -> None:
    async def story(rig: Rig) -> None:
        for name in ("one", "two", "three"):
            await parking(rig, name)
        await know(rig, there(healthy=False))
        await wait(rig, *(retry(number, on_backend()) for number in range(40)))
        await know(rig, there(), load(at=rig.bus.now()))
        await rig.settle(0.5)
        assert len(woken(rig)) == len(set(woken(rig)))
        assert len(woken(rig)) <= 8, "twice the free slots, and as many again at most where they could not know"
        assert "j-0" in woken(rig)

    play(story, faults=Faults(delay_seconds=(0.0, 0.01)))


def test_who_has_ended_is_not_woken_and_takes_nobodys_place() -> None:
    async def story(rig: Rig) -> None:
        await parking(rig)
        await know(rig, there(healthy=False))
        await wait(rig, *(retry(number, on_backend()) for number in range(12)))
        for number in range(10):
            await rig.publish(Done(tenant="acme", job=f"j-{number}", ending="cancelled", at=T0))
        await know(rig, there(), load(at=rig.bus.now()))
        await rig.settle(2.0)
        assert woken(rig) == ["j-10", "j-11"]

    play(story)


def test_a_breaker_lets_one_try_and_a_settlement_lets_go_whom_it_leaves_room_for() -> None:
    async def story(rig: Rig) -> None:
        await parking(rig)
        await know(rig, there(), load(), breaker(T0 + 20), used(0, 100))
        await wait(rig, *(retry(number, on_breaker()) for number in range(4)))
        await wait(rig, *(retry(number, on_budget(40)) for number in range(4, 8)))
        await rig.settle(10.0)
        assert rig.stored(Due) == []
        await know(rig, used(10, 0, at=rig.bus.now()))
        await rig.settle(1.0)
        assert woken(rig) == ["j-4", "j-5"]
        await know(rig, used(80, 0, at=rig.bus.now()))
        await rig.settle(15.0)
        assert woken(rig)[2:5] == ["j-6", "j-7", "j-0"], (
            "no room is left for two, who are told; then one tries the backend"
        )

    play(story)


def test_a_wake_that_was_not_stored_is_made_good() -> None:
    """The process is cut off as it says `due`: the schedule is still there, and all waits are read again."""

    async def story(rig: Rig) -> None:
        room = await parking(rig)
        await know(rig, there(healthy=False))
        await wait(rig, retry(0, on_backend()))
        await rig.settle(1.0)
        room.actor._said["acme", "j-0"] = 2, rig.bus.now() - CLEAR_SECONDS
        room.actor.index.wake(("acme", "j-0"), 1, rig.bus.now())
        room.actor.index.drop(("acme", "j-0"), 2)
        assert len(scheduled(rig)) == 1, "it is removed only once the wake is stored"
        await know(rig, there(), load(at=rig.bus.now()))
        await rig.settle(3 * CLEAR_SECONDS)
        assert woken(rig) == ["j-0"]
        assert scheduled(rig) == []

    play(story)


@pytest.mark.parametrize("lost", [0.3, 1.0])
def test_when_signals_are_lost_it_still_ends_at_its_time_or_earlier(lost: float) -> None:
    async def story(rig: Rig) -> None:
        await parking(rig)
        await know(rig, there(), load())
        await wait(rig, *(retry(number, on_backend(), not_before=T0 + 400) for number in range(6)))
        await rig.settle(500.0)
        assert {due.job for due in rig.stored(Due)} == {f"j-{number}" for number in range(6)}

    play(story, faults=Faults(signal_lost=lost))
