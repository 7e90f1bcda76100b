"""Price files: our own table and the users', TOML or JSON, in US dollars. `docs/guides/prices.md` describes them.

Nothing is guessed: an unknown key, a missing date, a wrong number each refuse the whole file, with file, line, field and value.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from actors import price_check
from actors.settings import SettingsError
from messages import Price, Rate

OWN: Final = Path(__file__).with_name("prices.toml")
"""Our own table."""
DOLLARS: Final[Mapping[str, str]] = {
    "input_usd_per_mtok": "input_per_mtok",
    "output_usd_per_mtok": "output_per_mtok",
    "cached_input_usd_per_mtok": "cached_input_per_mtok",
    "cache_write_usd_per_mtok": "cache_write_per_mtok",
    "long_input_usd_per_mtok": "long_input_per_mtok",
    "long_output_usd_per_mtok": "long_output_per_mtok",
    "long_cached_input_usd_per_mtok": "long_cached_input_per_mtok",
    "long_cache_write_usd_per_mtok": "long_cache_write_per_mtok",
    "usd_per_request": "per_request",
    "usd_per_image": "per_image",
    "usd_per_second": "per_second",
    "usd_per_gpu_second": "per_gpu_second",
}
"""Keys of an entry that are amounts of dollars, and the field of the price that each becomes."""
RATES: Final[Mapping[str, str]] = {"images": "image_rates", "video": "second_rates"}
_KEYS = ("provider", "model", "source", "as_of", "long_above_tokens", *DOLLARS, *RATES)
_RATE_KEYS = ("size", "quality", "usd")
_NAMED = {"480p": 854 * 480, "720p": 1280 * 720, "1080p": 1920 * 1080, "1440p": 2560 * 1440, "4k": 3840 * 2160}
_SIZE = re.compile(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})\Z")
_MOST_DOLLARS = 1_000_000


class PriceFileError(SettingsError):
    """A price file is wrong; the text names the file, and for each fault the line, the field, the value, what is right."""

    def __init__(self, file: str, faults: list[str]) -> None:
        super().__init__(f"prices {file}: " + "; ".join(faults))
        self.file, self.faults = file, faults


class PriceTable(msgspec.Struct, frozen=True):
    """Prices by provider (or backend) and model."""

    prices: dict[tuple[str, str], Price] = {}

    def find(self, seller: str, model: str) -> Price | None:
        """The price of exactly this model."""
        return self.prices.get((seller, model))


def read_file(path: Path) -> PriceTable:
    """A price file; `.json` is JSON, anything else TOML. Raises PriceFileError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PriceFileError(str(path), [error.strerror or str(error)]) from None
    except UnicodeDecodeError as error:
        raise PriceFileError(str(path), [f"it is no UTF-8 text: {error}"]) from None
    return read(text, file=str(path), as_json=path.suffix.lower() == ".json")


def read(text: str, *, file: str, as_json: bool = False) -> PriceTable:
    """The prices that a text lists; `file` is how it is called. Raises PriceFileError."""
    try:
        told: object = json.loads(text, parse_float=Decimal) if as_json else tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise PriceFileError(file, [f"not valid {'JSON' if as_json else 'TOML'}: {error}"]) from None
    entries = cast("dict[str, object]", told).get("prices") if isinstance(told, dict) else None
    if not isinstance(entries, list) or len(cast("dict[str, object]", told)) != 1:
        raise PriceFileError(file, ["it must have `prices`, a list of entries, and nothing else"])
    listed = cast("list[object]", entries)
    lines = (
        [] if as_json else [n for n, line in enumerate(text.splitlines(), 1) if line.strip().startswith("[[prices]]")]
    )
    found: dict[tuple[str, str], Price] = {}
    faults: list[str] = []
    for place, entry in enumerate(listed):
        at = f"line {lines[place]}, prices[{place}]" if len(lines) == len(listed) else f"prices[{place}]"
        reading = _Reading(at, file)
        pair, price = reading.entry(entry)
        if not reading.faults and pair in found:
            reading.faults.append(
                f"{at}.model is {pair[1]!r}: {pair[0]} {pair[1]} has a price already; leave one of them out"
            )
        faults += reading.faults
        found[pair] = price
    if faults:
        raise PriceFileError(file, faults)
    return PriceTable(found)


