import asyncio
import base64
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import kinds, open_backend
from actors.executor.backends.port import Answer, Artifact, BackendError, Call, Chunk, Input, Offer, Usage, Vitals
from actors.executor.backends.runpod_form import data_uri, files_in, handler_input, text_in
from actors.executor.recipes.choosing import seed_for
from messages.values import Media
from tests.actors.executor.backends.conformance import KEY, KINDS, Conformance, Rig, all_of, checked, opened
from tests.fakes.runpod import PNG, TEXT, FakeRunpod, FakeRunpodImages

QUICK: dict[str, Any] = {"poll_seconds": 0.01}


class TextRig(Rig):
    kind = "runpod"
    fake = FakeRunpod
    call = Call(model="abc123", messages=({"role": "user", "content": "hi"},), max_output_tokens=64)
    text = TEXT
    faults: ClassVar = {**KINDS, "error_inside": "server_error"}
    options: ClassVar = {**QUICK, "worker": "handler"}


class ImageRig(TextRig):
    fake = FakeRunpodImages
    call = Call(
        model="abc123", asset="image", messages=({"role": "user", "content": "a pond"},), max_output_tokens=1, seed=7,
        media=Media(images=1, width=512, height=384, steps=20), negative_prompt="blur",
        inputs=(Input(name="image", media_type="image/png", data=PNG),),
    )  # fmt: skip
    text = ""
    media_type = "image/png"
    streams = False


class TestText(Conformance):
    rig = TextRig


class TestImages(Conformance):
    rig = ImageRig


def test_a_text_streams_while_it_is_written_and_says_how_long_the_worker_ran() -> None:
    async def main() -> None:
        async with opened(TextRig) as (fake, backend):
            items = await all_of(backend, TextRig.call)
            assert [(type(item).__name__, getattr(item, "stage", getattr(item, "text", ""))) for item in items] == [
                ("Step", "queued"), ("Chunk", "Hello"), ("Step", "working"), ("Chunk", " world,"), ("Chunk", " né 🚂"),
                ("Answer", TEXT),
            ]  # fmt: skip
            assert isinstance(items[-1], Answer)
            assert items[-1].usage == Usage(gpu_seconds=2.5)
            (job,) = fake.jobs.values()
            assert job.asked.input == {
                "model": "abc123", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 64,
            }  # fmt: skip
            assert set(fake.keys) == {f"Bearer {KEY}"}

    checked(main())


def test_a_picture_comes_as_the_worker_made_it() -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            *_, made, answer = await all_of(backend, ImageRig.call)
            assert isinstance(made, Artifact)
            assert isinstance(answer, Answer)
            assert (made.name, made.width, made.height, made.file.read()) == ("a.png", 1, 1, PNG)
            made.file.close()
            assert answer.usage.gpu_seconds == 2.5
            (job,) = fake.jobs.values()
            assert job.asked.input == {
                "model": "abc123", "prompt": "a pond", "negative_prompt": "blur", "width": 512, "height": 384,
                "num_inference_steps": 20, "num_images": 1, "seed": 7, "image": data_uri("image/png", PNG),
            }  # fmt: skip

    checked(main())


