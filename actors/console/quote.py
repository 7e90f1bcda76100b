"""`turnout quote`: what would this job cost, and when would it be done? Nothing is submitted."""

from __future__ import annotations

from actors.console.app import play
from actors.console.decide import Words, needs_of, refusal, submission
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.rounds import line
from actors.console.screen import OK, dollars, err, out, seconds
from actors.console.submit import Job, Picture
from messages import JobSubmit, QuoteIs, QuoteOf, Range


def quote(
    *prompt: Words, output: Output = TEXT, job: Job | None = None, picture: Picture | None = None, where: Where = HERE
) -> int:
    """Tell what a job would cost now, when it would be done, and who would be next. No job is created.

    Exit codes: 0 fine, 1 nobody may run it, 2 wrong usage, 3 no bus.
    """
    return play(_quote(submission(prompt, job, picture), where, output))


async def _quote(submit: JobSubmit, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        question = QuoteOf(tenant=submit.tenant, needs=await needs_of(bus, submit))
        answer = await ask(bus, question, QuoteIs)
    if answer.problem is not None:
        raise refusal(answer.problem)
    if output.machine:
        output.one(answer)
    else:
        show(answer)
    return OK


def show(answer: QuoteIs) -> None:
    """The quote in a few lines."""
    out.print(line("goes to", "bold green", f"{answer.backend}/{answer.model}", "bold green"))
    out.print(line("price", "cyan", price(answer.price_microdollars)))
    included = [
        f"{seconds(value)} of it {what}"
        for value, what in ((answer.wait_seconds, "behind other jobs"), (answer.switch_seconds, "to load the model"))
        if value > 0
    ]
    out.print(line("done after", "cyan", ", ".join([time(answer.seconds), *included])))
    for change in answer.changes:
        out.print(line("adjusted", "yellow", change))
    if answer.runner_up:
        said = f"{answer.runner_up}: {price(answer.runner_up_price_microdollars)}, {time(answer.runner_up_seconds)}"
        out.print(line("next", "", said))
    else:
        out.print(line("next", "yellow", "nobody else may run it"))
    err.print("no job was created; 8 in 10 such jobs end within the times above", style="dim")


def price(found: Range | None) -> str:
    """`free`, `$0.007`, `$0.00003 to $0.00012`, or that it is not known."""
    if found is None:
        return "not known"
    low, high = dollars(found.low), dollars(found.high)
    return low if low == high else f"{low} to {high}"


def time(found: Range | None) -> str:
    """`4.6 s to 21.6 s`."""
    return "-" if found is None else f"{seconds(found.low)} to {seconds(found.high)}"
