"""Graphs of jobs' own on ComfyUI, through the whole system: who runs them, as what they are booked, and who is asked in vain."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from actors.settings import BackendSettings
from messages import Attempted, Decided, Done, JobSubmit, Progress
from tests.e2e.system import System, running
from tests.fakes.comfyui import FakeComfyui
from tests.fakes.comfyui_nodes import node

XL, OTHER = "sd_xl_base_1.0.safetensors", "SD1.5/dreamshaper_8.safetensors"
PICTURE = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A deployment of their own: a job waits for servers that are away, and others' may run any graph."""
    with running(tmp_path_factory.mktemp("graphs")) as made:
        yield made


def graph_of(**nodes: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("n"): one for name, one in nodes.items()}


def saved(kind: str, source: str = "1", **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": {"images": [source, 0], "filename_prefix": "mine", **inputs}}


def drawn(checkpoint: str, steps: int = 2) -> dict[str, Any]:
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["4", 0], "seed": 1, "steps": steps, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal",
                "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0], "denoise": 1.0,
            },
        },
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": saved("SaveImage", "8"),
    }  # fmt: skip


def settings(name: str, fake: FakeComfyui, priority: int = 1) -> BackendSettings:
    return BackendSettings(name=name, protocol="comfyui", url=fake.url, local=True, priority=priority)


@asynccontextmanager
async def served(system: System, *names: str) -> AsyncGenerator[list[FakeComfyui], None]:
    async with FakeComfyui() as first, FakeComfyui() as second:
        fakes = [first, second][: len(names)]
        yielded = [settings(name, fake, at + 1) for at, (name, fake) in enumerate(zip(names, fakes, strict=True))]
        async with system.serving(*yielded):
            yield fakes


def asked(fakes: list[FakeComfyui]) -> int:
    """Graphs that they were sent."""
    return sum(fake.calls for fake in fakes)


async def ended(system: System, job: str, graph: dict[str, Any], **fields: Any) -> Done:
    await system.submit(JobSubmit(id=job, graph=graph, **fields))
    return await system.done(job)


@pytest.mark.parametrize(
    ("name", "graph", "made"),
    [
        ("text", graph_of(n1={"class_type": "PreviewAny", "inputs": {"source": "a caption"}}), ""),
        ("webm", graph_of(n1=PICTURE, n2=saved("SaveWEBM", codec="vp9", fps=24.0, crf=32.0)), "video/webm"),
        (
            "webp",
            graph_of(n1=PICTURE, n2=saved("SaveAnimatedWEBP", fps=6.0, lossless=True, quality=80, method="default")),
            "image/webp",
        ),
        (
            "own-node",
            graph_of(n1=PICTURE, n2={"class_type": "Mine", "inputs": {"image": ["1", 0]}}, n3=saved("SaveImage", "2")),
            "image/png",
        ),
    ],
)
def test_a_server_without_a_model_runs_what_its_nodes_can(
    system: System, name: str, graph: dict[str, Any], made: str
) -> None:
    async def story() -> None:
        async with FakeComfyui() as fake:
            kept = ("LoadImage", "SaveImage", "SaveWEBM", "SaveAnimatedWEBP", "PreviewAny")
            fake.info = {kind: fake.info[kind] for kind in kept} | {"Mine": node({"image": ["IMAGE"]}, ("IMAGE",))}
            async with system.serving(settings(f"bare-{name}", fake)):
                done = await ended(system, f"bare-{name}", graph)
        assert done.ending == "succeeded", done.problem
        assert done.model == "graph"
        assert done.result is not None
        assert (done.result.text or "") == ("" if made else "a caption")
        assert [one.ref.media_type for one in done.result.artifacts] == ([made] if made else [])

    system.do(story())


def test_a_graph_is_booked_as_what_it_loads_and_goes_where_that_is(system: System) -> None:
    async def story() -> None:
        async with served(system, "booked-1", "booked-2") as fakes:
            done = await ended(system, "booked", drawn(XL))
            assert (done.ending, done.model) == ("succeeded", XL), done.problem
            named = {row.model for row in system.told(Decided, "booked")[0].ranking}
            assert named == {XL}
            before = asked(fakes)
            lost = await ended(system, "lost", drawn("gone.safetensors"))
            assert lost.ending == "failed", lost.problem
            assert lost.problem is not None
            assert "the model file gone.safetensors" in lost.problem.message
            assert OTHER not in lost.problem.message
            assert (lost.attempts, asked(fakes)) == ((), before)

    system.do(story())


def test_a_graph_that_makes_another_kind_is_nobodys_illness(system: System) -> None:
    async def story() -> None:
        async with served(system, "kind-1", "kind-2") as fakes:
            done = await ended(system, "kind", drawn(XL), asset="video")
            assert done.ending == "failed"
            assert done.problem is not None
            assert "not the video that was asked for" in done.problem.message
            assert asked(fakes) == 1

    system.do(story())


def test_pictures_of_what_is_made_are_seen(system: System) -> None:
    async def story() -> None:
        async with served(system, "seen") as (_,):
            assert (await ended(system, "seen", drawn(XL, steps=4))).ending == "succeeded"
            await system.until(lambda: any(one.preview for one in system.told(Progress, "seen")), "a picture")

    system.do(story())


@pytest.mark.parametrize("running", [True, False])
def test_who_stops_a_prompt_keeps_the_gpu(system: System, *, running: bool) -> None:
    job = f"stopped-{running}".lower()

    async def story() -> None:
        async with served(system, f"{job}-1", f"{job}-2") as (first, second), aiohttp.ClientSession() as person:
            (first.middle if running else first.gate).clear()
            await system.submit(JobSubmit(id=job, graph=drawn(XL)))
            await system.until(lambda: first.sampled if running else first.pending, "the prompt")
            mine = first.asked[0].prompt_id
            path, body = ("interrupt", {"prompt_id": mine}) if running else ("queue", {"delete": [mine]})
            await (await person.post(f"{first.url}/{path}", json=body)).read()
            done = await system.done(job)
            assert (done.ending, done.backend) == ("succeeded", f"{job}-2"), done.problem
            assert [one.outcome for one in system.told(Attempted, job)] == ["interrupted", "ok"]
            assert (first.calls, second.calls) == (1, 1)

    system.do(story())
