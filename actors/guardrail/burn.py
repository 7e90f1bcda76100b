"""How fast a budget is used up, where that leads, and when it is worth an alert. Pure.

Burn rates over several windows are those of the Google SRE Workbook, chapter 5 "Alerting on SLOs", section 6 "Multiwindow,
multi-burn-rate alerts": the budget is burnt at a factor over a long stretch, and still is over a short one of a twelfth of
it. The book's numbers hold for a period of 30 days (14.4 over 1 h and 5 min, 6 over 6 h and 30 min); here the stretches are
the same shares of the budget's own window.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from messages import BudgetState, Burn, Sample
from messages.alerts import Severity

SHORT_SHARE = 1 / 12
"""The short stretch, as a share of the long one."""
LEAST_LONG_SECONDS, LEAST_SHORT_SECONDS = 300.0, 60.0
"""No stretch is shorter, however short the window: single jobs would decide."""
LEAST_WINDOW_SECONDS = 20 * 3600.0
"""Windows shorter than the shortest day are over before anybody could act: no burn rates, no projection."""
RATE_SHARE = 1 / 8
"""The present rate is that of the last eighth of the window: three hours of a day."""
TOTAL_RATE_SECONDS = 86_400.0
"""The present rate of a budget without an end is that of the last day."""
LEAST_RATE_SECONDS = 60.0
"""A rate over less says nothing."""
SURE_SHARE = 0.1
"""A projection is worth an alert once this part of the window is over."""
SPACING = 1 / 12
"""Samples lie so far apart, as a share of their age."""


class Rule(NamedTuple):
    """Burnt at this factor over this share of the window."""

    name: str
    factor: float
    long_share: float
    severity: Severity


RULES = (
    Rule("fast", 14.4, 1 / 720, "alert"),
    Rule("steady", 6.0, 1 / 120, "alert"),
    Rule("slow", 2.0, 1 / 20, "warning"),
)
"""The book's two pages, and a ticket: twice too fast, when that has cost a tenth of the budget."""


class Outlook(NamedTuple):
    """Where a budget is going. Amounts are in its unit, times in seconds since the epoch."""

    per_second: float | None = None
    """Present rate; None: unknown."""
    projected: float | None = None
    """Spent when the window ends; None: unknown, or it never ends."""
    breach_at: float = 0.0
    """When the limit is reached; 0: not within the window, or unknown."""
    burning: tuple[tuple[Rule, tuple[Burn, Burn]], ...] = ()
    """The rules that hold, each with its long and its short burn."""

    def hours_left(self, now: float) -> float | None:
        """Until the limit is reached; None: not within the window, or unknown."""
        return max(0.0, self.breach_at - now) / 3600 if self.breach_at else None


def window_seconds(state: BudgetState) -> float:
    """Length of the budget's window; 0: it has no end."""
    return state.ends_at - state.began_at if state.ends_at else 0.0


def stretches(rule: Rule, window: float) -> tuple[float, float]:
    """The long and the short stretch of a rule, in seconds."""
    long = max(rule.long_share * window, LEAST_LONG_SECONDS)
    return long, max(long * SHORT_SHARE, LEAST_SHORT_SECONDS)


def spacing(state: BudgetState) -> float:
    """The least time between samples: a fifth of the shortest stretch that is looked at."""
    window = window_seconds(state) or 30 * 86_400.0
    return stretches(RULES[0], window)[1] / 5


def reach(state: BudgetState) -> float:
    """How far back anybody looks, in seconds."""
    return RATE_SHARE * window_seconds(state) or TOTAL_RATE_SECONDS


