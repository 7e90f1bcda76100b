"""ServerClock: what the server's clock shows, as far as this side knows. Pure: both clocks of this machine are handed in.

The server's clock is the one clock of turnout: it stamps messages and fires schedules. Between two looks at it, time goes on
by this machine's uptime, which nobody can set; its wall clock only tells that somebody has set it.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

STEP_SECONDS = 1.0
"""A difference beyond this, and beyond what the measurement may be off, is no drift: a clock was set."""
SLEW = 0.1
"""Smaller ones are made good by going so much faster or slower, so that time never runs backwards."""
DRIFT = 100e-6
"""How far two clocks may come apart per second: quartz stays within it."""


_BOOT = getattr(time, "CLOCK_BOOTTIME", None)
uptime: Callable[[], float] = time.monotonic if _BOOT is None else functools.partial(time.clock_gettime, _BOOT)
"""Seconds since the machine was started, those it slept through included where the system can tell (Linux)."""


def this_wall() -> float:
    """What this machine's wall clock shows."""
    return time.time()


class ServerClock:
    """The server's clock. Until it was measured for the first time, this machine's wall clock stands in for it."""

    def __init__(self, *, up: Callable[[], float] = uptime, wall: Callable[[], float] = this_wall) -> None:
        self._up, self._wall = up, wall
        self._base: float | None = None
        """The server's time less our uptime, as of the last time it was set; absent: not measured yet."""
        self._shift = self._goal = 0.0
        """What is added to the base, and what is to be."""
        self._error = math.inf
        self._measured_at = self._at = up()
        self._last = -math.inf
        """The time that was told last, while it is made good."""
        self._steady: float | None = None
        """Base and shift together, while nothing is to be made good: the time is asked for some twenty times a job."""
        self._wall_ahead = wall() - up()

    @property
    def age(self) -> float:
        """Seconds since it was measured; infinite before the first time."""
        return math.inf if self._base is None else self._up() - self._measured_at

    def now(self) -> float:
        """Seconds since the epoch. Never less than what it said before, unless the server's clock was set back."""
        if self._steady is not None:
            return self._up() + self._steady
        if self._base is None:
            return self._wall()
        at = self._up()
        most = SLEW * max(at - self._at, 0.0)
        self._shift += min(max(self._goal - self._shift, -most), most)
        self._at = at
        ahead = self._base + self._shift
        self._last = max(self._last, at + ahead)
        if self._shift == self._goal and self._last == at + ahead:
            self._steady = ahead
        return self._last

    def measured(self, sent: float, received: float, there: float) -> float:
        """The server's clock showed `there` at some moment between two readings of `up`. By how much it was set, or 0."""
        error = max(received - sent, 0.0) / 2
        offset = there - (sent + received) / 2
        ahead = self._wall() - self._up()
        if abs(offset - ahead) <= error:
            offset = ahead  # Who shares its machine, and its wall clock, agrees with it and with each other to the microsecond.
        offset = round(offset, 6)
        if self._base is None:
            self._set(offset, error, received)
            return 0.0
        known = self._error + DRIFT * max(received - self._measured_at, 0.0)
        off = offset - (self._base + self._goal)
        if abs(off) > error + known + STEP_SECONDS:
            self._set(offset, error, received)
            return off
        if abs(off) > error + known or error <= known:
            self._last, self._at, self._steady = self.now(), self._up(), None
            self._goal = offset - self._base
            self._error, self._measured_at = error, received
        return 0.0

    def _set(self, offset: float, error: float, at: float) -> None:
        self._base, self._shift, self._goal = offset, 0.0, 0.0
        self._error, self._measured_at, self._at = error, at, self._up()
        self._last, self._steady = -math.inf, None

    def wall_step(self) -> float:
        """By how much this machine's wall clock was set since `wall_seen`; 0: it was not."""
        step = self._wall() - self._up() - self._wall_ahead
        return step if abs(step) > STEP_SECONDS else 0.0

    def wall_seen(self) -> float:
        """The same, and from now on it counts as known."""
        step = self.wall_step()
        self._wall_ahead = self._wall() - self._up()
        return step

    def wall_ahead(self) -> float:
        """How far this machine's wall clock is ahead of the server's, in seconds."""
        return self._wall() - self.now()
