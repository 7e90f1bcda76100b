"""What is written about one job: reads of stored events, for handlers that must look before they act."""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

import msgspec

from actors.course import Course
from bus import codec
from bus.bus import Bus, Kept, Object, Pieces
from bus.topology import INPUTS
from messages import Analyzed, Attempted, Done, Due, Granted, Held, Message, Retry, Started

M = TypeVar("M", bound=Message)


class Journal:
    """Reads the one stored event of a kind. Raises the bus's errors."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, kind: type[M], /, **keys: object) -> M | None:
        """The event of this type with these keys, or None."""
        record = await self._bus.last(kind.channel.stream, kind.channel.key_of(**keys))
        return codec.decode(kind, record.data, record.headers) if record else None

    async def done(self, tenant: str, job: str) -> Done | None:
        """The end of a job, if it has ended."""
        return await self.read(Done, tenant=tenant, job=job)

    async def attempted(self, tenant: str, job: str, n: int) -> Attempted | None:
        """How attempt `n` ended, if it has."""
        return await self.read(Attempted, tenant=tenant, job=job, n=n)

    async def granted(self, tenant: str, job: str, n: int) -> Granted | None:
        """The verdict on round `n`, if there is one."""
        return await self.read(Granted, tenant=tenant, job=job, n=n)

    async def held(self, tenant: str, job: str, before: float) -> Held | None:
        """The latest word that a job waits for a person, of those stored by then (seconds on the server's clock)."""
        found: Held | None = None
        channel = Held.channel
        async for record in self._bus.read(channel.stream, channel.key_of(tenant=tenant, job=job)):
            one = codec.decode(Held, record.data, record.headers)
            if record.time <= before and (found is None or one.n > found.n):
                found = one
        return found

    async def course(self, tenant: str, job: str) -> Course:
        """How far a job has come that has not ended: the latest of what says so, and all its attempts."""
        analyzed, attempted, granted, started = await asyncio.gather(
            self.read(Analyzed, tenant=tenant, job=job),
            self._all(Attempted, tenant, job),
            self._latest(Granted, tenant, job),
            self._latest(Started, tenant, job),
        )
        retry, due, held = await asyncio.gather(
            self._latest(Retry, tenant, job), self._latest(Due, tenant, job), self._latest(Held, tenant, job)
        )
        return Course(
            analyzed=analyzed, attempted=tuple(attempted), granted=granted, started=started, retry=retry, due=due, held=held,
        )  # fmt: skip

    async def _latest(self, kind: type[M], tenant: str, job: str) -> M | None:
        """The one of the latest round."""
        found = await self._all(kind, tenant, job)
        return max(found, key=lambda one: cast("int", getattr(one, "n", 0)), default=None)

    async def _all(self, kind: type[M], tenant: str, job: str) -> list[M]:
        key = kind.channel.key_of(tenant=tenant, job=job)
        found = self._bus.read(kind.channel.stream, key)
        return [codec.decode(kind, record.data, record.headers) async for record in found]

    async def submission(self, seq: int) -> bytes | None:
        """The body of a submission as JSON, or None when it is no longer kept."""
        record = await self._bus.get("IN", seq)
        return codec.as_json(record.data, record.headers) if record else None

    async def keep(self, key: str, data: bytes) -> None:
        """Put a result aside that is too large for an event."""
        await self._bus.put_object(key, data)

    async def keep_once(self, key: str, data: bytes) -> None:
        """The same under a key that names its content: nothing else can lie there, which saves two round trips."""
        await self._bus.put_object(key, data, once=True)

    async def keep_file(self, key: str, pieces: Pieces) -> Kept:
        """Put a file aside that was made, piece by piece. The same key again replaces it."""
        return await self._bus.put_object(key, pieces)

    async def open(self, key: str) -> Object | None:
        """A file that a job brings along, or that an earlier one made; None when it is not kept (any more)."""
        return await self._bus.open_object(key, bucket=INPUTS) or await self._bus.open_object(key)

    async def forget(self, key: str) -> None:
        """Remove a file that nobody will ask for."""
        await self._bus.remove_object(key)


def empty(raw: msgspec.Raw) -> bool:
    """Whether a routing slip carries no body of its own."""
    return bytes(raw) == b"null"