def test_worker_comfyui_gets_a_graph_and_the_images_that_it_names() -> None:
    call = Call(
        key="k", model="abc123", asset="image", messages=({"role": "user", "content": "a pond"},), max_output_tokens=1,
        recipe="image-to-image", seed=7, inputs=(Input(name="image", media_type="image/png", data=PNG),),
    )  # fmt: skip
    large = Input(name="image", media_type="image/png", data=bytes(8_000_000))

    async def main() -> None:
        async with FakeRunpodImages() as fake:
            options = {"worker": "comfyui", **QUICK}
            backend = open_backend("runpod", fake.url, api_key=KEY, now=lambda: 0.0, options=options)
            *_, made, answer = await all_of(backend, call)
            assert isinstance(made, Artifact)
            assert isinstance(answer, Answer)
            assert answer.seed == 7
            made.file.close()
            (job,) = fake.jobs.values()
            graph = job.asked.input["workflow"]
            assert [node["inputs"]["image"] for node in graph.values() if node["class_type"] == "LoadImage"] == [
                "image"
            ]
            assert any(node["inputs"].get("text") == "a pond" for node in graph.values())
            assert any(node["inputs"].get("seed") == 7 for node in graph.values())
            assert job.asked.input["images"] == [{"name": "image", "image": data_uri("image/png", PNG)}]
            own = {"1": {"class_type": "X", "inputs": {}}}
            *_, made, answer = await all_of(backend, msgspec.structs.replace(call, graph=own, inputs=()))
            assert isinstance(made, Artifact)
            made.file.close()
            assert answer == msgspec.structs.replace(answer, seed=None), "its own graph holds its own"
            for recipe, inputs, seeded in (("", (), True), ("upscale", call.inputs, False)):
                changed = msgspec.structs.replace(call, recipe=recipe, inputs=inputs, seed=None)
                *_, made, answer = await all_of(backend, changed)
                assert isinstance(made, Artifact)
                made.file.close()
                assert isinstance(answer, Answer)
                assert answer.seed == (seed_for(changed) if seeded else None)
            fake.jobs = {"own": list(fake.jobs.values())[1]}
            assert list(fake.jobs.values())[-1].asked.input == {"workflow": own}
            with pytest.raises(BackendError) as caught:
                await all_of(backend, msgspec.structs.replace(call, recipe="no-such"))
            assert caught.value.kind == "unknown_model"
            (offer,) = await backend.discover()
            assert {"image", "video", "recipe:upscale"} <= set(offer.capabilities)
            assert "lora" not in offer.capabilities
            calls = fake.calls
            for changed in ({"media": Media(loras=("ink",))}, {"inputs": (large,)}):
                with pytest.raises(BackendError) as caught:
                    await all_of(backend, msgspec.structs.replace(call, **changed))
                assert (caught.value.kind, fake.calls) == ("unknown_model", calls), (
                    "nothing is made without what is asked for"
                )
            await backend.close()

    checked(main())


def test_limits_of_the_settings_go_with_every_job() -> None:
    async def main() -> None:
        async with FakeRunpod() as fake:
            backend = open_backend(
                "runpod", fake.url, api_key=KEY, now=lambda: 0.0,
                options={"worker": "handler", "longest_seconds": 30, "low_priority": True, **QUICK},
            )  # fmt: skip
            await all_of(backend, TextRig.call)
            (job,) = fake.jobs.values()
            assert job.asked.policy is not None
            assert (job.asked.policy.execution_timeout, job.asked.policy.low_priority) == (30_000, True)
            await backend.close()

    checked(main())


@pytest.mark.parametrize(
    ("ends", "error", "kind"),
    [
        ("FAILED", '{"error_type":"RuntimeError","error_message":"CUDA out of memory"}', "server_error"),
        ("FAILED", "plain words", "server_error"),
        ("FAILED", {"error_message": "an object"}, "server_error"),
        ("FAILED", "Workflow validation failed: Node 4 (errors): 'x.safetensors' not in list", "unknown_model"),
        ("TIMED_OUT", "", "timeout"),
        ("CANCELLED", "", "interrupted"),
    ],
)
def test_how_a_job_may_end(ends: str, error: object, kind: str) -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            fake.ends, fake.error = ends, error
            with pytest.raises(BackendError) as caught:
                await all_of(backend, ImageRig.call)
            assert (caught.value.kind, ends in caught.value.message) == (kind, True)
            assert caught.value.usage == Usage(gpu_seconds=2.5), "its time is paid for"
            assert caught.value.retry == ("elsewhere" if ends == "CANCELLED" else caught.value.retry)
            assert not fake.cancelled.is_set(), "what has ended needs no cancel"

    checked(main())


