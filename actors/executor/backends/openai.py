"""Calls to OpenAI and to every server that speaks its chat protocol: vLLM, llama.cpp, LM Studio, Ollama's `/v1`, ..."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Literal, cast

from actors.executor.backends.completion import Completion, count
from actors.executor.backends.errors import as_object, complaint_of, redact
from actors.executor.backends.port import Answer, BackendError, Call, Chunk, Offer
from actors.executor.backends.sse import Events, LineTooLong
from actors.executor.backends.wire import Reply, Wire

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
"""How a server calls the cap on output: OpenAI's reasoning models refuse the first, local servers know only that."""

# What may be left out when a server refuses it: the answer stays what was asked for.
_OPTIONAL: Final = frozenset({"temperature", "seed", "stream_options"})
_CONTEXT_FIELDS: Final = ("max_model_len", "context_length", "max_context_length", "context_window")
# The end of the body follows [DONE] at once. A server that leaves it open loses the connection instead.
_DRAIN_SECONDS: Final = 0.05


class OpenAIBackend:
    """A backend at an OpenAI-compatible base URL."""

    def __init__(self, wire: Wire, *, max_tokens_field: MaxTokensField = "max_tokens") -> None:
        self._wire = wire
        self._max_tokens_field: MaxTokensField = max_tokens_field
        root = wire.base_url.removesuffix("/v1")
        # Servers with a /health live beside their /v1; asked until it turns out that there is none.
        self._health_url = f"{root}/health" if root != wire.base_url else ""

    async def run(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        """Yield the chunks, then the answer; a refused optional field is left out and the call made once more."""
        body = request_body(call, self._max_tokens_field)
        for last in (False, True):
            try:
                async with contextlib.aclosing(self._attempt(call, body)) as parts:
                    async for part in parts:
                        yield part
                return
            except BackendError as error:
                changed = without_refused(body, error)
                if last or changed is None:
                    raise
                body = changed

    async def health(self) -> None:
        """Return when the server is up and takes our key: its models can be listed, and `/health` reports no fault."""
        if self._health_url:
            try:
                async with self._wire.exchange("GET", self._health_url):
                    pass
            except BackendError as error:
                if error.status is None or error.status >= 500:
                    raise
                if error.kind == "unknown_model":  # 404 and the like: there is no such place.
                    self._health_url = ""
        await self.discover()

    async def discover(self) -> tuple[Offer, ...]:
        """The models that the server lists; LM Studio lists also those that it would have to load first."""
        fields = as_object(await self._wire.fetch("models"))
        cards: Any = fields.get("data") if fields is not None else None
        if fields is None or not isinstance(cards, list):
            raise BackendError("invalid_structure", f"{self._wire.base_url}/models: data is no list", status=200)
        vision = _vision(fields)
        offers: dict[str, Offer] = {}
        for item in cast("list[Any]", cards):
            card = as_object(item) or {}
            model: Any = card.get("id")
            if isinstance(model, str) and model:
                offers.setdefault(model, _offer(model, card, vision=model in vision))
        return tuple(offers.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def _attempt(self, call: Call, body: Mapping[str, Any]) -> AsyncGenerator[Chunk | Answer, None]:
        completion = Completion(call.model, secrets=self._wire.secrets)
        async with self._wire.exchange("POST", "chat/completions", body) as reply:
            try:
                if reply.media_type == "text/html":
                    page = redact((await reply.read()).decode("utf-8", "replace"), self._wire.secrets)
                    message = "the answer is a web page: is the URL right?"
                    raise BackendError("invalid_structure", message, status=200, body=page)
                if reply.media_type == "application/json":  # The server ignored `stream`.
                    text = completion.take(await reply.read_all())
                    completion.done = True
                    if text:
                        yield Chunk(text=text)
                else:
                    events = Events()
                    while not completion.done and (piece := await reply.read()):
                        found = [completion.take(event.data) for event in events.feed(piece)]
                        if found:
                            yield Chunk(text="".join(found))
                    if completion.done:
                        await _drain(reply)
                    elif text := _last(events, completion):
                        yield Chunk(text=text)
                answer = completion.answer()
            except LineTooLong as error:
                raise completion.annotate(BackendError("invalid_structure", str(error), status=200)) from error
            except BackendError as error:
                completion.annotate(error)
                raise
        yield answer


def request_body(call: Call, max_tokens_field: MaxTokensField) -> dict[str, Any]:
    """The JSON body for `call`; what the call leaves open is left out."""
    body: dict[str, Any] = {
        "model": call.model,
        "messages": call.messages,
        max_tokens_field: call.max_output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.temperature is not None:
        body["temperature"] = call.temperature
    if call.stop:
        body["stop"] = call.stop
    if call.seed is not None:
        body["seed"] = call.seed
    if call.response_format is not None:
        body["response_format"] = call.response_format
    if call.tools:
        body["tools"] = call.tools
    return body


def without_refused(body: Mapping[str, Any], error: BackendError) -> dict[str, Any] | None:
    """`body` without the field that the server refused, or None when that would change what was asked for.

    The cap on output is never dropped: it is given by its other name.
    """
    if error.status != 400:
        return None
    complaint = complaint_of(error.body)
    if not complaint.words & {"unsupported_parameter", "unsupported_value"}:
        return None
    changed = {name: value for name, value in body.items() if name != complaint.param}
    if len(changed) == len(body):
        return None
    if complaint.param in _OPTIONAL:
        return changed
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}.get(complaint.param)
    if other is None or "unsupported_value" in complaint.words:
        return None
    return {**changed, other: body[complaint.param]}


def _last(events: Events, completion: Completion) -> str:
    """The text of an event that the end of the stream completed; one that was cut in the middle adds nothing."""
    event = events.close()
    if event is None:
        return ""
    try:
        return completion.take(event.data)
    except BackendError as error:
        if error.kind == "invalid_structure":
            return ""
        raise


async def _drain(reply: Reply) -> None:
    """Read to the end of the body, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, BackendError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await reply.read():
                pass


def _vision(fields: Mapping[str, Any]) -> frozenset[str]:
    """The models that llama-server's second list calls multimodal."""
    cards: Any = fields.get("models")
    found: set[str] = set()
    for item in cast("list[Any]", cards) if isinstance(cards, list) else []:
        card = as_object(item) or {}
        name: Any = card.get("model") or card.get("name")
        if isinstance(name, str) and "multimodal" in cast("list[Any]", card.get("capabilities") or []):
            found.add(name)
    return frozenset(found)


def _offer(model: str, card: Mapping[str, Any], *, vision: bool) -> Offer:
    meta = as_object(card.get("meta")) or {}
    sizes = [count(meta.get("n_ctx")), *(count(card.get(name)) for name in _CONTEXT_FIELDS)]
    status: Any = (as_object(card.get("status")) or {}).get("value")
    return Offer(
        model=model,
        context_tokens=next((size for size in sizes if size), None),
        capabilities=("text", "vision") if vision else ("text",),
        loaded=status == "loaded" if isinstance(status, str) else None,
    )
