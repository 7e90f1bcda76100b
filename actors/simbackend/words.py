"""What a simulated backend says: reproducible, and marked as simulated. Pure.

A token is a word with the space after it. That is no model's tokenizer, but usage, caps and speed agree on it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

from actors.simbackend.protocol import ChatRequest, encode

_WORDS: Final = (
    "track", "signal", "switch", "station", "freight", "junction", "platform", "siding", "yard", "lantern", "timber",
    "gravel", "engine", "whistle", "carriage", "bridge", "tunnel", "crossing", "schedule", "arrival", "departure",
    "conductor", "coupling", "brake", "boiler", "ticket", "window", "morning", "evening", "winter", "harbour", "valley",
)  # fmt: skip
_TOKEN: Final = re.compile(r"\s*\S+\s*")
_DEPTH: Final = 8
"""How deep an invented JSON value goes."""


def count_tokens(texts: Iterable[str]) -> int:
    """Tokens of a prompt, at least 1."""
    return max(1, sum(len(text.split()) for text in texts))


def answer_pieces(request: ChatRequest, *, name: str, tokens: int, seed: int) -> tuple[list[str], str]:
    """The answer as tokens, and why it ends there.

    It has about `tokens` tokens, never more than the request allows, and it is JSON when the request wants JSON.
    """
    wanted = request.response_format
    mark = f"[simulated by {name}]"
    if wanted is not None and wanted.type == "json_schema":
        schema = cast("dict[str, Any]", (wanted.json_schema or {}).get("schema") or {})
        text = encode(example(schema, mark)).decode()
    elif wanted is not None and wanted.type == "json_object":
        text = encode({"simulated_by": name, "answer": " ".join(_words(request, seed, tokens))}).decode()
    else:
        head = len(mark.split())
        text = " ".join((mark, *_words(request, seed, max(0, tokens - head))))
        for stop in request.stops:
            text = text.partition(stop)[0] if stop else text
    pieces: list[str] = _TOKEN.findall(text)
    cap = request.cap
    if cap is not None and len(pieces) > cap:
        return pieces[:cap], "length"
    return pieces, "stop"


def example(schema: Mapping[str, Any], text: str, depth: int = 0) -> Any:
    """A small value that fits a JSON schema of the usual kind; every free string in it is `text`."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return example(schema[name][0], text, depth)
    kind: Any = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = cast("list[Any]", kind)[0]
    if kind == "object":
        if depth >= _DEPTH:
            return {}
        properties = cast("dict[str, dict[str, Any]]", schema.get("properties") or {})
        return {name: example(inner, text, depth + 1) for name, inner in properties.items()}
    if kind == "array":
        items = cast("dict[str, Any]", schema.get("items") or {})
        return [example(items, text, depth + 1) for _ in range(min(4, int(schema.get("minItems", 1))))]
    if kind in {"integer", "number"}:
        return schema.get("minimum", 0)
    return {"boolean": True, "null": None}.get(kind, text)


def _words(request: ChatRequest, seed: int, count: int) -> Sequence[str]:
    """`count` words that follow from the seed and the conversation."""
    digest = blake2b("\0".join((str(seed), request.model, *request.texts())).encode("utf-8", "replace")).digest()
    size = len(digest)
    return [_WORDS[(digest[index % size] + index // size) % len(_WORDS)] for index in range(count)]
