"""What a listed model is for: whether it writes answers, embeds, draws, or does something that no call here asks for. Pure.

The server's own word comes first, under any of the names that servers give it; where it has none, the model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, cast

from actors.executor.backends.errors import as_object

Role = Literal["text", "embedding", "image", "other"]

_KINDS: Final = (
    "type", "model_type", "modelType", "reported_type", "mode", "task", "task_type", "pipeline_tag", "sub_type", "category",
)  # fmt: skip
_WORDS: Final[tuple[tuple[Role, re.Pattern[str]], ...]] = (
    (
        "other",
        re.compile(
            r"rerank|ranking|moderation|guard|classif|speech|audio|voice|tts|stt|asr|transcri|video|ocr|reward|score|music"
            r"|upscal|painting|inpaint|segment|detect|depth-|fill-mask|3d"
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
_PART: Final = r"(?:^|[-_/.:])(?:{})(?:[-_/.:@]|(?<=[a-z])\d|$)"
"""One of these words as a whole part of a name; a number may follow it."""
_NAMES: Final[tuple[tuple[Role, re.Pattern[str]], ...]] = (
    (
        "other",
        re.compile(
            r"whisper|xtts|chattts|chatterbox|(?:^|/)dia-\d|speecht5|cosyvoice|orpheus|kokoro|parakeet|playai|silero|pyannote|musicgen|audiogen"
            r"|audioldm|lyria-|(?:gpt|4o|mini|stable)-audio|(?:^|/)eleven(?:labs)?[-_/]|canary-(?:\d|qwen)|vibevoice|opus-mt|transcri|diariz"
            r"|(?<!van)guard|shieldgemma|moderation|content-safety|rerank|cross-encoder|armorm|classifier|mistral-ocr"
            r"|hailuo-|cogvideo|ltx-?video|ltxv|(?:hunyuan|animate)-?(?:video|diff|3d)|trellis-|triposr|(?:^|/)yolo|esrgan"
            r"|birefnet|depth-anything|" + _PART.format(
                "tts|stt|asr|vad|speech|voices?|realtime|music|sonic|bark|piper|ranker|reward|sora|veo|kling|wan\\d+|sam\\d+"
                "|[tifs]{1,2}2v|mochi"
            )
        ),
    ),
    (
        "embedding",
        re.compile(
            r"embed(?!ded)|sentence-t|gtr-t5|all-mpnet|paraphrase-|instructor-(?:base|large|xl)|splade|stella_en|"
            + _PART.format("bge|e5|gte|minilm|mxbai|voyage|clip|siglip|colbert|colpali|colqwen|m3e|labse")
            + r"|(?:^|[-_/])(?:(?:distil|mobile|modern|camem|fin|bio|sci|legal)?bert|(?:xlm-)?roberta|deberta)(?:[-_/.]|$)"
        ),
    ),
    (
        "image",
        re.compile(
            r"stable-?(?:diffusion|cascade)|sdxl|dall-e|kandinsky|recraft|ideogram|cogview|seedream|seededit|hidream"
            r"|dreamshaper|juggernaut-?xl|pixart|midjourney|playground-v\d|nano-banana|(?:gpt|qwen|z|hunyuan|lumina)-?image|"
            + _PART.format("flux|imagen|kolors|sd-?\\d+")
        ),
    ),
)  # fmt: skip
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
    can = as_object(card.get("capabilities"))
    return _kind(can) if can else None  # GitHub's: `{"capabilities": {"type": "embeddings"}}`.


def _flags(card: Mapping[str, Any]) -> Role | None:
    """By `supports_chat: true` or `capabilities: {completion_chat: true}`, or a list of capabilities."""
    can: Any = card.get("capabilities")
    flags = {**card, **(as_object(can) or {})}
    for name in ("supports_chat", "completion_chat", "chat_completion", "chat"):
        if isinstance(flags.get(name), bool):
            return "text" if flags[name] else _in_words(_true(flags)) or "other"
    return _in_words([*_texts(can), *_texts(card.get("model_ability"))])


def _true(flags: Mapping[str, Any]) -> list[str]:
    return [name for name, value in flags.items() if value is True]


def _outputs(card: Mapping[str, Any]) -> Role | None:
    """By its modalities: what only hears sound is no text model, though it writes."""
    shape = as_object(card.get("architecture")) or as_object(card.get("modalities")) or {}
    outputs, inputs = (
        _texts(card.get(name) or card.get(f"supported_{name}") or shape.get(name) or shape.get(name.partition("_")[0]))
        for name in ("output_modalities", "input_modalities")
    )
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
