"""The executor: says what it serves and how that is, runs attempts there, and says whose turn it is."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from actors.actor import Heard, NotMine, Says, every, overhears
from actors.actor import answers as answering
from actors.ahead import ahead_of
from actors.executor.backends import port
from actors.executor.call import call_key, model_of
from actors.executor.claim import InHand
from actors.executor.counting import counted
from actors.executor.lookahead import Line, Seat
from actors.executor.orphans import Orphans
from actors.executor.run import Call, Runner
from actors.executor.script import run_script
from actors.executor.served import HEALTH_PATIENCE_SECONDS, Served, can_run, own_calls
from actors.executor.switch import Run, Switcher
from actors.journal import Journal
from actors.roster import Roster
from actors.settings import GroupingRules, GroupSettings
from bus.bus import BusError
from bus.topology import Queue, work_queue
from messages import Attempted, CountIs, CountOf, Done, ExecutorAlive, Offer, Started, Work

log = logging.getLogger(__name__)

FOREIGN_SECONDS = 5.0
"""A backend that works for others too is asked again after this time: their load changes without us."""
SOON_SECONDS = 0.25
"""Who answers a health check within this time is announced at once, the others at the next notice."""
JITTER = 0.2
"""Part of the time between health checks that varies, so that executors don't ask in step."""


