from __future__ import annotations

import asyncio
import logging

import pytest

from actors.actor import Actor, Again, Heard, Says, hears
from actors.heads import LANES
from bus.topology import ANALYZER, EXPLAINER, FOLD, Queue
from messages import Attempted, Decided, Done, Explained, JobSubmit
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, attempted, decided


@pytest.fixture(autouse=True)
def without_expected_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "turnout.host")


class Book(Actor):
    """Writes down what it hears; `fails` says how often that goes wrong first."""

    room = "telemetry"

    losses = 0

    def __init__(
        self, pages: list[list[str]], *, fails: list[int] | None = None, full: list[int] | None = None
    ) -> None:
        self.pages, self.fails, self.full = pages, fails or [0], full or [0]
        self.waiting: list[str] = []

    @hears
    def job_submit(self, submit: JobSubmit, heard: Heard) -> None:
        self.waiting.append(submit.prompt)

    @hears
    def attempted(self, attempted: Attempted, heard: Heard) -> None:
        if attempted.job == "poison" and heard.deliveries < 3:
            raise ValueError("poison")
        self.waiting.append(attempted.job)

    async def kept(self, losses: int) -> bool:
        await asyncio.sleep(0.01)
        if self.full[0]:
            self.full[0] -= 1
            self.waiting.clear()
            self.losses += 1
        if self.losses != losses:
            return False
        if self.fails[0]:
            self.fails[0] -= 1
            raise OSError("the book is shut")
        page, self.waiting = self.waiting, []
        self.pages.append(page)
        return True


def test_nothing_is_acknowledged_before_it_is_kept() -> None:
    async def story(rig: Rig) -> None:
        pages: list[list[str]] = []
        points: list[tuple[int, str]] = []

        async def boundary(point: str, name: str) -> None:
            points.append((len(pages), point))

        await rig.host(room_of(lambda: Book(pages), ANALYZER), boundary=boundary)
        await rig.submit(prompt="one")
        await rig.settle()
        assert pages == [["one"]]
        assert points == [(1, "before acknowledge")]
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_what_came_together_is_kept_once() -> None:
    async def story(rig: Rig) -> None:
        pages: list[list[str]] = []
        await rig.host(room_of(lambda: Book(pages), FOLD, slots=64))
        jobs = [f"j-{n}" for n in range(30)]
        await asyncio.gather(*(rig.publish(attempted(job=job)) for job in jobs))
        await rig.settle()
        assert sorted(job for page in pages for job in page) == sorted(jobs)
        assert len(pages) < 5
        assert await rig.unacknowledged(FOLD) == 0

    play(story)


def test_what_could_not_be_kept_comes_again() -> None:
    async def story(rig: Rig) -> None:
        pages: list[list[str]] = []
        fails = [2]
        host = await rig.host(room_of(lambda: Book(pages, fails=fails), FOLD, slots=64))
        await asyncio.gather(*(rig.publish(attempted(job=job)) for job in ("j-1", "j-2", "j-3")))
        await rig.settle(5.0)
        assert sorted({job for page in pages for job in page}) == ["j-1", "j-2", "j-3"]
        assert host.counts["telemetry crashes"] == 2
        assert await rig.unacknowledged(FOLD) == 0
        assert host.in_hand == 0

    play(story)


def test_what_there_was_no_room_for_comes_again_without_a_crash() -> None:
    async def story(rig: Rig) -> None:
        pages: list[list[str]] = []
        full = [9]
        host = await rig.host(room_of(lambda: Book(pages, full=full), FOLD, ANALYZER, slots=64))
        await asyncio.gather(
            *(rig.publish(attempted(job=job)) for job in ("j-1", "j-2", "j-3")), rig.submit(prompt="one")
        )
        await rig.settle(5.0)
        assert pages == []
        assert await rig.unacknowledged(FOLD) == 3
        assert await rig.unacknowledged(ANALYZER) == 1
        assert host.in_hand == 0, "they wait at the server"
        await rig.settle(120.0)
        assert sorted({job for page in pages for job in page}) == ["j-1", "j-2", "j-3", "one"]
        assert host.counts["telemetry crashes"] == 0
        assert await rig.unacknowledged(FOLD) == await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_one_that_crashes_does_not_keep_the_others() -> None:
    async def story(rig: Rig) -> None:
        pages: list[list[str]] = []
        await rig.host(room_of(lambda: Book(pages), FOLD, slots=64))
        await asyncio.gather(*(rig.publish(attempted(job=job)) for job in ("j-1", "poison", "j-3")))
        await rig.settle(0.09)
        assert await rig.unacknowledged(FOLD) == 1
        await rig.settle(5.0)
        assert "poison" in pages[-1]
        assert await rig.unacknowledged(FOLD) == 0

    play(story)


class Narrator(Actor):
    """Says something about every decision, and nothing about ends."""

    room = "explainer"

    @hears
    def decided(self, decided: Decided, heard: Heard) -> Says[Explained]:
        return [Explained(tenant="acme", job=decided.job, n=decided.n, chosen="", summary="")]

    @hears
    def done(self, done: Done, heard: Heard) -> None:
        return None


