"""`turnout backends`: adding and switching, against real servers and a real program."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.console.app import run
from actors.settings import load
from tests.fakes.ollama import FakeOllama


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    """A fake in a loop of its own, as commands bring theirs."""
    fake, loop = FakeOllama(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result(10)
    yield fake
    asyncio.run_coroutine_threadsafe(fake.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_add_says_what_is_there_and_writes_it(
    ollama: FakeOllama, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "turnout.toml"
    file.write_text("# mine\ndrain_seconds = 5.0")
    assert run(["backends", "add", ollama.url, "--name", "box", "--write", str(file)]) == 0
    said = capsys.readouterr().out
    assert "is Ollama" in said
    assert "price    free" in said
    text = file.read_text()
    assert text.startswith("# mine\ndrain_seconds = 5.0\n\n[[backends]]\n")
    (backend,) = load(file).backends
    assert (backend.name, backend.protocol, backend.url, backend.local) == ("box", "ollama", ollama.url, True)
    assert run(["backends", "add", ollama.url, "--name", "box", "--write", str(file)]) == 2
    assert "has a backend 'box' already" in capsys.readouterr().err
    assert file.read_text() == text


def test_add_only_shows_the_table_without_a_file(ollama: FakeOllama, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backends", "add", ollama.url.removeprefix("http://"), "--cloud"]) == 0
    said = capsys.readouterr()
    assert f'[[backends]]\nname = "ollama-{ollama.url.rpartition(":")[2]}"\nprotocol = "ollama"\n' in said.out
    assert "local" not in said.out.partition("[[backends]]")[2]
    assert "nobody knows the price of" in said.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["add", "http://127.0.0.1:1"], 1, "nothing listens at 127.0.0.1:1"),
        (["add", "ftp://x"], 2, "url: 'ftp://x' must begin with http://"),
        (
            ["add", "http://127.0.0.1:1", "--key-env", "NO_SUCH_KEY"],
            2,
            "NO_SUCH_KEY: that environment variable is not set",
        ),
        (["add"], 2, "`turnout backends add` takes one URL"),
        (["list", "x"], 2, "takes no name"),
        (["show"], 2, "takes one NAME"),
        (["switch", "nobody"], 2, "the settings have no backend 'nobody'; no backend is in an exclusive group"),
        (["list", "--write", "x.toml"], 2, "the flags of `add` mean nothing here"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["backends", *words]) == code
    assert said in " ".join(capsys.readouterr().err.split())


GROUP = """
[[groups]]
name = "gpu"
switch = [{program}]
timeout_seconds = {seconds}

[[backends]]
name = "one"
protocol = "ollama"
url = "{url}"
local = true
exclusive_group = "gpu"
active = false

[[backends]]
name = "down"
protocol = "ollama"
url = "http://127.0.0.1:1"
local = true
exclusive_group = "gpu"
"""


def settings(folder: Path, url: str, code: str, seconds: float = 20.0) -> list[str]:
    file = folder / "turnout.toml"
    program = ", ".join(f"'{word}'" for word in (sys.executable, "-c", code, "{backend}"))
    file.write_text(GROUP.format(program=program, url=url, seconds=seconds))
    return ["--config", str(file), "--nats", "nats://127.0.0.1:1"]


def test_switch_runs_the_groups_program_and_waits_for_the_server(
    ollama: FakeOllama, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told"
    where = settings(tmp_path, ollama.url, f'import sys; open("{told}", "w").write(sys.argv[1])')
    assert run(["backends", "switch", "one", *where]) == 0
    assert told.read_text() == "one"
    said = capsys.readouterr()
    assert "one answers; the switch took" in said.out
    assert "nobody knows whether jobs run" in said.err


def test_a_switch_that_fails_says_why(ollama: FakeOllama, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = settings(tmp_path, ollama.url, 'import sys; print("no disk"); sys.exit(4)')
    assert run(["backends", "switch", "one", *where]) == 1
    assert "ended with exit code 4: no disk" in " ".join(capsys.readouterr().err.split())
    where = settings(tmp_path, ollama.url, "pass", seconds=0.2)
    assert run(["backends", "switch", "down", *where]) == 1
    assert "down does not answer" in " ".join(capsys.readouterr().err.split())
