"""`Stop`: how a command hears that it has to end. It knows no rooms, so that commands without any start quickly."""

from __future__ import annotations

import asyncio
import contextlib
import signal


class Stop:
    """The wish to stop: the first signal drains, the second one ends at once."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.at_once = asyncio.Event()
        self.reason = ""
        """Why it has to stop, when nobody asked for it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows has none: Ctrl-C ends it at once there.
                loop.add_signal_handler(number, self._signalled)

    def close(self) -> None:
        """Hear no signals any more: Ctrl-C interrupts as usual."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().remove_signal_handler(number)

    def _signalled(self) -> None:
        (self.at_once if self.wanted.is_set() else self.wanted).set()

    def fail(self, reason: str) -> None:
        """Stop because of this."""
        self.reason = self.reason or reason
        self.wanted.set()
