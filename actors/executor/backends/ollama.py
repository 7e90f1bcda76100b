"""Calls to Ollama by its own protocol: the only way there to set the size of the context per request."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.completion import count
from actors.executor.backends.errors import as_object, complaint_in, failure, redact
from actors.executor.backends.port import Answer, BackendError, Call, Chunk, ErrorKind, FinishReason, Offer, Usage
from actors.executor.backends.sse import Lines, LineTooLong
from actors.executor.backends.wire import Wire

MIN_CONTEXT_TOKENS: Final = 2048

_ROLES: Final = {"developer": "system", "function": "tool"}
_CAPABILITIES: Final = {"completion": "text"}


class OllamaBackend:
    """A backend at the root URL of an Ollama server."""

    def __init__(self, wire: Wire, *, keep_alive: str = "") -> None:
        self._wire = wire
        self._keep_alive = keep_alive

    async def run(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        """Yield the chunks, then the answer."""
        fold = _Fold(call.model, self._wire.secrets)
        lines = Lines()
        async with self._wire.exchange("POST", "api/chat", request_body(call, self._keep_alive)) as reply:
            try:
                while piece := await reply.read():
                    found = [fold.take(line) for line in lines.feed(piece)]
                    if found:
                        yield Chunk(text="".join(found))
                rest = lines.close()
                if rest and (text := fold.take(rest, cut=True)):
                    yield Chunk(text=text)
                answer = fold.answer()
            except LineTooLong as error:
                raise fold.annotate(BackendError("invalid_structure", str(error), status=200)) from error
            except BackendError as error:
                fold.annotate(error)
                raise
        yield answer

    async def health(self) -> None:
        """Return when the server tells its version."""
        fields = as_object(await self._wire.fetch("api/version"))
        if fields is None or "version" not in fields:
            raise BackendError("invalid_structure", f"{self._wire.base_url}/api/version: no version", status=200)

    async def discover(self) -> tuple[Offer, ...]:
        """The models it has pulled, and whether they are loaded."""
        loaded = {name for card in await self._cards("api/ps") for name in _names(card)}
        offers: dict[str, Offer] = {}
        for card in await self._cards("api/tags"):
            names = _names(card)
            if names:
                offers.setdefault(names[0], _offer(names[0], card, loaded=not loaded.isdisjoint(names)))
        return tuple(offers.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def _cards(self, path: str) -> list[dict[str, Any]]:
        fields = as_object(await self._wire.fetch(path)) or {}
        models: Any = fields.get("models", ())
        if models is None:  # Go's empty list.
            return []
        if not isinstance(models, list):
            raise BackendError("invalid_structure", f"{self._wire.base_url}/{path}: models is no list", status=200)
        return [as_object(card) or {} for card in cast("list[Any]", models)]


class _Fold:
    """One answer in the making, line by line."""

    def __init__(self, model: str, secrets: tuple[str, ...]) -> None:
        self._model = model
        self._secrets = secrets
        self._texts: list[str] = []
        self._tools: list[dict[str, Any]] = []
        self._last: dict[str, Any] | None = None

    def take(self, line: bytes, *, cut: bool = False) -> str:
        """The text that one line adds. A line that the end of the stream `cut` may be broken, and then adds nothing."""
        if not line.strip():
            return ""
        try:
            fields = as_object(msgspec.json.decode(line))
        except msgspec.DecodeError as error:
            if cut:
                return ""
            raise self._broken(f"the answer is no JSON: {error}", line) from None
        if fields is None:
            raise self._broken("a line of the answer is no JSON object", line)
        complaint = complaint_in(fields)
        if complaint is not None:
            body = line.decode("utf-8", "replace")
            raise failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint)
        message = as_object(fields.get("message"))
        if message is None and not fields.get("done"):
            raise self._broken("a line of the answer holds no message", line)
        content: Any = (message or {}).get("content") or ""
        calls: Any = (message or {}).get("tool_calls") or []
        if not isinstance(content, str) or not isinstance(calls, list):
            raise self._broken("content is no text, or tool_calls is no list", line)
        for call in cast("list[Any]", calls):
            self._tools.append(_openai_call(as_object(call) or {}, len(self._tools)))
        if fields.get("done"):
            self._last = fields
        if content:
            self._texts.append(content)
        return content

    def answer(self) -> Answer:
        """The whole answer, once the stream has ended."""
        last = self._last
        if last is None:
            raise self._error("cut_stream", "the answer broke off: no line said that it is done")
        reason: FinishReason = ""
        if last.get("done_reason") == "length":
            reason = "length"
        elif last.get("done_reason") == "stop":
            reason = "tool_calls" if self._tools else "stop"
        model: Any = last.get("model")
        return Answer(
            text="".join(self._texts),
            finish_reason=reason,
            model=model if isinstance(model, str) and model else self._model,
            usage=Usage(input_tokens=count(last.get("prompt_eval_count")), output_tokens=count(last.get("eval_count"))),
            tool_calls=tuple(self._tools),
        )

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the text that had come before it."""
        error.partial = "".join(self._texts)
        return error

    def _broken(self, message: str, line: bytes) -> BackendError:
        return self._error("invalid_structure", message, redact(line.decode("utf-8", "replace"), self._secrets))

    def _error(self, kind: ErrorKind, message: str, body: str = "") -> BackendError:
        return BackendError(kind, message, status=200, body=body)


