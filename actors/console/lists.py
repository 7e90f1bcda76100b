"""`turnout jobs`: the latest jobs, as a table."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.screen import (
    ENDINGS,
    OK,
    Wrong,
    clean,
    count,
    dollars,
    err,
    fitting,
    one_line,
    out,
    seconds,
    since,
)
from messages import JobRow, JobsAre, JobsOf
from messages.jobs import Ending

LEAST = {"job": 36, "tenant": 20, "backend": 20, "problem": 20}
"""Columns of text that may be so narrow; all others are as wide as what they hold. An id made up here has 10."""
LEFT_OUT = ("task", "submitted", "tries", "cost", "backend", "took")
"""Columns that a narrow screen goes without, the first first."""


def jobs(
    *,
    ending: Annotated[Ending | None, Parameter(help="Only those that ended so.")] = None,
    tenant: Annotated[str, Parameter(help="Only this tenant's. [all]")] = "",
    batch: Annotated[str, Parameter(help="Only those with this label.")] = "",
    limit: Annotated[int, Parameter(help="At most so many, 1 to 1000.")] = 20,
    output: Annotated[Literal["text", "json"], Parameter(help="`json`: one object per line.")] = "text",
    where: Where = HERE,
) -> int:
    """List the latest jobs, newest first."""
    if not 1 <= limit <= 1000:
        raise Wrong(f"--limit is {limit}: use 1 to 1000")
    question = JobsOf(tenant=tenant, ending=ending or "", batch=batch, limit=limit)
    return play(_jobs(question, where, machine=output == "json"))


async def _jobs(question: JobsOf, where: Where, *, machine: bool) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        answer = await ask(bus, question, JobsAre)
        now = bus.now()
    if machine:
        for row in answer.jobs:
            out.file.write(msgspec.json.encode(row).decode() + "\n")
    elif answer.jobs:
        out.print(_jobs_table(answer.jobs, now))
        if len(answer.jobs) == question.limit:
            err.print(f"the latest {count(question.limit, 'job')}; --limit shows more", style="dim")
    else:
        filtered = question.tenant or question.ending or question.batch
        err.print("no job matches" if filtered else "no job yet: turnout submit 'write a haiku about trains'")
    return OK


def _jobs_table(rows: tuple[JobRow, ...], now: float, width: int | None = None) -> object:
    """The jobs, in so many columns of text. Their ids are never cut: they are what everything else is asked with."""
    cells: dict[str, list[Text]] = {
        "job": [Text(clean(row.job), "bold") for row in rows],
        "tenant": [Text(clean(row.tenant)) for row in rows],
        "submitted": [Text(since(row.submitted_at, now)) for row in rows],
        "ending": [Text(row.ending or "running", ENDINGS.get(row.ending, "cyan")) for row in rows],
        "task": [Text(row.task) for row in rows],
        "backend": [Text(clean(f"{row.backend}/{row.model}" if row.backend else "-")) for row in rows],
        "tries": [Text(str(row.attempts)) for row in rows],
        "cost": [Text(dollars(row.cost_microdollars) if row.ending else "-") for row in rows],
        "took": [Text(seconds(row.latency_seconds)) for row in rows],
        "problem": [Text(one_line(row.problem, 100)) for row in rows],
    }
    if len({row.tenant for row in rows}) == 1:
        del cells["tenant"]
    if not any(row.problem for row in rows):
        del cells["problem"]
    return fitting(
        cells, out.width if width is None else width, right=("tries", "cost", "took"), least=LEAST, left_out=LEFT_OUT
    )
