"""Calendar windows of budgets: their names, and when they begin and end, in any time zone. Pure.

Minutes and hours are counted on the zone's clock with its offset from UTC, so that the hour which comes twice when summer
time ends is two windows. Days, weeks and months end at the zone's midnight, whether they last 23, 24 or 25 hours.
"""

from __future__ import annotations

import datetime as dt
import math
import zoneinfo
from functools import lru_cache
from typing import NamedTuple

from messages.fleet import Window

FORMATS: dict[Window, str] = {
    "minute": "%Y%m%dT%H%M", "hour": "%Y%m%dT%H", "day": "%Y%m%d", "week": "%GW%V", "month": "%Y%m", "total": "",
}  # fmt: skip
SECONDS: dict[Window, int] = {"minute": 60, "hour": 3600}
UTC = "UTC"


class Span(NamedTuple):
    """One window. Times are seconds since the epoch."""

    name: str
    """`day-20261121`; in another zone than UTC `day-20261121@Europe/Berlin`."""
    begins_at: float
    """Its first instant; 0 when it has no beginning."""
    ends_at: float
    """The first instant after it; 0 when it has no end."""


@lru_cache(maxsize=64)
def zone_of(name: str) -> dt.tzinfo:
    """The time zone of an IANA name. Raises ValueError when there is none of this name here.

    The names come from the system's time zone database; UTC is always there.
    """
    if name == UTC:
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # A name may also be a path outside the database, or a directory.
        text = f"{name!r} is no time zone that is known here: use an IANA name such as Europe/Berlin, or UTC"
        raise ValueError(text) from error


def span(window: Window, at: float, zone: str = UTC) -> Span:
    """The window in which a time lies. Raises ValueError for an unknown zone."""
    if window == "total":
        return Span("total", 0.0, 0.0)
    where = zone_of(zone)
    at = math.floor(at)  # `fromtimestamp` rounds the last instant of a window into the next.
    local = dt.datetime.fromtimestamp(at, where)
    text = local.strftime(FORMATS[window])
    size = SECONDS.get(window)
    if size is not None:
        offset = _offset(local)
        begins = (at + offset) // size * size - offset
        ends = begins + size
        if zone != UTC:
            text += local.strftime("%z")
    else:
        first, after = _days(window, local.date())
        begins, ends = _midnight(first, where), _midnight(after, where)
    name = f"{window}-{text}" + ("" if zone == UTC else f"@{zone}")
    return Span(name, begins, ends)


def window_name(window: Window, at: float, zone: str = UTC) -> str:
    """The name of the window in which a time lies: `day-20261121`."""
    return span(window, at, zone).name


def _offset(local: dt.datetime) -> float:
    offset = local.utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def _days(window: Window, day: dt.date) -> tuple[dt.date, dt.date]:
    """The window's first day, and the day after its last."""
    if window == "day":
        return day, day + dt.timedelta(days=1)
    if window == "week":
        first = day - dt.timedelta(days=day.weekday())
        return first, first + dt.timedelta(days=7)
    first = day.replace(day=1)
    return first, (first + dt.timedelta(days=31)).replace(day=1)


def _midnight(day: dt.date, where: dt.tzinfo) -> float:
    """The first instant of a day. Where midnight comes twice it is the first; where it is left out, the time after the gap."""
    return dt.datetime(day.year, day.month, day.day, tzinfo=where).timestamp()
