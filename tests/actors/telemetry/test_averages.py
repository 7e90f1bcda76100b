from __future__ import annotations

import math
import statistics
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.telemetry.averages import (
    DISCOUNT,
    LEAST_RATIO,
    MOST_RATIO,
    NOT_COUNTED,
    STOPPED,
    Key,
    after,
    counted,
    general_keys,
    mean_of,
    named_keys,
)
from messages import Attempted, Correction, Stats, Usage
from messages.values import Outcome
from tests.messages.samples import T0, attempted

KEY = ("a", "m", "-")
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILURES = [outcome for outcome in OUTCOMES if outcome not in {"ok", *NOT_COUNTED, *STOPPED}]


def folded(*events: Attempted) -> Stats:
    stats: Stats | None = None
    for event in events:
        stats = after(stats, event, KEY)
    assert stats is not None
    return stats


def ran(seconds: float, tokens: int | None = 10, cost: int = 5, *, switched: bool = False) -> Attempted:
    return attempted(
        latency_seconds=seconds, first_token_seconds=seconds / 2, usage=Usage(output_tokens=tokens),
        billed_microdollars=cost, switched=switched,
    )  # fmt: skip


def failed(outcome: Outcome = "server_error", seconds: float | None = 60.0) -> Attempted:
    return attempted(outcome=outcome, latency_seconds=seconds)


def latency(stats: Stats) -> float:
    assert stats.latency_seconds is not None
    return stats.latency_seconds


# Scopes.


def test_an_attempt_counts_for_its_model_and_its_kind_of_work() -> None:
    assert general_keys(attempted(task="code", workflow="site")) == (KEY, ("a", "m", "task:code"))


@pytest.mark.parametrize(
    ("workflow", "step", "scopes"),
    [("", "", []), ("", "hero", []), ("site", "", ["acme/site"]), ("site", "hero", ["acme/site", "acme/site/hero"])],
)
def test_and_for_its_workflow_and_step_there(workflow: str, step: str, scopes: list[str]) -> None:
    assert named_keys(attempted(workflow=workflow, step=step)) == tuple(("a", "m", scope) for scope in scopes)


def test_tenants_share_no_workflow() -> None:
    one, other = (named_keys(attempted(tenant=tenant, workflow="site")) for tenant in ("acme", "other"))
    assert set(one).isdisjoint(other)


# Times.


def test_the_first_measurement_is_the_average() -> None:
    stats = folded(ran(2.0))
    assert (stats.attempts, stats.successes, stats.weight) == (1, 1, 1.0)
    assert (stats.latency_seconds, stats.first_token_seconds, stats.latency_spread) == (2.0, 1.0, None)
    assert (stats.tokens_per_second, stats.output_tokens, stats.cost_microdollars) == (5.0, 10.0, 5.0)


def test_a_new_average_carries_its_epoch() -> None:
    assert after(None, ran(1.0), KEY, 3).epoch == 3


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=40))
def test_an_average_lies_between_what_was_measured(times: list[float]) -> None:
    stats = folded(*(ran(seconds) for seconds in times))
    assert min(times) * 0.999 <= latency(stats) <= max(times) * 1.001
    assert stats.successes == len(times)
    assert stats.weight == pytest.approx(counted(len(times)))


@given(st.lists(st.floats(1.0, 7.0), min_size=2, max_size=60))
def test_mean_and_spread_are_those_of_the_weighted_logarithms(times: list[float]) -> None:
    """Close together, so that nothing is clipped: the textbook's sums, all at once."""
    stats = folded(*(ran(seconds) for seconds in [times[0], *(max(t, times[0] / 2) for t in times[1:])]))
    times = [times[0], *(max(t, times[0] / 2) for t in times[1:])]
    weights = [DISCOUNT**age for age in reversed(range(len(times)))]
    logs = [math.log(t) for t in times]
    mean = statistics.fmean(logs, weights)
    spread = math.sqrt(statistics.fmean([(x - mean) ** 2 for x in logs], weights))
    assert math.log(latency(stats)) == pytest.approx(mean, abs=1e-9)
    assert stats.latency_spread == pytest.approx(spread, abs=1e-6)


@given(st.floats(0.01, 1000), st.integers(1, 60), st.floats(1e-9, 1e12))
def test_one_value_moves_the_mean_no_further_than_a_clipped_one(usual: float, runs: int, odd: float) -> None:
    before = folded(*(ran(usual) for _ in range(runs)))
    moved = latency(after(before, ran(odd), KEY)) / latency(before)
    share = 1 / counted(runs + 1)
    assert LEAST_RATIO**share * 0.999999 <= moved <= MOST_RATIO**share * 1.000001
    assert (moved - 1) * (odd - usual) >= 0 or moved == pytest.approx(1)


