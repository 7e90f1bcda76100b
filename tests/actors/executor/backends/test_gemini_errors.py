from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.errors import complaint_of, failure
from actors.executor.backends.gemini_errors import Details, read_details
from tests.fakes.gemini import quota, retry_info

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["1s", "PerDay", "0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["reason", "retryDelay", "violations", "quotaId", "quotaValue"]), inner)
    ),
    max_leaves=8,
)


@given(JSON)
def test_anything_may_come(details: object) -> None:
    found = read_details(details)
    wait = found.retry_after_seconds
    assert wait is None or (wait >= 0 and math.isfinite(wait))


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("46s", 46.0), ("1.5s", 1.5), ("0s", 0.0), ("-1s", None), ("46", None), ("9" * 400 + "s", None)],
)
def test_delays(delay: str, seconds: float | None) -> None:
    assert read_details([retry_info(delay)]) == Details(retry_after_seconds=seconds)


@pytest.mark.parametrize(
    ("quota_id", "value", "exhausted"),
    [
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "10", False),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "250", True),
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "0", True),
    ],
)
def test_quotas_that_waiting_does_not_help(quota_id: str, value: str, *, exhausted: bool) -> None:
    assert read_details([retry_info("5s"), quota(quota_id, value)]).exhausted is exhausted


def test_a_header_weighs_more_and_a_list_of_one_is_its_item() -> None:
    error = {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": [retry_info("46s")]}
    body = msgspec.json.encode([{"error": error}]).decode()
    assert complaint_of(body).retry_after_seconds == 46.0
    assert failure(429, body, {}, now=0.0).retry_after_seconds == 46.0
    assert failure(429, body, {"retry-after": "3"}, now=0.0).retry_after_seconds == 3.0
    assert failure(429, body, {}, now=0.0).message == "HTTP 429: slow"


def test_a_key_of_google_does_not_show() -> None:
    error = failure(400, '{"error": {"message": "bad key AIzaSyA0123456789012345678901234567890"}}', {}, now=0.0)
    assert "AIza" not in error.message + error.body
