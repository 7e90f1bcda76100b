from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from actors.guardrail import burn
from actors.guardrail.burn import RULES, SPACING, Outlook, outlook, sampled, spacing, spent_since, stretches
from messages import BudgetState, Sample

DAY = 86_400.0
BEGAN = 1_767_225_600.0
MONTH = 30 * DAY
USES = st.lists(st.tuples(st.floats(0.1, 7200), st.integers(0, 5000)), max_size=120)
"""Pauses, and what was spent after each."""


def state(spent: int = 0, limit: int = 1_000_000, length: float = DAY, **changes: Any) -> BudgetState:
    given: dict[str, Any] = {
        "budget": "b", "holder": "acme", "counter": "ledger.tenant.acme.microdollars.w", "unit": "microdollars",
        "window": "day", "spent": spent, "reserved": 0, "limit": limit, "began_at": BEGAN,
        "ends_at": BEGAN + length if length else 0.0, "at": BEGAN,
    }  # fmt: skip
    return BudgetState(**{**given, **changes})


def steady(per_second: float, seconds: float, every: float = 10.0) -> tuple[Sample, ...]:
    """Samples of an even use since the window began."""
    return tuple(
        Sample(at=BEGAN + n * every, spent=round(n * every * per_second)) for n in range(int(seconds / every) + 1)
    )


# Samples.


