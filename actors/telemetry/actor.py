"""Telemetry: counts, averages, ratings, history.

Several processes share one queue, so each hears a part of what happens and keeps a history of that part. Their averages
meet in the facts: each goes on from whoever has counted furthest. What the others measured in the same second is lost
then, so that averages of several are made of fewer runs, not of wrong ones; one process measures them all.
"""

from __future__ import annotations

import logging
import sqlite3

import msgspec

from actors import door
from actors.actor import Actor, CantAnswer, Heard, Says, answers, every, hears, overhears
from actors.bounded import Bounded
from actors.journal import Journal
from actors.problem import invalid
from actors.telemetry.averages import ALL, NOT_COUNTED, Key, after, general_keys, mean_of, named_keys
from actors.telemetry.board import Board
from actors.telemetry.history import History
from actors.telemetry.listing import BadPlace
from actors.telemetry.rows import analyzed_row, attempted_row, done_row, placed_row, rated_row
from messages import (
    Analyzed,
    Attempted,
    AttemptsAre,
    AttemptsOf,
    Done,
    Epoch,
    JobRate,
    JobsAre,
    JobsOf,
    Message,
    Problem,
    Progress,
    Rebalance,
    Rebalanced,
    Refused,
    Stats,
    StatsReset,
    TotalsAre,
    TotalsOf,
)
from messages.fleet import task_key

log = logging.getLogger("turnout.telemetry")

DAY_SECONDS = 86_400.0
MOST_NAMED = 4_000
"""Averages of workflows and steps kept at once; beyond it those that were measured longest ago go. Every run counts for its model
and its kind of work as well, whatever its name."""
MOST_OF_ONE = 500
"""Those of one tenant, so that none can push out everybody else's."""


