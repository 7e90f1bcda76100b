"""Calls to Wan2GP through its MCP server: `python wgp.py --mcp --mcp-transport streamable-http`. It makes one thing at a time.

Wan2GP is free for one's own use under the WanGP Community License; offering it to others for money needs another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.address import http_address
from actors.executor.backends.artifacts import artifact_of, collected, handed, kept
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.files import File
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.kinds import Kind
from actors.executor.backends.mcp import Mcp, ToolError
from actors.executor.backends.parting import Parting
from actors.executor.backends.patience import patiently
from actors.executor.backends.port import Answer, Artifact, BackendError, Call, Item, Offer, Remark, Step, Usage, Vitals
from actors.executor.backends.sniff import ENDINGS
from actors.executor.backends.wan2gp_form import failure_of, models_in, step_in, tool_failure
from actors.executor.backends.wire import Wire
from actors.executor.recipes.choosing import capabilities_of, chosen, filled, known, seed_for
from actors.executor.recipes.fitting import Fitted, matches
from actors.executor.recipes.loading import Collected

_PAGE: Final = 10
"""Models that one call of the tool lists at most."""
_PAGES: Final = 50
_IDS: Final = ("gallery_id", "media_id")
"""How a file of the gallery is called, by the server's age."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    poll_seconds: float = 1.0
    """How often a job is asked about; above 0, at most 600."""
    recipes: tuple[str, ...] = ()
    """Folders with recipes of one's own."""

    def __post_init__(self) -> None:
        """Check what an operator wrote."""
        if not 0 < self.poll_seconds <= 600:
            raise ValueError(f"poll_seconds: {self.poll_seconds!r} must be above 0 and at most 600")


