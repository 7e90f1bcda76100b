"""One running call: what has come of it so far, and how to stop it."""

from __future__ import annotations

import asyncio

from actors.executor.backends import port
from actors.executor.call import model_of
from actors.executor.progress import Course
from actors.executor.results import Shelf
from messages import Done, JobSubmit, Work


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
        self.ended = False
        """Somebody else has ended the job."""
        self.called = False
        """The backend was called: nothing is paid before."""
        self.switched = False
        """Something was put into memory for it."""
        self.verdict: Done | None = None
        self.news = asyncio.Event()

    @property
    def text(self) -> str:
        """All that has streamed."""
        return "".join(self.pieces)

    def end(self) -> None:
        """Stop it."""
        self.ended = True
        self.news.set()
        if self.scope is not None and not self.scope.expired():  # Expired: it is ending already.
            self.scope.reschedule(asyncio.get_running_loop().time())