class Telemetry(Actor):
    """Writes down what happened and says how the backends do on average."""

    room = "telemetry"
    stats_seconds = 1.0
    forget_seconds = 3600.0
    shrink_seconds = 60.0

    def __init__(self, *, history: History, journal: Journal) -> None:
        self.history, self.journal = history, journal
        self.board = Board(history, journal)
        self._stats: dict[Key, Stats] = {}
        self._named = Bounded[Key, None](MOST_NAMED, self._left)
        """Those of workflows and steps, the latest measured last."""
        self._tenants: dict[str, Bounded[Key, None]] = {}
        """The same by tenant."""
        self._changed: set[Key] = set()
        """What nobody has heard yet."""
        self._epoch = 0
        self._since = 0.0
        """Ratings from before are of an older epoch."""
        self._reset: StatsReset | None = None
        """A reset that was asked for and is not stored yet."""
        self._blind = False
        """Whether the history could not be read the last time."""
        self._looked = False
        """Whether the ratings of earlier runs have been counted."""

    # ------------------------------------------------------------------------------------------------- facts

    @hears
    def stats(self, stats: Stats, heard: Heard) -> None:
        """What an earlier run or another process has measured, if that is more; or our own word, now stored."""
        if stats.epoch < self._epoch:
            return
        key = (stats.backend, stats.model, stats.scope)
        mine = self._stats.get(key)
        if mine is None or _extent(stats) > _extent(mine):
            mine = stats
            self._keep(key, stats)
        if mine == stats:
            self._changed.discard(key)
        else:
            self._changed.add(key)  # Somebody who has counted less wrote last.

    @hears
    def epoch(self, epoch: Epoch, heard: Heard) -> None:
        """A reset is stored, ours or another process's: nothing that was measured before counts."""
        if epoch.epoch < self._epoch:
            return
        if self._reset is not None and epoch.epoch >= self._reset.epoch:
            self._reset = None
        self._begin(epoch.epoch, epoch.at)

    def _begin(self, epoch: int, since: float) -> None:
        self._epoch, self._since = epoch, since
        for key in [key for key, stats in self._stats.items() if stats.epoch < epoch]:
            self._drop(key)

    def _keep(self, key: Key, stats: Stats) -> None:
        """Know an average. Those that are named by clients push out their own tenant's first, then whoever's is the oldest."""
        self._stats[key] = stats
        tenant, slash, _ = key[2].partition("/")
        if slash:
            self._tenants.setdefault(tenant, Bounded[Key, None](MOST_OF_ONE, self._left))[key] = None
            self._named[key] = None

    def _left(self, key: Key, _: None = None) -> None:
        self._drop(key)

    def _drop(self, key: Key) -> None:
        self._stats.pop(key, None)
        self._changed.discard(key)
        self._named.pop(key, None)
        tenant = key[2].partition("/")[0]
        own = self._tenants.get(tenant)
        if own is not None:
            own.pop(key, None)
            if not own:
                del self._tenants[tenant]

    def forget(self, message: Message) -> None:
        """A fact is deleted: what is known of it goes too, unless that is newer."""
        if isinstance(message, Stats):
            key = (message.backend, message.model, message.scope)
            if self._stats.get(key) == message:
                self._drop(key)

    # ------------------------------------------------------------------------------------------------ events

    @hears
    def analyzed(self, analyzed: Analyzed, heard: Heard) -> None:
        self.history.put(analyzed_row(analyzed), placed_row(analyzed.tenant, analyzed.job))

    @hears
    def attempted(self, attempted: Attempted, heard: Heard) -> None:
        if heard.deliveries == 1 and attempted.outcome not in NOT_COUNTED:
            for key in (*general_keys(attempted), *named_keys(attempted)):
                before = self._stats.get(key)
                self._set(key, before, after(before, attempted, key, self._epoch))
        self.history.put(attempted_row(attempted))

    @overhears
    def progress(self, progress: Progress, heard: Heard) -> None:
        """How far an attempt is: shown while it runs, kept nowhere."""
        self.board.learn(progress)

    @hears
    def done(self, done: Done, heard: Heard) -> None:
        self.board.forget(done.tenant, done.job)
        self.history.put(done_row(done), placed_row(done.tenant, done.job))

    @hears
    async def job_rate(self, rate: JobRate, heard: Heard) -> Says[Refused]:
        """Keep a rating. It counts once its job has succeeded, whichever comes first; what never can is refused."""
        problem = door.fault(rate, heard) or await self._unrateable(heard)
        if problem is not None:
            log.info("a rating of %s is refused: %s", heard.subject, problem.message)
            return [door.refused(rate, problem, heard)]
        tenant, job = door.job_at(heard)
        row = rated_row(tenant, job, rater=rate.rater, score=rate.score, seq=heard.seq, at=heard.stored_at)
        self.history.put(row, placed_row(tenant, job))
        return []

    async def _unrateable(self, heard: Heard) -> Problem | None:
        """Why a job can't be rated: there is none, as far as events and history go back, or it made no result."""
        tenant, job = door.job_at(heard)
        done = await self.journal.done(tenant, job)
        if done is not None:
            return None if done.ending == "succeeded" else door.over(done, "only a result can be rated.")
        if await self.journal.read(Analyzed, tenant=tenant, job=job) is not None:
            return None
        try:
            ending = await self.history.ending(tenant, job)
        except sqlite3.Error:
            return None  # It waits for its job as one does that came early.
        if ending is None:
            return door.unknown(heard)
        if ending in ("succeeded", ""):
            return None
        return invalid("job", job, f"it has ended ({ending}): only a result can be rated.")

    @property
    def losses(self) -> int:
        """How often something that was heard did not get into the file."""
        return self.history.losses

    async def kept(self, losses: int) -> bool:
        """Whether all that was heard since `losses` was read is in the file; if not, it is to be heard again."""
        return await self.history.kept(losses)

    # ------------------------------------------------------------------------------------------------ timers

    @every("stats_seconds")
    async def tell(self, heard: Heard) -> Says[Stats | Epoch | StatsReset]:
        """The averages that changed, at most once a second each, and a reset: both again until they are stored."""
        await self._rate(heard.now)
        said: list[Stats | Epoch | StatsReset] = [self._stats[key] for key in sorted(self._changed)]
        if self._reset is not None:
            reset = self._reset
            said = [Epoch(epoch=reset.epoch, by=reset.by, at=reset.at), reset, *said]
        return said

    async def _rate(self, now: float) -> None:
        """Count the ratings anew of whatever was rated since the last time; the first time, of everything."""
        fresh, self.history.fresh = self.history.fresh, set()
        try:
            if not self._looked:
                fresh.update(await self.history.rated())
                self._looked = True
            await self._count(fresh, now)
        except sqlite3.Error as error:
            self.history.fresh |= fresh  # Once it can be read.
            if not self._blind:
                log.warning("the history can't be read, so that ratings do not count: %s", error)
            self._blind = True
        else:
            self._blind = False

    async def _count(self, fresh: set[tuple[str, str, str]], now: float) -> None:
        scopes = {(backend, model, task) for backend, model, task in fresh}
        scopes |= {(backend, model, "") for backend, model, _ in fresh}
        for backend, model, task in sorted(scopes):
            epoch = self._epoch
            scores = await self.history.scores(backend, model, task, since=self._since)
            if epoch != self._epoch or not scores:
                continue  # They belong to what was forgotten.
            key = (backend, model, task_key(task) if task else ALL)
            before = self._stats.get(key)
            stats = before or Stats(
                backend=backend, model=model, scope=key[2], epoch=epoch, attempts=0, successes=0, at=now
            )
            self._set(key, before, msgspec.structs.replace(stats, rating=mean_of(scores), ratings=len(scores)))

    def _set(self, key: Key, before: Stats | None, stats: Stats) -> None:
        if stats != before:
            self._keep(key, stats)
            self._changed.add(key)

    @every("forget_seconds")
    async def age_out(self, heard: Heard) -> None:
        await self.history.forget(heard.now - self.history.keep_days * DAY_SECONDS)

    @every("shrink_seconds")
    async def shrink(self, heard: Heard) -> None:
        await self.history.shrink()

    # ----------------------------------------------------------------------------------------------- answers

    @answers
    def rebalance(self, question: Rebalance, heard: Heard) -> Rebalanced:
        """Begin a new epoch. It holds once its fact is stored, a second later at most; who asks meanwhile joins it."""
        if self._reset is None:
            self._reset = StatsReset(epoch=self._epoch + 1, by=question.by, forgotten=len(self._stats), at=heard.now)
            self._begin(self._reset.epoch, heard.now)
        return Rebalanced(epoch=self._reset.epoch, forgotten=self._reset.forgotten)

    @answers
    async def jobs(self, question: JobsOf, heard: Heard) -> JobsAre:
        try:
            return await self.board.jobs(question, heard.now)
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        except BadPlace as error:
            raise CantAnswer(str(error)) from error

    @answers
    async def totals(self, question: TotalsOf, heard: Heard) -> TotalsAre:
        try:
            totals, since = await self.history.totals(question.backend)
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        return TotalsAre(totals=totals, since=since)

    @answers
    async def attempts(self, question: AttemptsOf, heard: Heard) -> AttemptsAre:
        try:
            return AttemptsAre(attempts=await self.history.attempts(question.tenant, question.job))
        except sqlite3.Error as error:
            raise _unreadable(error) from error

    async def closing(self) -> None:
        """Close the file. What was heard and is not in it was not acknowledged either."""
        self.history.close()


def _unreadable(error: sqlite3.Error) -> CantAnswer:
    return CantAnswer(f"the history can't be read: {error}")


def _extent(stats: Stats) -> tuple[int, int, int]:
    """How far it has counted."""
    return stats.epoch, stats.attempts, stats.ratings
