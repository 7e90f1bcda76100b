from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.port import Answer, Artifact, Backend, BackendError, Call, Input, Step, Usage
from messages import Media
from tests.actors.executor.backends.conformance import KEY, Conformance, Rig, all_of, checked
from tests.actors.executor.backends.test_gemini import official
from tests.fakes.gemini import MP4, PNG, FakeGemini, made

CALL = Call(
    model="gemini-omni-1.1-flash",
    asset="video",
    messages=({"role": "user", "content": "a marble"},),
    max_output_tokens=64,
)
USED = Usage(input_tokens=9, output_tokens=58_000, cached_tokens=0, reasoning_tokens=80)


class VideoRig(Rig):
    kind = "gemini"
    fake = FakeGemini
    call = CALL
    media_type = "video/mp4"
    streams = False
    options: ClassVar[Any] = {"poll_seconds": 0.01}
    retry_after_seconds = None  # The interactions' errors have no place for it.


class TestConformance(Conformance):
    rig = VideoRig


@contextlib.asynccontextmanager
async def opened() -> AsyncGenerator[tuple[FakeGemini, Backend], None]:
    async with FakeGemini() as fake:
        backend = open_backend("gemini", fake.url, api_key=KEY, now=lambda: 0.0, options=VideoRig.options)
        try:
            yield fake, backend
        finally:
            await backend.close()


async def video_of(backend: Backend, call: Call = CALL) -> tuple[list[str], bytes, Answer]:
    *rest, answer = await all_of(backend, call)
    assert isinstance(answer, Answer)
    (video,) = [item for item in rest if isinstance(item, Artifact)]
    try:
        assert (video.name, video.media_type) == ("video1.mp4", "video/mp4")
        return [item.stage for item in rest if isinstance(item, Step)], video.file.read(), answer
    finally:
        video.file.close()


async def failure_of(backend: Backend, call: Call = CALL) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    return caught.value


def test_it_waits_in_the_background_and_fetches_the_file_with_the_key() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            stages, data, answer = await video_of(backend)
            assert (stages, data) == (["queued", "working"], MP4)
            assert answer == Answer(text="", finish_reason="stop", model=CALL.model, usage=USED)
            assert fake.paths[-1] == "GET /v1beta/files/abc:download"
            assert set(fake.api_keys) == {KEY}
            assert fake.cancels == []

    checked(main())


def test_a_video_inside_the_answer_and_an_answer_that_blocks() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.background = False
            fake.ending = {"steps": [{"type": "thought", "signature": "x"}, made(data="AAAA")]}
            fake.states = ["completed"]
            stages, data, _ = await video_of(backend)
            assert (stages, data) == ([], MP4)
            assert [asked.background for asked in fake.interactions] == [False]

    checked(main())


def test_what_a_job_says_is_asked_for() -> None:
    call = Call(
        model=CALL.model, asset="video", messages=CALL.messages, max_output_tokens=1, seed=7, negative_prompt="text",
        media=Media(width=1080, height=1920, frames=121, fps=24.0),
        inputs=(Input(name="image", media_type="image/png", data=PNG),),
    )  # fmt: skip

    async def main() -> None:
        async with opened() as (fake, backend):
            await video_of(backend, call)
            (asked,) = fake.interactions
            shape = asked.response_format
            assert (shape.aspect_ratio, shape.resolution, shape.duration) == ("9:16", "1080p", "6s")
            assert isinstance(asked.input, list)
            assert [part.type for part in asked.input] == ["image", "text"]
            assert asked.input[1].text == "a marble\n\nLeave out: text"
            assert asked.generation_config is not None
            assert asked.generation_config.seed == 7
            assert asked.generation_config.video_config is not None
            assert asked.generation_config.video_config.task == "image_to_video"

    checked(main())


def test_the_key_goes_to_no_other_host() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.elsewhere = "http://127.0.0.1:1"
            error = await failure_of(backend)
            assert (error.kind, error.usage) == ("invalid_structure", USED)
            async with FakeGemini() as other:
                other.elsewhere = other.url
                fake.elsewhere = f"https://{other.url.removeprefix('http://')}"
                assert (await failure_of(backend)).kind == "invalid_structure"  # It lies in a private network.
                assert other.api_keys == []

    checked(main())


def test_a_stumble_on_the_way_does_not_lose_what_is_paid_for() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.stumbles = 3
            _, data, _ = await video_of(backend)
            assert (data, fake.calls) == (MP4, 1)
            fake.stumbles = 100
            error = await failure_of(backend)
            assert (error.kind, fake.cancels) == ("server_error", ["v1_2"])

    checked(main())


def test_an_interaction_that_is_lost_is_made_again() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            running = backend.run(CALL)
            assert isinstance(await anext(running), Step)
            fake.looks.clear()
            with pytest.raises(BackendError) as caught:
                await anext(running)
            assert (caught.value.kind, caught.value.retry) == ("server_error", "same")

    checked(main())


