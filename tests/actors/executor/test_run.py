"""What an executor does with a call that makes files or embeddings, is slow, or whose answer is judged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.executor import validator
from actors.executor.backends import port
from actors.executor.backends.files import File
from actors.journal import Journal
from bus import codec
from bus.bus import Kept, Object, Pieces, QueueFull
from bus.topology import INPUTS
from messages import (
    AnswerChecks,
    Attempted,
    Done,
    Input,
    JobCancel,
    JobSubmit,
    Media,
    Price,
    Problem,
    Progress,
    Result,
    Retry,
    Started,
    Usage,
    Work,
)
from tests.actors.executor.desk import answer, desk, item, saying, stalled
from tests.actors.executor.test_results import PNG
from tests.actors.rig import Rig, play

Made = list[port.Artifact]


def file(data: bytes = PNG, name: str = "out.png") -> port.Artifact:
    return port.Artifact(name=name, media_type="image/png", file=File(data))


def picture(**more: Any) -> Work:
    """A work item for an image."""
    return item(needs={"asset": "image", "max_output_tokens": 0, "media": Media(images=1)}, **more)


def making(*items: Any, made: Made | None = None) -> Any:
    """A run that gives these items, waits for numbers of seconds, and ends with what is last."""

    async def run(_: port.Call) -> AsyncIterator[port.Item]:
        for one in items:
            if isinstance(one, (float, int)):
                await asyncio.sleep(one)
            elif isinstance(one, BaseException):
                raise one
            else:
                if made is not None and isinstance(one, port.Artifact):
                    made.append(one)
                yield one

    return run


def closed(one: port.Artifact) -> bool:
    try:
        one.file.read()
    except ValueError:
        return True
    return False


# Files.


def test_what_is_made_lies_in_the_store_and_the_end_names_it() -> None:
    made: Made = []

    async def story(rig: Rig) -> None:
        steps = [port.Step(stage="queued"), port.Step(stage="working", share=0.5, text="step 1 of 2", preview=b"p")]
        here = await desk(rig, making(*steps, 1.0, file(), answer("", seed=7), made=made))
        end = await here.end(picture())
        assert end.outcome == "ok"
        assert end.result is not None
        [artifact] = end.result.artifacts
        assert await rig.bus.get_object(artifact.ref.key) == PNG
        assert (artifact.name, artifact.origin.seed, artifact.width) == ("out.png", 7, 64)
        said = [(one.number, one.stage, one.share, one.text) for one in here.heard(Progress)]
        assert said == [
            (0, "called", None, ""), (1, "queued", None, ""), (2, "working", 0.5, "step 1 of 2"),
        ]  # fmt: skip
        [done] = rig.stored(Done)
        assert done.result == end.result
        assert [closed(one) for one in made] == [True]

    play(story)


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (port.BackendError("server_error", "broke"), "server_error"),
        (30.0, "timeout"),
        (answer("no picture"), "ok"),
    ],
)
def test_the_files_of_an_attempt_that_failed_are_removed(last: Any, outcome: str) -> None:
    made: Made = []

    async def story(rig: Rig) -> None:
        here = await desk(rig, making(file(), file(), last, made=made))
        end = await here.end(picture(failover=stalled(2.0)))
        assert end.outcome == outcome
        assert rig.server.object_keys("RESULTS") == (["acme/j-1/1/0", "acme/j-1/1/1"] if outcome == "ok" else [])
        assert [closed(one) for one in made] == [True, True]

    play(story)


def test_json_among_the_thoughts_is_the_answer_to_a_job_that_asks_for_json() -> None:
    """Case 24."""

    async def story(rig: Rig) -> None:
        thought = answer("", reasoning='{"city": "Ulm"}')
        end = await (await desk(rig, saying(thought))).end(item(needs={"json_output": True}))
        assert end.outcome == "ok"
        assert end.result is not None
        assert (end.result.text, [check.name for check in end.result.checks]) == ('{"city": "Ulm"}', ["thoughts"])

    play(story)


def test_an_adapter_that_breaks_fails_its_attempt_alone() -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, making(file(), port.Chunk(text="half"), KeyError("choices")))).end(picture())
        assert (end.outcome, end.partial) == ("invalid_structure", "half")
        assert end.problem is not None
        assert end.problem.message == "a: its adapter failed: KeyError: 'choices'"
        assert rig.server.object_keys("RESULTS") == []
        assert [retry.n for retry in rig.stored(Retry)] == [2]

    play(story)


def test_files_that_the_store_does_not_take_are_no_fault_of_the_backend_and_leave_nothing() -> None:
    made: Made = []

    class Full(Journal):
        async def keep_file(self, key: str, pieces: Pieces) -> Kept:
            if key.endswith("/1"):
                raise QueueFull("no space left in the store")
            return await super().keep_file(key, pieces)

    async def story(rig: Rig) -> None:
        here = await desk(rig, making(file(), file(), answer("x"), made=made), journal=Full(rig.bus))
        end = await here.end(picture(price=Price(per_image=1_000), worst_case_microdollars=50_000))
        assert (end.outcome, end.billed_microdollars) == ("executor_lost", 1_000), "its real price, not the worst case"
        assert end.problem is not None
        assert "no space left" in end.problem.message
        assert rig.server.object_keys("RESULTS") == []
        assert [closed(one) for one in made] == [True, True]
        assert [retry.n for retry in rig.stored(Retry)] == [2]

    play(story)


def test_a_job_that_is_ended_before_its_call_costs_nothing() -> None:
    class Slow(Journal):
        async def open(self, key: str) -> Object | None:
            await asyncio.sleep(3.0)
            return await super().open(key)

    async def story(rig: Rig) -> None:
        await desk(rig, saying(answer("never")), journal=Slow(rig.bus))
        await rig.bus.put_object("acme/up/1", PNG, bucket=INPUTS)
        body = codec.encode(JobSubmit(inputs=(Input(name="image", media_type="image/png", key="acme/up/1"),)))
        await rig.publish(picture(body=body, price=Price(per_request=1_000)))
        await rig.settle(1)
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=rig.bus.now()))
        await rig.settle(5)
        [end] = rig.stored(Attempted)
        assert (end.outcome, end.billed_microdollars) == ("aborted", 0)

    play(story)


def test_nothing_made_is_an_empty_answer_and_goes_elsewhere() -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, making(answer("I can't draw")))).end(picture())
        assert (end.outcome, end.partial) == ("empty", "I can't draw")
        assert [retry.n for retry in rig.stored(Retry)] == [2]

    play(story)


def test_a_file_that_comes_while_the_call_is_stopped_is_closed() -> None:
    made: Made = []

    async def story(rig: Rig) -> None:
        here = await desk(rig, making(file(), 1e6, made=made))
        await rig.publish(picture(failover=stalled(1000.0)))
        await rig.settle(1)
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=rig.bus.now()))
        await rig.settle(1)
        [end] = rig.stored(Attempted)
        assert end.outcome == "aborted"
        assert (rig.server.object_keys("RESULTS"), [closed(one) for one in made]) == ([], [True])
        assert here.in_hand.calls == {}

    play(story)


def test_embeddings_travel_in_the_event_when_they_are_small() -> None:
    async def story(rig: Rig) -> None:
        asked: list[port.Call] = []

        async def run(call: port.Call) -> AsyncIterator[port.Item]:
            asked.append(call)
            yield answer("", embeddings=((0.5, 1.0), (0.25, 2.0)))

        body = msgspec.json.encode({"texts": ["a"], "prompt": "b", "dimensions": 2})
        end = await (await desk(rig, run)).end(item(body=body, needs={"asset": "embedding", "max_output_tokens": 0}))
        assert end.outcome == "ok"
        assert end.result is not None
        assert end.result.embeddings == ((0.5, 1.0), (0.25, 2.0))
        assert (asked[0].texts, asked[0].dimensions, asked[0].key) == (("a", "b"), 2, "acme/j-1/1/b1")

    play(story)


def test_files_of_the_job_are_at_hand_and_a_missing_one_is_final() -> None:
    async def story(rig: Rig) -> None:
        asked: list[port.Call] = []

        async def run(call: port.Call) -> AsyncIterator[port.Item]:
            asked.append(call)
            yield file()
            yield answer("")

        await rig.bus.put_object("acme/up/1", b"start", bucket=INPUTS)
        body = codec.encode(JobSubmit(inputs=(Input(name="image", media_type="image/png", key="acme/up/1"),)))
        end = await (await desk(rig, run)).end(picture(body=body))
        assert end.outcome == "ok"
        assert asked[0].inputs[0].data == b"start"

    async def missing(rig: Rig) -> None:
        body = codec.encode(JobSubmit(inputs=(Input(name="image", media_type="image/png", key="acme/up/1"),)))
        end = await (await desk(rig, making(answer("never")))).end(picture(body=body))
        assert (end.outcome, end.billed_microdollars) == ("bad_request", 0)
        assert end.problem is not None
        assert end.problem.field == "inputs[0]"
        assert "upload it again" in end.problem.message
        assert [done.ending for done in rig.stored(Done)] == ["failed"]

    play(story)
    play(missing)


# Silence.


@pytest.mark.parametrize(
    ("asset", "before", "silent"),
    [
        ("text", None, 2.0), ("embedding", None, 6.0), ("image", None, 12.0), ("audio", None, 12.0), ("video", None, 30.0),
        ("text", "loading", 12.0), ("text", "queued", 12.0), ("text", "working", 2.0), ("video", "loading", 30.0),
    ],
)  # fmt: skip
def test_how_long_it_may_be_silent_depends_on_what_it_makes_and_does(
    asset: str, before: port.Stage | None, silent: float
) -> None:
    async def story(rig: Rig) -> None:
        steps = [port.Step(stage=before)] if before else []
        here = await desk(rig, making(*steps, 500.0, answer("late")))
        end = await here.end(item(failover=stalled(2.0), needs={"asset": asset, "max_output_tokens": 0}), 100.0)
        assert (end.outcome, end.latency_seconds) == ("timeout", pytest.approx(silent, abs=0.1))
        assert end.problem is not None
        assert end.problem.message == f"a: silent for {silent:g} s"

    play(story)


def test_every_step_is_a_sign_of_life() -> None:
    async def story(rig: Rig) -> None:
        steps = [one for n in range(20) for one in (port.Step(stage="working", share=n / 20), 10.0)]
        end = await (await desk(rig, making(*steps, file(), answer("")))).end(picture(failover=stalled(2.0)), 300.0)
        assert (end.outcome, end.latency_seconds) == ("ok", pytest.approx(200.0))

    play(story)


def test_an_attempt_ends_when_no_more_gpu_time_is_reserved_for_it() -> None:
    async def story(rig: Rig) -> None:
        price = Price(per_gpu_second=100)
        steps = [one for _ in range(50) for one in (port.Step(stage="working"), 1.0)]
        end = await (await desk(rig, making(*steps, answer("")))).end(picture(longest_seconds=7.5, price=price))
        assert (end.outcome, end.latency_seconds) == ("over_gpu_time", pytest.approx(7.5, abs=0.01))
        assert end.problem is not None
        assert end.problem.message == "a: ran for 7.5 s, the most that time on a GPU is reserved for"
        assert end.billed_microdollars == 60, "no more than was reserved"

    play(story)


@pytest.mark.parametrize(("told", "billed"), [(2.5, 250), (None, 400)])
def test_gpu_time_is_paid_as_the_backend_says(told: float | None, billed: int) -> None:
    async def story(rig: Rig) -> None:
        usage = port.Usage(gpu_seconds=told)
        here = await desk(rig, making(4.0, file(), answer("", usage=usage)))
        end = await here.end(picture(price=Price(per_gpu_second=100)))
        assert (end.usage, end.billed_microdollars) == (Usage(gpu_seconds=told), billed)

    play(story)


# Checks and the validator.


def test_what_is_soft_is_told_with_the_answer_and_what_is_hard_goes_elsewhere() -> None:
    rules = AnswerChecks(max_characters=3)

    async def soft(rig: Rig) -> None:
        checks = msgspec.structs.replace(rules, soft=True)
        end = await (await desk(rig, saying("long", answer("long")))).end(item(checks=checks))
        assert end.result is not None
        assert [check.name for check in end.result.checks] == ["max_characters"]

    async def hard(rig: Rig) -> None:
        end = await (await desk(rig, saying("long", answer("long")))).end(item(checks=rules))
        assert (end.outcome, end.partial, end.result) == ("validator_hard_fail", "long", None)
        assert end.billed_microdollars == 7
        assert [attempt.outcome for attempt in rig.stored(Retry)[0].attempts] == ["validator_hard_fail"]

    play(soft)
    play(hard)


def judged(**more: Any) -> Work:
    return item(checks=AnswerChecks(validator="Is it short?"), **more)


async def judge(rig: Rig, score: float | None, *, after: float = 1.0) -> JobSubmit:
    """Wait for the validator's job and end it."""
    await rig.settle(3.0)
    [job] = rig.stored(JobSubmit)
    started = Started(
        tenant="acme", job=job.id, n=1, backend="b", instance="i", boot="b", run="r", at=rig.bus.now()
    )  # fmt: skip
    await rig.publish(started)
    await asyncio.sleep(after)
    text = msgspec.json.encode({"score": score, "verdict": "pass", "reason": "so so"}).decode()
    result, problem = (Result(text=text), None) if score else (None, Problem(reason="x", message="nobody"))
    ending = "succeeded" if score else "failed"
    await rig.publish(
        Done(tenant="acme", job=job.id, ending=ending, result=result, problem=problem, at=rig.bus.now())
    )  # fmt: skip
    return job


