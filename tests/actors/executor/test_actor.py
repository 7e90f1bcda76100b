"""What an executor does with a call: what it streams, how it ends, what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from actors.executor.backends import port
from actors.executor.call import PARTIAL_CHARACTERS
from bus import codec
from messages import Attempted, Done, ExecutorAlive, JobSubmit, Media, Model, Parameters, Price, Progress, Retry, Usage
from tests.actors.executor.desk import Adapter, answer, desk, item, saying, stalled
from tests.actors.rig import Rig, play
from tests.messages.samples import T0, slip, work


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


def test_a_model_that_thinks_gives_signs_of_life_and_these_are_not_said() -> None:
    async def story(rig: Rig) -> None:
        signs: list[str | float] = ["", 4.0] * 6
        here = await desk(rig, saying(*signs, "x", answer("x")))
        end = await here.end(item(failover=stalled(5.0)))
        assert (end.outcome, here.chunks()) == ("ok", [(0, "x")])
        assert end.first_token_seconds == pytest.approx(24.0)

    play(story)


def test_silence_before_the_first_token_ends_the_call_and_counts_as_the_most() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(6.0, "late", answer("late")))
        end = await here.end(item(failover=stalled(5.0)))
        assert (end.outcome, end.partial, end.billed_microdollars) == ("timeout", "", 60)
        assert (end.begun, end.counted_tokens, end.counted_gpu_milliseconds) == (True, None, None)
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
        assert (end.billed_microdollars, end.counted_tokens) == (60, None), "nobody knows how much it went on to make"
        assert end.usage == Usage(input_tokens=10, output_tokens=3, estimated=True)
        assert here.chunks() == [(0, "four"), (1, "more")]

    play(story)


@pytest.mark.parametrize("stream", [(60.0,), ("a", 2.0, "b", 2.0, "c", 2.0)])
def test_the_deadline_ends_a_call_however_lively(stream: tuple[Any, ...]) -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(*stream, answer("late")))
        end = await here.end(item(seconds=5.0, failover=stalled(20.0)))
        assert end.outcome == "expired"
        assert end.problem is not None
        assert end.problem.reason == "expired"
        assert end.problem.message == "a: the job's deadline came while it ran"
        assert end.latency_seconds == pytest.approx(5.0, abs=0.1)
        assert end.partial == "".join(text for _, text in here.chunks())
        [done] = rig.stored(Done)
        assert (done.ending, rig.stored(Retry)) == ("expired", [])
        assert done.cost_microdollars == end.billed_microdollars

    play(story)


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
        assert (end.outcome, end.partial, end.billed_microdollars) == ("aborted", "four", 60)
        assert end.problem is not None
        assert end.problem.reason == "aborted"
        assert (rig.stored(Done), rig.stored(Retry), here.in_hand.calls) == ([cancelled], [], {})

    play(story)


def test_a_call_that_is_stopped_before_it_said_anything_counts_as_the_most() -> None:
    async def story(rig: Rig) -> None:
        await desk(rig, saying(60.0, answer("never")))
        await rig.publish(item(failover=stalled(100.0)))
        await rig.settle(3)
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=rig.bus.now()))
        await rig.settle(1)
        [end] = rig.stored(Attempted)
        assert (end.outcome, end.partial, end.billed_microdollars) == ("aborted", "", 60)

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


OUTCOMES = {"cut_stream": "connection_error", "too_large": "unknown_model"}
"""Kinds of an adapter's error that are another outcome."""


@pytest.mark.parametrize("kind", get_args(port.ErrorKind))
def test_every_error_of_a_backend_becomes_an_outcome_with_all_it_said(kind: port.ErrorKind) -> None:
    async def story(rig: Rig) -> None:
        error = port.BackendError(kind, "broke", status=503, begun=True, body="<why>", retry_after_seconds=9.0)
        end = await (await desk(rig, saying(0.5, error))).end(item())
        assert end.outcome == OUTCOMES.get(kind, kind)
        problem = end.problem
        assert problem is not None
        assert (problem.reason, problem.message, problem.status) == (kind, "a: broke", 503)
        assert (problem.body, problem.retry_after_seconds) == ("<why>", 9.0)
        assert (end.billed_microdollars, end.latency_seconds) == (0, pytest.approx(0.5))
        follows = [*rig.stored(Done), *rig.stored(Retry)]
        assert [type(one) for one in follows] == [Retry], "a refusal, too, is shown to another backend"
        assert follows[0].attempts[0].problem == problem

    play(story)


def test_what_came_before_an_error_is_kept_in_part_and_its_rest_counts_as_the_most() -> None:
    async def story(rig: Rig) -> None:
        text = "x" * (PARTIAL_CHARACTERS + 400)
        error = port.BackendError("cut_stream", "cut", partial=text)
        end = await (await desk(rig, saying(text, error))).end(item())
        assert (end.outcome, end.partial) == ("connection_error", text[:PARTIAL_CHARACTERS])
        assert (end.usage.output_tokens, end.billed_microdollars) == (len(text) // 4 + 1, 60)

    play(story)


def test_a_stream_without_an_answer_breaks_the_protocol() -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying("four"))).end(item())
        assert (end.outcome, end.partial, end.billed_microdollars) == ("invalid_structure", "four", 60)
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


