"""What people see: the two consoles, complaints, and figures in words. Nothing here is ever read as markup."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

STDIN = "<stdin>"
"""What a bare `-` becomes on the command line: the parser would take it for an option."""
_PIPE_WIDTH = 160


def _console(stream: TextIO | Any, *, stderr: bool = False) -> Console:
    width = None if stream is None or stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(markup=False, highlight=False, emoji=False, stderr=stderr, width=width)


out = _console(sys.stdout)
"""Answers."""
err = _console(sys.stderr, stderr=True)
"""Everything else."""

ENDINGS = {"succeeded": "green", "failed": "red", "rejected": "red", "expired": "yellow", "cancelled": "yellow"}
WRAPPED = ("reason", "problem", "state")
"""Columns of running text; all others stay on one line."""
_GAP = 2
"""Between the columns of a table."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Complaint(Exception):
    """Something the person in front of the screen can do something about. No stack trace is shown."""

    def __init__(self, text: str, *, hint: str = "", code: int = FAILED) -> None:
        super().__init__(text)
        self.text, self.hint, self.code = text, hint, code


class Wrong(Complaint):
    """The command was used wrongly."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text, hint=hint, code=USAGE)


class Unreachable(Complaint):
    """Nobody answers on the bus."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text, hint=hint, code=UNREACHABLE)


def complain(complaint: Complaint) -> int:
    """Show it; the exit code."""
    err.print(Text.assemble(("error: ", "bold red"), clean(complaint.text)), soft_wrap=True)
    if complaint.hint:
        err.print(Text.assemble(("  try: ", "bold"), complaint.hint), soft_wrap=True)
    return complaint.code


def clean(text: str) -> str:
    """Text from elsewhere without the control characters that could move the cursor or change colours."""
    return _CONTROLS.sub("�", text.replace("\r\n", "\n"))


def dollars(microdollars: float | None) -> str:
    """Money: `free`, `$0.0042`; `?` when it is not known."""
    if microdollars is None:
        return "?"
    if microdollars == 0:
        return "free"
    return f"${microdollars / 1e6:.6f}".rstrip("0").rstrip(".")


def seconds(value: float | None) -> str:
    """A span of time: `430 ms`, `2.1 s`, `3 min 20 s`; `-` when there is none."""
    if value is None:
        return "-"
    if value < 1:
        return f"{max(0.0, value) * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes / 60:.1f} h"


def clock(at: float | None) -> str:
    """A time of day on this machine's clock."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S") if at is not None else "-"


def day_and_clock(at: float | None) -> str:
    """Date and time of day on this machine's clock."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if at is not None else "-"


def since(at: float | None, now: float) -> str:
    """The time of day, with the date unless it is that of `now`."""
    whole = day_and_clock(at)
    return whole.split()[-1] if whole[:10] == day_and_clock(now)[:10] else whole


def one_line(text: str, limit: int = 200) -> str:
    """Text on one line, cut."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def fitted(text: str, limit: int = 200) -> str:
    """Text on one line; cut on a screen, whole in files and pipes."""
    return one_line(text, limit if out.is_terminal else sys.maxsize)


def count(number: int, thing: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def shown(url: str) -> str:
    """A URL without the user name and password it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def table(*columns: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    """An empty table in the house style; columns named in `right` are aligned there."""
    made = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="bold")
    wanted = set(right)
    for column in columns:
        wraps = column in WRAPPED
        made.add_column(
            column, justify="right" if column in wanted else "left", no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis", min_width=12 if wraps else None,
        )  # fmt: skip
    return made


class _Lines(logging.Handler):
    """Log records as lines on the error console, above whatever is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = (
                "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else "dim"
            )
            head = f"{clock(record.created)} {record.levelname.lower()} "
            line = Text.assemble((head, style), (f"{record.name}: ", "dim"), clean(record.getMessage()))
            err.print(line, soft_wrap=True)
            if record.exc_info and record.levelno >= logging.ERROR:
                err.print(clean(logging.Formatter().formatException(record.exc_info)), style="dim", soft_wrap=True)
        except Exception:  # noqa: BLE001  # As logging itself does: a log line never ends the program.
            self.handleError(record)


def log_to_screen(level: int) -> None:
    """Send all logging to the error console. Our own from `level` on, other libraries' warnings."""
    root = logging.getLogger()
    root.handlers[:] = [_Lines()]
    root.setLevel(max(level, logging.WARNING) if level > logging.DEBUG else logging.INFO)
    for name in ("turnout", "bus", "actors"):
        logging.getLogger(name).setLevel(level)