class Wan2gpBackend:
    """A Wan2GP that serves MCP."""

    tells_begun = True

    def __init__(self, wire: Wire, options: Options, with_recipes: Collected) -> None:
        self._wire, self._poll_seconds = wire, options.poll_seconds
        self._recipes, self._faults = with_recipes.recipes, with_recipes.faults
        self._mcp = Mcp(wire)
        self._parting = Parting()

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield how far it is, then the files, then the answer."""
        seed = seed_for(call)
        source = await self._source(call, seed)
        given = await self._parting.begin(lambda: self._begun(source), self._cancel)
        begun, ended = given, False
        try:
            step, before = Step(stage="queued"), None
            while not given.get("done"):
                step = step_in(given, step)
                said = (step, given.get("updated_at"))  # Whatever it tells of the job, it is at work on it.
                if said != before:
                    before = said
                    yield step
                await asyncio.sleep(self._poll_seconds)
                given = await self._look(begun)
            ended = True
        finally:
            if not ended:
                await self._parting.say(lambda: self._cancel(begun))
        result = as_object(given.get("result")) or {}
        if not result.get("success"):
            raise failure_of(result, self._wire.name)
        files, remarks = await self._files(result)
        with handed(files) as made:
            for artifact in made:
                yield artifact
        yield Answer(text="", finish_reason="stop", model=call.model, usage=Usage(), seed=seed, remarks=remarks)

    async def health(self) -> Vitals:
        """How it is, when its MCP server answers. It tells nothing of its queue or its memory."""
        await self._mcp.ask("ping")
        return Vitals(slots=1, notes=self._faults)

    async def discover(self) -> tuple[Offer, ...]:
        """The models that some recipe is for and whose files are there; what would first be downloaded is left out."""
        offers: list[Offer] = []
        seen: set[str] = set()
        for page in range(_PAGES):
            found = models_in(await self._tool("wangp_list_models", {"limit": _PAGE, "offset": page * _PAGE}))
            new = [model for model in dict.fromkeys(found) if model not in seen]
            seen.update(new)
            for model in new:
                fitting = [recipe for recipe in self._recipes if matches(model, recipe.models)]
                if fitting and await self._available(model):
                    made = {capability for recipe in fitting for capability in capabilities_of(recipe)}
                    offers.append(Offer(model=model, capabilities=tuple(sorted(made))))
            if len(found) < _PAGE or not new:  # Older servers list all at once, or the same again.
                break
        return tuple(offers)

    async def close(self) -> None:
        """Close all connections."""
        await self._parting.settled()
        await self._wire.close()

    async def _begun(self, source: Mapping[str, Any]) -> dict[str, Any]:
        given = await self._tool("wangp_generate", {"source": source, "wait": False})
        if not isinstance(given.get("job_id"), str) or not given["job_id"]:
            raise BackendError("invalid_structure", f"{self._wire.name}: the answer names no job", status=200)
        return given

    async def _look(self, begun: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await patiently(
                lambda: self._mcp.call("wangp_get_job", _job(begun)), self._poll_seconds, volatile=True
            )
        except ToolError as error:
            raise tool_failure("wangp_get_job", str(error), self._wire.name) from error

    async def _cancel(self, begun: Mapping[str, Any]) -> None:
        await self._tool("wangp_cancel_job", _job(begun))

    async def _available(self, model: str) -> bool:
        said = await self._tool("wangp_get_model_availability", {"model_type": model})
        return said.get("availability", said.get("status")) == "available"

    async def _source(self, call: Call, seed: int) -> dict[str, Any]:
        recipe = chosen([one for one in self._recipes if matches(call.model, one.models)], call, self._wire.name)
        files = {one.name: await self._upload(one.name, one.media_type, one.data) for one in call.inputs}
        loras = await self._loras(call) if call.media.loras else ()
        return filled(Fitted(recipe=recipe, models=(call.model,), loras=loras), call, seed=seed, files=files)

    async def _loras(self, call: Call) -> tuple[str, ...]:
        return tuple(models_in(await self._tool("wangp_list_loras", {"model_type": call.model}), "loras"))

    async def _upload(self, name: str, media_type: str, data: bytes) -> str:
        """The gallery's id of a file."""
        ending = ENDINGS.get(media_type, f".{media_type.rpartition('/')[2]}")
        given = await self._tool("wangp_create_gallery_upload", {"filename": f"{name}{ending}"})
        async with self._wire.exchange("PUT", self._url(given), content=data) as reply:
            answered = await reply.read_all()
        try:
            said = as_object(value_of(answered)) or {}
        except NotJson:
            said = {}  # The id may have come before.
        found = next((one[key] for one in (said, given) for key in _IDS if one.get(key)), None)
        if not isinstance(found, str):
            raise BackendError("invalid_structure", f"{self._wire.name}: an upload got no id", status=200)
        return found

    async def _files(self, result: Mapping[str, Any]) -> tuple[list[Artifact], tuple[Remark, ...]]:
        """The files of a gallery; one that can't be had is left out and told, if there are others. Raises BackendError."""
        given: Any = result.get("gallery_items")
        items = [as_object(item) or {} for item in cast("list[Any]", given)] if isinstance(given, list) else []

        async def fetch(numbered: tuple[int, dict[str, Any]]) -> Artifact:
            number, item = numbered
            file, told = await patiently(partial(self._file, item), self._poll_seconds)
            return artifact_of(file, str(item.get("filename") or f"wan2gp-{number}"), told)

        with collected() as made:
            nothing = f"{self._wire.name}: it ended well and made no file"
            return made, await kept(enumerate(items), fetch, made, nothing)

    async def _file(self, item: Mapping[str, Any]) -> tuple[File, str]:
        """A file of the gallery and its media type; its address holds once."""
        key = next((key for key in _IDS if item.get(key)), _IDS[0])
        given = await self._tool("wangp_create_gallery_download", {key: item.get(key)})
        return await self._wire.download(self._url(given))

    def _url(self, given: Mapping[str, Any]) -> str:
        """An address that a tool gave: below the server's own where it is relative."""
        url: Any = given.get("url") or given.get("upload_url") or given.get("download_url")
        if not isinstance(url, str) or not url:
            raise BackendError("invalid_structure", f"{self._wire.name}: a tool gave no address for a file", status=200)
        return url.lstrip("/")

    async def _tool(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._mcp.call(name, arguments)
        except ToolError as error:
            raise tool_failure(name, str(error), self._wire.name) from error


def _job(begun: Mapping[str, Any]) -> dict[str, Any]:
    return {"job_id": begun["job_id"]}


def _address(url: str) -> str:
    """The server's root; `/mcp` is taken off. Raises ValueError naming the field and the value."""
    parts = http_address(url)
    return parts._replace(path=parts.path.removesuffix("/mcp")).geturl()


def _open(connection: Connection, options: Options) -> Wan2gpBackend:
    return Wan2gpBackend(Wire(connection), options, known("wan2gp", options.recipes))


async def _recognise(wire: Wire) -> str | None:
    """Its tools bear its name."""
    listed: Any = (await Mcp(wire).ask("tools/list")).get("tools")
    tools = [as_object(tool) or {} for tool in cast("list[Any]", listed)] if isinstance(listed, list) else []
    return "" if any(tool.get("name") == "wangp_generate" for tool in tools) else None


KIND: Final = Kind(
    name="wan2gp",
    title="Wan2GP",
    open=_open,
    address=_address,
    options=Options,
    recognise=_recognise,
    ports=(7866,),
    slots=1,
)