# Which limit ended it, and whether it had begun.


@pytest.mark.parametrize("word", ["ours", "the router's"])
@pytest.mark.parametrize("patience", [0.5, 1.0, 20.0])
def test_a_deadline_is_never_taken_for_silence_however_close_the_two_are(patience: float, word: str) -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying("", 60.0, answer("late")))
        await rig.publish(item(seconds=1.0, failover=stalled(patience)))
        await rig.settle(0.9)
        if word == "the router's":
            await rig.publish(Done(tenant="acme", job="j-1", ending="expired", at=rig.bus.now()))
        await rig.settle(30)
        [end] = rig.stored(Attempted)
        assert end.outcome == ("timeout" if patience < 0.9 else "expired")
        assert here.in_hand.calls == {}

    play(story)


@pytest.mark.parametrize(
    ("stream", "health", "outcome"),
    [
        ((60.0,), None, "expired"),
        ((60.0,), port.BackendError("timeout", "no answer"), "timeout"),
        (("", 60.0), port.BackendError("timeout", "no answer"), "expired"),  # It had said something.
    ],
)
def test_a_deadline_before_any_byte_asks_how_the_backend_is(stream: tuple[Any, ...], health: Any, outcome: str) -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(*stream, answer("late")), health=health)
        end = await here.end(item(seconds=1.0, failover=stalled(20.0)), 3.0)
        assert (end.outcome, end.latency_seconds) == (outcome, pytest.approx(1.0, abs=0.1))
        if outcome == "timeout":
            assert end.problem is not None
            assert "does not answer a health check either" in end.problem.message
            assert here.heard(ExecutorAlive)[-1].offers[0].healthy is False
        assert [done.ending for done in rig.stored(Done)] == ["expired"]

    play(story)


class Telling(Adapter):
    """An adapter that tells when its request begins."""

    tells_begun = True


@pytest.mark.parametrize(
    ("begun", "error", "billed"),
    [
        (False, port.BackendError("connection_error", "refused"), 0),
        (True, port.BackendError("connection_error", "reset"), 60),
        (False, port.BackendError("unknown_model", "it makes no films"), 0),
        (True, port.BackendError("server_error", "broke", status=500), 0),
        (True, None, 60),
        (False, None, 0),
    ],
)
def test_what_never_began_costs_nothing_and_what_did_counts_as_the_most(
    begun: bool,
    error: port.BackendError | None,
    billed: int,
) -> None:
    async def run(_: port.Call) -> AsyncIterator[port.Item]:
        port.watched()
        if begun:
            port.begun()
        await asyncio.sleep(1.0)
        if error is not None:
            raise error
        await asyncio.sleep(1e6)
        yield answer("never")

    async def story(rig: Rig) -> None:
        here = await desk(rig, run, tells=Telling)
        end = await here.end(item(failover=stalled(5.0)))
        assert (end.begun, end.billed_microdollars) == (begun, billed)

    play(story)


def test_who_does_not_tell_may_have_begun_unless_the_error_says_no() -> None:
    async def story(rig: Rig, begun: bool | None, billed: int) -> None:
        error = port.BackendError("connection_error", "gone", begun=begun)
        end = await (await desk(rig, saying(1.0, error))).end(item())
        assert (end.begun, end.billed_microdollars) == (begun is not False, billed)

    for begun, billed in ((None, 60), (True, 60), (False, 0)):
        play(lambda rig, begun=begun, billed=billed: story(rig, begun, billed))


# Its own words, and those of others.


def test_a_timeout_of_the_adapter_itself_is_no_silence() -> None:
    async def run(_: port.Call) -> AsyncIterator[port.Chunk]:
        yield port.Chunk(text="four")
        raise TimeoutError("no connection from the pool")

    async def story(rig: Rig) -> None:
        end = await (await desk(rig, run)).end(item())
        assert (end.outcome, end.partial, end.billed_microdollars) == ("timeout", "four", 60)
        assert end.problem is not None
        assert end.problem.message == "a: the adapter gave up waiting: no connection from the pool"
        assert end.latency_seconds == pytest.approx(0.0)

    play(story)


def test_what_streamed_before_an_error_is_kept_though_the_adapter_forgot_it() -> None:
    async def story(rig: Rig) -> None:
        broken = port.BackendError("server_error", "broke")
        end = await (await desk(rig, saying("four", "more", broken))).end(item())
        assert (end.outcome, end.partial, end.billed_microdollars) == ("server_error", "fourmore", 60)

    play(story)


