"""A call in the form of Anthropic's Messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.anthropic_schema import strict_schema
from actors.executor.backends.errors import as_object
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import BackendError, Call

VERSION: Final = "2026-10-21"
SAMPLING_VERSION: Final = "2023-06-01"
"""The last version that takes sampling parameters."""

_MODEL: Final = re.compile(r"claude-(?:(?P<line>[a-z]+)-)?(?P<major>\d\d?)(?:[-.](?P<minor>\d)(?!\d))?(?:[-@].*)?")
_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_LAST_SAMPLING: Final = (4, 6)  # Opus 4.7 and everything from 5 on takes no sampling parameters.
_LAST_PREFILL: Final = (4, 5)
_FIRST_STRUCTURED: Final = (4, 5)


def model_version(model: str) -> tuple[int, int] | None:
    """Major and minor version in the name of a Claude model; None for other names."""
    found = _MODEL.fullmatch(model)
    return (int(found["major"]), int(found["minor"] or 0)) if found else None


def takes_sampling(model: str) -> bool:
    """Whether the model is known to take `temperature`."""
    version = model_version(model)
    return version is not None and version <= _LAST_SAMPLING


def takes_schema(model: str) -> bool:
    """Whether the model is known to keep to a JSON schema, by its name alone."""
    version = model_version(model)
    return version is not None and version >= _FIRST_STRUCTURED


def version_of(call: Call, version: str) -> str:
    """The API version for `call`: `version`, unless it gives a temperature that only the older one takes."""
    return SAMPLING_VERSION if call.temperature is not None and takes_sampling(call.model) else version


def request_body(call: Call, *, structured: bool) -> dict[str, Any]:
    """The JSON body for `call`; `structured`: the model can be held to a JSON schema.

    Raises BackendError when Anthropic can't take it.
    """
    if call.asset != "text":
        raise BackendError("unknown_model", f"Anthropic makes text, not {call.asset}")
    if any(not stop.strip() for stop in call.stop):
        raise BackendError("unknown_model", "Anthropic takes no stop sequence of whitespace alone")
    system, messages = _conversation(call)
    if not messages:
        raise BackendError("unknown_model", "Anthropic answers to a message of the user, and there is none")
    body: dict[str, Any] = {
        "model": call.model,
        "max_tokens": call.max_output_tokens,
        "messages": messages,
        "stream": True,
    }
    schema, words = _format(call.response_format, structured=structured)
    if schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if words:
        system.append(words)
    if system:
        body["system"] = "\n\n".join(system)
    if call.stop:
        body["stop_sequences"] = list(call.stop)
    if call.temperature is not None and takes_sampling(call.model):
        body["temperature"] = min(call.temperature, 1.0)  # OpenAI's scale goes to 2.
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
    return body


def _conversation(call: Call) -> tuple[list[str], list[dict[str, Any]]]:
    """System texts, and the messages: neighbours of one role are one message, as results of tools must be."""
    system: list[str] = []
    messages: list[dict[str, Any]] = []
    for message in call.messages:
        role = str(message.get("role", "user"))
        if role in {"system", "developer"}:
            system += [block["text"] for block in _blocks(message.get("content")) if "text" in block]
            continue
        name = "assistant" if role == "assistant" else "user"
        content = [_result(message)] if role in {"tool", "function"} else _blocks(message.get("content"))
        content += [_use(use) for use in message.get("tool_calls") or ()]
        if not content:
            continue  # Empty text is refused.
        if messages and messages[-1]["role"] == name:
            messages[-1]["content"] += content
        else:
            messages.append({"role": name, "content": content})
    if messages and messages[-1]["role"] == "assistant":
        version = model_version(call.model)
        if version is not None and version > _LAST_PREFILL:
            raise BackendError("unknown_model", f"{call.model} does not go on with an answer that was begun")
        last = messages[-1]["content"][-1]
        if "text" in last:
            last["text"] = last["text"].rstrip()  # Trailing whitespace is refused there.
    return system, messages


def _blocks(content: object) -> list[dict[str, Any]]:
    """The content blocks of an OpenAI message's content."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    found: list[dict[str, Any]] = []
    for item in cast("list[Any]", content) if isinstance(content, list) else []:
        part = as_object(item) or {}
        kind = part.get("type")
        if kind == "image_url":
            found.append(_image(part))
        elif isinstance(part.get("text"), str):
            found += _blocks(part["text"])
        else:
            raise BackendError("unknown_model", f"Anthropic is sent texts and images; a message holds {kind!r}")
    return found


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    url = str((as_object(part.get("image_url")) or {}).get("url", part.get("image_url")))
    if url.startswith("https://"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    head, comma, data = url.partition(",")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    if not comma or head != f"data:{media_type};base64" or media_type not in _IMAGES:
        raise BackendError(
            "unknown_model",
            "Anthropic takes images as https: URLs, or as data: URLs in base64 of JPEG, PNG, GIF or WebP",
        )
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = as_object(tool.get("function")) or {}
    found: dict[str, Any] = {
        "name": str(function.get("name") or ""),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if function.get("description"):
        found["description"] = str(function["description"])
    return found


def _use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = as_object(call.get("function")) or {}
    arguments: Any = function.get("arguments") or "{}"
    try:
        decoded: Any = value_of(arguments) if isinstance(arguments, str) else arguments
    except NotJson:
        raise BackendError("bad_request", "messages: the arguments of a tool call are no JSON") from None
    if as_object(decoded) is None:
        raise BackendError("bad_request", "messages: the arguments of a tool call are no JSON object")
    return {
        "type": "tool_use",
        "id": str(call.get("id") or ""),
        "name": str(function.get("name") or ""),
        "input": decoded,
    }


def _result(message: Mapping[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": str(message.get("tool_call_id") or "")}
    content = _blocks(message.get("content"))
    return {**block, "content": content} if content else block


def _format(wanted: Mapping[str, Any] | None, *, structured: bool) -> tuple[dict[str, Any] | None, str]:
    """The schema to hold the answer to, or else the words that ask for it."""
    kind = (wanted or {}).get("type")
    if wanted is None or kind not in {"json_object", "json_schema"}:
        return None, ""
    words = "Answer with one JSON value and nothing else: no explanation, no code fence."
    schema = (as_object(wanted.get("json_schema")) or {}).get("schema") if kind == "json_schema" else None
    if not schema:
        return None, words
    strict = strict_schema(schema) if structured else None
    if strict is not None:
        return strict, ""
    return None, f"{words} It must match this JSON schema:\n{msgspec.json.encode(schema).decode()}"
