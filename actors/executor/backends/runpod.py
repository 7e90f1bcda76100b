"""Calls to RunPod's serverless endpoints: a job is put into the endpoint's queue, and asked about until it has ended.

Workers differ in what they take and give: those of vLLM speak OpenAI beside the queue, worker-comfyui takes graphs, a handler
of one's own whatever it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from actors.executor.backends import runpod_form
from actors.executor.backends.address import http_address
from actors.executor.backends.artifacts import artifact_of, collected, handed, kept
from actors.executor.backends.completion import count
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_list, as_object
from actors.executor.backends.files import File
from actors.executor.backends.kinds import Kind, kind, open_kind
from actors.executor.backends.parting import Parting
from actors.executor.backends.patience import patiently
from actors.executor.backends.port import (
    Artifact,
    Backend,
    BackendError,
    Call,
    Chunk,
    Item,
    Offer,
    Remark,
    Stage,
    Step,
    Vitals,
    remarked,
)
from actors.executor.backends.runpod_vllm import VllmWorker
from actors.executor.backends.wire import MEDIA_ANSWER_LIMIT, Wire
from actors.executor.recipes.choosing import capabilities_of, chosen, filled, known, seed_for
from actors.executor.recipes.fitting import Fitted
from actors.executor.recipes.loading import Collected
from actors.graph_names import GRAPH

NO_RECIPES: Final = Collected((), ())
Worker = Literal["vllm", "comfyui", "handler"]
"""What runs on the endpoint: vLLM's worker, worker-comfyui, or a handler of one's own."""

_RUN_BYTES: Final = 10 * 1000 * 1000
"""RunPod's limit for what `/run` is sent."""
_SOON_SECONDS: Final = 0.2
"""After so long a job is asked about while it is young, or writes."""
_STAGES: Final[Mapping[str, Stage]] = {"IN_QUEUE": "queued", "IN_PROGRESS": "working", "RUNNING": "working"}


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    worker: Worker = "vllm"
    poll_seconds: float = 1.0
    """How often a job is asked about, above 0, at most 600; the first times sooner."""
    longest_seconds: float = 0.0
    """The endpoint ends a job that runs longer than this; 0: as it is set up."""
    low_priority: bool = False
    """Jobs never start a worker of their own."""
    recipes: tuple[str, ...] = ()
    """Folders with recipes of one's own, for worker-comfyui."""

    def __post_init__(self) -> None:
        """Check what an operator wrote."""
        if not 0 < self.poll_seconds <= 600:
            raise ValueError(f"poll_seconds: {self.poll_seconds!r} must be above 0 and at most 600")
        if not 0 <= self.longest_seconds < math.inf:
            raise ValueError(f"longest_seconds: {self.longest_seconds!r} must be 0 or more")


