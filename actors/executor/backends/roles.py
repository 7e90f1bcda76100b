"""What a listed model is for: whether it writes answers, embeds, draws, or does something that no call here asks for. Pure.

The server's own word comes first, under any of the names that servers give it; where it has none, the model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, cast

from actors.executor.backends.errors import as_object

Role = Literal["text", "embedding", "image", "other"]

_KINDS: Final = ("type", "model_type", "mode", "task", "task_type", "pipeline_tag", "sub_type", "category")
_WORDS: Final[tuple[tuple[Role, re.Pattern[str]], ...]] = (
    (
        "other",
        re.compile(
            r"rerank|ranking|moderation|guard|classif|speech|audio|voice|tts|stt|asr|transcri|video|ocr|reward|score"
        ),
    ),
    ("embedding", re.compile(r"embed|feature-extraction|sentence-similarity")),
    (
        "text",
        re.compile(
            r"chat|completion|llm|vlm|language|text-?generation|text2text|image-text|any-to-any|\bcode\b|responses?\b"
            r"|multimodal|^text$|generate"
        ),
    ),
    ("image", re.compile(r"image")),
)
"""Words of a kind, the first that fits counts: `audio_transcription`, `chat`, `text-embedding`."""
_ENDPOINTS: Final = ("endpoints", "supported_endpoints", "supported_endpoint_types", "supported_generation_methods")
_NAMES: Final[tuple[tuple[Role, re.Pattern[str]], ...]] = (
    (
        "other",
        re.compile(
            r"whisper|(?:^|[-_/.:])(?:tts|stt|asr|speech|voice)(?:[-_/.:\d]|$)|xtts|speecht5|orpheus|kokoro|parakeet"
            r"|canary-\d|playai|(?:^|[-_/])bark(?:[-_]|$)|transcri|diariz|(?<!van)guard|shieldgemma|moderation|rerank"
            r"|(?:^|[-_/])ranker|cross-encoder|(?:^|[-_])reward(?:[-_]|$)|classifier"
            r"|(?:^|[-_/])(?:sora|veo|kling|cogvideo(?:x)?|wan\d)(?:[-_/.:\d]|$)"
        ),
    ),
    (
        "embedding",
        re.compile(
            r"embed(?!ded)|(?:^|[-_/])(?:bge|e5|gte|minilm|mxbai|voyage)(?:[-_/.:]|$)|sentence-transformers|all-mpnet"
        ),
    ),
    (
        "image",
        re.compile(
            r"stable-?diffusion|sdxl|(?:^|[-_/.])flux|dall-e|(?:^|[-_/])sd-?\d|kandinsky|qwen-image|seedream|gpt-image"
        ),
    ),
)
"""How models are called that are no text models, as whole parts of their names where a part may mean something else."""


def role_of(card: Mapping[str, Any]) -> Role | None:
    """What the server itself says that a model is for; None: it does not say."""
    for said in (_flags(card), _kind(card), _outputs(card), _endpoints(card)):
        if said is not None:
            return said
    return None


def named_role(model: str) -> Role | None:
    """What a model is for by its name; None: the name does not tell, and most of those write."""
    lower = model.lower()
    name = lower.rpartition("/")[2] if lower.startswith(("/", "\\")) or lower.endswith(".gguf") else lower
    return next((role for role, pattern in _NAMES if pattern.search(name)), None)


def _in_words(words: Iterable[str]) -> Role | None:
    found = {role for word in words for role, pattern in _WORDS if pattern.search(word.lower())}
    roles: tuple[Role, ...] = ("text", "embedding", "image", "other")
    return next((role for role in roles if role in found), None)


def _kind(card: Mapping[str, Any]) -> Role | None:
    """By the first field that names a kind; a kind of its own means something else than its parts: `text-embedding`."""
    for name in _KINDS:
        value: Any = card.get(name)
        if isinstance(value, str) and value.lower() not in ("", "model"):
            for role, pattern in _WORDS:
                if pattern.search(value.lower()):
                    return role
    return None


def _flags(card: Mapping[str, Any]) -> Role | None:
    """By `supports_chat: true` or `capabilities: {completion_chat: true}`, or a list of capabilities."""
    can: Any = card.get("capabilities")
    flags = {**card, **(as_object(can) or {})}
    for name in ("supports_chat", "completion_chat", "chat_completion", "chat"):
        if isinstance(flags.get(name), bool):
            return "text" if flags[name] else _in_words(_true(flags)) or "other"
    return _in_words(_texts(can))


def _true(flags: Mapping[str, Any]) -> list[str]:
    return [name for name, value in flags.items() if value is True]


def _outputs(card: Mapping[str, Any]) -> Role | None:
    """By its modalities: what only hears sound is no text model, though it writes."""
    shape = as_object(card.get("architecture")) or as_object(card.get("modalities")) or {}
    outputs = _texts(card.get("output_modalities") or shape.get("output_modalities") or shape.get("output"))
    inputs = _texts(card.get("input_modalities") or shape.get("input_modalities") or shape.get("input"))
    modality: Any = shape.get("modality") or card.get("modality")
    if not outputs and isinstance(modality, str) and "->" in modality:
        before, _, after = modality.partition("->")
        inputs, outputs = before.split("+"), after.split("+")
    if not outputs:
        return None
    if "text" in outputs:
        return "other" if inputs and "text" not in inputs else "text"
    return _in_words(outputs) or "other"


def _endpoints(card: Mapping[str, Any]) -> Role | None:
    for name in _ENDPOINTS:
        words = _texts(card.get(name))
        if words:
            return "text" if any(word in ("openai", "anthropic", "gemini") for word in words) else _in_words(words)
    return None


def _texts(value: object) -> list[str]:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [item for item in items if isinstance(item, str)]
