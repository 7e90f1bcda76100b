"""Whose turn it is: an executor holds a few jobs beyond its slots, lets those go first whose model is in memory, and bounds
how far anybody is overtaken. Pure but for the futures that the held wait on.

A place is what shares one memory: a backend, or an exclusive group that is switched automatically. To begin a job whose model
is not in memory is a switch. Where a switch would evict what runs, it waits until nothing runs; nobody else begins then once
the job has been overtaken long enough.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

from actors.settings import GroupingRules
from messages import Work


class Held(msgspec.Struct, eq=False):
    """A job that waits for its turn here. It is in hand on the bus, and nobody has claimed its attempt."""

    work: Work
    backend: str
    model: str
    since: float
    """When it came, in seconds of the clock."""
    turn: asyncio.Future[bool] | None = None
    """True: begin. False: give it back."""
    overtaken: int = 0
    """How many that came later began before it."""
    overtaken_since: float | None = None
    begun: bool = False


class Conditions(Protocol):
    """What the line asks about backends at the moment of a choice."""

    def place(self, backend: str) -> str:
        """The place that a backend belongs to."""
        ...

    def slots(self, backend: str) -> int:
        """Attempts at once."""
        ...

    def warm(self, held: Held, place: Place) -> bool:
        """Whether it can begin without a switch."""
        ...

    def evicts(self, backend: str) -> bool:
        """Whether a switch would take the memory of what runs in the place."""
        ...

    def may_switch(self, held: Held, now: float) -> bool:
        """Whether the place may be switched for it now."""
        ...

    def switching(self, place: str) -> bool:
        """Whether a switch is under way."""
        ...


class Seat:
    """The right to run one attempt. Without a place it takes no slot."""

    def __init__(self, line: Line | None = None, place: Place | None = None, held: Held | None = None) -> None:
        self._line, self._place, self._held = line, place, held

    def free(self) -> None:
        """The attempt has ended. May be called twice."""
        line, self._line = self._line, None
        if line is not None and self._place is not None and self._held is not None:
            line.end(self._place, self._held)


class Place:
    """The held and the running of one place, in the order in which they came."""

    def __init__(self, name: str, conditions: Conditions, rules: GroupingRules) -> None:
        self.name, self.conditions, self.rules = name, conditions, rules
        self.held: list[Held] = []
        self.running: Counter[tuple[str, str]] = Counter()
        """Attempts that run, by backend and model."""
        self.last: dict[str, str] = {}
        """The model that began last, by backend."""
        self.turning: Held | None = None
        """Whose switch is under way: nobody else begins meanwhile."""

    def busy(self, backend: str) -> int:
        """Attempts that run on a backend."""
        return sum(count for (name, _), count in self.running.items() if name == backend)

    def choose(self, now: float) -> Held | None:
        """Who begins now; None: nobody yet.

        An overdue job comes before all, and everybody waits for it; then the jobs of what is in memory; a switch comes when
        none of these is held.
        """
        if self.turning is not None or self.conditions.switching(self.name):
            return None
        warm = [self.conditions.warm(held, self) for held in self.held]
        allowed = [
            is_warm or self.conditions.may_switch(held, now) for held, is_warm in zip(self.held, warm, strict=True)
        ]
        for held, is_warm, may in zip(self.held, warm, allowed, strict=True):
            if may and self._overdue(held, now):
                return held if self._fits(held, warm=is_warm) else None
        for held, is_warm in zip(self.held, warm, strict=True):
            if is_warm and self._fits(held, warm=True):
                return held
        if any(warm):
            return None
        first = next((held for held, may in zip(self.held, allowed, strict=True) if may), None)
        return first if first is not None and self._fits(first, warm=False) else None

    def begin(self, held: Held, now: float) -> None:
        """It runs from now on; those that came earlier are overtaken."""
        for earlier in self.held[: self.held.index(held)]:
            earlier.overtaken += 1
            if earlier.overtaken_since is None:
                earlier.overtaken_since = now
        if self.conditions.evicts(held.backend) and not self.conditions.warm(held, self):
            self.turning = held
        self.held.remove(held)
        held.begun = True
        self.running[held.backend, held.model] += 1
        self.last[held.backend] = held.model

    def end(self, held: Held) -> None:
        """It runs no more."""
        key = (held.backend, held.model)
        self.running[key] -= 1
        if not self.running[key]:
            del self.running[key]
        if self.turning is held:
            self.turning = None

    def _overdue(self, held: Held, now: float) -> bool:
        if held.overtaken >= self.rules.overtaken_jobs:
            return True
        return held.overtaken_since is not None and now - held.overtaken_since >= self.rules.overtaken_seconds

    def _fits(self, held: Held, *, warm: bool) -> bool:
        if self.busy(held.backend) >= self.conditions.slots(held.backend):
            return False
        return warm or not self.conditions.evicts(held.backend) or not self.running.total()


class Line:
    """Everybody who waits or runs in this process. Survives the restart of an actor, since what runs goes on."""

    def __init__(self, *, rules: GroupingRules, clock: Callable[[], float]) -> None:
        self.rules, self.clock = rules, clock
        self.conditions: Conditions | None = None
        """Set by whoever asks for turns."""
        self.fit: Callable[[Work], bool] = lambda _: True
        """Whether what is held should still run here."""
        self._places: dict[str, Place] = {}

    @property
    def waiting(self) -> int:
        """Jobs that are held."""
        return sum(len(place.held) for place in self._places.values())

    async def turn(self, work: Work, model: str) -> Seat | None:
        """Wait for the job's turn; None: give it back."""
        assert self.conditions is not None
        name = self.conditions.place(work.backend)
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = Place(name, self.conditions, self.rules)
        place.conditions = self.conditions
        held = Held(work=work, backend=work.backend, model=model, since=self.clock())
        place.held.append(held)
        self.go_on(place)
        if not held.begun:
            held.turn = asyncio.get_running_loop().create_future()
            try:
                if not await held.turn:
                    return None
            except asyncio.CancelledError:
                if held.begun:
                    self.end(place, held)
                raise
            finally:
                if held in place.held:
                    place.held.remove(held)
            if not held.begun:
                return Seat()  # Its job has ended: it takes no slot to say so.
        return Seat(self, place, held)

    def job_ended(self, tenant: str, job: str) -> None:
        """The job has its end: what is held of it goes on at once, without a slot, to be cleared away."""
        for place in self._places.values():
            for held in place.held:
                if (held.work.tenant, held.work.job) == (tenant, job):
                    _tell(held, begins=True)

    def look(self) -> None:
        """Time has passed, or a backend has changed: give back what can't run here, and let begin who may."""
        for place in list(self._places.values()):
            for held in [held for held in place.held if not self.fit(held.work)]:
                place.held.remove(held)
                _tell(held, begins=False)
            self.go_on(place)

    def settled(self, work: Work) -> None:
        """Its model is in memory: others may begin beside it."""
        for place in self._places.values():
            if place.turning is not None and place.turning.work is work:
                place.turning = None
                self.go_on(place)

    def go_on(self, place: Place) -> None:
        """Let begin who may."""
        now = self.clock()
        while (held := place.choose(now)) is not None:
            place.begin(held, now)
            _tell(held, begins=True)

    def end(self, place: Place, held: Held) -> None:
        """An attempt has ended."""
        place.end(held)
        self.go_on(place)


def _tell(held: Held, *, begins: bool) -> None:
    if held.turn is not None and not held.turn.done():
        held.turn.set_result(begins)
