"""`turnout verify`: every decision derived again from its stored event, and where one differs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from actors import node
from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, reach
from actors.console.screen import FAILED, OK, Complaint, Wrong, clean, count, err, out
from bus import codec
from bus.bus import Bus, BusError, Record
from messages import Candidate, Decided

PROGRESS_EVERY = 1_000
"""Decisions after which a line tells how far it is."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with one decision."""

    tenant: str
    job: str
    n: int
    """Its round; 0: the event can't even be read."""
    seq: int
    """Sequence of its event in the stream `EV`."""
    what: str
    """`differs`: not what follows from what it says was seen. `underivable`: something it was made from is missing."""
    text: str
    """The first difference as `path: stored X, derived Y`, or what is missing."""


class Verified(msgspec.Struct):
    """The outcome over many decisions."""

    decisions: int = 0
    """How many were looked at."""
    candidates: int = 0
    """How many candidates they had."""
    differ: int = 0
    underivable: int = 0

    @property
    def identical(self) -> int:
        """Decisions that came out byte for byte."""
        return self.decisions - self.differ - self.underivable


def verify(
    *jobs: Annotated[str, Parameter(help="Their ids.")],
    everything: Annotated[bool, Parameter(name="--all", help="Every stored decision.", negative="")] = False,
    tenant: Annotated[str, Parameter(help="Whose jobs. [default; with --all every tenant's]")] = "",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Derive decisions again from their stored events alone, and name the first difference of each."""
    if everything == bool(jobs):
        raise Wrong("verify needs jobs, or --all" if not jobs else "--all and single jobs don't go together")
    _, strategies = node.routing(os.environ)
    return play(_verify(jobs, tenant, where, strategies, output))


async def _verify(jobs: Sequence[str], tenant: str, where: Where, strategies: Mapping[str, Any], output: Output) -> int:
    machine, told = output.machine, list[Finding]()
    async with reach(where) as bus:
        await check_there(bus)
        total = Verified()
        for job in jobs or ("",):
            before = total.decisions
            whose = tenant or ("default" if job else "")
            async for finding in findings(bus, strategies, total, tenant=whose, job=job):
                if finding is not None:
                    told.append(finding)
                    if output.output == "jsonl":
                        output.one(finding)
                    elif not machine:
                        _tell(finding)
                if not machine and total.decisions % PROGRESS_EVERY == 0:
                    err.print(f"{count(total.decisions, 'decision')} …", style="dim")
            if job and total.decisions == before:
                raise Complaint(
                    f"there is no decision about the job {job!r} of tenant {whose!r} (events are kept for 7 days)",
                    hint="`turnout jobs` lists the latest ones; --tenant names another tenant",
                )
    if machine:
        sums = {**msgspec.structs.asdict(total), "identical": total.identical}
        output.one(sums if output.output == "jsonl" else {**sums, "findings": told})
    else:
        out.print(in_words(total), style="bold green" if total.identical == total.decisions else "bold red")
    return OK if total.identical == total.decisions else FAILED


def in_words(total: Verified) -> str:
    """The outcome in one line."""
    if not total.decisions:
        return "there is no decision yet"
    if total.identical == total.decisions:
        return f"{count(total.decisions, 'decision')}, {count(total.candidates, 'candidate')}: all derive identically"
    bad = [f"{total.differ:,} differ"] if total.differ else []
    bad += [f"{total.underivable:,} can't be derived here"] if total.underivable else []
    return f"{count(total.decisions, 'decision')}: {total.identical:,} derive identically, {', '.join(bad)}"


async def findings(
    bus: Bus, strategies: Mapping[str, Any], total: Verified, *, tenant: str = "", job: str = ""
) -> AsyncIterator[Finding | None]:
    """What is wrong with each stored decision, in order (None: nothing): of all jobs, of one tenant's, or of one job.

    `total` counts them.
    """
    known = {key: value for key, value in (("tenant", tenant), ("job", job)) if value}
    async for record in bus.read(Decided.channel.stream, Decided.channel.key_of(**known)):
        yield await examine(bus, record, strategies, total)


async def examine(bus: Bus, record: Record, strategies: Mapping[str, Any], total: Verified) -> Finding | None:
    """Derive one stored decision again and count it; what is wrong with it, or None."""
    total.decisions += 1
    try:
        decided = codec.decode(Decided, record.data, record.headers)
    except codec.Undecodable as error:
        total.differ += 1
        return Finding(tenant="", job=record.subject, n=0, seq=record.seq, what="differs", text=str(error))
    what = "differs"
    try:
        beside = await _beside(bus, decided)
        total.candidates += len(beside) or len(decided.ranking) + len(decided.others)
        text = _misplaced(decided, record) or node.verify.check(decided, beside, strategies=strategies)
    except _Forged as forged:
        text = str(forged)
    except node.verify.Underivable as missing:
        what, text = "underivable", str(missing)
    if not text:
        return None
    if what == "differs":
        total.differ += 1
    else:
        total.underivable += 1
    return Finding(tenant=decided.tenant, job=decided.job, n=decided.n, seq=record.seq, what=what, text=text)


class _Forged(Exception):
    """The candidates beside the event are not those it names."""


def _misplaced(decided: Decided, record: Record) -> str:
    """Whether an event lies on another subject than its own."""
    return (
        "" if decided.subject == record.subject else f"subject: stored {record.subject!r}, derived {decided.subject!r}"
    )


async def _beside(bus: Bus, decided: Decided) -> tuple[Candidate, ...]:
    """All candidates of a decision that left some out of its event. Raises Underivable and _Forged."""
    ref = decided.everything
    if ref is None:
        return ()
    try:
        data = await bus.get_object(ref.key)
    except BusError as error:
        raise _Forged(f"everything: {error}") from None
    if data is None:
        raise node.verify.Underivable(f"its candidates, kept as {ref.key}, are not there any more")
    digest = hashlib.sha256(data).hexdigest()
    if digest != ref.sha256:
        raise _Forged(f"everything.sha256: stored {ref.sha256!r}, derived {digest!r}")
    try:
        return msgspec.json.decode(data, type=tuple[Candidate, ...])
    except msgspec.DecodeError as error:
        raise _Forged(f"everything: {error}") from None


def _tell(finding: Finding) -> None:
    where = f"{finding.tenant}/{finding.job} round {finding.n}" if finding.n else finding.job
    out.print(clean(f"{where}: {finding.text}"), style="red" if finding.what == "differs" else "yellow", soft_wrap=True)
