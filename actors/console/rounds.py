"""One round's decision on the screen: who was chosen and why, the candidates with their scores or filters, advice. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from actors.console.screen import clean, clock, dollars, seconds, table
from messages import Candidate, Decided, Explained

_WORD_COLUMNS = 10


def line(word: str, style: str, rest: str, rest_style: str = "") -> RenderableType:
    """A word and what belongs to it, wrapped beside the word."""
    made = Table.grid(padding=(0, 0, 0, 2))
    made.add_column(width=_WORD_COLUMNS, no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row(Text(word, style), Text(clean(rest), rest_style))
    return made


def head(text: str) -> RenderableType:
    """The first line of a part of the story."""
    return Text(f"\n{clean(text)}", style="bold")


def tell_decision(event: Decided, explained: Explained | None, *, verbose: bool) -> Iterator[RenderableType]:
    """The round's decision; `explained` is None while the explainer has not come to it."""
    yield head(f"Round {event.n} · {event.strategy} · policy {event.policy} · {clock(event.at)}")
    best = event.ranking[0] if event.ranking else None
    if best is not None:
        yield line("chosen", "bold green", named(best), "bold green")
    elif event.gave_up:
        yield line("gave up", "red", "" if explained else event.gave_up.message)
    else:
        yield line("nobody", "yellow", "nobody may run it now")
    if explained:
        yield line("because", "cyan", explained.summary)
    elif not event.gave_up:
        yield line("because", "cyan", event.reason)
    if event.ranking or event.others:
        yield Padding(Candidates(event), (1, 0, 1, 2))
    if verbose and explained:
        for reason in (*explained.reasons, *explained.alternatives):
            yield line(reason.kind, "dim", reason.text, "dim")
    for change in explained.adjusted if explained else best.changes if best else ():
        yield line("adjusted", "yellow", change)
    for suggestion in explained.suggestions if explained else ():
        yield line("hint", "magenta", suggestion)


def named(candidate: Candidate) -> str:
    """`backend/model`."""
    return f"{candidate.backend}/{candidate.model}"


def plain(score: float) -> str:
    """A score without a unit: `-0.6931`, `2,000,050.5`."""
    return f"{score:,.1f}" if abs(score) >= 100 else f"{score:.4g}"


class Candidates:
    """The candidates of a decision: those ranked with their scores in columns, or in lines where these do not fit."""

    def __init__(self, event: Decided) -> None:
        self._event = event
        ranked = event.ranking
        pool = event.plan.pool
        beyond = {id(c) for c in ranked if pool and not any(_is_called(c, word) for word in pool)}
        self._beyond = beyond if len(beyond) < len(ranked) else set[int]()
        """Those outside the pool, which are scored by points whatever the strategy."""
        names = event.parts
        own = [c for c in ranked if len(c.parts) == len(names) and id(c) not in self._beyond]
        self._names = names if any(any(c.parts) for c in own) else ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Columns when they fit, else lines."""
        if self._event.ranking:
            wide = self._columns()
            fits = Measurement.get(console, options.update(width=10_000), wide).maximum <= options.max_width
            yield wide if fits else self._lines()
        if self._event.others or self._event.omitted:
            yield self._excluded()

    def _columns(self) -> Table:
        figures = ("score", *self._names, "done in", "price", "ahead")
        made = table("", "candidate", *figures, right=figures)
        for place, candidate in enumerate(self._event.ranking, 1):
            parts = self._parts(candidate) or ["-"] * len(self._names)
            figured = (self._score(candidate), *parts, *_figures(candidate))
            made.add_row(str(place), Text(clean(named(candidate))), *figured, style="green" if place == 1 else "")
        return made

    def _lines(self) -> Table:
        made = Table.grid(padding=(0, 1, 0, 0))
        made.add_column(no_wrap=True, justify="right")
        made.add_column(overflow="fold")
        for place, candidate in enumerate(self._event.ranking, 1):
            done_in, price, ahead = _figures(candidate)
            said = f"score {self._score(candidate)} · done in {done_in} · {price} · {ahead} ahead"
            parts = self._parts(candidate)
            made.add_row(str(place), Text(clean(named(candidate)), "bold green" if place == 1 else "bold"))
            made.add_row("", said)
            if parts:
                shown = zip(self._names, parts, strict=True)
                told = ", ".join(f"{name} {part}" for name, part in shown if part != _money(0))
                made.add_row("", Text(told, "dim"))
        return made

    def _excluded(self) -> Table:
        made = Table.grid(padding=(0, 1, 0, 0))
        made.add_column(no_wrap=True)
        made.add_column(overflow="fold")
        for candidate in self._event.others:
            text = Text.assemble(
                (clean(named(candidate)), "bold"), f" {clean(candidate.reason)} ", f"({candidate.barred})"
            )
            made.add_row("✘", text, style="dim")
        if self._event.omitted:
            place = f", kept as {clean(self._event.everything.key)}" if self._event.everything else ""
            made.add_row("", f"and {self._event.omitted:,} further candidates{place}", style="dim")
        return made

    def _score(self, candidate: Candidate) -> str:
        if id(candidate) in self._beyond or self._event.strategy == "weighted_score":
            return f"{candidate.score:.1f}"
        if self._event.strategy == "expected_cost":
            return _money(-candidate.score)
        return plain(candidate.score)

    def _parts(self, candidate: Candidate) -> list[str]:
        if id(candidate) in self._beyond or len(candidate.parts) != len(self._names):
            return []
        money = self._event.strategy == "expected_cost"
        return [
            _money(value) if money else f"{value:.0%}" if name.endswith("_share") else f"{value:.1f}"
            for name, value in zip(self._names, candidate.parts, strict=True)
        ]


def _figures(candidate: Candidate) -> tuple[str, str, str]:
    f = candidate.features
    price = "price unknown" if candidate.known.price.unknown else dollars(round(f.price_microdollars))
    return seconds(f.wait_seconds + f.switch_seconds + f.service_seconds), price, f"{f.ahead:.0f}"


def _money(microdollars: float) -> str:
    return f"${microdollars / 1e6:.6f}"


def _is_called(candidate: Candidate, word: str) -> bool:
    return word in (candidate.model, candidate.backend, named(candidate), *candidate.known.names)
