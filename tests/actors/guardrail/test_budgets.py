from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contradictions import of_budget
from actors.guardrail.budgets import Budgets, budget_of, configured, limit_of
from actors.guardrail.ceilings import CEILINGS, PER_DAY_DOLLARS
from actors.settings import Budget, BudgetRules
from messages import Limit
from tests.messages.samples import T0

DAILY = Budget(name="daily", limit=100)


def said(**changes: Any) -> Limit:
    given: dict[str, Any] = {"name": "daily", "limit": 200, "by": "ada", "at": T0}
    return Limit(**{**given, **changes})


def test_a_fact_takes_the_place_of_the_configured_budget() -> None:
    budgets = Budgets((DAILY, Budget(name="other", limit=1)))
    assert budgets.learn(said()) == ""
    assert [(one.name, one.limit) for one in budgets.in_force] == [("other", 1), ("daily", 200)]
    assert budgets.learn(said(limit=50)) == ""
    assert budgets.named("daily") == Budget(name="daily", limit=50, time_zone="UTC")


def test_what_is_removed_holds_no_more_and_can_come_back() -> None:
    budgets = Budgets((DAILY,))
    budgets.learn(said(removed=True))
    assert (budgets.in_force, budgets.named("daily"), budgets.limits()) == ((), None, ())
    budgets.learn(said())
    assert budgets.limits() == (said(),)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"limit": -1}, "limit is -1: use 0 (only what is free) or more"),
        ({"scope": "global", "only": "x"}, "only is 'x': a global budget is for all"),
        ({"scope": "step", "only": "hero"}, "name a step as <workflow>/<step>"),
        ({"scope": "job"}, "window is 'day': a job's budget is for the whole job"),
        ({"time_zone": "Mars"}, "time_zone is 'Mars' is no time zone"),
        ({"soft_share": 1.5}, "soft_share is 1.5: use 0 to 1"),
        ({"name": "a\nb"}, "printable characters"),
    ],
)
def test_what_can_not_be_meant_changes_nothing(wrong: dict[str, Any], text: str) -> None:
    budgets = Budgets((DAILY,))
    before = budgets.in_force
    assert text in budgets.learn(said(**wrong))
    assert budgets.in_force == before


def test_ceilings_are_shipped_raised_and_switched_off() -> None:
    names = {budget.name for budget in configured((), BudgetRules())}
    assert names == {f"ceiling-{provider}" for provider in PER_DAY_DOLLARS}
    assert configured((), BudgetRules(ceilings=False)) == ()
    own = Budget(name="ceiling-openai", scope="provider", only="openai", limit=1)
    found = {budget.name: budget for budget in configured((own,), BudgetRules())}
    assert (found["ceiling-openai"].limit, len(found)) == (1, len(names))
    budgets = Budgets((), BudgetRules())
    budgets.learn(said(name="ceiling-openai", removed=True))
    assert {budget.name for budget in budgets.in_force} == names - {"ceiling-openai"}


@pytest.mark.parametrize("ceiling", CEILINGS, ids=lambda budget: budget.name)
def test_a_ceiling_is_a_sound_budget_for_one_provider(ceiling: Budget) -> None:
    assert list(of_budget(ceiling)) == []
    assert (ceiling.scope, ceiling.unit, ceiling.window) == ("provider", "microdollars", "day")
    assert 1_000_000 <= ceiling.limit <= 100_000_000
    assert ceiling.only not in ("", "local")


def test_the_calendar_is_that_of_the_rules_unless_the_budget_has_its_own() -> None:
    rules = BudgetRules(time_zone="Asia/Tokyo", ceilings=False)
    one, other = configured((DAILY, Budget(name="b", limit=1, time_zone="UTC")), rules)
    assert (one.time_zone, other.time_zone) == ("Asia/Tokyo", "UTC")


def test_a_budgets_own_wish_comes_first() -> None:
    budgets = Budgets((), BudgetRules(on_all_over_budget="wait", ceilings=False))
    assert budgets.wish_of(DAILY) == "wait"
    assert budgets.wish_of(Budget(limit=1, on_all_over_budget="ask")) == "ask"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=12))
def test_the_last_word_on_every_name_holds(words: list[tuple[str, int, bool]]) -> None:
    budgets = Budgets((Budget(name="a", limit=7), Budget(name="d", limit=8)))
    expected = {"a": 7, "d": 8}
    for name, limit, removed in words:
        budgets.learn(said(name=name, limit=limit, removed=removed))
        expected.pop(name, None)
        expected.update({} if removed else {name: limit})
    assert {budget.name: budget.limit for budget in budgets.in_force} == expected
    assert [limit.name for limit in budgets.limits()] == sorted(expected)


def test_a_budget_survives_the_way_through_a_fact() -> None:
    whole = Budget(
        name="x", scope="step", only="w/s", unit="gpu_milliseconds", window="week", limit=3, soft_share=0.5,
        time_zone="Asia/Tokyo", on_all_over_budget="ask",
    )  # fmt: skip
    assert budget_of(limit_of(whole)) == whole
