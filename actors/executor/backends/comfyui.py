"""Calls to ComfyUI: recipes, or a job's own graph, run as prompts; see `comfyui_prompt` for how one is followed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from actors.executor.backends.address import http_address
from actors.executor.backends.artifacts import artifact_of
from actors.executor.backends.comfyui_files import gpu_seconds, outputs_of, texts_of
from actors.executor.backends.comfyui_offers import choice, device_of, mb, offers_of, packed_of, with_files
from actors.executor.backends.comfyui_prompt import Prompt
from actors.executor.backends.comfyui_queue import queue, queue_remaining, remove
from actors.executor.backends.comfyui_transfer import artifact, upload
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.files import File
from actors.executor.backends.kinds import Kind
from actors.executor.backends.parting import Parting
from actors.executor.backends.port import (
    Answer,
    BackendError,
    Call,
    Chunk,
    Item,
    Offer,
    Remark,
    Step,
    TookUp,
    Usage,
    Vitals,
)
from actors.executor.backends.wire import MEDIA_ANSWER_LIMIT, Wire
from actors.executor.recipes.choosing import known, seed_for
from actors.executor.recipes.filling import Missing, Unfit, fill
from actors.executor.recipes.fitting import Fitted, fit
from actors.executor.recipes.loading import Collected
from actors.executor.recipes.nodes import classes_of
from actors.executor.recipes.recipe import Literals
from actors.graph_names import GRAPH

_BROKEN: Final = frozenset({"connection_error", "cut_stream", "timeout"})
LOOK_SECONDS: Final = 15.0
"""A call that no recipe suits has the server looked at again, at most so often."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    recipes: tuple[str, ...] = ()
    """Folders with recipes of one's own; a later one replaces an earlier one, or ours, of the same name."""
    previews: bool = True
    """Ask for small pictures of what is being made."""
    reconnect_seconds: float = 5.0
    """How long a server may be gone in the middle of a prompt before the attempt has failed."""

    def __post_init__(self) -> None:
        """Check what an operator wrote."""
        if not 0 <= self.reconnect_seconds <= 3600:
            raise ValueError(f"reconnect_seconds: {self.reconnect_seconds} must be 0 to 3600")


class _Task(msgspec.Struct, frozen=True):
    """What a call comes to."""

    graph: dict[str, Any]
    values: dict[str, Literals]
    """What the recipe's fields got; empty for a graph of the job's own."""
    seed: int | None


