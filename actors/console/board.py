"""Screens for `turnout submit`: one job with its streaming answer, many jobs with a live table, or JSON for machines."""

from __future__ import annotations

from typing import Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.text import Text

from actors.console.answer_notes import notes
from actors.console.endings import end_line, latency, record, reroute_line, stage, wait_line
from actors.console.follow import Track, Tracks
from actors.console.output import Output
from actors.console.screen import clean, count, dollars, err, fitted, out, seconds, table
from messages import Analyzed, Message, Rerouted

MOST_FAILURES = 10
MOST_ANSWERS = 5
MOST_WAITS_TOLD = 20
"""Lines of one command about what its jobs wait for."""


class Screen(Protocol):
    """What shows the jobs of one command."""

    def heard(self, track: Track, event: Message, text: str) -> None:
        """Something happened to a job; `text` is a piece of its answer."""
        ...

    def note(self, text: str) -> None:
        """Something to know meanwhile."""
        ...

    def pause(self) -> None:
        """Stop drawing: somebody else writes now."""
        ...

    def finish(self, tracks: Tracks, answers: dict[tuple[str, str], str]) -> None:
        """Everything has ended, or nobody waits any longer; `answers` are the texts of those that succeeded."""
        ...


class Waits:
    """Which waits are worth a line: each thing that is waited for once, and every job that is held, some of them."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    @property
    def told(self) -> int:
        """How many were."""
        return len(self._told)

    def tells(self, track: Track) -> bool:
        """Whether what a job waits for is news."""
        if not track.wait or track.ended or track.wait in self._told or len(self._told) >= MOST_WAITS_TOLD:
            return False
        self._told.add(track.wait)
        return True


class One:
    """One job: a line that says where it is, then its answer as it is written, then how it ended."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stream = out.is_terminal
        self._waits = Waits()
        self._printed = ""
        self._status: Status | None = None
        if err.is_terminal and not quiet:
            self._status = err.status("sent")
            self._status.start()

    def heard(self, track: Track, event: Message, text: str) -> None:
        """Show a reroute, what the job waits for, a piece of the answer, or where the job is."""
        if isinstance(event, Analyzed) and event.slip and not self._quiet:
            for remark in event.slip.needs.remarks:
                self._break_line()
                err.print(Text(clean(remark), "yellow"), soft_wrap=True)
        if self._waits.tells(track) and not self._quiet:
            self._break_line()
            err.print(wait_line(track), soft_wrap=True)
        if isinstance(event, Rerouted):
            self._break_line()
            if not self._quiet:
                err.print(reroute_line(event), soft_wrap=True)
            if self._status and not track.ended:
                self._status.start()
        if text and self._stream:
            if self._status:
                self._status.stop()
            self._printed += text
            out.file.write(clean(text))
            out.file.flush()
        elif self._status and not self._printed:
            self._status.update(Text(stage(track)))

    def note(self, text: str) -> None:
        """Show a line between."""
        if not self._quiet:
            self._break_line()
            err.print(text, style="yellow", soft_wrap=True)

    def pause(self) -> None:
        """Stop drawing."""
        if self._status:
            self._status.stop()

    def _break_line(self) -> None:
        if self._printed:
            out.print()
            self._printed = ""

    def finish(self, tracks: Tracks, answers: dict[tuple[str, str], str]) -> None:
        """Show the answer and how it ended."""
        if self._status:
            self._status.stop()
        (key, track) = next(iter(tracks.all.items()))
        answer = answers.get(key)
        if answer is not None:
            if not answer.startswith(self._printed):
                self._break_line()
            text = answer[len(self._printed) :]
            out.file.write((clean(text) if self._stream else text) + "\n")
            out.file.flush()
        else:
            self._break_line()
        if self._quiet and track.ending == "succeeded":
            return
        if track.ended:
            err.print(end_line(track), soft_wrap=True)
            result = track.done.result if track.done else None
            for note in notes(result) if result else ():
                err.print(Text(f"  {fitted(note, 300)}", "yellow"), soft_wrap=True)
            if result and result.artifacts:
                several = " --all" if len(result.artifacts) > 1 else ""
                err.print(
                    f"  {count(len(result.artifacts), 'file')}: turnout get {_named(track)}{several}", soft_wrap=True
                )
            err.print(f"  turnout why {_named(track)}", style="dim", soft_wrap=True)


def _named(track: Track) -> str:
    return clean(track.job) + (f" --tenant {clean(track.tenant)}" if track.tenant != "default" else "")


