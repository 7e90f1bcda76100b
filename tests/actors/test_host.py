from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest

from actors.actor import Actor, Again, CantAnswer, Heard, Later, Says, Steps, Stored, answers, every, hears, overhears
from actors.heads import MAX_DELIVERIES, whose
from actors.room import CRASH_LIMIT
from bus import codec, topology
from bus.bus import BusClosed, Signal
from bus.memory import Faults
from bus.topology import ANALYZER, EXPLAINER, FOLD, ROUTER, ROUTER_ANALYZED, Queue, Topology, work_queue
from messages import (
    Analyzed,
    Attempted,
    Backend,
    Breaker,
    DeadLetter,
    Decided,
    Done,
    Due,
    ExecutorAlive,
    Expired,
    Explained,
    JobSubmit,
    Message,
    NeedsAre,
    NeedsOf,
    Problem,
    Queued,
    Retry,
    Work,
    token,
)
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import PROBLEM, T0, attempted, backend, decided, slip, work

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(name="quiet")
def without_expected_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "turnout.host")


class Ears(Actor):
    """Keeps what it hears in `notes`, which outlives it."""

    room = "ears"

    def __init__(self, notes: list[Any] | None = None) -> None:
        self.notes = notes if notes is not None else []


def analyzed_of(submit: JobSubmit, heard: Heard) -> Analyzed:
    return Analyzed(
        tenant="acme", job=submit.id or f"in-{heard.seq}", fingerprint=submit.prompt, slip=slip(), at=heard.now
    )


class Understands(Ears):
    """Says what it understood of a submission."""

    room = "analyzer"

    @hears
    def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Analyzed]:
        self.notes.append(("submit", submit.prompt, heard.deliveries))
        return [analyzed_of(submit, heard)]


class Decides(Ears):
    """Hears what was understood and says a decision."""

    room = "router"

    @hears
    def analyzed(self, analyzed: Analyzed, heard: Heard) -> Says[Decided]:
        lost = heard.lost.fingerprint if isinstance(heard.lost, Analyzed) else None
        self.notes.append(("analyzed", analyzed.fingerprint, lost))
        return [decided(job=analyzed.job, slip=analyzed.slip)]


class Verdict(Ears):
    """Hears a decision and says work and then an end, step by step."""

    room = "guardrail"

    @hears
    async def decided(self, decided: Decided, heard: Heard) -> Steps[Work | Done]:
        first: Stored = yield work(job=decided.job)
        self.notes.append(("work", first.ours))
        second: Stored = yield Done(tenant="acme", job=decided.job, ending="succeeded", at=heard.now)
        self.notes.append(("done", second.ours))


# Hand-over, first writers, order.


def test_a_chain_is_handed_on_in_memory_and_its_head_acknowledged_last() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []
        steps: list[tuple[str, str]] = []

        async def boundary(point: str, name: str) -> None:
            steps.append((point, name))

        rooms = (room_of(lambda: Understands(notes), ANALYZER), room_of(lambda: Decides(notes)),
                 room_of(lambda: Verdict(notes)))  # fmt: skip
        host = await rig.host(*rooms, boundary=boundary)
        await rig.submit(id="j-1")
        await rig.settle()
        said = ["turnout.analyzed", "turnout.decided", "turnout.work", "turnout.done"]
        expected = [(point, name) for name in said for point in ("before publish", "after publish")]
        assert steps == [*expected, ("before acknowledge", "job.submit.acme")]
        assert notes == [("submit", "hi", 1), ("analyzed", "hi", None), ("work", True), ("done", True)]
        assert await rig.unacknowledged(ANALYZER) == 0
        assert host.in_hand == 0
        assert host.counts["router.analyzed"] == 1

    play(story)


def test_what_is_said_tells_its_cause_and_keeps_the_trace() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(room_of(Understands, ANALYZER), room_of(Decides))
        trace = f"00-{'a' * 32}-{'b' * 16}-01"
        await rig.raw("job.submit.acme", b'{"prompt":"hi","id":"j-1"}', headers={"traceparent": trace})
        await rig.settle()
        for kind in (Analyzed, Decided):
            (record,) = rig.records(kind)
            assert codec.trace_of(record.headers) == "a" * 32
            assert record.headers["ce-type"] == kind.type_name
            assert record.headers["Nats-Msg-Id"].startswith(f"{record.subject}/front/b1/")

    play(story)


def test_apart_a_room_hears_only_itself_in_memory() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []

        class Both(Understands):
            @hears
            def analyzed(self, analyzed: Analyzed, heard: Heard) -> None:
                self.notes.append("itself")

        await rig.host(room_of(lambda: Both(notes), ANALYZER), room_of(lambda: Decides(notes)), hand_on=False)
        await rig.submit()
        await rig.settle()
        assert notes == [("submit", "hi", 1), "itself"]

    play(story)