def test_a_job_that_is_forgotten_is_lost_and_not_a_wrong_address() -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            fake.forget = True
            with pytest.raises(BackendError) as caught:
                await all_of(backend, ImageRig.call)
            assert (caught.value.kind, caught.value.retry) == ("server_error", "same")

    checked(main())


def test_work_shows_signs_of_life_and_the_queue_does_not() -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            fake.queued, fake.worked = 4, 3
            *steps, made, _ = await all_of(backend, ImageRig.call)
            assert [getattr(step, "stage", "") for step in steps] == ["queued", *["working"] * 3]
            assert isinstance(made, Artifact)
            made.file.close()
            assert [path.rpartition("/")[0] for path in fake.paths].count("GET /v2/abc123/status") == 8

    checked(main())


def test_a_stumble_on_the_way_does_not_lose_what_is_paid_for() -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            fake.stumbles = 3
            *_, made, _ = await all_of(backend, ImageRig.call)
            assert isinstance(made, Artifact)
            made.file.close()
            assert fake.calls == 1
            fake.stumbles = 100
            with pytest.raises(BackendError) as caught:
                await all_of(backend, ImageRig.call)
            assert (caught.value.kind, fake.cancelled.is_set()) == ("server_error", True)

    checked(main())


@pytest.mark.parametrize("rig", [TextRig, ImageRig])
def test_who_closes_at_any_item_leaves_nothing_behind(rig: type[Rig]) -> None:
    async def main() -> None:
        async with opened(rig) as (fake, backend):
            fake.output = {"images": [base64.b64encode(PNG).decode()] * 3}
            total = len([item for item in await all_of(backend, rig.call) if not close(item)])
            for number in range(total):
                fake.cancelled.clear()
                run = backend.run(rig.call)
                for _ in range(number + 1):
                    item = await anext(run)
                    close(item)
                await run.aclose()
                running = list(fake.jobs.values())[-1].status not in ("COMPLETED", "CANCELLED")
                assert not running
                assert fake.cancelled.is_set() == (list(fake.jobs.values())[-1].status == "CANCELLED")

    checked(main())


def close(item: object) -> None:
    if isinstance(item, Artifact):
        item.file.close()


def test_who_is_cancelled_while_the_job_is_handed_in_cancels_the_job() -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            fake.slow = asyncio.Event()
            task = asyncio.create_task(all_of(backend, ImageRig.call))
            while not fake.jobs:  # noqa: ASYNC110  # A fake sets no event for it.
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.sleep(0.01)
            fake.slow.set()
            assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
            assert fake.cancelled.is_set()

    checked(main())


@pytest.mark.parametrize("output", [{}, {"images": []}, "words"])
def test_a_worker_that_made_nothing(output: object) -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            fake.output = output
            with pytest.raises(BackendError) as caught:
                await all_of(backend, ImageRig.call)
            assert caught.value.kind == "empty"

    checked(main())


@pytest.mark.parametrize(
    ("workers", "vitals"),
    [
        ({"idle": 1}, Vitals(waiting=2, running=1)),
        ({"initializing": 1}, Vitals(waiting=2, running=1, cold=True)),
        ({}, Vitals(waiting=2, running=1, cold=True)),
        ({"running": 1, "throttled": 3}, Vitals(waiting=2, running=1)),
        ({"throttled": 3}, "overloaded"),
        ({"unhealthy": 1}, "server_error"),
    ],
)
def test_health_tells_of_cold_starts_and_missing_workers(workers: dict[str, int], vitals: Vitals | str) -> None:
    async def main() -> None:
        async with opened(ImageRig) as (fake, backend):
            fake.workers = workers
            if isinstance(vitals, Vitals):
                assert await backend.health() == vitals
                return
            with pytest.raises(BackendError) as caught:
                await backend.health()
            assert caught.value.kind == vitals

    checked(main())


