"""`turnout rate`: what a result was worth, so that the choice of backends learns from it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, reach
from actors.console.rebalance import user
from actors.console.screen import FAILED, OK, Complaint, Wrong, clean, err, out
from bus import codec
from bus.bus import Bus, Signal
from messages import Analyzed, Done, JobRate, Refused, token

PATIENCE_SECONDS = 1.0
"""A rating that is refused is refused within this time; one that counts is answered by nobody."""
LEAST, MOST = 1.0, 5.0


class Rated(msgspec.Struct, frozen=True):
    """A rating that counts."""

    job: str
    tenant: str
    score: float
    rater: str
    backend: str
    """What made the result; empty: it has not ended yet."""
    model: str


def rate(
    job: Annotated[str, Parameter(help="Id of the job.")],
    score: Annotated[float, Parameter(help="1 (useless) to 5 (excellent).")],
    *,
    by: Annotated[str, Parameter(help="Who rates; the last word of each counts. [your user name]")] = "",
    tenant: Annotated[str, Parameter(help="Whose job it is.")] = "default",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Rate the result of a job. It counts for the backend and model that made it, for this kind of work.

    A rating may come before the job has ended: it counts once that succeeds. Exit codes: 0 it counts, 1 it was refused,
    2 wrong usage, 3 no bus.
    """
    if not LEAST <= score <= MOST:
        raise Wrong(f"SCORE is {score:g}: use {LEAST:g} (useless) to {MOST:g} (excellent)", f"turnout rate {job} 4")
    return play(_rate(JobRate(tenant=tenant, job=job, score=score, rater=by or user()), where, output))


async def _rate(rating: JobRate, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        refused = await _said(bus, rating)
        record = await bus.last("EV", Done.channel.key_of(tenant=rating.tenant, job=rating.job))
        done = codec.decode(Done, record.data, record.headers) if record else None
    if refused is not None:
        raise Complaint(refused.problem.message, hint="`turnout jobs` lists the latest ones", code=FAILED)
    made = (done.backend, done.model) if done is not None else ("", "")
    told = Rated(rating.job, rating.tenant, rating.score, rating.rater, *made)
    if output.machine:
        output.one(told)
        return OK
    what = f" for {told.backend}/{told.model}" if told.backend else "; it counts once the job has succeeded"
    out.print(
        Text.assemble((clean(told.job), "bold"), clean(f": {told.score:g} of 5 by {told.rater}{what}")), soft_wrap=True
    )
    if done is None:
        err.print("the job has not ended yet", style="dim")
    return OK


async def _said(bus: Bus, rating: JobRate) -> Refused | None:
    """Say it; how it was refused, or None."""
    if await bus.last("EV", Analyzed.channel.key_of(tenant=rating.tenant, job=rating.job)) is None:
        raise Complaint(
            f"there is no job {rating.job!r} of tenant {rating.tenant!r}", hint="`turnout jobs` lists the latest ones"
        )
    heard: asyncio.Queue[Refused] = asyncio.Queue()

    async def on_signal(signal: Signal) -> None:
        refused = codec.decode(Refused, signal.data, signal.headers)
        if refused.word == "rate":
            heard.put_nowait(refused)

    key = Refused.channel.key_of(tenant=rating.tenant, job=rating.job).removeprefix("ev")
    hearing = await bus.subscribe(f"job{key}", on_signal)
    name = f"rate/{token(rating.tenant)}/{token(rating.job)}/{token(rating.rater)}/{bus.now():.3f}"
    await bus.publish(rating.subject, codec.encode(rating), msg_id=name)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await heard.get()
    except TimeoutError:
        return None
    finally:
        await hearing.stop()
