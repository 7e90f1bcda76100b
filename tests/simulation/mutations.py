"""The rules of the life of a job, each one switched off from outside. The product has no switches for this."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Generator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from actors import node
from actors.actor import Later, Stored
from actors.analyzer.actor import Analyzer
from actors.executor import accounting, run
from actors.executor.actor import Executor
from actors.executor.claim import DRAIN_SLOTS, Claimant, Drainer
from actors.executor.orphans import Orphans
from actors.guardrail import actor as guardrail
from actors.guardrail import breaker as breakers
from actors.guardrail.actor import Guardrail
from actors.guardrail.gate import Gate
from actors.guardrail.ledger import Ledger
from actors.guardrail.settling import settle
from actors.guardrail.sweeper import Sweeper
from actors.heads import Heads
from actors.host import Host
from actors.parking.actor import Parking
from actors.parking.gauge import Gauge
from actors.roster import Roster
from actors.router import decide
from actors.router.actor import Router
from actors.succession import successor
from actors.voice import Voice
from bus.bus import Delivery
from bus.memory import MemoryBus
from bus.topology import work_queue
from messages import Analyzed, Attempted, Decided, Done, Granted, Message, Retry, Started

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], None]
STOP = object()
Change = Callable[[Any, Any, Any], Generator[Any, Any, Any]]
"""(actor, message, what it says) -> yields what is really said, returns the reply that the handler gets, or STOP."""


def said_otherwise(patch: Patch, actor: type, name: str, change: Change) -> None:
    """Let a handler with steps say something else than it wants to."""
    original = getattr(actor, name)

    @functools.wraps(original)
    async def mutated(self: Any, message: Any, heard: Any) -> Any:
        async with aclosing(original(self, message, heard)) as inner:
            reply: Any = None
            while True:
                try:
                    said = await inner.asend(reply)
                except StopAsyncIteration:
                    return
                changing = change(self, message, said)
                try:
                    out = next(changing)
                    while True:
                        reply = yield out
                        out = changing.send(reply)
                except StopIteration as stop:
                    reply = stop.value
                if reply is STOP:
                    return

    patch.setattr(actor, name, mutated)


# ------------------------------------------------------------------------------------------------------ rules 1 and 2


class Acknowledged:
    """A delivery that was acknowledged before anything was done."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)

    async def ack(self) -> None:
        pass


def acknowledge_first(patch: Patch) -> None:
    original = Heads._hear

    async def hear(self: Heads, room: Any, key: Any, delivery: Delivery) -> bool:
        await delivery.ack()
        return await original(self, room, key, Acknowledged(delivery))  # type: ignore[arg-type]

    patch.setattr(Heads, "_hear", hear)


def ledger_ids_not_from_the_cause(patch: Patch) -> None:
    original, numbers = MemoryBus.add, itertools.count()

    async def add(self: MemoryBus, subject: str, amount: int, *, msg_id: str, headers: Any = None) -> int:
        return await original(self, subject, amount, msg_id=f"{msg_id}/{next(numbers)}", headers=headers)

    patch.setattr(MemoryBus, "add", add)


def not_first_writer(kind: type[Message]) -> Mutation:
    def mutate(patch: Patch) -> None:
        original = MemoryBus.publish

        async def publish(
            self: MemoryBus, subject: str, data: bytes, *, first_writer: bool = False, **more: Any
        ) -> Any:
            ours = first_writer and not subject.startswith(kind.channel.prefix + ".")
            return await original(self, subject, data, first_writer=ours, **more)

        patch.setattr(MemoryBus, "publish", publish)

    return mutate


def claim_id(change: Callable[[str], str]) -> Mutation:
    def mutate(patch: Patch) -> None:
        original = Voice.message_id

        def message_id(self: Voice, message: Message, *more: Any) -> str:
            found = original(self, message, *more)
            return change(found) if isinstance(message, Started) else found

        patch.setattr(Voice, "message_id", message_id)

    return mutate


claim_does_not_name_its_writer = claim_id(lambda found: found.rsplit("/", 3)[0])
claim_does_not_name_its_run = claim_id(lambda found: found.rsplit("/", 1)[0])

# ------------------------------------------------------------------------------------------------------ rules 3 and 4


def drain_without_the_claim(patch: Patch) -> None:
    def change(self: Any, work: Any, said: Any) -> Any:
        if isinstance(said, Started) and isinstance(self, Drainer):
            return Stored(said, True)
        return (yield said)

    said_otherwise(patch, Claimant, "work", change)


def live_owners_are_not_respected(patch: Patch) -> None:
    patch.setattr(Claimant, "owner_lives", lambda self, claim: False)


def successor_first(patch: Patch) -> None:
    def change(self: Any, work: Any, said: Any) -> Any:
        if isinstance(said, Attempted):
            follows = successor(work, said)
            if follows:
                yield follows
        return (yield said)

    said_otherwise(patch, Claimant, "work", change)


