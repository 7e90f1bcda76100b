"""What an executor does with a call: what it streams, how it ends, what it costs. And what it must not do: crash on an
end that comes late, take what only another can run, mix tenants' results.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, get_args

import msgspec
import pytest

from actors import node
from actors.executor.actor import LARGE_RESULT_BYTES, Executor, Served
from actors.executor.backends import port
from actors.executor.call import PARTIAL_CHARACTERS, PIECE_CHARACTERS
from actors.executor.claim import InHand
from actors.host import Host
from actors.journal import Journal
from actors.roster import Roster
from bus import codec, simloop
from bus.bus import Signal
from bus.topology import work_queue
from messages import (
    Attempted,
    Chunk,
    Done,
    ExecutorAlive,
    Failover,
    JobSubmit,
    Message,
    Price,
    Progress,
    Retry,
    Usage,
    Work,
)
from scenarios.backends import Call, Script
from scenarios.world import Spec, World, offer
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, slip, work

M = TypeVar("M", bound=Message)
Play = Callable[[port.Call], AsyncIterator[port.Chunk | port.Answer]]
PRICE = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)
"""One micro-dollar for each token."""


class Adapter:
    """An adapter as a test writes it."""

    def __init__(self, run: Any, health: Any = None) -> None:
        self.run = run
        self._health = health

    async def health(self) -> None:
        if self._health is not None:
            raise self._health

    async def discover(self) -> tuple[port.Offer, ...]:
        return ()

    async def close(self) -> None:
        return None


def executor_of(world: World, name: str) -> Any:
    host = world.processes[name].host
    assert host is not None
    return next(room for room in host.rooms if room.name == "executor").actor


async def opened(world: World, **executors: Any) -> None:
    found = {name: Spec(("executor",), (offered,)) for name, offered in executors.items()}
    await world.open({"registry": Spec(("registry",)), "front": Spec(("front",)), **found})


def attempts(world: World) -> list[Attempted]:
    return [codec.decode(Attempted, r.data) for r in world.log("EV") if r.subject.startswith("ev.attempted.")]


@pytest.mark.parametrize("unwinding", [0.0, 0.1, 0.3])
def test_an_end_that_comes_while_a_call_is_closing_crashes_nothing(unwinding: float) -> None:
    async def run(_: port.Call) -> AsyncIterator[port.Chunk]:
        try:
            yield port.Chunk(text="a")
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(unwinding)

    async def story() -> None:
        world = World(seed=3)
        await opened(world, x1=offer("X"))
        executor_of(world, "x1").served["X"].adapter = Adapter(run)
        await asyncio.sleep(3.0)
        for number in range(3):
            await world.submit(f"j{number}", deadline_seconds=2.0)
        await asyncio.sleep(60.0)
        host = world.processes["x1"].host
        assert host is not None
        assert not [name for name in host.counts if "crash" in name]
        await world.close()

    simloop.run(story(), seed=3)


def test_one_backend_on_two_machines_with_other_models_serves_both() -> None:
    jobs = {f"j{number}": f"m{number * 7 % 5 % 2 + 1}" for number in range(20)}
    has = {"x1": "m1", "x2": "m2"}

    def write(call: Call) -> Script:
        return Script(fate="ok" if has[call.instance] == jobs[call.job] else "unknown_model")

    async def story() -> None:
        world = World(seed=3, write=write)
        await opened(world, x1=offer("ollama", models=("m1",)), x2=offer("ollama", models=("m2",)))
        await asyncio.sleep(5.0)
        for job, model in jobs.items():
            await world.submit(job, model=model)
            await asyncio.sleep(0.5)
        assert await world.until_done(jobs, 200.0)
        assert Counter(attempted.outcome for attempted in attempts(world)) == {"ok": 20}
        await world.close()

    simloop.run(story(), seed=3)


def test_who_fails_its_health_check_leaves_the_work_to_the_healthy_one() -> None:
    def write(call: Call) -> Script:
        return Script(fate="connection_error", seconds=0.01) if call.instance == "x1" else Script(seconds=1.0)

    async def story() -> None:
        world = World(seed=3, write=write)
        await opened(world, x1=offer("ollama"), x2=offer("ollama"))
        served = executor_of(world, "x1").served["ollama"]
        served.adapter = Adapter(served.adapter.run, port.BackendError("connection_error", "down"))
        await asyncio.sleep(40.0)
        jobs = [f"j{number}" for number in range(10)]
        for job in jobs:
            await world.submit(job)
        assert await world.until_done(jobs, 200.0)
        assert Counter(attempted.outcome for attempted in attempts(world)) == {"ok": 10}
        await world.close()

    simloop.run(story(), seed=3)


def test_results_of_names_with_slashes_lie_apart() -> None:
    async def run(call: port.Call) -> AsyncIterator[port.Chunk | port.Answer]:
        text = str(call.messages[-1]["content"]) * (LARGE_RESULT_BYTES + 1)
        yield port.Answer(text=text, finish_reason="stop", model=call.model, usage=port.Usage())

    async def story() -> None:
        world = World(seed=3)
        await opened(world, x1=offer("X"))
        executor_of(world, "x1").served["X"].adapter = Adapter(run)
        await asyncio.sleep(3.0)
        await world.submit("c", tenant="a%2Fb", prompt="1")
        await world.submit("b/c", tenant="a", prompt="2")
        await asyncio.sleep(10.0)
        keys = [a.result.ref.key for a in attempts(world) if a.result and a.result.ref]
        assert len(keys) == len(set(keys)) == 2
        await world.close()

    simloop.run(story(), seed=3)


def test_tokens_that_the_backend_reported_are_billed_though_no_text_came() -> None:
    async def run(_: port.Call) -> AsyncIterator[port.Chunk]:
        yield port.Chunk(text="")
        raise port.BackendError("cut_stream", "cut", usage=port.Usage(input_tokens=10, output_tokens=90))

    async def story() -> None:
        world = World(seed=3)
        await opened(world, x1=offer("X", price=1_000_000))
        executor_of(world, "x1").served["X"].adapter = Adapter(run)
        await asyncio.sleep(3.0)
        await world.submit("j")
        await asyncio.sleep(1.0)
        first = attempts(world)[0]
        assert first.usage == Usage(input_tokens=10, output_tokens=90)
        assert first.billed_microdollars == 100
        await world.close()

    simloop.run(story(), seed=3)


# ---------------------------------------------------------------------------------------------- one executor alone


class Desk:
    """One executor of backend `a`, what it said aloud, and what it stored."""

    def __init__(self, rig: Rig, host: Host, in_hand: InHand, adapter: Adapter) -> None:
        self.rig, self.host, self.in_hand, self.adapter = rig, host, in_hand, adapter
        self.aloud: list[Message] = []

    def heard(self, kind: type[M]) -> list[M]:
        return [message for message in self.aloud if isinstance(message, kind)]

    def chunks(self, job: str = "j-1") -> list[tuple[int, str]]:
        return [(chunk.number, chunk.text) for chunk in self.heard(Chunk) if chunk.job == job]

    async def end(self, item: Work, seconds: float = 60.0) -> Attempted:
        """Let it run a work item, and give how that ended."""
        await self.rig.publish(item)
        await self.rig.settle(seconds)
        [end] = self.rig.stored(Attempted)
        assert await self.rig.unacknowledged(work_queue("a", 4)) == 0
        assert self.in_hand == {}
        assert self.in_hand.calls == {}
        assert not [name for name in self.host.counts if "crash" in name]
        return end


async def desk(rig: Rig, run: Play, health: Any = None, **more: Any) -> Desk:
    adapter, in_hand = Adapter(run, health), InHand()
    served = {"a": Served(offer=offer("a", slots=4), adapter=adapter)}
    shared: dict[str, Any] = {
        "journal": Journal(rig.bus), "roster": Roster(since=rig.bus.now()), "in_hand": in_hand, "clock": rig.bus.now,
        "served": served, **more,
    }  # fmt: skip
    aloud: list[Message] = []

    async def note(signal: Signal) -> None:
        kind = codec.type_at(signal.subject)
        assert kind is not None
        aloud.append(codec.decode(kind, signal.data, signal.headers))

    for kind in (Chunk, Progress, ExecutorAlive):
        await rig.bus.subscribe(kind.channel.public, note)
    await rig.bus.set_up_queue(work_queue("a", 4))
    host = await rig.host(room_of(lambda: Executor(**shared)), instance="exec-a")
    made = Desk(rig, host, in_hand, adapter)
    made.aloud = aloud
    return made


def item(*, body: Any = None, seconds: float = 600.0, needs: Any = None, **changes: Any) -> Work:
    """A work item that carries its body, with so many seconds to go."""
    encoded = msgspec.Raw(codec.encode(JobSubmit(prompt="hi")) if body is None else body)
    given: dict[str, Any] = {"price": PRICE, "slip": slip(
        input=encoded, deadline_at=T0 + seconds, needs=needs or {})}  # fmt: skip
    return work(**{**given, **changes})


def answer(text: str, *, usage: port.Usage | None = None, **more: Any) -> port.Answer:
    return port.Answer(
        text=text, finish_reason="stop", model="m", usage=usage or port.Usage(input_tokens=3, output_tokens=4), **more
    )  # fmt: skip


def saying(*items: str | float | port.Answer | port.BackendError) -> Play:
    """An adapter's run that sends texts, waits for numbers of seconds, and ends with an answer or an error."""

    async def run(_: port.Call) -> AsyncIterator[port.Chunk | port.Answer]:
        for one in items:
            if isinstance(one, port.BackendError):
                raise one
            if isinstance(one, (float, int)):
                await asyncio.sleep(one)
            else:
                yield port.Chunk(text=one) if isinstance(one, str) else one

    return run


