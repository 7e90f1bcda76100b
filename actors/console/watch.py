"""`turnout watch`: decisions, reroutes, explanations and ends as they happen, a line each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from actors.console.app import play
from actors.console.endings import MOST_WAITS, end_line, reroute_line, step_in_words
from actors.console.follow import Track
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, reach
from actors.console.rounds import plain
from actors.console.screen import OK, clean, clock, count, err, fitted, out, seconds
from actors.console.stop import Stop
from actors.console.story import billed, needs_in_words
from actors.console.why import as_event
from actors.course import cause_in_words, hold_in_words, wait_in_words
from bus import codec
from bus.bus import Bus, Signal
from messages import (
    Alert,
    Analyzed,
    Attempted,
    Backend,
    Breaker,
    Decided,
    Done,
    Explained,
    Granted,
    Held,
    Message,
    Progress,
    Refused,
    Rerouted,
    Retry,
    token,
)

_JOBS_KEPT = 10_000
"""Jobs whose last step is remembered."""


def watch(
    *,
    tenant: Annotated[str, Parameter(help="Only this tenant's jobs. [all]")] = "",
    job: Annotated[str, Parameter(help="Only this job.")] = "",
    verbose: Annotated[
        bool, Parameter(name=["--verbose", "-v"], help="All candidates and reasons.", negative="")
    ] = False,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Show what happens to jobs and backends, as it happens. Ctrl-C ends it."""
    return play(_watch(tenant, job, where, output, verbose=verbose))


async def _watch(tenant: str, job: str, where: Where, output: Output, *, verbose: bool) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        stop = Stop()
        opened: dict[tuple[str, str], int] = {}

        steps = Steps()
        told = output.stream()

        unheard = False  # Whoever read our output has had enough.

        async def on_signal(signal: Signal) -> None:
            nonlocal unheard
            try:
                show(signal)
            except (BrokenPipeError, SystemExit):  # The second is how the screen's library says so.
                unheard = True
                stop.wanted.set()

        def show(signal: Signal) -> None:
            kind = codec.type_at(signal.subject)
            if kind is None:
                return
            if output.machine:
                event = as_event(signal.data, signal.headers)
                told.put({"subject": signal.subject, "time": bus.now(), "event": event})
                return
            try:
                event = codec.decode(kind, signal.data, signal.headers)
            except codec.Undecodable as error:
                err.print(f"{signal.subject}: not understood: {fitted(str(error))}", style="yellow", soft_wrap=True)
                return
            if isinstance(event, Breaker):
                if opened.get((event.backend, event.model), 0) == event.times_opened:
                    return  # Told already.
                opened[event.backend, event.model] = event.times_opened
            if isinstance(event, Progress) and not steps.tells(event):
                return
            for line in lines(event, now=bus.now(), verbose=verbose):
                out.print(line, soft_wrap=True)

        who, what = (token(text) if text else "*" for text in (tenant, job))
        for pattern in (f"job.*.{who}.{what}", f"job.*.{who}.{what}.*"):
            await bus.subscribe(pattern, on_signal)
        if not job:
            for kind in (Backend, Breaker):
                await bus.subscribe(kind.channel.public, on_signal)
        err.print("watching; Ctrl-C ends it", style="dim")
        _tell_gaps(bus)
        await stop.wanted.wait()
        if unheard:
            raise BrokenPipeError
        told.close()
    return OK


def _tell_gaps(bus: Bus) -> None:
    async def on_reconnect() -> None:
        await asyncio.sleep(0)
        err.print("the connection was lost for a moment: some events may be missing here", style="yellow")

    bus.on_reconnect(on_reconnect)


