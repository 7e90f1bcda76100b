"""A real ComfyUI on the CPU, with graphs that need no checkpoint: `make live-local`. See `local`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.port import Answer, Artifact, Backend, BackendError, Call, Chunk, Item, Step
from tests.live import local

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 2, "color": 255}}


class Comfy:
    """A server that runs, and what a person does there beside us."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._count = 0

    def call(self, *nodes: tuple[str, dict[str, Any]]) -> Call:
        """A graph of a picture that nodes 2, 3, … are made of."""
        self._count += 1
        graph = {"1": EMPTY}
        for number, (name, inputs) in enumerate(nodes, 2):
            graph[str(number)] = {"class_type": name, "inputs": inputs}
        return Call(
            key=f"t/j-{time.time()}-{self._count}", model="graph", asset="image", messages=(), max_output_tokens=1,
            graph=graph,
        )  # fmt: skip

    def slow(self, steps: int) -> Call:
        # A length of its own: what has run before is not run again.
        self._count += 1
        inputs = {"image": ["1", 0], "steps": steps, "seconds": 0.1 + self._count / 10_000}
        return self.call(("TurnoutSlow", inputs), ("PreviewImage", {"images": ["2", 0]}))

    async def queue(self) -> tuple[list[str], list[str]]:
        async with aiohttp.ClientSession() as client, client.get(f"{self.url}/queue") as reply:
            told = await reply.json()
            return [one[1] for one in told["queue_running"]], [one[1] for one in told["queue_pending"]]

    async def tell(self, path: str, body: dict[str, Any]) -> None:
        async with aiohttp.ClientSession() as client, client.post(f"{self.url}/{path}", json=body) as reply:
            assert reply.status == 200

    async def until(self, true: Callable[[tuple[list[str], list[str]]], object]) -> tuple[list[str], list[str]]:
        while not true(queue := await self.queue()):  # noqa: ASYNC110  # It tells nobody.
            await asyncio.sleep(0.05)
        return queue


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    try:
        with local.comfyui(tmp_path_factory.mktemp("comfyui"), os.environ) as server:
            yield Comfy(server.url)
    except local.Missing as error:
        pytest.skip(str(error))


def test_it_is_well_and_runs_graphs_without_a_checkpoint(comfy: Comfy) -> None:
    async def main(backend: Backend) -> None:
        assert (await backend.health()).slots == 1
        assert [offer.model for offer in await backend.discover()] == ["graph"]

    with_backend(comfy, main)


@pytest.mark.parametrize(
    ("node", "inputs", "media_type"),
    [
        ("SaveImage", {"filename_prefix": "a/x"}, "image/png"),
        ("PreviewImage", {}, "image/png"),
        (
            "SaveAnimatedWEBP",
            {"filename_prefix": "x", "fps": 6.0, "lossless": True, "quality": 80, "method": "default"},
            "image/webp",
        ),
        ("SaveAnimatedPNG", {"filename_prefix": "x", "fps": 6.0, "compress_level": 4}, "image/png"),
        ("SaveWEBM", {"filename_prefix": "x", "codec": "vp9", "fps": 6.0, "crf": 32.0}, "video/webm"),
    ],
)
def test_what_nodes_make_comes(comfy: Comfy, node: str, inputs: dict[str, Any], media_type: str) -> None:
    async def main(backend: Backend) -> None:
        items = await all_of(backend, comfy.call((node, {"images": ["1", 0], **inputs})))
        made = [item for item in items if isinstance(item, Artifact)]
        assert {one.media_type for one in made} == {media_type}
        assert made
        assert isinstance(items[-1], Answer)
        if media_type.startswith("image/"):
            assert {(one.width, one.height) for one in made} == {(64, 48)}

    with_backend(comfy, main)


def test_a_film_and_a_text_come(comfy: Comfy) -> None:
    async def main(backend: Backend) -> None:
        saved = {"video": ["2", 0], "filename_prefix": "video/x", "format": "auto", "codec": "auto"}
        items = await all_of(
            backend, comfy.call(("CreateVideo", {"images": ["1", 0], "fps": 6.0}), ("SaveVideo", saved))
        )
        (film,) = (item for item in items if isinstance(item, Artifact))
        assert film.media_type == "video/mp4"
        items = await all_of(backend, comfy.call(("PreviewAny", {"source": ["1", 0]})))
        answer = items[-1]
        assert isinstance(answer, Answer)
        assert answer.text.startswith("tensor(")
        assert "".join(item.text for item in items if isinstance(item, Chunk)) == answer.text

    with_backend(comfy, main)