def stalled(seconds: float) -> Failover:
    return Failover(stall_seconds=seconds)


# Streaming.


def test_what_streams_is_numbered_and_what_is_said_of_it_adds_up() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(1.0, "A ", 0.5, "short ", "", "haiku.", 0.5, answer("A short haiku.")))
        end = await here.end(item())
        assert here.chunks() == [(0, "A "), (1, "short "), (2, "haiku.")]
        stages = [(progress.number, progress.stage, progress.backend) for progress in here.heard(Progress)]
        assert stages == [(0, "called", "a"), (1, "first_token", "a")]
        assert end.outcome == "ok"
        assert end.result is not None
        assert (end.result.text, end.result.ref, end.result.finish_reason) == ("A short haiku.", None, "stop")
        assert (end.first_token_seconds, end.latency_seconds) == (pytest.approx(1.0), pytest.approx(2.0))
        assert (end.usage, end.billed_microdollars) == (Usage(input_tokens=3, output_tokens=4), 7)
        assert (end.instance, end.partial, end.problem) == ("exec-a", "", None)
        [done] = rig.stored(Done)
        assert (done.ending, done.result, done.cost_microdollars) == ("succeeded", end.result, 7)

    play(story)


def test_the_submission_is_read_from_its_stream_when_the_slip_does_not_carry_it() -> None:
    asked: list[port.Call] = []

    async def run(call: port.Call) -> AsyncIterator[port.Answer]:
        asked.append(call)
        yield answer("well")

    async def story(rig: Rig) -> None:
        put = await rig.submit(prompt="far away", temperature=0.5)
        here = await desk(rig, run)
        assert (await here.end(work(slip=slip(input_seq=put.seq)))).outcome == "ok"
        assert asked[0].messages == ({"role": "user", "content": "far away"},)
        assert asked[0].temperature == 0.5

    play(story)


