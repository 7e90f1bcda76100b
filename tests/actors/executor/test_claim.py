"""Who may run an attempt, who may only end it, and what follows (rules 3, 4 and 7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.actor import Heard, Stored
from actors.executor.claim import LOOK_AGAIN_SECONDS, Claimant, Drainer, InHand, _apart
from actors.host import Host
from actors.journal import Journal
from actors.roster import DEAD_AFTER_SECONDS, Roster
from bus import codec
from bus.topology import Queue, work_queue
from messages import Attempted, Chunk, Done, ExecutorAlive, Offer, Progress, Retry, Running, Started, Work
from messages.values import Outcome
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, attempted, backend, work

QUEUE = work_queue("a", 8)
PARTS: dict[str, Any] = {"tenant": "acme", "job": "j-1", "n": 1}


class Runner(Claimant):
    """Runs what it claims as a test says."""

    room = "executor"
    purpose = "run"
    willing = True

    def __init__(self, act: Callable[[Work], Any], **given: Any) -> None:
        super().__init__(**given)
        self.act = act

    def ready(self, work: Work) -> bool:
        return self.willing

    async def run(self, work: Work, heard: Heard) -> AsyncGenerator[ExecutorAlive | Chunk | Progress | Attempted, None]:
        async with aclosing(self.act(work)) as acted:
            async for said in acted:
                yield self.attempted(work, said) if isinstance(said, str) else said


class Case:
    """One process that claims, and what it called."""

    def __init__(self, rig: Rig, host: Host, in_hand: InHand, calls: list[Work]) -> None:
        self.rig, self.host, self.in_hand, self.calls = rig, host, in_hand, calls

    def ends(self) -> list[tuple[str, int]]:
        return [(end.outcome, end.billed_microdollars) for end in self.rig.stored(Attempted)]

    async def left(self) -> int:
        return await self.rig.unacknowledged(QUEUE)

    async def say(self, alive: ExecutorAlive) -> None:
        await self.rig.bus.signal(alive.subject, codec.encode(alive))


async def opened(rig: Rig, act: Callable[[Work], AsyncIterator[Any]] | None = None) -> Case:
    calls: list[Work] = []
    in_hand = InHand()

    async def note(item: Work) -> AsyncIterator[Any]:
        calls.append(item)
        async for said in (act or well)(item):
            yield said

    await rig.bus.set_up_queue(QUEUE)
    shared: dict[str, Any] = {
        "journal": Journal(rig.bus), "roster": Roster(since=rig.bus.now()), "in_hand": in_hand, "clock": rig.bus.now,
    }  # fmt: skip
    host = await rig.host(room_of(lambda: Runner(note, **shared), QUEUE), instance="exec-a")
    return Case(rig, host, in_hand, calls)


async def well(_: Work) -> AsyncIterator[Any]:
    yield "ok"


def claimed(**changes: Any) -> Started:
    """A claim of somebody else."""
    given: dict[str, Any] = {**PARTS, "backend": "a", "instance": "exec-b", "boot": "b1", "run": "7", "at": T0}
    return Started(**{**given, **changes})


def alive(at: float, *, number: int = 1, boot: str = "b1", runs: bool = True, **more: Any) -> ExecutorAlive:
    """A heartbeat of that somebody."""
    running = (Running(**PARTS, run="7"),) if runs else ()
    return ExecutorAlive(instance="exec-b", boot=boot, number=number, running=running, at=at, **more)


# The way without trouble.


def test_a_won_claim_is_said_before_the_call_and_the_end_and_the_successor_after_it() -> None:
    async def story(rig: Rig) -> None:
        async def act(_: Work) -> AsyncIterator[Any]:
            assert [claim.run for claim in rig.stored(Started)] == [*case.in_hand]
            run = next(iter(case.in_hand))
            assert list(case.in_hand.values()) == [Running(**PARTS, run=run, backend="a", model="m")]
            yield "ok"

        case = await opened(rig, act)
        await rig.publish(work())
        await rig.settle()
        claim = rig.stored(Started)[0]
        assert (claim.instance, claim.boot, claim.purpose) == ("exec-a", "b1", "run")
        assert case.ends() == [("ok", 0)]
        assert [done.ending for done in rig.stored(Done)] == ["succeeded"]
        assert (len(case.calls), case.in_hand, await case.left()) == (1, {}, 0)

    play(story)


@given(st.text(max_size=9), st.text(max_size=9), st.integers(0, 2**40))
def test_what_cannot_run_here_is_handed_on_soon_and_not_at_once(instance: str, run: str, seq: int) -> None:
    delay = _apart(Heard(now=T0, instance=instance, run=run, seq=seq))
    assert 0.05 * LOOK_AGAIN_SECONDS <= delay < 0.6 * LOOK_AGAIN_SECONDS


def test_who_cannot_run_it_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig) -> None:
        monkeypatch.setattr(Runner, "willing", False)
        case = await opened(rig)
        await rig.publish(work())
        await rig.settle(5)
        assert (rig.stored(Started), case.in_hand, await case.left()) == ([], {}, 1)
        monkeypatch.setattr(Runner, "willing", True)
        await rig.settle(2)
        assert case.ends() == [("ok", 0)]

    play(story)


# A lost claim.


def test_a_living_owner_is_left_alone_and_the_work_looked_at_again() -> None:
    async def story(rig: Rig) -> None:
        case = await opened(rig)
        await rig.publish(claimed(at=rig.bus.now()))
        await rig.publish(work())
        for number in range(10):
            await case.say(alive(rig.bus.now(), number=number))
            await rig.settle(2)
        await rig.settle(0.5)  # Between two looks.
        assert (case.calls, case.ends(), rig.stored(Retry), rig.stored(Done)) == ([], [], [], [])
        assert (await case.left(), case.in_hand) == (1, {})
        looks = case.host.counts["executor.work"] * LOOK_AGAIN_SECONDS
        assert 18 <= looks <= 22  # Every LOOK_AGAIN_SECONDS.

    play(story)


def test_a_dead_owner_is_billed_at_the_worst_case_once_the_silence_means_something() -> None:
    async def story(rig: Rig) -> None:
        case = await opened(rig)
        claim = claimed(at=rig.bus.now())
        await rig.publish(claim)
        await case.say(alive(rig.bus.now() + 0.1))
        await rig.publish(work(worst_case_microdollars=60))
        await rig.settle(DEAD_AFTER_SECONDS - 0.5)
        assert case.ends() == []
        await rig.settle(LOOK_AGAIN_SECONDS + 1.0)
        assert case.ends() == [("executor_lost", 60)]
        lost = rig.stored(Attempted)[0]
        assert (lost.instance, lost.started_at, lost.latency_seconds) == ("exec-b", claim.at, None)
        assert lost.problem is not None
        assert lost.problem.message == "executor exec-b died while it ran the attempt"
        retry = rig.stored(Retry)[0]
        assert (retry.n, retry.attempts[0].billed_microdollars) == (2, 60)
        assert (case.calls, case.in_hand, await case.left()) == ([], {}, 0)

    play(story)


@pytest.mark.parametrize("sign", [{"boot": "b2", "number": 0}, {"runs": False}])
def test_an_owner_that_says_itself_that_it_is_gone_is_not_waited_for(sign: dict[str, Any]) -> None:
    async def story(rig: Rig) -> None:
        case = await opened(rig)
        await rig.publish(claimed(at=rig.bus.now()))
        await rig.settle(0.1)
        await case.say(alive(rig.bus.now(), **sign))
        await rig.publish(work())
        await rig.settle(0.5)
        assert (case.ends(), case.calls) == ([("executor_lost", 60)], [])

    play(story)


def test_a_claim_made_only_to_drain_is_given_up_at_once_and_costs_nothing() -> None:
    async def story(rig: Rig) -> None:
        case = await opened(rig)
        await rig.publish(claimed(purpose="drain", at=rig.bus.now()))
        await rig.publish(work())
        await rig.settle(0.5)
        assert (case.ends(), case.calls, case.in_hand) == ([("not_started", 0)], [], {})
        assert [retry.n for retry in rig.stored(Retry)] == [2]
        assert await case.left() == 0

    play(story)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_an_attempt_that_has_ended_gets_only_its_successor(outcome: Outcome) -> None:
    async def story(rig: Rig) -> None:
        case = await opened(rig)
        await rig.publish(claimed())
        await rig.publish(attempted(outcome=outcome, billed_microdollars=7))
        await rig.publish(work())
        await rig.settle()
        assert case.ends() == [(outcome, 7)]
        dones, retries = len(rig.stored(Done)), len(rig.stored(Retry))
        final = {"ok": (1, 0), "expired": (1, 0), "aborted": (0, 0)}
        assert (dones, retries) == final.get(outcome, (0, 1))
        assert (case.calls, case.in_hand, await case.left()) == ([], {}, 0)

    play(story)


def test_an_owner_that_ends_its_attempt_after_all_has_the_word() -> None:
    """The heir finds no end and a dead owner; the owner's end is stored first, and the successor follows from that."""

    async def story(rig: Rig) -> None:
        case = await opened(rig)
        await rig.publish(claimed(at=rig.bus.now()))
        await rig.settle(0.1)
        await case.say(alive(rig.bus.now(), runs=False))
        journal: Any = next(room.actor for room in case.host.rooms).__dict__["journal"]
        read = journal.attempted

        async def late(*keys: Any) -> None:
            assert await read(*keys) is None
            await rig.publish(attempted(outcome="ok"))

        journal.attempted = late
        await rig.publish(work())
        await rig.settle()
        assert case.ends() == [("ok", 0)]
        assert [done.ending for done in rig.stored(Done)] == ["succeeded"]
        assert rig.stored(Retry) == []

    play(story)


