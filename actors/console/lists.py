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
    one_line,
    out,
    seconds,
    since,
    table,
)
from messages import JobRow, JobsAre, JobsOf
from messages.jobs import Ending


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


def _jobs_table(rows: tuple[JobRow, ...], now: float) -> object:
    several = len({row.tenant for row in rows}) > 1
    columns = [
        "job",
        *(["tenant"] if several else []),
        "submitted",
        "ending",
        "task",
        "backend",
        "tries",
        "cost",
        "took",
    ]
    made = table(*columns, "problem", right=("tries", "cost", "took"))
    for row in rows:
        made.add_row(
            Text(clean(row.job), "bold"),
            *([clean(row.tenant)] if several else []),
            since(row.submitted_at, now),
            Text(row.ending or "running", ENDINGS.get(row.ending, "cyan")),
            row.task,
            Text(clean(f"{row.backend}/{row.model}" if row.backend else "-")),
            str(row.attempts),
            dollars(row.cost_microdollars) if row.ending else "-",
            seconds(row.latency_seconds),
            Text(one_line(row.problem, 100)),
        )
    return made
