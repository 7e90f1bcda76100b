"""The program that switches a group: a real process each time."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from actors.executor.script import SAID_CHARACTERS, ScriptFailed, run_script


def run(code: str, *arguments: str, seconds: float = 20.0, environment: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-c", code, *arguments]
    asyncio.run(run_script(command, {"TURNOUT_BACKEND": "b"}, seconds, environment))


def test_arguments_arrive_as_they_are_and_no_secret_does(tmp_path: Path) -> None:
    file = tmp_path / "said"
    code = "import os, sys; open(sys.argv[1], 'w').write(repr((sys.argv[2:], sorted(os.environ))))"
    run(code, str(file), "a b", "$HOME; ls", environment={"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-secret"})
    arguments, variables = eval(file.read_text())
    assert arguments == ["a b", "$HOME; ls"]
    assert {"PATH", "TURNOUT_BACKEND"} <= set(variables)
    assert "OPENAI_API_KEY" not in variables


def test_a_failure_says_the_code_and_the_end_of_what_was_said() -> None:
    code = "import sys; print('x' * 9000); print('no such model', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ScriptFailed, match="ended with exit code 3: ") as raised:
        run(code)
    said = str(raised.value).partition("exit code 3: ")[2]
    assert len(said) == SAID_CHARACTERS
    assert said.endswith("no such model")


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "child"
    code = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "open(sys.argv[1], 'w').write(str(child.pid)); print('loading', flush=True); time.sleep(60)"
    )
    with pytest.raises(ScriptFailed, match=r"was ended after 2 s: loading$"):
        run(code, str(file), seconds=2.0)
    for _ in range(200):
        if not lives(int(file.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_that_it_leaves_behind_does_not_hold_it_up(tmp_path: Path) -> None:
    file = tmp_path / "child"
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "open(sys.argv[1], 'w').write(str(child.pid))"
    )
    run(code, str(file), seconds=15.0)
    pid = int(file.read_text())
    os.kill(pid, 0)  # It lives.
    os.kill(pid, 9)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(ScriptFailed, match=r"^no-such-program can't be run: No such file or directory$"):
        asyncio.run(run_script(["no-such-program"], {}, 5.0))


def test_who_gives_up_ends_it() -> None:
    async def story() -> None:
        task = asyncio.create_task(run_script([sys.executable, "-c", "import time; time.sleep(60)"], {}, 60.0))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(story(), 20))
