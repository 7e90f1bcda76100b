"""What the demo shows: one line for each decision and failure as it happens, and the summary at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from messages import Attempted, Breaker, Decided, Done, Explained, Granted, Load
from scenarios.demo import words
from scenarios.demo.fleet import Member
from scenarios.demo.summary import Row, Summary

_COLOURS = ("green", "cyan", "magenta", "yellow", "blue")


class Screen:
    """Lines that scroll, and on a terminal a line below them that says how things stand."""

    def __init__(self, console: Console, fleet: Iterable[Member], total: int) -> None:
        self.console = console
        self.total = total
        self._fleet = {member.offer.backend: member for member in fleet}
        self._colours = dict(zip(self._fleet, _COLOURS, strict=False))
        self._width = max(map(len, self._fleet))
        self._began = asyncio.get_running_loop().time()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._tasks: dict[str, str] = {}
        self._decided: dict[tuple[str, int], Decided] = {}
        self._waiting: set[str] = set()
        self._loads: dict[str, Load] = {}
        self._open: dict[str, float] = {}
        self._ended = 0
        self._drawn = Text()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def start_clock(self) -> None:
        """The times on the lines count from here."""
        self._began = asyncio.get_running_loop().time()

    # --------------------------------------------------------------------------------------------- before

    def introduce(self) -> None:
        """Say what will be seen."""
        self._print(
            Text(f"turnout demo: {self.total} jobs, {len(self._fleet)} backends, one of which will die", "bold")
        )
        self._print(Text("Simulated: the backends, their models, prices, speeds and answers."))
        self._print(Text("Real: the nats-server, and every decision, failover and record below."))
        self._print(Text())
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("backend", "model"):
            table.add_column(column)
        for column in ("slots", "tokens/s", "$ per Mtok in/out", "can also"):
            table.add_column(column, justify="left" if column == "can also" else "right")
        known = set[str].intersection(*(set(m.offer.models[0].capabilities) for m in self._fleet.values()))
        for name, member in self._fleet.items():
            model = member.offer.models[0]
            price = model.price
            table.add_row(
                Text(name, self._colours[name]),
                model.name,
                str(member.offer.slots),
                f"{model.tokens_per_second:g}",
                f"{price.input_per_mtok / 1e6:g} / {price.output_per_mtok / 1e6:g}"
                if price.output_per_mtok
                else "free",
                ", ".join(c for c in model.capabilities if c not in known),
            )
        self._print(table)
        self._print(Text())
        self._print(Text("Points: 0 to 100 for priority, cost, speed and queue, as the policy weighs them.", "dim"))
        self._print(Text("-> chosen   !! call failed   => failover   .. waits   ok done after a failure", "dim"))
        self._print(Text())

    # --------------------------------------------------------------------------------------------- events

    def event(self, text: str, style: str = "bold yellow") -> None:
        """Something happens to the fleet."""
        self._line(Text(f"** {text}", style))

    def decided(self, decided: Decided) -> None:
        """Kept until its verdict is known."""
        self._tasks[decided.job] = words.task(decided)
        self._decided[decided.job, decided.n] = decided
        if not decided.ranking and not decided.gave_up and decided.job not in self._waiting:
            self._waiting.add(decided.job)
            self._job(decided.job, Text("..", "yellow"), "", f"waits; {words.waits_for(decided)}")

    def granted(self, granted: Granted) -> None:
        """The verdict: only now is it certain where the attempt goes."""
        decided = self._decided.pop((granted.job, granted.n), None)
        if decided is None or not decided.ranking:
            return
        if granted.verdict == "candidate":
            self._waiting.discard(granted.job)
            failover = any(a.outcome != "ok" and a.backend != granted.backend for a in decided.attempts[-1:])
            sign = Text("=>", "bold yellow") if failover else Text("->")
            self._job(granted.job, sign, granted.backend, words.because(decided, granted))
        elif granted.verdict == "refused" and granted.job not in self._waiting:
            self._waiting.add(granted.job)
            self._job(granted.job, Text("..", "yellow"), "", f"waits; {words.refused(granted)}")

    def attempted(self, attempted: Attempted) -> None:
        """Failures are shown; successes show as ends."""
        if attempted.outcome != "ok":
            self._job(attempted.job, Text("!!", "bold red"), attempted.backend, words.failure(attempted), "red")

    def done(self, done: Done) -> None:
        """Ends are counted; those worth a line get one."""
        self._ended += 1
        if done.ending != "succeeded":
            why = done.problem.message if done.problem else ""
            self._job(done.job, Text("XX", "bold red"), done.backend or "-", f"{done.ending}: {why}", "red")
        elif len(done.attempts) > 1:
            seconds = f"{done.at - done.submitted_at:.1f} s in all" if done.submitted_at is not None else ""
            text = f"done at call {len(done.attempts)}, {seconds}"
            self._job(done.job, Text("ok", "green"), done.backend, text, "green")

    def breaker(self, breaker: Breaker, now: float) -> None:
        """Openings and closings."""
        name = breaker.backend
        before = self._open.get(name, 0.0)
        self._open[name] = breaker.open_until
        if breaker.open_until > max(before, now):
            self.event(words.opening(breaker, now))
        elif before and not breaker.times_opened:
            self.event(f"breaker of {name} closes: a call succeeded", "bold green")

    def load(self, load: Load) -> None:
        """How much lies before a backend."""
        self._loads[load.backend] = load

    def refresh(self) -> None:
        """Draw the line at the bottom anew."""
        if not self._live:
            return
        line = Text(f"{self._seconds():4.0f}  ", "dim", no_wrap=True, overflow="ellipsis")
        line.append(f"{self._ended}/{self.total} ended", "not dim bold")
        line.append("  running+waiting")
        for name in self._fleet:
            load = self._loads.get(name)
            count = f"{load.running}+{load.waiting}" if load else "0+0"
            line.append(f"  {name} {count}", f"not dim {self._colours[name]}")
        if line != self._drawn:
            self._drawn = line
            self._live.update(line, refresh=True)

    # --------------------------------------------------------------------------------------------- after

    def summary(self, summary: Summary, patience_seconds: float) -> None:
        """The table, and whether all is well."""
        self._print(Text())
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        table.add_column("backend")
        for column in ("jobs done", "calls", "failed", "cost", "p50", "p95"):
            table.add_column(column, justify="right")
        for row in summary.rows:
            table.add_row(Text(row.backend, self._colours.get(row.backend, "")), *_cells(row))
        table.add_row(Text("all", "bold"), *(Text(cell, "bold") for cell in _cells(summary.total)))
        self._print(table)
        self._print(Text("Cost as simulated; p50 and p95: seconds from submission to end, queue included.", "dim"))
        self._print(Text())
        endings = ", ".join(f"{count} {ending}" for ending, count in sorted(summary.endings.items())) or "none ended"
        self._print(Text(f"{summary.submitted} jobs submitted: {endings}."))
        moved = f"{len(summary.moved)} jobs went on at another backend after a call had failed"
        self._print(Text(f"{summary.failovers} failovers: {moved}." if summary.failovers else "No failover happened."))
        style = "bold red" if summary.exit_code else "bold green"
        self._print(
            Text(f"{len(summary.lost)} lost, {len(summary.twice)} ended twice, by the stream's records.", style)
        )
        if summary.lost:
            jobs = ", ".join(summary.lost)
            self._print(Text(f"Lost (no end {patience_seconds:g} s after the last submission): {jobs}", style))
        if summary.twice:
            self._print(Text(f"Ended twice: {', '.join(summary.twice)}", style))

    def why(self, explained: Explained) -> None:
        """One decision in the explainer's own words."""
        self._print(Text())
        call = f" in round {explained.n}" if explained.n > 1 else ""
        self._print(Text(f"Why did {explained.job} go to {explained.chosen or 'nobody'}{call}?", "bold"))
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row("", Text(explained.summary))
        for reason in (*explained.reasons, *explained.alternatives):
            grid.add_row(Text("-", "dim"), Text(reason.text))
        for line in explained.suggestions:
            grid.add_row(Text("*", "yellow"), Text(line))
        self._print(grid)

    # --------------------------------------------------------------------------------------------- lines

    def _seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    def _job(self, job: str, sign: Text, backend: str, text: str, style: str = "") -> None:
        line = Text(f"{job:<5}  {self._tasks.get(job, ''):<9} ")
        line.append_text(sign)
        line.append(f" {backend:<{self._width}}  ", self._colours.get(backend, ""))
        line.append(text, style)
        self._line(line)

    def _line(self, text: Text) -> None:
        self._print(Text(f"{self._seconds():4.1f}  ", "dim").append_text(text))

    def _print(self, what: Text | Table) -> None:
        """On a terminal lines end at its edge; a file gets them whole, and without the spaces that fill a table."""
        if self.console.is_terminal:
            self.console.print(what, no_wrap=True, overflow="ellipsis")
        elif isinstance(what, Text):
            self.console.print(what, soft_wrap=True)
        else:
            with self.console.capture() as capture:
                self.console.print(what)
            for line in capture.get().splitlines():
                self.console.print(Text(line.rstrip()), soft_wrap=True)


def _cells(row: Row) -> list[str]:
    times = [f"{seconds:.1f} s" if seconds is not None else "-" for seconds in (row.p50, row.p95)]
    return [str(row.jobs), str(row.calls), str(row.failed), words.money(row.cost_microdollars), *times]
