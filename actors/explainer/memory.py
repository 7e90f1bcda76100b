"""How the latest jobs of each kind ended and what they cost, by tenant. Bounded; a pure fold of `decided` and `done`."""

from __future__ import annotations

from collections import deque

import msgspec

from actors.bounded import Bounded
from messages import Decided, Done, Needs
from messages.values import Asset, Quality, Task

Window = tuple[str, Asset, Task, Quality]
"""Tenant, what is made, kind of work, quality level."""

WINDOW_JOBS = 20
"""Jobs that a window remembers."""
MOST_OPEN = 10_000
"""Jobs whose end is waited for, and ended ones that are known as such; beyond it the oldest are forgotten."""
MOST_WINDOWS = 2_000
"""Windows kept; beyond it the one that heard nothing for longest is forgotten."""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """One ended job."""

    succeeded: bool
    cost_microdollars: int | None
    """Billed over all its attempts; None: not known."""


class Summary(msgspec.Struct, frozen=True, gc=False):
    """A window in figures."""

    jobs: int
    """Ended jobs in it, 1 to `WINDOW_JOBS`."""
    succeeded: int
    cost_microdollars: float | None
    """Mean over the jobs that succeeded and whose cost is known; None: there is none."""


class Memory:
    """Windows of ended jobs. A repeated event changes nothing, and tenants never see each other's jobs."""

    def __init__(self, *, most_open: int = MOST_OPEN, most_windows: int = MOST_WINDOWS) -> None:
        self._open = Bounded[tuple[str, str], Window](most_open)
        self._over = Bounded[tuple[str, str], None](most_open)
        """Jobs that ended lately: what is said of them again changes nothing."""
        self._windows = Bounded[Window, deque[Ended]](most_windows)

    def decided(self, decided: Decided) -> None:
        """Remember what a job is until it ends."""
        key = (decided.tenant, decided.job)
        if key in self._open or key in self._over:
            return
        self._open[key] = window_of(decided.tenant, decided.slip.needs)

    def done(self, done: Done) -> None:
        """Count a job's end; a cancelled job says nothing about its kind, and of an unknown one the kind is not known."""
        key = (done.tenant, done.job)
        window = self._open.pop(key, None)
        if window is None:
            return
        self._over[key] = None
        if done.ending == "cancelled":
            return
        ended = self._windows[window] = self._windows.get(window, deque(maxlen=WINDOW_JOBS))
        ended.append(Ended(done.ending == "succeeded", done.cost_microdollars))

    def summary(self, window: Window) -> Summary | None:
        """The figures of a window; None when no such job has ended."""
        ended = self._windows.get(window)
        if not ended:
            return None
        costs = [one.cost_microdollars for one in ended if one.succeeded and one.cost_microdollars is not None]
        mean = sum(costs) / len(costs) if costs else None
        return Summary(len(ended), sum(one.succeeded for one in ended), mean)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many open jobs, ended ones and windows it holds."""
        return len(self._open), len(self._over), len(self._windows)


def window_of(tenant: str, needs: Needs, quality: Quality | None = None) -> Window:
    """The window a job belongs to, or the one of the same kind at another quality level."""
    return tenant, needs.asset, needs.task, quality or needs.quality
