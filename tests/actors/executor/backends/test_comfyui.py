from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import msgspec
import pytest

from actors.executor.backends import comfyui, comfyui_prompt, open_backend
from actors.executor.backends.comfyui import ComfyBackend, address, recognise
from actors.executor.backends.comfyui_queue import MARK, mark_of, marked, prompt_id
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import (
    Answer,
    Artifact,
    BackendError,
    Call,
    Chunk,
    ErrorKind,
    Input,
    Item,
    Keeps,
    Offer,
    Step,
    Switch,
    TookUp,
    Vitals,
)
from actors.executor.backends.wire import Wire
from actors.executor.recipes.choosing import seed_for
from actors.graph_names import lacking
from messages.values import Media
from tests.actors.executor.backends.conformance import KINDS, Conformance, Fault, Rig
from tests.fakes.comfyui import JPEG, Entry, FakeComfyui, picture
from tests.fakes.comfyui_nodes import node

MODEL = "sd_xl_base_1.0.safetensors"
FLUX, WAN = "flux1-dev.safetensors", "wan2.2_ti2v_5B_fp16.safetensors"
CALL = Call(
    model=MODEL,
    asset="image",
    messages=({"role": "user", "content": "a lighthouse"},),
    max_output_tokens=1,
    media=Media(width=64, height=72, steps=4),
)
OWN = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo"}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}
PNG = picture(8, 8)


class ComfyRig(Rig):
    kind = "comfyui"
    fake = FakeComfyui
    call = CALL
    media_type = "image/png"
    streams = False
    faults: ClassVar[Mapping[Fault, ErrorKind]] = {**KINDS, "error_inside": "server_error"}
    options: ClassVar[Mapping[str, Any]] = {"reconnect_seconds": 0.5}


class TestConformance(Conformance):
    rig = ComfyRig


@contextlib.asynccontextmanager
async def comfyui_at(**options: Any) -> AsyncGenerator[tuple[FakeComfyui, ComfyBackend], None]:
    async with FakeComfyui() as fake:
        backend = open_backend("comfyui", fake.url, api_key=None, now=lambda: 0.0, options=options)
        assert isinstance(backend, ComfyBackend)
        try:
            yield fake, backend
        finally:
            await backend.close()


def but(call: Call = CALL, **changes: Any) -> Call:
    return msgspec.structs.replace(call, **changes)


async def all_of(backend: ComfyBackend, call: Call = CALL) -> list[Item]:
    items: list[Item] = []
    async for item in backend.run(call):
        items.append(item)
        if isinstance(item, Artifact):
            item.file.close()
    return items


async def failure_of(backend: ComfyBackend, call: Call = CALL) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    return caught.value


def artifacts(items: list[Item]) -> list[Artifact]:
    return [item for item in items if isinstance(item, Artifact)]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # The fake has no event for it.
            await asyncio.sleep(0.01)


def test_a_picture(run, monkeypatch) -> None:
    monkeypatch.setattr(comfyui_prompt, "STEP_SECONDS", 0.0)
    call = but(
        key="attempt-1",
        negative_prompt="fog",
        media=Media(width=64, height=72, steps=4, images=2, loras=("ink",)),
    )

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            items = await all_of(backend, call)
            *rest, answer = items
            (asked,) = fake.asked
            graph = asked.prompt
            assert asked.prompt_id == prompt_id("attempt-1")
            assert [graph["6"]["inputs"]["text"], graph["7"]["inputs"]["text"]] == ["a lighthouse", "fog"]
            assert graph["4"]["inputs"]["ckpt_name"] == MODEL
            assert graph["5"]["inputs"] == {"width": 64, "height": 72, "batch_size": 2}
            assert (graph["3"]["inputs"]["steps"], graph["3"]["inputs"]["seed"]) == (4, seed_for(call))
            (lora,) = [node for node in graph.values() if node["class_type"] == "LoraLoader"]
            assert lora["inputs"]["lora_name"] == "ink.safetensors"
            made = artifacts(rest)
            assert [(one.media_type, one.width, one.height) for one in made] == [("image/png", 64, 72)] * 2
            assert len({one.name for one in made}) == 2
            assert isinstance(answer, Answer)
            assert (answer.seed, answer.model, answer.finish_reason, answer.text) == (
                seed_for(call),
                MODEL,
                "stop",
                "",
            )
            assert answer.usage.gpu_seconds == 3.0  # By the fake's own clock.
            steps = [item for item in rest if isinstance(item, Step)]
            assert list(dict.fromkeys(step.stage for step in steps)) == ["queued", "loading", "working"]
            shares = [step.share for step in steps if step.share is not None]
            assert shares == sorted(shares)
            assert "KSampler: step 2 of 4" in [step.text for step in steps]

    run(main())


