from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.windows import span, window_name, zone_of
from messages import token

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana", "Asia/Beirut",
    "Pacific/Chatham", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia",
)  # fmt: skip
"""With half hours, with midnights that come twice or not at all, and one that crossed the date line."""
WINDOWS = ("minute", "hour", "day", "week", "month")
START, END = (dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp() for year in (2012, 2037))
times = st.floats(START, END)


def at(text: str, zone: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=zone_of(zone)).timestamp()


@pytest.mark.parametrize(
    ("window", "name"),
    [("minute", "minute-20261121T0705"), ("hour", "hour-20261121T07"), ("day", "day-20261121"),
     ("week", "week-2026W47"), ("month", "month-202611"), ("total", "total")],
)  # fmt: skip
def test_windows_have_names(window: Any, name: str) -> None:
    assert window_name(window, at("2026-11-21T07:05:59.9", "UTC")) == name


def test_other_zones_have_windows_of_their_own() -> None:
    late = at("2026-11-21T23:30", "UTC")
    assert window_name("day", late, "Europe/Berlin") == "day-20261122@Europe/Berlin"
    assert "." not in token(window_name("day", late, "Europe/Berlin"))


@given(st.sampled_from(WINDOWS), times, st.sampled_from(ZONES))
@example("minute", 2114380799.9999998, "UTC")  # The last instant before a year begins.
def test_windows_tile_the_time(window: Any, when: float, zone: str) -> None:
    """Every instant lies in exactly one window, and the next begins where it ends."""
    here = span(window, when, zone)
    assert here.begins_at <= when < here.ends_at
    for inside in (here.begins_at, here.ends_at - 1, when):
        assert span(window, inside, zone) == here
    after, before = span(window, here.ends_at, zone), span(window, here.begins_at - 1, zone)
    assert (after.begins_at, before.ends_at) == (here.ends_at, here.begins_at)
    assert len({here.name, after.name, before.name}) == 3


@given(times, times, st.sampled_from(WINDOWS), st.sampled_from(ZONES))
def test_two_windows_never_share_a_name(one: float, other: float, window: Any, zone: str) -> None:
    assert (window_name(window, one, zone) == window_name(window, other, zone)) == (
        span(window, one, zone).begins_at <= other < span(window, one, zone).ends_at
    )


@given(times, st.sampled_from(ZONES))
def test_days_follow_the_clock_on_the_wall(when: float, zone: str) -> None:
    wall = dt.datetime.fromtimestamp(when, zone_of(zone))
    assert window_name("day", when, zone).startswith(f"day-{wall:%Y%m%d}")
    assert window_name("month", when, zone).startswith(f"month-{wall:%Y%m}")
    assert window_name("week", when, zone).startswith(f"week-{wall:%GW%V}")


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-21", 24)])
def test_a_day_has_as_many_hours_as_it_has(day: str, hours: int) -> None:
    here = span("day", at(f"{day}T12:00", "Europe/Berlin"), "Europe/Berlin")
    assert here.ends_at - here.begins_at == hours * 3600


def test_the_hour_that_comes_twice_is_two_windows() -> None:
    first = at("2026-10-25T02:30", "Europe/Berlin")
    assert window_name("hour", first, "Europe/Berlin") == "hour-20261025T02+0200@Europe/Berlin"
    assert window_name("hour", first + 3600, "Europe/Berlin") == "hour-20261025T02+0100@Europe/Berlin"


def test_the_whole_time_has_no_end() -> None:
    assert span("total", START, "Asia/Tokyo") == ("total", 0.0, 0.0)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "Europe", "", "utc+1", "a\0b"])
def test_an_unknown_zone_says_so(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone that is known here"):
        zone_of(name)


def test_the_zones_of_these_tests_are_there() -> None:
    assert {zone for zone in ZONES if zone != "UTC"} <= zoneinfo.available_timezones()