class Steps:
    """Which steps of running jobs are worth a line: a new stage, or a tenth more of the work."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[int, str, int]] = {}

    def tells(self, step: Progress) -> bool:
        """Whether this one is news."""
        key, tenth = (step.tenant, step.job), int((step.share or 0.0) * 10)
        before = self._told.get(key)
        if before is not None and before[0] == step.n and step.stage == before[1] and tenth <= before[2]:
            return False
        self._told.pop(key, None)
        self._told[key] = (step.n, step.stage, tenth)
        if len(self._told) > _JOBS_KEPT:
            del self._told[next(iter(self._told))]
        return True


def lines(event: Message, *, now: float, verbose: bool = False) -> Iterator[RenderableType]:
    """What to show of one event: a line, and more of them when `verbose`."""
    match event:
        case Decided():
            yield from _decided(event, verbose=verbose)
        case Rerouted():
            yield _line(event.at, event.job, reroute_line(event))
        case Held():
            said = f"held for {hold_in_words(event)}; {event.problem.message}"
            yield _line(event.at, event.job, Text(fitted(said, MOST_WAITS), "bold yellow"))
        case Retry() if event.not_before > event.at and (event.awaiting or verbose):
            why = f"; {cause_in_words(event)}" if event.cause.reason == "no_backend" else ""  # Else it was told before.
            yield _line(
                event.at, event.job, Text(fitted(f"waits for {wait_in_words(event)}{why}", MOST_WAITS), "yellow")
            )
        case Done():
            yield _line(event.at, event.job, end_line(Track(event.tenant, event.job, done=event)))
        case Refused():
            yield _line(event.at, event.job, Text(f"✘ {event.word} refused  {fitted(event.problem.message)}", "red"))
        case Alert():
            style = "red" if event.severity == "alert" else "yellow"
            yield _line(event.at, event.kind, Text(fitted(event.text, 300), style))
        case Explained() if verbose:
            for reason in event.reasons:
                yield _line(None, "", Text(fitted(reason.text), "dim"))
            for suggestion in event.suggestions:
                yield _line(None, "", Text(fitted(f"hint: {suggestion}"), "magenta"))
        case Analyzed() if event.slip and event.slip.needs.remarks and not verbose:
            for remark in event.slip.needs.remarks:
                yield _line(event.at, event.job, Text(fitted(remark, 300), "yellow"))
        case Analyzed() if verbose and event.slip:
            yield _line(event.at, event.job, Text(f"needs {needs_in_words(event.slip.needs)}", "dim"))
        case Granted() if event.skipped or (verbose and event.verdict == "candidate"):
            passed = "; ".join(f"{skipped.backend}: {skipped.reason}" for skipped in event.skipped)
            said = f"passed over {passed}" if passed else f"granted {event.backend}"
            yield _line(event.at, event.job, Text(fitted(said), "yellow" if passed else "dim"))
        case Attempted() if verbose or event.outcome != "ok":
            why = fitted(event.problem.message, 300) if event.problem else billed(event)
            style = "dim" if event.outcome == "ok" else "red"
            yield _line(
                event.at, event.job, Text(f"{event.outcome} after {seconds(event.latency_seconds)}: {why}", style)
            )
        case Progress() if event.stage in ("queued", "loading", "working"):
            yield _line(now, event.job, Text(f"{clean(event.backend)} {step_in_words(event)}", "dim"))
        case Breaker() if event.times_opened:
            if event.open_until > now:
                said = f"pauses for {seconds(event.open_until - now)}: {fitted(event.reason)}"
                yield _line(now, event.backend, Text(said, "yellow"))
        case Backend():
            yield _line(event.at, event.backend, _backend(event))
        case _:
            pass


def _line(at: float | None, subject: str, text: Text) -> Text:
    head = (f"{clock(at)} ", "dim") if at is not None else ("         ", "")
    return Text.assemble(head, (f"{clean(subject):<12} ", "cyan"), text)


def _backend(event: Backend) -> Text:
    if event.slots <= 0:
        return Text("is gone: nobody serves it any more", "yellow")
    if not event.healthy:
        return Text(f"is unhealthy: {fitted(event.health_reason)}", "red")
    return Text(f"is ready: {count(len(event.models), 'model')}, {event.slots} at once", "green")


def _decided(event: Decided, *, verbose: bool) -> Iterator[RenderableType]:
    if event.gave_up:
        said = event.reason.removeprefix("gave up: ")
        news = f": {fitted(said, 300)}" if said != event.gave_up.message else ""  # Its end says the problem itself.
        yield _line(event.at, event.job, Text(f"gives up{news}", "red"))
    elif event.ranking:
        best = event.ranking[0]
        to = Text.assemble(("→ ", "green"), (f"{clean(best.backend)}/{clean(best.model)}", "bold"))
        yield _line(event.at, event.job, to.append(f"  {fitted(event.reason, 300)}"))
    if verbose:
        for candidate in event.ranking[1:]:
            said = f"  then {candidate.backend}/{candidate.model}: {plain(candidate.score)} {candidate.reason}"
            yield _line(None, "", Text(fitted(said).rstrip()))
        for candidate in event.others:
            yield _line(
                None, "", Text(f"  not {candidate.backend}/{candidate.model}: {fitted(candidate.reason)}", "dim")
            )
