from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from actors.alert_settings import BILLING_LIMIT
from actors.console.budget_table import BAR, DROP, FOLD, RIGHT, amount_of, bar, budgets_cells, shown, unit_of, where_to
from actors.console.screen import Wrong
from actors.console.tables import Fitted
from messages import BudgetsAre, BudgetState, Limit, Spending
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


# Where a budget is going.

STATE = BudgetState(
    budget="daily", holder="acme", counter="ledger.tenant.acme.microdollars.day-1", unit="microdollars", window="day",
    spent=1_000_000, reserved=500_000, limit=5_000_000, began_at=0.0, ends_at=86_400.0, at=100.0,
)  # fmt: skip


def going(**changes: Any) -> Spending:
    given: dict[str, Any] = {"budget": "daily", "holder": "acme", "counter": STATE.counter, "at": 100.0}
    return Spending(**{**given, **changes})


@pytest.mark.parametrize(
    ("spending", "text"),
    [
        (going(projected=9_000_000, breach_at=7_300.0, jobs_left=120), "$9.00, full in 2.0 h, 120 prompts left"),
        (going(projected=2_000_000, jobs_left=1_200), "$2.00, 1,200 prompts left"),
        (going(projected=2_000_000, breach_at=100.0), "$2.00, full"), (going(), ""), (None, ""),
        (going(projected=9_000_000, counter="ledger.tenant.acme.microdollars.day-0"), ""),
    ],
)  # fmt: skip
def test_where_a_budget_is_going(spending: Spending | None, text: str) -> None:
    assert where_to(STATE, spending, 100.0).plain == text


def screen(answer: BudgetsAre, **more: Any) -> str:
    width = more.pop("width", 200)
    console = Console(width=width, file=io.StringIO())
    console.print(Fitted(budgets_cells(answer, **more), width, right=RIGHT, fold=FOLD, drop=DROP))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_tells_it_for_each_holder() -> None:
    answer = BudgetsAre(limits=(Limit(name="daily", scope="tenant", limit=5_000_000),), states=(STATE,))
    told = screen(answer, spending={("daily", "acme"): going(projected=9_000_000, breach_at=7_300.0)}, now=100.0)
    assert "by the end" in told
    assert "$9.00, full in 2.0 h" in told
    assert "full" not in screen(answer, spending={("daily", "other"): going(breach_at=7_300.0)}, now=100.0)


def test_a_narrow_screen_cuts_no_name_and_no_amount_and_goes_without_columns_for_that() -> None:
    limit = Limit(name="a-team-of-many", scope="tenant", limit=5_000_000, at=1.0, by="somebody")
    state = msgspec.structs.replace(STATE, budget=limit.name, spent=11_402, reserved=10_800)
    spending = {
        (limit.name, "acme"): msgspec.structs.replace(going(projected=41_273, jobs_left=1_581), budget=limit.name)
    }
    whole = screen(BudgetsAre(limits=(limit,), states=(state,)), spending=spending)
    assert "1,581 prompts left" in whole
    assert "somebody" in whole
    for width in (60, 80, 100):
        told = screen(BudgetsAre(limits=(limit,), states=(state,)), spending=spending, width=width).splitlines()
        assert max(len(line.rstrip()) for line in told) <= width
        assert told[1].split()[:5] == ["a-team-of-many", "acme", "$0.011402", "$0.0108", "$5.00"]


def test_a_threshold_is_shown_instead_of_a_limit_that_stops_nothing() -> None:
    limit = Limit(
        name="billing-openai", scope="provider", only="openai", window="month", limit=BILLING_LIMIT,
        soft_share=100_000_000 / BILLING_LIMIT,
    )  # fmt: skip
    told = screen(BudgetsAre(limits=(limit,)))
    assert "$100.00" in told
    assert "environment" in told
    assert "1,000,000,000" not in told