class Executor(Runner):
    """Serves backends: announces them, looks after them, and takes the work that is there for them."""

    room = "executor"
    purpose = "run"

    def __init__(
        self,
        *,
        journal: Journal,
        roster: Roster,
        in_hand: InHand,
        clock: Callable[[], float],
        served: Mapping[str, Served],
        host: str = "",
        heartbeat_seconds: float = 2.0,
        health_seconds: float = 30.0,
        recovery_seconds: float = 1.0,
        notice_seconds: float = 0.5,
        groups: Sequence[GroupSettings] = (),
        grouping: GroupingRules | None = None,
        run_switch: Run = run_script,
    ) -> None:
        super().__init__(journal=journal, roster=roster, in_hand=in_hand, clock=clock)
        self.served, self.host = served, host
        self.heartbeat_seconds, self.notice_seconds = heartbeat_seconds, notice_seconds
        self.health_seconds = health_seconds
        self.recovery_seconds = min(recovery_seconds, health_seconds / 5)
        self.grouping = grouping or GroupingRules()
        if in_hand.line is None:
            in_hand.line = Line(rules=self.grouping, clock=clock)
            in_hand.switcher = Switcher(served=served, groups=groups, clock=clock, run=run_switch)
        self.line: Line = in_hand.line
        self.switcher: Switcher = in_hand.switcher
        self.line.conditions, self.line.fit = self.switcher, self._may_wait
        self.switcher.on_end = self.line.look
        self.switcher.leads = self._leads
        self.switcher.others = self._run_by_others
        self._checked: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._orphans = Orphans(journal=journal, roster=roster, clock=clock)
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._pulled: dict[Queue, int] = {}
        """The queues that are heard, and how many messages are taken in hand of each."""
        self._failures: Counter[str] = Counter()
        """Health checks in a row that failed, by backend."""
        self._told: tuple[Offer, ...] | None = None
        self._instance = ""

    # ------------------------------------------------------------------------------------------ announcing

    @every("heartbeat_seconds")
    def beat(self, heard: Heard) -> Says[ExecutorAlive]:
        return [self._alive(heard)]

    @every("notice_seconds")
    def notice(self, heard: Heard) -> Says[ExecutorAlive]:
        """What is new is announced at once, not only with the next heartbeat; who waits for their turn may have waited enough."""
        self.line.look()
        return [self._alive(heard)] if self._told is not None and self._told != self._offers() else []

    def _offers(self) -> tuple[Offer, ...]:
        return tuple(served.offer for _, served in sorted(self.served.items()))

    def _alive(self, heard: Heard) -> ExecutorAlive:
        self.in_hand.beats += 1
        self._told, self._instance = self._offers(), heard.instance
        return ExecutorAlive(
            instance=heard.instance, boot=heard.boot, number=self.in_hand.beats, leaving=self.leaving, host=self.host,
            at=self.clock(), offers=self._told, running=tuple(self.in_hand.values()),
        )  # fmt: skip

    def leave(self, heard: Heard) -> ExecutorAlive:
        """The last heartbeat of a clean stop. What is held and not begun is given back at the next notice, when this process
        hears its queues no more, so that others get it at once.
        """
        self.in_hand.leaving = True
        return self._alive(heard)

    @property
    def leaving(self) -> bool:
        """Whether it takes no more work."""
        return self.in_hand.leaving

    # -------------------------------------------------------------------------------------------- health

    @every("recovery_seconds")
    async def check(self, heard: Heard) -> Says[ExecutorAlive]:
        """Look after the backends: the healthy ones at their interval, local ones that are ill at every tick.

        Each is asked beside the others, and who answers soon is announced at once: one that hangs keeps nobody waiting.
        """
        due = [name for name, served in sorted(self.served.items()) if self._is_due(name, served, heard.now)]
        asked = [self._ask(name) for name in due]
        if asked:
            await asyncio.wait(asked, timeout=SOON_SECONDS)
        self.switcher.settle()
        self._tend()
        return self.notice(heard)

    def _is_due(self, name: str, served: Served, now: float) -> bool:
        """Whether it must be asked now, so that the answer is there within the interval even if the next tick is the last."""
        since = now - self._checked.get(name, 0.0)
        if served.taking or (not served.well and served.offer.local):
            return True
        wait = self.health_seconds - 2 * self._patience - self.recovery_seconds  # Another one may hang before it.
        if served.offer.foreign:
            wait = min(wait, FOREIGN_SECONDS)
        if not served.well:  # Who is elsewhere, and perhaps refuses our key, is asked ever more seldom.
            return since >= min(wait, self.recovery_seconds * 2.0 ** min(self._failures[name] - 1, 16))
        drawn = hashlib.blake2b(
            f"{self._instance}/{name}/{self._checked.get(name, 0.0)}".encode(), digest_size=1
        ).digest()[0]
        return since >= wait * (1 - JITTER * drawn / 255)

    @property
    def _patience(self) -> float:
        return min(HEALTH_PATIENCE_SECONDS, self.health_seconds / 5)

    async def _check(self, name: str, now: float) -> None:
        self._checked[name] = now
        served = self.served[name]
        was_well = served.well
        await served.check(lambda: own_calls(self.served, name, self.in_hand.calls), self._patience)
        self._failures[name] = 0 if served.well else self._failures[name] + 1
        self.switcher.settle()  # Before anybody announces it: another one may hang for long.
        if served.well and not was_well and served.offer.exclusive_group:
            for other, one in self.served.items():  # Perhaps somebody has switched the group by hand.
                if other != name and one.offer.exclusive_group == served.offer.exclusive_group:
                    self._checked[other] = 0.0

    def doubted(self, backend: str) -> None:
        """Ask it beside what goes on; the next notice tells what has changed."""
        self._ask(backend)

    async def answers(self, backend: str) -> bool:
        """Ask it, and wait for its answer as long as a health check may take."""
        await asyncio.wait({self._ask(backend)})  # Others may wait for the same answer.
        return self.served[backend].well

    def _ask(self, backend: str) -> asyncio.Task[None]:
        if (asking := self._asking.get(backend)) is not None:
            return asking
        asking = asyncio.create_task(self._check(backend, self.clock()), name=f"{backend} health")
        self._asking[backend] = asking
        asking.add_done_callback(lambda _: self._asking.pop(backend, None))
        return asking

    # ---------------------------------------------------------------------------------------------- orphans

    def inherit(self, work: Work, claim: Started) -> Attempted | None:
        """What to record for a dead owner's attempt; its backend may still be at work for it."""
        attempted = super().inherit(work, claim)
        if attempted is not None and attempted.outcome == "executor_lost":
            self.leaves(work, claim.boot)
        return attempted

    def leaves(self, work: Work, boot: str) -> None:
        """Whatever becomes of the job, what its backend is at work for must not be forgotten."""
        served = self.served.get(work.backend)
        if served is not None and isinstance(served.adapter, port.Keeps):
            self._orphans.add(work.backend, call_key(work.tenant, work.job, work.n, boot))

    def _tend(self) -> None:
        """Look after what was left on the backends, beside what goes on."""
        for name, served in self.served.items():
            if name not in self._tending and self._orphans.due(name, served):
                self._tending[name] = asyncio.create_task(self._tended(name, served), name=f"{name} orphans")

    async def _tended(self, name: str, served: Served) -> None:
        try:
            await self._orphans.tend(name, served)
        except BusError as error:
            log.debug("%s: what was left there can't be looked after now: %s", name, error)
        finally:
            del self._tending[name]

    # ---------------------------------------------------------------------------------------------- turns

    def pulls(self) -> dict[Queue, int]:
        """The queues this process wants to hear, and how many messages it takes in hand of each."""
        if self.leaving:
            return {}
        ahead = self.grouping.ahead
        wanted = {
            work_queue(name, 1): served.most + ahead_of(served.offer, ahead) for name, served in self.served.items()
        }
        # A queue that is heard takes as many as at first: what may take more by now is left out once, and heard anew.
        grown = {queue for queue, most in wanted.items() if most > self._pulled.get(queue, most)}
        self._pulled = {queue: max(most, self._pulled.get(queue, 0)) for queue, most in wanted.items()}
        return {queue: most for queue, most in self._pulled.items() if queue not in grown}

    def ready(self, work: Work) -> bool:
        """Whether to run it here: not when only another executor of the backend can."""
        served = self.served.get(work.backend)
        if served is None or self.leaving or (self.switcher.is_off(work.backend) and not self._leads(work.backend)):
            return False
        others = self.roster.offers(self.clock()).get(work.backend, ())
        return can_run(served.offer, work) or not any(can_run(offer, work) for _, offer in others)

    @answering
    async def count(self, question: CountOf, heard: Heard) -> CountIs:
        """How many tokens a model here would read for a job."""
        served = self.served.get(question.backend)
        if served is None or self.leaving:
            raise NotMine
        return await counted(question, served, self.journal)

    def _may_wait(self, work: Work) -> bool:
        """Whether what is held may still come to its turn here."""
        return self.ready(work) and not self.switcher.why_not(work.backend)

    @overhears
    def done(self, done: Done, heard: Heard) -> None:
        """A job has ended: what runs of it is stopped, and what is held of it goes on to be cleared away."""
        self.line.job_ended(done.tenant, done.job)
        super().done(done, heard)

    async def turn(self, work: Work) -> Seat | None:
        """Wait until it may begin. What can only fail does so at once, and takes no slot for that."""
        if self.switcher.why_not(work.backend):
            return Seat()
        return await self.line.turn(work, model_of(work))

    def _leads(self, backend: str) -> bool:
        """Of several executors of a backend the first one switches."""
        offers: list[tuple[str, Any]] = self.roster.offers(self.clock()).get(backend, [])
        return not self._instance or all(instance >= self._instance for instance, _ in offers)

    def _run_by_others(self, backend: str) -> int:
        """How many attempts other executors run on a backend, as they said last."""
        others = [alive for alive in self.roster.living(self.clock()) if alive.instance != self._instance]
        return sum(running.backend == backend for alive in others for running in alive.running)

    # ------------------------------------------------------------------------------------------- switching

    def to_load(self, call: Call, before: str) -> str:
        """What must be put into memory before the call, in words; empty: nothing."""
        if not self.switcher.needed(call.backend, call.model, before):
            return ""
        return f"{call.model} is put into the memory of {call.backend}"

    async def load(self, call: Call) -> None:
        """Put it there. Raises port.BackendError."""
        await self.switcher.prepare(call.backend, call.model)

    def settled(self, work: Work) -> None:
        """The model of the work can be called."""
        self.line.settled(work)

    async def closing(self) -> None:
        """Give up what is being asked and switched, and close the adapters' connections."""
        asking = [*self._asking.values(), *self._tending.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self.switcher.close()
        for adapter in {id(served.adapter): served.adapter for served in self.served.values()}.values():
            await adapter.close()
