"""LM Studio: OpenAI's protocol for calls, and its native one to see what is loaded, to load and to unload."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.address import http_address, openai_address
from actors.executor.backends.completion import count
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.kinds import Kind, NoOptions
from actors.executor.backends.openai import OpenAIBackend
from actors.executor.backends.openai_models import capabilities_by
from actors.executor.backends.port import BackendError, Offer, Vitals
from actors.executor.backends.roles import named_role
from actors.executor.backends.wire import Wire

_EMBEDS: Final = frozenset({"embedding", "embeddings"})


class LmStudioBackend(OpenAIBackend):
    """An LM Studio. It lists what was downloaded; only some of it is loaded, and a call for another model loads that first."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._has_health = False

    async def health(self) -> Vitals:
        """How it is, when it lists its models: there is nothing else to ask."""
        cards, native = await native_cards(self._wire)
        loaded = tuple(_name(card) for card in cards if is_loaded(card))
        parallel = [count(config.get("parallel")) for card in cards for config in _configs(card)]
        slots = sum(found for found in parallel if found)
        return Vitals(loaded=loaded, slots=slots or None if native else None)

    async def discover(self) -> tuple[Offer, ...]:
        """Every model that was downloaded, and whether it is loaded."""
        cards, _ = await native_cards(self._wire)
        offers = {offer.model: offer for card in reversed(cards) if (offer := offer_of(card)).model}
        return tuple(reversed(offers.values()))

    async def load(self, model: str) -> None:
        """Load the model; with the usual setting it takes the place of what is there. Raises BackendError."""
        if is_loaded(await self._card(model)):
            return
        fields = as_object(await self._native("load", {"model": model})) or {}
        if fields.get("status") != "loaded":
            raise BackendError("server_error", f"{self._wire.name} did not load {model!r}: {fields.get('status')!r}")

    async def unload(self, model: str) -> None:
        """Unload every instance of the model. Raises BackendError."""
        for instance in _instances(await self._card(model)):
            await self._native("unload", {"instance_id": instance.get("id")})

    async def _card(self, model: str) -> dict[str, Any]:
        cards, native = await native_cards(self._wire)
        if not native:
            raise BackendError("unknown_model", f"{self._wire.name} can't load on command: LM Studio 0.4 can")
        for card in cards:
            if _name(card) == model:
                return card
        raise BackendError("unknown_model", f"{self._wire.name} has no model {model!r}")

    async def _native(self, order: str, body: Mapping[str, Any]) -> Any:
        return await self._wire.fetch(f"{_root(self._wire)}/api/v1/models/{order}", body)


async def native_cards(wire: Wire) -> tuple[list[dict[str, Any]], bool]:
    """Its models as the native list has them, and whether that is the one of 0.4; before it there was another.

    Raises BackendError when neither is there.
    """
    for path, field in (("api/v1/models", "models"), ("api/v0/models", "data")):
        try:
            fields = as_object(await wire.fetch(f"{_root(wire)}/{path}")) or {}
        except BackendError as error:
            if error.kind != "unknown_model":
                raise
            continue
        cards: Any = fields.get(field)
        if isinstance(cards, list):  # It answers unknown paths with a 200.
            return [as_object(card) or {} for card in cast("list[Any]", cards)], field == "models"
    raise BackendError("invalid_structure", f"{wire.name}: neither of LM Studio's lists of models is there", status=200)


def offer_of(card: Mapping[str, Any]) -> Offer:
    """A card of either list."""
    can = as_object(card.get("capabilities")) or {}
    words: Any = card.get("capabilities")
    kind = str(card.get("type"))
    found = ["text", "json"]
    if can.get("vision") is True or kind == "vlm":
        found.append("vision")
    if can.get("trained_for_tool_use") is True or (isinstance(words, list) and "tool_use" in words):
        found.append("tools")
    if can.get("reasoning"):
        found.append("thinking")
    sizes = [count(config.get("context_length")) for config in _configs(card)]
    billions = re.fullmatch(r"(\d+(?:\.\d+)?)B", str(card.get("params_string") or ""))
    return Offer(
        model=_name(card),
        context_tokens=next((size for size in sizes if size), None) or count(card.get("max_context_length")) or None,
        capabilities=("embedding",) if kind in _EMBEDS else capabilities_by(named_role(_name(card)), tuple(found)),
        loaded=is_loaded(card),
        parameters_billion=float(billions[1]) if billions else None,
    )


def is_loaded(card: Mapping[str, Any]) -> bool:
    """Whether it is in memory: listed is not loaded."""
    return bool(_instances(card)) or card.get("state") == "loaded"


def _name(card: Mapping[str, Any]) -> str:
    name: Any = card.get("key") or card.get("id")
    return name if isinstance(name, str) else ""


def _instances(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: Any = card.get("loaded_instances")
    return [as_object(item) or {} for item in cast("list[Any]", found)] if isinstance(found, list) else []


def _configs(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [as_object(instance.get("config")) or {} for instance in _instances(card)]


def _root(wire: Wire) -> str:
    return wire.base_url.removesuffix("/v1")


def address(url: str) -> str:
    """The base URL for calls; the native paths are taken off. Raises ValueError naming the field and the value."""
    parts = http_address(url)
    native = re.sub(r"/api/v[01](?:/models)?$", "", parts.path)
    return openai_address(parts._replace(path=native).geturl())


async def recognise(wire: Wire) -> str | None:
    """Whether the server at this wire has one of LM Studio's own lists of models; it tells no version."""
    cards, native = await native_cards(wire)
    if native:  # Nothing may have been downloaded yet.
        return "" if all("loaded_instances" in card for card in cards) else None
    return "" if cards and all("state" in card for card in cards) else None


def _open(connection: Connection, _: msgspec.Struct) -> LmStudioBackend:
    return LmStudioBackend(Wire(connection))


KIND: Final = Kind(
    name="lm_studio",
    title="LM Studio",
    open=_open,
    address=address,
    options=NoOptions,
    recognise=recognise,
    ports=(1234,),
    slots=4,
)
