from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from actors.host import Host
from actors.registry.actor import Registry
from actors.roster import Roster
from bus import codec
from bus.bus import Bus, QueueState
from bus.topology import work_queue
from messages import Backend, ExecutorAlive, Load, Model, Offer, Running
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, backend, work


class Queues:
    """The executors' queues, straight on the bus."""

    def __init__(self, bus: Bus, steps: list[str]) -> None:
        self.bus, self.steps = bus, steps

    async def set_up(self, backend: str, slots: int) -> None:
        await self.bus.set_up_queue(work_queue(backend, slots))
        self.steps.append(f"queue {backend} {slots}")

    async def states(self, backends: Sequence[str]) -> tuple[int, list[QueueState | None]]:
        seq = await self.bus.last_seq("WORK")
        return seq, [await self.bus.queue_state(work_queue(backend, 1)) for backend in backends]


async def registry(rig: Rig, steps: list[str] | None = None) -> Host:
    told = steps if steps is not None else []

    async def boundary(point: str, name: str) -> None:
        if point == "before publish":
            told.append(name)

    queues, roster = Queues(rig.bus, told), Roster(since=rig.bus.now())
    return await rig.host(room_of(lambda: Registry(queues=queues, roster=roster)), boundary=boundary)


def offer(**changes: Any) -> Offer:
    given: dict[str, Any] = {"backend": "a", "protocol": "ollama", "local": True, "models": (Model(name="m"),)}
    return Offer(**{**given, **changes})


def speaker(rig: Rig, instance: str = "e", **changes: Any) -> Callable[..., Any]:
    number = 0

    async def beat(*offers: Offer, leaving: bool = False, runs: str = "") -> None:
        nonlocal number
        number += 1
        running = tuple(
            Running(tenant="acme", job=f"j-{model}", n=1, run=model, backend="a", model=model) for model in runs
        )
        alive = ExecutorAlive(
            instance=instance, boot="b", number=number, offers=offers, leaving=leaving, running=running,
            at=rig.bus.now(),
        )  # fmt: skip
        await rig.bus.signal(alive.subject, codec.encode(alive))
        await rig.settle(0.1)

    return beat


def test_a_backend_is_told_after_its_queue_exists() -> None:
    async def story(rig: Rig) -> None:
        steps: list[str] = []
        await registry(rig, steps)
        await speaker(rig)(offer(slots=3))
        assert steps == ["queue a 3", "turnout.backend"]
        (fact,) = rig.stored(Backend)
        assert (fact.backend, fact.slots, fact.executors, fact.healthy) == ("a", 3, ("e",), True)
        state = await rig.bus.queue_state(work_queue("a", 1))
        assert state == QueueState(waiting=0, running=0)

    play(story)


def test_only_what_changes_is_told_and_executors_of_one_server_share_its_slots() -> None:
    async def story(rig: Rig) -> None:
        steps: list[str] = []
        await registry(rig, steps)
        one, two = speaker(rig, "one"), speaker(rig, "two")
        for _ in range(3):
            await one(offer(slots=3))
        assert steps == ["queue a 3", "turnout.backend"] or steps.count("turnout.backend") == 1
        await two(offer(slots=3))
        assert rig.stored(Backend)[0].slots == 3
        await two(offer(slots=4))
        assert rig.stored(Backend)[0].slots == 4
        assert [step for step in steps if step.startswith("queue")] == ["queue a 3", "queue a 4"]
        await two(offer(slots=2, healthy=False, health_reason="on fire"))
        assert rig.stored(Backend)[0].slots == 3
        await one(leaving=True)
        (fact,) = rig.stored(Backend)
        assert (fact.executors, fact.healthy, fact.health_reason) == (("two",), False, "on fire")

    play(story)


def test_who_falls_silent_is_gone_after_a_while() -> None:
    async def story(rig: Rig) -> None:
        await registry(rig)
        await speaker(rig)(offer())
        await rig.settle(5.0)
        assert rig.stored(Backend)[0].slots == 1
        await rig.settle(3.0)
        (fact,) = rig.stored(Backend)
        assert (fact.slots, fact.healthy, fact.health_reason) == (0, False, "no executor serves it")
        await speaker(rig, "next")(offer(slots=2))
        assert rig.stored(Backend)[0].slots == 2

    play(story)


def test_a_clean_stop_is_noticed_at_once() -> None:
    async def story(rig: Rig) -> None:
        await registry(rig)
        beat = speaker(rig)
        for _ in range(70):
            await beat(offer())
        await beat(offer(), leaving=True)
        assert rig.stored(Backend)[0].slots == 0

    play(story)


def test_a_fresh_registry_calls_nobody_gone_before_it_could_hear() -> None:
    async def story(rig: Rig) -> None:
        await rig.bus.put_fact(backend("a").subject, codec.encode(backend("a")))
        await registry(rig)
        await rig.settle(5.0)
        assert rig.stored(Backend)[0].slots == 4
        await rig.settle(3.0)
        assert rig.stored(Backend)[0].slots == 0

    play(story)


