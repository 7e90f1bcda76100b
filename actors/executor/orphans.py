"""Calls that a backend is still at work for though nobody follows them: found, and stopped once nobody wants them any more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal

from actors.bounded import Bounded
from actors.executor.backends import port
from actors.executor.call import of_key
from actors.executor.served import Served
from actors.journal import Journal
from actors.roster import Roster
from messages import Started

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
"""A server that has calls which are not ours is asked again for what was left there after this time."""
MOST: Final = 1_000
"""So many are watched; of more, those heard of longest ago are found when the server is asked again."""

Fate = Literal["stays", "unwanted", "strange"]
"""`stays`: it runs for somebody, or its job may come back for it. `unwanted`: its job has ended or gone elsewhere. `strange`: it
is none of ours."""


class Orphans:
    """Watches the calls that were left on this process's backends. What it knows is found again by asking the servers."""

    def __init__(self, *, journal: Journal, roster: Roster, clock: Callable[[], float]) -> None:
        self._journal, self._roster, self._clock = journal, roster, clock
        self._watched = Bounded[tuple[str, str], None](MOST)
        """Backend and key of calls that may have to be stopped."""
        self._looked: dict[str, float] = {}

    def add(self, backend: str, key: str) -> None:
        """A call may have been left there."""
        self._watched[backend, key] = None

    def due(self, name: str, served: Served) -> bool:
        """Whether there is anything to do at a backend: calls that are watched, or a server that was not asked for long."""
        if not served.well or not isinstance(served.adapter, port.Keeps):
            return False
        if name not in self._looked or any(backend == name for backend, _ in self._watched):
            return True
        return bool(served.offer.foreign) and self._clock() - self._looked[name] >= LOOK_SECONDS

    async def tend(self, name: str, served: Served) -> None:
        """Ask the server for what was left there, if that was not done lately, and stop what nobody wants. What does not succeed
        is tried again the next time. Raises the bus's errors.
        """
        adapter = served.adapter
        assert isinstance(adapter, port.Keeps)
        try:
            if name not in self._looked or self._clock() - self._looked[name] >= LOOK_SECONDS:
                for key in await adapter.left():
                    self.add(name, key)
                self._looked[name] = self._clock()
            for backend, key in list(self._watched):
                if backend != name:
                    continue
                fate = await self.fate(name, key)
                if fate == "unwanted":
                    await adapter.stop(key)
                    log.info("%s: stopped what was left of %s, or it had ended", name, key)
                if fate != "stays":
                    self._watched.pop((backend, key), None)
        except port.BackendError as error:
            log.debug("%s: what was left there can't be looked after now: %s", name, error)

    async def fate(self, backend: str, key: str) -> Fate:
        """What becomes of a call, by what is stored about its job. Raises the bus's errors."""
        named = of_key(key)
        if named is None:
            return "strange"
        tenant, job, n, boot = named
        claim = await self._journal.read(Started, tenant=tenant, job=job, n=n)
        if claim is None or (claim.boot, claim.backend) != (boot, backend):
            return "strange"  # Another deployment uses the server too.
        if self._roster.owner_lives(claim, self._clock()):
            return "stays"
        if await self._journal.attempted(tenant, job, n) is None:
            return "stays"  # Its end is still to be recorded, by whoever gets its work.
        if await self._journal.done(tenant, job) is not None:
            return "unwanted"
        return await self._later(tenant, job, n, backend)

    async def _later(self, tenant: str, job: str, n: int, backend: str) -> Fate:
        """What the rounds after it say: a job that goes elsewhere leaves it for good, one that comes back looks for it itself."""
        while True:
            n += 1
            granted = await self._journal.granted(tenant, job, n)
            if granted is None:
                return "stays"
            if granted.verdict == "candidate":
                if granted.backend != backend:
                    return "unwanted"
                if await self._journal.attempted(tenant, job, n) is None:
                    return "stays"
