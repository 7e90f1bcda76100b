"""What listens on core subjects: a plain subscription, and a watch on all facts."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from bus.bus import BusError, FactEntry, Headers, OnFact
from bus.jetstream_api import Api
from bus.link import Link, LinkClosed, LinkDown, NoAnswer, NoResponders
from bus.topology import FACTS
from bus.wire import Frame, HeaderBlock

log = logging.getLogger(__name__)

_SIGNALS_KEPT = 65_536
_PAUSE_SECONDS = 0.5


class Hearing:
    """A core subscription: its callbacks run one after the other in one task."""

    def __init__(self, link: Link, pattern: str, hear: Callable[[Frame], Awaitable[None]], ends: list[Any]) -> None:
        self._link = link
        self._pattern = pattern
        self._hear = hear
        self._ends = ends
        self._frames: deque[Frame] = deque()
        self._wake = asyncio.Event()
        self._lost = 0
        self._stopped = False
        self._sid = link.listen(pattern, self._on_frame)
        self._task = asyncio.get_running_loop().create_task(self._run())
        ends.append(self)

    def _on_frame(self, frame: Frame) -> None:
        if not frame.data and frame.status:
            return
        if len(self._frames) >= _SIGNALS_KEPT:
            if not self._lost:
                log.warning("%s: messages come faster than they are handled; some are dropped", self._pattern)
            self._lost += 1
            return
        self._frames.append(frame)
        self._wake.set()

    async def _run(self) -> None:
        while not self._stopped:
            while self._frames:
                try:
                    await self._hear(self._frames.popleft())
                except Exception:
                    log.exception("a callback on %s failed", self._pattern)
            if not self._stopped:
                self._wake.clear()
                await self._wake.wait()

    def cancel(self) -> list[asyncio.Task[None]]:
        """End it without waiting: the tasks that are ending."""
        self._link.forget(self._sid)
        self._frames.clear()
        self._stopped = True
        if self in self._ends:
            self._ends.remove(self)
        if self._task is not asyncio.current_task():
            self._task.cancel()
        return [self._task]

    async def stop(self) -> None:
        """End it; after this its callback is not called again."""
        await _ended(self.cancel())


class Watch:
    """Follows all facts: a core subscription on what is republished, and a reading of everything now and then."""

    def __init__(self, api: Api, link: Link, on_fact: OnFact, ends: list[Any]) -> None:
        self._api = api
        self._link = link
        self._on_fact = on_fact
        self._ends = ends
        self._entries: deque[FactEntry] = deque()
        self._wake = asyncio.Event()
        self._revisions: dict[str, int] = {}
        self._reread = True
        self._stopped = False
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if FACTS.republish is None:
            raise BusError("facts are not republished")
        self._pattern = FACTS.subjects[0]
        self._sid = link.listen(FACTS.republish[1], self._on_frame)
        link.on_up.append(self._on_up)
        self._task = asyncio.get_running_loop().create_task(self._run())
        ends.append(self)

    async def begin(self) -> None:
        """Return after the first pass."""
        await asyncio.shield(self._first)

    def _on_up(self) -> None:
        self._reread = True
        self._wake.set()

    def _on_frame(self, frame: Frame) -> None:
        headers = HeaderBlock(frame.head)
        subject, seq = headers.get("Nats-Subject"), headers.get("Nats-Sequence")
        if subject is None or seq is None:
            return  # Not from the stream.
        if len(self._entries) >= _SIGNALS_KEPT:
            self._entries.clear()
            self._reread = True
        self._entries.append(FactEntry(subject, int(seq), None if _deleted(headers) else frame.data))
        self._wake.set()

    async def _run(self) -> None:
        while not self._stopped:
            if self._reread:
                self._reread = False
                try:
                    await self._read_all()
                except (LinkDown, NoAnswer, NoResponders) as fault:
                    self._reread = True
                    if not self._first.done():
                        self._first.set_exception(fault)
                        return
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                except (BusError, LinkClosed) as fault:
                    if not self._first.done():
                        self._first.set_exception(fault)
                    return
                if not self._first.done():
                    self._first.set_result(None)
            while self._entries and not self._stopped:
                entry = self._entries.popleft()
                if entry.revision > self._revisions.get(entry.subject, 0):
                    await self._tell(entry)
            if not self._reread and not self._stopped:
                self._wake.clear()
                await self._wake.wait()

    async def _read_all(self) -> None:
        unseen = set(self._revisions)
        async for record in self._api.read(FACTS.name, self._pattern):
            if self._stopped:
                return
            unseen.discard(record.subject)
            if record.seq >= self._revisions.get(record.subject, 0):
                await self._tell(
                    FactEntry(record.subject, record.seq, None if _deleted(record.headers) else record.data)
                )
        for subject in unseen:  # Removed while nobody here listened, or written anew since the reading began.
            if await self._api.last(FACTS.name, subject) is None:
                await self._tell(FactEntry(subject, self._revisions[subject], None))

    async def _tell(self, entry: FactEntry) -> None:
        if entry.data:
            self._revisions[entry.subject] = entry.revision
        else:  # Its name may never come again. What is older came before: all of it lies in one stream.
            self._revisions.pop(entry.subject, None)
        try:
            await self._on_fact(entry)
        except Exception:
            log.exception("hearing the fact %s failed", entry.subject)

    def cancel(self) -> list[asyncio.Task[None]]:
        """End it without waiting: the tasks that are ending."""
        self._link.forget(self._sid)
        if self._on_up in self._link.on_up:
            self._link.on_up.remove(self._on_up)
        if self in self._ends:
            self._ends.remove(self)
        self._stopped = True
        if self._task is not asyncio.current_task():
            self._task.cancel()
        if not self._first.done():
            self._first.set_exception(LinkClosed())
        return [self._task]

    async def stop(self) -> None:
        """End it; after this its callback is not called again."""
        await _ended(self.cancel())
        if self._first.done():
            self._first.exception()  # Heard.


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    others = [task for task in tasks if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others)


def _deleted(headers: Headers) -> bool:
    return headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers
