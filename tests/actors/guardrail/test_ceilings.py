from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.alert_settings import BILLING_LIMIT
from actors.contradictions import of_budget
from actors.guardrail.ceilings import CEILINGS, PER_DAY_DOLLARS, counting
from actors.settings import Budget

PROVIDERS = st.dictionaries(st.text("abcxyz", min_size=1, max_size=8), st.integers(1, BILLING_LIMIT), max_size=5)


def test_every_listed_provider_has_one_ceiling_per_day() -> None:
    assert [budget.only for budget in CEILINGS] == sorted(PER_DAY_DOLLARS)
    assert all((one.scope, one.window, one.unit) == ("provider", "day", "microdollars") for one in CEILINGS)
    assert all(one.limit == PER_DAY_DOLLARS[str(one.only)] * 1_000_000 for one in CEILINGS)


@given(PROVIDERS)
def test_a_threshold_counts_a_month_and_stops_nothing(thresholds: dict[str, int]) -> None:
    made = counting(thresholds)
    assert [budget.only for budget in made] == sorted(thresholds)
    for budget in made:
        assert (budget.scope, budget.window, budget.unit, budget.limit) == (
            "provider", "month", "microdollars", BILLING_LIMIT,
        )  # fmt: skip
        assert list(of_budget(budget)) == []
        assert round(budget.soft_share * budget.limit) == thresholds[str(budget.only)]


def test_ones_own_budget_of_that_name_comes_first() -> None:
    own = Budget(name="billing-openai", limit=5)
    assert [one.name for one in counting({"openai": 5, "anthropic": 7}, (own,))] == ["billing-anthropic"]