@pytest.mark.parametrize("body", [b'{"promt":"hi"}', None])
def test_a_submission_that_is_gone_or_not_understood_is_nobodys_fault_but_final(body: bytes | None) -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(answer("never")))
        end = await here.end(item(body=body) if body else work())
        assert (end.outcome, end.billed_microdollars) == ("bad_request", 0)
        assert end.problem is not None
        assert end.problem.message.startswith("the submission can no longer be read: ")
        assert [done.ending for done in rig.stored(Done)] == ["failed"]
        assert here.chunks() == []

    play(story)


# Silence.


def test_a_model_that_thinks_gives_signs_of_life_and_these_are_not_said() -> None:
    async def story(rig: Rig) -> None:
        signs: list[str | float] = ["", 4.0] * 6
        here = await desk(rig, saying(*signs, "x", answer("x")))
        end = await here.end(item(failover=stalled(5.0)))
        assert (end.outcome, here.chunks()) == ("ok", [(0, "x")])
        assert end.first_token_seconds == pytest.approx(24.0)

    play(story)


def test_silence_before_the_first_token_ends_the_call_and_costs_nothing() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(6.0, "late", answer("late")))
        end = await here.end(item(failover=stalled(5.0)))
        assert (end.outcome, end.partial, end.billed_microdollars) == ("timeout", "", 0)
        assert (end.first_token_seconds, end.latency_seconds) == (None, pytest.approx(5.0))
        assert end.problem is not None
        assert (end.problem.reason, end.problem.message) == ("timeout", "a: silent for 5 s")
        assert here.chunks() == []
        [retry] = rig.stored(Retry)
        assert (retry.n, [attempt.outcome for attempt in retry.attempts]) == (2, ["timeout"])

    play(story)


