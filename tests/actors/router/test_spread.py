from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.spread import LEAST_VALUE, Place, spread, spread_within

PLACES = st.lists(
    st.builds(
        Place,
        backend=st.just("a"),
        model=st.just("m"),
        each=st.sampled_from([0, 0, 1, 40, 7_000, 80_000]),
        service=st.sampled_from([0.0, 0.5, 1.0, 5.0, 10.0, 20.0]),
        slots=st.integers(1, 4),
        ahead=st.integers(0, 6),
        switch=st.sampled_from([0.0, 0.0, 12.5]),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
VALUES = st.sampled_from([0.0, 1.0, 1_000.0, 50_000.0])


def charge(places: list[Place], counts: tuple[int, ...] | list[int], value: float) -> float:
    """Prices, and the value of the time until each job is done."""
    found = 0.0
    for place, jobs in zip(places, counts, strict=True):
        found += place.each * jobs + max(value, LEAST_VALUE) * sum(place.seconds(n) for n in range(1, jobs + 1))
    return found


def ways(places: int, jobs: int) -> list[tuple[int, ...]]:
    return [counts for counts in product(range(jobs + 1), repeat=places) if sum(counts) == jobs]


def price(places: list[Place], counts: list[int]) -> int:
    return sum(place.each * jobs for place, jobs in zip(places, counts, strict=True))


@given(PLACES, st.integers(1, 7), VALUES)
def test_no_other_way_to_spread_costs_less(places: list[Place], jobs: int, value: float) -> None:
    counts = spread(places, jobs, value=value)
    assert sum(counts) == jobs
    assert min(counts) >= 0
    best = min(charge(places, other, value) for other in ways(len(places), jobs))
    assert charge(places, counts, value) == pytest.approx(best, rel=1e-9, abs=1e-4)


@given(PLACES, st.integers(1, 100_000), VALUES)
def test_all_jobs_have_a_place_however_many(places: list[Place], jobs: int, value: float) -> None:
    counts = spread(places, jobs, value=value)
    assert sum(counts) == jobs
    assert min(counts) >= 0


@given(PLACES, st.integers(1, 2_000), VALUES, st.integers(0, 2_000_000))
def test_a_budget_is_kept_and_pays_for_as_many_as_it_can(
    places: list[Place], jobs: int, value: float, budget: int
) -> None:
    counts = spread_within(places, jobs, value=value, budget=budget)
    least = min(place.each for place in places)
    assert price(places, counts) <= budget
    assert sum(counts) == (jobs if least * jobs <= budget else budget // least)


@given(PLACES, st.integers(1, 500), VALUES)
def test_a_budget_that_is_large_enough_changes_nothing(places: list[Place], jobs: int, value: float) -> None:
    free = spread(places, jobs, value=value)
    assert spread_within(places, jobs, value=value, budget=price(places, free)) == free


def test_free_capacity_comes_first_and_the_rest_flows_over() -> None:
    local, cloud = (
        Place(backend="local", model="m", each=0, service=10.0),
        Place(backend="cloud", model="m", each=7_000, service=20.0, slots=10),
    )
    value = 1_000.0  # Micro-dollars per second: the second local job waits for 20 s, one in the cloud costs 7 s more.
    assert spread([local, cloud], 2, value=value) == [2, 0]
    assert spread([local, cloud], 3, value=value) == [2, 1]
    assert spread([local, cloud], 12, value=value) == [2, 10]
    assert spread([local, cloud], 3, value=0.0) == [3, 0]


def test_among_equal_charges_the_cheaper_one_and_then_the_earlier_one() -> None:
    dear = Place(backend="dear", model="m", each=1_000, service=1.0)
    free = Place(backend="free", model="m", each=0, service=2.0)
    assert spread([dear, free], 1, value=1_000.0) == [0, 1]
    assert spread([free, free], 1, value=1_000.0) == [1, 0]


@pytest.mark.parametrize(
    ("jobs", "seconds"), [(0, 0.0), (1, 5.0 + 3 * 2.0), (2, 5.0 + 3 * 2.0), (3, 5.0 + 4 * 2.0), (20, 5.0 + 12 * 2.0)]
)
def test_a_place_works_in_waves_behind_what_is_there(jobs: int, seconds: float) -> None:
    place = Place(backend="a", model="m", each=0, service=2.0, slots=2, ahead=4, switch=5.0)
    assert place.seconds(jobs) == seconds
    assert jobs <= place.done_by(seconds, 10_000) <= jobs + 1


def test_a_budget_shifts_work_before_it_leaves_any_over() -> None:
    cloud, gemini = (
        Place(backend="cloud", model="m", each=7_000, service=20.0),
        Place(backend="gemini", model="m", each=80_000, service=5.0),
    )
    free = spread([cloud, gemini], 100, value=1_000.0)
    assert price([cloud, gemini], free) > 1_000_000
    assert spread_within([cloud, gemini], 100, value=1_000.0, budget=700_000) == [100, 0]
    counts = spread_within([cloud, gemini], 100, value=1_000.0, budget=1_000_000)
    assert sum(counts) == 100
    assert 1_000_000 - 80_000 < price([cloud, gemini], counts) <= 1_000_000
    assert spread_within([cloud, gemini], 100, value=1_000.0, budget=0) == [0, 0]
