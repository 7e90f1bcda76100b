"""The calls that a breaker remembers: buckets of one minute within a window that moves with the events. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from actors.settings import BreakerRules
from messages import Minute

MINUTE_SECONDS = 60


def minute_of(at: float) -> int:
    """The minute a time lies in, counted since the epoch."""
    return int(at // MINUTE_SECONDS)


def kept(recent: tuple[Minute, ...], minute: int, rules: BreakerRules) -> tuple[Minute, ...]:
    """What is still remembered in this minute. The newest minute decides, so a clock that goes back forgets nothing."""
    horizon = _newest(recent, minute) - _span(rules)
    if not recent or recent[0].minute > horizon:
        return recent
    return tuple(one for one in recent if one.minute > horizon)


def counted(recent: tuple[Minute, ...], at: float, rules: BreakerRules, *, failures: int) -> tuple[Minute, ...]:
    """The buckets with one call that went well, or so many that failed; what is older than the window is not counted."""
    return with_calls(recent, {minute_of(at): max(1, failures)}, rules, failures=failures)


def with_calls(
    recent: tuple[Minute, ...], calls: Mapping[int, int], rules: BreakerRules, *, failures: int = 0
) -> tuple[Minute, ...]:
    """The buckets with more calls, by minute, each minute's with so many failures."""
    buckets = {one.minute: one for one in recent}
    for minute, more in calls.items():
        old = buckets.get(minute) or Minute(minute=minute)
        buckets[minute] = Minute(minute=minute, calls=old.calls + more, failures=old.failures + failures)
    ordered = tuple(buckets[minute] for minute in sorted(buckets))
    return kept(ordered, ordered[-1].minute, rules) if ordered else ()


def totals(recent: tuple[Minute, ...]) -> tuple[int, int]:
    """Calls and failures that are remembered."""
    return sum(one.calls for one in recent), sum(one.failures for one in recent)


def too_many(recent: tuple[Minute, ...], rules: BreakerRules) -> bool:
    """Whether enough calls are remembered, and too large a share of them failed."""
    calls, failures = totals(recent)
    return calls >= rules.window_calls and failures >= rules.failure_share * calls


def _newest(recent: tuple[Minute, ...], minute: int) -> int:
    return max(minute, recent[-1].minute) if recent else minute


def _span(rules: BreakerRules) -> int:
    return max(1, round(rules.window_seconds / MINUTE_SECONDS))
