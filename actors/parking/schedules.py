"""The waits as the server keeps them: a schedule for each job that waits, which is there until it fires or is removed."""

from __future__ import annotations

from bus import codec
from bus.bus import Bus
from messages import Due, Retry

EVERYWHERE = Due.channel.pattern.replace("ev.", "sched.", 1)


class Schedules:
    """Reads and removes scheduled `due`. Raises the bus's errors."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.unread = True
        """Something may have been missed: whoever keeps an index reads all of them again."""

    async def missed(self) -> None:
        """The connection was gone for a while."""
        self.unread = True

    async def read(self) -> list[Retry]:
        """Every wait that there is now."""
        records = self._bus.read(Due.channel.stream, EVERYWHERE)
        return [codec.decode(Due, record.data, record.headers).retry async for record in records]

    async def find(self, tenant: str, job: str, n: int) -> Due | None:
        """One wait; None when it is over, or not scheduled yet."""
        record = await self._bus.last(Due.channel.stream, _subject(tenant, job, n))
        return codec.decode(Due, record.data, record.headers) if record is not None else None

    async def remove(self, tenant: str, job: str, n: int) -> None:
        """It was said early, and that is stored: it need not fire."""
        await self._bus.purge(Due.channel.stream, _subject(tenant, job, n))


def _subject(tenant: str, job: str, n: int) -> str:
    return Due.channel.key_of(tenant=tenant, job=job, n=n).replace("ev.", "sched.", 1)
