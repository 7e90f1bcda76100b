"""Hosted models that a key in the environment makes usable without any configuration: what no price list says of them.

Their prices come from the book of prices.
"""

from __future__ import annotations

from typing import Final

from messages import Model, Price


def _openai(name: str, *, context: int, output: int, tier: int) -> Model:
    return Model(
        name=name,
        capabilities=("text", "json", "code", "tools", "vision"),
        context_tokens=context,
        max_output_tokens=output,
        price=Price(unknown=True),
        quality_tier=tier,
    )


OPENAI: Final[tuple[Model, ...]] = (
    _openai("gpt-6-luna", context=922_000, output=128_000, tier=3),
    _openai("gpt-6.1-terra", context=922_000, output=128_000, tier=4),
    _openai("gpt-6.1-sol", context=922_000, output=128_000, tier=5),
    _openai("gpt-5.4-mini", context=272_000, output=128_000, tier=3),
    _openai("gpt-4.1", context=1_047_576, output=32_768, tier=4),
    _openai("gpt-4o-mini", context=128_000, output=16_384, tier=2),
)
"""Of the first four `context_tokens` is what they read at most; what they write comes on top."""
