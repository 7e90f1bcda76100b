"""`turnout jobs`: the latest jobs with where each one is, as a table; and their choice by state, label and backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal, get_args

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.screen import ENDINGS, OK, Wrong, clean, count, dollars, err, seconds, since
from actors.console.tables import Cells, show
from bus.bus import Bus
from messages import JobRow, JobsAre, JobsOf
from messages.jobs import Ending

Open = Literal["choosing", "queued", "running", "waiting", "held"]
State = Literal[Open, "open", "ended", Ending]
STATES: tuple[str, ...] = get_args(Open)
STYLES = {**ENDINGS, "held": "bold yellow", "waiting": "yellow", "running": "cyan", "queued": "blue", "choosing": "dim"}
FOLD = {"job": 36, "tenant": 12, "backend": 16, "about": 34}
"""Columns of text that may be so narrow; all others are as wide as what they hold. An id made up here has 10."""
DROP = ("task", "tries", "submitted", "took", "cost", "backend")
"""Columns that a narrow screen goes without, the first first."""
PAGE = 1_000


def jobs(
    *,
    state: Annotated[
        tuple[State, ...],
        Parameter(
            help="Only those that are there, or ended so; `open`: not ended, `ended`; may be repeated.", negative=""
        ),
    ] = (),
    tenant: Annotated[str, Parameter(help="Only this tenant's. [all]")] = "",
    batch: Annotated[str, Parameter(help="Only those with this label.")] = "",
    backend: Annotated[str, Parameter(help="Only those that are, or ended, there.")] = "",
    limit: Annotated[int, Parameter(help="At most so many, 1 to 1000.")] = 20,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """List the latest jobs, newest first: where each is, what it waits for, what it cost.

    What a state means, and what lets a job go on, stands in docs/guides/jobs.md. Exit codes: 0 fine, 2 wrong usage, 3 no bus.
    """
    if not 1 <= limit <= 1000:
        raise Wrong(f"--limit is {limit}: use 1 to 1000")
    question = JobsOf(tenant=tenant, states=states_of(state), batch=batch, backend=backend, limit=limit)
    return play(_jobs(question, where, output))


def states_of(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The states and endings that these words name."""
    found: dict[str, None] = {}
    for word in wanted:
        several = {"open": STATES, "ended": get_args(Ending)}.get(word, (word,))
        found.update(dict.fromkeys(several))
    return tuple(found)


async def matching(bus: Bus, question: JobsOf) -> AsyncIterator[JobRow]:
    """Every job that matches, `limit` at most; as many questions as that takes."""
    left = question.limit
    while left > 0:
        answer = await ask(bus, msgspec.structs.replace(question, limit=min(left, PAGE)), JobsAre)
        for row in answer.jobs:
            yield row
        left -= len(answer.jobs)
        if not answer.more:
            return
        question = msgspec.structs.replace(question, after=answer.more)


async def _jobs(question: JobsOf, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        rows = [row async for row in matching(bus, question)]
        now = bus.now()
    if output.machine:
        output.rows(rows)
    elif rows:
        show(jobs_cells(rows, now), right=("tries", "cost", "took"), fold=FOLD, drop=DROP, wide=output.wide)
        held = sum(row.state == "held" for row in rows)
        if held:
            err.print(
                f"{count(held, 'job')} held for a person: `turnout budget list`, then `turnout budget resume JOB`"
            )
        if len(rows) == question.limit:
            err.print(f"the latest {count(question.limit, 'job')}; --limit shows more", style="dim")
    else:
        filtered = question.tenant or question.states or question.batch or question.backend
        err.print("no job matches" if filtered else "no job yet: turnout submit 'write a haiku about trains'")
    return OK


def jobs_cells(rows: list[JobRow], now: float) -> Cells:
    """The jobs as columns. Their ids are never cut: they are what everything else is asked with."""
    cells: dict[str, list[Text]] = {
        "job": [Text(clean(row.job), "bold") for row in rows],
        "tenant": [Text(clean(row.tenant)) for row in rows],
        "state": [Text(_state(row), STYLES.get(row.state, "")) for row in rows],
        "submitted": [Text(since(row.submitted_at, now)) for row in rows],
        "task": [Text(row.task) for row in rows],
        "backend": [Text(clean(f"{row.backend}/{row.model}" if row.backend else "-")) for row in rows],
        "tries": [Text(str(row.attempts)) for row in rows],
        "cost": [Text(dollars(row.cost_microdollars) if row.attempts else "-") for row in rows],
        "took": [Text(_took(row, now)) for row in rows],
        "about": [_about(row) for row in rows],
    }
    if len({row.tenant for row in rows}) == 1:
        del cells["tenant"]
    return cells


def _state(row: JobRow) -> str:
    return row.state if row.share is None else f"{row.state} {row.share:.0%}"


def _took(row: JobRow, now: float) -> str:
    """How long it took, or has taken so far."""
    if row.latency_seconds is not None or row.submitted_at is None or row.ending:
        return seconds(row.latency_seconds)
    return f"{seconds(max(0.0, now - row.submitted_at))} …"


def _about(row: JobRow) -> Text:
    """What is most worth knowing: what keeps it, what its backend does, why it failed; and how its text begins."""
    about = Text(clean(row.head), "dim")
    said, style = (
        (row.waits_for, "yellow") if row.waits_for else (row.problem, "red") if row.problem else (row.step, "cyan")
    )
    if not said:
        return about
    news = Text(f"{'waits for ' if row.waits_for else ''}{' '.join(clean(said).split())}", style)
    return Text("\n").join([news, about]) if about.plain else news
