"""The steps from a work item to its successor (rules 3 and 4), shared by who runs work and who only drains it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Literal

from actors.actor import Actor, Again, Heard, Steps, Stored, every, hears
from actors.executor.call import model_of
from actors.executor.lookahead import Line, Seat
from actors.journal import Journal
from actors.roster import Roster
from actors.succession import NEVER_SPENT, successor
from bus.topology import Queue, work_queue
from messages import (
    Attempted,
    Backend,
    Chunk,
    Done,
    ExecutorAlive,
    JobCancel,
    JobSubmit,
    Message,
    Problem,
    Progress,
    Retry,
    Running,
    Started,
    Work,
)

Said = ExecutorAlive | Chunk | Progress | JobSubmit | JobCancel | Attempted
"""What a run says between its claim and its end."""
LOOK_AGAIN_SECONDS = 1.0
"""A live owner's claim is respected; the work is looked at again after this time."""


DRAIN_SLOTS = 32


def _apart(heard: Heard) -> float:
    """When to hand on what can't run here. The times differ, or several such messages would come back here in step for ever."""
    drawn = hashlib.blake2b(f"{heard.instance}/{heard.run}/{heard.seq}".encode(), digest_size=1).digest()[0]
    return LOOK_AGAIN_SECONDS * (0.05 + drawn / 512)


class InHand(dict[str, Running]):
    """The attempts that this process runs, by run, and how many heartbeats it sent. Survives the restart of an actor."""

    beats = 0
    leaving = False
    """A clean stop has begun: it takes no more work."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[tuple[str, str], Any] = {}
        """The running calls by tenant and job, so that a job's end finds them."""
        self.models: dict[str, str] = {}
        """The model that this process ran last on each backend."""
        self.line: Line | None = None
        """Who waits for their turn."""
        self.switcher: Any = None
        """What lies in memory, and its changes."""


