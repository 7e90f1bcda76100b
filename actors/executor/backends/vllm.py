"""vLLM: OpenAI's protocol, with the engine's own figures beside it, and with sleep as a way to give its memory back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from actors.executor.backends.address import openai_address
from actors.executor.backends.completion import count
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object, complaint_of
from actors.executor.backends.kinds import Kind, NoOptions
from actors.executor.backends.openai import OpenAIBackend
from actors.executor.backends.openai_models import capabilities_by, cards_of
from actors.executor.backends.port import BackendError, Call, Item, Offer, Vitals, only_text
from actors.executor.backends.prometheus import counted
from actors.executor.backends.roles import named_role
from actors.executor.backends.wire import Wire

_LOOK_SECONDS: Final = 0.2
_NO_SWITCH: Final = "it can't sleep: start it with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode"


class VllmBackend(OpenAIBackend):
    """A vLLM server. Its one model is put to sleep and woken; LoRA adapters sleep with it."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._has_sleep = True  # Asked until it turns out that there is no such place.
        self._asleep = False  # As far as we know.

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the items, then the answer. A sleeping engine would let the call wait, so it is refused."""
        if self._asleep and await self._sleeps():
            raise self._asleep_error()
        async with contextlib.aclosing(super().run(call)) as found:
            async for item in found:
                yield item

    async def health(self) -> Vitals:
        """How it is, when the engine lives. One that sleeps has nothing in memory, and is woken before its next call."""
        asleep = await self._sleeps()
        await self._check_health()
        cards = cards_of(await self._list())
        figures = await self._figures()
        return Vitals(
            version=await _version(self._wire, self._root),
            waiting=counted(figures, "vllm:num_requests_waiting"),
            running=counted(figures, "vllm:num_requests_running"),
            loaded=() if asleep else tuple(card["id"] for card in cards),
        )

    async def discover(self) -> tuple[Offer, ...]:
        """Its model, and each of its LoRA adapters as a model of its own."""
        cards = cards_of(await self._list(), f"{self._wire.base_url}/models")
        return offers_of(cards, awake=not await self._sleeps())

    async def count(self, call: Call) -> int | None:
        """The prompt's tokens, by the engine's own template; of images it would count the marks alone. Raises BackendError."""
        if call.asset != "text" or not only_text(call):
            return None
        body: dict[str, Any] = {"model": call.model, "messages": call.messages, "add_generation_prompt": True}
        if call.tools:
            body["tools"] = call.tools
        fields = as_object(await self._wire.fetch(f"{self._root}/tokenize", body))
        return count((fields or {}).get("count")) or None

    async def load(self, model: str) -> None:
        """Wake the engine. Raises BackendError when it has no such model or was not started with sleep mode."""
        if model not in {card["id"] for card in cards_of(await self._list())}:
            raise BackendError("unknown_model", f"{self._wire.name} has no model {model!r}")
        if not await self._sleeps():
            return
        await self._order("wake_up")
        while await self._sleeps():  # noqa: ASYNC110  # The engine's state sets no event here.
            await asyncio.sleep(_LOOK_SECONDS)

    async def unload(self, model: str) -> None:
        """Put the engine to sleep once its calls have ended: the weights move to the host's memory. Raises BackendError."""
        if await self._sleeps() or model not in {card["id"] for card in cards_of(await self._list())}:
            return
        await self._order("sleep?level=1&mode=wait")
        self._asleep = True

    async def _sleeps(self) -> bool:
        if not self._has_sleep:
            return False
        try:
            fields = as_object(await self._wire.fetch(f"{self._root}/is_sleeping")) or {}
        except BackendError as error:
            if error.kind != "unknown_model":
                raise
            self._has_sleep = self._asleep = False
            return False
        self._asleep = fields.get("is_sleeping") is True
        return self._asleep

    async def _order(self, path: str) -> None:
        try:
            async with self._wire.exchange("POST", f"{self._root}/{path}") as reply:
                await reply.read_all()  # Older builds answer nothing.
        except BackendError as error:
            if error.kind == "unknown_model":
                error.message = f"{self._wire.name}: {_NO_SWITCH}"
            raise

    async def _figures(self) -> str:
        """The engine's figures; empty when it publishes none."""
        try:
            async with self._wire.exchange("GET", f"{self._root}/metrics") as reply:
                return (await reply.read_all()).decode("utf-8", "replace")
        except BackendError as error:
            if error.status is None or error.status < 300:
                raise
            return ""

    def _asleep_error(self) -> BackendError:
        return BackendError("overloaded", f"{self._wire.name}: the engine sleeps; it must be woken first")


def offers_of(cards: list[dict[str, Any]], *, awake: bool) -> tuple[Offer, ...]:
    """The model and its adapters. An adapter reads as much as its model."""
    sizes = {card["id"]: count(card.get("max_model_len")) or None for card in cards}
    adapters = [(card["id"], card["parent"]) for card in cards if isinstance(card.get("parent"), str)]
    offers: list[Offer] = []
    for card in cards:
        name, parent = card["id"], card.get("parent")
        loras = tuple(adapter for adapter, base in adapters if base == name)
        writes = ("text", "json", "lora") if loras else ("text", "json")
        offers.append(
            Offer(
                model=name,
                context_tokens=sizes[name] or (sizes.get(parent) if isinstance(parent, str) else None),
                capabilities=capabilities_by(named_role(name), writes),
                loaded=awake,
                loras=loras if parent is None else None,
            )
        )
    return tuple(offers)


async def _version(wire: Wire, root: str) -> str:
    """Empty when it does not say, as behind a proxy that lets only `/v1` through."""
    try:
        fields = as_object(await wire.fetch(f"{root}/version")) or {}
    except BackendError as error:
        if error.kind != "unknown_model":
            raise
        return ""
    return str(fields.get("version") or "")


async def recognise(wire: Wire) -> str | None:
    """The version of the vLLM at this wire; with a key unknown to us its own form of the refusal tells."""
    root = wire.base_url.removesuffix("/v1")
    try:
        cards = cards_of(await wire.fetch("models"))
    except BackendError as error:
        if error.status != 401 or complaint_of(error.body).message != "Unauthorized":
            raise
        return await _version(wire, root) or None
    return await _version(wire, root) if any(card.get("owned_by") == "vllm" for card in cards) else None


def _open(connection: Connection, _: msgspec.Struct) -> VllmBackend:
    return VllmBackend(Wire(connection))


KIND: Final = Kind(
    name="vllm",
    title="vLLM",
    open=_open,
    address=openai_address,
    options=NoOptions,
    recognise=recognise,
    ports=(8000, 8001, 8002),
    slots=16,
)