class ComfyBackend:
    """A backend at the root URL of a ComfyUI server."""

    tells_begun = True

    def __init__(self, wire: Wire, with_recipes: Collected, options: Options) -> None:
        self._wire = wire
        self._recipes, self._faults = with_recipes.recipes, with_recipes.faults
        self._options = options
        self._fitted: tuple[Fitted, ...] | None = None
        self._has = ""
        self._looked = 0.0
        self._looking = asyncio.Lock()
        self._loaded: tuple[str, ...] | None = None  # As far as our own calls tell.
        self._following = 0
        self._parting = Parting()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why recipes can't run here, a sentence each, as of the last discovery."""
        unfit = (f"recipe {one.recipe.name!r}: {problem}" for one in self._fitted or () for problem in one.problems)
        return (*self._faults, *unfit)

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield steps, the files that were made, and the answer.

        What an earlier call of the job left here is gone on with where it asks for the same, and stopped otherwise.
        """
        if not call.key:
            call = msgspec.structs.replace(call, key=secrets.token_hex(16))
        task = await self._task(call)
        options = self._options
        prompt = Prompt(
            self._wire, self._parting, call.key, task.graph, previews=options.previews,
            reconnect_seconds=options.reconnect_seconds,
        )  # fmt: skip
        if call.earlier and (found := await prompt.find(call.earlier)):
            yield TookUp(found)
        if prompt.entry is None:
            async with contextlib.aclosing(self._followed(prompt)) as steps:
                async for step in steps:
                    yield step
            # What a graph of the job's own has loaded is not known.
            self._loaded = (call.model,) if "model" in task.values else None
        entry = prompt.entry or {}
        outputs, texts = outputs_of(entry), texts_of(entry)
        sent = () if outputs else prompt.progress.pictures
        if not outputs and not texts and not sent:
            raise BackendError("empty", f"{self._wire.name}: the prompt ended well and made no file", status=200)
        for number, data in enumerate(sent, 1):
            yield artifact_of(File(data), f"image-{number}")
        failed: list[BackendError] = []
        for output in outputs:
            try:
                file = await artifact(self._wire, output, task.values)
            except BackendError as error:
                if error.kind in _BROKEN:  # Asked again, the server has them still.
                    raise
                failed.append(error)
                continue
            yield file
        if failed and len(failed) == len(outputs):
            raise failed[-1]
        text = "\n".join(texts)
        if text:
            yield Chunk(text=text)
        yield Answer(
            text=text,
            finish_reason="stop",
            model=call.model,
            usage=Usage(gpu_seconds=gpu_seconds(entry)),
            seed=task.seed,
            remarks=tuple(Remark("count", f"a file was left out: {error.message}") for error in failed),
        )

    async def health(self) -> Vitals:
        """How it is, when it tells its state and its queue."""
        try:
            stats = as_object(await self._wire.fetch("system_stats"))
            remaining = await queue_remaining(self._wire)
        except BackendError:
            self._loaded = None  # It may have been restarted.
            raise
        if stats is None or "system" not in stats:
            raise BackendError("invalid_structure", f"{self._wire.base_url}/system_stats: no system", status=200)
        if remaining > self._following:
            self._loaded = None  # Somebody else's prompt may load something else.
        system = as_object(stats.get("system")) or {}
        device = device_of(stats)
        return Vitals(
            version=str(system.get("comfyui_version") or ""),
            waiting=max(0, remaining - 1),
            running=min(1, remaining),
            slots=1,
            loaded=self._loaded,
            vram_total_mb=mb(device.get("vram_total")),
            vram_free_mb=mb(device.get("vram_free")),
            notes=self.problems,
        )

    async def discover(self) -> tuple[Offer, ...]:
        """The models that some recipe can run here, and one that stands for any graph of a job's own. Raises BackendError."""
        return offers_of(await self._look(), self._loaded, self._has)

    async def load(self, model: str) -> None:
        """Make room for the model: it is loaded by the first call to it, which ComfyUI gives no other way to do."""
        if model != GRAPH and self._loaded != (model,):
            await self._free()

    async def unload(self, model: str) -> None:
        """Free the GPU's memory, as soon as the server is idle."""
        if self._loaded is None or model in self._loaded:
            await self._free()

    async def left(self) -> tuple[str, ...]:
        """The keys of the calls that run or wait here, of this process and of others. Raises BackendError."""
        running, pending = await queue(self._wire)
        return tuple(one.mark.key for one in (*running, *pending) if one.mark is not None)

    async def stop(self, key: str) -> None:
        """Stop a call, or take it out of the queue. Raises BackendError."""
        await remove(self._wire, lambda one: one.mark is not None and one.mark.key == key)

    async def close(self) -> None:
        """Close all connections, after what is being stopped has been stopped."""
        await self._parting.settled()
        await self._wire.close()

    async def _free(self) -> None:
        body = {"unload_models": True, "free_memory": True}
        async with self._wire.exchange("POST", "free", body) as reply:
            await reply.read_all()
        self._loaded = ()

    async def _look(self) -> tuple[Fitted, ...]:
        """The recipes against what the server has now."""
        info = as_object(await self._wire.fetch("object_info", limit=MEDIA_ANSWER_LIMIT))
        if info is None:
            raise BackendError("invalid_structure", f"{self._wire.base_url}/object_info: no node classes", status=200)
        classes = classes_of(info)
        self._looked = asyncio.get_running_loop().time()
        self._has = packed_of(classes)
        self._fitted = tuple(fit(recipe, classes) for recipe in self._recipes)
        return self._fitted

    async def _task(self, call: Call) -> _Task:
        """The graph to run. Raises BackendError when the call can't be run here."""
        if call.graph is not None:
            names = {file.name: await upload(self._wire, file) for file in call.inputs}
            return _Task(with_files(call.graph, names), {}, call.seed)
        async with self._looking:
            fitted = self._fitted if self._fitted is not None else await self._look()
            try:
                one = choice(fitted, call)
            except BackendError:
                if asyncio.get_running_loop().time() - self._looked < LOOK_SECONDS:
                    raise
                one = choice(await self._look(), call)  # Somebody may have put a file there since.
        seed = seed_for(call)
        try:
            fill(one, call, seed=seed, files={file.name: file.name for file in call.inputs})  # Before anything is sent.
            names = {file.name: await upload(self._wire, file) for file in call.inputs}
            filled = fill(one, call, seed=seed, files=names)
        except Missing as error:
            raise BackendError("bad_request", str(error)) from None
        except Unfit as error:
            raise BackendError("unknown_model", str(error)) from None
        return _Task(filled.body, filled.values, seed if "seed" in filled.values else None)

    async def _followed(self, prompt: Prompt) -> AsyncGenerator[Step, None]:
        """The prompt's steps. It is stopped when nobody waits for them any more, or when its connection is no use."""
        self._following += 1
        try:
            async with contextlib.aclosing(prompt.follow()) as steps:
                async for step in steps:
                    yield step
        finally:
            self._following -= 1
            if prompt.sent and prompt.entry is None and prompt.progress.failure is None:
                await self._parting.say(prompt.cancel)


async def recognise(wire: Wire) -> str | None:
    """ComfyUI's version, if it is one."""
    stats = as_object(await wire.fetch("system_stats"))
    system = as_object((stats or {}).get("system"))
    if system is None or "devices" not in (stats or {}):
        return None
    return str(system.get("comfyui_version") or "")


def address(url: str) -> str:
    """The root URL of a ComfyUI server; `/api` is taken off. Raises ValueError naming the field and the value."""
    parts = http_address(url)
    return parts._replace(path=parts.path.removesuffix("/api")).geturl()


def _open(connection: Connection, options: Options) -> ComfyBackend:
    return ComfyBackend(Wire(connection), known("comfyui", options.recipes), options)


KIND: Final = Kind(
    name="comfyui", title="ComfyUI", open=_open, address=address, options=Options, recognise=recognise, ports=(8188,),
    slots=1, graphs=True,
)  # fmt: skip
