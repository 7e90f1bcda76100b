"""A blocking call that may hang, beside the event loop: one at a time, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 5.0


class NoAnswer(Exception):
    """The call has not come back in time; the text says so."""


class Aside(Generic[T]):
    """Runs `call` in a thread of its own. While one call hangs no other is begun, so threads can't pile up.

    The threads are daemons: a call that never comes back does not keep the process from ending, as one in the loop's own
    pool of threads would.
    """

    def __init__(self, call: Callable[[], T], *, what: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.what, self.patience_seconds = what, patience_seconds
        self._call = call
        self._running: Future[T] | None = None
        self._late = False

    async def __call__(self) -> T:
        """What the call answers, or raises. Raises NoAnswer after the patience, and at once while that call still hangs."""
        if self._running is not None and self._running.done() and self._late:
            self._running = None  # It speaks of the past.
        if self._running is None:
            self._running, self._late = self._begin(), False
        if self._late:
            raise NoAnswer(self._complaint())
        try:
            async with asyncio.timeout(self.patience_seconds):
                found = await asyncio.shield(asyncio.wrap_future(self._running))
        except TimeoutError:
            self._late = True
            raise NoAnswer(self._complaint()) from None
        except BaseException:
            if self._running.done():
                self._running = None
            raise
        self._running = None
        return found

    def _complaint(self) -> str:
        return f"{self.what} has not answered within {self.patience_seconds:g} s"

    def _begin(self) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # From here on nobody who stops waiting cancels it.

        def run() -> None:
            try:
                future.set_result(self._call())
            except BaseException as error:  # noqa: BLE001  # Whoever waits for it gets it.
                future.set_exception(error)

        threading.Thread(target=run, name=self.what, daemon=True).start()
        return future
