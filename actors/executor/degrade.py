"""What becomes of a request where a backend lacks something that the job only prefers. Pure.

The steps are the policy's (`messages.policies.Degrade`); each is disclosed in the decision. Applying one again changes
nothing, the order of messages is kept, and no text is lost but in the messages that `shorten` leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.port import Call
from messages.policies import Degrade

BYTES_PER_TOKEN: Final = 3
"""Prose has about four bytes of UTF-8 in a token, code three. The lower one, for a prompt that is too long is refused."""
IMAGE_TOKENS: Final = 800
"""Tokens of an image that says no size."""
JSON_WANTED: Final = "Answer with JSON only, without any other text."

_IMAGES: Final = ("image_url", "image", "input_image")
_INSTRUCTIONS: Final = ("system", "developer")
_TOOL_ANSWERS: Final = ("tool", "function")

Messages = tuple[dict[str, Any], ...]
"""A conversation in OpenAI form."""


def degraded(call: Call, steps: Sequence[Degrade], *, style: str = "", context_tokens: int | None = None) -> Call:
    """`call` after these steps, whatever their order; `shorten` comes last, since the others change the length.

    `style` is the job's wanted style in words. `context_tokens` is the model's limit for prompt and answer together;
    None: unknown, and nothing is left out.
    """
    if "describe_style" in steps:
        call = msgspec.structs.replace(call, messages=describe_style(call.messages, style))
    if "drop_images" in steps:
        call = msgspec.structs.replace(call, messages=drop_images(call.messages))
    if "drop_tools" in steps:
        call = drop_tools(call)
    if "plain_text" in steps:
        call = plain_text(call)
    if "shorten" in steps and context_tokens is not None:
        call = shorten(call, context_tokens)
    return call


def drop_images(messages: Messages) -> Messages:
    """In every message with images, one text in place of the first says how many are left out."""
    return tuple(_without_images(message, "") for message in messages)


def describe_style(messages: Messages, style: str) -> Messages:
    """The same, and the text names the wanted style. Without a style nothing can be described: images are dropped."""
    return tuple(_without_images(message, style.strip()) for message in messages)


def drop_tools(call: Call) -> Call:
    """No tools are offered; earlier tool calls and their answers stay in the conversation as text."""
    return msgspec.structs.replace(call, tools=(), messages=tuple(_without_tools(message) for message in call.messages))


def plain_text(call: Call) -> Call:
    """No form is demanded; when it was JSON, the last message of the user asks for it in words, schema included."""
    wanted = call.response_format
    if wanted is None:
        return call
    messages = call.messages
    if wanted.get("type") in ("json_object", "json_schema"):
        sentence = JSON_WANTED
        schema = _object(wanted.get("json_schema")).get("schema")
        if schema:
            sentence += f" It must fit this JSON schema: {msgspec.json.encode(schema).decode()}"
        messages = _asked(messages, sentence)
    return msgspec.structs.replace(call, response_format=None, messages=messages)


def shorten(call: Call, context_tokens: int) -> Call:
    """The oldest messages are left out until prompt and answer are estimated to fit into `context_tokens`.

    Instructions (`system`, `developer`) and the last message stay in any case, so it may still be too long. The answers
    of tools stay or go with the call that they answer.
    """
    room = context_tokens - call.max_output_tokens - _tokens(call.tools)
    sizes = [message_tokens(message) for message in call.messages]
    total = sum(sizes)
    last = len(sizes) - 1
    while last > 0 and call.messages[last].get("role") in _TOOL_ANSWERS:
        last -= 1
    left_out: set[int] = set()
    for at, message in enumerate(call.messages[: max(last, 0)]):
        if message.get("role") in _INSTRUCTIONS:
            continue
        orphan = message.get("role") in _TOOL_ANSWERS and bool(left_out)
        if total <= room and not orphan:
            break
        left_out.add(at)
        total -= sizes[at]
    if not left_out:
        return call
    kept = tuple(message for at, message in enumerate(call.messages) if at not in left_out)
    return msgspec.structs.replace(call, messages=kept, context_tokens=min(call.context_tokens, context_tokens))


def message_tokens(message: Mapping[str, Any]) -> int:
    """Estimated tokens of a message, its frame included; the data of an image count as one image."""
    parts = _parts(message)
    images = sum(_is_image(part) for part in parts)
    if images:
        message = {**message, "content": [part for part in parts if not _is_image(part)]}
    return _tokens(message) + images * IMAGE_TOKENS


def _tokens(value: object) -> int:
    return -(-len(msgspec.json.encode(value)) // BYTES_PER_TOKEN) if value else 0


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content: Any = message.get("content")
    return cast("list[Any]", content) if isinstance(content, list) else []


def _is_image(part: object) -> bool:
    return _object(part).get("type") in _IMAGES


def _without_images(message: dict[str, Any], style: str) -> dict[str, Any]:
    parts = _parts(message)
    count = sum(_is_image(part) for part in parts)
    if not count:
        return message
    note = "An image is left out." if count == 1 else f"{count} images are left out."
    if style:
        note = f"The style image is left out. Wanted style: {style}"
    first = next(at for at, part in enumerate(parts) if _is_image(part))
    kept = [part for part in parts[first:] if not _is_image(part)]
    return {**message, "content": [*parts[:first], {"type": "text", "text": note}, *kept]}


def _without_tools(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("role") in _TOOL_ANSWERS:
        name = message.get("name")
        kept = {"role": "user", "content": message.get("content")}
        return _with_text(kept, f"Answer of the tool {name}:" if name else "Answer of the tool:", first=True)
    calls: Any = message.get("tool_calls")
    if not isinstance(calls, list | tuple):
        return message
    kept = {name: value for name, value in message.items() if name != "tool_calls"}
    for call in cast("Sequence[Any]", calls):
        function = _object(_object(call).get("function"))
        text = f"I called the tool {function.get('name', '')} with {function.get('arguments', '')}"
        kept = _with_text(kept, text)
    return kept


def _asked(messages: Messages, sentence: str) -> Messages:
    """The conversation with a sentence at the end of what the user said last."""
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].get("role") == "user":
            return (*messages[:at], _with_text(messages[at], sentence), *messages[at + 1 :])
    return (*messages, {"role": "user", "content": sentence})


def _with_text(message: Mapping[str, Any], text: str, *, first: bool = False) -> dict[str, Any]:
    content: Any = message.get("content")
    if isinstance(content, list):
        part, parts = {"type": "text", "text": text}, cast("list[Any]", content)
        return {**message, "content": [part, *parts] if first else [*parts, part]}
    if not content:
        return {**message, "content": text}
    return {**message, "content": f"{text}\n{content}" if first else f"{content}\n\n{text}"}
