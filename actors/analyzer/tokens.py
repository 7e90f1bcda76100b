"""How many tokens a request has, before any tokenizer sees it. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from messages import AnalysisRules, JobSubmit

MESSAGE_TOKENS = 4
"""Marks around each message: role, beginning and end, as in the chat formats of OpenAI and Qwen."""
LOW_DETAIL_TOKENS = 85
"""An image part with `"detail": "low"`, as OpenAI documents it."""
PIXELS_PER_IMAGE_TOKEN = 750
MOST_IMAGE_TOKENS = 1_600
"""An image of known size has width x height / 750 tokens, at most 1,600: Anthropic's documented formula."""
REFERENCE_CHARACTERS = 4.0
"""The rates below hold for this `characters_per_token`; another one scales them all."""

_CLASSES = {
    "w": range(ord("a"), ord("z") + 1),
    "W": range(ord("A"), ord("Z") + 1),
    "0": range(ord("0"), ord("9") + 1),
    "s": (ord(" "), ord("\t")),
    "n": (10, 11, 12, 13),
    # The first byte of a character tells its script, so one translation of the UTF-8 text sorts all characters.
    "l": range(0xC2, 0xCE),  # Latin letters with marks, phonetic letters.
    "c": (*range(0xD0, 0xD4), *range(0xD8, 0xE0)),  # Cyrillic, Arabic and what is written like it.
    "o": (*range(0xCE, 0xD0), *range(0xD4, 0xD8), *range(0xE0, 0xE4), *range(0xEA, 0xEE)),  # All other scripts.
    "j": range(0xE4, 0xEA),  # Ideographs.
    "e": range(0xEE, 0x100),  # Emoji, wide forms, rare scripts.
}


def _table() -> bytes:
    table = bytearray(b"p" * 256)  # Everything else: punctuation, signs, control characters.
    for mark, codes in _CLASSES.items():
        for code in codes:
            table[code] = ord(mark)
    return bytes(table)


_TABLE = _table()
_CONTINUATION = bytes(range(0x80, 0xC0))
"""The second to fourth bytes of a character; left out, so that a byte of the result is a character."""
_PLAIN_RATES = (
    (b"w", 0.178),  # a letter
    (b"W", 0.32),  # a capital
    (b"0", 0.9),  # a digit: one to three make a token
    (b"p", 0.52),  # punctuation, and the signs of code
    (b"n", 0.42),  # the end of a line
    (b"sw", 0.295),  # the beginning of a word
    (b"sW", 0.16),
    (b"sp", 0.45),  # a sign that stands apart
    (b"wW", 0.5),  # camelCase
    (b"ss", 0.152),  # indentation
)
_OTHER_RATES = ((b"l", 1.8), (b"c", 0.445), (b"o", 0.72), (b"j", 0.89), (b"e", 2.5))


def estimate_tokens(text: str, rules: AnalysisRules | None = None) -> int:
    """Tokens of a text; 0 for an empty one.

    A sum over kinds of characters and of neighbours (word beginnings, camelCase, indentation), each with its own rate,
    so more text never gives less. The rates come from a least-squares fit to 636 pieces of 45 kinds of text (31 languages,
    source code, markup, numbers, emoji), counted by five tokenizers: o200k_base, cl100k_base, Qwen, DeepSeek-V3 and Mistral's
    Tekken. On 32 texts that were not fitted (`tests/actors/analyzer/counted.json`), against the geometric mean of the
    five: mean relative error 0.11, worst 0.43 (Thai); characters / 4 has 0.32 and 0.77 there. Against one tokenizer
    alone the mean is 0.15 to 0.20 and the worst 0.97 (Thai): measured usage corrects that for each model
    (`Stats.input_ratio`, applied by the router). `rules.characters_per_token` scales the sum; 4.0 leaves it as it is.
    """
    if not text:
        return 0
    marks = text.encode("utf-8", "surrogatepass").translate(_TABLE, _CONTINUATION)
    count = marks.count
    total = 0.0
    for pattern, rate in _PLAIN_RATES:
        total += rate * count(pattern)
    if not text.isascii():
        for pattern, rate in _OTHER_RATES:
            total += rate * count(pattern)
    if rules is not None:
        total *= REFERENCE_CHARACTERS / rules.characters_per_token
    return int(total) + 1


class Reading(msgspec.Struct, frozen=True):
    """What a model has to read, counted."""

    text: str = ""
    """All text of the conversation."""
    images: int = 0
    """Image parts (a video part counts as one)."""
    sounds: int = 0
    """Audio parts."""
    messages: int = 0
    """Messages of the conversation."""
    content_tokens: int = 0
    """Tokens of text, images, tools, tool calls and schema."""

    @property
    def tokens(self) -> int:
        """All input tokens: the content's, and those that mark its messages."""
        return self.content_tokens + self.messages * MESSAGE_TOKENS


def read(submit: JobSubmit, rules: AnalysisRules) -> Reading:
    """Count what a submission gives to read."""
    messages = submit.conversation
    texts: list[str] = []
    parts: list[dict[str, Any]] = []
    unseen: list[Any] = [*submit.tools]
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            _sort(cast("list[Any]", content), texts, parts)
        if calls := message.get("tool_calls"):
            unseen.append(calls)
    if submit.response_format:
        unseen.append(submit.response_format)
    texts.extend(submit.texts)
    text = texts[0] if len(texts) == 1 else "\n".join(texts)
    tokens = estimate_tokens(text, rules)
    if submit.style:
        tokens += estimate_tokens(submit.style, rules)
    if unseen:
        tokens += estimate_tokens(msgspec.json.encode(unseen).decode(), rules)
    tokens += math.ceil(rules.image_tokens) * sum(given.media_type.startswith("image/") for given in submit.inputs)
    sounds = 0
    for part in parts:
        sound = "audio" in str(part.get("type", ""))
        sounds += sound
        tokens += math.ceil(rules.image_tokens) if sound else _image_tokens(part, rules)
    return Reading(text, len(parts) - sounds, sounds, len(messages), tokens)


def _sort(content: Iterable[Any], texts: list[str], parts: list[dict[str, Any]]) -> None:
    """Text to the texts, all other parts to the parts."""
    for part in content:
        if isinstance(part, dict):
            known = cast("dict[str, Any]", part)
            if "text" in known:
                texts.append(str(known["text"]))
            else:
                parts.append(known)
        else:
            texts.append(str(part))


def _image_tokens(part: dict[str, Any], rules: AnalysisRules) -> int:
    image: Any = part.get("image_url")
    url: Any = image
    if isinstance(image, dict):
        said = cast("dict[str, Any]", image)
        if said.get("detail") == "low":
            return LOW_DETAIL_TOKENS
        url = said.get("url")
    pixels = _png_pixels(url) if isinstance(url, str) else 0
    if pixels:
        return min(MOST_IMAGE_TOKENS, -(-pixels // PIXELS_PER_IMAGE_TOKEN))
    return math.ceil(rules.image_tokens)


_PNG_URL = "data:image/png;base64,"
_PNG_START = b"\x89PNG\r\n\x1a\n"


def _png_pixels(url: str) -> int:
    """Width x height of a PNG in a data URL, from its first 24 bytes; 0 for anything else."""
    if not url.startswith(_PNG_URL):
        return 0
    try:
        head = base64.b64decode(url[len(_PNG_URL) : len(_PNG_URL) + 32], validate=True)
    except (binascii.Error, ValueError):
        return 0
    if len(head) < 24 or not head.startswith(_PNG_START):
        return 0
    return int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")
