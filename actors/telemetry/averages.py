"""Rolling averages of attempts: discounted means, so that the last dozens of runs count. Pure.

Times are averaged as logarithms (they have heavy tails), one value moves the mean by a ratio of 0.2 to 8 at the most, a
timeout is a censored value (at least that long), and a failure counts for the failure rate and not for the times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from messages import Attempted, Stats
from messages.fleet import task_key, workflow_key

DISCOUNT = 0.95
"""Weight of the past at each new measurement: the last 20 or so runs make up most of a mean. Between the 5 to 10 that
follow a jump soonest and the 50 to 100 that are the steadiest."""
LEAST_RATIO, MOST_RATIO = 0.2, 8.0
"""How far from the mean a value may lie; what lies beyond counts as lying there."""
SWAP_SHARE = 0.2
"""Weight of the newest change of model: they are rare, so the mean must not need many."""
LEAST_SECONDS, MOST_SECONDS = 1e-6, 1e9
"""Times are taken for no less and no more than this."""
ALL = "-"
"""The scope of all jobs of a model."""
NOT_COUNTED = ("not_started", "aborted", "interrupted", "bad_request")
"""Outcomes that say nothing about the backend: nobody called it, somebody ended the call, the request was wrong."""
STOPPED = ("expired", "over_gpu_time")
"""Outcomes that say only that it takes longer: the job's own limit came first, which is no failure of the backend."""

Key = tuple[str, str, str]
"""Backend, model, scope."""


def general_keys(attempted: Attempted) -> tuple[Key, Key]:
    """The averages of its model, and of its kind of work there: no more than there are models and tasks."""
    a = attempted
    return (a.backend, a.model, ALL), (a.backend, a.model, task_key(a.task))


def named_keys(attempted: Attempted) -> tuple[Key, ...]:
    """The averages of its workflow and step there: clients name these."""
    a = attempted
    if not a.workflow:
        return ()
    steps = ("", a.step) if a.step else ("",)
    return tuple((a.backend, a.model, workflow_key(a.tenant, a.workflow, step)) for step in steps)


def counted(number: int) -> float:
    """Discounted number of `number` measurements: 1 + g + g^2 + …, less than 1 / (1 - g)."""
    return (1 - DISCOUNT**number) / (1 - DISCOUNT)


def mean_of(values: Sequence[float]) -> float | None:
    """Discounted mean of values in the order in which they came; None for none."""
    mean: float | None = None
    for number, value in enumerate(values, 1):
        mean = _mean(mean, value, 1 / counted(number))
    return mean


def after(before: Stats | None, attempted: Attempted, key: Key, epoch: int = 0) -> Stats:
    """The averages with one more attempt; the same ones when it says nothing about the backend.

    A call that found another model loaded says that the work took at most its time; what it took longer than the mean is
    the time of the change. One that an earlier attempt had begun says nothing about times.
    """
    backend, model, scope = key
    stats = before or Stats(
        backend=backend, model=model, scope=scope, epoch=epoch, attempts=0, successes=0, at=attempted.at
    )
    if attempted.outcome in NOT_COUNTED:
        return stats
    if attempted.outcome in STOPPED:
        return _censored(stats, attempted.latency_seconds)
    attempts, failed = stats.attempts + 1, attempted.outcome != "ok"
    rate = stats.failure_rate + (float(failed) - stats.failure_rate) / counted(attempts)
    stats = msgspec.structs.replace(
        stats, attempts=attempts, failure_rate=min(max(rate, 0.0), 1.0), at=max(stats.at, attempted.at)
    )
    if not failed:
        return _succeeded(stats, attempted)
    return _censored(stats, attempted.latency_seconds) if attempted.outcome == "timeout" else stats


def _succeeded(stats: Stats, attempted: Attempted) -> Stats:
    usage, seconds, mean = attempted.usage, attempted.latency_seconds, stats.latency_seconds
    first, cost = attempted.first_token_seconds, attempted.billed_microdollars
    if attempted.took_up:
        seconds = first = None
        cost += sum(one.billed_microdollars for one in attempted.corrections)
    successes = stats.successes + 1
    share = 1 / counted(successes)
    switched = attempted.switched and mean is not None
    swap, speed = stats.swap_seconds, None
    if seconds is not None and seconds > 0:
        seconds = _seconds(seconds)
        if attempted.switched and mean is not None:
            swap = _mean(swap, max(0.0, seconds - mean), SWAP_SHARE)
            seconds = seconds if seconds < mean else None
        elif usage.output_tokens and not usage.estimated:
            speed = usage.output_tokens / seconds
    if switched and first is not None and stats.first_token_seconds is not None:
        first = first if first < stats.first_token_seconds else None
    ratio = None
    if usage.input_tokens and attempted.input_estimate > 0 and not usage.estimated:
        ratio = min(max(usage.input_tokens / attempted.input_estimate, LEAST_RATIO), MOST_RATIO)
    written = None if usage.output_tokens is None or usage.estimated else float(usage.output_tokens)
    return msgspec.structs.replace(
        _timed(stats, seconds),
        successes=successes,
        first_token_seconds=_log_mean(stats.first_token_seconds, first, share),
        tokens_per_second=_mean(stats.tokens_per_second, speed, share),
        output_tokens=_mean(stats.output_tokens, written, share),
        input_ratio=_mean(stats.input_ratio, ratio, share),
        cost_microdollars=stats.cost_microdollars
        if attempted.unpriced
        else _mean(stats.cost_microdollars, float(cost), share),
        swap_seconds=swap,
    )


def _censored(stats: Stats, seconds: float | None) -> Stats:
    """It would have taken longer than `seconds`: news only when the mean is below."""
    mean = stats.latency_seconds
    return _timed(stats, seconds) if seconds is not None and mean is not None and seconds > mean else stats


def _timed(stats: Stats, seconds: float | None) -> Stats:
    """One more time in the mean and the spread of the logarithms.

    Welford's update with a discount (West 1979, "Updating mean and variance estimates"): W' = g W + 1,
    m' = m + (x - m) / W', S' = g S + (x - m)(x - m'), and the spread is sqrt(S / W).
    """
    if seconds is None or seconds <= 0:
        return stats
    weight = DISCOUNT * stats.weight + 1
    if stats.latency_seconds is None or stats.latency_seconds <= 0:
        return msgspec.structs.replace(stats, weight=weight, latency_seconds=_seconds(seconds))
    mean, value = math.log(stats.latency_seconds), _clipped(stats.latency_seconds, seconds)
    moved = mean + (value - mean) / weight
    squares = DISCOUNT * stats.weight * (stats.latency_spread or 0.0) ** 2 + (value - mean) * (value - moved)
    return msgspec.structs.replace(
        stats, weight=weight, latency_seconds=math.exp(moved), latency_spread=math.sqrt(max(squares, 0.0) / weight)
    )


def _mean(before: float | None, value: float | None, share: float) -> float | None:
    if value is None:
        return before
    return value if before is None else before + (value - before) * share


def _log_mean(before: float | None, value: float | None, share: float) -> float | None:
    if value is None or value <= 0:
        return before
    if before is None or before <= 0:
        return _seconds(value)
    return math.exp(math.log(before) + (_clipped(before, value) - math.log(before)) * share)


def _clipped(mean: float, value: float) -> float:
    """The logarithm of `value`, no further from that of the mean than it may be."""
    centre = math.log(mean)
    return min(max(math.log(_seconds(value)), centre + math.log(LEAST_RATIO)), centre + math.log(MOST_RATIO))


def _seconds(value: float) -> float:
    return min(max(value, LEAST_SECONDS), MOST_SECONDS)
