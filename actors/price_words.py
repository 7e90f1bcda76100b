"""A price in words. Pure."""

from __future__ import annotations

from messages import Price, Rate


def in_words(price: Price) -> str:
    """Dollars per million tokens, in and out, and for what is not counted in tokens; `free`, `unknown`."""
    if price.unknown:
        return "unknown"
    said: list[str] = []
    if price.input_per_mtok or price.output_per_mtok:
        said.append(f"{_dollars(price.input_per_mtok)} / {_dollars(price.output_per_mtok)}")
    if price.long_above_tokens:
        more = price.long_input_per_mtok or price.input_per_mtok, price.long_output_per_mtok or price.output_per_mtok
        said.append(f"{_dollars(more[0])} / {_dollars(more[1])} above {price.long_above_tokens:,} tokens")
    if price.cached_input_per_mtok is not None:
        said.append(f"cached {_dollars(price.cached_input_per_mtok)}")
    for each, amount, rates in (
        ("request", price.per_request, ()), ("image", price.per_image, price.image_rates),
        ("second", price.per_second, price.second_rates), ("GPU second", price.per_gpu_second, ()),
    ):  # fmt: skip
        if amount or rates:
            said.append(f"{_span(amount, rates)} per {each}")
    return ", ".join(said) or "free"


def _span(amount: int, rates: tuple[Rate, ...]) -> str:
    amounts = [rate.microdollars for rate in rates] + ([amount] if amount else [])
    least, most = _dollars(min(amounts)), _dollars(max(amounts))
    return least if least == most else f"{least} to {most}"


def _dollars(microdollars: int) -> str:
    return f"${microdollars / 1e6:.6f}".rstrip("0").rstrip(".") if microdollars else "free"