def test_a_video(run) -> None:
    call = but(model=WAN, asset="video", media=Media(width=640, height=352, seconds=2.0, steps=2))

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            (video,) = artifacts(await all_of(backend, call))
            assert fake.asked[0].prompt["55"]["inputs"]["length"] == 49  # 2 s of 24 frames, as 4 n + 1.
            assert (video.media_type, video.width, video.height) == ("video/mp4", 640, 352)
            assert video.seconds == pytest.approx(49 / 24, abs=0.001)

    run(main())


@pytest.mark.parametrize(
    ("names", "recipe", "node"),
    [
        (("image",), "ImageScale", "10"),
        (("image", "mask"), "SetLatentNoiseMask", "14"),
        (("control_image",), "ControlNetApplyAdvanced", "10"),
    ],
)
def test_what_a_job_brings_decides_how_it_is_made(run, names: tuple[str, ...], recipe: str, node: str) -> None:
    files = tuple(Input(name=name, media_type="image/png", data=PNG + name.encode()) for name in names)

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            await all_of(backend, but(inputs=files))
            await all_of(backend, but(inputs=files))
            graph = fake.asked[0].prompt
            assert recipe in [entry["class_type"] for entry in graph.values()]
            name = graph[node]["inputs"]["image"]
            assert fake.files["input", "turnout", name.removeprefix("turnout/")] == PNG + names[-1].encode()
            # The same file lies there once.
            assert len([key for key in fake.files if key[:2] == ("input", "turnout")]) == len(names)

    run(main())


def test_the_upscaler_needs_no_model_of_its_own(run) -> None:
    file = Input(name="image", media_type="image/png", data=PNG)

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            await all_of(backend, but(recipe="upscale", inputs=(file,), media=Media()))
            assert fake.asked[0].prompt["2"]["inputs"]["model_name"] == "4x-UltraSharp.pth"
            assert (await backend.health()).loaded is None

    run(main())


def test_a_graph_of_the_jobs_own_is_run_as_it_is(run) -> None:
    file = Input(name="photo", media_type="image/png", data=PNG)

    async def main() -> None:
        async with comfyui_at(previews=False) as (fake, backend):
            items = await all_of(backend, but(graph=OWN, inputs=(file,), seed=3))
            (asked,) = fake.asked
            assert asked.prompt["2"] == OWN["2"]
            assert asked.prompt["1"]["inputs"]["image"].startswith("turnout/")
            assert set(asked.extra_data) == {MARK}
            (made,) = artifacts(items)  # A temporary file, as there is no other.
            assert made.media_type == "image/png"
            assert OWN["1"]["inputs"] == {"image": "photo"}

    run(main())


def test_pictures_that_are_sent_over_the_websocket_are_files_that_were_made(run) -> None:
    """Case 30."""
    graph = {**OWN, "2": {"class_type": "SaveImageWebsocket", "inputs": OWN["2"]["inputs"]}}
    file = Input(name="photo", media_type="image/png", data=PNG)

    async def main() -> None:
        async with comfyui_at() as (_, backend):
            (made,) = artifacts(await all_of(backend, but(graph=graph, inputs=(file,))))
            assert (made.media_type, made.width > 0) == ("image/png", True)

    run(main())


