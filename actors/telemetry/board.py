"""The list of jobs with where each one is. What is open is looked up in the stream when somebody asks, so it is always true and
costs nothing meanwhile; only how far an attempt is, which nobody stores, is remembered.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from actors.bounded import Bounded
from actors.course import Course, standing
from actors.telemetry.history import History
from messages import JobRow, JobsAre, JobsOf, Progress

MOST_LISTED = 1_000
MOST_LOOKED_UP = 400
"""Open jobs that are looked up for one answer; `more` leads to the next ones."""
AT_ONCE = 32
"""So many are looked up at the same time."""
MOST_PROGRESS = 10_000
"""Jobs of which it is remembered how far they are."""


class Stream(Protocol):
    """What is stored of jobs."""

    async def course(self, tenant: str, job: str) -> Course:
        """How far a job has come that has not ended."""
        ...


class Board:
    """Answers questions for jobs."""

    def __init__(self, history: History, stream: Stream) -> None:
        self._history, self._stream = history, stream
        self._progress = Bounded[tuple[str, str], Progress](MOST_PROGRESS)

    def learn(self, progress: Progress) -> None:
        """How far an attempt is now."""
        key = progress.tenant, progress.job
        before = self._progress.get(key)
        if before is None or (progress.n, progress.number) > (before.n, before.number):
            self._progress[key] = msgspec.structs.replace(progress, preview="")

    def forget(self, tenant: str, job: str) -> None:
        """A job has ended."""
        self._progress.pop((tenant, job), None)

    async def jobs(self, question: JobsOf, now: float) -> JobsAre:
        """The jobs that match, newest first. Raises sqlite3.Error and BadPlace."""
        limit = min(max(question.limit, 1), MOST_LISTED)
        listed: list[JobRow] = []
        after, looked_up = question.after, 0
        while True:
            page = await self._history.listed(question, after, limit + 1)
            rows, places = [row for row, _ in page], [place for _, place in page]
            free = MOST_LOOKED_UP - looked_up
            for at, row in enumerate(rows):
                free -= not row.ending
                if free < 0:
                    rows = rows[:at]
                    break
            looked_up += sum(not row.ending for row in rows)
            for row, place in zip(await self._looked_up(rows, now), places, strict=False):
                if _matches(row, question):
                    if len(listed) == limit:
                        return JobsAre(jobs=tuple(listed), more=after)
                    listed.append(row)
                after = place
            if len(rows) < len(page):
                return JobsAre(jobs=tuple(listed), more=after)
            if len(page) <= limit:
                return JobsAre(jobs=tuple(listed))

    async def _looked_up(self, rows: list[JobRow], now: float) -> list[JobRow]:
        """The same, the open ones with where they are."""
        free = asyncio.Semaphore(AT_ONCE)

        async def one(row: JobRow) -> JobRow:
            if row.ending:
                return row
            async with free:
                course = await self._stream.course(row.tenant, row.job)
            return self._with_standing(row, course, now)

        return list(await asyncio.gather(*map(one, rows)))

    def _with_standing(self, row: JobRow, course: Course, now: float) -> JobRow:
        there = standing(course, now)
        step = self._progress.get((row.tenant, row.job)) if there.state == "running" else None
        if step is not None and step.n != there.n:
            step = None
        return msgspec.structs.replace(
            row, state=there.state, n=there.n, backend=there.backend, model=there.model, since=there.since,
            waits_for=there.waits_for, share=step.share if step is not None else None,
            step=(step.text or step.stage.replace("_", " ")) if step is not None else "",
        )  # fmt: skip


def _matches(row: JobRow, question: JobsOf) -> bool:
    """Whether a row is asked for, now that its state is known."""
    if question.states and row.state not in question.states:
        return False
    return question.backend in ("", row.backend)
