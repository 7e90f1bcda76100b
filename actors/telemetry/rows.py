"""What the history's tables look like, and the rows that events become. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from messages import Analyzed, Attempted, Done

Row = tuple[str, Sequence[Any]]
"""A statement and its values; running it again changes nothing."""

MOST_PROBLEM = 1_000
"""Characters of a job's problem; all of it stands in its event."""
VERSION = 3
"""Of the tables; stands in the file as its `user_version`."""
PLACE = "coalesce(submitted_at, ended_at, 0.0), tenant, job"
"""What jobs are listed by, the greatest first."""
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs (
    tenant TEXT NOT NULL, job TEXT NOT NULL, ending TEXT NOT NULL DEFAULT '', task TEXT NOT NULL DEFAULT '',
    quality TEXT NOT NULL DEFAULT '', batch TEXT NOT NULL DEFAULT '', backend TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 0, cost_microdollars INTEGER,
    latency_seconds REAL, submitted_at REAL, ended_at REAL, problem TEXT NOT NULL DEFAULT '',
    head TEXT NOT NULL DEFAULT '', PRIMARY KEY (tenant, job)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs ({PLACE});
CREATE INDEX IF NOT EXISTS jobs_open ON jobs ({PLACE}) WHERE ending = '';
CREATE INDEX IF NOT EXISTS jobs_by_age ON jobs (coalesce(ended_at, submitted_at));
CREATE TABLE IF NOT EXISTS attempts (
    tenant TEXT NOT NULL, job TEXT NOT NULL, n INTEGER NOT NULL, backend TEXT NOT NULL, model TEXT NOT NULL,
    outcome TEXT NOT NULL, at REAL NOT NULL, billed_microdollars INTEGER, input_tokens INTEGER, output_tokens INTEGER,
    event BLOB NOT NULL, PRIMARY KEY (tenant, job, n)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS attempts_by_age ON attempts (at);
CREATE INDEX IF NOT EXISTS attempts_of_backends
    ON attempts (backend, model, outcome, billed_microdollars, input_tokens, output_tokens, at);
CREATE TABLE IF NOT EXISTS ratings (
    tenant TEXT NOT NULL, job TEXT NOT NULL, rater TEXT NOT NULL, score REAL NOT NULL, seq INTEGER NOT NULL,
    at REAL NOT NULL, backend TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '', task TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, job, rater)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ratings_by_age ON ratings (at);
CREATE INDEX IF NOT EXISTS ratings_of_models ON ratings (backend, model, seq);
CREATE INDEX IF NOT EXISTS ratings_of_tasks ON ratings (backend, model, task, seq);
PRAGMA user_version = {VERSION};
"""
_ANALYZED = """INSERT INTO jobs (tenant, job, task, quality, batch, head, submitted_at) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET task = excluded.task, quality = excluded.quality, batch = excluded.batch, head = excluded.head,
    submitted_at = coalesce(jobs.submitted_at, excluded.submitted_at)"""
_ATTEMPTED = "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DONE = """INSERT INTO jobs (tenant, job, ending, backend, model, attempts, cost_microdollars, latency_seconds,
    submitted_at, ended_at, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET ending = excluded.ending, backend = excluded.backend, model = excluded.model,
    attempts = excluded.attempts, cost_microdollars = excluded.cost_microdollars,
    latency_seconds = coalesce(excluded.latency_seconds, excluded.ended_at - jobs.submitted_at),
    submitted_at = coalesce(jobs.submitted_at, excluded.submitted_at), ended_at = excluded.ended_at,
    problem = excluded.problem"""
_RATED = """INSERT INTO ratings (tenant, job, rater, score, seq, at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET score = excluded.score, seq = excluded.seq, at = excluded.at
    WHERE excluded.seq > ratings.seq"""
_PLACED = """UPDATE ratings SET backend = j.backend, model = j.model, task = j.task FROM jobs AS j
    WHERE ratings.tenant = ? AND ratings.job = ? AND j.tenant = ratings.tenant AND j.job = ratings.job
    AND j.ending = 'succeeded' AND j.task <> '' RETURNING ratings.backend, ratings.model, ratings.task"""

FORGET = (
    """DELETE FROM attempts WHERE (tenant, job) IN
    (SELECT tenant, job FROM jobs WHERE coalesce(ended_at, submitted_at) < :before)""",
    """DELETE FROM ratings WHERE (tenant, job) IN
    (SELECT tenant, job FROM jobs WHERE coalesce(ended_at, submitted_at) < :before)""",
    "DELETE FROM jobs WHERE coalesce(ended_at, submitted_at) < :before",
    """DELETE FROM attempts WHERE at < :before AND NOT EXISTS
    (SELECT 1 FROM jobs WHERE jobs.tenant = attempts.tenant AND jobs.job = attempts.job)""",
    """DELETE FROM ratings WHERE at < :before AND NOT EXISTS
    (SELECT 1 FROM jobs WHERE jobs.tenant = ratings.tenant AND jobs.job = ratings.job)""",
)
"""Jobs that ended (or, never heard to end, began) before a time, with what belongs to them; and what belongs to no job."""
OLDEST = """SELECT coalesce(ended_at, submitted_at) FROM jobs ORDER BY coalesce(ended_at, submitted_at)
    LIMIT 1 OFFSET ?"""
"""When the oldest jobs but so many ended."""


def analyzed_row(analyzed: Analyzed) -> Row:
    """The row of an accepted job."""
    slip = analyzed.slip
    task, quality, batch = (slip.needs.task, slip.needs.quality, slip.needs.batch) if slip else ("", "", "")
    submitted_at = slip.submitted_at if slip else analyzed.at
    return _ANALYZED, (analyzed.tenant, analyzed.job, task, quality, batch, analyzed.head, submitted_at)


def attempted_row(attempted: Attempted) -> Row:
    """The row of a finished attempt."""
    a = attempted
    return _ATTEMPTED, (
        a.tenant, a.job, a.n, a.backend, a.model, a.outcome, a.at, None if a.unpriced else a.billed_microdollars,
        a.usage.input_tokens, a.usage.output_tokens, msgspec.json.encode(a),
    )  # fmt: skip


def done_row(done: Done) -> Row:
    """The row of an ended job."""
    latency = done.at - done.submitted_at if done.submitted_at is not None else None
    problem = done.problem.message if done.problem else ""
    if len(problem) > MOST_PROBLEM:
        problem = problem[: MOST_PROBLEM - 1] + "…"
    return _DONE, (
        done.tenant, done.job, done.ending, done.backend, done.model, len(done.attempts), done.cost_microdollars,
        latency, done.submitted_at, done.at, problem,
    )  # fmt: skip


def rated_row(tenant: str, job: str, *, rater: str, score: float, seq: int, at: float) -> Row:
    """The row of a rating: the last word of each rater about a job, by sequence."""
    return _RATED, (tenant, job, rater, score, seq, at)


def placed_row(tenant: str, job: str) -> Row:
    """Writes beside a job's ratings what made its result, and answers with that.

    Without effect until the job has succeeded (others have no result) and its task is known.
    """
    return _PLACED, (tenant, job)
