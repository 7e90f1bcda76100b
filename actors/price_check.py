"""What can't be meant by a price, whoever wrote it: settings, a file, a flag. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from messages import Price, Rate

_LEAST: tuple[tuple[str, str], ...] = (
    ("long_input_per_mtok", "input_per_mtok"),
    ("long_output_per_mtok", "output_per_mtok"),
)
_LONG = ("long_input_per_mtok", "long_output_per_mtok", "long_cached_input_per_mtok", "long_cache_write_per_mtok")


def faults(price: Price) -> Iterator[tuple[str, object, str]]:
    """Each contradiction: the field, its value, and what would be right."""
    for name in Price.__struct_fields__:
        value: Any = getattr(price, name)
        if isinstance(value, int) and value < 0:
            yield name, value, "use 0 (free) or more"
    for name, least in _LEAST:
        value, base = getattr(price, name), getattr(price, least)
        if 0 < value < base:
            yield (
                name,
                value,
                f"a long request costs no less than others: use at least {least}, or leave it out",
            )
    named = next((name for name in _LONG if getattr(price, name)), "")
    if named and not price.long_above_tokens:
        yield named, getattr(price, named), "say from how many input tokens on: long_above_tokens"
    if price.as_of and not is_day(price.as_of):
        yield "as_of", price.as_of, "use a day, as in 2026-11-21"
    for name in ("image_rates", "second_rates"):
        yield from _of_rates(name, getattr(price, name))


def _of_rates(name: str, rates: tuple[Rate, ...]) -> Iterator[tuple[str, object, str]]:
    seen: set[tuple[int, str]] = set()
    for place, rate in enumerate(rates):
        for field in ("up_to_pixels", "microdollars"):
            value: int = getattr(rate, field)
            if value < 0:
                yield f"{name}[{place}].{field}", value, "use 0 or more"
        if (rate.up_to_pixels, rate.quality) in seen:
            what = f"{rate.up_to_pixels} pixels" + (f" of quality {rate.quality}" if rate.quality else "")
            yield (
                f"{name}[{place}].up_to_pixels",
                rate.up_to_pixels,
                f"{what} have a price already: leave one of them out",
            )
        seen.add((rate.up_to_pixels, rate.quality))


def is_day(text: str) -> bool:
    """Whether a text is a day in the form `2026-11-21`."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
