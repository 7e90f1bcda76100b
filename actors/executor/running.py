"""One running call: what has come of it so far, and how to stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

from actors.executor.backends import port
from actors.executor.call import model_of
from actors.executor.progress import Course
from actors.executor.results import Shelf
from messages import Done, JobSubmit, Work

Limit = Literal["", "silence", "deadline", "gpu_time", "aborted"]
"""What ends a call from our side: the backend says nothing, the job's deadline comes, no more GPU time is reserved, or somebody
else ends the job. Empty: nothing yet."""


class Call:
    """One running call: what runs, what has come of it, and how to stop it when somebody else ends the job."""

    def __init__(self, work: Work, began: float, shelf: Shelf) -> None:
        self.backend, self.model = work.backend, model_of(work)
        self.began = began
        """On the clock of the event loop."""
        self.course = Course(work)
        self.shelf = shelf
        self.pieces: list[str] = []
        self.first: float | None = None
        """Seconds to the first piece of the answer."""
        self.answer: port.Answer | None = None
        self.submit: JobSubmit | None = None
        self.scope: asyncio.Timeout | None = None
        self.limit: Limit = ""
        """Which limit set the timer that runs, or that ended it."""
        self.silent_seconds = 0.0
        """For how long it may be silent now."""
        self.ended = False
        """Somebody else has ended the job."""
        self.called = False
        """The adapter was asked: nothing can have begun before."""
        self.came = False
        """Anything has come from the backend."""
        self.sending = port.Sending()
        self.left: dict[str, int] = {}
        """Keys of the job's earlier calls that the backend may still have, and their rounds, in order."""
        self.took_up = 0
        """The round whose call it goes on with; 0: its own."""
        self.switched = False
        """Something was put into memory for it."""
        self.verdict: Done | None = None
        self.news = asyncio.Event()

    @property
    def shares(self) -> tuple[int, ...]:
        """The rounds that went on with the same call before, whoever began it first."""
        return tuple(n for n in self.left.values() if n >= self.took_up) if self.took_up else ()

    @property
    def text(self) -> str:
        """All that has streamed."""
        return "".join(self.pieces)

    def arm(self, limits: Mapping[Limit, float]) -> asyncio.Timeout:
        """A timer for the first of the limits, each with the seconds that are left; which one it is, is remembered."""
        self.limit = min(limits, key=limits.__getitem__)
        self.scope = asyncio.timeout(max(limits[self.limit], 0.0))
        return self.scope

    def begun(self, adapter: port.Backend, error: port.BackendError | None = None) -> bool:
        """Whether bytes of its request were written, so that the backend may have worked. Who does not tell may have begun."""
        if not self.called:
            return False
        if error is not None and error.begun is not None:
            return error.begun
        if self.came:
            return True
        if self.sending.watched or isinstance(adapter, port.TellsBegun):
            return self.sending.begun
        return True

    def end(self, limit: Limit = "aborted") -> None:
        """Stop it."""
        self.ended = True
        self.news.set()
        if self.scope is None:
            self.limit = limit
        elif not self.scope.expired():  # Expired: it is ending already.
            self.limit = limit
            self.scope.reschedule(asyncio.get_running_loop().time())