def test_vllm_workers_are_called_by_openai_s_protocol_and_never_woken_by_a_look() -> None:
    async def main() -> None:
        async with FakeRunpod() as fake:
            backend = open_backend("runpod", fake.url, api_key=KEY, now=lambda: 0.0)
            fake.workers = {}
            assert await backend.discover() == ()
            assert [path for path in fake.paths if "openai" in path] == []
            fake.workers = {"ready": 1}
            assert [offer.model for offer in await backend.discover()] == ["qwen"]
            *chunks, answer = await all_of(backend, TextRig.call)
            assert isinstance(answer, Answer)
            assert "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk)) == answer.text == "Hi"
            assert (await backend.health()).running == 1
            assert fake.jobs == {}, "nothing went through the queue"
            await backend.close()

    checked(main())


def test_the_worker_s_offer_bears_the_endpoint_s_name() -> None:
    async def main() -> None:
        async with opened(TextRig) as (_, backend):
            assert await backend.discover() == (Offer(model="abc123", capabilities=("text", "json")),)

    checked(main())


@pytest.mark.parametrize("url", ["https://api.runpod.ai", "https://api.runpod.ai/"])
def test_an_address_without_an_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: .*endpoint id"):
        open_backend("runpod", url, api_key=KEY, now=lambda: 0.0)
    assert kinds.kind("runpod").address("https://api.runpod.ai/v2/x/openai/v1") == "https://api.runpod.ai/v2/x"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("a", "a"),
        (["a", "b"], "ab"),
        ({"text": "a"}, "a"),
        ({"output": {"text": ["a", "b"]}}, "ab"),
        ({"choices": [{"message": {"content": "a"}}]}, "a"),
        ({"choices": [{"tokens": ["a", "b"]}]}, "ab"),
        ([{"choices": [{"tokens": ["a"]}], "usage": {}}], "a"),
        ({"n": 5}, ""),
        (None, ""),
        (5, ""),
    ],
)
def test_text_is_found_in_every_usual_form(output: object, text: str) -> None:
    assert text_in(output) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "images", "data", "choices", "x"]), inner),
)


@given(JSON)
def test_no_output_breaks_the_reading(output: object) -> None:
    assert isinstance(text_in(output), str)
    assert all(sum(map(bool, (one.data, one.url, one.fault))) == 1 for one in files_in(output))


def test_files_are_found_in_every_usual_form() -> None:
    encoded = base64.b64encode(PNG).decode()
    forms: list[Any] = [
        {"images": [encoded]},
        {"images": [{"filename": "x.png", "type": "s3_url", "data": "https://bucket/x.png"}]},
        {"image": f"data:image/png;base64,{encoded}"},
        {"video": {"url": "https://bucket/x.mp4"}},
        {"status": "success", "message": encoded},
        [{"images": [encoded]}],
    ]
    found = [next(iter(files_in(form))) for form in forms]
    assert [one.data or one.url for one in found] == [
        PNG, "https://bucket/x.png", PNG, "https://bucket/x.mp4", PNG, PNG,
    ]  # fmt: skip
    broken, good = files_in({"images": ["http://10.0.0.1/x.png", encoded]})
    assert (bool(broken.fault), good.data) == (True, PNG)


def test_what_a_job_says_goes_under_the_usual_names() -> None:
    call = Call(
        model="m", asset="video", messages=({"role": "user", "content": [{"type": "text", "text": "a pond"}]},),
        max_output_tokens=1, media=Media(frames=48, fps=24.0, seconds=2.0, loras=("ink",)),
        graph={"1": {"class_type": "X", "inputs": {}}},
    )  # fmt: skip
    assert handler_input(call) == {
        "model": "m", "prompt": "a pond", "num_frames": 48, "fps": 24.0, "duration": 2.0, "loras": ("ink",),
        "workflow": call.graph,
    }  # fmt: skip
    assert msgspec.json.encode(handler_input(call))
