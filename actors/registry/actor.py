"""The registry: which backends are there, what can they do, how are they?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from actors.actor import Actor, Heard, Says, every, hears
from actors.ahead import ahead_of
from actors.registry.catalogue import foreign, gone, loaded, merge, running_models, same, vram_free_mb
from actors.registry.seats import Seated, seat
from actors.roster import Roster
from bus.bus import QueueState
from messages import Backend, ExecutorAlive, Gpu, Load, Message


class Queues(Protocol):
    """The executors' queues on the bus."""

    async def set_up(self, backend: str, slots: int) -> None:
        """Create or update the queue of a backend for so many attempts in hand at once."""
        ...

    async def states(self, backends: Sequence[str]) -> tuple[int, list[QueueState | None]]:
        """The sequence of the work that was queued last, and how full each queue is, that work included; None: there is none."""
        ...


class Registry(Actor):
    """Folds heartbeats into backends and keeps their queues; tells how much work lies before each."""

    room = "registry"
    look_seconds = 1.0
    load_seconds = 0.2

    def __init__(self, *, queues: Queues, roster: Roster, ahead: int = 0) -> None:
        """`ahead`: jobs beyond its slots that every executor holds of a backend where their order matters."""
        self.queues, self.roster, self.ahead = queues, roster, ahead
        self._backends: dict[str, Backend] = {}
        self._loads: dict[str, tuple[Load, int]] = {}
        """What was said last, with how often the queue had handed out something by then."""
        self._counted: dict[str, int] = {}
        """The work that is counted in what is stored of a backend's load."""
        self._slots: dict[str, int] = {}
        self._ran: dict[str, tuple[str, ...]] = {}
        """The models that run on a backend or, when none does, those that ran there at once last."""
        self._gpus: dict[tuple[str, int], Gpu] = {}

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None:
        self._backends[backend.backend] = backend

    @hears
    def told(self, load: Load, heard: Heard) -> None:
        """What is stored. After a restart: what ran there last is still loaded, though no heartbeat says so."""
        self._counted[load.backend] = load.through_seq
        if load.loaded is not None:
            self._ran.setdefault(load.backend, load.loaded)

    @hears
    def gpu(self, gpu: Gpu, heard: Heard) -> None:
        """How a GPU is: what the backends on it have."""
        self._gpus[gpu.host, gpu.index] = gpu

    def forget(self, message: Message) -> None:
        """A fact is deleted: what is known of it goes too, unless somebody runs it again."""
        if isinstance(message, Gpu):
            self._gpus.pop((message.host, message.index), None)
        elif isinstance(message, Backend) and self._backends.get(message.backend) == message:
            del self._backends[message.backend]
            self._loads.pop(message.backend, None)
            self._counted.pop(message.backend, None)
            self._ran.pop(message.backend, None)

    @hears
    async def executor_alive(self, alive: ExecutorAlive, heard: Heard) -> Says[Backend]:
        self.roster.hear(alive, heard.now)
        self._ran.update(running_models(self.roster.living(heard.now)))
        return await self._look(heard.now)

    @every("look_seconds")
    async def look(self, heard: Heard) -> Says[Backend]:
        """Notice who has fallen silent."""
        return await self._look(heard.now)

    async def _look(self, now: float) -> Says[Backend]:
        """The backends that changed. A queue exists before its backend is announced (rule 8)."""
        offers = self._seated(now)
        said: list[Backend] = []
        for name, seated in offers.items():
            fresh = merge(name, seated.offers, now, slots=seated.slots)
            # Who shares a server holds nothing beyond its slots: they could begin it together.
            alone = [offers[0] for offers in seated.servers if len(offers) == 1]
            slots = max(1, fresh.slots) + sum(ahead_of(offer, self.ahead) for offer in alone)
            if self._slots.get(name) != slots:
                await self.queues.set_up(name, slots)
                self._slots[name] = slots
            if not same(fresh, self._backends.get(name)):
                said.append(fresh)
        silent_long_enough = now - self.roster.since > self.roster.dead_after_seconds
        for name, backend in self._backends.items():
            if name not in offers and backend.slots > 0 and silent_long_enough:
                self._slots.pop(name, None)
                self._ran.pop(name, None)
                said.append(gone(backend, now))
        return said

    def _seated(self, now: float) -> dict[str, Seated]:
        """What is offered of each backend, with the GPUs below."""
        living, gpus = self.roster.living(now), tuple(self._gpus.values())
        return {name: seat(offers, living, gpus, now) for name, offers in self.roster.offers(now).items()}

    @every("load_seconds")
    async def load(self, heard: Heard) -> Says[Load]:
        """How full the queues are: told on change, at most every 200 ms. A queue that has moved has changed, even if it is as
        full as before: others must learn that what they put there is counted.
        """
        said: list[Load] = []
        seated = self._seated(heard.now)
        names = [name for name, backend in sorted(self._backends.items()) if backend.slots > 0 or name in self._loads]
        if not names:
            return said
        seq, states = await self.queues.states(names)
        for name, found in zip(names, states, strict=True):
            state = found or QueueState(waiting=0, running=0)
            before, moved = self._loads.get(name, (None, 0))
            offers = seated[name].offers if name in seated else ()
            free = seated[name].free_mb if name in seated else None
            load = Load(
                backend=name, waiting=state.waiting + foreign(offers), running=state.running, foreign=foreign(offers),
                loaded=loaded(offers, self._ran.get(name)), vram_free_mb=vram_free_mb(offers, free), through_seq=seq,
                at=heard.now,
            )  # fmt: skip
            if (
                before is None
                or moved != state.deliveries
                or msgspec.structs.replace(load, through_seq=before.through_seq, at=before.at) != before
                or self._counted.get(name, -1) < before.through_seq  # It was not stored.
            ):
                self._loads[name] = load, state.deliveries
                said.append(load)
        return said
