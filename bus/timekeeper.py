"""Timekeeper: looks at the server's clock again and again, at once when a clock was set, and says so then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bus.clock import ServerClock

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""How often this machine's clocks are compared: no step stays unnoticed for longer."""
LATE_SECONDS = 2.0
"""A tick that comes later than this means that the process or the machine slept, or that its uptime is not to be trusted."""
LOOK_SECONDS = 10.0
"""The server's clock is looked at again after this."""
_LOOKS = 3
"""Of so many answers the quickest counts: its round trip bounds the error."""

Look = Callable[[], Awaitable[float | None]]
"""The server's time; None when it can't be told now."""


class Timekeeper:
    """Keeps one clock right."""

    def __init__(self, clock: ServerClock, up: Callable[[], float], look: Look) -> None:
        self.clock, self._up, self._look = clock, up, look

    async def measure(self, *, slept: float = 0.0) -> None:
        """Compare the clocks. Keeps what is known when the server does not answer. `slept`: by how much our uptime jumped."""
        best: tuple[float, float, float] | None = None
        for _ in range(_LOOKS):
            sent = self._up()
            there = await self._look()
            received = self._up()
            if there is None:
                break
            if best is None or received - sent < best[1] - best[0]:
                best = sent, received, there
        here = self.clock.wall_seen()
        step = self.clock.measured(*best) if best is not None else 0.0
        if step and abs(step + slept) < 1.0 + 0.01 * abs(step):
            log.warning("this machine's uptime jumped %s, and not the nats-server's clock: corrected", moved(slept))
        elif step:
            log.warning(
                "the nats-server's clock was set %s: deadlines, waits and the windows of budgets go by it", moved(step)
            )
        if here:
            log.warning(
                "this machine's clock was set %s; turnout does not go by it, but by that of the nats-server (this one is %s now)",
                moved(here), apart(self.clock.wall_ahead()),
            )  # fmt: skip

    async def run(self) -> None:
        """For as long as the connection lives."""
        while True:
            before = self._up()
            await asyncio.sleep(TICK_SECONDS)
            slept = self._up() - before - TICK_SECONDS
            if abs(slept) > LATE_SECONDS or self.clock.age >= LOOK_SECONDS or self.clock.wall_step():
                await self.measure(slept=slept)


def moved(seconds: float) -> str:
    """By how much a clock was set: `forward by 20 min`."""
    return f"{'forward' if seconds > 0 else 'back'} by {_span(seconds)}"


def apart(seconds: float) -> str:
    """How a clock stands to another: `2 h ahead of it`, `3 s behind it`, `like it`."""
    if abs(seconds) < 1.0:
        return "like it"
    return f"{_span(seconds)} {'ahead of' if seconds > 0 else 'behind'} it"


def _span(seconds: float) -> str:
    size = abs(seconds)
    for unit, name in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if size >= 2 * unit or abs(size - unit) < 1.0:
            return f"{size / unit:.3g} {name}"
    return f"{size:.1f} s"
