"""Calls to Ollama by its own protocol: the only way there to set the size of the context per request."""

import contextlib
import re
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.address import ollama_address
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.kinds import Kind
from actors.executor.backends.ollama_form import (
    ChatFold,
    embed_body,
    embedded,
    is_cloud,
    names_of,
    offer_of,
    request_body,
)
from actors.executor.backends.openai_stream import items
from actors.executor.backends.port import BackendError, Call, Item, Offer, Vitals
from actors.executor.backends.wire import Wire

_SECONDS: Final = re.compile(r"-?\d+")
_DURATION: Final = re.compile(r"-?(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+")


class OllamaBackend:
    """A backend at the root URL of an Ollama server."""

    tells_begun = True

    def __init__(self, wire: Wire, *, keep_alive: str | int = "") -> None:
        self._wire = wire
        self._keep_alive = keep_alive
        self._shown: dict[str, dict[str, Any]] = {}
        """What `/api/show` said, by model and digest: it takes long, and does not change."""

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the chunks, then the answer."""
        if call.asset == "embedding":
            fields = as_object(await self._wire.fetch("api/embed", embed_body(call, self._keep_alive)))
            yield embedded(fields or {}, call)
            return
        fold = ChatFold(call.model, secrets=self._wire.secrets)
        async with (
            self._wire.exchange("POST", "api/chat", request_body(call, self._keep_alive)) as reply,
            contextlib.aclosing(items(reply, fold, self._wire.secrets, lines=True)) as parts,
        ):
            async for part in parts:
                yield part

    async def health(self) -> Vitals:
        """How it is: its version, and what is in memory. There is no queue to ask for."""
        version = await _version(self._wire)
        if version is None:
            raise BackendError("invalid_structure", f"{self._wire.name}/api/version: no version", status=200)
        loaded = [names[0] for card in await self._cards("api/ps") if (names := names_of(card))]
        return Vitals(version=version, loaded=tuple(dict.fromkeys(loaded)))

    async def discover(self) -> tuple[Offer, ...]:
        """The models it has pulled, and whether they are loaded."""
        loaded = {name for card in await self._cards("api/ps") for name in names_of(card)}
        offers: dict[str, Offer] = {}
        for card in await self._cards("api/tags"):
            names = names_of(card)
            if names and names[0] not in offers:
                there = not loaded.isdisjoint(names)
                offers[names[0]] = offer_of(names[0], card, await self._show(names[0], card), loaded=there)
        return tuple(offers.values())

    async def load(self, model: str) -> None:
        """Put a model into memory: a chat without messages does that. Takes seconds to minutes."""
        await self._hold(model, {} if self._keep_alive in ("", 0) else {"keep_alive": self._keep_alive})  # 0 unloads.

    async def unload(self, model: str) -> None:
        """Take a model out of memory."""
        await self._hold(model, {"keep_alive": 0})

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def _hold(self, model: str, more: dict[str, Any]) -> None:
        await self._wire.fetch("api/chat", {"model": model, "messages": [], "stream": False, **more})

    async def _show(self, model: str, card: dict[str, Any]) -> dict[str, Any]:
        """More of a model than the list says; nothing when the list says it all, or the server does not tell."""
        details = as_object(card.get("details")) or {}
        if is_cloud(model, card) or (card.get("capabilities") and details.get("context_length")):
            return {}
        key = f"{model} {card.get('digest')}"
        if key not in self._shown:
            try:
                self._shown[key] = as_object(await self._wire.fetch("api/show", {"model": model})) or {}
            except BackendError as error:
                if error.kind in ("connection_error", "cut_stream"):
                    raise
                return {}  # The model is there all the same.
        return self._shown[key]

    async def _cards(self, path: str) -> list[dict[str, Any]]:
        fields = as_object(await self._wire.fetch(path)) or {}
        models: Any = fields.get("models", ())
        if models is None:  # Go's empty list.
            return []
        if not isinstance(models, list | tuple):
            raise BackendError("invalid_structure", f"{self._wire.name}/{path}: models is no list", status=200)
        return [as_object(card) or {} for card in cast("list[Any]", models)]


async def _version(wire: Wire) -> str | None:
    fields = as_object(await wire.fetch("api/version")) or {}
    return str(fields["version"]) if "version" in fields else None


async def _recognise(wire: Wire) -> str | None:
    """Ollama tells its version at `/api/version`, and lists models in its own form."""
    version = await _version(wire)
    if version is None or "models" not in (as_object(await wire.fetch("api/tags")) or {}):
        return None
    return version


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    keep_alive: str = ""
    """How long a model stays in memory after a call: a duration as in Go (`5m`), or seconds; negative: for ever, 0: not at all;
    empty: as the server has it."""

    def __post_init__(self) -> None:
        """Check what an operator wrote."""
        said = self.keep_alive.strip()
        if said and not _SECONDS.fullmatch(said) and not _DURATION.fullmatch(said):
            raise ValueError(f"keep_alive: {said!r} must be a duration like 5m or 1h30m, or seconds (-1: for ever)")


def _open(connection: Connection, options: Options) -> OllamaBackend:
    said = options.keep_alive.strip()
    # Seconds must go as a number: as a text they lack their unit, and every call would be refused.
    return OllamaBackend(Wire(connection), keep_alive=int(said) if _SECONDS.fullmatch(said) else said)


KIND: Final = Kind(
    name="ollama",
    title="Ollama",
    open=_open,
    address=ollama_address,
    options=Options,
    recognise=_recognise,
    ports=(11434,),
    slots=1,
)
