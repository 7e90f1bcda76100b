"""The command `turnout demo`: a fleet of simulated backends, sixty jobs, and one backend that dies in the middle of it."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from actors.console.output import TEXT, Output


def demo(
    *,
    jobs: Annotated[int, Parameter(help="How many jobs to submit.")] = 60,
    pace: Annotated[float, Parameter(help="Seconds between two jobs.")] = 0.33,
    output: Output = TEXT,
) -> None:
    """Watch jobs being routed among three simulated backends while one of them dies and comes back.

    Everything runs in this process, beside a nats-server of its own that is gone afterwards. Backends, models, prices and
    speeds are made up; routing, failover and bookkeeping are real. Takes about half a minute. The exit code is 1 when a
    job was lost or ended twice.
    """
    from scenarios.demo import story  # noqa: PLC0415 - importing it takes longer than `turnout --help` should

    if jobs < 1 or not 0 <= pace <= 60:
        print(f"turnout demo: jobs is {jobs} and pace {pace:g}; use 1 or more jobs, 0 to 60 seconds", file=sys.stderr)
        raise SystemExit(2)
    code = story.main(jobs, pace, output)
    if code:
        raise SystemExit(code)