def sampled(samples: Sequence[Sample], at: float, spent: int, least: float, longest: float) -> tuple[Sample, ...]:
    """The samples with one more, thinned: they lie about `least` apart, and the farther the older they are. Those that
    nobody needs in order to look back for `longest` are dropped.

    Each stands until the next one. One that is left out is taken for the one before it, so what was spent lately is
    never taken for less than it was.
    """
    if samples and (at <= samples[-1].at or spent == samples[-1].spent):
        return tuple(samples)
    found = [*samples, Sample(at=at, spent=spent)]
    while len(found) > 2 and found[1].at <= at - longest:
        del found[0]
    kept = found[:1]
    for one, after in pairwise(found[1:]):
        # The one before would stand until `after`.
        if after.at - kept[-1].at > max(least, SPACING * (at - after.at)):
            kept.append(one)
    return (*kept, found[-1]) if len(found) > 1 else tuple(kept)


def spent_since(samples: Sequence[Sample], at: float) -> int | None:
    """What was spent since then; None when the samples do not reach back so far."""
    before = next((one for one in reversed(samples) if one.at <= at), None)
    return max(0, samples[-1].spent - before.spent) if before is not None else None


def burn(state: BudgetState, samples: Sequence[Sample], seconds: float, now: float) -> Burn | None:
    """The burn rate over the last stretch: share of the limit over share of the window; None when it is not known.

    In the first moments of a window the stretch is as long, and nothing was spent in the part before it.
    """
    used = spent_since(samples, max(now - seconds, state.began_at))
    if used is None:
        return None
    return Burn(seconds=seconds, rate=(used / state.limit) / (seconds / window_seconds(state)))


def rate(state: BudgetState, samples: Sequence[Sample], now: float) -> float | None:
    """Present use per second: over the last stretch where the samples reach, else over the whole window so far."""
    start = max(now - reach(state), state.began_at)
    used = spent_since(samples, start)
    if used is None and state.began_at:
        start, used = state.began_at, state.spent
    elif used is None and samples:
        start, used = samples[0].at, max(0, samples[-1].spent - samples[0].spent)
    if used is None or now - start < LEAST_RATE_SECONDS:
        return None
    return used / (now - start)


def outlook(state: BudgetState, samples: Sequence[Sample], now: float) -> Outlook:
    """Where the budget is going. The limit is reached before the window ends exactly when more is projected than it."""
    window = window_seconds(state)
    if state.limit <= 0 or 0 < window < LEAST_WINDOW_SECONDS or 0 < state.ends_at <= now:
        return Outlook()
    burning: list[tuple[Rule, tuple[Burn, Burn]]] = []
    for rule in RULES if window else ():
        long, short = (burn(state, samples, seconds, now) for seconds in stretches(rule, window))
        if long and short and long.rate >= rule.factor and short.rate >= rule.factor:
            burning.append((rule, (long, short)))
    per_second = rate(state, samples, now)
    if per_second is None:
        return Outlook(burning=tuple(burning))
    left = state.limit - state.spent
    projected = state.spent + per_second * (state.ends_at - now) if state.ends_at else None
    breaches = left <= 0 or (per_second > 0 and (projected is None or projected > state.limit))
    breach_at = (now + max(0.0, left / per_second) if left > 0 else now) if breaches else 0.0
    return Outlook(per_second, projected, breach_at, tuple(burning))


def is_sure(state: BudgetState, now: float) -> bool:
    """Whether enough of the window is over for a projection to be told."""
    window = window_seconds(state)
    return bool(window) and now - state.began_at >= SURE_SHARE * window


def jobs_left(state: BudgetState, per_job: float | None, per_hold: float | None = None) -> int | None:
    """How many more average attempts fit beside what is spent and held, one after the other; None: unknown.

    An attempt begins only where its worst case fits, and gives back what it did not use: the last one begins when just
    `per_hold` is left, and each before it took `per_job`.
    """
    if not per_job or per_job <= 0:
        return None
    left, used = state.limit - state.spent - state.reserved, max(per_job, 1.0)  # Amounts are whole numbers.
    last = max(per_hold or 0.0, used)
    return int((left - last) / used) + 1 if left >= last else 0