def test_the_last_dozens_of_runs_make_up_most_of_it() -> None:
    stats = folded(*(ran(3.0) for _ in range(200)), *(ran(1.0) for _ in range(60)))
    share = counted(60) / counted(260)
    assert math.log(latency(stats)) == pytest.approx((1 - share) * math.log(3.0), rel=1e-6)
    assert latency(stats) < 1.1


def test_one_stall_does_not_move_the_figure_far() -> None:
    assert latency(folded(*(ran(2.0) for _ in range(20)), ran(600.0))) < 3.0


# Failures.


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_counts_but_a_short_time_of_its_does_not(outcome: Outcome) -> None:
    stats = folded(ran(2.0), failed(outcome, 1.0))
    assert (stats.attempts, stats.successes, stats.latency_seconds, stats.weight) == (2, 1, 2.0, 1.0)
    assert stats.failure_rate == pytest.approx(1 / counted(2))


@pytest.mark.parametrize("outcome", [outcome for outcome in FAILURES if outcome != "timeout"])
def test_nor_does_a_long_one(outcome: Outcome) -> None:
    assert folded(ran(2.0), failed(outcome, 600.0)).latency_seconds == 2.0


@pytest.mark.parametrize("outcome", ["expired", "over_gpu_time"])
def test_what_a_limit_of_the_job_ended_took_longer_and_is_no_failure(outcome: Outcome) -> None:
    before = folded(ran(2.0))
    late = after(before, failed(outcome, 10.0), KEY)
    assert (late.attempts, late.failure_rate) == (before.attempts, 0.0)
    assert latency(late) == latency(after(before, failed("timeout", 10.0), KEY)) > latency(before)


def test_a_timeout_was_at_least_so_long() -> None:
    before = folded(*(ran(2.0) for _ in range(5)))
    late = after(before, failed("timeout", 10.0), KEY)
    assert latency(late) > 2.0
    assert late.successes == 5
    assert latency(after(before, failed("timeout", 600.0), KEY)) == latency(after(before, failed("timeout", 16.0), KEY))


@given(st.lists(st.floats(0.1, 100), max_size=10), st.floats(0.1, 1000))
def test_a_timeout_never_lowers_the_mean_nor_makes_one(times: list[float], seconds: float) -> None:
    stats = folded(failed(), *(ran(t) for t in times))
    late = after(stats, failed("timeout", seconds), KEY)
    if stats.latency_seconds is None:
        assert late.latency_seconds is None
    else:
        assert latency(late) >= stats.latency_seconds * (1 - 1e-12)
    assert after(stats, failed("timeout", None), KEY).latency_seconds == stats.latency_seconds


@pytest.mark.parametrize("outcome", NOT_COUNTED)
def test_what_says_nothing_about_the_backend_does_not_count(outcome: Outcome) -> None:
    stats = folded(ran(2.0))
    assert after(stats, attempted(outcome=outcome), KEY) is stats


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_failure_rate_is_the_discounted_share(outcomes: list[bool]) -> None:
    stats = folded(*(ran(1.0) if good else failed() for good in outcomes))
    weights = [DISCOUNT**age for age in reversed(range(len(outcomes)))]
    share = sum(w for w, good in zip(weights, outcomes, strict=True) if not good) / sum(weights)
    assert stats.failure_rate == pytest.approx(share, abs=1e-9)


# Changes of model, tokens.


def test_a_change_of_model_is_measured_apart() -> None:
    stats = folded(ran(2.0), ran(14.0, switched=True), ran(2.0), ran(9.0, switched=True))
    assert latency(stats) == pytest.approx(2.0)
    assert stats.swap_seconds == pytest.approx(0.8 * 12.0 + 0.2 * 7.0)
    assert (stats.successes, stats.first_token_seconds, stats.tokens_per_second) == (4, 1.0, 5.0)


def test_a_change_that_takes_no_time_tells_that_the_work_is_quick() -> None:
    stats = folded(ran(2.0), ran(1.0, switched=True))
    assert stats.swap_seconds == 0.0
    assert 1.0 < latency(stats) < 2.0


def test_the_very_first_call_has_nothing_to_compare_with() -> None:
    stats = folded(ran(14.0, switched=True))
    assert (stats.latency_seconds, stats.swap_seconds) == (14.0, None)


