import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.amounts import amount, dollars


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (4_500_000, "microdollars", "$4.50"),
        (1_000, "microdollars", "$0.001"),
        (0, "microdollars", "$0.00"),
        (1, "microdollars", "$0.000001"),
        (-1_200_000_000, "microdollars", "-$1,200.00"),
        (12_000, "tokens", "12,000 tokens"),
        (1, "requests", "1 request"),
        (36_000, "gpu_milliseconds", "36 GPU-seconds"),
        (250, "gpu_milliseconds", "0.25 GPU-seconds"),
    ],
)
def test_amounts_are_shown_as_what_they_are(value: int, unit: str, said: str) -> None:
    assert amount(value, unit) == said


@given(st.integers(-(10**15), 10**15))
def test_no_money_is_rounded(microdollars: int) -> None:
    said = dollars(microdollars)
    assert round(float(said.replace("$", "").replace(",", "")) * 1e6) == microdollars
    assert len(said.partition(".")[2]) >= 2
