from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.simbackend import FAULTS, SimSettings
from actors.simbackend.settings import checked_rates, fault_of

RATES = st.dictionaries(st.sampled_from(FAULTS), st.floats(0, 1 / len(FAULTS)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "a\nb"), ("models", ()), ("models", ("a", "a")), ("models", ("",)), ("slots", 0),
        ("answer_tokens", 0), ("first_token_seconds", -1.0), ("tokens_per_second", float("nan")), ("error_rate", 1.5),
        ("error_rate", -0.1), ("faults", {"fire": 0.1}), ("faults", {"cut": 2.0}), ("faults", {"cut": 0.6, "429": 0.6}),
        ("slow_factor", 0.5), ("retry_after_seconds", float("inf")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^(faults\.|{field}|faults)"):
        SimSettings(**{field: value})


def test_settings_can_be_read_from_configuration() -> None:
    settings = msgspec.convert({"name": "x", "faults": {"429": 0.25}, "error_rate": 0.5}, SimSettings)
    assert settings.rates() == {"500": 0.5, "429": 0.25}
    with pytest.raises(msgspec.ValidationError, match="error_rat"):
        msgspec.convert({"error_rat": 0.5}, SimSettings)
    with pytest.raises(ValueError, match="more than 1"):
        SimSettings(error_rate=0.6, faults={"429": 0.6})


@given(st.integers(), st.integers(0), RATES)
def test_faults_are_reproducible(seed: int, number: int, rates: dict) -> None:
    fault = fault_of(seed, number, checked_rates(rates))
    assert fault == fault_of(seed, number, dict(reversed(rates.items())))
    assert fault is None or rates[fault] > 0


@given(st.integers(), st.sampled_from(FAULTS))
def test_sure_faults_are_sure(seed: int, fault: str) -> None:
    assert fault_of(seed, 0, checked_rates({fault: 1.0})) == fault  # type: ignore[dict-item]
    assert fault_of(seed, 0, {}) is None


def test_rates_are_kept() -> None:
    found = Counter(fault_of(7, number, {"429": 0.1, "cut": 0.3}) for number in range(10_000))
    assert 800 < found["429"] < 1200
    assert 2700 < found["cut"] < 3300
    assert set(found) == {"429", "cut", None}
