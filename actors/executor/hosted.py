"""Hosted models with their list prices: what a key in the environment makes usable without any configuration.

Prices are per million tokens and change: a backend that is configured by hand replaces what is written here.
"""

from __future__ import annotations

from typing import Final

from messages import Model, Price


def _openai(name: str, dollars_in: float, dollars_out: float, *, context: int, output: int, tier: int) -> Model:
    return Model(
        name=name,
        capabilities=("text", "json", "code", "tools", "vision"),
        context_tokens=context,
        max_output_tokens=output,
        price=Price(input_per_mtok=round(dollars_in * 1e6), output_per_mtok=round(dollars_out * 1e6)),
        quality_tier=tier,
    )


# Above 272,000 input tokens a whole request costs more, so that much context is all that is offered.
OPENAI: Final[tuple[Model, ...]] = (
    _openai("gpt-6-luna", 0.10, 0.50, context=272_000, output=128_000, tier=3),
    _openai("gpt-6.1-terra", 1.0, 5.0, context=272_000, output=128_000, tier=4),
    _openai("gpt-6.1-sol", 2.0, 10.0, context=272_000, output=128_000, tier=5),
    _openai("gpt-5.4-mini", 0.75, 4.5, context=272_000, output=128_000, tier=3),
    _openai("gpt-4.1", 2.0, 8.0, context=1_047_576, output=32_768, tier=4),
    _openai("gpt-4o-mini", 0.15, 0.60, context=128_000, output=16_384, tier=2),
)
