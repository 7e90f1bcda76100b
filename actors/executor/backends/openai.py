"""Calls to OpenAI and to every server that speaks its protocol: chat, responses, pictures and embeddings.

The adapters of vLLM, llama.cpp, llama-cpp-python and LM Studio are made of this one and add what those servers tell.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Literal, cast

import msgspec

from actors.executor.backends import images, openai_embeddings, responses
from actors.executor.backends.address import openai_address
from actors.executor.backends.completion import Completion
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.kinds import Kind
from actors.executor.backends.openai_chat import MaxTokensField, request_body, without_refused
from actors.executor.backends.openai_models import cards_of, only_responses, other_offers, own_offers, reasons
from actors.executor.backends.openai_stream import Fold, items
from actors.executor.backends.port import Answer, BackendError, Call, Item, Offer, Step, Usage, Vitals
from actors.executor.backends.wire import MEDIA_ANSWER_LIMIT, Wire


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    service: Literal["", "openai", "compatible"] = ""
    """Whose models it serves: OpenAI's own, whose names tell what they can do, or some; empty: the address tells."""
    max_tokens_field: Literal["", "max_tokens", "max_completion_tokens"] = ""
    """How it calls the cap on output; empty: as the service does."""
    partial_images: int = 0
    """Previews of a picture that OpenAI sends, 0 to 3. Each costs 100 tokens, and is shown only when it is small."""

    def __post_init__(self) -> None:
        """Check what an operator wrote."""
        if not 0 <= self.partial_images <= 3:
            raise ValueError(f"partial_images: {self.partial_images!r} must be 0 to 3")


class OpenAIBackend:
    """A backend at an OpenAI-compatible base URL."""

    tells_begun = True

    def __init__(self, wire: Wire, options: Options = Options()) -> None:  # noqa: B008  # It is frozen.
        self._wire = wire
        self._own = options.service == "openai" or (not options.service and _is_openai(wire.name))
        field: MaxTokensField = "max_completion_tokens" if self._own else "max_tokens"
        self._max_tokens_field: MaxTokensField = options.max_tokens_field or field
        self._partials = options.partial_images
        self._root = wire.base_url.removesuffix("/v1")
        # Servers with a /health live beside their /v1; asked until it turns out that there is none.
        self._has_health = self._root != wire.base_url and not self._own

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the items, then the answer; a refused optional field is left out and the call made once more."""
        async with contextlib.aclosing(self._run(call)) as found:
            async for item in found:
                yield item

    async def health(self) -> Vitals:
        """How it is, when the server is up and takes our key: its models can be listed, and `/health` reports no fault."""
        await self._check_health()
        await self._list()
        return Vitals()

    async def discover(self) -> tuple[Offer, ...]:
        """The models that the server lists."""
        fields = await self._list()
        cards = cards_of(fields)
        return own_offers(cards) if self._own else other_offers(fields, cards)

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    def _run(self, call: Call) -> AsyncGenerator[Item, None]:
        if call.texts or call.asset == "embedding":
            return self._embed(call)
        if call.asset == "image":
            return self._draw(call)
        if call.asset != "text":
            raise BackendError("unknown_model", f"{self._wire.name} makes no {call.asset}")
        if self._own and only_responses(call.model):
            body = responses.request_body(call)
            return self._ask("responses", body, lambda: responses.Response(call.model, secrets=self._wire.secrets))
        return self._ask("chat/completions", self._chat_body(call), lambda: self._chat_fold(call))

    def _chat_body(self, call: Call) -> dict[str, Any]:
        return request_body(call, self._max_tokens_field, sampling=not (self._own and reasons(call.model)))

    def _chat_fold(self, call: Call) -> Fold:
        return Completion(call.model, secrets=self._wire.secrets)

    async def _ask(self, path: str, body: dict[str, Any], fold: Callable[[], Fold]) -> AsyncGenerator[Item, None]:
        for last in (False, True):
            try:
                async with (
                    self._wire.exchange("POST", path, body) as reply,
                    contextlib.aclosing(items(reply, fold(), self._wire.secrets)) as found,
                ):
                    async for item in found:
                        yield item
                return
            except BackendError as error:
                changed = without_refused(body, error)
                if last or changed is None:
                    raise
                body = changed

    async def _draw(self, call: Call) -> AsyncGenerator[Item, None]:
        pictures = images.pictures_of(call)
        fields = images.request_fields(call, own=self._own, partials=self._partials)
        secrets = self._wire.secrets
        fold = images.Pictures(call.model, wanted=fields["n"], partials=self._partials, secrets=secrets)
        what: dict[str, Any] = {"body": fields}
        if pictures:
            content, media_type = images.form(fields, pictures)
            what = {"content": content, "headers": {"content-type": media_type}}
        path = "images/edits" if pictures else "images/generations"
        async with (
            self._wire.exchange("POST", path, limit=MEDIA_ANSWER_LIMIT, **what) as reply,
            contextlib.aclosing(items(reply, fold, secrets, event_bytes=images.EVENT_BYTES)) as found,
        ):
            async for item in found:
                yield item

    async def _embed(self, call: Call) -> AsyncGenerator[Item, None]:
        if not call.texts:
            raise BackendError("bad_request", "texts: there is nothing to embed")
        vectors: list[openai_embeddings.Vector] = []
        usage: Usage | None = None
        model = call.model
        for texts in openai_embeddings.batches(call.texts):
            if vectors:
                yield Step(stage="working", share=len(vectors) / len(call.texts))
            body = openai_embeddings.request_body(call, texts)
            answer: Any = await self._wire.fetch("embeddings", body, limit=openai_embeddings.ANSWER_BYTES)
            vectors += openai_embeddings.vectors_of(answer, len(texts), self._wire.secrets)
            usage = openai_embeddings.usage_sum(usage, answer)
            said: Any = answer.get("model")
            model = said if isinstance(said, str) and said else model
        yield Answer(text="", finish_reason="stop", model=model, usage=usage or Usage(), embeddings=tuple(vectors))

    async def _list(self) -> dict[str, Any]:
        """The list of models, checked. Raises BackendError."""
        fields: Any = await self._wire.fetch("models")
        cards_of(fields, f"{self._wire.base_url}/models")
        return cast("dict[str, Any]", fields)

    async def _check_health(self) -> None:
        """Raise BackendError when `/health` reports a fault; a server without one is not asked again."""
        if not self._has_health:
            return
        try:
            async with self._wire.exchange("GET", f"{self._root}/health"):
                pass
        except BackendError as error:
            if error.status is None or error.status >= 500:
                raise
            if error.kind == "unknown_model":  # 404 and the like: there is no such place.
                self._has_health = False


def _is_openai(name: str) -> bool:
    host = name.partition(":")[0].lower()
    return host == "openai.com" or host.endswith(".openai.com")


async def recognise(wire: Wire) -> str | None:
    """Whether the server lists models as OpenAI does; it tells no version."""
    fields = as_object(await wire.fetch("models"))
    return "" if fields is not None and isinstance(fields.get("data"), list) else None


def _open(connection: Connection, options: Options) -> OpenAIBackend:
    return OpenAIBackend(Wire(connection), options)


KIND: Final = Kind(
    name="openai",
    title="an OpenAI-compatible server",
    open=_open,
    address=openai_address,
    options=Options,
    recognise=recognise,
    ports=(5000, 1337),
    url="https://api.openai.com/v1",
    key_variables=("OPENAI_API_KEY",),
    provider="openai",
    slots=8,
)
