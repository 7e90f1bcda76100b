"""Rooms on the in-memory bus in virtual time: what the tests of the host and of the rooms' ports run on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from actors.actor import Actor
from actors.host import Host
from actors.room import Room
from actors.voice import Boundary
from bus import codec, simloop
from bus.bus import Put, Record
from bus.memory import Faults, MemoryBus, MemoryServer
from bus.topology import Queue, topology
from messages import JobSubmit, Message, token

M = TypeVar("M", bound=Message)


class Rig:
    """One server with all streams, and as many processes as a test wants."""

    def __init__(self, server: MemoryServer, bus: MemoryBus) -> None:
        self.server, self.bus = server, bus
        self.hosts: list[Host] = []

    async def host(
        self, *rooms: Room, instance: str = "front", boot: str = "b1", hand_on: bool = True,
        boundary: Boundary | None = None,
    ) -> Host:  # fmt: skip
        """Start a process with these rooms."""
        made = Host(
            await self.server.connect(instance), rooms, instance=instance, boot=boot, hand_on=hand_on,
            boundary=boundary,
        )  # fmt: skip
        await made.open()
        self.hosts.append(made)
        return made

    async def publish(self, message: Message, *, msg_id: str = "", subject: str = "") -> Put:
        """Say something from outside."""
        subject = subject or message.subject
        return await self.bus.publish(subject, codec.encode(message), msg_id=msg_id or f"test:{subject}")

    async def submit(self, tenant: str = "acme", **fields: Any) -> Put:
        """Submit a job."""
        given: dict[str, Any] = {"prompt": "hi"}
        body = codec.encode(JobSubmit(**{**given, **fields}))
        return await self.raw(f"job.submit.{token(tenant)}", body)

    async def raw(self, subject: str, body: bytes, *, headers: dict[str, str] | None = None) -> Put:
        """Publish bytes."""
        self._raw = getattr(self, "_raw", 0) + 1
        return await self.bus.publish(subject, body, msg_id=f"raw:{self._raw}", headers=headers)

    def stored(self, kind: type[M]) -> list[M]:
        """Every stored message of a type, in order."""
        return [codec.decode(kind, record.data) for record in self.records(kind)]

    def records(self, kind: type[Message]) -> list[Record]:
        """The same with subjects and headers."""
        log = self.server.log(kind.channel.stream)
        return [record for record in log if codec.type_at(record.subject) is kind]

    async def settle(self, seconds: float = 1.0) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def unacknowledged(self, queue: Queue) -> int:
        """How many messages a queue still has to hand out, or to hear about."""
        state = await self.bus.queue_state(queue)
        return state.waiting + state.running if state else 0


def play(
    story: Callable[[Rig], Awaitable[None]], *, seed: int = 1, faults: Faults | None = None, rooms: Any = "together"
) -> MemoryServer:
    """Play a story on a fresh server in virtual time; that server, for looking at what happened."""

    async def main() -> MemoryServer:
        server = MemoryServer(seed=seed, faults=faults or Faults())
        bus = await server.connect("test")
        await bus.set_up(topology(rooms))
        rig = Rig(server, bus)
        try:
            await story(rig)
        finally:
            for host in rig.hosts:
                await host.close()
                await host.bus.close()
            await bus.close()
        return server

    return simloop.run(main(), seed=seed)


def room_of(factory: Callable[[], Actor], *queues: Queue, slots: int = 8) -> Room:
    """A room that hears these queues."""
    taken: Sequence[tuple[Queue, int]] = [(queue, slots) for queue in queues]
    return Room(factory, queues=taken)
