"""Calls and answers in Ollama's own form. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.completion import count
from actors.executor.backends.errors import as_object, complaint_in, failure
from actors.executor.backends.fold import Fold, list_in, named, text_in
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import Answer, BackendError, Call, FinishReason, Offer, Usage
from actors.executor.backends.roles import named_role
from actors.executor.backends.tool_calls import as_call
from actors.executor.backends.usage import usage_in

MIN_CONTEXT_TOKENS: Final = 2048

_ROLES: Final = {"developer": "system", "function": "tool"}
_CAPABILITIES: Final = {"completion": "text"}
_NO_CAPABILITY: Final = frozenset({"insert"})
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMB])", re.IGNORECASE)
_EMBEDS: Final = re.compile(r"bert")
"""Families whose models embed."""
_BILLIONS: Final = {"K": 1e-6, "M": 1e-3, "B": 1.0}


class ChatFold(Fold[str]):
    """One answer in the making, line by line."""

    def __init__(self, model: str, *, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(model, "", secrets=secrets)
        self._calls: list[dict[str, Any]] = []
        self._last: dict[str, Any] | None = None

    @property
    def settled(self) -> bool:
        """Its last line has come."""
        return self._last is not None

    def stopped(self) -> bool:
        """Whether it ended by itself and calls no tools."""
        return not self._calls and (self._last or {}).get("done_reason") != "length"

    def event(self, fields: dict[str, Any], data: bytes) -> str:
        """The text that one line adds."""
        complaint = complaint_in(fields)
        if complaint is not None:
            body = data.decode("utf-8", "replace")
            raise failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint)
        message = as_object(fields.get("message"))
        if message is None and not fields.get("done"):
            raise TypeError("a line holds no message")
        message = message or {}
        content = text_in(message.get("content"), "content")
        for call in list_in(message.get("tool_calls") or [], "tool_calls"):
            self._calls.append(as_call(as_object(call) or {}, len(self._calls)))
        self._texts.think(text_in(message.get("thinking"), "thinking"))
        if fields.get("done"):
            self._last, self.done = fields, True
        return self._texts.add(content)

    def told(self) -> Answer:
        """The whole answer, once the stream has ended."""
        last = self._last
        if last is None:
            raise self.error("cut_stream", "the answer broke off: no line said that it is done")
        reason: FinishReason = ""
        if last.get("done_reason") == "length":
            reason = "length"
        elif last.get("done_reason") == "stop":
            reason = "tool_calls" if self._calls else "stop"
        return Answer(
            text=self._texts.text,
            finish_reason=reason,
            model=named(last, "model", self._model),
            usage=self.usage,
            tool_calls=tuple(self._calls),
            reasoning=self._texts.reasoning,
            remarks=tuple(self._remarks),
        )


def request_body(call: Call, keep_alive: str | int) -> dict[str, Any]:
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
    if keep_alive != "":
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
        decoded: Any = value_of(arguments) if isinstance(arguments, str) else arguments
    except NotJson:
        raise BackendError("bad_request", "messages: the arguments of a tool call are no JSON") from None
    return {"function": {"name": function.get("name", ""), "arguments": decoded}}


def embed_body(call: Call, keep_alive: str | int) -> dict[str, Any]:
    """The JSON body that embeds the call's texts. What is too long is an error, not cut."""
    body: dict[str, Any] = {"model": call.model, "input": call.texts, "truncate": False}
    if call.dimensions:
        body["dimensions"] = call.dimensions
    if keep_alive != "":
        body["keep_alive"] = keep_alive
    return body


def embedded(fields: Mapping[str, Any], call: Call) -> Answer:
    """The answer that holds the embeddings. Raises BackendError when they are not one for each text."""
    rows: Any = fields.get("embeddings")
    try:
        vectors = msgspec.convert(rows, tuple[tuple[float, ...], ...])
    except msgspec.ValidationError as error:
        raise BackendError("invalid_structure", f"embeddings are no lists of numbers: {error}", status=200) from None
    if len(vectors) != len(call.texts):
        message = f"{len(vectors)} embeddings for {len(call.texts)} texts"
        raise BackendError("invalid_structure", message, status=200)
    model: Any = fields.get("model")
    return Answer(
        text="", finish_reason="stop", embeddings=vectors, model=model if isinstance(model, str) and model else call.model,
        usage=msgspec.structs.replace(usage_in(fields) or Usage(), output_tokens=0),
    )  # fmt: skip


def names_of(card: Mapping[str, Any]) -> list[str]:
    """A model's names: the one it is called by first."""
    return [name for name in (card.get("model"), card.get("name")) if isinstance(name, str) and name]


def is_cloud(model: str, card: Mapping[str, Any]) -> bool:
    """Whether a listed model runs in Ollama's cloud: it costs, and its data leave."""
    return bool(card.get("remote_host")) or model.endswith(("-cloud", ":cloud"))


def offer_of(model: str, card: Mapping[str, Any], shown: Mapping[str, Any], *, loaded: bool | None) -> Offer:
    """A listed model, with what `/api/show` says of it."""
    details = as_object(card.get("details")) or as_object(shown.get("details")) or {}
    cloud = is_cloud(model, card) or bool(shown.get("remote_host"))
    return Offer(
        model=model,
        context_tokens=count(details.get("context_length")) or _trained_context(shown),
        capabilities=_capabilities(
            card.get("capabilities") or shown.get("capabilities"), model, str(details.get("family") or "")
        ),
        loaded=None if cloud else loaded,
        parameters_billion=_billions(details.get("parameter_size")),
        cloud=cloud,
    )


def _capabilities(said: object, model: str, family: str) -> tuple[str, ...]:
    """As the server says; but a guard completes texts too, and is no model to chat with."""
    words = [str(word) for word in cast("list[Any]", said)] if isinstance(said, list) else []
    known = tuple(_CAPABILITIES.get(word, word) for word in words if word not in _NO_CAPABILITY)
    role = named_role(model)
    if role == "other":
        return tuple(word for word in known if word != "text")
    if "text" in known:
        return (*known, "json")  # `format` holds for every model that writes.
    if not known and (role == "embedding" or _EMBEDS.search(family)):  # Older servers do not say it.
        return ("embedding",)
    return known or ("text", "json")


def _trained_context(shown: Mapping[str, Any]) -> int | None:
    facts = as_object(shown.get("model_info")) or {}
    return count(facts.get(f"{facts.get('general.architecture')}.context_length")) or None


def _billions(size: object) -> float | None:
    found = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    return float(found[1]) * _BILLIONS[found[2].upper()] if found else None