def test_silence_in_mid_stream_ends_the_call_and_what_came_is_kept_and_billed() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(4.0, "four", 4.0, "more", 6.0, "never", answer("never")))
        end = await here.end(item(failover=stalled(5.0)))
        assert (end.outcome, end.partial) == ("timeout", "fourmore")
        assert end.latency_seconds == pytest.approx(13.0)
        assert end.billed_microdollars == 10 + 3  # The input's estimate, and eight characters.
        assert here.chunks() == [(0, "four"), (1, "more")]

    play(story)


@pytest.mark.parametrize("stream", [(60.0,), ("a", 2.0, "b", 2.0, "c", 2.0)])
def test_the_deadline_ends_a_call_however_lively(stream: tuple[Any, ...]) -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(*stream, answer("late")))
        end = await here.end(item(seconds=5.0, failover=stalled(20.0)))
        assert end.outcome == "timeout"
        assert end.problem is not None
        assert end.problem.reason == "expired"
        assert end.problem.message == "a: the job's deadline came while it ran"
        assert end.latency_seconds == pytest.approx(5.0, abs=0.1)
        assert end.partial == "".join(text for _, text in here.chunks())
        [done] = rig.stored(Done)
        assert (done.ending, rig.stored(Retry)) == ("expired", [])
        assert done.cost_microdollars == end.billed_microdollars

    play(story)


# The end of the job.


def test_somebody_elses_end_of_the_job_stops_the_call_and_has_no_successor() -> None:
    closed: list[float] = []

    async def story(rig: Rig) -> None:
        async def run(_: port.Call) -> AsyncIterator[port.Chunk]:
            try:
                yield port.Chunk(text="four")
                await asyncio.sleep(1e6)
            finally:
                closed.append(rig.bus.now())

        here = await desk(rig, run)
        await rig.publish(item(failover=stalled(100.0)))
        await rig.settle(3)
        cancelled = Done(tenant="acme", job="j-1", ending="cancelled", at=rig.bus.now())
        await rig.publish(cancelled)
        await rig.settle(1)
        assert closed == [pytest.approx(cancelled.at, abs=0.1)]
        [end] = rig.stored(Attempted)
        assert (end.outcome, end.partial, end.billed_microdollars) == ("aborted", "four", 10 + 2)
        assert end.problem is not None
        assert end.problem.reason == "aborted"
        assert (rig.stored(Done), rig.stored(Retry), here.in_hand.calls) == ([cancelled], [], {})

    play(story)


def test_a_call_that_is_stopped_before_it_said_anything_is_billed_for_what_it_read() -> None:
    async def story(rig: Rig) -> None:
        await desk(rig, saying(60.0, answer("never")))
        await rig.publish(item(failover=stalled(100.0)))
        await rig.settle(3)
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=rig.bus.now()))
        await rig.settle(1)
        [end] = rig.stored(Attempted)
        assert (end.outcome, end.partial, end.billed_microdollars) == ("aborted", "", 10 + 1)

    play(story)


