from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.router.case import Row
from actors.router.strategies.pool import leader, places, squash
from tests.actors.router.strategies.rows import NAMES, ROWS, row


@given(ROWS, NAMES)
def test_a_place_is_that_of_the_first_name_that_means_the_row(rows: list[Row], names: tuple[str, ...]) -> None:
    expected = [next((i for i, name in enumerate(names) if r.is_called(name)), len(names)) for r in rows]
    assert places(rows, names) == expected


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_squash_grows_and_stays_below_one(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0.0 <= squash(low, 10.0) <= squash(high, 10.0) < 1.0
    assert squash(10.0, 10.0) == 0.5


def test_the_leader_is_the_best_and_then_the_first_by_name() -> None:
    rows = [row("b"), row("a/n"), row("a/m"), row("c")]
    assert leader(rows, [1.0, 1.0, 1.0, 0.0], range(4)) == 2
    assert leader(rows, [1.0, 1.0, 1.0, 2.0], [0, 1]) == 1


def test_among_equal_scores_the_emptier_one_leads_as_in_the_ranking() -> None:
    rows = [row("a", ahead=2.0), row("b", ahead=2.0, known={"slots": 16}), row("c", ahead=1.0)]
    assert leader(rows, [1.0, 1.0, 1.0], range(3)) == 1
    assert leader(rows, [1.0, 0.0, 1.0], range(3)) == 2
