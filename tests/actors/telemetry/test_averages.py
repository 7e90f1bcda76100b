from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.telemetry.averages import DISCOUNT, after, keys_of
from messages import Attempted, Stats, Usage
from messages.values import Outcome
from tests.messages.samples import attempted

KEY = ("a", "m", "-")
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def folded(*events: Attempted) -> Stats:
    stats: Stats | None = None
    for event in events:
        stats = after(stats, event, KEY)
    assert stats is not None
    return stats


def ran(seconds: float, tokens: int | None = 10, cost: int = 5) -> Attempted:
    return attempted(
        latency_seconds=seconds, first_token_seconds=seconds / 2, usage=Usage(output_tokens=tokens),
        billed_microdollars=cost,
    )  # fmt: skip


def test_an_attempt_counts_for_its_model() -> None:
    assert keys_of(attempted(workflow="")) == [KEY]


def test_and_for_its_workflow_there() -> None:
    assert keys_of(attempted(workflow="site")) == [KEY, ("a", "m", "acme/site")]


def test_tenants_share_no_workflow() -> None:
    one, other = (keys_of(attempted(tenant=tenant, workflow="site"))[1] for tenant in ("acme", "other"))
    assert one != other


def test_the_first_measurement_is_the_average() -> None:
    stats = folded(ran(2.0))
    assert (stats.attempts, stats.successes) == (1, 1)
    assert (stats.latency_seconds, stats.first_token_seconds) == (2.0, 1.0)
    assert (stats.tokens_per_second, stats.cost_microdollars) == (5.0, 5.0)


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=40))
def test_an_average_lies_between_what_was_measured(times: list[float]) -> None:
    stats = folded(*(ran(seconds) for seconds in times))
    assert stats.latency_seconds is not None
    assert min(times) * 0.999 <= stats.latency_seconds <= max(times) * 1.001
    assert stats.successes == len(times)


def test_the_last_dozens_of_runs_make_up_most_of_it() -> None:
    stats = folded(*(ran(10.0) for _ in range(100)), *(ran(1.0) for _ in range(60)))
    assert stats.latency_seconds == pytest.approx(10.0 ** (DISCOUNT**60), rel=1e-6)
    assert stats.latency_seconds
    assert stats.latency_seconds < 1.2


def test_one_stall_does_not_move_the_figure_far() -> None:
    stats = folded(*(ran(2.0) for _ in range(20)), ran(600.0))
    assert stats.latency_seconds is not None
    assert stats.latency_seconds < 3.0


@pytest.mark.parametrize("outcome", [o for o in OUTCOMES if o not in {"ok", "not_started", "aborted", "bad_request"}])
def test_a_failure_counts_but_its_times_do_not(outcome: Outcome) -> None:
    stats = folded(ran(2.0), attempted(outcome=outcome, latency_seconds=60.0))
    assert (stats.attempts, stats.successes, stats.latency_seconds) == (2, 1, 2.0)


@pytest.mark.parametrize("outcome", ["not_started", "aborted", "bad_request"])
def test_what_says_nothing_about_the_backend_does_not_count(outcome: Outcome) -> None:
    stats = folded(ran(2.0))
    assert after(stats, attempted(outcome=outcome), KEY) is stats


def test_what_is_unknown_changes_no_average() -> None:
    stats = folded(ran(2.0), attempted())
    assert (stats.successes, stats.latency_seconds, stats.tokens_per_second) == (2, 2.0, 5.0)
    assert stats.cost_microdollars == pytest.approx(5.0 * DISCOUNT)


@given(
    st.lists(
        st.builds(
            attempted, outcome=st.sampled_from(OUTCOMES), latency_seconds=st.none() | st.just(0.0) | st.floats(1e-6, 1e4),
            usage=st.builds(Usage, output_tokens=st.none() | st.integers(0, 10**6)),
        ),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_averages_are_always_numbers(events: list[Attempted]) -> None:
    stats = folded(*events)
    assert 0 <= stats.successes <= stats.attempts <= len(events)
    figures = (stats.latency_seconds, stats.tokens_per_second, stats.cost_microdollars)
    assert all(math.isfinite(figure) and figure >= 0 for figure in figures if figure is not None)