def test_the_end_of_another_job_and_its_own_stop_nothing() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying("x", 5.0, answer("x")))
        await rig.publish(item())
        await rig.settle(1)
        await rig.publish(Done(tenant="other", job="j-1", ending="cancelled", at=T0))
        await rig.publish(Done(tenant="acme", job="j-10", ending="cancelled", at=T0))
        await rig.settle(10)
        [end] = rig.stored(Attempted)
        assert end.outcome == "ok"
        assert [done.ending for done in rig.stored(Done) if (done.tenant, done.job) == ("acme", "j-1")] == ["succeeded"]
        assert here.host.counts["executor.done"] == 3
        assert not [name for name in here.host.counts if "crash" in name]

    play(story)


# Errors.


@pytest.mark.parametrize("kind", get_args(port.ErrorKind))
def test_every_error_of_a_backend_becomes_an_outcome_with_all_it_said(kind: port.ErrorKind) -> None:
    async def story(rig: Rig) -> None:
        error = port.BackendError(kind, "broke", status=503, body="<why>", retry_after_seconds=9.0)
        end = await (await desk(rig, saying(0.5, error))).end(item())
        assert end.outcome == ("connection_error" if kind == "cut_stream" else kind)
        problem = end.problem
        assert problem is not None
        assert (problem.reason, problem.message, problem.status) == (kind, "a: broke", 503)
        assert (problem.body, problem.retry_after_seconds) == ("<why>", 9.0)
        assert (end.billed_microdollars, end.latency_seconds) == (0, pytest.approx(0.5))
        follows = [*rig.stored(Done), *rig.stored(Retry)]
        assert [type(one) for one in follows] == [Done if kind == "bad_request" else Retry]
        assert follows[0].attempts[0].problem == problem

    play(story)


def test_what_came_before_an_error_is_kept_in_part_and_billed_whole() -> None:
    async def story(rig: Rig) -> None:
        text = "x" * (PARTIAL_CHARACTERS + 400)
        error = port.BackendError("cut_stream", "cut", partial=text)
        end = await (await desk(rig, saying(text, error))).end(item())
        assert (end.outcome, end.partial) == ("connection_error", text[:PARTIAL_CHARACTERS])
        assert end.billed_microdollars == 10 + len(text) // 4 + 1

    play(story)


def test_a_stream_without_an_answer_breaks_the_protocol() -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying("four"))).end(item())
        assert (end.outcome, end.partial, end.billed_microdollars) == ("invalid_structure", "four", 12)
        assert end.problem is not None
        assert end.problem.message == "a: the stream ended without an answer"

    play(story)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_answer_has_failed_and_is_billed_as_the_backend_counted(text: str) -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying(answer(text)))).end(item())
        assert (end.outcome, end.result, end.billed_microdollars) == ("empty", None, 7)
        assert end.usage == Usage(input_tokens=3, output_tokens=4)
        assert [retry.cause.reason for retry in rig.stored(Retry)] == ["empty"]

    play(story)


def test_an_answer_that_is_no_json_has_failed_when_json_was_asked_for() -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying("Sure!", answer("Sure!")))).end(item(needs={"json_output": True}))
        assert (end.outcome, end.result, end.partial) == ("invalid_structure", None, "Sure!")
        assert end.billed_microdollars == 7
        assert end.problem is not None
        assert end.problem.body == "Sure!"

    play(story)


# Large results.


@pytest.mark.parametrize("text", ["x" * (LARGE_RESULT_BYTES + 1), "\x01" * 100_000, "\u00e4\U0001f600" * 50_000])
def test_a_large_result_lies_in_the_object_store_and_the_end_of_the_job_carries_the_reference(text: str) -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying(text, answer(text)))).end(item())
        assert end.result is not None
        ref = end.result.ref
        assert ref is not None
        assert (end.result.text, end.result.finish_reason) == (None, "stop")
        data = text.encode()
        assert await rig.bus.get_object(ref.key) == data
        assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert ref.media_type == "text/plain; charset=utf-8"
        [done] = rig.stored(Done)
        assert (done.ending, done.result) == ("succeeded", end.result)

    play(story)


@pytest.mark.parametrize("size", [LARGE_RESULT_BYTES // 6 + 1, LARGE_RESULT_BYTES - 1_000])
def test_a_result_that_fits_travels_in_the_event(size: int) -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying(answer("x" * size)))).end(item())
        assert end.result is not None
        assert (end.result.text, end.result.ref) == ("x" * size, None)

    play(story)


