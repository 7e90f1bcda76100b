"""Lists of jobs and totals of backends: the questions in SQL, and the rows they answer with. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.course import OPEN
from actors.telemetry.rows import PLACE, Row
from messages import JobRow, JobsOf, Total

_OF_JOB = "FROM attempts AS a WHERE a.tenant = jobs.tenant AND a.job = jobs.job"
_JOBS = f"""SELECT tenant, job, ending, task, backend, model,
    max(attempts, (SELECT count(*) {_OF_JOB})),
    CASE WHEN EXISTS (SELECT 1 {_OF_JOB} AND a.billed_microdollars IS NULL) THEN NULL
        WHEN ending <> '' AND cost_microdollars IS NULL AND NOT EXISTS (SELECT 1 {_OF_JOB}) THEN NULL
        ELSE max(coalesce(cost_microdollars, 0), (SELECT coalesce(sum(a.billed_microdollars), 0) {_OF_JOB})) END,
    latency_seconds, submitted_at, problem, head, batch, coalesce(submitted_at, ended_at, 0.0) FROM jobs"""  # noqa: S608  # Made of constants alone.
_TOTALS = """SELECT backend, model, count(*), sum(outcome = 'ok'), coalesce(sum(billed_microdollars), 0),
    sum(billed_microdollars IS NULL), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), min(at)
    FROM attempts {where} GROUP BY backend, model ORDER BY backend, model"""


class Place(msgspec.Struct, array_like=True):
    """Where a list goes on: behind this job."""

    at: float
    tenant: str
    job: str


class BadPlace(ValueError):
    """`after` is nothing that an answer told."""


def jobs_sql(question: JobsOf, after: str, limit: int) -> Row:
    """The statement for jobs that match but for the states of open ones, newest first. Raises BadPlace."""
    wanted = set(question.states)
    terms: list[str] = []
    values: list[Any] = []
    if wanted:
        endings = sorted(wanted - set(OPEN)) + ([""] if wanted & set(OPEN) else [])
        terms.append(f"ending IN ({', '.join('?' * len(endings))})")
        values += endings
        if endings == [""]:
            terms = ["ending = ''"]  # Said like this, the index of open jobs serves.
            values = []
    for column, value in (("tenant", question.tenant), ("ending", question.ending), ("batch", question.batch)):
        if value:
            terms.append(f"{column} = ?")
            values.append(value)
    if question.backend:
        terms.append("(ending = '' OR backend = ?)")
        values.append(question.backend)
    if after:
        place = place_of(after)
        terms.append(f"({PLACE}) < (?, ?, ?)")
        values += [place.at, place.tenant, place.job]
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    order = ", ".join(f"{part} DESC" for part in ("coalesce(submitted_at, ended_at, 0.0)", "tenant", "job"))
    return f"{_JOBS}{where} ORDER BY {order} LIMIT ?", [*values, limit]


def job_row(row: Sequence[Any]) -> tuple[JobRow, str]:
    """One row of that, and its place in the list."""
    fields = (*JobRow.__struct_fields__[:11], "head", "batch")
    told = JobRow(**dict(zip(fields, row, strict=False)), state=row[2])
    return told, msgspec.json.encode(Place(row[-1], told.tenant, told.job)).decode()


def place_of(after: str) -> Place:
    """The place that an answer told. Raises BadPlace."""
    try:
        return msgspec.json.decode(after, type=Place)
    except msgspec.MsgspecError:
        raise BadPlace(f"after is {after[:80]!r}: use what an answer told as `more`") from None


def totals_sql(backend: str) -> Row:
    """The statement for what each model did on each backend."""
    return _TOTALS.format(where="WHERE backend = ?" if backend else ""), [backend] if backend else []


def total(row: Sequence[Any]) -> Total:
    """One row of that."""
    return Total(**dict(zip(Total.__struct_fields__, row[:-1], strict=True)))
