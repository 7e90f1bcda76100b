from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.console.budget_table import BAR, amount_of, bar, shown, unit_of
from actors.console.screen import Wrong
from messages.fleet import Unit


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("5", "microdollars", 5_000_000), ("$5", "microdollars", 5_000_000), (" 5.00 ", "microdollars", 5_000_000),
        ("$1,250.5", "microdollars", 1_250_500_000), ("0.000001", "microdollars", 1), ("0", "microdollars", 0),
        ("12000", "tokens", 12_000), ("12_000", "requests", 12_000), ("3600", "gpu_milliseconds", 3_600_000),
        ("0.5", "gpu_milliseconds", 500), ("1e3", "tokens", 1000),
    ],
)  # fmt: skip
def test_limits_as_people_write_them(text: str, unit: Unit, amount: int) -> None:
    assert amount_of(text, unit) == amount


@pytest.mark.parametrize(
    ("text", "unit", "said"),
    [
        ("much", "microdollars", "give dollars, 0 or more, for example 5.00"),
        ("-1", "microdollars", "use 0 (only what is free) or more"),
        ("$-1", "microdollars", "use 0"), ("0.0000001", "microdollars", "too fine"), ("1.5", "tokens", "too fine"),
        ("$5", "tokens", "give tokens"), ("nan", "requests", "use 0"), ("inf", "requests", "use 0"),
        ("1e30", "requests", "too large"), ("", "gpu_milliseconds", "give GPU-seconds"),
    ],
)  # fmt: skip
def test_no_limits(text: str, unit: Unit, said: str) -> None:
    with pytest.raises(Wrong) as wrong:
        amount_of(text, unit)
    assert said in wrong.value.text


def test_units_as_people_write_them() -> None:
    assert [unit_of(text) for text in ("dollars", "Tokens", "requests", "gpu-seconds")] == [
        "microdollars", "tokens", "requests", "gpu_milliseconds",
    ]  # fmt: skip
    with pytest.raises(Wrong, match="use dollars, tokens, requests or gpu-seconds"):
        unit_of("euros")


@given(st.integers(0, 2**53 - 1))
def test_dollars_are_shown_to_the_last_millionth(amount: int) -> None:
    assert amount_of(shown(amount, "microdollars"), "microdollars") == amount


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [(4_500_000, "microdollars", "$4.50"), (12_000, "tokens", "12,000"), (36_000, "gpu_milliseconds", "36.0 s")],
)
def test_amounts_are_shown(amount: int, unit: Unit, text: str) -> None:
    assert shown(amount, unit) == text


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 150))
def test_a_bar_has_its_width_and_shows_whatever_there_is(spent: int, held: int, limit: int) -> None:
    made = bar(spent, held, limit)
    assert len(made) == BAR
    assert (spent == 0 or limit == 0) or "█" in made
    assert made.strip("█").strip("▒").strip("░") == ""
    if limit and spent + held <= limit:
        assert abs(made.count("░") - BAR * (limit - spent - held) / limit) <= 2