class RunpodBackend:
    """An endpoint's queue."""

    tells_begun = True

    def __init__(self, wire: Wire, options: Options, with_recipes: Collected = NO_RECIPES) -> None:
        self._wire, self._options = wire, options
        self._recipes, self._faults = with_recipes.recipes, with_recipes.faults
        self._endpoint = wire.base_url.rpartition("/")[2]
        self._parting = Parting()

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield what the worker tells while it works, then its files, then the answer."""
        request = self._request(call)
        job = await self._parting.begin(lambda: self._begun(request), self._cancel)
        ended = False
        texts: list[str] = []
        fields: dict[str, Any] = {}
        try:
            async with contextlib.aclosing(self._asking(job, streamed=call.asset == "text")) as asking:
                async for stage, fields in asking:
                    for piece in as_list(fields.get("stream")):
                        text = runpod_form.text_in((as_object(piece) or {}).get("output"))
                        if text:
                            texts.append(text)
                            yield Chunk(text=text)
                    if stage is not None:
                        yield Step(stage=stage)
            ended = True
            if fields.get("status") != "COMPLETED":
                raise runpod_form.failure_of(fields)
            files, remarks = [], ()
            if call.asset not in ("text", "embedding"):
                files, remarks = await self._files(fields.get("output"))
            with handed(files) as made:
                for artifact in made:
                    yield artifact
            answer, rest = runpod_form.answer_of(call, fields, "".join(texts))
            if rest:
                yield Chunk(text=rest)
        except BackendError as error:
            error.partial = error.partial or "".join(texts)
            error.usage = error.usage or runpod_form.used(fields)
            raise
        finally:
            if not ended:
                await self._parting.say(lambda: self._cancel(job))
        yield remarked(msgspec.structs.replace(answer, seed=self._seed(call)), *remarks)

    async def health(self) -> Vitals:
        """How it is: its workers and its queue. Raises BackendError when no worker can be had, or all are broken."""
        fields = as_object(await self._wire.fetch("health")) or {}
        jobs, workers = as_object(fields.get("jobs")), as_object(fields.get("workers"))
        if jobs is None or workers is None:
            raise BackendError("invalid_structure", f"{self._wire.name}/health: no jobs and workers", status=200)

        def number(of: Mapping[str, Any], name: str) -> int:
            return count(of.get(name)) or 0

        usable = sum(number(workers, name) for name in ("idle", "ready", "running"))
        coming = number(workers, "initializing")
        if not usable and not coming and number(workers, "unhealthy"):
            raise BackendError(
                "server_error", f"{self._wire.name}: its workers are unhealthy: look at the image", status=200
            )
        if not usable and not coming and number(workers, "throttled"):
            raise BackendError("overloaded", f"{self._wire.name}: no worker can be had where it runs", status=200)
        return Vitals(
            waiting=number(jobs, "inQueue"), running=number(jobs, "inProgress"), cold=not usable, notes=self._faults
        )

    async def discover(self) -> tuple[Offer, ...]:
        """What the worker makes, under the endpoint's own name: RunPod does not tell which model it holds."""
        if self._options.worker == "handler":
            return (Offer(model=self._endpoint, capabilities=("text", "json")),)
        # Where LoRAs go into a graph is told by the server's node classes, which nobody can ask for.
        made = {one for recipe in self._recipes for one in capabilities_of(recipe)} - {"lora"}
        return (Offer(model=self._endpoint, capabilities=tuple(sorted({*made, GRAPH}))),)

    async def close(self) -> None:
        """Close all connections."""
        await self._parting.settled()
        await self._wire.close()

    async def _begun(self, request: Mapping[str, Any]) -> str:
        job = (as_object(await self._wire.fetch("run", request)) or {}).get("id")
        if not isinstance(job, str) or not job:
            raise BackendError("invalid_structure", f"{self._wire.name}: the answer names no job", status=200)
        return quote(job, safe="")

    async def _cancel(self, job: str) -> None:
        await self._wire.fetch(f"cancel/{job}", {})

    def _request(self, call: Call) -> dict[str, Any]:
        if self._options.worker == "comfyui":
            given = runpod_form.comfy_input(self._graph(call), call)
        else:
            given = runpod_form.handler_input(call)
        policy: dict[str, Any] = {}
        if self._options.longest_seconds:
            policy["executionTimeout"] = round(self._options.longest_seconds * 1000)
        if self._options.low_priority:
            policy["lowPriority"] = True
        request: dict[str, Any] = {"input": given, **({"policy": policy} if policy else {})}
        if call.inputs and len(msgspec.json.encode(request)) > _RUN_BYTES:
            message = f"{self._wire.name}: RunPod takes jobs of at most {_RUN_BYTES} bytes, files included"
            raise BackendError("unknown_model", message)
        return request

    def _graph(self, call: Call) -> Mapping[str, Any]:
        """The job's own graph, or a recipe's. What the worker has cannot be asked, so a recipe's own files are named, and no
        LoRAs are put in. Raises BackendError.
        """
        if call.graph is not None:
            return call.graph
        if call.media.loras:
            raise BackendError("unknown_model", f"{self._wire.name}: LoRAs can't be put into a graph there")
        recipe = chosen(self._recipes, call, self._wire.name)
        if call.model == self._endpoint:  # No file's name: the recipe's own model.
            call = msgspec.structs.replace(call, model="")
        files = {one.name: one.name for one in call.inputs}
        return filled(Fitted(recipe=recipe), call, seed=seed_for(call), files=files)

    def _seed(self, call: Call) -> int | None:
        """The seed that the recipe got; None: it is the handler's, or stands in the job's own graph."""
        if self._options.worker != "comfyui" or call.graph is not None:
            return None
        return seed_for(call) if "seed" in chosen(self._recipes, call, self._wire.name).fields else None

    async def _asking(self, job: str, *, streamed: bool) -> AsyncGenerator[tuple[Stage | None, dict[str, Any]], None]:
        """What is said of the job, time and again, until it has ended: with a stage where that is a sign of life. A job in the
        queue shows none: perhaps nobody will ever take it.
        """
        soon = min(_SOON_SECONDS, self._options.poll_seconds)
        pause, before, path = soon, "", "stream" if streamed else "status"
        while True:
            fields = await self._look(f"{path}/{job}", pause, once=streamed)
            status, pieces = str(fields.get("status")), bool(fields.get("stream"))
            if status in runpod_form.FINAL and not pieces:
                break
            stage = _STAGES.get(status)
            yield (stage if status != before or (stage == "working" and not pieces) else None), fields
            before = status
            await asyncio.sleep(soon if pieces else pause)
            pause = soon if pieces else min(pause * 1.5, self._options.poll_seconds)
        yield None, (await self._look(f"status/{job}", pause) if streamed else fields)

    async def _look(self, path: str, pause: float, *, once: bool = False) -> dict[str, Any]:
        async def ask() -> object:
            return await self._wire.fetch(path, limit=MEDIA_ANSWER_LIMIT)

        try:
            fields = as_object(await patiently(ask, pause, once=once))  # Pieces of a stream are told once.
        except BackendError as error:
            if error.kind == "unknown_model":  # 404: it was accepted, so it is the job that is gone.
                raise BackendError(
                    "server_error", "the endpoint no longer knows the job", status=error.status
                ) from error
            raise
        if fields is None or "status" not in fields:
            raise BackendError("invalid_structure", f"{self._wire.name}/{path}: no status", status=200)
        return fields

    async def _files(self, output: object) -> tuple[list[Artifact], tuple[Remark, ...]]:
        """The files of an output; one that can't be had is left out and told, if there are others. Raises BackendError."""
        with collected() as made:
            return made, await kept(runpod_form.files_in(output), self._file, made, "the worker made no file")

    async def _file(self, one: runpod_form.Made) -> Artifact:
        if one.fault:
            raise BackendError("invalid_structure", one.fault, status=200)
        file = (await patiently(partial(self._wire.download, one.url), 1.0))[0] if one.url else File(one.data)
        return artifact_of(file, one.name)


