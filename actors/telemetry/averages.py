"""Rolling averages of attempts: discounted means, so that the last dozens of runs count. Pure."""

from __future__ import annotations

import math

import msgspec

from messages import Attempted, Stats
from messages.fleet import workflow_key

DISCOUNT = 0.95
"""Weight of the past at each new measurement: the last 20 or so runs make up most of the mean."""


def _mean(before: float | None, value: float | None) -> float | None:
    if value is None:
        return before
    return value if before is None else DISCOUNT * before + (1 - DISCOUNT) * value


def _log_mean(before: float | None, value: float | None) -> float | None:
    """Geometric discounted mean: latencies are skewed, and one stall must not move the figure for long."""
    if value is None or value <= 0:
        return before
    if before is None or before <= 0:
        return value
    return math.exp(DISCOUNT * math.log(before) + (1 - DISCOUNT) * math.log(value))


def keys_of(attempted: Attempted) -> list[tuple[str, str, str]]:
    """The averages one attempt belongs to: of its model, and of its workflow there."""
    keys = [(attempted.backend, attempted.model, "-")]
    if attempted.workflow:
        keys.append((attempted.backend, attempted.model, workflow_key(attempted.tenant, attempted.workflow)))
    return keys


def after(before: Stats | None, attempted: Attempted, key: tuple[str, str, str]) -> Stats:
    """The averages with one more attempt. Failures count as attempts, but their times do not count."""
    backend, model, workflow = key
    stats = before or Stats(backend=backend, model=model, workflow=workflow, attempts=0, successes=0, at=attempted.at)
    if attempted.outcome in ("not_started", "aborted", "bad_request"):
        return stats
    if attempted.outcome != "ok":
        return msgspec.structs.replace(stats, attempts=stats.attempts + 1, at=attempted.at)
    written, seconds = attempted.usage.output_tokens, attempted.latency_seconds
    speed = written / seconds if written and seconds else None
    return msgspec.structs.replace(
        stats,
        attempts=stats.attempts + 1,
        successes=stats.successes + 1,
        latency_seconds=_log_mean(stats.latency_seconds, seconds),
        first_token_seconds=_log_mean(stats.first_token_seconds, attempted.first_token_seconds),
        tokens_per_second=_mean(stats.tokens_per_second, speed),
        cost_microdollars=_mean(stats.cost_microdollars, float(attempted.billed_microdollars)),
        at=attempted.at,
    )
