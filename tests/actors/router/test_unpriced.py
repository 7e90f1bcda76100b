"""What a price that nobody knows counts as: never free, and the same for all that have none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.case import Row
from actors.router.strategies import STRATEGIES
from actors.router.unpriced import assume_prices
from messages import Known, Model, Plan, Policy, Price, Weights
from tests.actors.router.fleet002 import view_of
from tests.actors.router.seeds.fleet import decision
from tests.actors.router.strategies.rows import case as made
from tests.actors.router.strategies.rows import order, row
from tests.messages.samples import backend

PRICES = st.lists(st.none() | st.floats(0, 1e7), min_size=1, max_size=6)


def rows_of(prices: Sequence[float | None]) -> list[Row]:
    """A row for each price; None: unknown, and the survey then counts nothing."""
    found = [row(f"b{i}", price_microdollars=price or 0.0) for i, price in enumerate(prices)]
    for one, price in zip(found, prices, strict=True):
        one.known = Known(slots=4, price=Price(unknown=price is None))
    return found


@given(PRICES, st.floats(1, 1e6))
def test_an_unknown_price_counts_as_more_than_every_known_one(prices: list[float | None], dear: float) -> None:
    rows = rows_of(prices)
    assume_prices(rows, Plan(weights=Weights(dear_microdollars=dear)))
    known = [price for price in prices if price is not None]
    for one, price in zip(rows, prices, strict=True):
        f = one.features
        assert f.price_assumed is (price is None)
        if price is None:
            assert f.price_microdollars >= max(dear, *known, 0.0)
            assert f.price_microdollars > max(known, default=0.0)
            assert "unknown price" in one.reason
        else:
            assert (f.price_microdollars, one.reason) == (price, "")


@given(PRICES)
def test_to_assume_twice_is_to_assume_once(prices: list[float | None]) -> None:
    """A decision derives again from its event, in which the assumed prices stand."""
    rows = rows_of(prices)
    assume_prices(rows, Plan())
    first = [one.features for one in rows]
    assume_prices(rows, Plan())
    assert [one.features for one in rows] == first


@pytest.mark.parametrize("strategy", ["cost_first", "expected_cost", "weighted_score"])
@given(prices=PRICES)
def test_nobody_of_unknown_price_goes_before_who_is_otherwise_alike(strategy: str, prices: list[float | None]) -> None:
    rows = rows_of(prices)
    assume_prices(rows, Plan())
    ranked = order(rows, STRATEGIES[strategy].score(rows, made()))
    unknown = [prices[int(name[1:])] is None for name in ranked]
    if strategy == "weighted_score":  # What is dearer than `dear` has no points either.
        unknown = [one for name, one in zip(ranked, unknown, strict=True) if (prices[int(name[1:])] or 0) < 80_000]
    assert unknown == sorted(unknown)


@pytest.mark.parametrize("strategy", ["cost_first", "expected_cost"])
@pytest.mark.parametrize("ceiling", [None, 100])
def test_who_is_known_to_be_cheap_leads(strategy: str, ceiling: int | None) -> None:
    """As a whole: a cloud that says no price beside one that asks a tenth of a cent."""
    odd = backend("a-odd", local=False, models=(Model(name="m"),))
    cheap = backend("cheap", local=False, models=(Model(name="m", price=Price(per_request=1_000)),))
    view = view_of(odd, cheap, policies=(Policy(policy="p", strategy=strategy),))
    if ceiling is not None:
        view.price_ceiling = ceiling  # Somebody said what such a price counts as.
        view.learn_backend(odd)
    decided = decision(view, {})
    assert decided.ranking[0].backend == ("cheap" if ceiling is None else "a-odd")
    if ceiling is None:
        last = decided.ranking[1]
        assert (last.features.price_microdollars, last.features.price_assumed) == (80_000.0, True)
        assert last.reason == "has an unknown price, which counts as $0.08"
        assert "which has an unknown price, which counts as $0.08" in decided.reason


def test_where_all_prices_are_unknown_the_rest_decides() -> None:
    slow = backend("a-slow", local=False, models=(Model(name="m", tokens_per_second=1.0),))
    quick = backend("quick", local=False, models=(Model(name="m", tokens_per_second=90.0),))
    assert decision(view_of(slow, quick), {}).ranking[0].backend == "quick"
