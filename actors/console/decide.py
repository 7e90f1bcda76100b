"""`turnout decide`: where would this job go now? And what the other commands that make no job share with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich.padding import Padding

from actors.console.app import play
from actors.console.intake import job_of
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.rounds import Candidates, head, line, named
from actors.console.screen import FAILED, OK, STDIN, Complaint, Wrong, err, out, seconds
from actors.console.submit import Job, Picture, fields_of
from bus.bus import Bus
from messages import Decided, JobSubmit, Needs, NeedsAre, NeedsOf, PreviewIs, PreviewOf, Problem

Words = Annotated[str, Parameter(help="The text; `-`, or none in a pipe, reads it from the standard input.")]
PREVIEW = "preview"
"""The id of a job that is not there; exploration depends on the id."""


def decide(
    *prompt: Words, output: Output = TEXT, job: Job | None = None, picture: Picture | None = None, where: Where = HERE
) -> int:
    """Show where a job would go now and why, as `submit` would send it. No job is created.

    Exit codes: 0 somebody would run it, 1 nobody would, 2 wrong usage, 3 no bus.
    """
    deadline = job is not None and job.deadline is not None
    return play(_decide(submission(prompt, job, picture), where, output, deadline=deadline))


async def _decide(submit: JobSubmit, where: Where, output: Output, *, deadline: bool) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        needs = await needs_of(bus, submit)
        question = PreviewOf(tenant=submit.tenant, job=submit.id or PREVIEW, needs=needs)
        answer = await ask(bus, question, PreviewIs)
    decided = answer.decided
    if decided is None:
        raise refusal(answer.problem)
    if output.machine:
        output.one(answer)
    else:
        _show(decided, deadline=deadline)
    return OK if decided.ranking else FAILED


def _show(decided: Decided, *, deadline: bool) -> None:
    needs = decided.slip.needs
    task = f"{needs.quality} {needs.task}" + ("" if needs.asset == "text" else f", {needs.asset}")
    out.print(head(f"Preview · {decided.strategy} · policy {decided.policy}"))
    out.print(line("job", "", f"{task}, {needs.complexity}"))
    for why in needs.why:
        out.print(line("", "", why, "dim"))
    if decided.ranking:
        out.print(line("goes to", "bold green", named(decided.ranking[0]), "bold green"))
        out.print(line("because", "cyan", decided.reason))
    elif decided.gave_up is not None:
        out.print(line("would fail", "red", decided.gave_up.message))
    else:
        out.print(
            line("would wait", "yellow", f"nobody may run it now; it looks again after {seconds(decided.wait_seconds)}")
        )
    if decided.ranking or decided.others:
        out.print(Padding(Candidates(decided), (1, 0, 1, 2)))
    for candidate in decided.ranking:
        for change in candidate.changes:
            out.print(line("adjusted", "yellow", f"{named(candidate)}: {change}"))
    left = seconds(decided.slip.deadline_at - decided.at)
    tail = f"; the deadline is assumed to be {left} away, whatever --deadline says" if deadline else ""
    err.print(f"no job was created{tail}", style="dim")


# ------------------------------------------------------------------------- shared by estimate, recommend and quote


def submission(
    prompt: Sequence[str], job: Job | None, picture: Picture | None = None, *, assumed: str = ""
) -> JobSubmit:
    """The submission that the words and flags describe; `assumed` is its text when they give none. Raises Wrong."""
    wish = job or Job()
    words = prompt[0] if len(prompt) == 1 else " ".join("-" if word == STDIN else word for word in prompt)
    if words and wish.prompt:
        raise Wrong("the text is given twice, as arguments and with --prompt", "leave one of them out")
    text, fields = words or wish.prompt, fields_of(wish, picture)
    if "graph" in fields:
        assumed = ""
    if text == STDIN or not (text or assumed or "graph" in fields or _keyboard()):
        text = _read_stdin()
    if not text.strip() and assumed:
        text = assumed
        err.print(f"no text is given: {assumed!r} is assumed", style="dim")
    if not text.strip() and "graph" not in fields:
        raise Wrong("there is no prompt", "give the text as an argument")
    try:
        return job_of({**fields, "prompt": text})
    except ValueError as error:
        raise Wrong(str(error)) from None


def _keyboard() -> bool:
    return sys.stdin is None or sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except OSError:  # Closed, or not to be read: the same as nothing.
        return ""
    except UnicodeDecodeError as error:
        raise Wrong(f"standard input: it is not UTF-8 text: {error}") from None


async def needs_of(bus: Bus, submit: JobSubmit) -> Needs:
    """What the job needs, as the analyzer understands it. Raises Complaint when it would be rejected."""
    answer = await ask(bus, NeedsOf(submit=submit), NeedsAre)
    if answer.needs is None:
        raise refusal(answer.problem)
    return answer.needs


def refusal(problem: Problem | None) -> Complaint:
    """A problem as a complaint: wrong usage when the question was wrong."""
    if problem is None:
        return Complaint("the answer is empty: another version of turnout runs on this bus")
    return Wrong(problem.message) if problem.reason == "invalid" else Complaint(problem.message)