def test_texts_are_an_answer_and_nothing_is_none(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (_, backend):
            graph = {"1": {"class_type": "PreviewAny", "inputs": {"source": "a cät"}}}
            *rest, answer = await all_of(backend, but(graph=graph))
            assert isinstance(answer, Answer)
            assert answer.text == "a cät"
            assert [item.text for item in rest if isinstance(item, Chunk)] == ["a cät"]
            graph["1"]["inputs"] = {"source": ""}
            assert (await failure_of(backend, but(graph=graph))).kind == "empty"

    run(main())


@pytest.mark.parametrize("metadata", [True, False])
def test_previews_come_not_too_often(run, monkeypatch, metadata: bool) -> None:
    monkeypatch.setattr(comfyui_prompt, "PREVIEW_SECONDS", 1000.0)
    if not metadata:
        monkeypatch.setattr(comfyui_prompt, "_FLAGS", '{"type":"feature_flags","data":{}}')

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            items = await all_of(backend, but(media=Media(width=64, height=64, steps=40)))
            shown = [item.preview for item in items if isinstance(item, Step) and item.preview]
            assert shown == [JPEG]
            assert fake.flags == [{"supports_preview_metadata": True} if metadata else {}]
            monkeypatch.setattr(comfyui_prompt, "PREVIEW_SECONDS", 0.0)
            items = await all_of(backend, but(media=Media(width=64, height=64, steps=40)))
            assert [item.preview for item in items if isinstance(item, Step) and item.preview] == [JPEG] * 40

    run(main())


def test_what_is_cached_is_not_made_again(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            call = but(seed=7)
            (first,) = artifacts(await all_of(backend, call))
            items = await all_of(backend, call)
            (second,) = artifacts(items)
            assert (fake.calls, fake.sampled, second.name) == (2, 1, first.name)
            assert isinstance(items[-1], Answer)
            assert items[-1].seed == 7
            fake.files.clear()  # Somebody has tidied up.
            error = await failure_of(backend, call)
            assert (error.kind, error.status) == ("server_error", 404)

    run(main())


def test_a_lost_answer_is_found_again(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.vanish_answer = True
            assert artifacts(await all_of(backend, but(key="a")))
            assert (fake.calls, fake.sampled) == (1, 1)

    run(main())


def test_a_dropped_websocket_costs_nothing(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.middle.clear()
            running = asyncio.create_task(all_of(backend))
            await until(lambda: fake.sampled)
            fake.bad_gateways = 1
            await fake.drop_sockets()
            fake.middle.set()
            assert artifacts(await running)
            assert (fake.calls, fake.sampled) == (1, 1)

    run(main())


def test_without_a_word_the_history_tells(run, monkeypatch) -> None:
    monkeypatch.setattr(comfyui_prompt, "POLL_SECONDS", 0.05)

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.quiet = True
            assert artifacts(await all_of(backend))
            fake.broken = ("builtins.ValueError", "no")
            assert (await failure_of(backend)).kind == "bad_request"

    run(main())


def test_a_restart_loses_the_prompt_and_it_may_be_tried_again(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.middle.clear()
            running = asyncio.create_task(failure_of(backend, but(key="a")))
            await until(lambda: fake.sampled)
            await fake.forget()
            error = await running
            assert (error.kind, error.retry) == ("cut_stream", "same")
            assert "lost" in error.message
            fake.middle.set()
            assert artifacts(await all_of(backend, but(key="a")))

    run(main())


def test_a_server_that_stays_away_has_failed(run) -> None:
    async def main() -> None:
        async with comfyui_at(reconnect_seconds=0.3) as (fake, backend):
            fake.middle.clear()
            running = asyncio.create_task(failure_of(backend))
            await until(lambda: fake.sampled)
            await fake.__aexit__()
            error = await asyncio.wait_for(running, 10)
            assert (error.kind, error.retry) == ("connection_error", "same")
            await fake.__aenter__()

    run(main())


# What an earlier call of the job has left on the server.


async def left_by(fake: FakeComfyui, backend: ComfyBackend, call: Call) -> None:
    """The prompt of a call whose process was killed: submitted, and nobody stops it."""
    graph = (await backend._task(call)).graph
    extra = marked(mark_of(call.key, graph))
    body = {
        "prompt": graph, "client_id": prompt_id(call.key), "prompt_id": prompt_id(call.key), "extra_data": extra,
    }  # fmt: skip
    async with aiohttp.ClientSession() as dead, dead.post(f"{fake.url}/prompt", json=body) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("own_ids", [True, False])
def test_what_still_runs_of_an_earlier_call_is_gone_on_with(run, *, own_ids: bool) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.own_ids = own_ids
            fake.middle.clear()
            await left_by(fake, backend, but(key="t/j/1/b"))
            await until(lambda: fake.sampled)
            again = asyncio.create_task(all_of(backend, but(key="t/j/2/c", earlier=("t/j/1/b",))))
            await until(lambda: fake.flags)
            fake.middle.set()
            first, *rest = await again
            assert first == TookUp("t/j/1/b")
            assert artifacts(rest)
            assert [item for item in rest if isinstance(item, Step) and item.text.startswith("KSampler: step")]
            assert (fake.calls, fake.sampled, fake.interrupts) == (1, 1, [])

    run(main())


def test_what_waits_in_the_queue_of_an_earlier_call_is_gone_on_with(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.gate.clear()
            await left_by(fake, backend, but(key="t/j/1/b"))
            again = asyncio.create_task(all_of(backend, but(key="t/j/2/c", earlier=("t/j/1/b",))))
            await until(lambda: fake.flags)
            fake.gate.set()
            first, *rest = await again
            assert (first, fake.calls, len(artifacts(rest))) == (TookUp("t/j/1/b"), 1, 1)

    run(main())


def test_what_has_ended_well_of_an_earlier_call_is_its_result(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            await left_by(fake, backend, but(key="t/j/1/b"))
            await until(lambda: fake.history)
            first, *rest = await all_of(backend, but(key="t/j/2/c", earlier=("t/j/1/b",)))
            assert (first, fake.calls, len(artifacts(rest)), fake.flags) == (TookUp("t/j/1/b"), 1, 1, [])
            answer = rest[-1]
            assert isinstance(answer, Answer)
            assert answer.usage.gpu_seconds == 3.0

    run(main())


def test_what_was_only_sent_to_an_earlier_caller_is_made_anew(run) -> None:
    graph = {"1": OWN["1"], "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}}
    file = Input(name="photo", media_type="image/png", data=PNG)

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            call = but(graph=graph, inputs=(file,))
            await left_by(fake, backend, but(call, key="t/j/1/b"))
            await until(lambda: fake.history)
            fake._cache.clear()  # The real one never caches this node.
            items = await all_of(backend, but(call, key="t/j/2/c", earlier=("t/j/1/b",)))
            assert (fake.calls, len(artifacts(items))) == (2, 1)
            assert not [item for item in items if isinstance(item, TookUp)]

    run(main())


def test_what_has_failed_of_an_earlier_call_is_asked_anew(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.broken = ("builtins.RuntimeError", "no")
            await left_by(fake, backend, but(key="t/j/1/b"))
            await until(lambda: fake.history)
            fake.broken = None
            items = await all_of(backend, but(key="t/j/2/c", earlier=("t/j/1/b",)))
            assert (fake.calls, len(artifacts(items))) == (2, 1)
            assert not [item for item in items if isinstance(item, TookUp)]

    run(main())


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_another_graph_of_an_earlier_call_is_stopped_before_anything_is_asked(
    run, *, running: bool, targeted: bool
) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.targeted = targeted
            (fake.middle if running else fake.gate).clear()
            await left_by(fake, backend, but(key="t/j/1/b", seed=1))
            if running:
                await until(lambda: fake.sampled)
            again = asyncio.create_task(all_of(backend, but(key="t/j/2/c", seed=2, earlier=("t/j/1/b",))))
            await fake.cancelled.wait()
            fake.middle.set()
            fake.gate.set()
            items = await again
            assert (fake.calls, fake.sampled, len(artifacts(items))) == (2, 1 + running, 1)
            assert fake.interrupts == ([prompt_id("t/j/1/b")] if running else [])
            assert not [item for item in items if isinstance(item, TookUp)]

    run(main())


def test_a_result_of_another_graph_is_never_taken(run) -> None:
    """A job of the same name in a fresh deployment, or one that was decided otherwise."""

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            await left_by(fake, backend, but(key="t/j/1/b", seed=1))
            await until(lambda: fake.history)
            await all_of(backend, but(key="t/j/2/c", seed=2, earlier=("t/j/1/b",)))
            await all_of(backend, but(key="t/j/1/b", seed=3))
            assert [one.prompt["3"]["inputs"]["seed"] for one in fake.asked] == [1, 2, 3]

    run(main())


def test_of_several_earlier_calls_one_is_gone_on_with_and_no_other_left(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.middle.clear()
            for n in (1, 2):
                await left_by(fake, backend, but(key=f"t/j/{n}/b", seed=1))
            await until(lambda: fake.sampled)
            earlier = ("t/j/1/b", "t/j/2/b")
            again = asyncio.create_task(all_of(backend, but(key="t/j/3/c", seed=1, earlier=earlier)))
            await fake.cancelled.wait()
            fake.middle.set()
            first, *rest = await again
            assert (first, len(artifacts(rest)), fake.calls) == (TookUp("t/j/2/b"), 1, 2)
            assert fake.interrupts == [prompt_id("t/j/1/b")]

    run(main())


def test_who_is_cancelled_stops_what_was_gone_on_with(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.middle.clear()
            await left_by(fake, backend, but(key="t/j/1/b"))
            await until(lambda: fake.sampled)
            again = asyncio.create_task(all_of(backend, but(key="t/j/2/c", earlier=("t/j/1/b",))))
            await until(lambda: fake.flags)
            again.cancel()
            await fake.cancelled.wait()
            await asyncio.wait([again])
            assert fake.interrupts == [prompt_id("t/j/1/b")]

    run(main())


@pytest.mark.parametrize("own_ids", [True, False])
def test_what_is_left_is_told_and_stopped_by_its_key(run, *, own_ids: bool) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.own_ids = own_ids
            fake.middle.clear()
            assert isinstance(backend, Keeps)
            assert await backend.left() == ()
            for n in (1, 2):
                await left_by(fake, backend, but(key=f"t/j/{n}/b", seed=n))
            await until(lambda: fake.sampled)
            fake.pending.append(Entry(9, msgspec.structs.replace(fake.asked[0], extra_data={"turnout": "x"}), ["9"]))
            assert await backend.left() == ("t/j/1/b", "t/j/2/b")
            await backend.stop("t/j/2/b")
            assert await backend.left() == ("t/j/1/b",)
            await backend.stop("t/j/1/b")
            await backend.stop("t/j/1/b")
            await until(lambda: len(fake.history) == 1)
            assert await backend.left() == ()
            fake.pending.clear()
            fake.middle.set()

    run(main())


@pytest.mark.parametrize("targeted", [True, False])
def test_only_what_is_ours_is_stopped(run, targeted: bool) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.targeted = targeted
            fake.middle.clear()
            theirs = asyncio.create_task(all_of(backend, but(key="theirs")))
            await until(lambda: fake.sampled)
            ours = asyncio.create_task(all_of(backend, but(key="ours", seed=1)))
            await until(lambda: fake.pending)
            ours.cancel()
            await fake.cancelled.wait()
            with pytest.raises(asyncio.CancelledError):
                await ours
            assert fake.interrupts == []
            fake.cancelled.clear()
            third = asyncio.create_task(all_of(backend, but(key="third", seed=2)))
            await until(lambda: fake.pending)
            fake.gate.clear()
            fake.middle.set()
            assert artifacts(await theirs)
            fake.middle.clear()
            fake.gate.set()
            await until(lambda: fake.sampled == 2)
            third.cancel()
            await asyncio.wait([third])
            assert fake.interrupts == [prompt_id("third")]

    run(main())


def test_a_running_prompt_is_interrupted(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.fault = "hang"
            items = backend.run(but(key="a"))
            async for item in items:
                if isinstance(item, Step) and item.text == "KSampler":  # Told late, and told nevertheless.
                    break
            await items.aclose()
            assert fake.interrupts == [prompt_id("a")]
            await asyncio.wait_for(fake.cancelled.wait(), 5)

    run(main())


@pytest.mark.parametrize("own_ids", [True, False])
def test_who_is_cancelled_while_the_graph_is_checked_takes_it_out_of_the_queue(run, own_ids: bool) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.slow = asyncio.Event()
            fake.own_ids = own_ids
            fake.middle.clear()
            task = asyncio.create_task(all_of(backend, but(key="a")))
            await until(lambda: fake.calls)
            task.cancel()
            await asyncio.sleep(0.05)
            fake.slow.set()  # It is queued only now.
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(fake.cancelled.wait(), 5)
            assert not fake.pending

    run(main())


def test_who_closes_at_any_item_leaves_nothing_behind(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            call = but(media=Media(width=64, height=72, steps=4, images=3))
            total = len(await all_of(backend, call))
            assert total >= 5
            for number in range(total):
                items = backend.run(but(call, seed=number))
                for _ in range(number + 1):
                    item = await anext(items, None)
                    if isinstance(item, Artifact):
                        item.file.close()
                await items.aclose()
                await until(lambda: not fake.pending and not fake.running)

    run(main())


def test_somebody_else_stops_it(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.middle.clear()
            running = asyncio.create_task(failure_of(backend))
            await until(lambda: fake.sampled)
            fake._stop.set()
            error = await running
            assert (error.kind, error.retry) == ("interrupted", "elsewhere")
            assert "stopped" in error.message

    run(main())


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", "server_error"),
        ("safetensors_rust.SafetensorError", "Error while deserializing header: header too small", "unknown_model"),
        ("safetensors_rust.SafetensorError", "Error while deserializing: MetadataIncompleteBuffer", "unknown_model"),
        ("builtins.RuntimeError", "PytorchStreamReader failed reading zip archive", "unknown_model"),
        ("_pickle.UnpicklingError", "invalid load key, '<'.", "unknown_model"),
        ("builtins.FileNotFoundError", "Model in folder 'vae' not found", "unknown_model"),
        ("builtins.RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)", "unknown_model"),
        ("builtins.ValueError", "too many values", "bad_request"),
        ("builtins.RuntimeError", "CUDA error: unspecified launch failure", "server_error"),
    ],
)
def test_failures_in_a_node(run, kind: str, message: str, expected: str) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.broken = (kind, message)
            error = await failure_of(backend)
            assert error.kind == expected
            assert "node 3 (KSampler)" in error.message
            assert message in error.message
            assert fake.interrupts == []
            fake.broken = None
            assert artifacts(await all_of(backend))

    run(main())


def test_a_graph_taken_in_part_is_a_failure(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.gate.clear()
            fault = {"type": "value_not_in_list", "message": "Value not in list", "details": "lora_name: 'x' not in []"}
            fake.answer_errors = {"9": {"errors": [fault], "dependent_outputs": ["9"], "class_type": "LoraLoader"}}
            error = await failure_of(backend)
            assert (error.kind, error.status) == ("unknown_model", 200)
            assert "LoraLoader" in error.message
            assert fake.pending == []

    run(main())


def test_refused_graphs_say_where(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.fault = "unknown_model"
            error = await failure_of(backend)
            assert "value_not_in_list" in error.body
            fake.fault = "bad_request"
            error = await failure_of(backend)
            assert "node 3 (KSampler): value_bigger_than_max: steps" in error.message
            fake.fault = None
            graph = {"1": {"class_type": "Nobody", "inputs": {}}}
            assert (await failure_of(backend, but(graph=graph))).kind == "unknown_model"
            graph = {"2": {"class_type": "PreviewImage", "inputs": {}}}
            error = await failure_of(backend, but(graph=graph))
            assert error.kind == "bad_request"
            assert "required_input_missing" in error.message

    run(main())


def test_its_place_in_the_queue_is_told(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.gate.clear()
            first = asyncio.create_task(all_of(backend, but(key="1")))
            second = asyncio.create_task(all_of(backend, but(key="2")))
            await until(lambda: len(fake.pending) == 2)
            vitals = await backend.health()
            assert (vitals.running, vitals.waiting) == (1, 1)
            third = backend.run(but(key="3"))
            step = await anext(third)
            assert step == Step(stage="queued", text="2 before it in the queue")
            await third.aclose()
            fake.gate.set()
            for task in (first, second):
                assert artifacts(await task)

    run(main())


def test_a_model_that_loads_slowly_is_told(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.loading.clear()
            items = backend.run(CALL)
            step = await anext(items)
            while isinstance(step, Step) and step.text != "CheckpointLoaderSimple":
                step = await anext(items)
            assert step == Step(stage="loading", share=0.0, text="CheckpointLoaderSimple")
            fake.loading.set()
            rest = [item async for item in items]
            assert isinstance(rest[-1], Answer)
            for made in artifacts(rest):
                made.file.close()

    run(main())


def test_who_takes_it_out_of_the_queue_loses_it(run, monkeypatch) -> None:
    monkeypatch.setattr(comfyui_prompt, "POLL_SECONDS", 0.05)

    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.gate.clear()
            running = asyncio.create_task(failure_of(backend))
            await until(lambda: fake.pending)
            fake.pending.clear()  # Nobody is told.
            error = await running
            assert (error.kind, error.retry) == ("interrupted", "elsewhere")

    run(main())


@pytest.mark.parametrize("others", [0, 2])
def test_who_is_taken_out_of_the_queue_hears_of_it_at_its_change(run, monkeypatch, others: int) -> None:
    monkeypatch.setattr(comfyui_prompt, "POLL_SECONDS", 1000.0)
    monkeypatch.setattr(comfyui_prompt, "PLACE_SECONDS", 0.2)

    async def main() -> None:
        async with comfyui_at() as (fake, backend), aiohttp.ClientSession() as person, asyncio.timeout(30):
            fake.gate.clear()
            running = asyncio.create_task(failure_of(backend, but(key="mine")))
            await until(lambda: fake.pending)
            for number in range(others):
                fake.pending.append(Entry(9 + number, fake.asked[0], ["9"]))
                fake.pending[-1].id = f"other-{number}"
            async with person.post(f"{fake.url}/queue", json={"delete": [prompt_id("mine")]}):
                error = await running
            assert error.kind == "interrupted"
            assert "took the prompt out" in error.message
            assert fake.calls == 1
            fake.pending.clear()

    run(main())


def test_an_older_server_names_prompts_itself(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            fake.own_ids = False
            fake.middle.clear()
            running = asyncio.create_task(all_of(backend, but(key="a")))
            await until(lambda: fake.sampled)
            await fake.drop_sockets()
            await until(lambda: fake.sockets)
            fake.middle.set()
            assert artifacts(await running)
            assert fake.calls == 1

    run(main())


def test_what_it_offers(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            offers = {offer.model: offer for offer in await backend.discover()}
            assert list(offers) == [
                FLUX, "SD1.5/dreamshaper_8.safetensors", MODEL, WAN, "wan2.1_t2v_1.3B_fp16.safetensors", "graph",
            ]  # fmt: skip
            loras = ("ink.safetensors", "styles/film.safetensors")
            assert offers[FLUX] == Offer(
                model=FLUX, capabilities=("graph", "image", "lora", "recipe:flux-text-to-image", "recipe:upscale"),
                vram_mb=12_288, loras=loras,
            )  # fmt: skip
            assert {"controlnet", "recipe:inpaint", "recipe:upscale"} <= set(offers[MODEL].capabilities)
            assert offers[WAN].capabilities == (
                "graph", "lora", "recipe:image-to-video", "recipe:text-to-video", "video",
            )  # fmt: skip
            assert backend.problems == ()
            del fake.info["ControlNetLoader"]
            fake.info["VAELoader"]["input"]["required"]["vae_name"] = [["ae.safetensors"]]
            assert WAN not in [offer.model for offer in await backend.discover()]
            assert any("node 17: this server has no node class ControlNetLoader" in text for text in backend.problems)
            assert any("'text-to-video'" in text and "*wan2.2*vae*" in text for text in backend.problems)
            fake.info = {"SaveImage": fake.info["SaveImage"]}
            (left,) = await backend.discover()
            assert (left.model, left.capabilities) == ("graph", ("graph",))
            assert lacking(left.has, Media(node_types=("KSampler", "SaveImage"))) == ("the node class KSampler",)

    run(main())


def test_it_tells_what_a_graph_may_name(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            has = {offer.model: offer for offer in await backend.discover()}["graph"].has
            there = Media(
                checkpoints=(MODEL, FLUX), loras=("styles/film.safetensors",), node_types=("KSampler", "PreviewAny")
            )
            assert lacking(has, there) == ()
            wanted = Media(checkpoints=("x.safetensors",), loras=("film.safetensors",), node_types=("SaveMine",))
            assert lacking(has, wanted) == (
                "the node class SaveMine", "the model file x.safetensors", "the LoRA film.safetensors",
            )  # fmt: skip
            fake.info["TextLoader"] = node({"ckpt_name": ["STRING"]}, ("MODEL",))
            has = (await backend.discover())[-1].has
            assert lacking(has, Media(checkpoints=("x.safetensors",))) == ()  # Nobody lists what that one takes.

    run(main())


def test_a_new_file_is_found_when_it_is_asked_for(run, monkeypatch) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            await backend.discover()
            fake.info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0].append("new.safetensors")
            assert (await failure_of(backend, but(model="new.safetensors"))).kind == "unknown_model"
            monkeypatch.setattr(comfyui, "LOOK_SECONDS", 0.0)
            assert artifacts(await all_of(backend, but(model="new.safetensors")))

    run(main())


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"recipe": "no-such"}, "unknown_model", "there is no recipe 'no-such'"),
        ({"recipe": "flux-text-to-image"}, "unknown_model", "can't run 'sd_xl_base_1.0.safetensors' here"),
        ({"recipe": "text-to-image", "asset": "video"}, "unknown_model", "makes image, not video"),
        ({"model": "nobody"}, "unknown_model", "no recipe can run 'nobody' here"),
        ({"messages": ()}, "bad_request", "prompt: the recipe 'text-to-image' needs it"),
        ({"media": Media(width=9000)}, "unknown_model", "width: 9000 is more than"),
        ({"media": Media(loras=("nobody",))}, "unknown_model", "loras: 'nobody' is not on this server"),
        ({"recipe": "inpaint"}, "bad_request", "needs a file 'image'"),
        (
            {"inputs": (Input(name="sound", media_type="audio/wav", data=b"x"),)}, "unknown_model",
            "no recipe makes image with sound",
        ),
    ],
)  # fmt: skip
def test_calls_that_do_not_fit(run, changes: dict[str, Any], kind: str, text: str) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            error = await failure_of(backend, but(**changes))
            assert error.kind == kind
            assert text in error.message
            assert fake.calls == 0

    run(main())


def test_recipes_of_ones_own(run, tmp_path: Path) -> None:
    recipe = """
        name = "caption"
        title = "What a picture shows"
        asset = "image"
        server = "comfyui"
        by_name = true
        fields = { prompt = "1.inputs.source" }
        graph = { 1 = { class_type = "PreviewAny", inputs = { source = "" } } }
    """
    (tmp_path / "caption.toml").write_text(recipe, encoding="utf-8")

    async def main() -> None:
        async with comfyui_at(recipes=[str(tmp_path)]) as (_, backend):
            assert "recipe:caption" in (await backend.discover())[0].capabilities
            answer = (await all_of(backend, but(recipe="caption", media=Media())))[-1]
            assert isinstance(answer, Answer)
            assert (answer.text, answer.seed) == ("a lighthouse", None)

    run(main())


def test_a_wrong_recipe_is_told_and_makes_nothing_ill(run, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("name = 5", encoding="utf-8")

    async def main() -> None:
        async with comfyui_at(recipes=[str(tmp_path)]) as (_, backend):
            (note,) = (await backend.health()).notes
            assert "x.toml: name: Expected `str`" in note
            assert len(await backend.discover()) > 1
            assert artifacts(await all_of(backend))

    run(main())


@pytest.mark.parametrize("by_name", [False, True])
def test_a_recipe_without_a_model_is_offered_where_no_model_makes_the_same(
    run, tmp_path: Path, *, by_name: bool
) -> None:
    recipe = f"""
        name = "sing"
        asset = "audio"
        server = "comfyui"
        by_name = {str(by_name).lower()}
        graph = {{ 1 = {{ class_type = "PreviewAny", inputs = {{ source = "la" }} }} }}
    """
    (tmp_path / "sing.toml").write_text(recipe, encoding="utf-8")

    async def main() -> None:
        async with comfyui_at(recipes=[str(tmp_path)]) as (_, backend):
            (found,) = [offer for offer in await backend.discover() if "recipe:sing" in offer.capabilities]
            assert found.model == "sing"
            assert found.capabilities == ("audio", *(("by_name",) if by_name else ()), "recipe:sing")
            call = but(model="sing", asset="audio", messages=(), media=Media(), recipe="sing" if by_name else "")
            assert (await all_of(backend, call))[-1].text == "la"  # type: ignore[union-attr]  # Its answer.
            if by_name:
                generic = await failure_of(backend, but(model="sing", asset="audio", recipe=""))
                assert generic.kind == "unknown_model"

    run(main())


def test_wrong_options_name_the_field(tmp_path: Path) -> None:
    for options, text in (
        ({"recipes": [str(tmp_path / "none")]}, "there is no folder"),
        ({"reconnect_seconds": -1}, "reconnect_seconds: -1"),
        ({"previws": True}, "previws"),
    ):
        with pytest.raises(ValueError, match=text):
            open_backend("comfyui", "http://127.0.0.1:1", api_key=None, now=lambda: 0.0, options=options)


def test_how_it_is_and_what_it_has_in_memory(run) -> None:
    async def main() -> None:
        async with comfyui_at() as (fake, backend):
            assert isinstance(backend, Switch)
            vitals = await backend.health()
            assert vitals == Vitals(
                version="0.9.2", waiting=0, running=0, slots=1, vram_total_mb=24 * 1024, vram_free_mb=20 * 1024
            )
            await all_of(backend)
            assert (await backend.health()).loaded == (MODEL,)
            await all_of(backend, but(graph={"1": {"class_type": "PreviewAny", "inputs": {"source": "x"}}}))
            assert (await backend.health()).loaded is None
            await all_of(backend)
            await backend.load(MODEL)
            await backend.unload(FLUX)
            assert fake.freed == 0
            assert [offer.model for offer in await backend.discover() if offer.loaded] == [MODEL]
            await backend.load(FLUX)
            assert (fake.freed, (await backend.health()).loaded) == (1, ())
            await all_of(backend)
            await backend.unload(MODEL)
            assert fake.freed == 2
            await all_of(backend)
            fake.gate.clear()
            fake.pending.append(Entry(9, fake.asked[0], ["9"]))  # Somebody else's.
            assert (await backend.health()).loaded is None
            await backend.unload(MODEL)
            assert fake.freed == 3

    run(main())


def test_it_is_recognised(run) -> None:
    async def main() -> None:
        async with FakeComfyui() as fake:
            wire = Wire(Connection(url=fake.url, now=lambda: 0.0))
            try:
                assert await recognise(wire) == "0.9.2"
            finally:
                await wire.close()

    run(main())


def test_addresses() -> None:
    assert address("http://gpu:8188/") == "http://gpu:8188"
    assert address("http://gpu:8188/api") == "http://gpu:8188"
    with pytest.raises(ValueError, match="url: "):
        address("gpu:8188")
