"""The most tokens that a submission can give to read, by what can be seen of it: its bytes. Pure.

A tokenizer whose smallest pieces are bytes, or characters, makes at most one token of each byte of what it reads. What it reads
may be longer than what was sent: some bring text into a normal form first, and servers render tools in forms of their own.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii
from typing import Any, Final, cast

import msgspec

from messages import Bound, JobSubmit

PART_TOKENS: Final = 8
"""At the seam of two texts a normal form may undo a composed letter: five bytes at most (U+1F82), and a token that marks a
beginning."""
TOOL_TOKENS: Final = 64
"""Words and marks around each tool, and around each call of one."""
FORM_TOKENS: Final = 64
"""The sentence that asks for JSON where a model can't be held to it."""
BYTES_PER_AUDIO_TOKEN: Final = 8
"""Models that hear take at most 50 tokens of a second; the poorest sound of a WAV or MP3 file has 1,000 bytes in it."""
_SOUNDS: Final = frozenset({"audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3", "wav", "mp3"})
_OUR_TOOLS: Final = frozenset({"", "function", "custom"})
"""Kinds of tools that the client runs; any other runs at the server, which feeds what it finds to the model."""
_INDENT: Final = 4
_OFTEN_ESCAPED: Final = "<>&'\b\f\x7f"
"""Some servers write six characters for each of these, where Python writes one or two."""


def widest(text: str) -> int:
    """The most bytes that a tokenizer sees of a text.

    The longest of it as it is, in the normal forms NFC (Qwen, Cohere) and NFKC (Claude, SentencePiece), and folded to lower
    case after that. U+FDFA grows from 3 bytes to 33, U+0958 from 3 to 6. Who takes letters apart (NFD, NFKD) drops the marks and
    has no pieces smaller than a character, so its tokens are no more than these bytes.
    """
    if text.isascii():
        return len(text)
    most = _bytes(text)
    if not unicodedata.is_normalized("NFKC", text):
        if not unicodedata.is_normalized("NFC", text):
            most = max(most, _bytes(unicodedata.normalize("NFC", text)))
        text = unicodedata.normalize("NFKC", text)
        most = max(most, _bytes(text))
    return max(most, _bytes(text.casefold()))


def escaped(text: str) -> int:
    """The most bytes of a text as a JSON string: some servers escape all but ASCII, some `<`, `>`, `&` and `'`."""
    written = len(encode_basestring_ascii(text)) + 5 * sum(map(text.count, _OFTEN_ESCAPED))
    return written if text.isascii() else max(written, widest(text) + 2)


def rendered(value: object, depth: int = 0) -> int:
    """The most bytes of a JSON value as servers write it for a model: escaped, indented by four, with a tag before and after."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        own = _INDENT * depth + 4
        return own + sum(
            2 * escaped(str(name)) + _INDENT * (depth + 1) + 6 + rendered(one, depth + 1)
            for name, one in fields.items()
        )
    if isinstance(value, list | tuple):
        items = cast("Iterable[Any]", value)
        return _INDENT * depth + 4 + sum(_INDENT * (depth + 1) + 3 + rendered(one, depth + 1) for one in items)
    return len(json.dumps(value)) + 1  # Python writes `False` for `false`.


def bound_of(submit: JobSubmit) -> Bound:
    """Everything that is sent to a model, and everything that stands for it once the request was degraded."""
    adding = _Adding()
    for message in submit.conversation:
        adding.message(message)
    for given in submit.inputs:
        adding.file(given.media_type, given.data)
    for tool in submit.tools:
        adding.tool(tool)
    for text in (submit.style, submit.negative_prompt):
        if text:
            adding.text(text)
    if submit.response_format:
        adding.total += rendered(submit.response_format) + FORM_TOKENS
    for text in submit.texts:
        adding.messages += 1
        adding.text(text)
    return Bound(
        tokens=adding.total + widest("\n".join(adding.texts)),
        messages=adding.messages,
        tools=bool(submit.tools or submit.response_format),
        images=adding.images,
        unbounded=adding.unbounded,
    )


class _Adding:
    """The sums, while they are made."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.total = self.messages = self.images = 0
        self.unbounded = ""

    def text(self, text: str) -> None:
        self.texts.append(text)
        self.total += PART_TOKENS

    def message(self, message: dict[str, Any]) -> None:
        self.messages += 1
        told = message.get("role") in ("tool", "function")
        content: Any = message.get("content")
        parts = cast("list[Any]", content) if isinstance(content, list) else [content] if content else []
        for part in parts:
            fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {"text": part}
            if "text" not in fields:
                self.part(fields)
            elif told:  # The answer of a tool is written as JSON by some templates.
                self.total += escaped(str(fields["text"]))
            else:
                self.text(str(fields["text"]))
        for name, value in message.items():
            if name == "tool_calls":
                self.calls(value)
            elif name not in ("role", "content") and value:
                self.total += rendered(value)

    def part(self, part: dict[str, Any]) -> None:
        """A part of a message that is no text."""
        kind = str(part.get("type", ""))
        sound: Any = part.get("input_audio")
        if "image" in kind:
            self.images += 1
        elif isinstance(sound, dict):
            fields = cast("dict[str, Any]", sound)
            self.file(f"audio/{fields.get('format', '')}", str(fields.get("data", "")))
        else:
            self.unbounded = self.unbounded or f"a part of the kind {kind[:40] or 'unknown'}"

    def file(self, media_type: str, data: str) -> None:
        """A file that is brought along; `data` in base64, empty when it lies elsewhere."""
        kind = media_type.partition("/")[0]
        if kind == "image":
            self.images += 1
        elif media_type in _SOUNDS and data:
            self.total += len(data) // BYTES_PER_AUDIO_TOKEN
        else:
            self.unbounded = self.unbounded or f"a file ({media_type[:40] or 'of unknown kind'})"

    def tool(self, tool: dict[str, Any]) -> None:
        self.total += rendered(tool) + TOOL_TOKENS
        kind = str(tool.get("type", ""))
        if kind not in _OUR_TOOLS:
            self.unbounded = self.unbounded or f"the server's tool {kind[:40]}"

    def calls(self, calls: object) -> None:
        """Calls of tools: their arguments are a text of JSON, which some templates take apart and write anew."""
        for call in cast("list[Any]", calls) if isinstance(calls, list) else [calls]:
            self.total += max(rendered(call), rendered(_taken_apart(call))) + TOOL_TOKENS


def _taken_apart(call: Any) -> Any:
    found: Any = call
    try:
        arguments = msgspec.json.decode(call["function"]["arguments"])
        found = {**call, "function": {**call["function"], "arguments": arguments}}
    except (TypeError, KeyError, msgspec.DecodeError):
        pass  # No call of a function, or its arguments are no JSON: nobody takes them apart.
    return found


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
