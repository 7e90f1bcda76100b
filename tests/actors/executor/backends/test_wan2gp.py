import asyncio
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from actors.executor.backends import kinds, open_backend
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import Answer, Artifact, BackendError, Call, Input, Offer, Step, Vitals
from actors.executor.backends.wan2gp_form import failure_of as result_failure
from actors.executor.backends.wan2gp_form import models_in
from actors.executor.backends.wire import Wire
from actors.executor.recipes.choosing import seed_for
from messages.values import Media
from tests.actors.executor.backends.conformance import KINDS, Conformance, Rig, all_of, checked, opened
from tests.fakes.ollama import FakeOllama
from tests.fakes.wan2gp import MP4, FakeWan2gp

PROMPT: Any = ({"role": "user", "content": "a pond"},)


class VideoRig(Rig):
    kind = "wan2gp"
    fake = FakeWan2gp
    call = Call(
        key="acme/j-1/1", model="t2v_1.3B", asset="video", messages=PROMPT, max_output_tokens=1,
        media=Media(images=1, width=832, height=480, steps=30, frames=81, loras=("ink",)), negative_prompt="blur",
    )  # fmt: skip
    media_type = "video/mp4"
    streams = False
    faults: ClassVar = {
        **KINDS,
        "error_inside": "server_error",
        "bad_request": "unknown_model",  # MCP's, not the job's: its tools tell what is wrong with a job.
    }
    options: ClassVar = {"poll_seconds": 0.01}


class TestConformance(Conformance):
    rig = VideoRig


async def failure_of(backend: Any, call: Call = VideoRig.call) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    return caught.value


@pytest.mark.parametrize(("streamed", "structured"), [(False, True), (True, False)])
def test_a_video_is_made_with_all_that_the_job_says(streamed: bool, structured: bool) -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.streamed, fake.structured = streamed, structured
            *steps, made, answer = await all_of(backend, VideoRig.call)
            assert steps == [
                Step(stage="queued"),
                Step(stage="loading", share=0.03),
                Step(stage="working", share=0.4, text="step 12 of 30"),
                Step(stage="working", share=0.4, text="VAE decoding"),
            ], "the share never falls"
            assert isinstance(made, Artifact)
            assert (made.name, made.file.read()) == ("clip.mp4", MP4)
            made.file.close()
            assert isinstance(answer, Answer)
            assert answer.seed == seed_for(VideoRig.call)
            assert fake.sources == [
                {
                    "model_type": "t2v_1.3B", "prompt": "a pond", "negative_prompt": "blur", "resolution": "832x480",
                    "video_length": 81, "num_inference_steps": 30, "seed": answer.seed, "repeat_generation": 1,
                    "activated_loras": ["ink.safetensors"], "loras_multipliers": "1",
                }
            ]  # fmt: skip

    checked(main())


def test_an_image_to_begin_with_goes_through_the_gallery() -> None:
    picture = b"\x89PNG\r\n\x1a\n1234"
    call = Call(
        key="k", model="i2v_2_2", asset="video", messages=PROMPT, max_output_tokens=1, seed=7,
        inputs=(Input(name="image", media_type="image/png", data=picture),),
    )  # fmt: skip

    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            *_, made, answer = await all_of(backend, call)
            assert isinstance(made, Artifact)
            made.file.close()
            assert isinstance(answer, Answer)
            (source,) = fake.sources
            assert fake.gallery[source["image_start"]] == picture
            assert (source["image_prompt_type"], source["seed"], answer.seed) == ("S", 7, 7)

    checked(main())


@pytest.mark.parametrize(
    ("refuses", "errors", "kind"),
    [
        ("Unknown model 'x'", [], "unknown_model"),
        ("resolution: not a size", [], "bad_request"),
        ("CUDA error: out of memory", [], "server_error"),
        ("", [{"message": "frames: too many", "stage": "validation"}], "bad_request"),
        ("", [{"message": "torch.OutOfMemoryError", "stage": "generation"}], "server_error"),
        ("", [{"message": "it broke", "stage": "runtime"}], "server_error"),
    ],
)
def test_what_may_go_wrong_there(refuses: str, errors: list[dict[str, str]], kind: str) -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.refuses, fake.errors = refuses, errors
            error = await failure_of(backend)
            assert error.kind == kind
            assert (refuses or errors[0]["message"]) in error.message

    checked(main())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "upscaler"}, "no recipe that makes video"),
        ({"recipe": "upscale"}, "no recipe 'upscale'"),
        ({"asset": "audio"}, "no recipe that makes audio"),
        ({"media": Media(loras=("oil",))}, "'oil' is not on this server"),
    ],
)
def test_what_it_can_t_do_goes_elsewhere_without_a_call(change: dict[str, Any], said: str) -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            known: dict[str, Any] = {"model": "t2v_1.3B", "asset": "video", "messages": PROMPT, "max_output_tokens": 1}
            error = await failure_of(backend, Call(**{**known, **change}))
            assert (error.kind, fake.calls) == ("unknown_model", 0)
            assert said in error.message

    checked(main())


def test_a_job_without_a_prompt_is_wrong_everywhere() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            call = Call(key="k", model="t2v_1.3B", asset="video", messages=(), max_output_tokens=1)
            assert ((await failure_of(backend, call)).kind, fake.calls) == ("bad_request", 0)

    checked(main())