class Claimant(Actor):
    """Wins `started.<n>` before anything else, ends every attempt in one `attempted.<n>`, and says what follows."""

    purpose: Literal["run", "drain"]

    def __init__(self, *, journal: Journal, roster: Roster, in_hand: InHand, clock: Callable[[], float]) -> None:
        self.journal, self.roster, self.in_hand, self.clock = journal, roster, in_hand, clock

    @hears
    def executor_alive(self, alive: ExecutorAlive, heard: Heard) -> None:
        self.roster.hear(alive, heard.now)

    @hears
    async def work(
        self, work: Work, heard: Heard
    ) -> Steps[Started | ExecutorAlive | Chunk | Progress | JobSubmit | JobCancel | Attempted | Done | Retry]:
        if not self.ready(work):
            yield Again(_apart(heard))
            return
        seat = await self.turn(work)
        if seat is None:
            yield Again(0.0 if self.in_hand.leaving else _apart(heard))
            return
        self.in_hand[heard.run] = Running(
            tenant=work.tenant, job=work.job, n=work.n, run=heard.run, backend=work.backend, model=model_of(work)
        )
        try:
            claim: Stored = yield self.claim(work, heard)
            attempted: Attempted | None = None
            if claim.ours:
                if await self.has_ended(work):
                    attempted = self.not_started(work, "the job had ended")
                else:
                    async with aclosing(self.run(work, heard)) as steps:  # Its call ends with this run, not later.
                        async for said in steps:
                            if isinstance(said, Attempted):
                                attempted = said
                            else:
                                yield said
            else:
                stored = await self.journal.attempted(work.tenant, work.job, work.n)
                if stored is None:
                    assert isinstance(claim.message, Started)
                    attempted = self.inherit(work, claim.message)
                    if attempted is None:
                        yield Again(LOOK_AGAIN_SECONDS)
                        return
                else:
                    follows = successor(work, stored)
                    if follows:
                        yield follows
                    return
            assert attempted is not None
            reply: Stored = yield attempted
            ended: Any = reply.message
            follows = successor(work, ended)
            if follows:
                yield follows
        finally:
            del self.in_hand[heard.run]
            seat.free()

    def claim(self, work: Work, heard: Heard) -> Started:
        """The claim on an attempt. Its message id names instance, boot and run: it is a win only for this run."""
        return Started(
            tenant=work.tenant, job=work.job, n=work.n, backend=work.backend, instance=heard.instance, boot=heard.boot,
            run=heard.run, purpose=self.purpose, at=self.clock(),
        )  # fmt: skip

    async def has_ended(self, work: Work) -> bool:
        """Whether the job has its `done` already (rule 6)."""
        return await self.journal.done(work.tenant, work.job) is not None

    def inherit(self, work: Work, claim: Started) -> Attempted | None:
        """What to record for an attempt somebody else claimed and did not end; None while its owner may be at work."""
        if claim.purpose == "drain":
            return self.not_started(work, "it was given up by who claimed it to drain")
        if self.owner_lives(claim):
            return None
        problem = Problem(reason="executor_lost", message=f"executor {claim.instance} died while it ran the attempt")
        return self.attempted(
            work, "executor_lost", problem=problem, billed_microdollars=work.worst_case_microdollars,
            started_at=claim.at, instance=claim.instance,
        )  # fmt: skip

    def owner_lives(self, claim: Started) -> bool:
        """Whether the run that holds a claim may still be at work."""
        return self.roster.owner_lives(claim, self.clock())

    def not_started(self, work: Work, why: str) -> Attempted:
        """The end of an attempt that never called the backend."""
        return self.attempted(work, "not_started", problem=Problem(reason="not_started", message=why), begun=False)

    def attempted(self, work: Work, outcome: Any, **more: Any) -> Attempted:
        """The full record of an attempt's end."""
        used = outcome not in NEVER_SPENT and more.get("counted_tokens") != 0  # A refusal costs nothing at any price.
        return Attempted(
            tenant=work.tenant, job=work.job, n=work.n, backend=work.backend, model=work.model,
            task=work.slip.needs.task, workflow=work.slip.needs.workflow, step=work.slip.needs.step,
            input_estimate=work.slip.needs.input_tokens, outcome=outcome, reserved=work.reserved, probe=work.probe,
            request=work.slip.request, unpriced=used and work.price.unknown and not more.get("billed_microdollars"),
            at=self.clock(), **more,
        )  # fmt: skip

    def ready(self, work: Work) -> bool:
        """Whether this process can take the work now."""
        return True

    async def turn(self, work: Work) -> Seat | None:
        """Wait until it may begin here; None: give it back. Who only drains lets nobody wait."""
        return Seat()

    async def run(self, work: Work, heard: Heard) -> AsyncGenerator[Said, None]:
        """Call the backend: what streams, and at last the one `Attempted`. Who only drains calls nobody."""
        yield self.not_started(work, "no executor serves this backend any more")


class Drainer(Claimant):
    """Takes work from the queues that no executor serves, without calling anybody (rule 7)."""

    room = "drainer"
    purpose = "drain"
    look_seconds = 1.0

    def __init__(self, *, journal: Journal, roster: Roster, in_hand: InHand, clock: Callable[[], float]) -> None:
        super().__init__(journal=journal, roster=roster, in_hand=in_hand, clock=clock)
        self._backends: set[str] = set()

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None:
        self._backends.add(backend.backend)

    def forget(self, message: Message) -> None:
        """A backend's fact is deleted, after nobody ran it for longer than any job lasts."""
        if isinstance(message, Backend):
            self._backends.discard(message.backend)

    @every("look_seconds")
    def look(self, heard: Heard) -> None:
        """Lets the host ask again which queues to hear: executors come and go in silence."""

    def pulls(self) -> dict[Queue, int]:
        """The queues of backends that nobody serves, once the silence has lasted long enough to mean something."""
        now = self.clock()
        if now - self.roster.since <= self.roster.dead_after_seconds:
            return {}
        served = self.roster.offers(now)
        return {work_queue(name, 1): DRAIN_SLOTS for name in sorted(self._backends) if name not in served}

    def ready(self, work: Work) -> bool:
        return work.backend not in self.roster.offers(self.clock())
