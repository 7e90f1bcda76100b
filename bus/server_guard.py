"""Guard: tells when a nats-server stores nothing, and has it started anew once there is room: it does not recover by itself."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the disk is looked at."""
PAUSES_SECONDS = (2.0, 5.0, 15.0, 60.0, 300.0)
"""Between two restarts lies at least the next of these. Ten minutes without one, and it begins anew."""


class Looks(Protocol):
    """What is guarded; `Disk` in earnest."""

    @property
    def trouble(self) -> str:
        """Why nothing is stored, in words."""
        ...

    def look(self) -> bool:
        """Look at it; whether there is trouble."""
        ...

    def has_room(self) -> bool:
        """Whether something can be written."""
        ...


class Guard:
    """Watches over one server's disk. `restart` is called only while there is room, and never twice in a row at once."""

    def __init__(
        self,
        disk: Looks,
        restart: Callable[[], Awaitable[None]],
        *,
        offload: Callable[[Callable[[], bool]], Awaitable[bool]] = asyncio.to_thread,
    ) -> None:
        self.disk, self._restart, self._offload = disk, restart, offload
        self.on_trouble: Callable[[str], None] | None = None
        self.trouble = ""
        """Why nothing is stored, as it was told last; empty: all is well."""
        self._restarts: deque[float] = deque(maxlen=len(PAUSES_SECONDS))

    async def run(self) -> None:
        """For as long as the server is wanted."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except OSError as fault:
                log.warning("the disk of the nats-server can't be looked at: %s", fault)

    async def look(self) -> None:
        """Look once, and act."""
        there = self.disk.look()
        if there != bool(self.trouble):
            self._tell(self.disk.trouble if there else "")
        if there and self._may_restart() and await self._offload(self.disk.has_room):
            log.warning("there is room again: the nats-server is started anew, to store again")
            self._restarts.append(asyncio.get_running_loop().time())
            await self._restart()

    def _may_restart(self) -> bool:
        now, before = asyncio.get_running_loop().time(), self._restarts
        while before and now - before[-1] > 2 * PAUSES_SECONDS[-1]:
            before.clear()
        return not before or now - before[-1] >= PAUSES_SECONDS[len(before) - 1]

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble
        if trouble:
            log.error(
                "the nats-server stores nothing: %s. What was accepted is kept; it goes on once there is room", trouble
            )
        else:
            log.warning("the nats-server stores again")
        if self.on_trouble is not None:
            try:
                self.on_trouble(trouble)
            except Exception:
                log.exception("on_trouble failed")