def test_apart_the_next_room_hears_from_its_queue() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []
        await rig.host(room_of(Understands, ANALYZER), hand_on=False)
        await rig.host(room_of(lambda: Decides(notes), ROUTER_ANALYZED), instance="other", hand_on=False)
        await rig.submit(id="j-1")
        await rig.settle()
        assert notes == [("analyzed", "hi", None)]
        assert [one.job for one in rig.stored(Decided)] == ["j-1"]

    play(story, rooms="apart")


def test_who_has_a_queue_for_an_event_is_not_handed_it_as_well() -> None:
    """Or it would hear everything twice, and stand in the way of the chain."""

    async def story(rig: Rig) -> None:
        notes: list[Any] = []

        class Slow(Ears):
            room = "explainer"

            @hears
            async def decided(self, decided: Decided, heard: Heard) -> Says[Explained]:
                self.notes.append(heard.stream)
                await asyncio.sleep(5)
                return []

        await rig.host(room_of(Understands, ANALYZER), room_of(Decides), room_of(lambda: Slow(notes), EXPLAINER))
        await rig.submit()
        await rig.settle(1.0)
        assert notes == ["EV"]
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_the_loser_of_a_first_writer_continues_from_the_stored_one() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []
        stored = Analyzed(tenant="acme", job="j-1", fingerprint="theirs", slip=slip(), at=T0)
        await rig.publish(stored)
        await rig.host(room_of(lambda: Understands(notes), ANALYZER), room_of(lambda: Decides(notes)))
        await rig.submit(id="j-1", prompt="ours")
        await rig.settle()
        assert notes == [("submit", "ours", 1), ("analyzed", "theirs", "ours")]
        assert rig.stored(Analyzed) == [stored]
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_in_steps_the_loser_is_told_whose_word_was_first() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=T0))
        await rig.host(room_of(Understands, ANALYZER), room_of(Decides), room_of(lambda: Verdict(notes)))
        await rig.submit(id="j-1")
        await rig.settle()
        assert notes == [("work", True), ("done", False)]
        assert [done.ending for done in rig.stored(Done)] == ["cancelled"]

    play(story)


def test_a_repeated_walk_converges_on_one_history() -> None:
    """A lost acknowledgement makes everything be walked again: nothing is stored twice."""

    async def story(rig: Rig) -> None:
        await rig.host(room_of(Understands, ANALYZER), room_of(Decides), room_of(Verdict))
        await rig.submit(id="j-1")
        await rig.settle(16.0)
        rig.server.faults = Faults()
        await rig.settle(32.0)
        assert len(rig.stored(Analyzed)) == len(rig.stored(Decided)) == len(rig.stored(Done)) == 1
        assert len(rig.stored(Work)) == 1
        assert await rig.unacknowledged(ANALYZER) == 0

    server = play(story, faults=Faults(ack_lost=1.0))
    assert server.events["ack lost"] >= 1


def test_a_redelivered_head_is_dropped_while_it_is_walked() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []

        class Slow(Ears):
            room = "analyzer"

            @hears
            async def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Analyzed]:
                self.notes.append("begun")
                await asyncio.sleep(60)
                return []

        await rig.host(room_of(lambda: Slow(notes), ANALYZER))
        await rig.submit()
        await rig.settle(59.0)
        assert notes == ["begun"]
        assert rig.server.events["delivered"] == 2
        assert rig.server.events["overdue"] == 0, "work in hand is held"
        await rig.settle(2.0)
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story, faults=Faults(delivered_twice=1.0))


def test_events_said_together_are_all_said() -> None:
    async def story(rig: Rig) -> None:
        class Talks(Ears):
            room = "analyzer"

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Explained | Done]:
                return [*(Explained(tenant="acme", job="j", n=n, chosen="a", summary="s") for n in range(3)),
                        Done(tenant="acme", job="j", ending="failed", at=heard.now)]  # fmt: skip

        await rig.host(room_of(Talks, ANALYZER))
        await rig.submit()
        await rig.settle()
        assert len(rig.stored(Explained)) == 3
        assert len(rig.stored(Done)) == 1
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_steps_may_say_several_at_once_and_wait_for_all() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []

        class Talks(Ears):
            room = "analyzer"

            @hears
            async def job_submit(self, submit: JobSubmit, heard: Heard) -> Steps[Explained | Done]:
                replies: list[Stored] = yield [
                    Explained(tenant="acme", job="j", n=1, chosen="a", summary="s"),
                    Done(tenant="acme", job="j", ending="failed", at=heard.now),
                ]
                self.notes.extend(reply.ours for reply in replies)

        await rig.publish(Done(tenant="acme", job="j", ending="cancelled", at=T0))
        await rig.host(room_of(lambda: Talks(notes), ANALYZER))
        await rig.submit()
        await rig.settle()
        assert notes == [True, False]

    play(story)


# Not now, and later.


