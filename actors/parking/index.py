"""The index of the parked: which jobs wait, named by what each waits for, the oldest first. Pure but for what it remembers.

It is made from stored events alone and may be lost at any time: the wait itself is a schedule in the server.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable
from contextlib import closing

import msgspec

from messages import Awaited, Retry

MOST_PARKED = 100_000
"""So many jobs are known; those beyond are not woken early, and go on at their time."""
AGAIN_SECONDS = 0.25
"""A job that was woken and waits again for the same is woken again after this time at the earliest; doubles each time."""
LONGEST_AGAIN_SECONDS = 30.0
FORGET_SECONDS = 120.0
"""How often a job was woken is forgotten when it has not come back after this time."""
MOST_PASSED = 64
"""So many who can't use what there is are passed over at once in the search for one who can."""

Key = tuple[str, str]
"""Tenant and job."""
Name = tuple[str, str, str]
"""Kind, name and model of what is awaited."""
EVERYBODY: Name = ("", "", "")
"""Those whom nothing that they named may help, but something new may."""


def name_of(awaited: Awaited) -> Name:
    """The name under which those who wait for this are found."""
    return awaited.kind, awaited.name, awaited.model


class Parked(msgspec.Struct, frozen=True, eq=False):
    """One job that waits."""

    tenant: str
    job: str
    n: int
    """The round that it waits to begin."""
    since: float
    """When it was submitted, in seconds since the epoch: the oldest goes first."""
    until: float
    """When its round begins by itself."""
    at: float
    """When the wait began: what was there by then, the job has seen."""
    awaiting: tuple[Awaited, ...]
    called: frozenset[tuple[str, str]]
    """Backends and models it was called on before."""

    @property
    def key(self) -> Key:
        """Whose it is."""
        return self.tenant, self.job

    def needs(self, name: Name) -> int:
        """The room that it needs on a counter."""
        return max((one.amount for one in self.awaiting if name_of(one) == name), default=0)


def parked_of(retry: Retry) -> Parked | None:
    """The entry of a stored retry; None when it waits for nothing but its time."""
    if not retry.awaiting or not retry.not_before:
        return None
    called = frozenset((one.backend, one.model) for one in retry.attempts)
    return Parked(
        retry.tenant, retry.job, retry.n, retry.slip.submitted_at, retry.not_before, retry.at, retry.awaiting, called
    )  # fmt: skip


class Woken(msgspec.Struct):
    """That a job was woken, until it has gone on for good."""

    n: int
    at: float
    times: int


Item = tuple[float, str, str, int]
"""Since when, whose, which round: what a line is sorted by."""


class Line:
    """Those who wait for one thing. What is no longer true of an item shows when its turn comes."""

    def __init__(self) -> None:
        self.ready: list[Item] = []
        self.later: list[tuple[float, Item]] = []
        """Those who were woken for nothing a moment ago, by when they may be woken again."""

    def __len__(self) -> int:
        return len(self.ready) + len(self.later)


