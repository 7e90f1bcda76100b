"""One executor of backend `a` with an adapter as a test writes it: what it says aloud, and what it stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec

from actors.executor.actor import Executor
from actors.executor.backends import port
from actors.executor.claim import InHand
from actors.executor.served import Served
from actors.host import Host
from actors.journal import Journal
from actors.roster import Roster
from bus import codec
from bus.bus import Signal
from bus.topology import work_queue
from messages import (
    Attempted,
    Chunk,
    ExecutorAlive,
    Failover,
    JobSubmit,
    Message,
    Model,
    Offer,
    Price,
    Progress,
    Work,
)
from tests.actors.rig import Rig, room_of
from tests.messages.samples import T0, slip, work

M = TypeVar("M", bound=Message)
Play = Callable[[port.Call], AsyncIterator[port.Item]]
PRICE = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)
"""One micro-dollar for each token."""


class Adapter:
    """An adapter as a test writes it."""

    def __init__(self, run: Any, health: Any = None) -> None:
        self.run = run
        self._health = health

    async def health(self) -> port.Vitals:
        if self._health is not None:
            raise self._health
        return port.Vitals()

    async def discover(self) -> tuple[port.Offer, ...]:
        return ()

    async def close(self) -> None:
        return None


class Desk:
    """One executor of backend `a`, what it said aloud, and what it stored."""

    def __init__(self, rig: Rig, host: Host, in_hand: InHand, adapter: Adapter) -> None:
        self.rig, self.host, self.in_hand, self.adapter = rig, host, in_hand, adapter
        self.aloud: list[Message] = []

    def heard(self, kind: type[M]) -> list[M]:
        return [message for message in self.aloud if isinstance(message, kind)]

    def chunks(self, job: str = "j-1") -> list[tuple[int, str]]:
        return [(chunk.number, chunk.text) for chunk in self.heard(Chunk) if chunk.job == job]

    async def end(self, item: Work, seconds: float = 60.0) -> Attempted:
        """Let it run a work item, and give how that ended."""
        await self.rig.publish(item)
        await self.rig.settle(seconds)
        [end] = self.rig.stored(Attempted)
        assert await self.rig.unacknowledged(work_queue("a", 4)) == 0
        assert self.in_hand == {}
        assert self.in_hand.calls == {}
        assert not [name for name in self.host.counts if "crash" in name]
        return end


async def desk(
    rig: Rig,
    run: Play,
    health: Any = None,
    models: tuple[Model, ...] = (Model(name="m"),),
    local: bool = True,
    tells: type[Adapter] = Adapter,
    **more: Any,
) -> Desk:
    adapter, in_hand = tells(run, health), InHand()
    served = {
        "a": Served(
            offer=Offer(backend="a", protocol="inprocess", local=local, slots=4, models=models), adapter=adapter
        )
    }
    shared: dict[str, Any] = {
        "journal": Journal(rig.bus), "roster": Roster(since=rig.bus.now()), "in_hand": in_hand, "clock": rig.bus.now,
        "served": served, **more,
    }  # fmt: skip
    aloud: list[Message] = []

    async def note(signal: Signal) -> None:
        kind = codec.type_at(signal.subject)
        assert kind is not None
        aloud.append(codec.decode(kind, signal.data, signal.headers))

    for kind in (Chunk, Progress, ExecutorAlive):
        await rig.bus.subscribe(kind.channel.public, note)
    await rig.bus.set_up_queue(work_queue("a", 4))
    host = await rig.host(room_of(lambda: Executor(**shared)), instance="exec-a")
    made = Desk(rig, host, in_hand, adapter)
    made.aloud = aloud
    return made


def item(*, body: Any = None, seconds: float = 600.0, needs: Any = None, **changes: Any) -> Work:
    """A work item that carries its body, with so many seconds to go."""
    encoded = msgspec.Raw(codec.encode(JobSubmit(prompt="hi")) if body is None else body)
    given: dict[str, Any] = {"price": PRICE, "slip": slip(
        input=encoded, deadline_at=T0 + seconds, needs=needs or {})}  # fmt: skip
    return work(**{**given, **changes})


def answer(text: str, *, usage: port.Usage | None = None, **more: Any) -> port.Answer:
    return port.Answer(
        text=text, finish_reason="stop", model="m", usage=usage or port.Usage(input_tokens=3, output_tokens=4), **more
    )  # fmt: skip


def saying(*items: str | float | port.Answer | port.BackendError) -> Play:
    """An adapter's run that sends texts, waits for numbers of seconds, and ends with an answer or an error."""

    async def run(_: port.Call) -> AsyncIterator[port.Item]:
        for one in items:
            if isinstance(one, port.BackendError):
                raise one
            if isinstance(one, (float, int)):
                await asyncio.sleep(one)
            else:
                yield port.Chunk(text=one) if isinstance(one, str) else one

    return run


def stalled(seconds: float) -> Failover:
    return Failover(stall_seconds=seconds)