def test_again_delivers_it_again_after_the_delay() -> None:
    async def story(rig: Rig) -> None:
        times: list[float] = []

        class Patient(Ears):
            room = "analyzer"

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Again]:  # type: ignore[type-var]
                times.append(heard.now - T0)
                return [] if heard.deliveries == 3 else [Again(7.0)]

        await rig.host(room_of(Patient, ANALYZER))
        await rig.submit()
        await rig.settle(60.0)
        assert times == [pytest.approx(7.0 * n, abs=0.01) for n in range(3)]
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_in_steps_too() -> None:
    async def story(rig: Rig) -> None:
        runs: list[str] = []

        class Patient(Ears):
            room = "analyzer"

            @hears
            async def job_submit(self, submit: JobSubmit, heard: Heard) -> Steps[Done]:
                runs.append(heard.run)
                if heard.deliveries == 1:
                    yield Again(2.0)
                    return
                yield Done(tenant="acme", job="j", ending="failed", at=heard.now)

        await rig.host(room_of(Patient, ANALYZER))
        await rig.submit()
        await rig.settle(10.0)
        assert len(set(runs)) == 2, "no two runs share a name"
        assert len(rig.stored(Done)) == 1

    play(story)


def test_what_is_said_for_later_is_heard_then_even_if_everybody_here_is_gone() -> None:
    async def story(rig: Rig) -> None:
        class Plans(Ears):
            room = "analyzer"

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Expired]:
                return [Later(Expired(tenant="acme", job="j", at=heard.now + 5), at=heard.now + 5)]

        notes: list[Any] = []

        class Ends(Ears):
            room = "router"

            @hears
            def expired(self, expired: Expired, heard: Heard) -> None:
                notes.append(heard.now - T0)

        host = await rig.host(room_of(Plans, ANALYZER))
        await rig.submit()
        await rig.settle(1.0)
        assert await rig.unacknowledged(ANALYZER) == 0
        await host.close()
        await host.bus.close()
        rig.hosts.clear()
        await rig.settle(5.0)
        await rig.host(room_of(Ends, ROUTER), instance="other")
        await rig.settle(1.0)
        assert len(rig.stored(Expired)) == 1
        assert len(notes) == 1
        assert notes[0] >= 5.0

    play(story)


# Facts.


class Folds(Ears):
    """Counts attempts in a compared fact."""

    room = "breaker"

    def __init__(self) -> None:
        super().__init__()
        self.fact = Breaker(backend="a", model="m")

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        self.fact = breaker

    @hears
    def attempted(self, attempted: Attempted, heard: Heard) -> Says[Breaker]:
        return [msgspec.structs.replace(self.fact, failures_in_row=self.fact.failures_in_row + 1)]


@pytest.mark.parametrize("seed", range(4))
def test_a_lost_compared_fact_decides_again_on_the_fresh_value(seed: int) -> None:
    """Two processes count together, and no count is lost: each writes only over what it has seen."""

    async def story(rig: Rig) -> None:
        for name in ("one", "two"):
            await rig.host(room_of(Folds, FOLD, slots=1), instance=name)
        await asyncio.gather(*(rig.publish(attempted(job=f"j-{n}")) for n in range(30)))
        await rig.settle(30.0)
        (fact,) = rig.stored(Breaker)
        assert fact.failures_in_row == 30

    server = play(story, seed=seed, faults=Faults(delay_seconds=(0.001, 0.02)))
    assert server.events["taken"] > 0, "somebody was second"


def test_in_steps_a_lost_fact_shows_the_fresh_value() -> None:
    async def story(rig: Rig) -> None:
        replies: list[Stored] = []

        class Leases(Folds):
            @hears
            async def attempted(self, attempted: Attempted, heard: Heard) -> Steps[Breaker]:  # type: ignore[override]
                mine = msgspec.structs.replace(self.fact, reason="mine")
                theirs = msgspec.structs.replace(self.fact, reason="theirs")
                await rig.bus.put_fact(theirs.subject, codec.encode(theirs))
                replies.append((yield mine))
                replies.append((yield msgspec.structs.replace(self.fact, reason="mine")))

        await rig.host(room_of(Leases, FOLD))
        await rig.publish(attempted())
        await rig.settle()
        first, second = replies
        assert (first.ours, second.ours) == (False, True)
        assert isinstance(first.message, Breaker)
        assert first.message.reason == "theirs"
        assert [fact.reason for fact in rig.stored(Breaker)] == ["mine"]

    play(story, faults=Faults(delay_seconds=(0.005, 0.005)))


def test_an_answer_that_comes_after_a_newer_fact_does_not_bring_back_the_old_one() -> None:
    async def story(rig: Rig) -> None:
        class Says2(Ears):
            room = "registry"

            def __init__(self) -> None:
                super().__init__()
                self.fact: Backend | None = None

            @hears
            def backend(self, backend: Backend, heard: Heard) -> None:
                self.fact = backend

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Backend]:
                return [backend("a", slots=1)]

        room = room_of(Says2, ANALYZER)
        host = await rig.host(room)
        plain = host.bus.put_fact

        async def slow(subject: str, data: bytes, *, expected_revision: int | None = None) -> int:
            revision = await plain(subject, data, expected_revision=expected_revision)
            await asyncio.sleep(1.0)  # The answer is on its way; meanwhile somebody else writes.
            return revision

        host.bus.put_fact = slow  # type: ignore[method-assign]
        await rig.submit()
        await rig.settle(0.5)
        newer = backend("a", slots=2)
        await rig.bus.put_fact(newer.subject, codec.encode(newer))
        await rig.settle(2.0)
        actor = room.actor
        assert isinstance(actor, Says2)
        assert actor.fact == newer

    play(story)


