"""What a model reads beside the bytes it is given: by its protocol, who sells it, and its name. Pure.

Every figure is a most. Those of hosted models are documented by their providers, with room for what is not; those of open models
come from their published chat templates. A model of the settings may state its own (`framing`).
"""

from __future__ import annotations

import re
from typing import Final

from messages import Framing

DEFAULT: Final = Framing()
"""Of whom nothing is known. Templates of Llama, Qwen, Gemma, DeepSeek, gpt-oss, Granite and SmolLM put up to some 200 tokens in
front; ChatML marks that a model does not know as such are some 30 bytes around a message."""
WORDY: Final = Framing(template=2_048)
"""Mistral's and Cohere's templates bring a system prompt of their own where the request has none: 300 to 1,200 tokens."""
_WORDY_NAMES: Final = re.compile(
    r"mistral|mixtral|magistral|devstral|codestral|ministral|pixtral|command|c4ai|aya", re.IGNORECASE
)

ANTHROPIC: Final = Framing(template=256, message=16, tools=1_024, image=5_000)
"""Tools bring a system prompt of 264 to 804 tokens, by model. An image has width x height / 750 tokens after it was scaled down:
at most some 1,600, and 4,784 of models with high resolution."""
GOOGLE: Final = Framing(template=128, message=16, tools=1_024, image=4_644)
"""An image is cut into tiles of 258 tokens, at most 16 and a whole view; from Gemini 3 on it has at most 2,240."""
OPENAI: Final = Framing(template=128, message=16, tools=1_024, image=12_000)
"""Three tokens for a message and three at the end are documented; reasoning models and tools bring some more. An image has at
most 10,000 patches where its model takes it as it is (gpt-5.4 and later), times 1.2 of the mini ones."""
_OPENAI_IMAGES: Final = (
    (re.compile(r"(?:chat)?gpt-image"), 8_192),  # 75 + 129 a tile, and up to 6,240 more at high fidelity.
    (re.compile(r"(?:ft:)?gpt-4o-mini"), 48_169),  # 2,833 + 8 tiles of 5,667.
    (re.compile(r"(?:ft:)?(?:gpt-4o|gpt-4\.5|chatgpt-4o|gpt-4-)"), 1_445),  # 85 + 8 tiles of 170.
    (
        re.compile(r"(?:ft:)?(?:gpt-4\.1-(?:mini|nano)|o4-mini|gpt-5-(?:mini|nano))"),
        3_840,
    ),  # 1,536 patches, times 2.46.
    (re.compile(r"(?:ft:)?(?:gpt-4\.1|o1|o3|gpt-5)(?![.\d])"), 1_445),
)
"""Models whose images count otherwise: the first that begins a name holds."""
_OPENAI_NAMES: Final = re.compile(r"(?:ft:)?(?:gpt-\d|gpt-image|chatgpt|o\d(?:-|$))")
_OPENAI_SELLERS: Final = frozenset({"openai", "azure"})


def framing_of(protocol: str, provider: str, model: str) -> Framing:
    """The usual framing of a model that states none."""
    if protocol == "anthropic":
        return ANTHROPIC
    if protocol == "gemini":
        return GOOGLE
    if provider in _OPENAI_SELLERS and _OPENAI_NAMES.match(model):
        image = next((most for names, most in _OPENAI_IMAGES if names.match(model)), OPENAI.image)
        return OPENAI if image == OPENAI.image else Framing(template=128, message=16, tools=1_024, image=image)
    return WORDY if _WORDY_NAMES.search(model) else DEFAULT
