"""`turnout estimate`: what would so many jobs cost, and when would the last be done? Nothing is submitted."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.decide import Words, needs_of, refusal, submission
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.screen import FAILED, OK, Wrong, clean, count, dollars, out, seconds
from actors.console.submit import Job, Picture
from actors.console.tables import Cells, show
from messages import EstimateIs, EstimateOf, JobSubmit, Share

FOLD = {"backend": 16, "model": 16}
ASSUMED = "Describe a landscape at dawn in three sentences."
"""The text of jobs that are given none."""


def estimate(
    *prompt: Words,
    jobs: Annotated[int | None, Parameter(help="How many; with --split, what it adds up to.")] = None,
    split: Annotated[str, Parameter(help="Who does how many, such as local=850,cloud=150. [the best]")] = "",
    output: Output = TEXT,
    job: Job | None = None,
    picture: Picture | None = None,
    where: Where = HERE,
) -> int:
    """Tell what so many jobs of this kind cost and how long they take, split as given or as is best.

    Exit codes: 0 fine, 1 nobody may run them, 2 wrong usage, 3 no bus.
    """
    parts = parts_of(split)
    number = sum(parts.values()) if jobs is None and parts else jobs
    if number is None:
        raise Wrong("--jobs is missing: how many jobs are they?", "turnout estimate --jobs 1000")
    submit = submission(prompt, job, picture, assumed=ASSUMED)
    return play(ask_estimate(submit, where, jobs=number, split=parts, output=output))


def parts_of(text: str) -> dict[str, int]:
    """`local=850,cloud=150` as a mapping. Raises Wrong."""
    parts: dict[str, int] = {}
    for piece in text.split(",") if text.strip() else ():
        name, equals, number = (word.strip() for word in piece.partition("="))
        if not name or not equals or not number.isdecimal():
            raise Wrong(
                f"--split has {piece.strip()!r}: write BACKEND=JOBS with a whole number, such as local=850,cloud=150"
            )
        if name in parts:
            raise Wrong(f"--split has {name!r} twice: give each backend one number")
        parts[name] = int(number)
    return parts


async def ask_estimate(
    submit: JobSubmit,
    where: Where,
    *,
    jobs: int,
    split: dict[str, int] | None = None,
    budget: int | None = None,
    output: Output = TEXT,
) -> int:
    """Ask for an estimate and show it; the exit code."""
    async with reach(where) as bus:
        await check_there(bus)
        question = EstimateOf(
            tenant=submit.tenant,
            needs=await needs_of(bus, submit),
            jobs=jobs,
            split=split or {},
            budget_microdollars=budget,
        )
        answer = await ask(bus, question, EstimateIs)
    if answer.problem is not None:
        raise refusal(answer.problem)
    if output.machine:
        output.one(answer)
    else:
        tell(answer, jobs, wide=output.wide)
    return FAILED if answer.left_over else OK


def tell(answer: EstimateIs, jobs: int, *, wide: bool = False) -> None:
    """The parts as a table, the sums, and what one should know."""
    placed = jobs - answer.left_over
    if answer.shares:
        out.print()
        show(
            _shares(answer.shares, jobs),
            right=("jobs", "part", "cost", "done after"),
            fold=FOLD,
            drop=("part",),
            wide=wide,
        )
        out.print()
    total = f"{count(placed, 'job')}: {dollars(answer.cost_microdollars)}"
    done = f", the last is done after {seconds(answer.seconds)}" if placed else ""
    out.print(Text(total + done, "bold"), soft_wrap=True)
    if answer.left_over:
        out.print(Text(f"{count(answer.left_over, 'job')} left over: the budget does not pay for them", "yellow"))
    for note in answer.notes:
        out.print(Text(f"· {clean(note)}", "dim"), soft_wrap=True)


def _shares(shares: tuple[Share, ...], jobs: int) -> Cells:
    return {
        "backend": [Text(clean(share.backend), "bold") for share in shares],
        "model": [clean(share.model) for share in shares],
        "jobs": [f"{share.jobs:,}" for share in shares],
        "part": [f"{share.jobs / jobs:.1%}" for share in shares],
        "cost": [dollars(share.cost_microdollars) for share in shares],
        "done after": [seconds(share.seconds) for share in shares],
    }