def test_one_huge_piece_is_said_in_parts_that_fit() -> None:
    async def story(rig: Rig) -> None:
        text = "\x01" * 1_000_000 + "end"
        here = await desk(rig, saying(text, answer(text)))
        end = await here.end(item())
        said = here.chunks()
        assert [number for number, _ in said] == list(range(len(said)))
        assert "".join(piece for _, piece in said) == text
        assert max(len(piece) for _, piece in said) <= PIECE_CHARACTERS
        assert end.result is not None
        assert end.result.ref is not None
        assert end.result.ref.size_bytes == len(text)

    play(story)


def test_large_tool_calls_lie_in_the_object_store_with_the_text() -> None:
    async def story(rig: Rig) -> None:
        call = {"id": "c1", "function": {"name": "write", "arguments": "y" * LARGE_RESULT_BYTES}}
        end = await (await desk(rig, saying(answer("see", tool_calls=(call,))))).end(item())
        assert end.result is not None
        ref = end.result.ref
        assert ref is not None
        assert (ref.media_type, end.result.tool_calls, end.result.text) == ("application/json", (), None)
        data = await rig.bus.get_object(ref.key)
        assert data is not None
        assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        kept = msgspec.json.decode(data)
        assert (kept["text"], kept["tool_calls"], kept["finish_reason"]) == ("see", [call], "stop")

    play(story)


# Heartbeats and health.


def test_a_heartbeat_lists_what_runs() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(5.0, answer("x")))
        await rig.publish(item())
        await rig.publish(item(job="j-2", n=3))
        await rig.settle(4.5)
        beat = here.heard(ExecutorAlive)[-1]
        assert {(running.tenant, running.job, running.n) for running in beat.running} == {
            ("acme", "j-1", 1), ("acme", "j-2", 3)
        }  # fmt: skip
        assert list(beat.running) == list(here.in_hand.values())
        assert (beat.instance, beat.boot, beat.leaving) == ("exec-a", "b1", False)
        await rig.settle(5)
        assert here.heard(ExecutorAlive)[-1].running == ()
        numbers = [one.number for one in here.heard(ExecutorAlive)]
        assert numbers == sorted(set(numbers))

    play(story)


def test_a_backend_that_fails_its_health_check_is_announced_at_once_and_looked_after_until_it_is_well() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(answer("x")), health_seconds=30.0, heartbeat_seconds=1000.0)
        await rig.settle(5)
        before = len(here.heard(ExecutorAlive))
        here.adapter._health = port.BackendError("connection_error", "nobody listens there")
        await rig.settle(31)
        [ill] = here.heard(ExecutorAlive)[before:]
        assert (ill.offers[0].healthy, ill.offers[0].health_reason) == (False, "nobody listens there")
        here.adapter._health = None
        await rig.settle(2.5)
        [_, well] = here.heard(ExecutorAlive)[before:]
        assert (well.offers[0].healthy, well.offers[0].health_reason) == (True, "")

    play(story)


def test_a_health_check_that_never_answers_has_failed() -> None:
    async def story(rig: Rig) -> None:
        async def hang() -> None:
            await asyncio.sleep(1e6)

        here = await desk(rig, saying(answer("x")), heartbeat_seconds=1000.0)
        here.adapter.health = hang
        await rig.settle(40)
        offered = here.heard(ExecutorAlive)[-1].offers[0]
        assert not offered.healthy
        assert offered.health_reason == "no answer to a health check within 5 s"

    play(story)


def test_who_leaves_says_so_ends_what_it_runs_and_takes_no_more() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(5.0, answer("x")))
        await rig.publish(item())
        await rig.settle(1)
        await node.leave(here.host)
        await rig.settle(0.1)
        last = here.heard(ExecutorAlive)[-1]
        assert (last.leaving, [running.job for running in last.running]) == (True, ["j-1"])
        await rig.publish(item(job="j-2"))
        await rig.settle(10)
        assert [(end.job, end.outcome) for end in rig.stored(Attempted)] == [("j-1", "ok")]
        assert await rig.unacknowledged(work_queue("a", 4)) == 1
        assert all(beat.leaving for beat in here.heard(ExecutorAlive)[-3:])

    play(story)
