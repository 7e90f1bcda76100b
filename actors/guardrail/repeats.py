"""The retry budget: how often jobs may be tried again on the very backend and model that failed them."""

from __future__ import annotations

from collections import deque

from actors.bounded import Bounded
from actors.settings import BreakerRules
from messages import Candidate, Decided

NO_BURDEN = ("not_started", "executor_lost", "connection_error", "rate_limited")
"""Outcomes after which one more call is no repeat: the backend has not worked on it, and breaker and health say when it may come
again. Who waited for a backend that was away must not wait for this as well."""
LONGEST_PACE_SECONDS = 5.0
"""A repeat that was refused may ask again after this time at the latest."""


MOST_COUNTED = 10_000
"""Backends and models with recent calls; beyond it those that were called longest ago begin anew."""


class Second:
    """What was granted within one second."""

    __slots__ = ("calls", "repeats", "second")

    def __init__(self, second: int) -> None:
        self.second, self.calls, self.repeats = second, 0, 0


class Repeats:
    """Counts what one guardrail granted, per backend and model, over the last `repeat_seconds`.

    Each guardrail keeps its own budget, as clients do (Finagle's and Envoy's retry budgets): it holds at the moment of the
    grant, not only once calls have ended. Several guardrails share the traffic, so their shares add up to the same share.
    """

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self._granted = Bounded[tuple[str, str], deque[Second]](MOST_COUNTED)

    def pace(self, backend: str, model: str, now: float) -> float:
        """0 when one more repeat is allowed; else after how many seconds to ask again."""
        seconds = self._recent(backend, model, now)
        calls, repeats = sum(one.calls for one in seconds), sum(one.repeats for one in seconds)
        if repeats + 1 <= max(self.rules.repeat_floor, self.rules.repeat_share * (calls + 1)):
            return 0.0
        oldest = next((one.second for one in seconds if one.repeats), int(now))
        return min(max(1.0, oldest + self.rules.repeat_seconds - now), LONGEST_PACE_SECONDS)

    def count(self, backend: str, model: str, now: float, *, repeat: bool) -> None:
        """One more call was granted. A clock that goes back counts into the newest second."""
        seconds = self._recent(backend, model, now)
        if not seconds or seconds[-1].second < int(now):
            seconds.append(Second(int(now)))
        seconds[-1].calls += 1
        seconds[-1].repeats += repeat
        self._granted[backend, model] = seconds

    def _recent(self, backend: str, model: str, now: float) -> deque[Second]:
        seconds = self._granted.get((backend, model)) or deque()
        while seconds and seconds[0].second <= now - self.rules.repeat_seconds:
            seconds.popleft()
        return seconds


def is_repeat(candidate: Candidate, decided: Decided) -> bool:
    """Whether the job was called there before, on this very model."""
    return any(
        (one.backend, one.model) == (candidate.backend, candidate.model) and one.outcome not in NO_BURDEN
        for one in decided.attempts
    )
