"""Reads JSON as servers really send it: what is wrong in its form and harms no meaning is mended, and told. Pure.

Everything that backends answer is decoded here, so that no bytes at all can raise anything but `NotJson`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

import msgspec

INVALID_UTF8: Final = "it holds bytes that are no UTF-8, told as U+FFFD"
NO_NUMBER: Final = "it holds numbers that JSON has not (NaN, Infinity, or too large ones), told as null"

_BOM: Final = b"\xef\xbb\xbf"
_BOMS_16: Final = (b"\xff\xfe", b"\xfe\xff")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_MOST_DIGITS: Final = 400
"""An integer of more digits is no number that anybody means; Python refuses those of 4,300."""


class NotJson(ValueError):
    """It is no JSON, mended or not."""


class Read(NamedTuple):
    """What was read."""

    values: tuple[Any, ...]
    """Usually one; several where a server put one event after the other without an end between them."""
    remarks: tuple[str, ...] = ()
    """What had to be mended, in words."""


def read(data: bytes) -> Read:
    """The values in `data`, at least one. Raises NotJson."""
    try:
        return Read((msgspec.json.decode(data),))
    except (ValueError, RecursionError) as error:
        return _mended(data, str(error))


def value_of(data: bytes | str) -> Any:
    """The one value in `data`. Raises NotJson, for several as well."""
    found = read(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    if len(found.values) != 1:
        raise NotJson("several values follow each other")
    return found.values[0]


def in_utf_8(data: bytes) -> bytes:
    """What begins with the mark of UTF-16 in UTF-8; everything else as it is."""
    return data.decode("utf-16", "replace").encode("utf-8", "replace") if data.startswith(_BOMS_16) else data


def _mended(data: bytes, why: str) -> Read:
    remarks: dict[str, None] = {}
    try:
        text = in_utf_8(data).removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        text = data.removeprefix(_BOM).decode("utf-8", "replace")
        remarks[INVALID_UTF8] = None
    text = text.strip()

    def nothing(_: str) -> None:
        remarks[NO_NUMBER] = None

    def integer(digits: str) -> int | None:
        return int(digits) if len(digits) <= _MOST_DIGITS else nothing(digits)

    def number(said: str) -> float | None:
        found = float(said)
        return nothing(said) if found in (float("inf"), float("-inf")) else found

    decoder = json.JSONDecoder(strict=False, parse_constant=nothing, parse_int=integer, parse_float=number)
    values: list[Any] = []
    at = 0
    try:
        while at < len(text) or not values:
            value, at = decoder.raw_decode(text, at)
            values.append(_whole(value, remarks))
            while at < len(text) and text[at].isspace():
                at += 1
    except (ValueError, RecursionError):
        raise NotJson(why) from None
    if len(values) > 1 and not all(isinstance(value, dict) for value in values):
        raise NotJson(why)
    return Read(tuple(values), tuple(remarks))


def _whole(value: Any, remarks: dict[str, None]) -> Any:
    """The value without halves of surrogate pairs: they can't be written as UTF-8."""
    if isinstance(value, str):
        if _SURROGATE.search(value) is None:
            return value
        remarks[INVALID_UTF8] = None
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [_whole(item, remarks) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {_whole(name, remarks): _whole(item, remarks) for name, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
