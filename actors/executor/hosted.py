"""Hosted models that a key in the environment makes usable without any configuration: what no price list says of them.

Their prices come from the book of prices. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from actors.executor.backends import port
from messages import Model, Price

_DATE: Final = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d)$")
_SEES: Final = ("text", "json", "code", "tools", "vision")


def _text(name: str, *, context: int, output: int, tier: int) -> Model:
    return Model(
        name=name,
        capabilities=_SEES,
        context_tokens=context,
        max_output_tokens=output,
        price=Price(unknown=True),
        quality_tier=tier,
    )


OPENAI: Final[tuple[Model, ...]] = (
    _text("gpt-6-luna", context=922_000, output=128_000, tier=3),
    _text("gpt-6.1-terra", context=922_000, output=128_000, tier=4),
    _text("gpt-6.1-sol", context=922_000, output=128_000, tier=5),
    _text("gpt-5.4-mini", context=272_000, output=128_000, tier=3),
    _text("gpt-4.1", context=1_047_576, output=32_768, tier=4),
    _text("gpt-4o-mini", context=128_000, output=16_384, tier=2),
)
"""Of the first four `context_tokens` is what they read at most; what they write comes on top."""
ANTHROPIC: Final[tuple[Model, ...]] = (
    _text("claude-haiku-5-5", context=1_000_000, output=128_000, tier=3),
    _text("claude-sonnet-5-5", context=1_000_000, output=128_000, tier=4),
    _text("claude-opus-5-5", context=1_000_000, output=128_000, tier=5),
    _text("claude-fable-5-2", context=1_000_000, output=128_000, tier=5),
    _text("claude-mythos-5-2", context=1_000_000, output=128_000, tier=5),
    _text("claude-haiku-4-5", context=200_000, output=64_000, tier=2),
)
GEMINI: Final[tuple[Model, ...]] = (
    _text("gemini-3.5-flash-lite", context=1_048_576, output=65_536, tier=3),
    _text("gemini-3.8-flash", context=1_048_576, output=65_536, tier=4),
    _text("gemini-4-argon", context=1_048_576, output=1_048_576, tier=5),
)
CHOSEN: Final[Mapping[str, tuple[Model, ...]]] = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GEMINI}
"""The text models that are used unasked, by provider: its own list holds old ones and special ones by the dozen."""


def hosted_models(
    provider: str, listed: Sequence[port.Offer] | None, knows_price: Callable[[str], bool]
) -> tuple[Model, ...]:
    """The models that an account may use, not priced yet; those we know when the account could not be asked (None).

    Text models are those that are chosen here; models for pictures, films, sounds and embeddings those whose price is known.
    Of a provider that is not known here all are taken.
    """
    chosen = CHOSEN.get(provider)
    if listed is None:
        return chosen or ()
    known = {model.name: model for model in chosen or ()}
    return tuple(
        completed(model_of(offer, local=False), known.get(undated(offer.model)))
        for offer in listed
        if chosen is None
        or undated(offer.model) in known
        or ("text" not in offer.capabilities and knows_price(offer.model))
    )


def undated(model: str) -> str:
    """A model's name without the day of its edition: `claude-haiku-4-5-20251001` is a `claude-haiku-4-5`."""
    return _DATE.sub("", model)


def completed(model: Model, known: Model | None) -> Model:
    """A listed model with what is known of it besides: the list's own word comes first, but for the context.

    What a model reads at most is not what a request may hold where the two are counted apart, so our figure stands.
    """
    if known is None:
        return model
    return msgspec.structs.replace(
        model,
        capabilities=tuple(sorted({*model.capabilities, *known.capabilities})),
        context_tokens=known.context_tokens,
        max_output_tokens=model.max_output_tokens or known.max_output_tokens,
        quality_tier=known.quality_tier,
    )


def model_of(offer: port.Offer, *, local: bool) -> Model:
    """A listed model as the fleet knows it. What runs on hardware of ours is free; the price of others is not known yet."""
    return Model(
        name=offer.model,
        capabilities=_capabilities(offer),
        context_tokens=offer.context_tokens,
        max_output_tokens=offer.max_output_tokens,
        price=Price(unknown=not local),
        parameters_billion=offer.parameters_billion,
        vram_mb=offer.vram_mb,
        loras=offer.loras,
        has=offer.has,
        retires=offer.retires,
    )


def _capabilities(offer: port.Offer) -> tuple[str, ...]:
    """As listed. All kinds of server take `response_format` for text; whether a model writes good code nobody says.

    A list in OpenAI's form says nothing at all of its models: those that embed are told by their usual names.
    """
    found = set(offer.capabilities)
    if found == {"text"} and offer.model.rpartition("/")[2].startswith("text-embedding"):
        return ("embedding",)
    return tuple(sorted(found | {"json", "code"} if "text" in found else found))
