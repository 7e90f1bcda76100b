"""How long a server asks to be left alone: in headers, in the fields of a body, or in words. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_UNITS: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "millisecond": 1e-3,
    "s": 1.0, "sec": 1.0, "second": 1.0, "秒": 1.0, "秒钟": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "分": 60.0, "分钟": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "小时": 3600.0,
    "d": 86400.0, "day": 86400.0, "天": 86400.0,
}  # fmt: skip
_UNIT: Final = "|".join(sorted(_UNITS, key=len, reverse=True))
_PART: Final = rf"\d+(?:\.\d+)?\s*(?:{_UNIT})s?(?![a-z])"
_SPAN: Final = rf"({_PART}(?:[\s,]*(?:and\s+)?{_PART})*)"
_AGAIN: Final = r"\b(?:again|retry|retried|retrying|resets?|wait|waiting|available)\b"
_IN_WORDS: Final = (
    re.compile(rf"{_AGAIN}[^.\d\n]{{0,40}}?\b(?:in|after|for|least|about)\s+(?:about |approximately |~)?{_SPAN}"),
    re.compile(rf"\bwait\s+(?:at least |about )?{_SPAN}"),
    re.compile(rf"(?:请在|等待|请等)\s*{_SPAN}"),
    re.compile(rf"{_SPAN}\s*(?:后|之后)(?:再|重)?试"),
)
_EPOCH_SECONDS: Final = 1e9
_EPOCH_MILLISECONDS: Final = 1e11
_LONGEST: Final = 366 * 86400.0
_RESET: Final = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset(?:-(?P<what>[\w-]+))?|(?P<kind>[\w-]+)-reset)")


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """How long the server asks to be left alone: at least 0 and finite, or None when it does not say.

    Reads `retry-after-ms`, then `retry-after` as a number of seconds, a duration (`2s`, `1m30s`) or a date. `now` is in epoch
    seconds.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    return _wait(headers.get("retry-after", ""), now)


def reset_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """When a limit that is used up is reset, by `x-ratelimit-reset*` and its kin; None: they do not say.

    Those headers come with every answer, so only limits of which nothing remains count, the latest of them. One without a
    `remaining` beside it is believed when it is the only one.
    """
    resets = {(name, found): value for name, value in headers.items() if (found := _RESET.fullmatch(name.lower()))}
    spent: list[float] = []
    for (name, found), value in resets.items():
        wait = _wait(value, now)
        if wait is None:
            continue
        remaining = _number(headers.get(name.lower().replace("reset", "remaining"), ""))
        kind = found["what"] or found["kind"] or ""
        if remaining == 0 or (remaining is None and len(resets) == 1 and kind != "after"):
            spent.append(wait)
    return max(spent, default=None)


def wait_in(text: str) -> float | None:
    """A wait that a sentence names: `Please try again in 1m30s`; None: it names none."""
    lowered = text[:2_000].lower()
    for pattern in _IN_WORDS:
        for found in pattern.finditer(lowered):
            seconds = duration(found[1])
            if seconds is not None:
                return seconds
    return None


def duration(text: str) -> float | None:
    """Seconds of `20s`, `1m30s`, `2m59.56s`, `350ms`, `3 hours`; None when it is no such thing."""
    text = text.strip().lower()
    if not re.fullmatch(_SPAN, text):
        return None
    parts: list[tuple[str, str]] = re.findall(rf"(\d+(?:\.\d+)?)\s*({_UNIT})s?(?![a-z])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return seconds if seconds <= _LONGEST else None


def _wait(value: str, now: float) -> float | None:
    """Seconds of a header's value: a number, a point in time as a number, a duration, or a date."""
    value = value.strip()
    number = _number(value)
    if number is not None:
        if number >= _EPOCH_MILLISECONDS:
            return max(0.0, number / 1000 - now)
        return max(0.0, number - now) if number >= _EPOCH_SECONDS else number
    if not value:
        return None
    seconds = duration(value)
    return _until(value, now) if seconds is None else seconds


def _until(value: str, now: float) -> float | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            then = parse(value)
            if then.tzinfo is None:
                then = then.replace(tzinfo=UTC)
            return max(0.0, then.timestamp() - now)
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