def _address(url: str) -> str:
    """The endpoint's URL. Raises ValueError naming the field and the value."""
    parts = http_address(url)
    path = parts.path.removesuffix("/openai/v1")
    if not path.strip("/"):
        raise ValueError(f"url: {url!r} names no endpoint: use https://api.runpod.ai/v2/<endpoint id>")
    return parts._replace(path=path).geturl()


def _open(connection: Connection, options: Options) -> Backend:
    given = known("comfyui", options.recipes) if options.worker == "comfyui" else NO_RECIPES
    queue = RunpodBackend(Wire(connection), options, given)
    if options.worker != "vllm":
        return queue
    beside = msgspec.structs.replace(connection, url=f"{connection.url}/openai/v1", options={})
    return VllmWorker(open_kind(kind("openai"), beside), queue)


async def _recognise(wire: Wire) -> str | None:
    """Its health tells of jobs and workers."""
    fields = as_object(await wire.fetch("health")) or {}
    return "" if as_object(fields.get("jobs")) is not None and as_object(fields.get("workers")) is not None else None


KIND: Final = Kind(
    name="runpod",
    title="a RunPod serverless endpoint",
    graphs=True,
    open=_open,
    address=_address,
    options=Options,
    recognise=_recognise,
    key_variables=("RUNPOD_API_KEY",),
    provider="runpod",
)
