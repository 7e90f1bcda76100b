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
_PART: Final = rf"(?<!\d)\d{{1,12}}(?:\.\d{{1,12}})?\s*(?:{_UNIT})s?(?![a-z])"
_SPAN: Final = rf"({_PART}(?:[\s,]*(?:and\s+)?{_PART})*)"
_CLOCK: Final = r"\d{1,3}:[0-5]\d:[0-5]\d"
_AGAIN: Final = (
    r"\b(?:again|retry|retried|retrying|resets?|resetting|wait|waiting|available|replenish\w*|renew\w*|restored|refill\w*|refresh\w*"
    r"|regain\w*|recover\w*|resum\w*|lifted|unblock\w*|reactivat\w*)\b"
)
_POINT: Final = r"(\d{4}-\d\d-\d\d[t ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:\s?(?:z|utc|gmt)\b|\s?[+-]\d\d:?\d\d)?)"
_IN_WORDS: Final = (
    re.compile(rf"{_AGAIN}[^.\d\n]{{0,40}}?\b(?:in|after|for|least|about)\s+(?:about |approximately |~)?{_SPAN}"),
    re.compile(rf"{_AGAIN}[^.\d\n]{{0,40}}?\bin\s+(?:about )?({_CLOCK})"),
    re.compile(rf"\bwait\s+(?:at least |about |another )?{_SPAN}"),
    re.compile(rf"(?:请在|等待|请等)\s*{_SPAN}"),
    re.compile(rf"{_SPAN}\s*(?:后|之后)(?:再|重)?(?:试|置)"),
)
_POINT_IN_WORDS: Final = (
    re.compile(rf"{_AGAIN}[^\d\n]{{0,40}}?{_POINT}"),
    re.compile(rf"\buntil[^\d\n]{{0,20}}?{_POINT}"),
    re.compile(rf"{_POINT}[^\d\n]{{0,6}}(?:重置|恢复|刷新|后重试|解除)"),
)
_SECONDS_FIELD: Final = re.compile(
    r"(?:\w*(?:retry|resets?|resume)(?:after|in|delay)|resets?|wait(?:time)?|estimatedtime|cooldown|timeremaining)"
    r"(?P<unit>ms|millis|milliseconds|s|sec|secs|seconds)?"
)
"""Fields that say how long, by their names without case and separators."""
_POINT_FIELD: Final = re.compile(r"\w*(?:resets?|retry|resumes?)(?:at|on|time|timestamp|date|after)?")
"""Fields that say when."""
_EPOCH_SECONDS: Final = 1e9
_EPOCH_MILLISECONDS: Final = 1e11
_LONGEST: Final = 366 * 86400.0
_RESET: Final = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset(?:-(?P<what>[\w-]+))?|(?P<kind>[\w-]+)-reset)")
_STATED: Final = re.compile(r"[^,]*;\s*r=0\b[^,]*")
_IN: Final = re.compile(r";\s*t=(\d{1,9})\b")
"""`ratelimit: "default";r=0;t=30`: nothing remains for 30 s."""


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """How long the server asks to be left alone: at least 0 and finite, or None when it does not say.

    Reads `retry-after-ms`, then `retry-after` as a number of seconds, a duration (`2s`, `1m30s`) or a date. `now` is in epoch
    seconds.
    """
    milliseconds = _number(_of_name(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    return _wait(_of_name(headers, "retry-after", "ratelimit-timeremaining"), now)


def _of_name(headers: Mapping[str, str], *names: str) -> str:
    """The value of the header of the first of these names, or of one that ends in it: `x-ms-retry-after-ms`."""
    for name in names:
        told = headers.get(name) or next((value for key, value in headers.items() if key.endswith(f"-{name}")), "")
        if told:
            return told
    return ""


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
    spent += [
        float(found[1]) for value in _STATED.findall(headers.get("ratelimit", "")) if (found := _IN.search(value))
    ]
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


def point_in(text: str) -> float | None:
    """When it works again, as a sentence names it, in seconds since the epoch (UTC without a zone); None: it names no time."""
    lowered = text[:2_000].lower()
    for pattern in _POINT_IN_WORDS:
        for found in pattern.finditer(lowered):
            point = _point(found[1])
            if point is not None:
                return point
    return None


def seconds_of(name: str, value: object) -> float | None:
    """How long to wait, of a body's field that says so (its name without case and separators); None: it is no such field."""
    found = _SECONDS_FIELD.fullmatch(name)
    if found is None or isinstance(value, bool):
        return None
    seconds = value if isinstance(value, int | float) else None
    if isinstance(value, str):
        seconds = _number(value) if _number(value) is not None else duration(value)
    if seconds is None or not 0 <= seconds < _EPOCH_SECONDS:
        return None
    return seconds / 1000 if (found["unit"] or "").startswith(("ms", "mil")) else float(seconds)


def point_of(name: str, value: object) -> float | None:
    """When it works again, of a body's field that says so: seconds or milliseconds since the epoch, or a date."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or _POINT_FIELD.fullmatch(name) is None:
        return None
    number = _number(str(value)[:40])
    if number is None:
        return _point(str(value))
    if not _EPOCH_SECONDS <= number < _EPOCH_SECONDS * 10_000:
        return None
    return number / 1000 if number >= _EPOCH_MILLISECONDS else number


def duration(text: str) -> float | None:
    """Seconds of `20s`, `1m30s`, `2m59.56s`, `350ms`, `3 hours`, `02:34:10`; None when it is no such thing."""
    text = text.strip().lower()
    if re.fullmatch(_CLOCK, text):
        hours, minutes, rest = map(int, text.split(":"))
        return 3600.0 * hours + 60 * minutes + rest
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
    point = _point(value)
    return None if point is None else max(0.0, point - now)


def _point(value: str) -> float | None:
    """A date, in seconds since the epoch."""
    value = re.sub(r"(?i)\s?(?:z|utc|gmt)$", "+00:00", value.strip()) if value[:2].isdigit() else value
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            then = parse(value)
            if then.tzinfo is None:
                then = then.replace(tzinfo=UTC)
            return then.timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
