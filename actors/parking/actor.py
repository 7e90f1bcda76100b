"""Parking: who can't run now waits here, named by what each waits for, and goes on when that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from actors.actor import Actor, Heard, Says, every, hears, overhears
from actors.journal import Journal
from actors.parking.choice import Chooser, Wake
from actors.parking.gauge import Gauge
from actors.parking.index import Index, parked_of
from actors.parking.schedules import Schedules
from messages import Backend, Breaker, BudgetState, Due, Limit, Load, Retry

FIRST_READ_SECONDS = 2.0
READ_SECONDS = 120.0
"""All waits are read again: a signal may be lost, and so an entry of the index. The first time so long after a start or a
reconnect, for what others died over is done again by then or a little later; then after as long again, and at last this often.
"""
CLEAR_SECONDS = 5.0


class Parking(Actor):
    """Says `due` early. Any number of instances may run: they choose alike, hear of each other, and twice is once. Without any,
    every wait ends at its own time.
    """

    room = "parking"

    busy_seconds = 0.1
    idle_seconds = 0.5
    look_seconds = idle_seconds
    """How often it is looked who can go on: seldom while nobody waits."""

    def __init__(self, *, schedules: Schedules, journal: Journal) -> None:
        self.schedules, self.journal = schedules, journal
        self.schedules.unread = True
        self.index, self.gauge = Index(), Gauge()
        self.chooser = Chooser(self.index, self.gauge)
        self._said: dict[tuple[str, str], tuple[int, float]] = {}
        """Rounds that were woken here, and when, until that is stored."""
        self._stored: list[tuple[str, str, int]] = []
        """Rounds that were woken here, of which the schedule is to be removed."""
        self._read_at = self._missed_at = self._cleared_at = 0.0

    # ---------------------------------------------------------------------------------------------------- facts

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None:
        better, offers_more = self.gauge.learn_backend(backend)
        if better:
            self._better(backend.backend)
        if offers_more:
            self._new((backend.backend,))

    @hears
    def load(self, load: Load, heard: Heard) -> None:
        self.gauge.learn_load(load)

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        if self.gauge.learn_breaker(breaker):
            self._better(breaker.backend)

    @hears
    def budget_state(self, state: BudgetState, heard: Heard) -> None:
        self.gauge.learn_budget(state)
        if any((kind, state.counter, "") in self.index.names for kind in ("settlement", "budget")):
            self.chooser.dirty.add(state.counter)

    @hears
    def limit(self, limit: Limit, heard: Heard) -> None:
        self.gauge.learn_limit(limit)
        for counter, state in self.gauge.counters.items():
            if state.budget == limit.name:
                self.chooser.dirty.add(counter)
                self.index.better(("settlement", counter, ""))
                self.index.better(("budget", counter, ""))

    def forget(self, message: object) -> None:
        """A fact was deleted."""
        self.gauge.forget(message)
        if isinstance(message, Backend):
            self.chooser.forget(message.backend)

    def _better(self, backend: str) -> None:
        for name in list(self.index.names):
            if name[1] == backend:
                self.index.better(name)

    def _new(self, backends: Iterable[str]) -> None:
        """Backends that may offer what was not there when a job began to wait."""
        for name in backends:
            if self.index.something_new(self.gauge.changed_at(name)):
                self.chooser.fresh.add(name)

    # ---------------------------------------------------------------------------------------------------- waits

    @overhears
    def retry(self, retry: Retry, heard: Heard) -> None:
        """A job goes into its next round, at once or after a wait."""
        self._learn(retry, heard.now)

    @overhears
    def due(self, due: Due, heard: Heard) -> None:
        """A wait is over, by itself or because somebody woke the job."""
        key = due.tenant, due.job
        if due.woken_by is None:
            self.index.drop(key, due.n)
            return
        self.chooser.heard(key, due.n, due.woken_by, heard.now)
        said = self._said.get(key)
        if said is not None and said[0] == due.n:
            del self._said[key]
            self._stored.append((*key, due.n))

    def _learn(self, retry: Retry, now: float) -> None:
        key = retry.tenant, retry.job
        self.index.drop(key, retry.n - 1)
        parked = parked_of(retry)
        if parked is None or not self.index.add(parked, now):
            return
        self.look_seconds = self.busy_seconds
        self.gauge.back(key)
        self.chooser.dirty.update(one.name for one in parked.awaiting if one.kind in ("settlement", "budget"))

    @every("look_seconds")
    async def look(self, heard: Heard) -> Says[Due]:
        """Wake whom there is something for."""
        stored, self._stored = self._stored, []
        await asyncio.gather(*(self.schedules.remove(*one) for one in stored))
        await self._read(heard.now)
        if heard.now - self._cleared_at >= CLEAR_SECONDS:
            self._clear(heard.now)
        if not len(self.index):
            self.look_seconds = self.busy_seconds if self._said or self._stored else self.idle_seconds
            return []
        wakes = self.chooser.choose(heard.now)
        try:
            found = await asyncio.gather(*(self._due(wake, heard.now) for wake in wakes))
        except BaseException:
            self.schedules.unread = True  # They are out of the index, and were not woken.
            raise
        says = [due for due in found if due is not None]
        self._said.update({(due.tenant, due.job): (due.n, heard.now) for due in says})
        return says

    def _clear(self, now: float) -> None:
        """Forget whose time has come; and what was said a while ago and never came back was perhaps not stored."""
        self._cleared_at = now
        self.index.over(now)
        late = [key for key, (_, at) in self._said.items() if at <= now - CLEAR_SECONDS]
        for key in late:
            del self._said[key]
            self.schedules.unread = True

    async def _read(self, now: float) -> None:
        """Read all waits when something may have been missed, soon after that, and now and then. What has changed since a wait
        began may be new to the job.
        """
        pause = min(max(self._read_at - self._missed_at, FIRST_READ_SECONDS), READ_SECONDS)
        if not self.schedules.unread and now - self._read_at < pause:
            return
        missed, self.schedules.unread, self._read_at = self.schedules.unread, False, now
        self._missed_at = now if missed else self._missed_at
        try:
            waits = await self.schedules.read()
        except Exception:
            self.schedules.unread = True
            raise
        for retry in waits:
            self._learn(retry, now)
        if missed:
            self._new(self.gauge.taking_work)

    async def _due(self, wake: Wake, now: float) -> Due | None:
        """What is said to wake a job; None when it has ended, its wait is over, or nobody has scheduled it yet."""
        parked = wake.parked
        due, done = await asyncio.gather(
            self.schedules.find(parked.tenant, parked.job, parked.n), self.journal.done(parked.tenant, parked.job)
        )
        if due is not None and done is None:
            return msgspec.structs.replace(due, woken_by=wake.by)
        self.gauge.back(parked.key)
        if done is None:
            self.index.put_back(parked, now)
        return None
