from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from actors.actor import Heard, Later, Stored
from actors.voice import FactLost, Voice, together
from bus import codec
from bus.bus import BusUnavailable
from bus.memory import Faults
from messages import (
    Analyzed,
    Breaker,
    Chunk,
    DeadLetter,
    Done,
    Expired,
    Explained,
    JobSubmit,
    Message,
    Problem,
    Refused,
)
from tests.actors.rig import Rig, play
from tests.messages.samples import EXAMPLES, PROBLEM, T0, backend

DONE = Done(tenant="acme", job="j-1", ending="failed", at=T0)


def heard(**changes: Any) -> Heard:
    given: dict[str, Any] = {"now": T0, "stream": "IN", "seq": 7, "run": "3"}
    return Heard(**{**given, **changes})


def voice(rig: Rig, **changes: Any) -> Voice:
    given: dict[str, Any] = {"bus": rig.bus, "instance": "front", "boot": "b1"}
    return Voice(**{**given, **changes})


def test_of_a_first_writer_event_the_first_one_stays() -> None:
    async def story(rig: Rig) -> None:
        one, other = voice(rig), voice(rig, instance="other")
        first = await one.say(DONE, heard())
        assert first == Stored(DONE, True, seq=1)
        late = msgspec.structs.replace(DONE, ending="cancelled")
        assert await other.say(late, heard()) == Stored(DONE, False, seq=1)
        assert rig.stored(Done) == [DONE]

    play(story)


@pytest.mark.parametrize(
    "writer", [{"instance": "other"}, {"boot": "b2"}, {"run": "4"}], ids=["instance", "boot", "run"]
)
def test_nobody_takes_anothers_word_for_its_own(writer: dict[str, str]) -> None:
    """The same words from another process, boot or run are still another's: a claim is a win only for its writer."""

    async def story(rig: Rig) -> None:
        await voice(rig).say(DONE, heard())
        run = heard(run=writer.get("run", "3"))
        who = {name: value for name, value in writer.items() if name != "run"}
        assert not (await voice(rig, **who).say(DONE, run)).ours
        assert (await voice(rig).say(DONE, heard())).ours

    play(story)


def test_an_answer_that_was_lost_is_still_ours() -> None:
    async def story(rig: Rig) -> None:
        made = voice(rig)
        saying = asyncio.create_task(made.say(DONE, heard()))
        await rig.settle(0.5)
        rig.server.faults = Faults()
        assert (await saying).ours
        assert len(rig.stored(Done)) == 1

    assert play(story, faults=Faults(answer_lost=1.0)).events["answer lost"] == 1


def test_any_other_event_is_stored_once_by_its_subject() -> None:
    async def story(rig: Rig) -> None:
        explained = Explained(tenant="acme", job="j-1", n=1, chosen="a", summary="s")
        for who in ("one", "two"):
            assert (await voice(rig, instance=who).say(explained, heard())).ours
        assert rig.stored(Explained) == [explained]

    play(story)


def test_jobs_of_one_tenant_are_told_apart_by_their_ids() -> None:
    async def story(rig: Rig) -> None:
        for name in ("one", "two", "one"):
            await voice(rig).say(JobSubmit(tenant="acme", id=name, prompt="p"), heard())
        assert [job.id for job in rig.stored(JobSubmit)] == ["one", "two"]

    play(story)


def test_refusals_and_dead_letters_are_told_apart_by_their_cause() -> None:
    async def story(rig: Rig) -> None:
        refused = Refused(tenant="acme", job="j-1", problem=PROBLEM, at=T0)
        for seq in (7, 7, 8):
            await voice(rig).say(refused, heard(seq=seq))
            await voice(rig).dead_letter(heard(seq=seq, body=b"\xff" * 300), PROBLEM, tenant="acme", job="j-1")
        assert len(rig.stored(Refused)) == 2
        letters = rig.stored(DeadLetter)
        assert [letter.seq for letter in letters] == [7, 8]
        assert all(len(letter.head) == 200 for letter in letters)

    play(story)


@pytest.mark.parametrize(
    "example",
    [e for e in EXAMPLES if e.channel.stream in {"EV", "WORK"} and hasattr(e, "tenant")],
    ids=lambda e: type(e).__name__,
)
def test_message_ids_name_the_tenant(example: Message) -> None:
    async def story(rig: Rig) -> None:
        await voice(rig).say(example, heard())
        (record,) = rig.records(type(example))
        assert "acme" in record.headers["Nats-Msg-Id"]
        assert record.headers["ce-type"] == example.type_name
        assert record.headers["ce-source"] == "/turnout/front"
        named: Any = example
        assert codec.trace_of(record.headers) == codec.trace_id(named.tenant, getattr(named, "job", record.subject))

    play(story)


