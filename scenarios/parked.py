"""Who waits in a world though there is something for them: looked at again and again while everything is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus import codec
from messages import Backend, Breaker, Due, Load, Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios.world import World

IDLE_SECONDS = 40.0
"""So long a job may wait though what it waits for is there: longer than anybody has to wait who was woken for nothing before."""
LOOK_SECONDS = 2.0

Waiting = tuple[str, str, int]


class Idle:
    """Looks at those who wait, and remembers since when there has been something for them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._since: dict[tuple[Waiting, str], float] = {}

    def look(self) -> list[str]:
        """Who has waited for too long for what is free, in words."""
        now, found = self.world.server.now(), list[str]()
        free = set(free_backends(self.world))
        there = {(waiting, name) for waiting, names in waiting_for(self.world) for name in names if name in free}
        self._since = {one: self._since.get(one, now) for one in there}
        for one, since in list(self._since.items()):
            if now - since >= IDLE_SECONDS:
                (tenant, job, n), name = one
                self._since[one] = now + 1e9  # Told once.
                found.append(f"waits though {name} has been free for {IDLE_SECONDS:g} s: {tenant}/{job}/{n}")
        return found


def waiting_for(world: World) -> Iterator[tuple[Waiting, set[str]]]:
    """Every wait that is scheduled, of jobs that have not ended, with the backends it is for."""
    begun = {record.subject for record in world.log("EV") if record.subject.startswith("ev.decided.")}
    for record in world.log("EV"):
        if not record.subject.startswith("sched.due."):
            continue
        due = codec.decode(Due, record.data, record.headers)
        subject = record.subject.replace("sched.due.", "ev.decided.", 1)
        if subject not in begun and world.done(due.job, due.tenant) is None:
            names = {one.name for one in due.retry.awaiting if one.kind in ("backend", "breaker")}
            yield (due.tenant, due.job, due.n), names


def free_backends(world: World) -> Iterator[str]:
    """Backends that are well, with a free slot, and with every breaker closed."""
    facts: list[Message] = []
    for record in world.log("KV_facts"):
        kind = codec.type_at(record.subject)
        if kind in (Backend, Load, Breaker) and record.data:
            facts.append(codec.decode(kind, record.data, record.headers))
    shut = {one.backend for one in facts if isinstance(one, Breaker) and (one.times_opened or one.open_until)}
    ahead = {one.backend: one.waiting + one.running for one in facts if isinstance(one, Load)}
    for one in facts:
        if not isinstance(one, Backend) or one.backend in shut:
            continue
        if one.healthy and one.active and one.slots > ahead.get(one.backend, 0):
            yield one.backend
