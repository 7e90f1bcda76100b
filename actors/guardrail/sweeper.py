"""The sweeper: returns what leaked, and clears away what is over.

It follows the ledger's tail and remembers what is held and not yet ended. Nearly everything ends by itself; only what is
still held after a while is compared with the verdicts and with what was attempted. So its work grows with the holds that
last, not with all that are made. One sweeper follows at a time; the others look now and then whether it still does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from itertools import islice
from typing import TypeVar

import msgspec

from actors.actor import Actor, Heard, every
from actors.guardrail.fact_retention import FactRetention
from actors.guardrail.ledger import Key, Ledger, Line
from actors.guardrail.retention import Retention
from actors.guardrail.settling import settle
from actors.journal import Journal

T = TypeVar("T")

SWEEP_AFTER_SECONDS = 60.0
"""A hold this old is compared with the verdicts; younger ones may still be on their way. Then as often again."""
TAKE_OVER_SECONDS = 20.0
"""A sweeper that has not left its mark for so long is not there any more."""
MARK_SECONDS = 5.0
"""The one that follows leaves its mark so often."""
LOOK_SECONDS = 10.0
"""The others look at the mark so often."""
MOST_READ = 60_000
"""Entries of one turn; the next goes on from there. Many times more than a deployment writes meanwhile."""
MOST_COMPARED = 4_000
"""Holds that are compared in one turn."""
AT_ONCE = 32
"""Comparisons at the same time."""
MARK = ".sweeper"
"""Key of the mark among the objects. No tenant's name begins like this when it is encoded."""


class Mark(msgspec.Struct, frozen=True):
    """Where the sweeper is, for the one that follows it."""

    by: str
    at: float
    """When it was left, in seconds since the epoch."""
    from_seq: int
    """Every hold that began before this entry has ended, but for the old ones."""
    old: tuple[int, ...] = ()
    """Sequences of holds that are open for longer."""


class Following:
    """What one sweeper knows: how far it has read, and which holds are open."""

    def __init__(self, from_seq: int = 1) -> None:
        self.through = from_seq - 1
        self.young: dict[Key, Line] = {}
        """Open holds that were not compared yet, oldest first."""
        self.old: dict[Key, tuple[int, float]] = {}
        """Sequences of the others, and when they are compared again."""

    def read(self, line: Line) -> None:
        """Take up one entry."""
        self.through = line.seq
        if line.begins:
            self.young[line.key] = line
        elif self.young.pop(line.key, None) is None:
            self.old.pop(line.key, None)

    def due(self, now: float) -> list[tuple[Key, int]]:
        """The holds to compare now, with their sequences."""
        ripe = list(self._ripe(now - SWEEP_AFTER_SECONDS))
        for line in ripe:
            del self.young[line.key]
            self.old[line.key] = line.seq, now
        found = ((key, seq) for key, (seq, at) in self.old.items() if at <= now)
        return list(islice(found, MOST_COMPARED))

    def _ripe(self, stored_by: float) -> Iterable[Line]:
        for line in self.young.values():
            if line.stored_at > stored_by:
                return
            yield line

    def compared(self, key: Key, now: float, *, ended: bool) -> None:
        """A hold has been ended, or is looked at again after a while."""
        before = self.old.pop(key, None)
        if before is not None and not ended:  # Last in order, so that those who wait longer come first.
            self.old[key] = before[0], now + SWEEP_AFTER_SECONDS

    def mark(self, by: str, now: float) -> Mark:
        """Where it is."""
        first = next((line.seq for line in self.young.values()), self.through + 1)
        return Mark(by, now, first, tuple(sorted(seq for seq, _ in self.old.values())))


class Sweeper(Actor):
    """Returns what leaked: compares what stays held with the verdicts and with what was attempted."""

    room = "sweeper"

    turn_seconds = 2.0

    def __init__(self, *, journal: Journal, ledger: Ledger) -> None:
        self.journal, self.ledger = journal, ledger
        self.retention, self.fact_retention = Retention(ledger), FactRetention(ledger)
        self._following: Following | None = None
        self._look_at = 0.0

    @every("turn_seconds")
    async def turn(self, heard: Heard) -> None:
        """Read on, compare what is due, leave a mark."""
        if heard.now >= self._look_at:
            await self._look(f"{heard.instance} {heard.boot}", heard.now)
        following = self._following
        if following is None:
            return
        if await self.follow(following) == MOST_READ:
            return  # The ends of what was read may lie behind it.
        await self.compare(following, heard.now)
        await self.retention.clear(heard.now)
        await self.fact_retention.clear(heard.now)

    async def _look(self, me: str, now: float) -> None:
        """Follow on where the mark of another has been left alone, or leave one."""
        mark = await self.ledger.mark(MARK, Mark)
        others = mark is not None and mark.by != me
        if mark is not None and others and now - mark.at < TAKE_OVER_SECONDS:
            self._following, self._look_at = None, now + LOOK_SECONDS
            return
        if self._following is None or others:
            self._following = await self._from(mark)
        await self.ledger.leave(MARK, self._following.mark(me, now))
        self._look_at = now + MARK_SECONDS

    async def _from(self, mark: Mark | None) -> Following:
        if mark is None:
            return Following()
        following = Following(mark.from_seq)
        for found in await _together(self.ledger.line(seq) for seq in mark.old):
            if found is not None:
                line, _ = found
                following.old[line.key] = line.seq, 0.0
        return following

    async def follow(self, following: Following) -> int:
        """Read what is new, up to some; how many entries that was."""
        count = 0
        async for line in self.ledger.lines(following.through):
            following.read(line)
            count += 1
            if count == MOST_READ:
                break
        return count

    async def compare(self, following: Following, now: float) -> None:
        """A hold that no verdict names is returned; one whose attempt has ended is settled."""
        due = following.due(now)
        ended = await _together(self._end(seq) for _, seq in due)
        for (key, _), has in zip(due, ended, strict=True):
            following.compared(key, now, ended=has)

    async def _end(self, seq: int) -> bool:
        """End a hold, if it has to; whether it has ended."""
        found = await self.ledger.line(seq)
        if found is None:
            return True  # Its window is over, and cleared away.
        _, entry = found
        granted = await self.journal.granted(entry.tenant, entry.job, entry.n)
        if granted is None:
            return False
        there = (granted.backend, granted.model) == (entry.backend, entry.model)
        if not there or not any((r.subject, r.hold) == (entry.counter, entry.hold) for r in granted.reserved):
            await self.ledger.release(entry)
            return True
        attempted = await self.journal.attempted(entry.tenant, entry.job, entry.n)
        if attempted is None:
            return False
        await settle(self.ledger, attempted)
        return True


async def _together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await some at a time; what they came to, in order."""
    done: list[T] = []
    rest = iter(calls)
    while batch := list(islice(rest, AT_ONCE)):
        done.extend(await asyncio.gather(*batch))
    return done
