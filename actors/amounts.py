"""Money and other amounts as people read them: never rounded so far that something looks like nothing. Pure."""

from __future__ import annotations

from decimal import Decimal

NAMES = {"gpu_milliseconds": "GPU-seconds"}
"""What the counted units are called where that differs."""


def dollars(microdollars: float) -> str:
    """Money with two decimals, and with more of them where these say something: `$4.50`, `$0.001`, `-$1,200.00`."""
    value = Decimal(str(microdollars)).quantize(Decimal(1)) / 1_000_000
    whole, _, part = f"{abs(value):,.6f}".rstrip("0").partition(".")
    return f"{'-' if value < 0 else ''}${whole}.{part:0<2}"


def amount(value: float, unit: str) -> str:
    """An amount with its unit: `$4.50`, `12,000 tokens`, `1 request`, `36 GPU-seconds`, `0.2 GPU-seconds`."""
    if unit == "microdollars":
        return dollars(value)
    if unit == "gpu_milliseconds":
        return f"{f'{value / 1000:,.3f}'.rstrip('0').rstrip('.')} GPU-seconds"
    return f"{value:,.0f} {unit.removesuffix('s') if round(value) == 1 else unit}"
