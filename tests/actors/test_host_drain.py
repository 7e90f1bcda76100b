"""A clean stop finishes what is in hand: no timer may end a pull, for that ends the calls behind it."""

from __future__ import annotations

from typing import Any

from actors.actor import Actor, Heard, every, hears
from actors.room import Room
from bus.topology import ANALYZER
from messages import JobSubmit
from tests.actors.rig import Rig, play


def watched(host: Any, stopped: list[int]) -> None:
    """Note how much was in hand whenever a pull is stopped, as JetStream's pull would cancel just that."""
    consume = host.bus.consume

    async def consuming(*args: Any, **more: Any) -> Any:
        pull = await consume(*args, **more)
        stop = pull.stop

        async def noted() -> None:
            stopped.append(host.in_hand)
            await stop()

        pull.stop = noted
        return pull

    host.bus.consume = consuming


class Slow(Actor):
    room = "analyzer"
    tick_seconds = 0.5

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    @hears
    async def job_submit(self, submit: JobSubmit, heard: Heard) -> None:
        await self.state["sleep"](5.0)
        self.state["handled"] = True

    @every("tick_seconds")
    def tick(self, heard: Heard) -> None:
        return None

    def pulls(self) -> dict[Any, int]:
        return {ANALYZER: 2} if self.state["wanted"] else {}


def test_a_queue_that_is_no_longer_wanted_lets_its_work_end() -> None:
    async def story(rig: Rig) -> None:
        state: dict[str, Any] = {"sleep": rig.settle, "wanted": False, "handled": False}
        stopped: list[int] = []
        host = await rig.host(Room(lambda: Slow(state)))
        watched(host, stopped)
        state["wanted"] = True
        await rig.settle(1.0)
        await rig.submit()
        await rig.settle(1.0)
        assert host.in_hand == 1
        state["wanted"] = False
        await rig.settle(10.0)
        assert state["handled"]
        assert stopped == [0]

    play(story)


def test_a_drain_waits_for_what_is_in_hand_and_takes_nothing_up_again() -> None:
    async def story(rig: Rig) -> None:
        state: dict[str, Any] = {"sleep": rig.settle, "wanted": False, "handled": False}
        stopped: list[int] = []
        host = await rig.host(Room(lambda: Slow(state)))
        watched(host, stopped)
        state["wanted"] = True
        await rig.settle(1.0)
        await rig.submit()
        await rig.settle(1.0)
        state["wanted"] = False  # As an executor does that leaves.
        await host.drain(20.0)
        assert state["handled"]
        assert stopped == []

    play(story)