def test_steps_and_previews_come_while_it_works(comfy: Comfy) -> None:
    async def main(backend: Backend) -> None:
        steps = [item for item in await all_of(backend, comfy.slow(20)) if isinstance(item, Step)]
        assert sum(bool(step.preview) for step in steps) >= 2
        assert all(step.preview.startswith(b"\xff\xd8") for step in steps if step.preview)
        shares = [step.share for step in steps if step.share is not None]
        assert shares == sorted(shares)
        assert any("step" in step.text for step in steps)

    with_backend(comfy, main)


@pytest.mark.parametrize(
    ("nodes", "kind", "words"),
    [
        ([("TurnoutFails", {"image": ["1", 0], "kind": "ValueError"})], "bad_request", "made to fail"),
        ([("TurnoutFails", {"image": ["1", 0], "kind": "RuntimeError"})], "server_error", "made to fail"),
        ([("TurnoutFails", {"image": ["1", 0], "kind": "memory"})], "server_error", "out of GPU memory"),
        ([("TurnoutFails", {"image": ["1", 0], "kind": "other"})], "unknown_model", "'other' not in"),
        ([("NoSuchNode", {"image": ["1", 0]})], "unknown_model", "NoSuchNode"),
        ([("CheckpointLoaderSimple", {"ckpt_name": "none.safetensors"})], "unknown_model", "none.safetensors"),
        ([("ImageScale", {"image": ["1", 0]})], "bad_request", "required_input_missing"),
    ],
)
def test_what_fails_is_named(comfy: Comfy, nodes: list[tuple[str, dict[str, Any]]], kind: str, words: str) -> None:
    async def main(backend: Backend) -> None:
        at = 2 if nodes[0][0] == "CheckpointLoaderSimple" else 0
        shown = ("VAEDecode", {"samples": ["1", 0], "vae": ["2", at]}) if at else ("PreviewImage", {"images": ["2", 0]})
        with pytest.raises(BackendError) as caught:
            await all_of(backend, comfy.call(*nodes, shown, *([("PreviewImage", {"images": ["3", 0]})] if at else [])))
        assert caught.value.kind == kind, caught.value.message
        assert words in caught.value.message
        assert isinstance((await all_of(backend, comfy.call(("PreviewAny", {"source": ["1", 0]}))))[-1], Answer)

    with_backend(comfy, main)


def test_a_persons_interrupt_and_deletion_are_noticed_as_such(comfy: Comfy) -> None:
    async def main(backend: Backend) -> None:
        stopped = asyncio.create_task(failure_of(backend, comfy.slow(300)))
        await comfy.until(lambda queue: queue[0])
        await comfy.tell("interrupt", {})
        assert (await stopped).kind == "interrupted"
        first = asyncio.create_task(failure_of(backend, comfy.slow(300)))
        await comfy.until(lambda queue: queue[0])
        second = asyncio.create_task(failure_of(backend, comfy.slow(300)))
        _, (waiting,) = await comfy.until(lambda queue: queue[1])
        await comfy.tell("queue", {"delete": [waiting]})
        assert (await second).kind == "interrupted"
        assert not first.done()
        await comfy.tell("interrupt", {})
        assert (await first).kind == "interrupted"

    with_backend(comfy, main)


def test_what_nobody_waits_for_is_stopped(comfy: Comfy) -> None:
    async def main(backend: Backend) -> None:
        tasks: list[asyncio.Task[list[Item]]] = []
        for number in range(2):  # One runs, one waits.
            tasks.append(asyncio.create_task(all_of(backend, comfy.slow(1000))))
            await comfy.until(lambda queue, number=number: queue[number])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await comfy.until(lambda queue: queue == ([], []))

    with_backend(comfy, main)


def test_a_repeated_run_takes_up_what_the_first_one_submitted(comfy: Comfy) -> None:
    async def main(backend: Backend) -> None:
        call = comfy.slow(15)
        dead = open_backend("comfyui", comfy.url, api_key=None, now=time.time)
        items = dead.run(call)
        while not (isinstance(item := await anext(items), Step) and item.stage == "working"):
            pass
        again = await all_of(backend, call)  # As the next process would: the first one can say no word any more.
        assert isinstance(again[-1], Answer)
        assert await comfy.queue() == ([], []), "nothing was submitted twice"
        await items.aclose()  # type: ignore[attr-defined]
        await dead.close()

    with_backend(comfy, main)


def with_backend(comfy: Comfy, work: Callable[[Backend], Awaitable[None]]) -> None:
    async def main() -> None:
        backend = open_backend("comfyui", comfy.url, api_key=None, now=time.time)
        try:
            await work(backend)
        finally:
            await backend.close()

    asyncio.run(main())


async def all_of(backend: Backend, call: Call) -> list[Item]:
    items: list[Item] = []
    async for item in backend.run(call):
        items.append(item)
        if isinstance(item, Artifact):
            assert item.file.read()
            item.file.close()
    return items


async def failure_of(backend: Backend, call: Call) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    return caught.value
