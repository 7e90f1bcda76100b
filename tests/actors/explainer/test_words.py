from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.explainer.words import compared, cost, dollars, jobs, joined, listed, money, places, span


@pytest.mark.parametrize(
    ("microdollars", "text"),
    [(0, "free"), (1, "$0.000001"), (7_000, "$0.007"), (80_000, "$0.08"), (1_000_000, "$1"), (10_500_000, "$10.5"),
     (10_000_000, "$10")],
)  # fmt: skip
def test_money_as_people_read_it(microdollars: int, text: str) -> None:
    assert dollars(microdollars) == text


@given(st.integers(1, 10**12))
def test_money_says_the_whole_amount(microdollars: int) -> None:
    assert round(float(dollars(microdollars).removeprefix("$")) * 1e6) == microdollars


def test_money_beside_other_figures_is_a_figure() -> None:
    assert [money(0), money(7_000.0)] == ["$0", "$0.007"]


@pytest.mark.parametrize(("expected", "text"), [(0.0, "nothing"), (0.2, "under $0.000001"), (7_000.2, "$0.007")])
def test_an_expected_price_need_not_be_whole(expected: float, text: str) -> None:
    assert cost(expected) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1.0, "0 ms"), (0.43, "430 ms"), (8.0, "8.0 s"), (119.0, "119.0 s"), (200.0, "3 min 20 s")]
)
def test_time_as_people_read_it(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("mine", "theirs", "text"),
    [
        (8.0, 10.0, "20% lower latency"),
        (10.0, 8.0, "25% higher latency"),
        (0.1, 10.0, "99% lower latency"),
        (10.0, 2.0, "5.0 times the latency"),
    ],
)
def test_a_comparison_uses_a_factor_where_a_percentage_says_nothing(mine: float, theirs: float, text: str) -> None:
    assert compared(mine, theirs, "latency") == text


@given(st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_a_comparison_says_the_right_direction(mine: float, theirs: float) -> None:
    said = compared(mine, theirs, "latency")
    assert ("lower" in said) == (mine < theirs)


def test_lists_are_cut_and_joined() -> None:
    assert listed(["a", "b"]) == "a; b"
    assert listed(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
    assert [joined([]), joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_counts_are_singular_for_one() -> None:
    assert [jobs(0), jobs(1), jobs(7.0), places(0), places(1), places(4)] == [
        "no jobs", "1 job", "7 jobs", "1 place", "1 place", "4 places",
    ]  # fmt: skip