def history(uses: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Every time and total."""
    times = accumulate((pause for pause, _ in uses), initial=BEGAN)
    totals = accumulate((much for _, much in uses), initial=0)
    return list(zip(times, totals, strict=True))


@given(USES, st.floats(1, 100), st.floats(0, 30_000))
def test_thinned_samples_never_show_less_use_and_not_much_older_use(
    uses: list[tuple[float, int]], least: float, back: float
) -> None:
    told = history(uses)
    samples = tuple[Sample, ...]()
    for at, spent in told:
        samples = sampled(samples, at, spent, least, 40_000.0)
    now = told[-1][0]
    start = now - back
    assume(start >= BEGAN)

    def exact(since: float) -> int:
        return told[-1][1] - next(spent for at, spent in reversed(told) if at <= max(since, BEGAN))

    used = spent_since(samples, start)
    assert used is not None
    assert used >= exact(start)
    # It may take in what was spent a little earlier, as far as samples were left out.
    widest = max(least, SPACING * (now - start) / (1 - SPACING))
    assert used <= exact(start - widest - 1e-3)


@given(USES, st.floats(1, 100))
def test_samples_are_few_in_order_and_end_with_the_latest(uses: list[tuple[float, int]], least: float) -> None:
    samples = tuple[Sample, ...]()
    for at, spent in history(uses):
        samples = sampled(samples, at, spent, least, 20_000.0)
    assert all(one.at < two.at and one.spent < two.spent for one, two in pairwise(samples))
    assert samples[-1].spent == history(uses)[-1][1]


def test_a_month_of_steady_use_needs_few_samples() -> None:
    made = state(length=MONTH)
    samples = tuple[Sample, ...]()
    for number in range(10_000):
        samples = sampled(samples, BEGAN + 60.0 * number, number, spacing(made), burn.reach(made))
    assert len(samples) < 150
    assert samples[0].at <= BEGAN + 60.0 * 9_999 - burn.reach(made)


def test_what_is_older_than_the_samples_is_not_known() -> None:
    assert spent_since((), BEGAN) is None
    assert spent_since((Sample(at=BEGAN, spent=5),), BEGAN - 1) is None
    assert spent_since((Sample(at=BEGAN, spent=5), Sample(at=BEGAN + 5, spent=9)), BEGAN + 1) == 4


# Burn rates.


def test_the_stretches_of_a_month_are_those_of_the_book() -> None:
    assert [stretches(rule, MONTH) for rule in RULES[:2]] == [(3600.0, 300.0), (21_600.0, 1800.0)]
    assert [rule.factor for rule in RULES] == [14.4, 6.0, 2.0]
    assert [round(rule.factor * rule.long_share, 4) for rule in RULES] == [0.02, 0.05, 0.1]


def test_no_stretch_is_so_short_that_single_jobs_decide() -> None:
    assert stretches(RULES[0], DAY) == (300.0, 60.0)


def burning(factor: float, length: float = MONTH, hours: float = 40.0) -> set[str]:
    """The rules that hold after so many hours of use at this burn rate."""
    made = state(limit=10**9, length=length, window="month")
    samples = steady(factor * made.limit / length, hours * 3600)
    made = state(spent=samples[-1].spent, limit=10**9, length=length, window="month")
    return {rule.name for rule, _ in outlook(made, samples, samples[-1].at).burning}


@pytest.mark.parametrize(
    ("factor", "names"),
    [
        (0.5, set()), (1.0, set()), (1.9, set()), (2.1, {"slow"}), (5.8, {"slow"}), (6.2, {"slow", "steady"}),
        (14.2, {"slow", "steady"}), (14.8, {"slow", "steady", "fast"}),
    ],
)  # fmt: skip
def test_a_steady_use_burns_by_its_factor(factor: float, names: set[str]) -> None:
    assert burning(factor) == names


def test_a_burst_that_is_over_burns_no_more() -> None:
    """The long stretch still shows it, and the short one does not."""
    made = state(spent=50_000, length=MONTH, window="month")
    samples = (Sample(at=BEGAN, spent=0), Sample(at=BEGAN + 7200, spent=50_000))
    assert {rule.name for rule, _ in outlook(made, samples, BEGAN + 7260).burning} == {"fast", "steady"}
    assert outlook(made, samples, BEGAN + 7200 + 301).burning != outlook(made, samples, BEGAN + 7260).burning
    assert not outlook(made, samples, BEGAN + 7200 + 1801).burning


@given(st.floats(0.1, 40), st.floats(1.01, 10))
def test_whoever_burns_faster_burns_by_no_fewer_rules(factor: float, more: float) -> None:
    assert burning(factor, DAY, 8.0) <= burning(factor * more, DAY, 8.0)


@pytest.mark.parametrize("length", [60.0, 3600.0])
def test_short_windows_are_over_before_anybody_could_act(length: float) -> None:
    assert outlook(state(spent=999_999, length=length), steady(500, length), BEGAN + length - 1) == Outlook()


def test_nothing_is_said_of_a_budget_for_free_jobs_or_of_a_window_that_is_over() -> None:
    assert outlook(state(limit=0), steady(0, 60), BEGAN + 60) == Outlook()
    assert outlook(state(spent=5), steady(1, 60), BEGAN + DAY) == Outlook()


# Where it leads.


@given(
    st.integers(0, 2_000_000), st.integers(1, 1_000_000), st.floats(61, DAY - 1),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2_000_000)), max_size=8),
)  # fmt: skip
def test_the_limit_is_reached_in_the_window_exactly_when_more_than_it_is_projected(
    spent: int, limit: int, elapsed: float, shares: list[tuple[float, int]]
) -> None:
    now = BEGAN + elapsed
    samples = tuple[Sample, ...]()
    for share, much in sorted(shares):
        samples = sampled(samples, BEGAN + share * elapsed, min(much, spent), 1.0, DAY)
    samples = sampled(samples, now, spent, 1.0, DAY)
    where = outlook(state(spent=spent, limit=limit), samples, now)
    assert where.projected is not None
    assert where.projected >= spent
    if spent < limit:
        assert bool(where.breach_at) == (where.projected > limit)
        if where.breach_at:
            assert now <= where.breach_at <= BEGAN + DAY + 1e-3
    else:
        assert where.breach_at == now
        assert where.hours_left(now) == 0


def test_a_steady_use_is_projected_to_the_end() -> None:
    samples = steady(10.0, 6 * 3600)
    now = samples[-1].at
    where = outlook(state(spent=samples[-1].spent, limit=500_000), samples, now)
    assert where.per_second == pytest.approx(10.0, rel=0.01)
    assert where.projected == pytest.approx(864_000, rel=0.01)
    assert where.hours_left(now) == pytest.approx((500_000 - 216_000) / 10 / 3600, rel=0.01)


def test_the_rate_is_the_present_one() -> None:
    """Much in the morning and nothing since is no reason to expect more."""
    samples = (Sample(at=BEGAN, spent=0), Sample(at=BEGAN + 3600, spent=400_000))
    where = outlook(state(spent=400_000), samples, BEGAN + 10 * 3600)
    assert (where.per_second, where.projected, where.breach_at) == (0.0, 400_000.0, 0.0)


def test_without_samples_that_reach_back_the_whole_window_counts() -> None:
    now = BEGAN + 10_000
    where = outlook(state(spent=50_000), (Sample(at=now, spent=50_000),), now)
    assert where.per_second == pytest.approx(5.0)
    assert not where.burning


def test_a_budget_without_an_end_has_a_time_to_its_limit_and_no_projection() -> None:
    made = state(spent=36_000, limit=72_000, length=0.0, began_at=0.0, window="total")
    samples = steady(10.0, 3600)
    where = outlook(made, samples, samples[-1].at)
    assert where.projected is None
    assert where.hours_left(samples[-1].at) == pytest.approx(1.0, rel=0.01)
    assert outlook(made, samples[:1], BEGAN + 10) == Outlook()


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.one_of(st.none(), st.floats(0, 10**5)),
    st.one_of(st.none(), st.integers(1, 10**6)),
)  # fmt: skip
def test_jobs_left_fit_beside_what_is_spent_and_held(
    spent: int, held: int, per_job: float | None, per_hold: int | None
) -> None:
    made = state(spent=spent, reserved=held)
    left = burn.jobs_left(made, per_job, per_hold)
    if not per_job:
        assert left is None
    else:
        assert left is not None
        assert left >= 0
        used, worst = max(per_job, 1.0), max(per_job, 1.0, per_hold or 0)
        room = made.limit - spent - held
        assert left == 0 or (left - 1) * used + worst <= room * (1 + 1e-9)
        assert left * used + worst > room * (1 - 1e-9)


def test_who_holds_much_and_uses_little_is_stopped_early() -> None:
    made = state(spent=950_000)
    assert burn.jobs_left(made, 2_000.0, 100_000.0) == 0
    assert burn.jobs_left(made, 2_000.0, 50_000.0) == 1
    assert burn.jobs_left(made, 2_000.0, 40_000.0) == 6
    assert burn.jobs_left(made, 2_000.0) == 25


def test_a_projection_is_sure_after_a_tenth_of_the_window() -> None:
    assert not burn.is_sure(state(), BEGAN + 8639)
    assert burn.is_sure(state(), BEGAN + 8640)
    assert not burn.is_sure(state(length=0.0), BEGAN + 10**9)