class Index:
    """All who wait."""

    def __init__(self, most: int = MOST_PARKED) -> None:
        self.most = most
        self._parked: dict[Key, Parked] = {}
        self._lines: dict[Name, Line] = {}
        self._woken: dict[Key, Woken] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def __contains__(self, key: Key) -> bool:
        return key in self._parked

    @property
    def names(self) -> Iterable[Name]:
        """Everything that somebody may wait for."""
        return self._lines.keys()

    # ------------------------------------------------------------------------------------------------ who waits

    def add(self, parked: Parked, now: float) -> bool:
        """A job waits; whether that is news."""
        key, before = parked.key, self._parked.get(parked.key)
        if (before is not None and before.n >= parked.n) or parked.until <= now:
            return False
        woken = self._woken.get(key)
        if woken is not None and woken.n >= parked.n:
            return False  # Heard late: it was woken from this very wait.
        if before is None and len(self._parked) >= self.most:
            return False
        self._parked[key] = parked
        again = 0.0
        if woken is not None:
            again = woken.at + min(AGAIN_SECONDS * 2.0 ** min(woken.times - 1, 16), LONGEST_AGAIN_SECONDS)
        item = (parked.since, *key, parked.n)
        for name in dict.fromkeys(map(name_of, parked.awaiting)):
            line = self._lines.setdefault(name, Line())
            if again > now:
                heapq.heappush(line.later, (again, item))
            else:
                heapq.heappush(line.ready, item)
            if len(line) > 2 * len(self._parked) + 64:
                self._clear(name, line, self._there())
        return True

    def drop(self, key: Key, n: int) -> None:
        """Round `n` of a job begins: it waits no more."""
        parked = self._parked.get(key)
        if parked is not None and parked.n <= n:
            del self._parked[key]

    def wake(self, key: Key, n: int, now: float) -> bool:
        """Round `n` of a job was woken; whether that is news."""
        self.drop(key, n)
        before = self._woken.get(key)
        if before is not None and before.n >= n:
            return False
        self._woken.pop(key, None)
        self._woken[key] = Woken(n, now, before.times + 1 if before is not None else 1)
        while self._woken:
            key, oldest = next(iter(self._woken.items()))
            if oldest.at > now - FORGET_SECONDS:
                break
            del self._woken[key]
        return True

    def put_back(self, parked: Parked, now: float) -> None:
        """It could not be woken after all: again a little later."""
        woken = self._woken.get(parked.key)
        if woken is not None and woken.n == parked.n:
            woken.n -= 1
        self.add(parked, now)

    def over(self, now: float) -> None:
        """Forget those whose time has come by itself."""
        for key in [key for key, parked in self._parked.items() if parked.until <= now]:
            del self._parked[key]
        there = self._there()
        for name, line in list(self._lines.items()):
            self._clear(name, line, there)

    def something_new(self, at: float) -> bool:
        """Something is there since this time that who waited before can't have named, and may want to see; whether anybody
        did.
        """
        line = self._lines.setdefault(EVERYBODY, Line())
        before = {(parked.since, *key, parked.n) for key, parked in self._parked.items() if parked.at < at}
        line.ready = sorted({*line.ready, *before})
        if not line.ready:
            del self._lines[EVERYBODY]
        return bool(before)

    # ---------------------------------------------------------------------------------------------- whose turn

    def better(self, name: Name) -> None:
        """What they wait for has just changed for the better: who was woken for nothing before may try again at once."""
        line = self._lines.get(name)
        if line is not None and line.later:
            line.ready.extend(item for _, item in line.later)
            line.later = []
            heapq.heapify(line.ready)

    def oldest(
        self, names: Iterable[Name], now: float, fits: Callable[[Parked, Name], bool] = lambda _parked, _name: True
    ) -> tuple[Parked, Name] | None:
        """Who has waited longest for any of these and may be woken now."""
        found: tuple[Parked, Name] | None = None
        for name in names:
            with closing(self._in_line(name, now)) as line:
                first = next((parked for parked in line if fits(parked, name)), None)
            if first is not None and (found is None or (first.since, first.key) < (found[0].since, found[0].key)):
                found = first, name
        return found

    def _in_line(self, name: Name, now: float) -> Generator[Parked]:
        """Those in one line who may be woken now, the oldest first, some of them."""
        line = self._lines.get(name)
        if line is None:
            return
        while line.later and line.later[0][0] <= now:
            heapq.heappush(line.ready, heapq.heappop(line.later)[1])
        passed: list[Item] = []
        try:
            while line.ready and len(passed) < MOST_PASSED:
                item = heapq.heappop(line.ready)
                parked = self._parked.get((item[1], item[2]))
                if parked is None or parked.n != item[3] or parked.until <= now:
                    continue
                passed.append(item)
                yield parked
        finally:
            for item in passed:
                heapq.heappush(line.ready, item)

    def _there(self) -> set[Item]:
        return {(parked.since, *key, parked.n) for key, parked in self._parked.items()}

    def _clear(self, name: Name, line: Line, there: set[Item]) -> None:
        """Leave only those in a line who are there, and no line that is empty."""
        line.ready = [item for item in line.ready if item in there]
        line.later = [one for one in line.later if one[1] in there]
        heapq.heapify(line.ready)
        heapq.heapify(line.later)
        if not line:
            del self._lines[name]