def request_body(call: Call, keep_alive: str) -> dict[str, Any]:
    """The JSON body for `call`. Raises BackendError when Ollama can't take it."""
    options: dict[str, Any] = {
        "num_ctx": context_size(max(call.context_tokens, call.max_output_tokens)),
        "num_predict": call.max_output_tokens,
    }
    if call.temperature is not None:
        options["temperature"] = call.temperature
    if call.seed is not None:
        options["seed"] = call.seed
    if call.stop:
        options["stop"] = call.stop
    body: dict[str, Any] = {
        "model": call.model,
        "messages": [_message(message) for message in call.messages],
        "options": options,
        "stream": True,
        # An error is better than an answer to half of the prompt.
        "truncate": False,
        "shift": False,
    }
    if call.tools:
        body["tools"] = call.tools
    wanted = _format(call.response_format)
    if wanted is not None:
        body["format"] = wanted
    if keep_alive:
        body["keep_alive"] = keep_alive
    return body


def context_size(tokens: int) -> int:
    """The context to ask for: `tokens` rounded up to a power of two, so that similar jobs don't reload the model."""
    return max(MIN_CONTEXT_TOKENS, 1 << (tokens - 1).bit_length()) if tokens > 0 else MIN_CONTEXT_TOKENS


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """An OpenAI message in Ollama's form: text apart from images, arguments of tool calls as objects."""
    role = str(message.get("role", "user"))
    found: dict[str, Any] = {"role": _ROLES.get(role, role)}
    content: Any = message.get("content")
    if isinstance(content, list):
        parts = [as_object(part) or {} for part in cast("list[Any]", content)]
        found["content"] = "\n".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
        images = [_image(part) for part in parts if part.get("type") == "image_url"]
        if images:
            found["images"] = images
    else:
        found["content"] = content or ""
    if message.get("tool_calls"):
        found["tool_calls"] = [_ollama_call(call) for call in message["tool_calls"]]
    if role == "tool" and message.get("name"):
        found["tool_name"] = message["name"]
    return found


def _image(part: Mapping[str, Any]) -> str:
    url: Any = (as_object(part.get("image_url")) or {}).get("url", part.get("image_url"))
    head, comma, data = str(url).partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BackendError("unknown_model", "Ollama takes images only inside the request, as data: URLs in base64")
    return data


def _format(wanted: Mapping[str, Any] | None) -> Any:
    kind = (wanted or {}).get("type")
    if wanted is not None and kind == "json_schema":
        return (as_object(wanted.get("json_schema")) or {}).get("schema") or "json"
    return "json" if kind == "json_object" else None


def _ollama_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = as_object(call.get("function")) or {}
    arguments: Any = function.get("arguments") or "{}"
    try:
        decoded: Any = msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments
    except msgspec.DecodeError:
        raise BackendError("bad_request", "messages: the arguments of a tool call are no JSON") from None
    return {"function": {"name": function.get("name", ""), "arguments": decoded}}


def _openai_call(call: Mapping[str, Any], number: int) -> dict[str, Any]:
    function = as_object(call.get("function")) or {}
    arguments = msgspec.json.encode(function.get("arguments") or {}).decode()
    given: Any = call.get("id")
    return {
        "id": given if isinstance(given, str) and given else f"call_{number}",
        "type": "function",
        "function": {"name": str(function.get("name") or ""), "arguments": arguments},
    }


def _names(card: Mapping[str, Any]) -> list[str]:
    return [name for name in (card.get("model"), card.get("name")) if isinstance(name, str) and name]


def _offer(model: str, card: Mapping[str, Any], *, loaded: bool) -> Offer:
    details = as_object(card.get("details")) or {}
    said: Any = card.get("capabilities")
    capabilities = [str(word) for word in cast("list[Any]", said)] if isinstance(said, list) else []
    return Offer(
        model=model,
        context_tokens=count(details.get("context_length")) or None,
        capabilities=tuple(_CAPABILITIES.get(word, word) for word in capabilities) or ("text",),
        loaded=loaded,
    )
