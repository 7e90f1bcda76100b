"""`turnout cancel`: ask for the end of jobs, by their ids, or of all that match."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Annotated, get_args

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.endings import end_line
from actors.console.follow import Track
from actors.console.lists import STATES, Open, matching, states_of
from actors.console.output import TEXT, Output
from actors.console.publish import cancel_job, check_there
from actors.console.reach import HERE, Where, reach
from actors.console.screen import FAILED, OK, Complaint, Wrong, clean, count, err
from bus import codec
from bus.bus import Bus, Signal
from messages import Analyzed, Done, JobsOf

PATIENCE_SECONDS = 5.0
AT_ONCE = 32
MOST = 1_000_000
FILTERS = ("state", "batch", "backend", "tenant")


class Cancelled(msgspec.Struct, frozen=True):
    """What became of cancelling one job."""

    job: str
    tenant: str
    ending: str
    """How it ended; empty: nobody has answered yet."""
    before: bool
    """It had ended before."""


def cancel(
    *jobs: Annotated[str, Parameter(help="Ids of the jobs.")],
    everything: Annotated[
        bool, Parameter(name="--all", help="All that have not ended and match.", negative="")
    ] = False,
    filters: Annotated[
        tuple[str, ...],
        Parameter(
            name="--filter", help="With --all: state=held, batch=LABEL, backend=NAME or tenant=NAME; may be repeated."
        ),
    ] = (),
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="With --all: do not ask.", negative="")] = False,
    tenant: Annotated[str, Parameter(help="Whose jobs they are. [default]")] = "",
    reason: Annotated[str, Parameter(help="Kept with the job.")] = "cancelled by the client",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Cancel jobs; one that has ended already stays as it is. With --all it says first how many they are, and asks.

    Exit codes: 0 they have ended as cancelled, 1 some have not, 2 wrong usage, 3 no bus.
    """
    if everything == bool(jobs):
        raise Wrong("cancel needs jobs, or --all" if not jobs else "--all and single jobs don't go together")
    if (filters or yes) and not everything:
        raise Wrong("--filter and --yes are for --all")
    if not everything:
        return play(_cancel([(tenant or "default", job) for job in jobs], reason, where, output))
    return play(_cancel_all(question_of(filters, tenant), reason, where, output, sure=yes))


def question_of(filters: tuple[str, ...], tenant: str) -> JobsOf:
    """Which open jobs are meant. Raises Wrong."""
    found: dict[str, list[str]] = {}
    for text in filters:
        name, equals, value = text.partition("=")
        if name not in FILTERS or not equals or not value:
            raise Wrong(f"--filter is {text!r}", "one of state=, batch=, backend=, tenant=, as in: --filter state=held")
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        if name != "state" and len(values) > 1:
            raise Wrong(f"--filter has {name} twice: use one")
    states = found.pop("state", ["open"])
    for state in states:
        if state not in (*get_args(Open), "open"):
            raise Wrong(
                f"--filter state is {state!r}: use {', '.join(STATES)} or open; what has ended can't be cancelled"
            )
    if tenant and found.get("tenant", [tenant]) != [tenant]:
        raise Wrong("--tenant and --filter tenant= name different ones")
    plain = {name: values[0] for name, values in found.items()}
    whose = plain.pop("tenant", tenant)
    return JobsOf(tenant=whose, states=states_of(tuple(states)), limit=MOST, **plain)  # pyright: ignore[reportArgumentType]


async def _cancel_all(question: JobsOf, reason: str, where: Where, output: Output, *, sure: bool) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        rows = [row async for row in matching(bus, question)]
    if not rows:
        err.print("no job matches")
        if output.machine:
            output.rows(())
        return OK
    states = Counter(row.state for row in rows)
    listed = ", ".join(f"{states[state]:,} {state}" for state in STATES if states[state])
    err.print(Text(clean(f"{count(len(rows), 'job')} will be cancelled: {listed}"), "bold"))
    if not sure and not _agreed():
        return FAILED
    return await _cancel([(row.tenant, row.job) for row in rows], reason, where, output)


def _agreed() -> bool:
    """Whether the person in front of the screen wants it. Raises Wrong where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        raise Wrong("nothing is cancelled: nobody is there to be asked", "--yes cancels them without asking")
    err.print("Cancel them? [y/N] ", end="", style="bold")
    try:
        return input().strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False


async def _cancel(jobs: list[tuple[str, str]], reason: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        free = asyncio.Semaphore(AT_ONCE)

        async def one(tenant: str, job: str) -> tuple[Cancelled, Done | None]:
            async with free:
                return await _cancel_one(bus, tenant, job, reason)

        found = await asyncio.gather(*(one(*job) for job in jobs))
    if output.machine:
        output.rows(told for told, _ in found)
    for told, done in found if not output.machine else ():
        _tell(told, done)
    return OK if all(told.ending == "cancelled" for told, _ in found) else FAILED


def _tell(told: Cancelled, done: Done | None) -> None:
    if done is None:
        text = f"{told.job}: asked for; nobody has answered yet, `turnout why {told.job}` tells later"
        err.print(text, style="yellow", soft_wrap=True)
        return
    line = end_line(Track(told.tenant, told.job, done=done), with_id=True)
    err.print(Text.assemble("had ended before: ", line) if told.before else line, soft_wrap=True)


async def _cancel_one(bus: Bus, tenant: str, job: str, reason: str) -> tuple[Cancelled, Done | None]:
    """What became of it, and its end."""
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
    return Cancelled(job, tenant, done.ending if done is not None else "", before is not None), done


async def _done(bus: Bus, tenant: str, job: str) -> Done | None:
    record = await bus.last("EV", Done.channel.key_of(tenant=tenant, job=job))
    return codec.decode(Done, record.data, record.headers) if record else None