def test_a_job_that_has_ended_is_not_called() -> None:
    async def story(rig: Rig) -> None:
        case = await opened(rig)
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=T0))
        await rig.publish(work())
        await rig.settle()
        assert (case.ends(), case.calls, case.in_hand) == ([("not_started", 0)], [], {})
        problem = rig.stored(Attempted)[0].problem
        assert problem is not None
        assert problem.message == "the job had ended"
        assert [done.ending for done in rig.stored(Done)] == ["cancelled"]

    play(story)


# In hand.


def test_nothing_stays_in_hand_when_the_run_crashes_or_its_process_goes() -> None:
    async def story(rig: Rig) -> None:
        async def act(item: Work) -> AsyncIterator[Any]:
            if item.job == "bug":
                raise RuntimeError("a bug")
            await asyncio.sleep(1e6)
            yield "ok"

        case = await opened(rig, act)
        await rig.publish(work(job="bug"))
        await rig.settle(0.05)
        assert (len(case.calls), case.in_hand) == (1, {})
        await rig.publish(work(job="long"))
        await rig.settle(0.05)
        assert [running.job for running in case.in_hand.values()] == ["long"]
        await case.host.close()
        await case.host.bus.close()
        rig.hosts.remove(case.host)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await rig.settle(0.1)
        assert case.in_hand == {}

    play(story)


