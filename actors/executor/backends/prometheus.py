"""Reads the text in which servers publish their figures (Prometheus). Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_LINE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{.*\})?\s+(\S+)(?:\s+-?\d+)?\s*")


def total(text: str, names: Iterable[str]) -> float | None:
    """The sum of a figure over all its labels, by the first of `names` (newest first) that is there; None: it is not."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        found = None if line.startswith("#") else _LINE.fullmatch(line)
        if found is None:
            continue
        try:
            value = float(found[2])
        except ValueError:
            continue
        if math.isfinite(value):
            sums[found[1]] = sums.get(found[1], 0.0) + value
    return next((sums[name] for name in names if name in sums), None)


def counted(text: str, *names: str) -> int | None:
    """The same as a count."""
    value = total(text, names)
    return None if value is None or value < 0 else round(value)