@pytest.mark.parametrize(
    ("score", "outcome", "verdict"),
    [(4.0, "ok", "pass"), (2.5, "ok", "soft_fail"), (1.0, "validator_hard_fail", ""), (None, "ok", "soft_fail")],
)
def test_a_validators_job_decides_over_the_answer(score: float | None, outcome: str, verdict: str) -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying("text", 2.0, answer("text")))
        waiting = asyncio.create_task(judge(rig, score))
        end = await here.end(judged())
        job = await waiting
        assert (job.role, job.tenant) == ("validator", "acme")
        assert end.outcome == outcome
        assert end.latency_seconds == pytest.approx(2.0, abs=0.1)  # The backend's own time.
        if verdict:
            assert end.result is not None
            assert [(check.name, check.verdict) for check in end.result.checks] == [(job.id, verdict)]
        else:
            assert end.problem is not None
            assert "the validator scores the answer 1 of 5: so so" in end.problem.message
        assert rig.stored(JobCancel) == []

    play(story)


def test_when_nobody_begins_to_judge_the_answer_is_used_after_a_short_wait() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying("text", answer("text")))
        began = rig.bus.now()
        end = await here.end(judged())
        assert end.at - began == pytest.approx(validator.START_SECONDS, abs=1.5)
        assert end.result is not None
        [check] = end.result.checks
        assert (check.verdict, check.message.startswith("no verdict: ")) == ("soft_fail", True)
        [cancel] = rig.stored(JobCancel)
        assert cancel.job == rig.stored(JobSubmit)[0].id

    play(story)