def test_facts_are_known_before_work_is_taken() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []

        class Knows(Ears):
            room = "analyzer"

            @hears
            def backend(self, backend: Backend, heard: Heard) -> None:
                self.notes.append(backend.backend)

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> None:
                self.notes.append("submit")

        await rig.submit()
        for name in ("a", "b"):
            await rig.bus.put_fact(backend(name).subject, codec.encode(backend(name)))
        await rig.bus.put_fact("$KV.facts.backend.broken", b"{}")
        await rig.bus.put_fact("$KV.facts.unheard.of", b"{}")
        await rig.host(room_of(lambda: Knows(notes), ANALYZER))
        await rig.settle()
        assert notes == ["a", "b", "submit"]

    play(story)


class Forgets(Folds):
    """Counts in compared facts, and forgets what is deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: list[Message] = []

    def forget(self, message: Message) -> None:
        self.forgotten.append(message)
        self.fact = Breaker(backend="a", model="m")


def test_a_fact_that_is_deleted_is_forgotten_and_may_begin_anew() -> None:
    async def story(rig: Rig) -> None:
        room = room_of(Forgets, FOLD)
        host = await rig.host(room)
        for number in range(2):
            await rig.publish(attempted(job=f"j-{number}"))
            await rig.settle()
        (fact,), (record,) = rig.stored(Breaker), rig.records(Breaker)
        assert list(host.chain._facts) == list(host.voice.revisions) == [fact.subject]
        seq = await rig.bus.put_fact(fact.subject, b"", expected_revision=record.seq)
        await rig.settle()
        assert room.actor.forgotten == [fact]  # type: ignore[attr-defined]
        assert not host.chain._facts
        assert not host.voice.revisions
        # It still lies there, empty: it is written over.
        await rig.publish(attempted(job="j-2"))
        await rig.settle()
        (fact,), (record,) = rig.stored(Breaker), rig.records(Breaker)
        assert fact.failures_in_row == 1
        assert record.seq > seq
        assert list(host.chain._facts) == list(host.voice.revisions) == [fact.subject]

    play(story)


def test_a_fact_that_went_without_a_word_is_forgotten_when_it_is_written_to() -> None:
    async def story(rig: Rig) -> None:
        room = room_of(Forgets, FOLD)
        host = await rig.host(room)
        await rig.publish(attempted(job="j-1"))
        await rig.settle()
        (fact,) = rig.stored(Breaker)
        await rig.bus.purge("KV_facts", fact.subject)
        await rig.publish(attempted(job="j-2"))
        await rig.settle()
        assert room.actor.forgotten == [fact]  # type: ignore[attr-defined]
        assert [one.failures_in_row for one in rig.stored(Breaker)] == [1]
        assert list(host.voice.revisions) == [fact.subject]

    play(story)


def test_a_deleted_fact_is_not_told_to_a_fresh_actor() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []
        kind = clumsy(lambda _, heard: heard.deliveries == 1)
        await rig.host(room_of(lambda: kind(notes), ANALYZER))
        for name in ("a", "b"):
            await rig.bus.put_fact(backend(name).subject, codec.encode(backend(name)))
        await rig.bus.put_fact(backend("a").subject, b"")
        await rig.submit()
        await rig.settle()
        assert [facts for _, facts, _ in notes] == [("a", "b"), ("b",)]

    play(story)


# Crashes.


class Clumsy(Ears):
    """Crashes when `crash` says so; knows the facts it has heard."""

    room = "analyzer"
    crash: ClassVar[Callable[[JobSubmit, Heard], bool]] = staticmethod(lambda submit, heard: False)

    def __init__(self, notes: list[Any]) -> None:
        super().__init__(notes)
        self.backends: list[str] = []

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None:
        self.backends.append(backend.backend)

    @hears
    def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Analyzed]:
        self.notes.append((id(self), tuple(self.backends), heard.deliveries))
        if type(self).crash(submit, heard):
            raise ZeroDivisionError
        return [analyzed_of(submit, heard)]


def clumsy(crash: Callable[[JobSubmit, Heard], bool]) -> type[Clumsy]:
    return type("Clumsy", (Clumsy,), {"crash": staticmethod(crash)})


def test_after_a_crash_a_fresh_actor_that_knows_the_facts_hears_it_again() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []
        kind = clumsy(lambda _, heard: heard.deliveries == 1)
        await rig.bus.put_fact(backend("a").subject, codec.encode(backend("a")))
        host = await rig.host(room_of(lambda: kind(notes), ANALYZER))
        await rig.submit()
        await rig.settle()
        (first, facts, _), (second, same_facts, deliveries) = notes
        assert first != second
        assert facts == same_facts == ("a",)
        assert deliveries == 2
        assert len(rig.stored(Analyzed)) == 1
        assert host.counts["analyzer crashes"] == 1
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_the_room_that_crashed_starts_anew_not_the_one_at_the_head() -> None:
    async def story(rig: Rig) -> None:
        crashes: list[int] = []

        class Breaks(Ears):
            room = "router"

            @hears
            def analyzed(self, analyzed: Analyzed, heard: Heard) -> Says[Decided]:
                crashes.append(id(self))
                if len(crashes) == 1:
                    raise ZeroDivisionError
                return []

        head, next_room = room_of(Understands, ANALYZER), room_of(Breaks)
        before = head.actor, next_room.actor
        host = await rig.host(head, next_room)
        await rig.submit()
        await rig.settle()
        assert head.actor is before[0]
        assert next_room.actor is not before[1]
        assert host.counts["router crashes"] == 1
        assert host.counts["analyzer crashes"] == 0
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_what_crashes_every_time_becomes_a_dead_letter_and_blocks_nobody() -> None:
    async def story(rig: Rig) -> None:
        notes: list[Any] = []
        kind = clumsy(lambda submit, _: submit.prompt == "poison")
        host = await rig.host(room_of(lambda: kind(notes), ANALYZER))
        await rig.submit("a.b", prompt="poison")
        await rig.submit("acme", prompt="fine", id="j-2")
        await rig.settle(1.0)
        assert [one.job for one in rig.stored(Analyzed)] == ["j-2"]
        await rig.settle(120.0)
        (letter,) = rig.stored(DeadLetter)
        assert (letter.tenant, letter.job, letter.stream, letter.seq) == ("a.b", "in-1", "IN", 1)
        assert (letter.problem.reason, letter.subject_heard) == ("crashed", "job.submit.a%2Eb")
        assert "poison" in letter.head
        assert host.counts["analyzer crashes"] == MAX_DELIVERIES
        assert await rig.unacknowledged(ANALYZER) == 0
        assert host.failed is not None
        assert not host.failed.done()

    play(story)


def test_a_few_poisonous_messages_do_not_end_the_process() -> None:
    async def story(rig: Rig) -> None:
        host = await rig.host(room_of(lambda: clumsy(lambda *_: True)([]), ANALYZER))
        for _ in range(5):
            await rig.submit()
        await rig.settle(240.0)
        assert sorted(letter.job for letter in rig.stored(DeadLetter)) == [f"in-{n}" for n in range(1, 6)]
        assert host.failed is not None
        assert not host.failed.done()

    play(story)


def test_what_can_never_be_handled_has_the_end_its_room_says() -> None:
    async def story(rig: Rig) -> None:
        class Rejects(Clumsy):
            crash = staticmethod(lambda submit, heard: True)

            def undecodable(self, heard: Heard) -> Says[Done]:
                problem = Problem(reason="invalid", message=heard.undecodable)
                return [Done(tenant="acme", job=f"in-{heard.seq}", ending="rejected", problem=problem, at=heard.now)]

        await rig.host(room_of(lambda: Rejects([]), ANALYZER))
        await rig.submit()
        await rig.settle(120.0)
        assert [(done.job, done.ending) for done in rig.stored(Done)] == [("in-1", "rejected")]
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_a_room_that_keeps_crashing_ends_the_process() -> None:
    async def story(rig: Rig) -> None:
        host = await rig.host(room_of(lambda: clumsy(lambda *_: True)([]), ANALYZER))
        for _ in range(CRASH_LIMIT + 1):
            await rig.submit()
        assert host.failed is not None
        async with asyncio.timeout(60):
            assert "analyzer crashed" in await host.failed

    play(story)


def test_what_is_too_large_to_say_becomes_a_dead_letter() -> None:
    async def story(rig: Rig) -> None:
        class Long(Ears):
            room = "analyzer"

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Explained]:
                return [Explained(tenant="acme", job="j", n=1, chosen="", summary="x" * 2_000_000)]

        await rig.host(room_of(Long, ANALYZER))
        await rig.submit()
        await rig.settle(120.0)
        assert [letter.problem.reason for letter in rig.stored(DeadLetter)] == ["crashed"]
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story)


def test_a_full_queue_is_tried_again() -> None:
    async def story(rig: Rig) -> None:
        class Works(Ears):
            room = "analyzer"

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Work]:
                return [work(job=submit.id)]

        small = msgspec.structs.replace(topology.WORK, max_messages=1)
        await rig.bus.set_up(Topology(streams=(small,), queues=()))
        await rig.host(room_of(Works, ANALYZER))
        await rig.submit(id="j-1")
        await rig.submit(id="j-2")
        await rig.settle(180.0)
        assert [item.job for item in rig.stored(Work)] == ["j-1"]
        await rig.bus.set_up_queue(work_queue("a", 4))

        async def take(delivery: Any) -> None:
            await delivery.ack()

        await rig.bus.consume(work_queue("a", 4), take, slots=4)
        await rig.settle(5.0)
        assert await rig.unacknowledged(ANALYZER) == 0
        assert rig.stored(DeadLetter) == []

    play(story)


def test_while_the_server_is_away_nothing_is_lost() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(room_of(Understands, ANALYZER), room_of(Decides), room_of(Verdict))
        for number in range(20):
            await rig.submit(id=f"j-{number}")
        await rig.server.restart(15.0)  # Longer than anybody's patience.
        await rig.settle(60.0)
        assert sorted(done.job for done in rig.stored(Done)) == sorted(f"j-{n}" for n in range(20))
        assert await rig.unacknowledged(ANALYZER) == 0

    play(story, faults=Faults(delay_seconds=(0.001, 0.01)))


# What can't be decoded.


def test_an_undecodable_message_becomes_a_dead_letter_and_blocks_nobody() -> None:
    async def story(rig: Rig) -> None:
        jobs: list[str] = []

        class Hears(Ears):
            room = "router"

            @hears
            def expired(self, expired: Expired, heard: Heard) -> None:
                jobs.append(expired.job)

        await rig.host(room_of(Hears, ROUTER))
        subject = f"ev.retry.{token('a.b')}.{token('j 1')}.2"
        await rig.raw(subject, b"{not json")
        await rig.publish(Expired(tenant="acme", job="j-2", at=T0))
        await rig.settle()
        (letter,) = rig.stored(DeadLetter)
        assert (letter.tenant, letter.job, letter.problem.reason) == ("a.b", "j 1", "undecodable")
        assert letter.head == "{not json"
        assert jobs == ["j-2"]
        assert await rig.unacknowledged(ROUTER) == 0

    play(story)


def test_a_room_may_say_itself_what_follows_from_an_undecodable_message() -> None:
    async def story(rig: Rig) -> None:
        class Rejects(Understands):
            def undecodable(self, heard: Heard) -> Says[Done]:
                problem = Problem(reason="invalid", message=heard.undecodable)
                return [Done(tenant="acme", job=f"in-{heard.seq}", ending="rejected", problem=problem, at=heard.now)]

        await rig.host(room_of(Rejects, ANALYZER))
        await rig.raw("job.submit.acme", b'{"promt":1}')
        await rig.settle()
        (done,) = rig.stored(Done)
        assert done.job == "in-1"
        assert done.problem is not None
        assert "promt" in done.problem.message
        assert rig.stored(DeadLetter) == []

    play(story)


def test_message_pack_is_heard_as_json() -> None:
    async def story(rig: Rig) -> None:
        bodies: list[bytes] = []

        class Hears(Ears):
            room = "analyzer"

            @hears
            def job_submit(self, submit: JobSubmit, heard: Heard) -> None:
                bodies.append(heard.body)

        await rig.host(room_of(Hears, ANALYZER))
        packed = msgspec.msgpack.encode({"prompt": "hi"})
        await rig.raw("job.submit.acme", packed, headers={"Content-Type": "application/msgpack"})
        await rig.settle()
        assert bodies == [b'{"prompt":"hi"}']

    play(story)


@pytest.mark.parametrize(
    ("subject", "stream", "found"),
    [
        ("job.submit.a%2Eb", "IN", ("a.b", "in-7")),
        ("job.cancel.acme.j%201", "IN", ("acme", "j 1")),
        ("ev.retry.acme.j-1.2", "EV", ("acme", "j-1")),
        ("work.gpu.acme.j-1.2", "WORK", ("acme", "j-1")),
        ("ledger.tenant.acme.tokens.total", "LEDGER", ("-", "-")),
        ("ev.unheard.of", "EV", ("-", "-")),
    ],
)
def test_whose_a_message_is(subject: str, stream: str, found: tuple[str, str]) -> None:
    class Delivered:
        seq = 7

    delivered: Any = Delivered()
    delivered.subject, delivered.stream = subject, stream
    assert whose(delivered) == found


# Timers, questions, signals.


def test_timers_ring_at_their_interval_and_survive_a_crash() -> None:
    async def story(rig: Rig) -> None:
        times: list[float] = []

        class Rings(Ears):
            room = "registry"
            look_seconds = 2.0

            @every("look_seconds")
            async def look(self, heard: Heard) -> Says[Backend]:
                times.append(heard.now - T0)
                if len(times) == 2:
                    raise ZeroDivisionError
                return [backend("a", slots=len(times))]

        await rig.host(room_of(Rings))
        await rig.settle(9.0)
        assert times == [pytest.approx(2.0 * n, abs=0.01) for n in range(5)]
        assert [fact.slots for fact in rig.stored(Backend)] == [5]

    play(story)


def test_questions_are_answered_even_the_odd_ones() -> None:
    async def story(rig: Rig) -> None:
        class Answers(Ears):
            room = "analyzer"

            @answers
            async def needs(self, question: NeedsOf, heard: Heard) -> NeedsAre:
                if question.submit.prompt == "crash":
                    raise ZeroDivisionError
                if question.submit.prompt == "unknown":
                    raise CantAnswer("the book is shut")
                return NeedsAre(problem=Problem(reason="echo", message=question.submit.prompt))

        async def asked(body: bytes) -> NeedsAre:
            return codec.decode(NeedsAre, await rig.bus.ask("ask.analyzer.needs", body, timeout_seconds=2.0))

        host = await rig.host(room_of(Answers))
        answer = await asked(codec.encode(NeedsOf(submit=JobSubmit(prompt="well?"))))
        assert answer.problem == Problem(reason="echo", message="well?")
        odd = await asked(b'{"submit":{"promt":"well?"}}')
        assert odd.problem is not None
        assert (odd.problem.reason, "promt" in odd.problem.message) == ("undecodable", True)
        unknown = await asked(codec.encode(NeedsOf(submit=JobSubmit(prompt="unknown"))))
        assert unknown.problem == Problem(reason="unavailable", message="the book is shut")
        assert host.counts["analyzer crashes"] == 0
        with pytest.raises(Exception, match="no answer"):
            await asked(codec.encode(NeedsOf(submit=JobSubmit(prompt="crash"))))
        assert host.counts["analyzer crashes"] == 1
        assert (await asked(codec.encode(NeedsOf(submit=JobSubmit(prompt="again"))))).problem is not None

    play(story)


def test_signals_and_public_copies_are_heard_by_every_process() -> None:
    async def story(rig: Rig) -> None:
        notes: list[str] = []

        class Listens(Ears):
            room = "executor"

            @overhears
            def done(self, done: Done, heard: Heard) -> None:
                notes.append(f"{heard.instance} {done.job}")

            @hears
            def executor_alive(self, alive: ExecutorAlive, heard: Heard) -> None:
                notes.append(f"{heard.instance} {alive.instance}")

        for name in ("one", "two"):
            await rig.host(room_of(Listens), instance=name)
        await rig.publish(Done(tenant="acme", job="j-1", ending="failed", at=T0))
        alive = ExecutorAlive(instance="e", boot="b", number=0, at=T0)
        await rig.bus.signal(alive.subject, codec.encode(alive))
        await rig.bus.signal(alive.subject, b"{broken")
        await rig.settle()
        assert sorted(notes) == ["one e", "one j-1", "two e", "two j-1"]

    play(story)


@pytest.mark.parametrize("hand_on", [True, False], ids=["together", "apart"])
def test_a_signal_that_is_handed_on_leaves_the_process_only_when_rooms_live_apart(*, hand_on: bool) -> None:
    async def story(rig: Rig) -> None:
        notes: list[str] = []
        told: list[str] = []

        class Tells(Ears):
            room = "guardrail"

            @hears
            async def job_submit(self, submit: JobSubmit, heard: Heard) -> Steps[Queued]:
                stored: Stored = yield Queued(tenant="acme", job=submit.id, n=1, backend="b", seq=7)
                notes.append(f"said {stored.seq}")

        class Listens(Ears):
            room = "router"

            @hears
            def queued(self, queued: Queued, heard: Heard) -> None:
                notes.append(f"{heard.instance} {queued.job} {queued.seq}")

        async def listen(signal: Signal) -> None:
            told.append(signal.subject)

        await rig.bus.subscribe("queued.>", listen)
        await rig.host(room_of(Tells, ANALYZER), room_of(Listens), instance="one", hand_on=hand_on)
        await rig.host(room_of(Listens), instance="two", hand_on=hand_on)
        await rig.submit(id="j-1")
        await rig.settle()
        if hand_on:
            assert (notes, told) == (["one j-1 7", "said 0"], [])
        else:
            assert (sorted(notes), told) == (["one j-1 7", "said 0", "two j-1 7"], ["queued.acme.j-1.1"])

    play(story)


# Coming and going.


def test_a_drain_takes_no_more_and_waits_for_what_is_in_hand() -> None:
    async def story(rig: Rig) -> None:
        begun: list[str] = []

        class Slow(Ears):
            room = "analyzer"

            @hears
            async def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Analyzed]:
                begun.append(submit.id)
                await asyncio.sleep(3)
                return [analyzed_of(submit, heard)]

        host = await rig.host(room_of(Slow, ANALYZER))
        await rig.submit(id="j-1")
        await rig.settle(0.5)
        draining = asyncio.create_task(host.drain(10.0))
        await rig.settle(0.5)
        await rig.submit(id="j-2")
        await draining
        assert (begun, host.in_hand) == (["j-1"], 0)
        assert [one.job for one in rig.stored(Analyzed)] == ["j-1"]
        await host.close()
        await host.bus.close()
        rig.hosts.clear()
        await rig.host(room_of(Understands, ANALYZER), instance="next")
        await rig.settle(20.0)
        assert [one.job for one in rig.stored(Analyzed)] == ["j-1", "j-2"]

    play(story)


def test_a_drains_patience_has_an_end() -> None:
    async def story(rig: Rig) -> None:
        class Stuck(Ears):
            room = "analyzer"

            @hears
            async def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Analyzed]:
                await asyncio.Event().wait()
                return []

        host = await rig.host(room_of(Stuck, ANALYZER))
        await rig.submit()
        await rig.settle(0.5)
        began = rig.server.time()
        await host.drain(2.0)
        assert rig.server.time() - began == pytest.approx(2.0, abs=0.1)
        assert host.in_hand == 1

    play(story)


def test_what_a_dead_process_held_goes_to_another() -> None:
    async def story(rig: Rig) -> None:
        class Stuck(Understands):
            @hears
            async def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Analyzed]:  # type: ignore[override]
                await asyncio.Event().wait()
                return []

        host = await rig.host(room_of(Stuck, ANALYZER))
        await rig.submit(id="j-1")
        await rig.settle(0.5)
        bus: Any = host.bus
        bus.crash()
        await rig.host(room_of(Understands, ANALYZER), instance="next")
        await rig.settle(20.0)
        assert [one.job for one in rig.stored(Analyzed)] == ["j-1"]
        with pytest.raises(BusClosed):
            await bus.last("EV", "ev.done.acme.j-1")

    play(story)


def test_an_actor_may_wish_for_queues_that_come_and_go() -> None:
    async def story(rig: Rig) -> None:
        wish: dict[Queue, int] = {}
        heard_from: list[str] = []
        closed: list[bool] = []

        class Wishes(Ears):
            room = "executor"
            look_seconds = 1.0

            @every("look_seconds")
            def look(self, heard: Heard) -> None: ...

            def pulls(self) -> dict[Queue, int]:
                return dict(wish)

            @hears
            def work(self, work: Work, heard: Heard) -> None:
                heard_from.append(work.backend)

            async def closing(self) -> None:
                closed.append(True)

        for name in ("a", "b"):
            await rig.bus.set_up_queue(work_queue(name, 2))
            await rig.publish(work(backend=name))
        wish[work_queue("a", 1)] = 2
        host = await rig.host(room_of(Wishes))
        await rig.settle(0.5)
        assert heard_from == ["a"]
        del wish[work_queue("a", 1)]
        wish[work_queue("b", 1)] = 2
        await rig.settle(2.0)
        assert heard_from == ["a", "b"]
        await rig.publish(work(backend="a", n=2))
        await rig.settle(2.0)
        assert heard_from == ["a", "b"]
        await host.close()
        assert closed == [True]

    play(story)


def test_a_queue_that_cannot_be_heard_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "turnout.host")

    async def story(rig: Rig) -> None:
        wish = {work_queue("a", 1): 0, work_queue("b", 1): 2}
        heard_from: list[str] = []

        class Wishes(Ears):
            room = "executor"
            look_seconds = 1.0

            @every("look_seconds")
            def look(self, heard: Heard) -> None: ...

            def pulls(self) -> dict[Queue, int]:
                return dict(wish)

            @hears
            def work(self, work: Work, heard: Heard) -> None:
                heard_from.append(work.backend)

        for name in ("a", "b"):
            await rig.bus.set_up_queue(work_queue(name, 2))
            await rig.publish(work(backend=name))
        await rig.host(room_of(Wishes))
        await rig.settle(10.0)
        assert heard_from == ["b"]
        assert [record.getMessage() for record in caplog.records if "can't be heard" in record.getMessage()] == [
            f"executor: the queue {work_queue('a', 1).name} can't be heard with 0 slots"
        ]
        wish[work_queue("a", 1)] = 1
        await rig.settle(2.0)
        assert heard_from == ["b", "a"]

    play(story)


def test_a_retry_and_its_due_are_heard_on_one_queue() -> None:
    async def story(rig: Rig) -> None:
        notes: list[str] = []

        class Hears(Ears):
            room = "router"

            @hears
            def retry(self, retry: Retry, heard: Heard) -> Says[Due]:
                notes.append("retry")
                return [Later(Due(tenant="acme", job="j-1", n=2, retry=retry), at=heard.now + 3)]

            @hears
            def due(self, due: Due, heard: Heard) -> None:
                notes.append(f"due {due.retry.n}")

        await rig.host(room_of(Hears, ROUTER))
        await rig.publish(Retry(tenant="acme", job="j-1", n=2, slip=slip(), cause=PROBLEM, at=T0))
        await rig.settle(5.0)
        assert notes == ["retry", "due 2"]

    play(story)


def test_the_same_seed_takes_the_same_steps() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(room_of(Understands, ANALYZER), room_of(Decides), room_of(Verdict))
        for number in range(10):
            await rig.submit(id=f"j-{number}")
        await rig.settle(60.0)

    faults = Faults(delay_seconds=(0.0, 0.01), ack_lost=0.2, answer_lost=0.1, delivered_twice=0.2)
    one, same, other = (play(story, seed=seed, faults=faults).digest() for seed in (3, 3, 4))
    assert one == same != other
