"""`turnout why`: the whole story of one job, from the stream."""

from __future__ import annotations

import difflib
from typing import Annotated

import msgspec
from cyclopts import Parameter

from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.screen import OK, Complaint, out
from actors.console.story import tell
from bus import codec
from bus.bus import Bus, Headers, Record
from messages import JobsAre, JobsOf, Message, token


def why(
    job: Annotated[str, Parameter(help="Its id; without one, the latest job.")] = "",
    *,
    tenant: Annotated[str, Parameter(help="Whose job it is.")] = "default",
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], help="Every reason.", negative="")] = False,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Tell why a job went where it went: needs, candidates, attempts with their errors, cost."""
    return play(_why(job, tenant, where, output, verbose=verbose))


async def _why(job: str, tenant: str, where: Where, output: Output, *, verbose: bool) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        wanted = job or await _latest(bus, tenant)
        records = await events_of(bus, tenant, wanted)
        if not records:
            raise await _unknown(bus, tenant, wanted)
        if output.machine:
            output.rows(map(as_told, records))
            return OK
        out.print(f"Job {wanted} of tenant {tenant}", style="bold", soft_wrap=True)
        for part in tell(decoded(records), verbose=verbose, now=bus.now()):
            out.print(part)
        return OK


def as_told(record: Record) -> dict[str, object]:
    """A stored event with where and when it was stored."""
    event = as_event(record.data, record.headers)
    return {"subject": record.subject, "seq": record.seq, "time": record.time, "event": event}


def as_event(data: bytes, headers: Headers) -> msgspec.Raw:
    """An event as it is stored, as JSON."""
    return msgspec.Raw(codec.as_json(data, headers))


async def events_of(bus: Bus, tenant: str, job: str) -> list[Record]:
    """The stored events of a job in the order of their storing."""
    place = f"{token(tenant)}.{token(job)}"
    found = [record async for record in bus.read("EV", f"ev.*.{place}")]
    found += [record async for record in bus.read("EV", f"ev.*.{place}.*")]
    return sorted(found, key=lambda record: record.seq)


def decoded(records: list[Record]) -> list[Message]:
    """The events that this version understands."""
    events: list[Message] = []
    for record in records:
        kind = codec.type_at(record.subject)
        if kind is not None:
            try:
                events.append(codec.decode(kind, record.data, record.headers))
            except codec.Undecodable:
                continue  # From a newer version.
    return events


async def _latest(bus: Bus, tenant: str) -> str:
    answer = await ask(bus, JobsOf(tenant=tenant, limit=1), JobsAre)
    if not answer.jobs:
        raise Complaint(f"tenant {tenant!r} has no job yet", hint="turnout submit 'write a haiku about trains'")
    return answer.jobs[0].job


async def _unknown(bus: Bus, tenant: str, job: str) -> Complaint:
    text = f"there is no job {job!r} of tenant {tenant!r} (events are kept for 7 days)"
    try:
        answer = await ask(bus, JobsOf(limit=1000), JobsAre)
    except Complaint:
        return Complaint(text, hint="`turnout jobs` lists the latest ones")
    others = [row.tenant for row in answer.jobs if row.job == job]
    if others:
        return Complaint(text, hint=f"turnout why {job} --tenant {others[0]}")
    close = difflib.get_close_matches(job, [row.job for row in answer.jobs if row.tenant == tenant], n=1)
    return Complaint(text, hint=f"did you mean {close[0]}?" if close else "`turnout jobs` lists the latest ones")