def test_a_restart_there_loses_the_job() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.forget = True
            error = await failure_of(backend)
            assert (error.kind, error.retry) == ("server_error", "same")
            assert "no longer known" in error.message

    checked(main())


def test_a_stumble_on_the_way_does_not_lose_the_work() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.stumbles = 3
            *_, made, _ = await all_of(backend, VideoRig.call)
            close(made)
            assert fake.calls == 1

    checked(main())


def test_whatever_is_told_of_a_job_is_a_sign_of_life() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.busy = 5
            *steps, made, _ = await all_of(backend, VideoRig.call)
            close(made)
            told = [step for step in steps if isinstance(step, Step)]
            assert [step.text for step in told] == ["", "", *["step 12 of 30"] * 6, "VAE decoding"]
            shares = [step.share or 0.0 for step in told]
            assert shares == sorted(shares)

    checked(main())


def test_who_closes_at_any_item_stops_the_work_even_where_the_word_for_it_fails() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            total = len([item for item in await all_of(backend, VideoRig.call) if not close(item)])
            for refused in (False, True):
                fake.refuses_cancel = refused
                for number in range(total):
                    fake.cancelled.clear()
                    run = backend.run(VideoRig.call)
                    for _ in range(number + 1):
                        close(await anext(run))
                    await run.aclose()
                    assert fake.cancelled.is_set() == (not list(fake.jobs.values())[-1]["done"])

    checked(main())


def test_who_is_cancelled_while_the_job_is_handed_in_cancels_the_job() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.slow = asyncio.Event()
            task = asyncio.create_task(all_of(backend, VideoRig.call))
            while not fake.jobs:  # noqa: ASYNC110  # A fake sets no event for it.
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.sleep(0.01)
            fake.slow.set()
            assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
            assert fake.cancelled.is_set()

    checked(main())


@pytest.mark.parametrize("uploaded", [b"done", b"", b"[]"])
def test_an_upload_that_tells_no_id(uploaded: bytes) -> None:
    call = msgspec.structs.replace(
        VideoRig.call, model="i2v_2_2", inputs=(Input(name="image", media_type="audio/mpeg", data=b"x"),)
    )

    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.uploaded = uploaded
            assert (await failure_of(backend, call)).kind == "invalid_structure"

    checked(main())


def test_names_of_files_have_no_folders() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            fake.filename = "..\\..\\x/..\\clip.mp4"
            *_, made, _ = await all_of(backend, VideoRig.call)
            close(made)
            assert isinstance(made, Artifact)
            assert made.name == "clip.mp4"

    checked(main())


def close(item: object) -> None:
    if isinstance(item, Artifact):
        item.file.close()


def test_only_models_whose_files_are_there_and_that_a_recipe_is_for_are_offered() -> None:
    async def main() -> None:
        async with opened(VideoRig) as (fake, backend):
            assert await backend.discover() == (
                Offer(model="t2v_1.3B", capabilities=("lora", "recipe:text-to-video", "video")),
                Offer(model="i2v_2_2", capabilities=("lora", "recipe:image-to-video", "video")),
            )
            assert await backend.health() == Vitals(slots=1)
            offers = await backend.discover()
            fake.as_list = True  # What a tool that returns a list gives by FastMCP.
            assert await backend.discover() == offers
            fake.structured = False
            assert await backend.discover() == offers
            fake.pages = False
            fake.paths.clear()
            assert await backend.discover() == offers
            assert len(fake.paths) == 11, "the same page again and again ends it"

    checked(main())


def test_it_is_told_apart_from_others() -> None:
    async def main() -> None:
        look = kinds.kind("wan2gp").recognise
        assert look is not None
        async with FakeWan2gp() as fake, FakeOllama() as other:
            for url, said in ((fake.url, ""), (other.url, None)):
                wire = Wire(Connection(url=url, now=lambda: 0.0))
                try:
                    found = await look(wire)
                except BackendError:
                    found = None
                assert found == said
                await wire.close()

    checked(main())


def test_settings_that_can_t_hold(tmp_path: Path) -> None:
    for options, said in (
        ({"poll_seconds": 0}, r"options: poll_seconds: 0\.0 "), ({"recipes": [str(tmp_path / "no")]}, r"options\.recipes: "),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{said}"):
            open_backend("wan2gp", "http://127.0.0.1:7866", api_key=None, now=lambda: 0.0, options=options)
    assert kinds.kind("wan2gp").address("http://127.0.0.1:7866/mcp") == "http://127.0.0.1:7866"


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ({"models": ["a", {"model_type": "b"}, {"name": "c"}, {}, 5]}, ["a", "b", "c"]),
        ({"items": ["a"]}, ["a"]),
        ({"result": ["a", {"model_type": "b"}]}, ["a", "b"]),
        ({"models": 5}, []),
        ({}, []),
    ],
)
def test_lists_in_every_form(listed: dict[str, Any], names: list[str]) -> None:
    assert models_in(listed) == names


def test_who_stops_it_there_wants_the_gpu() -> None:
    error = result_failure({"success": False, "cancelled": True, "errors": []}, "here")
    assert (error.kind, error.retry, "cancelled" in error.message) == ("interrupted", "elsewhere", True)
