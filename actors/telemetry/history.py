"""The history of jobs and attempts in SQLite. Rows are written in batches; writing one again changes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from messages import Analyzed, Attempted, Done, JobRow, JobsOf

T = TypeVar("T")
Offload = Callable[[Callable[[], T]], Awaitable[T]]
"""Runs a blocking call beside the event loop, or right here in a simulation."""

BATCH_SECONDS = 0.005

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    tenant TEXT NOT NULL, job TEXT NOT NULL, ending TEXT NOT NULL DEFAULT '', task TEXT NOT NULL DEFAULT '',
    batch TEXT NOT NULL DEFAULT '', backend TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, cost_microdollars INTEGER, latency_seconds REAL, submitted_at REAL,
    ended_at REAL, problem TEXT NOT NULL DEFAULT '', PRIMARY KEY (tenant, job)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs (submitted_at);
CREATE TABLE IF NOT EXISTS attempts (
    tenant TEXT NOT NULL, job TEXT NOT NULL, n INTEGER NOT NULL, backend TEXT NOT NULL, model TEXT NOT NULL,
    outcome TEXT NOT NULL, at REAL NOT NULL, event BLOB NOT NULL, PRIMARY KEY (tenant, job, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ratings (
    tenant TEXT NOT NULL, job TEXT NOT NULL, seq INTEGER NOT NULL, score REAL NOT NULL, rater TEXT NOT NULL,
    PRIMARY KEY (tenant, job, seq)) WITHOUT ROWID;
"""
_ANALYZED = """INSERT INTO jobs (tenant, job, task, batch, submitted_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET task = excluded.task, batch = excluded.batch,
    submitted_at = coalesce(jobs.submitted_at, excluded.submitted_at)"""
_ATTEMPTED = "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_DONE = """INSERT INTO jobs (tenant, job, ending, backend, model, attempts, cost_microdollars, latency_seconds,
    submitted_at, ended_at, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET ending = excluded.ending, backend = excluded.backend, model = excluded.model,
    attempts = excluded.attempts, cost_microdollars = excluded.cost_microdollars,
    latency_seconds = coalesce(excluded.latency_seconds, excluded.ended_at - jobs.submitted_at),
    submitted_at = coalesce(jobs.submitted_at, excluded.submitted_at), ended_at = excluded.ended_at,
    problem = excluded.problem"""
_RATED = "INSERT OR IGNORE INTO ratings VALUES (?, ?, ?, ?, ?)"


class History:
    """One SQLite file (`:memory:` for none). Raises sqlite3.Error."""

    def __init__(self, path: Path | str, *, offload: Offload[Any], keep_days: float = 30.0) -> None:
        self._offload = offload
        self.keep_days = keep_days
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000;")
        self._db.executescript(_SCHEMA)
        self._waiting: list[tuple[str, Sequence[Any]]] = []
        self._batch: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def write(self, row: tuple[str, Sequence[Any]]) -> None:
        """Return once the row is committed, together with what others write meanwhile."""
        self._waiting.append(row)
        if self._batch is None:
            self._batch = asyncio.ensure_future(self._flush())
        await asyncio.shield(self._batch)

    async def _flush(self) -> None:
        await asyncio.sleep(BATCH_SECONDS)
        async with self._lock:
            rows, self._waiting, self._batch = self._waiting, [], None
            await self._offload(lambda: self._commit(rows))

    def _commit(self, rows: list[tuple[str, Sequence[Any]]]) -> None:
        self._db.execute("BEGIN")
        try:
            for sql, values in rows:
                self._db.execute(sql, values)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    async def _query(self, sql: str, values: Sequence[Any]) -> list[Any]:
        async with self._lock:
            return await self._offload(lambda: self._db.execute(sql, values).fetchall())

    async def jobs(self, question: JobsOf) -> tuple[JobRow, ...]:
        """The latest jobs that match, newest first."""
        sql = """SELECT tenant, job, ending, task, backend, model, attempts, cost_microdollars, latency_seconds,
            submitted_at, problem FROM jobs WHERE (? = '' OR tenant = ?) AND (? = '' OR ending = ?)
            AND (? = '' OR batch = ?) ORDER BY submitted_at DESC, job LIMIT ?"""
        q = question
        limit = min(max(q.limit, 1), 1000)
        rows = await self._query(sql, (q.tenant, q.tenant, q.ending, q.ending, q.batch, q.batch, limit))
        return tuple(JobRow(**dict(zip(JobRow.__struct_fields__, row, strict=True))) for row in rows)

    async def attempts(self, tenant: str, job: str) -> tuple[Attempted, ...]:
        """The finished attempts of a job, in order."""
        rows = await self._query("SELECT event FROM attempts WHERE tenant = ? AND job = ? ORDER BY n", (tenant, job))
        return tuple(msgspec.json.decode(row[0], type=Attempted) for row in rows)

    async def forget(self, before: float) -> None:
        """Drop what ended before this time."""
        async with self._lock:
            await self._offload(lambda: self._forget(before))

    def _forget(self, before: float) -> None:
        self._db.execute("DELETE FROM attempts WHERE at < ?", (before,))
        self._db.execute("DELETE FROM jobs WHERE ended_at < ?", (before,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def analyzed_row(analyzed: Analyzed) -> tuple[str, Sequence[Any]]:
    """The row of an accepted job."""
    slip = analyzed.slip
    task, batch = (slip.needs.task, slip.needs.batch) if slip else ("", "")
    return _ANALYZED, (analyzed.tenant, analyzed.job, task, batch, slip.submitted_at if slip else analyzed.at)


def attempted_row(attempted: Attempted) -> tuple[str, Sequence[Any]]:
    """The row of a finished attempt."""
    a = attempted
    return _ATTEMPTED, (a.tenant, a.job, a.n, a.backend, a.model, a.outcome, a.at, msgspec.json.encode(a))


def done_row(done: Done) -> tuple[str, Sequence[Any]]:
    """The row of an ended job."""
    latency = done.at - done.submitted_at if done.submitted_at is not None else None
    problem = done.problem.message if done.problem else ""
    return _DONE, (
        done.tenant, done.job, done.ending, done.backend, done.model, len(done.attempts), done.cost_microdollars,
        latency, done.submitted_at, done.at, problem,
    )  # fmt: skip


def rated_row(tenant: str, job: str, seq: int, score: float, rater: str) -> tuple[str, Sequence[Any]]:
    """The row of a rating."""
    return _RATED, (tenant, job, seq, score, rater)
