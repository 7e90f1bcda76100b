"""The history of jobs, attempts and ratings in SQLite. Rows are written in batches; writing one again changes nothing."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from actors.telemetry.rows import FORGET, OLDEST, SCHEMA, VERSION, Row
from messages import Attempted, JobRow, JobsOf

T = TypeVar("T")
Offload = Callable[[Callable[[], T]], Awaitable[T]]
"""Runs a blocking call beside the event loop, or right here in a simulation."""

BATCH_SECONDS = 0.005
MOST_RATINGS = 1_000
"""So many ratings of a model are looked at, the latest ones."""
_MEGABYTE = 1_000_000
_JOBS = """SELECT tenant, job, ending, task, backend, model, attempts, cost_microdollars, latency_seconds,
    submitted_at, problem FROM jobs WHERE (? = '' OR tenant = ?) AND (? = '' OR ending = ?)
    AND (? = '' OR batch = ?) ORDER BY submitted_at DESC, job LIMIT ?"""


class History:
    """One SQLite file (`:memory:` for none). Raises sqlite3.Error, also for a file of another version of the tables.

    Kept for `keep_days`, and as long as it needs no more than `max_mb` megabytes; the oldest goes first.
    """

    def __init__(
        self, path: Path | str, *, offload: Offload[Any], keep_days: float = 30.0, max_mb: float = 512.0
    ) -> None:
        self._offload = offload
        self.keep_days, self.max_mb = keep_days, max_mb
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        if self._one("PRAGMA user_version") != VERSION and self._one("SELECT count(*) FROM sqlite_schema"):
            self._db.close()
            text = f"the history {path} was written by another version of turnout; move it away to begin a new one"
            raise sqlite3.DatabaseError(text)
        self._db.executescript(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
        )
        self._db.executescript(f"PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        self.fresh: set[tuple[str, str, str]] = set()
        """Backend, model and task of ratings that were written since somebody looked."""
        self._waiting: list[Row] = []
        self._batch: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def write(self, *rows: Row) -> None:
        """Return once the rows are committed, together with what others write meanwhile."""
        self._waiting.extend(rows)
        if self._batch is None:
            self._batch = asyncio.ensure_future(self._flush())
        await asyncio.shield(self._batch)

    async def _flush(self) -> None:
        await asyncio.sleep(BATCH_SECONDS)
        async with self._lock:
            rows, self._waiting, self._batch = self._waiting, [], None
            self.fresh.update(await self._offload(lambda: self._commit(rows)))

    def _commit(self, rows: Sequence[tuple[str, Any]]) -> list[Any]:
        """Run statements in one transaction; what they answer."""
        found: list[Any] = []
        self._db.execute("BEGIN")
        try:
            for sql, values in rows:
                found.extend(self._db.execute(sql, values).fetchall())
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return found

    async def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        async with self._lock:
            return await self._offload(lambda: self._db.execute(sql, values).fetchall())

    def _one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        row = self._db.execute(sql, values).fetchone()
        return row[0] if row else None

    async def jobs(self, question: JobsOf) -> tuple[JobRow, ...]:
        """The latest jobs that match, newest first."""
        q = question
        limit = min(max(q.limit, 1), 1000)
        rows = await self._query(_JOBS, (q.tenant, q.tenant, q.ending, q.ending, q.batch, q.batch, limit))
        return tuple(JobRow(**dict(zip(JobRow.__struct_fields__, row, strict=True))) for row in rows)

    async def attempts(self, tenant: str, job: str) -> tuple[Attempted, ...]:
        """The finished attempts of a job, in order."""
        rows = await self._query("SELECT event FROM attempts WHERE tenant = ? AND job = ? ORDER BY n", (tenant, job))
        return tuple(msgspec.json.decode(row[0], type=Attempted) for row in rows)

    # ---------------------------------------------------------------------------------------------- ratings

    async def rated(self) -> list[tuple[str, str, str]]:
        """Every backend, model and task with ratings."""
        return await self._query(
            "SELECT DISTINCT backend, model, task FROM ratings WHERE backend <> '' ORDER BY 1, 2, 3"
        )

    async def scores(self, backend: str, model: str, task: str = "", *, since: float = 0.0) -> list[float]:
        """The scores of a model, for one task or (empty) all, in the order in which they came; the latest 1,000."""
        sql = "SELECT score FROM ratings WHERE backend = ? AND model = ? AND at >= ?"
        values: tuple[Any, ...] = (backend, model, since)
        if task:
            sql, values = sql + " AND task = ?", (*values, task)
        rows = await self._query(f"{sql} ORDER BY seq DESC LIMIT {MOST_RATINGS}", values)
        return [row[0] for row in reversed(rows)]

    # -------------------------------------------------------------------------------------------- retention

    async def forget(self, before: float) -> None:
        """Drop what ended before this time."""
        async with self._lock:
            await self._offload(lambda: self._drop(before))

    async def shrink(self) -> None:
        """Drop the oldest, a tenth at a time, until it needs no more room than it may; others write in between."""
        while True:
            async with self._lock:
                if not await self._offload(self._too_large):
                    return

    def _too_large(self) -> bool:
        """Whether it was, and something could be done about it."""
        if self._used_mb() <= self.max_mb:
            return False
        jobs = self._one("SELECT count(*) FROM jobs")
        self._drop(math.nextafter(self._one(OLDEST, ((jobs - 1) // 10,)), math.inf) if jobs else math.inf)
        return jobs > 0

    def _drop(self, before: float) -> None:
        self._commit([(sql, {"before": before}) for sql in FORGET])
        self._db.executescript("PRAGMA incremental_vacuum;")  # `execute` would give back a single page.

    def _used_mb(self) -> float:
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return pages * self._one("PRAGMA page_size") / _MEGABYTE

    def close(self) -> None:
        """Close the file."""
        self._db.close()
