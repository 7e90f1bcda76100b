from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import Failover, Price


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 0.0), (2, 1.0), (3, 3.0), (4, 3.0), (9, 3.0)])
def test_waits_before_attempts(attempt: int, seconds: float) -> None:
    assert Failover().wait_before(attempt) == seconds


def test_without_waits_nobody_waits() -> None:
    assert Failover(waits_seconds=()).wait_before(5) == 0.0


AMOUNTS = st.integers(0, 10**9)


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_cost_is_rounded_up_by_less_than_one(read: int, written: int, per_read: int, per_written: int) -> None:
    exact = read * per_read + written * per_written
    cost = Price(input_per_mtok=per_read, output_per_mtok=per_written).cost(read, written)
    assert 0 <= cost * 1_000_000 - exact < 1_000_000


@pytest.mark.parametrize(("tokens", "cost"), [(0, 0), (1, 1), (1_000_000, 150_000), (1_000_001, 150_001)])
def test_cost_examples(tokens: int, cost: int) -> None:
    assert Price(input_per_mtok=150_000).cost(tokens, 10**6) == cost


def test_free_is_free() -> None:
    assert Price().cost(10**12, 10**12) == 0