def test_of_those_that_came_together_many_speak_at_once() -> None:
    async def story(rig: Rig) -> None:
        speaking = most = 0

        async def boundary(point: str, name: str) -> None:
            nonlocal speaking, most
            speaking += {"before publish": 1, "after publish": -1}.get(point, 0)
            most = max(most, speaking)

        await rig.host(room_of(Narrator, EXPLAINER, slots=256), boundary=boundary)
        jobs = [f"j-{n}" for n in range(3 * LANES)]
        await asyncio.gather(*(rig.publish(decided(job=job)) for job in jobs))
        await asyncio.gather(*(rig.publish(Done(tenant="acme", job=job, ending="succeeded", at=T0)) for job in jobs))
        await rig.settle()
        assert sorted(said.job for said in rig.stored(Explained)) == sorted(jobs)
        assert 1 < most <= LANES
        assert await rig.unacknowledged(EXPLAINER) == 0

    play(story)


def test_a_drain_waits_for_what_lies() -> None:
    async def story(rig: Rig) -> None:
        pages: list[list[str]] = []
        host = await rig.host(room_of(lambda: Book(pages), FOLD, slots=64))
        await rig.publish(attempted(job="j-1"))
        await rig.settle(0.01)
        assert pages == []
        await host.drain(5.0)
        assert pages == [["j-1"]]
        assert host.in_hand == 0

    play(story)


def test_what_a_crashed_actor_had_in_hand_comes_again() -> None:
    """The notes of an actor are gone with it: what it heard in vain is not acknowledged by the next one's word."""

    async def story(rig: Rig) -> None:
        pages: list[list[str]] = []
        await rig.host(room_of(lambda: Book(pages), FOLD, slots=64))
        await asyncio.gather(*(rig.publish(attempted(job=job)) for job in ("j-1", "poison", "j-3")))
        await rig.settle(5.0)
        assert {job for page in pages for job in page} == {"j-1", "poison", "j-3"}
        assert await rig.unacknowledged(FOLD) == 0

    play(story)


@pytest.mark.parametrize("queue", [FOLD, EXPLAINER])
def test_one_that_can_t_even_be_put_away_does_not_keep_the_others(queue: Queue) -> None:
    class Poisoned(Actor):
        room = "explainer"

        def __init__(self) -> None:
            if made:
                raise OSError("no room for another one")
            made.append(self)

        @hears
        async def attempted(self, attempted: Attempted, heard: Heard) -> None:
            await self.handle(attempted.job)

        @hears
        async def decided(self, decided: Decided, heard: Heard) -> None:
            await self.handle(decided.job)

        async def handle(self, job: str) -> None:
            if job == "poison":
                raise ValueError("poison")
            await asyncio.sleep(0.1)
            handled.append(job)

    made: list[Actor] = []
    handled: list[str] = []

    async def story(rig: Rig) -> None:
        await rig.host(room_of(Poisoned, queue, slots=64))
        jobs = ["poison", *(f"j-{n}" for n in range(2 * LANES))]
        event = attempted if queue is FOLD else decided
        await asyncio.gather(*(rig.publish(event(job=job)) for job in jobs))
        await rig.settle(5.0)
        assert sorted(handled) == sorted(jobs[1:])
        assert await rig.unacknowledged(queue) == 1

    play(story)


def test_what_is_heard_again_while_its_batch_goes_on_stays_in_hand() -> None:
    class Unsure(Actor):
        room = "explainer"

        @hears
        async def decided(self, decided: Decided, heard: Heard) -> list[Again]:
            if decided.job == "later" and heard.deliveries == 1:
                return [Again(0.2)]
            await asyncio.sleep(5.0 if decided.job == "later" else 1.0)
            return []

    async def story(rig: Rig) -> None:
        host = await rig.host(room_of(Unsure, EXPLAINER, slots=64))
        await asyncio.gather(*(rig.publish(decided(job=job)) for job in ("later", "slow")))
        await rig.settle(3.0)
        assert host.in_hand == 1, "or a drain would not wait for it, and nobody would hold it"
        await host.drain(10.0)
        assert await rig.unacknowledged(EXPLAINER) == 0

    play(story)


def test_in_order_means_one_after_the_other_even_over_batches() -> None:
    class Slow(Actor):
        room = "breaker"

        @hears
        async def attempted(self, attempted: Attempted, heard: Heard) -> None:
            running.append(heard.seq)
            most.append(len(running))
            await asyncio.sleep(0.03)
            running.remove(heard.seq)
            seen.append(heard.seq)

    running: list[int] = []
    most: list[int] = []
    seen: list[int] = []

    async def story(rig: Rig) -> None:
        await rig.host(room_of(Slow, FOLD, slots=64))
        for number in range(30):
            await rig.publish(attempted(job=f"j-{number}"))
            await rig.settle(0.005)
        await rig.settle(5.0)
        assert seen == sorted(seen)
        assert len(seen) == 30
        assert max(most) == 1
        assert await rig.unacknowledged(FOLD) == 0

    play(story)
