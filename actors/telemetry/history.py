"""The history of jobs, attempts and ratings in SQLite. Rows are written in batches; writing one again changes nothing.

A file that can't be written (a full disk, a read-only directory) stops nobody: what it does not take is let go, and said to be
so, so that whoever put it there does it again later.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from actors.telemetry.listing import job_row, jobs_sql, total, totals_sql
from actors.telemetry.rows import FORGET, OLDEST, SCHEMA, VERSION, Row
from bus.private import make_private
from messages import Attempted, JobRow, JobsOf, Total

log = logging.getLogger("turnout.telemetry")

T = TypeVar("T")
Offload = Callable[[Callable[[], T]], Awaitable[T]]
"""Runs a blocking call beside the event loop, or right here in a simulation."""

MOST_RATINGS = 1_000
"""So many ratings of a model are looked at, the latest ones."""
_MEGABYTE = 1_000_000

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
        self._path, self._offload = path, offload
        self.keep_days, self.max_mb = keep_days, max_mb
        try:
            self._db = self._opened()
        except (sqlite3.Error, OSError) as error:
            text = f"the history {path} can't be used: {error}.{_room_beside(path)} Free some space, or move it away"
            raise sqlite3.DatabaseError(text) from error
        self.fresh: set[tuple[str, str, str]] = set()
        """Backend, model and task of ratings that were written since somebody looked."""
        self.trouble = ""
        """Why nothing can be written now; empty: all is well."""
        self.losses = 0
        """How often rows were let go because the file did not take them."""
        self._refused_bytes = 0
        """What the file did not take the last time; so much must go in before it counts as well again."""
        self._waiting: list[Row] = []
        self._lock = asyncio.Lock()

    def _opened(self) -> sqlite3.Connection:
        if self._path != ":memory:":
            make_private(Path(self._path))  # SQLite gives what lies beside it the same rights.
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            version, tables = (
                db.execute(sql).fetchone()[0] for sql in ("PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
            )
            if version != VERSION and tables:
                text = "it was written by another version of turnout"
                raise sqlite3.DatabaseError(text)
            db.executescript(
                "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            )
            db.executescript(f"PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        except BaseException:
            db.close()
            raise
        return db

    def put(self, *rows: Row) -> None:
        """Take rows to be written with the next `kept`."""
        self._waiting.extend(rows)

    async def kept(self, losses: int) -> bool:
        """Try to write what was put. Whether all that was put since `losses` was read is in the file.

        What is not was let go, and is to be put again. Raises nothing: a full disk is said once.
        """
        await asyncio.shield(asyncio.ensure_future(self._flush()))
        return self.losses == losses

    async def _flush(self) -> None:
        async with self._lock:
            if not self._waiting:
                return
            rows, self._waiting = self._waiting, []
            written = False
            try:
                try:
                    found = await self._offload(lambda: self._commit(rows))
                except _OF_THE_ROW:
                    found = await self._offload(lambda: self._commit_each(rows))
                written = True
            except sqlite3.Error as error:
                self._is_stuck(error)
                self._refused_bytes = _size(rows)
                return
            finally:
                self.losses += not written  # Of others too, who wait for their turn and find nothing left to do.
            self.fresh.update(found)
            self._goes_on(_size(rows))

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
                "the history %s can't be written: %s.%s Jobs run on, and nothing is lost: what it does not take is not "
                "acknowledged, and comes again until it does. Is the disk full, or the directory read-only?",
                self._path, error, _room_beside(self._path),
            )  # fmt: skip
        self.trouble = str(error)

    def _goes_on(self, size: int) -> None:
        self._refused_bytes -= size
        if self.trouble and self._refused_bytes <= 0:
            self.trouble = ""
            log.warning("the history is written again; what it did not take comes again now")

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

    async def listed(self, question: JobsOf, after: str, limit: int) -> list[tuple[JobRow, str]]:
        """The latest jobs that match, newest first, each with its place; of open ones the states are not looked at.

        Raises BadPlace for a place that no list told.
        """
        return [job_row(row) for row in await self._query(*jobs_sql(question, after, limit))]

    async def totals(self, backend: str = "") -> tuple[tuple[Total, ...], float | None]:
        """What each model did on each backend, and when the earliest of these attempts ended."""
        rows = await self._query(*totals_sql(backend))
        return tuple(map(total, rows)), min((row[-1] for row in rows), default=None)

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


def _size(rows: Sequence[Row]) -> int:
    """About how many bytes they take: those of their texts."""
    return sum(len(value) for _, values in rows for value in values if isinstance(value, (bytes, str)))


def _room_beside(path: Path | str) -> str:
    """How much room the disk of that file has, as a sentence; empty when it can't be told."""
    try:
        free = shutil.disk_usage(Path(path).absolute().parent).free
    except OSError:
        return ""
    return "" if str(path) == ":memory:" else f" {free / _MEGABYTE:,.0f} MB are free there."
