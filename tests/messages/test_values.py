from __future__ import annotations

import pytest

from messages import Failover


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 0.0), (2, 1.0), (3, 3.0), (4, 3.0), (9, 3.0)])
def test_waits_before_attempts(attempt: int, seconds: float) -> None:
    assert Failover().wait_before(attempt) == seconds


def test_without_waits_nobody_waits() -> None:
    assert Failover(waits_seconds=()).wait_before(5) == 0.0