def test_what_the_adapter_says_has_streamed_comes_first() -> None:
    async def story(rig: Rig) -> None:
        broken = port.BackendError("server_error", "broke", partial="four and")
        assert (await (await desk(rig, saying("four", broken))).end(item())).partial == "four and"

    play(story)


# What was required.


def test_an_answer_without_a_required_field_has_failed() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(answer('{"page": "<html>"}')))
        end = await here.end(item(required_fields=("page", "state_contract")))
        assert (end.outcome, end.result, end.billed_microdollars) == ("missing_field", None, 7)
        assert end.problem is not None
        assert end.problem.field == "state_contract"
        [retry] = rig.stored(Retry)
        assert [(one.backend, one.model, one.reason) for one in retry.excluded] == [("a", "m", "missing_field")]

    play(story)


def test_json_leaves_its_fences_behind() -> None:
    async def story(rig: Rig) -> None:
        text = '```json\n{"state_contract": {"a": 1}}\n```'
        end = await (await desk(rig, saying(text, answer(text)))).end(item(required_fields=("state_contract",)))
        assert end.outcome == "ok"
        assert end.result is not None
        assert end.result.text == '{"state_contract": {"a": 1}}'

    play(story)


# What runs.


def test_the_variant_runs_and_the_attempt_is_still_that_of_the_granted_model() -> None:
    asked: list[port.Call] = []

    async def run(call: port.Call) -> AsyncIterator[port.Answer]:
        asked.append(call)
        yield answer("well")

    async def story(rig: Rig) -> None:
        models = (Model(name="m"), Model(name="m-turbo", context_tokens=4096))
        here = await desk(rig, run, models=models)
        end = await here.end(item(parameters=Parameters(model="m-turbo", degrade=("shorten",))))
        assert (end.model, [call.model for call in asked]) == ("m", ["m-turbo"])
        told = [running for beat in here.heard(ExecutorAlive) for running in beat.running]
        assert {(running.backend, running.model) for running in told} == {("a", "m-turbo")}

    play(story)


def test_a_prompt_is_shortened_to_what_the_model_takes() -> None:
    asked: list[port.Call] = []

    async def run(call: port.Call) -> AsyncIterator[port.Answer]:
        asked.append(call)
        yield answer("well")

    async def story(rig: Rig) -> None:
        old, new = {"role": "user", "content": "old " * 1000}, {"role": "user", "content": "new"}
        body = codec.encode(JobSubmit(messages=(old, new)))
        for number, context in enumerate((None, 4096, 512), 1):
            here = await desk(rig, run, models=(Model(name="m", context_tokens=context),))
            await rig.publish(item(body=body, job=f"j-{number}", parameters=Parameters(degrade=("shorten",))))
            await rig.settle(1)
            await here.host.close()
            rig.hosts.remove(here.host)
        assert [len(call.messages) for call in asked] == [2, 2, 1]
        assert asked[-1].messages == (new,)

    play(story)


@pytest.mark.parametrize(("local", "told"), [(True, [1, 0, 1, 1]), (False, [0, 0, 0, 0])])
def test_an_attempt_tells_its_step_its_estimate_and_whether_another_model_ran_before(local: bool, told: Any) -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying(0.1, answer("x")), models=(Model(name="m"), Model(name="n")), local=local)
        beats: list[int] = []
        for number, model in enumerate(("m", "m", "n", "m"), 1):
            before = len(here.heard(ExecutorAlive))
            needs = {"step": "hero", "input_tokens": 41}
            await rig.publish(item(job=f"j-{number}", model=model, needs=needs))
            await rig.settle(0.3)
            beats.append(sum(bool(beat.running) for beat in here.heard(ExecutorAlive)[before:]))
        ends = rig.stored(Attempted)
        assert [end.switched for end in ends] == [False, False, True, True]
        assert {(end.step, end.input_estimate) for end in ends} == {("hero", 41)}
        assert beats == told, "where models are loaded here, a change is told at once"

    play(story)


def test_a_model_that_runs_beside_another_is_not_switched_to() -> None:
    async def story(rig: Rig) -> None:
        await desk(rig, saying(3.0, answer("x")), models=(Model(name="m"), Model(name="n")))
        for number, model in enumerate(("m", "n", "m"), 1):
            await rig.publish(item(job=f"j-{number}", model=model))
            await rig.settle(0.5)
        await rig.settle(5)
        assert [end.switched for end in rig.stored(Attempted)] == [False, True, False]

    play(story)


# What it costs.


def test_what_is_paid_for_each_request_image_and_second_is_billed() -> None:
    async def story(rig: Rig) -> None:
        price = Price(per_request=7_000, per_image=100, per_second=10)
        here = await desk(rig, saying(answer("x")))
        end = await here.end(item(price=price, needs={"asset": "image", "media": Media(images=2, seconds=1.5)}))
        assert end.billed_microdollars == 7_000 + 200 + 15

    play(story)
