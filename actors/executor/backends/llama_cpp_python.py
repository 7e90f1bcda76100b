"""llama-cpp-python's own server: OpenAI's chat, one call at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.address import openai_address
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.kinds import Kind, NoOptions
from actors.executor.backends.openai import OpenAIBackend
from actors.executor.backends.openai_models import cards_of
from actors.executor.backends.port import Answer, BackendError, Call, Item, Offer, Step
from actors.executor.backends.wire import Wire

OVER_TOKENS: Final = 3
"""It writes on until the last character is whole, whatever the cap."""


class LlamaCppPythonBackend(OpenAIBackend):
    """A llama_cpp.server. A newer call would interrupt a running one, so calls wait for each other here.

    It serves any name with the model that it has, so names are checked here. Its streams never tell usage. A schema goes beside
    `json_object`: OpenAI's form of it is refused.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._has_health = False
        self._tells_nothing = True
        self._one = asyncio.Lock()
        self._models: frozenset[str] = frozenset()

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the items, then the answer, once the calls before it have ended."""
        if call.model not in self._models:
            await self.discover()
            if call.model not in self._models:
                raise BackendError("unknown_model", f"{self._wire.name} has no model {call.model!r}")
        if any(_has_image(message) for message in call.messages):
            raise BackendError("unknown_model", f"{self._wire.name} ignores images")
        if self._one.locked():
            yield Step(stage="queued", text="waits for the call before it")
        async with self._one, contextlib.aclosing(super().run(call)) as found:
            async for item in found:
                if isinstance(item, Answer) and not item.finish_reason and not item.embeddings:
                    # It says `[DONE]` all the same, to a call of somebody else's that a newer one has interrupted.
                    message = f"{self._wire.name} broke off, as it does when a newer call comes"
                    raise BackendError("cut_stream", message, status=200, partial=item.text, usage=item.usage)
                yield item

    def _chat_body(self, call: Call) -> dict[str, Any]:
        cap = max(1, call.max_output_tokens - OVER_TOKENS)
        body = super()._chat_body(msgspec.structs.replace(call, max_output_tokens=cap))
        form = call.response_format or {}
        if form.get("type") == "json_schema":
            held = as_object(form.get("json_schema")) or {}
            body["response_format"] = {"type": "json_object", "schema": held.get("schema") or {}}
        return body

    async def discover(self) -> tuple[Offer, ...]:
        """The models that it was started with."""
        offers = await super().discover()
        self._models = frozenset(offer.model for offer in offers)
        return offers


def _has_image(message: dict[str, Any]) -> bool:
    content: Any = message.get("content")
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    return any((as_object(part) or {}).get("type") == "image_url" for part in parts)


async def recognise(wire: Wire) -> str | None:
    """Whether the server at this wire names itself as the owner of its models; it tells no version."""
    cards = cards_of(await wire.fetch("models"))
    return "" if cards and all(card.get("owned_by") == "me" for card in cards) else None


def _open(connection: Connection, _: msgspec.Struct) -> LlamaCppPythonBackend:
    return LlamaCppPythonBackend(Wire(connection))


KIND: Final = Kind(
    name="llama_cpp_python",
    title="llama-cpp-python",
    open=_open,
    address=openai_address,
    options=NoOptions,
    recognise=recognise,
    ports=(8000,),
    slots=1,
)