def test_a_verdict_whose_signal_was_lost_is_found() -> None:
    async def story(rig: Rig) -> None:
        here = await desk(rig, saying("text", answer("text")))
        job = validator.id_of(judged())
        text = '{"score": 5, "verdict": "pass", "reason": "x"}'
        await rig.publish(Done(tenant="acme", job=job, ending="succeeded", result=Result(text=text), at=rig.bus.now()))
        await rig.settle(1)
        end = await here.end(judged())
        assert end.result is not None
        assert [check.verdict for check in end.result.checks] == ["pass"]

    play(story)


def test_nobody_is_asked_about_a_verdict_or_a_wrong_answer_or_without_time() -> None:
    async def story(rig: Rig, given: Work, outcome: str) -> None:
        end = await (await desk(rig, saying("text", answer("text")))).end(given)
        assert (end.outcome, rig.stored(JobSubmit)) == (outcome, [])

    wrong = AnswerChecks(validator="Is it short?", min_characters=99)
    for given, outcome in (
        (judged(needs={"role": "validator"}), "ok"),
        (item(checks=wrong), "validator_hard_fail"),
        (judged(seconds=1.5), "ok"),
    ):
        play(lambda rig, given=given, outcome=outcome: story(rig, given, outcome))


def test_a_job_that_is_ended_while_it_is_judged_is_aborted() -> None:
    async def story(rig: Rig) -> None:
        await desk(rig, saying("text", answer("text")))
        await rig.publish(judged())
        await rig.settle(2)
        assert len(rig.stored(JobSubmit)) == 1
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=rig.bus.now()))
        await rig.settle(2)
        [end] = rig.stored(Attempted)
        assert (end.outcome, end.billed_microdollars) == ("aborted", 7)
        assert len(rig.stored(JobCancel)) == 1

    play(story)
