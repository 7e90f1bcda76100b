from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.waits import (
    duration,
    point_in,
    point_of,
    reset_seconds,
    retry_after_seconds,
    seconds_of,
    wait_in,
)

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "2s"}, 2.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "9", "retry-after-ms": "x"}, 9.0),
        ({"retry-after": formatdate(NOW + 40, usegmt=True)}, 40.0),
        ({"retry-after": formatdate(NOW - 40, usegmt=True)}, 0.0),
        ({"retry-after": formatdate(NOW + 40)}, 40.0),
        ({"retry-after": str(NOW + 40)}, 40.0),
        ({"retry-after": "2026-09-21T14:14:00Z"}, 40.0),
        ({"x-retry-after": "7"}, 7.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"x-ratelimit-timeremaining": "52220"}, 52_220.0),
    ],
)
def test_retry_after_in_all_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


@given(st.text() | st.floats().map(str), st.text())
def test_retry_after_is_never_negative_and_never_fails(value: str, milliseconds: str) -> None:
    seconds = retry_after_seconds({"retry-after": value, "retry-after-ms": milliseconds}, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-reset-tokens": "7.66s", "x-ratelimit-remaining-tokens": "0"}, 7.66),
        (  # Groq counts requests by the day, and tells both with every answer.
            {"x-ratelimit-reset-tokens": "7.66s", "x-ratelimit-remaining-tokens": "0",
             "x-ratelimit-reset-requests": "2m59s", "x-ratelimit-remaining-requests": "14370"}, 7.66,
        ),
        (
            {"x-ratelimit-reset-tokens": "6ms", "x-ratelimit-remaining-tokens": "0",
             "x-ratelimit-reset-requests": "8s", "x-ratelimit-remaining-requests": "0"}, 8.0,
        ),
        ({"x-ratelimit-reset-tokens": "7.66s", "x-ratelimit-remaining-tokens": "5"}, None),
        ({"x-ratelimit-reset": str(int((NOW + 9) * 1000))}, 9.0),
        ({"ratelimit-reset": "30"}, 30.0),
        ({"x-ratelimit-reset": "30", "x-ratelimit-remaining": "2"}, None),
        ({"anthropic-ratelimit-requests-reset": "2026-09-21T14:14:00Z",
          "anthropic-ratelimit-requests-remaining": "0"}, 40.0),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": '"minute";r=3;t=30, "day";r=0;t=900'}, 900.0),
        ({"ratelimit": '"default";r=7;t=30'}, None),
        ({"x-ratelimit-reset-tokens-minute": "11.38", "x-ratelimit-remaining-tokens-minute": "0",
          "x-ratelimit-reset-requests-day": "33011.3", "x-ratelimit-remaining-requests-day": "14000"}, 11.38),
        ({"x-ratelimit-reset-tokens": "soon", "x-ratelimit-remaining-tokens": "0"}, None),
    ],
)  # fmt: skip
def test_limits_of_which_nothing_remains(headers: dict[str, str], seconds: float | None) -> None:
    found = reset_seconds(headers, NOW)
    assert found == (seconds if seconds is None else pytest.approx(seconds))


@given(
    st.dictionaries(st.sampled_from(["x-ratelimit-reset", "x-ratelimit-reset-tokens", "ratelimit-reset"]), st.text())
)
def test_limits_never_fail(headers: dict[str, str]) -> None:
    seconds = reset_seconds(headers, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Please try again in 20s.", 20.0),
        ("Please try again in 50.597142857s. Visit https://x", 50.597142857),
        ("Please retry in 46s", 46.0),
        ("Please retry after 30 seconds.", 30.0),
        ("try again in 6m0s", 360.0),
        ("No deployments available, Try again in 60 seconds. Passed model=x", 60.0),
        ("please try again after 1 seconds", 1.0),
        ("wait 12 seconds and retry", 12.0),
        ("You can try again in 3 hours", 10_800.0),
        ("Resets in 6hr 29min.", 23_340.0),
        ("reset after 3600s", 3_600.0),
        ("available in 42 minutes", 2_520.0),
        ("请在 60 秒后重试", 60.0),
        ("Out of call volume quota. Quota will be replenished in 02:34:10.", 9_250.0),
        ("Request was throttled. Expected available in 42 seconds.", 42.0),
        ("Please try again later", None),
        ("try again in a moment", None),
        ("limit of 20 requests per minute", None),
        ("the last 5 messages", None),
        ("timed out after 30 s", None),
    ],
)
def test_waits_in_words(said: str, seconds: float | None) -> None:
    assert wait_in(said) == seconds


@given(st.integers(0, 10_000), st.integers(0, 59), st.integers(0, 59))
def test_durations_are_the_sum_of_their_parts(hours: int, minutes: int, seconds: int) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    expected = float(total) if total <= 366 * 86_400 else None
    assert duration(f"{hours}h{minutes}m{seconds}s") == expected
    assert duration(f"{hours} hours, {minutes} minutes and {seconds} seconds") == expected


@given(st.text())
def test_any_words_may_come(text: str) -> None:
    for found in (wait_in(text), wait_in(f"try again in {text}"), duration(text)):
        assert found is None or 0 <= found <= 366 * 86_400


@pytest.mark.parametrize(
    ("said", "point"),
    [
        ("Your limit will reset at 2026-09-21 14:14:20", NOW + 60),
        ("resets at 2026-09-21T14:14:20+00:00 (2056)", NOW + 60),
        ("Try again after 2026-09-21T14:14:20.000Z", NOW + 60),
        ("blocked until 2026-09-21 14:14 UTC", NOW + 40),
        ("您的限额将在 2026-09-21 14:14:20 重置。", NOW + 60),
        ("the dataset of 2026-09-21 14:14:20 is bad", None),
        ("You will regain access on a day of grace", None),
    ],
)
def test_points_in_time_in_words(said: str, point: float | None) -> None:
    assert point_in(said) == point


@pytest.mark.parametrize(
    ("name", "value", "seconds", "point"),
    [
        ("retryafter", 5, 5.0, None), ("retryafter", "5", 5.0, None), ("retryafterms", 250, 0.25, None),
        ("resetsinseconds", 12_345, 12_345.0, None), ("quotaresetdelay", "2h1m1.5s", 7_261.5, None),
        ("estimatedtime", 20.5, 20.5, None),
        ("resetsat", 1_790_000_060, None, NOW + 60), ("xratelimitreset", "1790000042000", None, NOW + 42),
        ("quotaresettimestamp", "2026-09-21T14:14:20Z", None, NOW + 60), ("retryable", 1, None, None),
        ("retryafter", True, None, None),
        ("code", 1_790_000_060, None, None), ("resets", "soon", None, None),
        ("resetsat", 10**400, None, None), ("retryafter", 10**400, None, None),
    ],
)  # fmt: skip
def test_waits_in_fields(name: str, value: object, seconds: float | None, point: float | None) -> None:
    assert (seconds_of(name, value), point_of(name, value)) == (seconds, point)


@given(st.sampled_from(["resetsat", "retryafter", "resets"]), st.text() | st.floats() | st.integers())
def test_any_value_may_stand_in_a_field(name: str, value: object) -> None:
    for found in (seconds_of(name, value), point_of(name, value)):
        assert found is None or 0 <= found < float("inf")