def test_a_run_is_closed_before_anybody_goes_on() -> None:
    """A call that is left in the middle ends with its run, not when its generator is collected one day."""
    steps: list[str] = []

    async def story(rig: Rig) -> None:
        async def act(_: Work) -> AsyncIterator[Any]:
            try:
                yield Chunk(tenant="acme", job="j-1", n=1, number=0, text="x")
                await asyncio.sleep(1e6)
            finally:
                steps.append("closed")

        class Watched(InHand):
            def __delitem__(self, run: str) -> None:
                super().__delitem__(run)
                steps.append("out of hand")

        in_hand = Watched()
        claimant = Runner(act, journal=Journal(rig.bus), roster=Roster(since=T0), in_hand=in_hand, clock=rig.bus.now)
        heard = Heard(now=T0, instance="exec-a", boot="b1", run="1")
        handler: Any = claimant.work(work(), heard)
        claim = await handler.asend(None)
        assert isinstance(await handler.asend(Stored(message=claim, ours=True)), Chunk)
        await handler.aclose()
        assert steps == ["closed", "out of hand"]

    play(story)


# The drainer.


async def draining(rig: Rig, *names: str) -> Case:
    in_hand = InHand()
    for name in names:
        fact = backend(name)
        await rig.bus.set_up_queue(work_queue(name, 8))
        await rig.bus.put_fact(fact.subject, codec.encode(fact))
    shared: dict[str, Any] = {
        "journal": Journal(rig.bus), "roster": Roster(since=rig.bus.now()), "in_hand": in_hand, "clock": rig.bus.now,
    }  # fmt: skip
    host = await rig.host(room_of(lambda: Drainer(**shared)), instance="registry")
    return Case(rig, host, in_hand, [])