def test_who_leaves_cancels_it() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            running = backend.run(CALL)
            assert await anext(running) == Step(stage="queued")
            await running.aclose()
            assert fake.cancels == ["v1_1"]

    checked(main())


@pytest.mark.parametrize(
    ("status", "ending", "kind", "part"),
    [
        (
            "failed",
            {"errors": [{"code": "https://x/errors/rate_limit_exceeded", "message": "slow"}]},
            "rate_limited",
            "slow",
        ),
        ("failed", {"errors": [{"code": "content_blocked", "message": "a face"}]}, "empty", "a face"),
        (
            "failed",
            {"steps": [{"type": "model_output", "error": {"code": 14, "message": "busy"}}]},
            "overloaded",
            "busy",
        ),
        (
            "failed",
            {"steps": [{"type": "model_output", "error": {"code": 3, "message": "Blocked by safety"}}]},
            "empty",
            "safety",
        ),
        ("failed", {}, "server_error", "failed"),
        ("cancelled", {}, "server_error", "cancelled"),
        ("budget_exceeded", {}, "empty", "budget_exceeded"),
        ("incomplete", {"steps": []}, "empty", "incomplete"),
        ("requires_action", {}, "invalid_structure", "requires_action"),
        ("something_new", {}, "invalid_structure", "something_new"),
        (
            "completed",
            {"steps": [{"type": "user_input", "content": [{"type": "video", "data": "AAAA"}]}]},
            "empty",
            "completed",
        ),
        (
            "completed",
            {"steps": [{"type": "model_output", "content": [{"type": "text", "text": "I can't do that"}]}]},
            "empty",
            "I can't do that",
        ),
    ],
)
def test_interactions_that_make_nothing(status: str, ending: dict[str, Any], kind: str, part: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.states, fake.ending = ["in_progress", status], ending
            error = await failure_of(backend)
            assert (error.kind, error.status, error.usage) == (kind, 200, USED)
            assert part in error.message
            assert fake.cancels == []

    checked(main())


@pytest.mark.parametrize(
    ("given", "media"),
    [
        ((Input(name="mask", media_type="image/png", data=PNG),), Media()),
        ((Input(name="end_image", media_type="image/png", data=PNG),), Media()),
        ((Input(name="video", media_type="image/png", data=PNG),), Media()),
        ((), Media(seconds=60.0)),
    ],
)
def test_what_it_can_not_is_for_another_backend(given: tuple[Input, ...], media: Media) -> None:
    call = Call(model=CALL.model, asset="video", messages=CALL.messages, max_output_tokens=1, inputs=given, media=media)

    async def main() -> None:
        async with opened() as (fake, backend):
            assert (await failure_of(backend, call)).retry == "elsewhere"
            assert fake.paths == []

    checked(main())


def test_who_is_cancelled_while_it_begins_cancels_the_interaction() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.slow = asyncio.Event()
            task = asyncio.create_task(all_of(backend, CALL))
            while not fake.interactions:  # noqa: ASYNC110  # A fake sets no event for it.
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.sleep(0.01)
            fake.slow.set()
            assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
            assert fake.cancels == ["v1_1"]

    checked(main())


@pytest.mark.parametrize("uri", ["https://[bad/x", "http://127.0.0.1:1/x", "file:///etc/passwd", "https://h/\0"])
def test_a_video_at_no_address(uri: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.ending = {"steps": [made(uri=uri)]}
            error = await failure_of(backend)
            assert (error.kind in ("invalid_structure", "connection_error"), error.usage) == (True, USED)

    checked(main())


class TestOfficialClient:
    """Google's own client and the adapter agree about the fake."""

    def test_of_a_video(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                _, data, ours = await video_of(backend)
                async with official(fake) as client:
                    theirs: Any = await client.interactions.create(
                        model=CALL.model, input="a marble", response_format={"type": "video", "delivery": "inline"},
                        background=True,
                    )  # fmt: skip
                    while theirs.status in {"queued", "in_progress"}:
                        theirs = await client.interactions.get(theirs.id)
                    assert theirs.status == "completed"
                    (part,) = [part for step in theirs.steps if step.type == "model_output" for part in step.content]
                    assert part.mime_type == "video/mp4"
                    assert theirs.usage.total_input_tokens == ours.usage.input_tokens
                    both = theirs.usage.total_output_tokens + theirs.usage.total_thought_tokens
                    assert both == ours.usage.output_tokens
                    assert data == MP4

        checked(main())

    def test_of_a_cancel_and_a_missing_one(self) -> None:
        async def main() -> None:
            async with opened() as (fake, _), official(fake) as client:
                await client.interactions.cancel("v1_9")
                assert fake.cancels == ["v1_9"]
                with pytest.raises(Exception, match="no such interaction"):
                    await client.interactions.get("v1_9")

        checked(main())