def found_attempts_are_not_finished(patch: Patch) -> None:
    """Only who wrote `attempted` itself goes on from it."""
    wrote: set[int] = set()

    def change(self: Any, work: Any, said: Any) -> Any:
        me = id(asyncio.current_task())
        if isinstance(said, Attempted):
            wrote.add(me)
        elif isinstance(said, Done | Retry) and me not in wrote:
            return STOP
        return (yield said)

    said_otherwise(patch, Claimant, "work", change)


def losers_do_not_finish(patch: Patch) -> None:
    def change(self: Any, work: Any, said: Any) -> Any:
        reply = yield said
        return STOP if isinstance(said, Attempted) and not reply.ours else reply

    said_otherwise(patch, Claimant, "work", change)


def no_executor_lost(patch: Patch) -> None:
    def change(self: Any, work: Any, said: Any) -> Any:
        if isinstance(said, Attempted) and said.outcome == "executor_lost":
            return Stored(said, True)
        return (yield said)

    said_otherwise(patch, Claimant, "work", change)


def claims_to_drain_are_not_open(patch: Patch) -> None:
    original = Claimant.inherit

    def inherit(self: Any, work: Any, claim: Any) -> Any:
        return original(self, work, msgspec.structs.replace(claim, purpose="run"))

    patch.setattr(Claimant, "inherit", inherit)


def running_attempts_are_not_looked_at(patch: Patch) -> None:
    """The owner of a claim counts as alive as long as its process does."""
    original = Roster.owner_lives

    def owner_lives(self: Roster, claim: Started, now: float) -> bool:
        seen = self._seen.get(claim.instance)
        same = seen is not None and seen.alive.boot == claim.boot and now - seen.heard_at <= self.dead_after_seconds
        return same or original(self, claim, now)

    patch.setattr(Roster, "owner_lives", owner_lives)


# ------------------------------------------------------------------------------------------------------ rules 5 and 6


def the_retry_itself_is_scheduled(patch: Patch) -> None:
    def change(self: Any, work: Any, said: Any) -> Any:
        return (yield Later(said, at=said.not_before) if isinstance(said, Retry) and said.not_before else said)

    said_otherwise(patch, Claimant, "work", change)


def does_not_look_for_done(*actors: type) -> Mutation:
    async def never(self: Any, *_: Any) -> bool:
        return False

    def mutate(patch: Patch) -> None:
        for actor in actors:
            patch.setattr(actor, "has_ended", never)

    return mutate


def unknown_use_is_nothing(patch: Patch) -> None:
    """What the backend did not tell is taken for nothing, as if the call had been refused."""
    original = accounting.spent
    patch.setattr(
        accounting, "spent", lambda work, made, end: original(work, made, "whole" if end == "whole" else "refused")
    )


def calls_are_not_aborted(patch: Patch) -> None:
    original = Executor.done

    @functools.wraps(original)
    def done(self: Any, message: Any, heard: Any) -> None:
        pass

    patch.setattr(Executor, "done", done)


# ------------------------------------------------------------------------------------------------------ rules 7 and 8


def work_is_not_held(patch: Patch) -> None:
    async def hold(self: Host) -> None:
        pass

    patch.setattr(Host, "_hold", hold)


def deaths_are_not_known(patch: Patch) -> None:
    patch.setattr(Roster, "owner_lives", lambda self, claim, now: True)


def silence_of_the_server_counts(patch: Patch) -> None:
    patch.setattr(Roster, "listen_anew", lambda self, now: None)


def nobody_drains(patch: Patch) -> None:
    patch.setattr(Drainer, "pulls", lambda self: {})


def drained_although_served(patch: Patch) -> None:
    patch.setattr(Drainer, "pulls", lambda self: {work_queue(name, 1): DRAIN_SLOTS for name in sorted(self._backends)})
    patch.setattr(Drainer, "ready", lambda self, work: True)


def executors_create_their_queues(patch: Patch) -> None:
    """The registry announces a backend without making its queue; an executor makes it some time after its first word."""

    async def nothing(self: Any, backend: str, slots: int) -> None:
        pass

    original = Host.open

    async def opened(self: Host) -> None:
        async def create(actor: Executor) -> None:
            await asyncio.sleep(5.0)
            for queue in actor.pulls():
                await self.bus.set_up_queue(msgspec.structs.replace(queue, max_in_flight=8))

        await original(self)
        self._tasks.extend(
            asyncio.ensure_future(create(room.actor)) for room in self.rooms if isinstance(room.actor, Executor)
        )

    patch.setattr(node.ServerQueues, "set_up", nothing)
    patch.setattr(Host, "open", opened)


# ------------------------------------------------------------------------------------ what follows is about the ledger


def stored_totals_are_not_read(patch: Patch) -> None:
    original = MemoryBus.add

    async def add(self: MemoryBus, subject: str, amount: int, *, msg_id: str, headers: Any = None) -> int:
        again = self.server.stream("LEDGER").seq_of(msg_id, self.server.time()) is not None
        total = await original(self, subject, amount, msg_id=msg_id, headers=headers)
        return 0 if again else total

    patch.setattr(MemoryBus, "add", add)


def forgotten_ids_are_not_looked_up(patch: Patch) -> None:
    async def nothing(self: Ledger, entry: Any) -> None:
        pass

    patch.setattr(Ledger, "_stored", nothing)


