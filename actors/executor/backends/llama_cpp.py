"""llama.cpp's `llama-server`: OpenAI's protocol, with slots. As a router (started without a model) it loads on command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.address import openai_address
from actors.executor.backends.completion import count
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_list, as_object
from actors.executor.backends.kinds import Kind, NoOptions
from actors.executor.backends.openai import OpenAIBackend
from actors.executor.backends.openai_models import cards_of, other_offers
from actors.executor.backends.port import BackendError, Call, Item, Offer, Vitals, only_text
from actors.executor.backends.prometheus import counted
from actors.executor.backends.wire import Wire

_LOOK_SECONDS: Final = 0.2


class LlamaCppBackend(OpenAIBackend):
    """A llama-server. It serves any name with the model that it has, so names are checked here."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._offers: dict[str, Offer] = {}  # By every name that the server knows, as of the last look.

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the items, then the answer; a name that it does not have, or tools that it would ignore, are refused."""
        if call.model not in self._offers:
            await self.discover()
        offer = self._offers.get(call.model)
        if offer is None:
            raise BackendError("unknown_model", f"{self._wire.name} has no model {call.model!r}")
        if call.tools and "tools" not in offer.capabilities and offer.loaded is not False:
            raise BackendError("unknown_model", f"{call.model}: its chat template takes no tools")
        async with contextlib.aclosing(super().run(call)) as found:
            async for item in found:
                yield item

    async def health(self) -> Vitals:
        """How it is, when its model is loaded: while it loads, everything is refused."""
        await self._check_health()
        cards = cards_of(await self._list())
        if _is_router(cards):
            return Vitals(loaded=tuple(card["id"] for card in cards if _state(card) == "loaded"))
        props = await self._props()
        slots: Any = await self._extra("slots")
        busy = [bool((as_object(slot) or {}).get("is_processing")) for slot in as_list(slots)]
        asleep = props.get("is_sleeping") is True
        return Vitals(
            version=str(props.get("build_info") or ""),
            waiting=await self._waiting(),
            running=sum(busy) if isinstance(slots, list) else None,
            slots=count(props.get("total_slots")),
            loaded=() if asleep else tuple(card["id"] for card in cards),
            cold=asleep,
        )

    async def discover(self) -> tuple[Offer, ...]:
        """Its model, or all that it can load as a router; what is not loaded does not tell what it can do."""
        fields = await self._list()
        cards = cards_of(fields, f"{self._wire.base_url}/models")
        router = _is_router(cards)
        offers: list[Offer] = []
        named: dict[str, Offer] = {}
        for card, offer in zip(cards, other_offers(fields, cards), strict=True):
            known = not router or offer.loaded
            found = described(offer, card, await self._props(offer.model if router else "")) if known else offer
            offers.append(found)
            aliases: Any = card.get("aliases")
            for name in (found.model, *(cast("list[Any]", aliases) if isinstance(aliases, list) else [])):
                named.setdefault(str(name), found)
        self._offers = named
        return tuple(offers)

    async def count(self, call: Call) -> int | None:
        """The prompt's tokens: the call is put into the model's template, and the text cut up. Raises BackendError."""
        if call.asset != "text" or not only_text(call):
            return None
        made = as_object(await self._wire.fetch(f"{self._root}/apply-template", self._chat_body(call))) or {}
        prompt: Any = made.get("prompt")
        if not isinstance(prompt, str):
            return None
        body = {"model": call.model, "content": prompt, "add_special": True, "parse_special": True}
        cut = as_object(await self._wire.fetch(f"{self._root}/tokenize", body)) or {}
        tokens: Any = cut.get("tokens")
        return len(cast("list[Any]", tokens)) if isinstance(tokens, list) else None

    async def load(self, model: str) -> None:
        """Load the model, as a router. Raises BackendError when it can't be loaded, or is not the one that there is."""
        state = await self._state_of(model)
        if state in {"", "loaded"}:
            return
        if state not in {"loading", "downloading"}:
            await self._wire.fetch(f"{self._root}/models/load", {"model": model})
            state = await self._state_of(model)
        while state != "loaded":
            if state == "unloaded":
                raise BackendError("server_error", f"{self._wire.name} could not load {model!r}")
            await asyncio.sleep(_LOOK_SECONDS)
            state = await self._state_of(model)
        await self.discover()

    async def unload(self, model: str) -> None:
        """Unload the model, as a router. Raises BackendError when the server was started for this one model."""
        state = await self._state_of(model)
        if not state:
            message = f"{self._wire.name} was started for {model!r} alone, and keeps it: start it as a router"
            raise BackendError("unknown_model", message)
        if state != "unloaded":
            await self._wire.fetch(f"{self._root}/models/unload", {"model": model})

    async def _state_of(self, model: str) -> str:
        """`loaded`, `loading`, … of a router's model; empty when it is no router."""
        for card in cards_of(await self._list()):
            if card["id"] == model:
                return _state(card)
        raise BackendError("unknown_model", f"{self._wire.name} has no model {model!r}")

    async def _props(self, model: str = "") -> dict[str, Any]:
        return as_object(await self._extra("props", {"model": model} if model else None)) or {}

    async def _extra(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """What may be switched off; None when it is."""
        try:
            return await self._wire.fetch(f"{self._root}/{path}", params=params)
        except BackendError as error:
            if error.kind != "unknown_model":
                raise
            return None

    async def _waiting(self) -> int | None:
        try:
            async with self._wire.exchange("GET", f"{self._root}/metrics") as reply:
                text = (await reply.read_all()).decode("utf-8", "replace")
        except BackendError as error:
            if error.kind != "unknown_model":  # 501: started without --metrics.
                raise
            return None
        return counted(text, "llamacpp:requests_deferred")


def described(offer: Offer, card: Mapping[str, Any], props: Mapping[str, Any]) -> Offer:
    """An offer with what the server tells of its model: `/props` knows what its chat template can do."""
    settings = as_object(props.get("default_generation_settings")) or {}
    caps = as_object(props.get("chat_template_caps")) or {}
    modalities = as_object(props.get("modalities")) or {}
    meta = as_object(card.get("meta")) or {}
    parameters = count(meta.get("n_params"))
    can = set(offer.capabilities)
    if "text" in can:
        can |= {"json"}  # A grammar enforces it.
        can |= {"tools"} if caps.get("supports_tools") is True else set()
        can |= {"vision"} if modalities.get("vision") is True else set()
    return msgspec.structs.replace(
        offer,
        context_tokens=count(settings.get("n_ctx")) or offer.context_tokens,
        capabilities=tuple(sorted(can)),
        loaded=props.get("is_sleeping") is not True,
        parameters_billion=round(parameters / 1e9, 2) if parameters else None,
    )


def _state(card: Mapping[str, Any]) -> str:
    return str((as_object(card.get("status")) or {}).get("value") or "")


def _is_router(cards: list[dict[str, Any]]) -> bool:
    return any(_state(card) for card in cards)


async def recognise(wire: Wire) -> str | None:
    """The build of the llama-server at this wire."""
    cards = cards_of(await wire.fetch("models"))
    if not any(card.get("owned_by") == "llamacpp" for card in cards):
        return None
    try:
        props = as_object(await wire.fetch(f"{wire.base_url.removesuffix('/v1')}/props")) or {}
    except BackendError:
        return ""
    return str(props.get("build_info") or "")


def _open(connection: Connection, _: msgspec.Struct) -> LlamaCppBackend:
    return LlamaCppBackend(Wire(connection))


KIND: Final = Kind(
    name="llama_cpp",
    title="llama.cpp",
    open=_open,
    address=openai_address,
    options=NoOptions,
    recognise=recognise,
    ports=(8080,),
    slots=1,
)
