"""The last word to a backend whose answer nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from actors.executor.backends.port import CANCEL_SECONDS, BackendError

_Begun = TypeVar("_Begun")


class Parting:
    """The last words of one backend's calls. They are said to their end, whoever is cancelled meanwhile."""

    def __init__(self) -> None:
        self._words: set[asyncio.Task[None]] = set()
        """On their way; a task that nobody holds may vanish."""

    async def begin(
        self, ask: Callable[[], Coroutine[Any, Any, _Begun]], undo: Callable[[_Begun], Awaitable[object]]
    ) -> _Begun:
        """What `ask` gives, by which work begins there. Who is cancelled before it has come still waits for it, at most
        `CANCEL_SECONDS`, and undoes it: otherwise nobody would know what there is to stop. Raises what `ask` raises.
        """
        asking = asyncio.create_task(ask())
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:

            async def undone() -> None:
                await undo(await asking)

            await self.say(undone)
            raise

    async def say(self, word: Callable[[], Awaitable[object]]) -> None:
        """Await `word` to its end, at most `CANCEL_SECONDS`, even if whoever calls this is being cancelled. Its failure is no
        news: the backend may be gone, and the work there ends by its own time-out.
        """

        async def bounded() -> None:
            with contextlib.suppress(BackendError, TimeoutError):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await word()

        task = asyncio.create_task(bounded())
        self._words.add(task)
        task.add_done_callback(self._words.discard)
        await asyncio.shield(task)

    async def settled(self) -> None:
        """Wait until all has been said, at most `CANCEL_SECONDS`: before the connections are closed."""
        if self._words:
            await asyncio.wait(self._words, timeout=CANCEL_SECONDS)
