"""`run()`: finds the commands, runs one, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any, cast

from cyclopts import App, CycloptsError, Parameter

from actors.console.entry import COMMANDS
from actors.console.screen import (
    FAILED,
    INTERRUPTED,
    OK,
    STDIN,
    USAGE,
    Complaint,
    Wrong,
    complain,
    err,
    log_to_screen,
    out,
)
from actors.settings import SettingsError

GROUP = "turnout.commands"


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    log_to_screen(logging.WARNING)
    try:
        return _run([STDIN if argument == "-" else argument for argument in arguments])
    except Complaint as complaint:
        return complain(complaint)
    except CycloptsError as error:
        return complain(Wrong(_plain(error), f"turnout {_command(arguments)}--help"))
    except SettingsError as error:
        return complain(Wrong(str(error)))
    except KeyboardInterrupt:
        err.print("interrupted", style="dim")
        return INTERRUPTED
    except BrokenPipeError:  # Whoever read our output has had enough.
        sys.stderr.close()
        return OK
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        return complain(known)


def _run(arguments: list[str]) -> int:
    app = build(found(), arguments[0] if arguments else "")
    if not arguments:
        app.help_print()
        return OK
    result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return result if isinstance(result, int) else OK


def found() -> dict[str, EntryPoint]:
    """The commands that are installed, ours and others', by name."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    order = list(COMMANDS)
    ranked = sorted(points, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: points[name] for name in ranked}


def build(points: dict[str, EntryPoint], wanted: str) -> App:
    """The application with the wanted command, or with all of them when `wanted` is none of them.

    A command that can't be imported stays in the list and says so.
    """
    app = App(
        name="turnout",
        help="Event-driven router for AI generation jobs. Begin with `turnout dev`, then `turnout submit 'say hello'`. "
        "Each command has --help.",
        help_format="plaintext",
        version=lambda: version("turnout"),
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(show_default=_default, negative_iterable=""),
        console=out,
        error_console=err,
    )
    app["--help"].group = app["--version"].group = "Options"
    for place, (name, point) in enumerate(points.items()):
        if wanted not in points or wanted == name:
            try:
                command: Callable[..., Any] = point.load()
            except Exception as error:  # noqa: BLE001  # Somebody's broken command must not take the others along.
                command = _broken(name, point.value, error, asked=wanted == name)
            app.command(command, name=name, sort_key=place, help=unwrapped(command.__doc__ or ""))
    if not points:
        raise Complaint(
            "turnout is installed without its commands: the package metadata are older than the code",
            hint="pip install --no-deps --editable . (in a checkout), or install turnout again",
        )
    return app


def unwrapped(text: str) -> str:
    """A docstring with each paragraph on one line: the screen says where lines end."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _default(value: object) -> str | None:
    """A default worth showing: a figure or a name; what a switch does by itself its text says."""
    if value in ("", None, ()) or isinstance(value, bool):
        return None
    return ", ".join(map(str, cast("tuple[object, ...]", value))) if isinstance(value, tuple) else str(value)


def _broken(name: str, value: str, error: Exception, *, asked: bool) -> Callable[[], None]:
    """A stand-in for the list of commands; when just this command was asked for, a complaint."""
    why = f"{type(error).__name__}: {error}"
    if asked:
        raise Complaint(
            f"the command {name!r} ({value}) can't be loaded: {why}", hint="install what it needs"
        ) from error

    def command() -> None: ...

    command.__doc__ = f"(can't be loaded: {why})"
    return command


def play(work: Coroutine[Any, Any, int]) -> int:
    """Run a command's coroutine, on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _known(error: BaseException) -> Complaint | None:
    """What an error that can be expected means to the person; None for a bug."""
    import sqlite3

    from bus.bus import BusError, BusUnavailable, PayloadTooLarge
    from bus.server import ServerError

    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    if inner:
        first = inner[0]
        return first if isinstance(first, Complaint) else _known(first)
    if isinstance(error, PayloadTooLarge):
        return Wrong(str(error), "a shorter prompt, or references instead of inline data")
    if isinstance(error, BusUnavailable):
        return Complaint(str(error), hint="is the server still running? `turnout doctor` looks", code=3)
    if isinstance(error, BusError | ServerError):
        return Complaint(str(error))
    if isinstance(error, sqlite3.Error):
        return Complaint(str(error))
    return None


def _plain(error: CycloptsError) -> str:
    return " ".join(str(error).split())


def _command(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in found() else ""


__all__ = ["FAILED", "OK", "USAGE", "build", "found", "play", "run"]