def test_the_load_is_told_on_change() -> None:
    async def story(rig: Rig) -> None:
        steps: list[str] = []
        await registry(rig, steps)
        beat = speaker(rig)
        await beat(offer(slots=1))
        await rig.settle(0.5)
        assert [(load.waiting, load.running) for load in rig.stored(Load)] == [(0, 0)]
        for number in range(3):
            await rig.publish(work(job=f"j-{number}"))

        async def hold(delivery: Any) -> None: ...

        await rig.bus.consume(work_queue("a", 1), hold, slots=1)
        await rig.settle(0.5)
        (load,) = rig.stored(Load)
        assert (load.waiting, load.running) == (2, 1)
        assert load.at >= T0
        told = steps.count("turnout.load")
        await beat(offer(slots=1))
        await rig.settle(0.5)
        assert steps.count("turnout.load") == told

    play(story)


def test_what_is_loaded_is_what_runs_or_ran_last() -> None:
    async def story(rig: Rig) -> None:
        steps: list[str] = []
        await registry(rig, steps)
        beat = speaker(rig)

        async def loaded(runs: str) -> tuple[str, ...] | None:
            await beat(offer(slots=2), runs=runs)
            await rig.settle(0.5)
            (load,) = rig.stored(Load)
            assert load.vram_free_mb is None
            return load.loaded

        assert await loaded("") is None
        assert await loaded("m") == ("m",)
        assert await loaded("") == ("m",), "it ran last"
        assert await loaded("nm") == ("m", "n"), "both run at once"
        assert await loaded("") == ("m", "n")
        assert await loaded("n") == ("n",), "alone it may have taken the place of the other"
        told = steps.count("turnout.load")
        assert await loaded("") == ("n",)
        assert steps.count("turnout.load") == told, "nothing has changed"

    play(story)


def test_a_registry_that_starts_again_knows_what_ran_last() -> None:
    async def story(rig: Rig) -> None:
        before = Load(backend="a", waiting=1, running=0, loaded=("m",), at=T0)
        await rig.bus.put_fact(before.subject, codec.encode(before))
        await registry(rig)
        await rig.settle(0.5)
        beat = speaker(rig)
        await beat(offer())
        await rig.settle(0.5)
        (load,) = rig.stored(Load)
        assert (load.waiting, load.loaded) == (0, ("m",))
        await beat(offer(), runs="n")
        await rig.settle(0.5)
        assert rig.stored(Load)[0].loaded == ("n",)

    play(story)


def test_of_what_nobody_serves_nothing_is_loaded() -> None:
    async def story(rig: Rig) -> None:
        await registry(rig)
        beat = speaker(rig)
        await rig.settle(7.0)
        await beat(offer(), runs="m")
        await rig.settle(0.5)
        assert rig.stored(Load)[0].loaded == ("m",)
        await beat(offer(), leaving=True)
        await rig.settle(1.5)
        assert rig.stored(Backend)[0].slots == 0
        assert rig.stored(Load)[0].loaded is None

    play(story)


def test_group_and_memory_are_told_with_the_backend() -> None:
    async def story(rig: Rig) -> None:
        await registry(rig)
        beat = speaker(rig)
        await beat(offer(exclusive_group="gpu", active=False, vram_total_mb=12_288))
        (fact,) = rig.stored(Backend)
        assert (fact.exclusive_group, fact.active, fact.vram_total_mb) == ("gpu", False, 12_288)
        await beat(offer(exclusive_group="gpu", active=True, vram_total_mb=12_288))
        assert rig.stored(Backend)[0].active

    play(story)


@pytest.mark.parametrize("name", ["llama3.1:8b", "org/gpu 1", "ü"])
def test_odd_names_have_queues_too(name: str) -> None:
    async def story(rig: Rig) -> None:
        await registry(rig)
        await speaker(rig)(offer(backend=name))
        assert [fact.backend for fact in rig.stored(Backend)] == [name]

    play(story)


def test_the_load_tells_what_others_have_waiting_what_is_loaded_and_what_is_free() -> None:
    async def story(rig: Rig) -> None:
        await registry(rig)
        one, two = speaker(rig, "one"), speaker(rig, "two")
        await one(offer(slots=1, foreign=3, loaded=("n",), vram_free_mb=900))
        await two(offer(slots=1, foreign=2))
        await rig.publish(work(job="j-1"))
        await rig.settle(0.5)
        (load,) = rig.stored(Load)
        assert (load.waiting, load.running, load.loaded, load.vram_free_mb) == (4, 0, ("n",), 900)
        await one(offer(slots=1, loaded=()))
        await two(offer(slots=1))
        await rig.settle(0.5)
        (load,) = rig.stored(Load)
        assert (load.waiting, load.loaded, load.vram_free_mb) == (1, (), None)

    play(story)


def test_a_queue_hands_out_as_many_ahead_as_its_executors_hold() -> None:
    async def story(rig: Rig) -> None:
        steps: list[str] = []
        queues, roster = Queues(rig.bus, steps), Roster(since=rig.bus.now())
        await rig.host(room_of(lambda: Registry(queues=queues, roster=roster, ahead=4)))
        several = (Model(name="m"), Model(name="n"))
        await speaker(rig, "one")(
            offer(slots=2, models=several), offer(backend="b", slots=3), offer(backend="c", local=False, models=several),
            offer(backend="d", slots=1, exclusive_group="gpu"),
        )  # fmt: skip
        await speaker(rig, "two")(offer(slots=2, models=several))
        await rig.settle(0.5)
        assert steps == ["queue a 6", "queue b 3", "queue c 1", "queue d 5", "queue a 2"]
        assert {fact.backend: fact.slots for fact in rig.stored(Backend)} == {"a": 2, "b": 3, "c": 1, "d": 1}

    play(story)