class Many:
    """Many jobs: counts by backend, a bar, and lines for what goes wrong."""

    def __init__(self, tracks: Tracks, *, quiet: bool) -> None:
        self._tracks, self._quiet = tracks, quiet
        self._failures = 0
        self._waits = Waits()
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=40), MofNCompleteColumn(), TimeElapsedColumn(),
            console=err,
        )  # fmt: skip
        self._task = self._bar.add_task("jobs", total=len(tracks.all))
        self._live: Live | None = None
        if err.is_terminal and not quiet:
            self._live = Live(get_renderable=self._draw, console=err, refresh_per_second=8)
            self._live.start()

    def _draw(self) -> RenderableType:
        self._bar.update(self._task, completed=len(self._tracks.all) - len(self._tracks.open))
        return Group(counts_table(self._tracks), self._bar)

    def heard(self, track: Track, event: Message, text: str) -> None:
        """Show a reroute, or a job that did not succeed."""
        if self._quiet:
            return
        if self._waits.tells(track):
            self._print(wait_line(track, with_id=True))
            if self._waits.told == MOST_WAITS_TOLD:
                self._print(
                    Text("  further ones are not told here: `turnout jobs --state held --state waiting`", "dim")
                )
        if isinstance(event, Rerouted):
            self._print(Text.assemble((f"{clean(track.job)} ", "dim"), reroute_line(event)))
        elif track.ended and (track.ending != "succeeded" or not err.is_terminal):
            self._failures += track.ending != "succeeded"
            if self._failures <= MOST_FAILURES:
                self._print(end_line(track, with_id=True))

    def _print(self, text: Text) -> None:
        """A line above the table, which must know how high it is; elsewhere lines are not cut."""
        err.print(text, soft_wrap=self._live is None)

    def note(self, text: str) -> None:
        """Show a line between."""
        if not self._quiet:
            self._print(Text(text, "yellow"))

    def pause(self) -> None:
        """Stop drawing."""
        if self._live:
            self._live.stop()

    def finish(self, tracks: Tracks, answers: dict[tuple[str, str], str]) -> None:
        """Show the answers, the counts and the sums."""
        self.pause()
        for key, answer in answers.items():
            track = tracks.all[key]
            out.print(Text(f"── {clean(track.job)} · {clean(track.backend)}", style="dim"))
            out.print(clean(answer) if out.is_terminal else answer, soft_wrap=True)
        if self._quiet:
            return
        if self._live is None:  # Else its last picture stays.
            err.print(counts_table(tracks))
        ended = [track.done for track in tracks.all.values() if track.done]
        good = sorted(latency(done) or 0.0 for done in ended if done.ending == "succeeded")
        costs = [done.cost_microdollars for done in ended if done.cost_microdollars is not None]
        said = [f"{len(good):,} of {count(len(tracks.all), 'job')} succeeded", f"cost {dollars(sum(costs))}"]
        if good:
            said.append(f"half within {seconds(good[len(good) // 2])}, all within {seconds(good[-1])}")
        reroutes = sum(len(track.reroutes) for track in tracks.all.values())
        said += [count(reroutes, "reroute")] if reroutes else []
        err.print("; ".join(said), style="bold", soft_wrap=True)


def counts_table(tracks: Tracks) -> RenderableType:
    """Jobs by backend: waiting, held, running, and how they ended."""
    counts = tracks.counts()
    failed = ("failed", "rejected", "refused", "expired", "cancelled")
    held = ("held",) if any("held" in row for row in counts.values()) else ()
    columns = ("waiting", *held, "running", "done", "not done")
    made = table("backend", *columns, right=columns)
    for backend in sorted(counts):
        row = counts[backend]
        bad = sum(row.get(name, 0) for name in failed)
        cells = [str(row.get(name, 0) or "·") for name in ("waiting", *held, "running", "succeeded")]
        made.add_row(Text(clean(backend)), *cells, Text(str(bad or "·"), "red" if bad else ""))
    return made


class Json:
    """One JSON object per job on the standard output; what jobs wait for on the standard error."""

    def __init__(self, output: Output, *, many: bool, quiet: bool) -> None:
        self._output, self._many, self._quiet, self._waits = output, many, quiet, Waits()

    def heard(self, track: Track, event: Message, text: str) -> None:
        """Machines get the ends; whoever looks on is told what keeps a job."""
        if not self._quiet and self._waits.tells(track):
            err.print(wait_line(track, with_id=True), soft_wrap=True)

    def note(self, text: str) -> None:
        """Show a line beside."""
        if not self._quiet:
            err.print(text, soft_wrap=True)

    def pause(self) -> None:
        """Nothing is drawn."""

    def finish(self, tracks: Tracks, answers: dict[tuple[str, str], str]) -> None:
        """Print an object per job."""
        found = [record(track, answers.get(key)) for key, track in tracks.all.items()]
        if self._many:
            self._output.rows(found)
        else:
            self._output.one(found[0])
