"""`turnout recommend`: how are so many jobs best spread, within a budget? Nothing is submitted."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from actors.console.app import play
from actors.console.decide import Words, submission
from actors.console.estimate import ASSUMED, ask_estimate
from actors.console.intake import microdollars
from actors.console.output import TEXT, Output
from actors.console.reach import HERE, Where
from actors.console.submit import Job, Picture


def recommend(
    *prompt: Words,
    jobs: Annotated[int, Parameter(help="How many.", required=True)],
    budget: Annotated[
        str, Parameter(help="What all of them may cost together in dollars, such as 1.00.", required=True)
    ],
    output: Output = TEXT,
    job: Job | None = None,
    picture: Picture | None = None,
    where: Where = HERE,
) -> int:
    """Recommend who should do how many of these jobs, so that price and waiting cost least and the budget is kept.

    Exit codes: 0 fine, 1 the budget does not pay for all or nobody may run them, 2 wrong usage, 3 no bus.
    """
    limit = microdollars(budget, "--budget")
    submit = submission(prompt, job, picture, assumed=ASSUMED)
    return play(ask_estimate(submit, where, jobs=jobs, budget=limit, output=output))
