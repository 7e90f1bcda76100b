"""The console script, as a process of its own, and the list of commands it tells without them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from cyclopts import App

from actors.console import app, entry

HEAVY = ("cyclopts", "rich", "msgspec", "httpx", "aiohttp", "nats", "actors.settings", "asyncio")
SCRIPT = "import sys; sys.argv[0] = 'turnout'; from actors.console.entry import main; main()"
SPY = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {SCRIPT}"


def run(*arguments: str, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("--version",)])
def test_what_is_asked_for_first_loads_none_of_our_libraries(arguments: tuple[str, ...]) -> None:
    told = run(*arguments, script=SPY)
    assert told.returncode == 0
    assert not set(HEAVY) & set(told.stderr.split())
    assert told.stdout.strip() == version("turnout") if arguments == ("--version",) else "sim-backend" in told.stdout


def test_everything_else_is_the_application_s() -> None:
    told = run("no-such-command")
    assert told.returncode == 2
    assert "no-such-command" in told.stderr


def test_the_list_tells_of_every_command_what_its_own_help_begins_with() -> None:
    commands = {name: point.load() for name, point in app.found().items()}
    helps = {
        name: str(command.help if isinstance(command, App) else command.__doc__) for name, command in commands.items()
    }
    first = {name: re.split(r"(?<=[.])\s", " ".join(text.split()))[0] for name, text in helps.items()}
    assert first == entry.COMMANDS
    assert list(first) == list(entry.COMMANDS)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_lines_fit_and_wrap_under_their_text(width: int) -> None:
    lines = entry.listed(entry.COMMANDS, width).splitlines()
    listed = lines[lines.index("Commands:") :]
    assert max(map(len, listed)) <= width
    for name in entry.COMMANDS:
        assert any(line.startswith(f"  {name} ") for line in listed)


def test_a_command_of_somebody_else_is_listed_by_the_application(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["turnout", "--help"])
    monkeypatch.delitem(entry.COMMANDS, "schema")
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0
    assert "schema" in capsys.readouterr().out
