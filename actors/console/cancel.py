"""`turnout cancel`: ask for the end of jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.endings import end_line
from actors.console.follow import Track
from actors.console.publish import cancel_job, check_there
from actors.console.reach import HERE, Where, reach
from actors.console.screen import FAILED, OK, Complaint, err
from bus import codec
from bus.bus import Bus, Signal
from messages import Analyzed, Done

PATIENCE_SECONDS = 5.0


def cancel(
    *jobs: Annotated[str, Parameter(help="Ids of the jobs.", required=True)],
    tenant: Annotated[str, Parameter(help="Whose jobs they are.")] = "default",
    reason: Annotated[str, Parameter(help="Kept with the job.")] = "cancelled by the client",
    where: Where = HERE,
) -> int:
    """Cancel jobs; one that has ended already stays as it is."""
    return play(_cancel(jobs, tenant, reason, where))


async def _cancel(jobs: tuple[str, ...], tenant: str, reason: str, where: Where) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        ended = [await _cancel_one(bus, tenant, job, reason) for job in jobs]
    return OK if all(ended) else FAILED


async def _cancel_one(bus: Bus, tenant: str, job: str, reason: str) -> bool:
    """Whether the job ended as cancelled, now or before."""
    before = await _done(bus, tenant, job)
    if before is None:
        if await bus.last("EV", Analyzed.channel.key_of(tenant=tenant, job=job)) is None:
            text = f"there is no job {job!r} of tenant {tenant!r}"
            raise Complaint(text, hint="`turnout jobs` lists the latest ones")
        heard = asyncio.Event()

        async def on_done(_: Signal) -> None:
            heard.set()

        hearing = await bus.subscribe("job" + Done.channel.key_of(tenant=tenant, job=job).removeprefix("ev"), on_done)
        await cancel_job(bus, tenant, job, reason)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await heard.wait()
        except TimeoutError:
            pass
        await hearing.stop()
    done = before or await _done(bus, tenant, job)
    if done is None:
        err.print(f"{job}: asked for; nobody has answered yet, `turnout why {job}` tells later", style="yellow")
        return False
    line = end_line(Track(tenant, job, done=done), with_id=True)
    err.print(Text.assemble("had ended before: ", line) if before else line, soft_wrap=True)
    return done.ending == "cancelled"


async def _done(bus: Bus, tenant: str, job: str) -> Done | None:
    record = await bus.last("EV", Done.channel.key_of(tenant=tenant, job=job))
    return codec.decode(Done, record.data, record.headers) if record else None
