"""Refusing: while the NATS server of this process stores nothing, whoever publishes a job is told so at once, and why.

A stream that met a full disk answers no publish at all, and its clients would wait for their timeouts. The answer is shaped
like JetStream's own, so that any client takes it for what it is: an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable

import msgspec

from bus.bus import Bus, BusError, Signal, Subscription
from bus.jetstream_api import NO_ROOM, STORE_FAILED
from bus.server_guard import Guard
from bus.topology import IN

log = logging.getLogger("turnout.console")

PAUSE_SECONDS = 0.3
"""The server goes first: what it stores all the same is not refused."""


class Refusing:
    """Hears what is published for the `IN` stream while there is trouble, and answers it."""

    def __init__(self, bus: Bus, guard: Guard) -> None:
        self._bus, self._guard = bus, guard
        self._hearing: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        guard.on_trouble = self._on_trouble
        self._on_trouble(guard.trouble)

    def _on_trouble(self, trouble: str) -> None:
        if trouble or self._hearing:
            self._spawn(self._change)

    async def _change(self) -> None:
        async with self._turn:
            if self._guard.trouble and not self._hearing:
                self._hearing = [await self._bus.subscribe(subject, self._hear) for subject in IN.subjects]
            elif not self._guard.trouble:
                while self._hearing:
                    await self._hearing.pop().stop()

    async def _hear(self, signal: Signal) -> None:
        if signal.reply:
            self._spawn(functools.partial(self._refuse, signal.reply))

    async def _refuse(self, reply: str) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        why = self._guard.trouble
        if why:
            text = f"not stored: {why}. Free some space there and publish it again; nothing need be started anew"
            error = {"code": NO_ROOM, "err_code": STORE_FAILED, "description": text}
            await self._bus.signal(reply, msgspec.json.encode({"error": error, "stream": IN.name, "seq": 0}))

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        async def quietly() -> None:
            try:
                await work()
            except BusError as error:
                log.debug("refusing: %s", error)

        task = asyncio.get_running_loop().create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Answer nobody any more."""
        self._guard.on_trouble = None
        for task in list(self._tasks):
            task.cancel()
        for hearing in self._hearing:
            with contextlib.suppress(BusError):
                await hearing.stop()
