"""Asking a backend how far it is with work that it has begun: a stumble must not lose what is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from actors.executor.backends.port import BackendError

TRIES: Final = 5
"""Failures in a row after which the work counts as lost."""
LONGEST_WAIT_SECONDS: Final = 30.0
"""Between two questions, whatever the backend asks for."""

_Answered = TypeVar("_Answered")


async def patiently(
    ask: Callable[[], Awaitable[_Answered]], pause_seconds: float, *, once: bool = False, volatile: bool = False
) -> _Answered:
    """What `ask` gives, asked again while it fails in a way that may pass: after `pause_seconds`, or what the backend says.

    `once`: an answer that was lost on its way is not given again, so only what was refused is asked for again. `volatile`: the
    work lives in the server's memory, so a server that can't be connected to has lost it. Raises the last BackendError.
    """
    failures = 0
    while True:
        try:
            return await ask()
        except BackendError as error:
            failures += 1
            passing = error.retry == "same" or error.kind == "overloaded"
            refused = error.status is not None and error.status >= 400
            lost = volatile and error.kind == "connection_error"
            if not passing or lost or error.status == 404 or failures >= TRIES or (once and not refused):
                raise
            wait = pause_seconds if error.retry_after_seconds is None else error.retry_after_seconds
            await asyncio.sleep(min(max(wait, pause_seconds), LONGEST_WAIT_SECONDS))