@pytest.mark.parametrize(
    ("counted_tokens", "estimate", "own_count", "ratio"),
    [(150, 100, False, 1.5), (1, 100, False, LEAST_RATIO), (10_000, 100, False, MOST_RATIO), (150, 0, False, None),
     (None, 100, False, None), (0, 100, False, None), (150, 100, True, None)],
)  # fmt: skip
def test_the_estimate_is_compared_with_what_the_backend_counts(
    counted_tokens: int | None, estimate: int, own_count: bool, ratio: float | None
) -> None:
    usage = Usage(input_tokens=counted_tokens, estimated=own_count)
    assert folded(attempted(usage=usage, input_estimate=estimate)).input_ratio == ratio


def test_our_own_counts_teach_nothing_about_tokens() -> None:
    usage = Usage(input_tokens=150, output_tokens=40, estimated=True)
    stats = folded(attempted(usage=usage, input_estimate=100, latency_seconds=2.0))
    assert (stats.input_ratio, stats.output_tokens, stats.tokens_per_second) == (None, None, None)
    assert (stats.successes, stats.latency_seconds) == (1, 2.0)


def test_what_is_unknown_changes_no_average() -> None:
    stats = folded(ran(2.0), attempted())
    assert (stats.successes, stats.latency_seconds, stats.tokens_per_second) == (2, 2.0, 5.0)
    assert stats.cost_microdollars == pytest.approx(5.0 * DISCOUNT / (1 + DISCOUNT))


def test_a_call_that_an_earlier_attempt_began_says_what_it_cost_and_nothing_of_times() -> None:
    rest = attempted(
        latency_seconds=0.1, first_token_seconds=0.1, usage=Usage(output_tokens=10), billed_microdollars=1, took_up=1,
        corrections=(Correction(n=1, billed_microdollars=4),),
    )  # fmt: skip
    stats = folded(ran(2.0), rest)
    assert (stats.successes, stats.latency_seconds, stats.first_token_seconds, stats.tokens_per_second) == (
        2,
        2.0,
        1.0,
        5.0,
    )
    assert stats.cost_microdollars == pytest.approx(5.0)


def test_an_older_event_does_not_turn_the_time_back() -> None:
    assert folded(attempted(at=T0 + 9), attempted(at=T0 + 3)).at == T0 + 9


# Everything at once.

SECONDS = st.none() | st.just(0.0) | st.floats(1e-12, 1e15)
EVENTS = st.builds(
    attempted, outcome=st.sampled_from(OUTCOMES), latency_seconds=SECONDS, first_token_seconds=SECONDS,
    switched=st.booleans(), input_estimate=st.integers(0, 10**6), billed_microdollars=st.integers(0, 10**12),
    usage=st.builds(
        Usage, input_tokens=st.none() | st.integers(0, 10**9), output_tokens=st.none() | st.integers(0, 10**9)
    ),
    task=st.sampled_from(["chat", "code"]), workflow=st.sampled_from(["", "site"]), step=st.sampled_from(["", "hero"]),
    backend=st.sampled_from(["a", "b"]),
)  # fmt: skip


@given(st.lists(EVENTS, min_size=1, max_size=30))
def test_averages_are_always_numbers_within_their_bounds(events: list[Attempted]) -> None:
    stats = folded(*events)
    assert 0 <= stats.successes <= stats.attempts <= len(events)
    assert 0.0 <= stats.weight <= 1 / (1 - DISCOUNT)
    assert 0.0 <= stats.failure_rate <= 1.0
    figures = [value for value in msgspec.structs.asdict(stats).values() if isinstance(value, float)]
    assert all(math.isfinite(figure) and figure >= 0 for figure in figures)


def by_scope(events: list[Attempted]) -> dict[Key, Stats]:
    found: dict[Key, Stats] = {}
    for event in events:
        for key in (*general_keys(event), *named_keys(event)):
            found[key] = after(found.get(key), event, key)
    return found


@given(st.lists(EVENTS, max_size=20))
def test_scopes_know_nothing_of_each_other(events: list[Attempted]) -> None:
    """Sorting by backend changes the order only between keys that share no event."""
    assert by_scope(events) == by_scope(sorted(events, key=lambda event: event.backend))


@given(st.lists(st.floats(1, 5), max_size=40))
def test_the_mean_of_ratings(scores: list[float]) -> None:
    mean = mean_of(scores)
    if not scores:
        assert mean is None
        return
    weights = [DISCOUNT**age for age in reversed(range(len(scores)))]
    assert mean == pytest.approx(statistics.fmean(scores, weights))