def the_fold_forgets_its_place(patch: Patch) -> None:
    original = breakers.fold

    def fold(breaker: Any, attempted: Any, seq: int, rules: Any) -> Any:
        return original(breaker, attempted, max(seq, breaker.through_seq + 1 if breaker else 0), rules)

    patch.setattr(breakers, "fold", fold)


def leases_have_no_end(patch: Patch) -> None:
    async def taken(self: Gate, fact: Any, now: float) -> bool:
        return bool(fact.probe_job)

    patch.setattr(Gate, "_is_probed", taken)


def only_grants_are_written(patch: Patch) -> None:
    """A refusal and a void leave no verdict, as the rules were first written (A1)."""

    def change(self: Any, decided: Any, said: Any) -> Any:
        if isinstance(said, Granted) and said.verdict != "candidate":
            return Stored(said, True)
        return (yield said)

    said_otherwise(patch, Guardrail, "decided", change)


def giving_up_is_not_decided(patch: Patch) -> None:
    """The router ends a job at once instead of writing the decision first (A6)."""
    for name in ("analyzed", "retry", "due"):
        original = getattr(Router, name)

        @functools.wraps(original)
        async def mutated(self: Router, message: Any, heard: Any, original: Any = original) -> Any:
            async with aclosing(original(self, message, heard)) as inner:
                async for said in inner:
                    for end in self.decided(said, heard) if isinstance(said, Decided) and said.gave_up else [said]:
                        yield end

        patch.setattr(Router, name, mutated)


def rejections_are_not_analyzed(patch: Patch) -> None:
    """A rejection is said as an end at once (A7)."""
    for name in ("job_submit", "undecodable"):
        original = getattr(Analyzer, name)

        def end(said: Any, heard: Any) -> Any:
            if not isinstance(said, Analyzed) or said.rejected is None:
                return said
            return Done(tenant=said.tenant, job=said.job, ending="rejected", problem=said.rejected, at=heard.now)

        @functools.wraps(original)
        def mutated(self: Any, *heard: Any, original: Any = original, end: Any = end) -> Any:
            return [end(said, heard[-1]) for said in original(self, *heard)]

        patch.setattr(Analyzer, name, mutated)


def the_sweeper_knows_no_verdicts(patch: Patch) -> None:
    """It compares the ledger with what was attempted, and with nothing else (A9)."""

    async def end(self: Any, seq: int) -> bool:
        found = await self.ledger.line(seq)
        if found is None:
            return True
        _, entry = found
        attempted = await self.journal.attempted(entry.tenant, entry.job, entry.n)
        if attempted is not None:
            await settle(self.ledger, attempted)
        return attempted is not None

    patch.setattr(Sweeper, "_end", end)


def time_goes_by_the_wall_clock(patch: Patch) -> None:
    """Each process adds to its own wall clock what it once measured, as if nobody ever set it."""

    def now(self: MemoryBus) -> float:
        return self.server.now() + self.wall_ahead

    patch.setattr(MemoryBus, "now", now)


# -------------------------------------------------------------------------------------------------------- parking


def nobody_is_woken(patch: Patch) -> None:
    async def look(self: Parking, heard: Any) -> list[Any]:
        return []

    patch.setattr(Parking, "look", look)


def all_are_woken_at_once(patch: Patch) -> None:
    patch.setattr(Gauge, "free", lambda self, backend: 1_000)


def others_go_beside_a_trial_call(patch: Patch) -> None:
    original = Gauge.passes

    def passes(self: Gauge, backend: str, model: str, now: float) -> str:
        fact = self._breakers.get((backend, model))
        return "closed" if fact is not None and fact.open_until <= now else original(self, backend, model, now)

    patch.setattr(Gauge, "passes", passes)


def waits_are_not_scheduled(patch: Patch) -> None:
    original = Router.retry

    @functools.wraps(original)
    async def retry(self: Router, retry: Retry, heard: Any) -> Any:
        if not retry.awaiting:
            async with aclosing(original(self, retry, heard)) as said:
                async for one in said:
                    yield one

    patch.setattr(Router, "retry", retry)


def waits_for_the_absent_are_counted(patch: Patch) -> None:
    original = decide.choose

    def choose(slip: Any, *, n: int, **more: Any) -> Any:
        made = original(slip, n=n, **more)
        if n < 2 or made.decided.ranking:
            return made
        gave_up = msgspec.structs.replace(made.decided, gave_up=made.decided.cause, wait_seconds=0.0)
        return msgspec.structs.replace(made, decided=gave_up)

    patch.setattr(decide, "choose", choose)


def nobody_looks_for_what_was_left(patch: Patch) -> None:
    patch.setattr(run, "left_behind", lambda attempts, backend: ())


def nobody_stops_what_was_left(patch: Patch) -> None:
    patch.setattr(Orphans, "due", lambda self, name, served: False)


def nobody_settles_what_turned_out_to_be_right(patch: Patch) -> None:
    async def correct(*_: Any) -> list[Any]:
        return []

    patch.setattr(guardrail, "correct", correct)