class _Reading:
    """One entry, and what is wrong with it."""

    def __init__(self, at: str, file: str) -> None:
        self.at, self.file = at, file
        self.faults: list[str] = []

    def wrong(self, field: str, value: object, right: str) -> None:
        """Note a fault."""
        self.faults.append(f"{self.at}{field} is {_shown(value)}: {right}")

    def entry(self, entry: object) -> tuple[tuple[str, str], Price]:
        """Whose price, and the price; worth nothing when there are faults."""
        if not isinstance(entry, dict):
            self.wrong("", entry, "use a table with provider, model and what it costs")
            return ("", ""), Price()
        told = cast("dict[str, object]", entry)
        self._known_keys(told, _KEYS, "")
        provider, model = self._name(told, "provider"), self._name(told, "model")
        fields: dict[str, Any] = {"source": self._source(told), "as_of": self._day(told)}
        for key, field in DOLLARS.items():
            if key in told:
                fields[field] = self._dollars(f".{key}", told[key])
        for key, field in RATES.items():
            if key in told:
                fields[field] = tuple(self._rates(f".{key}", told[key]))
        if "long_above_tokens" in told:
            above = told["long_above_tokens"]
            if isinstance(above, int) and not isinstance(above, bool) and above > 0:
                fields["long_above_tokens"] = above
            else:
                self.wrong(".long_above_tokens", above, "use a whole number over 0")
        if len(fields) == 2:
            self.faults.append(f"{self.at} says no price: give at least one of {', '.join(DOLLARS)}; 0 is free")
        price = Price(**fields)
        if not self.faults:
            names = {field: key for key, field in {**DOLLARS, **RATES}.items()}
            for field, value, right in price_check.faults(price):
                head, _, rest = field.partition("[")
                key = names.get(head, head)
                self.wrong(f".{key}" + (f"[{rest}" if rest else ""), value if rest else told.get(key), _as_keys(right))
        return (provider, model), price

    def _known_keys(self, told: Mapping[str, object], known: tuple[str, ...], at: str) -> None:
        for key in told:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                self.faults.append(f"{self.at}{at}.{key} is no key: {hint}")

    def _name(self, told: Mapping[str, object], key: str) -> str:
        value = told.get(key)
        if isinstance(value, str) and value.strip() == value and value:
            return value
        self.wrong(f".{key}", value, "give its name as text, without spaces around it")
        return ""

    def _source(self, told: Mapping[str, object]) -> str:
        value = told.get("source", Path(self.file).name)
        if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable():
            return value
        self.wrong(".source", value, "say where the price comes from, in 1 to 200 characters")
        return ""

    def _day(self, told: Mapping[str, object]) -> str:
        value = told.get("as_of")
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return value.isoformat()
        if isinstance(value, str) and price_check.is_day(value):
            return value
        self.wrong(".as_of", value, "give the day on which the price was right, as in 2026-11-21")
        return ""

    def _dollars(self, at: str, value: object) -> int:
        """Micro-dollars, rounded up."""
        amount = value if isinstance(value, Decimal | int) and not isinstance(value, bool) else Decimal(-1)
        if not (Decimal(amount).is_finite() and 0 <= amount <= _MOST_DOLLARS):
            self.wrong(at, value, f"use dollars, 0 (free) to {_MOST_DOLLARS:,}")
            return 0
        return int((Decimal(amount) * 1_000_000).to_integral_value(ROUND_CEILING))

    def _rates(self, at: str, value: object) -> Iterator[Rate]:
        listed = cast("list[object]", value) if isinstance(value, list) else []
        if not listed:
            self.wrong(at, cast("object", value), 'use a list of tables, as in [{ size = "1024x1024", usd = 0.04 }]')
            return
        for place, one in enumerate(listed):
            here = f"{at}[{place}]"
            if not isinstance(one, dict):
                self.wrong(here, one, "use a table with size, quality and usd")
                continue
            told = cast("dict[str, object]", one)
            self._known_keys(told, _RATE_KEYS, here)
            quality = told.get("quality", "")
            if not isinstance(quality, str):
                self.wrong(f"{here}.quality", quality, "use the provider's word, as in high")
                quality = ""
            microdollars = self._dollars(f"{here}.usd", told.get("usd"))
            yield Rate(up_to_pixels=self._pixels(f"{here}.size", told), quality=quality, microdollars=microdollars)

    def _pixels(self, at: str, told: Mapping[str, object]) -> int:
        value = told.get("size", "any")
        text = value.lower() if isinstance(value, str) else ""
        if text == "any":
            return 0
        if text in _NAMED:
            return _NAMED[text]
        found = _SIZE.match(text)
        if found:
            return int(found[1]) * int(found[2])
        self.wrong(
            at, value, f"use width x height, as in 1024x1024, one of {', '.join(_NAMED)}, or leave it out for any"
        )
        return 0


def _as_keys(text: str) -> str:
    """A text that names fields of a price, with the keys of a file."""
    for key, field in DOLLARS.items():
        text = re.sub(rf"\b{field}\b", key, text)
    return text


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