def heard_by(case: Case) -> set[str]:
    queues: dict[Queue, Any] = case.host.rooms[0].pulling
    return {queue.name for queue in queues}


def serving(*names: str, at: float, number: int, leaving: bool = False) -> ExecutorAlive:
    offers = tuple(Offer(backend=name, protocol="openai", local=True) for name in names)
    return ExecutorAlive(instance="exec-b", boot="b1", number=number, offers=offers, leaving=leaving, at=at)


def test_the_drainer_hears_only_what_nobody_serves_and_only_after_the_silence() -> None:
    async def story(rig: Rig) -> None:
        case = await draining(rig, "a", "c")
        await rig.publish(work(backend="a", job="j-a"))
        await rig.publish(work(backend="c", job="j-c"))
        for number in range(4):  # Six seconds.
            await case.say(serving("a", at=rig.bus.now(), number=number))
            assert heard_by(case) == set()
            await rig.settle(1.5)
        await case.say(serving("a", at=rig.bus.now(), number=9))
        await rig.settle(2)
        assert heard_by(case) == {"exec-c"}
        assert [(end.job, end.outcome, end.billed_microdollars) for end in rig.stored(Attempted)] == [
            ("j-c", "not_started", 0)
        ]  # fmt: skip
        assert [claim.purpose for claim in rig.stored(Started)] == ["drain"]
        assert [retry.attempts[0].backend for retry in rig.stored(Retry)] == ["c"]
        assert case.in_hand == {}

    play(story)


def test_the_drainer_takes_what_a_leaving_executor_leaves_and_lets_go_when_one_returns() -> None:
    async def story(rig: Rig) -> None:
        case = await draining(rig, "a")
        for number in range(5):
            await case.say(serving("a", at=rig.bus.now(), number=number))
            await rig.settle(2)
        assert heard_by(case) == set()
        await case.say(serving("a", at=rig.bus.now(), number=5, leaving=True))
        await rig.settle(1.5)
        assert heard_by(case) == {"exec-a"}
        await rig.publish(work())
        await rig.settle(0.5)
        assert case.ends() == [("not_started", 0)]
        assert not [name for name in case.host.counts if "crash" in name]
        await case.say(serving("a", at=rig.bus.now(), number=6))
        await rig.settle(0.1)  # It still pulls, and hands on what it gets.
        await rig.publish(work(job="j-2"))
        await rig.settle(3)
        assert heard_by(case) == set()
        assert len(case.ends()) == 1
        assert await rig.unacknowledged(work_queue("a", 8)) == 1

    play(story)


def test_the_drainer_respects_a_living_owner() -> None:
    async def story(rig: Rig) -> None:
        case = await draining(rig, "a")
        await rig.publish(claimed(at=rig.bus.now()))
        for number in range(6):
            await case.say(alive(rig.bus.now(), number=number))  # It runs this, and serves nothing new.
            if number == 4:
                await rig.publish(work())
            await rig.settle(2)
        assert heard_by(case) == {"exec-a"}
        assert (case.ends(), case.in_hand) == ([], {})
        await rig.settle(DEAD_AFTER_SECONDS + LOOK_AGAIN_SECONDS)
        assert case.ends() == [("executor_lost", 60)]

    play(story)
