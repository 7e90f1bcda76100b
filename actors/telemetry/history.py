"""The history of jobs, attempts and ratings in SQLite. Rows are written in batches; writing one again changes nothing.

A file that can't be written (a full disk, a read-only directory) stops nobody: rows wait in memory, as many as there is room.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from actors.telemetry.rows import FORGET, OLDEST, SCHEMA, VERSION, Row
from messages import Attempted, JobRow, JobsOf

log = logging.getLogger("turnout.telemetry")

T = TypeVar("T")
Offload = Callable[[Callable[[], T]], Awaitable[T]]
"""Runs a blocking call beside the event loop, or right here in a simulation."""

MOST_WAITING = 50_000
"""So many rows wait in memory while the file can't be written; beyond it the oldest are lost."""
MOST_WAITING_BYTES = 64_000_000
"""And no more than this: the row of an attempt holds its whole answer."""
MOST_RATINGS = 1_000
"""So many ratings of a model are looked at, the latest ones."""
_MEGABYTE = 1_000_000
_JOBS = """SELECT tenant, job, ending, task, backend, model, attempts, cost_microdollars, latency_seconds,
    submitted_at, problem FROM jobs WHERE (? = '' OR tenant = ?) AND (? = '' OR ending = ?)
    AND (? = '' OR batch = ?) ORDER BY submitted_at DESC, job LIMIT ?"""

_OF_THE_ROW = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    OverflowError,
    UnicodeError,
)
"""It is what was to be written that is wrong, and not the file."""


class History:
    """One SQLite file (`:memory:` for none). Opening and reading raise sqlite3.Error, also for a file of another version of
    the tables; writing raises nothing.

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
        self.trouble = ""
        """Why nothing can be written now; empty: all is well."""
        self._waiting: list[Row] = []
        self._bytes = 0
        """Of what waits."""
        self._lost = 0
        self._lock = asyncio.Lock()

    def put(self, *rows: Row) -> None:
        """Take rows to be written. While the file takes none, the latest 50,000 are kept in memory, or as many as fit."""
        self._waiting.extend(rows)
        self._bytes += sum(map(_size, rows))
        over, rest = 0, len(self._waiting)
        while rest > MOST_WAITING or (self.trouble and rest and self._bytes > MOST_WAITING_BYTES):
            self._bytes -= _size(self._waiting[over])
            over, rest = over + 1, rest - 1
        if over:
            self._lost += over
            del self._waiting[:over]

    def _put_back(self, rows: Sequence[Row]) -> None:
        """They are still to be written, before those that came meanwhile."""
        newer, self._waiting, self._bytes = self._waiting, [], 0
        self.put(*rows, *newer)

    async def kept(self, *, again: bool = False) -> None:
        """Return once what was put is in the file, or stays in memory because the file takes nothing now.

        Raises nothing: a full disk is said once, and tried again by who calls with `again`.
        """
        await asyncio.shield(asyncio.ensure_future(self._flush(again=again)))

    async def _flush(self, *, again: bool) -> None:
        async with self._lock:
            if not self._waiting or (self.trouble and not again):
                return
            rows, self._waiting, self._bytes = self._waiting, [], 0
            try:
                try:
                    found = await self._offload(lambda: self._commit(rows))
                except _OF_THE_ROW:
                    found = await self._offload(lambda: self._commit_each(rows))
            except sqlite3.Error as error:
                self._is_stuck(error)
                self._put_back(rows)
                return
            except BaseException:
                self._put_back(rows)  # Of others too, who wait for their turn and would find nothing left to do.
                raise
            self.fresh.update(found)
            self._goes_on()

    def _commit_each(self, rows: Sequence[Row]) -> list[Any]:
        """One row of these can't be written as it is: the others are, and that one is left out."""
        found: list[Any] = []
        for row in rows:
            try:
                found.extend(self._commit([row]))
            except _OF_THE_ROW as error:
                log.warning("the history leaves out a row that can't be written: %s", error)
        return found

    def _is_stuck(self, error: sqlite3.Error) -> None:
        if not self.trouble:
            log.error(
                "the history can't be written: %s. Jobs run on, and up to %d rows wait in memory; it is tried again "
                "all the time. Is the disk full, or the data directory read-only?", error, MOST_WAITING,
            )  # fmt: skip
        self.trouble = str(error)

    def _goes_on(self) -> None:
        if self.trouble:
            lost, self._lost, self.trouble = self._lost, 0, ""
            log.warning("the history is written again; %s", f"{lost} rows were lost" if lost else "nothing was lost")

    def _commit(self, rows: Sequence[tuple[str, Any]]) -> list[Any]:
        """Run statements in one transaction; what they answer."""
        found: list[Any] = []
        self._db.execute("BEGIN")
        try:
            for sql, values in rows:
                found.extend(self._db.execute(sql, values).fetchall())
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # A full disk has ended it already.
                self._db.execute("ROLLBACK")
            raise
        return found

    async def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        async with self._lock:
            return await self._offload(lambda: self._db.execute(sql, values).fetchall())

    def _one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        row = self._db.execute(sql, values).fetchone()
        return row[0] if row else None

    async def ending(self, tenant: str, job: str) -> str | None:
        """How a job ended; empty: not yet. None: it is not known here."""
        rows = await self._query("SELECT ending FROM jobs WHERE tenant = ? AND job = ?", (tenant, job))
        return str(rows[0][0]) if rows else None

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
            try:
                await self._offload(lambda: self._drop(before))
            except sqlite3.Error as error:
                self._is_stuck(error)

    async def shrink(self) -> None:
        """Drop the oldest, a tenth at a time, until it needs no more room than it may; others write in between."""
        while True:
            async with self._lock:
                try:
                    if not await self._offload(self._too_large):
                        return
                except sqlite3.Error as error:
                    self._is_stuck(error)
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


def _size(row: Row) -> int:
    """About how many bytes a row takes: those of its texts."""
    return sum(len(value) for value in row[1] if isinstance(value, (bytes, str)))
