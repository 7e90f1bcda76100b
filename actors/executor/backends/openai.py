"""Calls to OpenAI and to every server that speaks its protocol: chat, responses, pictures and embeddings.

The adapters of vLLM, llama.cpp, llama-cpp-python and LM Studio are made of this one and add what those servers tell.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, cast

import httpx
import msgspec

from actors.executor.backends import images, openai_embeddings, responses
from actors.executor.backends.address import openai_address
from actors.executor.backends.completion import Completion
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.fold import Fold
from actors.executor.backends.kinds import Kind
from actors.executor.backends.openai_chat import MaxTokensField, request_body, whole, without_refused
from actors.executor.backends.openai_models import (
    cards_of,
    is_undecided,
    only_responses,
    other_offers,
    own_offers,
    reasons,
    says_no_chat,
)
from actors.executor.backends.openai_stream import NothingCame, items
from actors.executor.backends.patience import patiently
from actors.executor.backends.port import (
    Answer,
    Artifact,
    BackendError,
    Call,
    Item,
    NoList,
    Offer,
    Remark,
    Step,
    Usage,
    Vitals,
    remarked,
)
from actors.executor.backends.wire import MEDIA_ANSWER_LIMIT, Wire

PROBES: Final = 16
"""Models that are found out at once."""
PROBE_SECONDS: Final = 3.0
PICTURE_BYTES: Final = 64 * 1024 * 1024
"""A picture that lies elsewhere is at most so large."""
_TRIES: Final = 3


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

    def __init__(self, wire: Wire, options: Options = Options(), *, probes: bool = False) -> None:  # noqa: B008  # It is frozen.
        """`probes`: models whose list and name say nothing are asked for, for servers that say nothing else of them."""
        self._wire = wire
        self._own = options.service == "openai" or (not options.service and _is_openai(wire.name))
        field: MaxTokensField = "max_completion_tokens" if self._own else "max_tokens"
        self._max_tokens_field: MaxTokensField = options.max_tokens_field or field
        self._partials = options.partial_images
        self._probes = probes
        self._chats: dict[str, bool] = {}  # What the server said of models whose list and name say nothing.
        self._root = wire.base_url.removesuffix("/v1")
        # Servers with a /health live beside their /v1; asked until it turns out that there is none.
        self._has_health = self._root != wire.base_url and not self._own
        # Some servers here (llama-cpp-python) end a stream before it begins, and say why only without one.
        self._tells_nothing = httpx.URL(wire.base_url).host in {"127.0.0.1", "localhost", "::1"}

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the items, then the answer; a refused optional field is left out and the call made once more."""
        async with contextlib.aclosing(self._run(call)) as found:
            async for item in found:
                yield item

    async def health(self) -> Vitals:
        """How it is, when the server is up and takes our key: its models can be listed, and `/health` reports no fault."""
        await self._check_health()
        try:
            await self._list()
        except BackendError as error:
            raise NoList.or_worse(error) from error
        return Vitals()

    async def discover(self) -> tuple[Offer, ...]:
        """The models that the server lists."""
        fields = await self._list()
        cards = cards_of(fields)
        if self._own:
            return own_offers(cards)
        if self._probes:
            await self._find_out(cards)
        offers = other_offers(fields, cards)
        return tuple(one for one in offers if one.capabilities and self._chats.get(one.model) is not False)

    async def _find_out(self, cards: Sequence[Mapping[str, Any]]) -> None:
        """Ask for a chat without messages, which nobody answers: a server says then whether the model chats at all.

        Not where several models share a server of one's own: it would load each of them.
        """
        if len(cards) > 1 and not self._wire.base_url.startswith("https:"):
            return
        unsure = [card["id"] for card in cards if card["id"] not in self._chats and is_undecided(card)]
        for model in unsure[:PROBES]:
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._wire.fetch(
                        "chat/completions", {"model": model, "messages": [], self._max_tokens_field: 1}
                    )
            except TimeoutError:
                return
            except BackendError as error:
                if error.status is None:
                    return
                self._chats[model] = not says_no_chat(error)
            else:
                self._chats[model] = True

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

    def _chat_fold(self, call: Call) -> Fold[str]:
        return Completion(call.model, secrets=self._wire.secrets)

    async def _ask(
        self, path: str, body: Mapping[str, Any], fold: Callable[[], Fold[str]]
    ) -> AsyncGenerator[Item, None]:
        for number in range(_TRIES):
            try:
                async with (
                    self._wire.exchange("POST", path, body) as reply,
                    contextlib.aclosing(items(reply, fold(), self._wire.secrets)) as found,
                ):
                    async for item in found:
                        yield item
                return
            except BackendError as error:
                changed = self._repaired(body, error, number)
                if changed is None:
                    raise
                body = changed

    def _repaired(self, body: Mapping[str, Any], error: BackendError, number: int) -> Mapping[str, Any] | None:
        """`body` as it may be asked once more; None when that would change what was asked for, or could cost a second time."""
        if number == 0:
            if isinstance(error, NothingCame):
                return whole(body) if self._tells_nothing else None
            return without_refused(body, error)
        # Who ended a stream before it began has left that connection, which may be the one that was asked on.
        silent = number == 1 and self._tells_nothing and not body.get("stream")
        return body if silent and error.kind == "connection_error" and error.status is None else None

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
        made = 0
        answer: Answer | None = None
        async with (
            self._wire.exchange("POST", path, limit=MEDIA_ANSWER_LIMIT, **what) as reply,
            contextlib.aclosing(items(reply, fold, secrets, event_bytes=images.EVENT_BYTES)) as found,
        ):
            async for item in found:
                if isinstance(item, Answer):
                    answer = item
                else:
                    made += isinstance(item, Artifact)
                    yield item
        async for item in self._elsewhere(fold.places, made, answer):
            yield item

    async def _elsewhere(self, places: Sequence[str], made: int, answer: Answer | None) -> AsyncGenerator[Item, None]:
        """The pictures that lie at these places, after the `made` ones that came, then the answer. One that can't be had is left
        out and told, if there are others.
        """
        assert answer is not None
        failed: BackendError | None = None
        for place in places:
            try:
                file, _ = await patiently(
                    partial(self._wire.download, self._wire.place(place), limit=PICTURE_BYTES), 0.5
                )
                artifact = images.artifact_of(file, made + 1)
                if artifact is None:
                    raise BackendError("invalid_structure", "what lies at a picture's place is no picture", status=200)
            except BackendError as error:
                failed = error
                answer = remarked(answer, Remark("count", f"a picture was left out: {error.message}"))
                continue
            made += 1
            yield artifact
        if failed is not None and not made:
            failed.usage = answer.usage
            raise failed
        yield answer

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
        """The list of models, checked; a bare one (Together) is put into OpenAI's form. Raises BackendError."""
        listed: Any = await self._wire.fetch("models")
        fields = {"data": cast("list[Any]", listed)} if isinstance(listed, list) else listed
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
    listed: Any = await wire.fetch("models")
    if isinstance(listed, list):  # Of anything, as long as nothing in it has the id of a model.
        return "" if cards_of({"data": cast("list[Any]", listed)}) else None
    return "" if isinstance((as_object(listed) or {}).get("data"), list) else None


def _open(connection: Connection, options: Options) -> OpenAIBackend:
    return OpenAIBackend(Wire(connection), options, probes=True)


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