def test_the_trace_that_was_heard_goes_on() -> None:
    async def story(rig: Rig) -> None:
        await voice(rig).say(DONE, heard(trace="c" * 32))
        assert codec.trace_of(rig.records(Done)[0].headers) == "c" * 32

    play(story)


def test_a_fact_has_a_revision_and_the_last_one_counts() -> None:
    async def story(rig: Rig) -> None:
        made = voice(rig)
        revisions = [(await made.say(backend("a", slots=n), heard())).seq for n in (1, 2)]
        assert revisions == sorted(set(revisions))
        assert made.revisions == {backend("a").subject: revisions[-1]}

    play(story)


def test_a_compared_fact_is_lost_to_who_was_first() -> None:
    async def story(rig: Rig) -> None:
        one, other = voice(rig), voice(rig)
        fact = Breaker(backend="a", model="m", failures_in_row=1)
        await one.say(fact, heard())
        with pytest.raises(FactLost) as caught:
            await other.say(fact, heard())
        assert caught.value.subject == fact.subject
        await one.say(msgspec.structs.replace(fact, failures_in_row=2), heard())
        other.revisions.update(one.revisions)
        await other.say(msgspec.structs.replace(fact, failures_in_row=3), heard())
        assert [one.failures_in_row for one in rig.stored(Breaker)] == [3]

    play(story)


def test_a_signal_is_not_stored() -> None:
    async def story(rig: Rig) -> None:
        got: list[bytes] = []

        async def hear(signal: Any) -> None:
            got.append(signal.data)

        await rig.bus.subscribe("job.chunk.>", hear)
        chunk = Chunk(tenant="acme", job="j-1", n=1, number=0, text="hi")
        assert (await voice(rig).say(chunk, heard())).ours
        await rig.settle()
        assert [codec.decode(Chunk, data) for data in got] == [chunk]

    play(story)


def test_a_repeated_schedule_replaces_the_earlier_one() -> None:
    async def story(rig: Rig) -> None:
        expired = Expired(tenant="acme", job="j.1", at=T0 + 2)
        for _ in range(3):
            await voice(rig).later(Later(expired, at=T0 + 2), heard())
        await rig.settle(5.0)
        assert rig.stored(Expired) == [expired]
        assert rig.records(Expired)[0].time >= T0 + 2

    play(story)


def test_the_boundaries_are_told_in_order() -> None:
    async def story(rig: Rig) -> None:
        steps: list[tuple[str, str]] = []

        async def boundary(point: str, name: str) -> None:
            steps.append((point, name))

        made = voice(rig, boundary=boundary)
        await made.say(DONE, heard())
        await made.say(backend("a"), heard())
        await made.say(Chunk(tenant="acme", job="j-1", n=1, number=0, text="hi"), heard())
        await made.later(Later(Expired(tenant="acme", job="j-1", at=T0), at=T0), heard())
        names = ["turnout.done", "turnout.backend", "schedule"]
        assert steps == [(point, name) for name in names for point in ("before publish", "after publish")]

    play(story)


def test_a_boundary_that_raises_stops_the_publish() -> None:
    async def story(rig: Rig) -> None:
        async def boundary(point: str, name: str) -> None:
            raise ConnectionAbortedError(point)

        with pytest.raises(ConnectionAbortedError, match="before publish"):
            await voice(rig, boundary=boundary).say(DONE, heard())
        assert rig.stored(Done) == []

    play(story)


def test_without_a_server_it_says_so() -> None:
    async def story(rig: Rig) -> None:
        bus = await rig.server.connect("hasty", patience_seconds=0.5)
        rig.server.kill()
        with pytest.raises(BusUnavailable):
            await voice(rig, bus=bus).say(DONE, heard())
        rig.server.start()

    play(story)


def test_a_stored_event_of_another_make_is_not_understood() -> None:
    async def story(rig: Rig) -> None:
        await rig.raw("ev.analyzed.acme.j-1", b"{}")
        event = Analyzed(tenant="acme", job="j-1", fingerprint="f", rejected=Problem(reason="x", message="y"), at=T0)
        with pytest.raises(codec.Undecodable):
            await voice(rig).say(event, heard())

    play(story)


async def after(seconds: float, result: Any) -> Any:
    await asyncio.sleep(seconds)
    if isinstance(result, Exception):
        raise result
    return result


def test_together_keeps_the_order_and_fails_as_a_whole() -> None:
    async def story(rig: Rig) -> None:
        began = rig.server.time()
        assert await together(after(3, "a"), [after(1, "b"), after(2, "c")]) == ["a", "b", "c"]
        assert rig.server.time() - began == 3.0
        assert await together(after(0, "a"), []) == ["a"]
        ended: list[str] = []

        async def note() -> None:
            await asyncio.sleep(5)
            ended.append("late")

        with pytest.raises(KeyError):
            await together(after(1, KeyError("x")), [note()])
        await rig.settle(10.0)
        assert ended == []

    play(story)
