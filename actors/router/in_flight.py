"""What this router has sent somewhere and no load fact shows yet, from the moment at which it decides.

A decision is made and stored, the guardrail looks at it, the work is queued, and only then the registry counts it. Whoever
decides meanwhile has to know, or a burst goes to one of several equal backends. The state of the router changes only from stored
events; this stands beside it, and is lost with the process. What is summed up is kept per backend and model, so a decision costs
the same however many others are on their way.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from operator import attrgetter
from typing import Self

MEMORY_SECONDS = 30.0
"""So long something counts that nobody hears of again: a signal may be lost, or nobody tells loads."""

Key = tuple[str, str, int]
"""Tenant, job and round."""


class Lane:
    """What lies before one backend and is not in its load."""

    __slots__ = ("own", "queued", "through_seq")

    def __init__(self) -> None:
        self.own = 0
        """Decisions and queued work together."""
        self.queued: list[Flight] = []
        """Of them the work that lies in the queue, in its order there."""
        self.through_seq = 0
        """Work up to this sequence is counted."""


class Uses:
    """How often one model of a backend was chosen."""

    __slots__ = ("deciding", "times")

    def __init__(self) -> None:
        self.deciding = 0
        """Decisions that are not stored yet."""
        self.times: list[float] = []
        """When the stored ones were made, in order."""

    def since(self, at: float) -> int:
        """How many after that time."""
        return self.deciding + len(self.times) - bisect_right(self.times, at)

    def stored(self, at: float, memory_seconds: float) -> None:
        """One more decision; those of long before are forgotten."""
        times = self.times
        insort(times, at)
        if len(times) > 64 and times[0] < at - 2 * memory_seconds:
            del times[: bisect_right(times, at - memory_seconds)]


class Flight:
    """One round of a job on its way to a backend."""

    __slots__ = ("at", "key", "lane", "seq", "uses")

    def __init__(self, key: Key, lane: Lane, at: float, uses: Uses | None, seq: int) -> None:
        self.key, self.lane, self.at = key, lane, at
        self.uses = uses
        """What it counts for while it is not stored."""
        self.seq = seq
        """Where its work is queued; 0: it is not yet."""


_seq_of = attrgetter("seq")


class InFlight:
    """All of them, each round once, those first that have not moved for longest."""

    def __init__(self) -> None:
        self._flights: dict[Key, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def enter(self, key: Key, lane: Lane, at: float, *, uses: Uses | None = None, seq: int = 0) -> None:
        """A round goes to a backend: decided with `uses`, stored without it, queued with `seq`. It takes the place of what was
        known of the round; but queued work lies where it lies, whatever is said of the round again.
        """
        self._forget(at - MEMORY_SECONDS)
        known = self._flights.get(key)
        if known is not None:
            if known.seq and not seq:
                return
            self._remove(known)
        if 0 < seq <= lane.through_seq:
            return
        flight = self._flights[key] = Flight(key, lane, at, uses, seq)
        lane.own += 1
        if uses is not None:
            uses.deciding += 1
        if seq:
            insort(lane.queued, flight, key=_seq_of)

    def abandon(self, key: Key) -> None:
        """It goes nowhere, unless its work is queued."""
        known = self._flights.get(key)
        if known is not None and not known.seq:
            self._remove(known)

    def leave(self, key: Key) -> None:
        """Nothing of it lies anywhere."""
        known = self._flights.get(key)
        if known is not None:
            self._remove(known)

    def counted(self, lane: Lane, through_seq: int) -> None:
        """The load of a backend has counted the work up to this sequence."""
        lane.through_seq = through_seq
        there = bisect_right(lane.queued, through_seq, key=_seq_of)
        for flight in lane.queued[:there]:
            del self._flights[flight.key]
        del lane.queued[:there]
        lane.own -= there

    def _remove(self, flight: Flight) -> None:
        del self._flights[flight.key]
        lane = flight.lane
        lane.own -= 1
        if flight.uses is not None:
            flight.uses.deciding -= 1
        if flight.seq:
            lane.queued.remove(flight)

    def _forget(self, before: float) -> None:
        while self._flights:
            oldest = next(iter(self._flights.values()))
            if oldest.at > before:
                return
            self._remove(oldest)


class OnItsWay:
    """A round while it is decided and said. What fails before all is said goes nowhere."""

    __slots__ = ("_in_flight", "_key")

    def __init__(self, in_flight: InFlight, key: Key) -> None:
        self._in_flight, self._key = in_flight, key

    def nowhere(self) -> None:
        """It is decided anew, and must not stand in its own way."""
        self._in_flight.abandon(self._key)

    def goes(self, lane: Lane, uses: Uses | None, at: float) -> None:
        """Where it is decided to go."""
        self._in_flight.enter(self._key, lane, at, uses=uses)

    def __enter__(self) -> Self:
        """Follow it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Whatever went wrong, it is not on its way."""
        if kind is not None:
            self.nowhere()
