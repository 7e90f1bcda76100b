"""The commands together, as people use them: one development server, real sockets, several processes."""

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

PATIENCE = 60


def environment() -> dict[str, str]:
    hidden = ("TURNOUT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "OLLAMA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "NO_COLOR": "1", "TURNOUT_DISCOVER": "false"}


def turnout(data: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from actors.console.entry import main; main()",
        *arguments,
        "--data-dir",
        str(data),
    ]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment()
    )


def simulated(name: str, *faults: str) -> tuple[subprocess.Popen[str], str]:
    """A simulated backend as a process of its own, and its URL."""
    command = [sys.executable, "-c", "from actors.console.entry import main; main()", "sim-backend", "--port", "0"]
    options = ["--name", name, "--model", "m", "--first-token", "0", "--tokens-per-second", "0", *faults]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    assert url.startswith("http://127.0.0.1:")
    return process, url


def ended(process: subprocess.Popen[str]) -> str:
    """What a process still says after Ctrl-C; it must end well."""
    process.send_signal(signal.SIGINT)
    try:
        rest, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, rest
    return rest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running development server's data directory; it stops cleanly at the end."""
    home = tmp_path_factory.mktemp("dev")
    good, good_url = simulated("good")
    bad, bad_url = simulated("bad", "--error-rate", "1")
    (home / "turnout.toml").write_text(
        f'[[backends]]\nname = "good"\nurl = "{good_url}"\nlocal = true\npriority = 2\n'
        f'[[backends]]\nname = "bad"\nurl = "{bad_url}"\nlocal = true\nmodels = [{{name = "m"}}]\n',
        encoding="utf-8",
    )
    data = home / "data"
    command = [sys.executable, "-c", "from actors.console.entry import main; main()", "dev", "--nats-port", "0"]
    dev = subprocess.Popen(
        [*command, "--data-dir", str(data), "--config", str(home / "turnout.toml")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
    )  # fmt: skip
    try:
        assert dev.stdout is not None
        said: list[str] = []
        for line in dev.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        assert "  + good  local, 1 model: m\n" in said
        url = (data / "nats.url").read_text().strip()
        assert re.fullmatch(r"nats://[\w-]{32}@127\.0\.0\.1:\d+", url)
        for line in dev.stdout:
            said.append(line)
            if line.endswith("Ctrl-C stops\n"):
                break
        assert any(line.endswith(f"its address for them: {url}\n") for line in said)
        yield data
    finally:
        rest = ended(dev)
        ended(good)
        ended(bad)
    assert "stopped" in rest
    assert not (data / "nats.url").exists()
    assert (data / "nats.token").exists()


def test_what_is_kept_is_for_its_owner_alone(data: Path) -> None:
    assert turnout(data, "submit", "hello", "--preferred-backend", "good", "-q").returncode == 0
    assert data.stat().st_mode & 0o777 == 0o700
    for name in ("nats.url", "nats.token", "history.sqlite", "nats/nats-server.conf"):
        assert (data / name).stat().st_mode & 0o777 == 0o600, name
    assert all(file.stat().st_mode & 0o077 == 0 for file in data.glob("history.sqlite*"))


def test_any_client_that_knows_the_address_publishes_and_hears_and_no_other(data: Path, tmp_path: Path) -> None:
    told = turnout(data, "env")
    assert told.returncode == 0
    url = shlex.split(told.stdout)[1].removeprefix("NATS_URL=")
    assert turnout(data, "env", "--shell", "none").stdout.strip() == url

    async def talk() -> str:
        client = await nats.connect(url)
        heard = await client.subscribe("job.*.acme.>")
        await client.publish("job.submit.acme", b'{"id": "j-1", "prompt": "hello", "preferred_backend": "good"}')
        seen: list[str] = []
        while "job.done.acme.j-1" not in seen:
            seen.append((await heard.next_msg(timeout=PATIENCE)).subject)
        await client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        await reader.readline()
        writer.write(b"CONNECT {}\r\nPING\r\n")
        assert b"Authorization Violation" in await reader.readline()
        writer.close()
        await writer.wait_closed()
        return " ".join(seen)

    assert "job.done.acme.j-1" in asyncio.run(talk())


def test_who_does_not_know_the_token_is_told_where_it_is(data: Path, tmp_path: Path) -> None:
    bare = "nats://127.0.0.1:" + (data / "nats.url").read_text().strip().rpartition(":")[2]
    told = turnout(tmp_path / "other", "jobs", "--nats", bare)
    assert told.returncode == 3
    assert "Authorization Violation" in told.stderr
    assert "turnout env" in told.stderr


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_watch_ends_when_nobody_reads_it_any_more(data: Path, form: str) -> None:
    command = [sys.executable, "-c", "from actors.console.entry import main; main()", "watch", "--output", form]
    watching = subprocess.Popen(
        [*command, "--data-dir", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert watching.stdout is not None
    assert watching.stderr is not None
    assert watching.stderr.readline() == "watching; Ctrl-C ends it\n"
    turnout(data, "submit", "hello", "--preferred-backend", "good", "-q")
    assert watching.stdout.readline()
    watching.stdout.close()
    turnout(data, "submit", "hello", "--preferred-backend", "good", "-q")
    assert watching.wait(PATIENCE) == 0
    assert watching.stderr.read() == ""
    watching.stderr.close()


def test_the_nats_command_gets_a_context(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert turnout(data, "env", "--context", "here").returncode == 0
    file = tmp_path / "nats" / "context" / "here.json"
    assert json.loads(file.read_text())["url"] == (data / "nats.url").read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    wrong = turnout(data, "env", "--context", "../elsewhere")
    assert wrong.returncode == 2
    assert "../elsewhere" in wrong.stderr


def test_a_job_and_its_story(data: Path) -> None:
    sent = turnout(data, "submit", "hello", "there", "--preferred-backend", "good", "--id", "one")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.startswith("[simulated by good]")
    assert "succeeded  good/m" in sent.stderr
    story = turnout(data, "why", "one")
    assert story.returncode == 0, story.stderr
    for expected in ("Job one of tenant default", "Round 1", "because the job prefers it", "succeeded after"):
        assert expected in story.stdout
    events = [json.loads(line) for line in turnout(data, "why", "one", "--output", "jsonl").stdout.splitlines()]
    assert [event["event"]["type"] for event in events][-1] in {"turnout.done", "turnout.explained"}


def test_the_same_id_joins_and_another_body_is_refused(data: Path) -> None:
    first = turnout(data, "submit", "hello", "--id", "two", "-q", "--preferred-backend", "good")
    again = turnout(data, "submit", "hello", "--id", "two", "-q", "--preferred-backend", "good")
    assert (first.returncode, first.stdout) == (again.returncode, again.stdout)
    other = turnout(data, "submit", "something else", "--id", "two")
    assert other.returncode == 1
    assert "refused" in other.stderr
    assert "in use for a job with another body" in other.stderr


def test_many_jobs_with_reroutes(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"job {n}"}) + "\n" for n in range(6)))
    sent = turnout(data, "submit", "--file", str(file), "--preferred-backend", "bad", "--output", "jsonl")
    assert sent.returncode == 0, sent.stderr
    rows = [json.loads(line) for line in sent.stdout.splitlines()]
    assert [row["ending"] for row in rows] == ["succeeded"] * 6
    assert all(row["backend"] == "good" for row in rows)
    assert any(row["reroutes"] for row in rows)
    listed = turnout(data, "jobs", "--limit", "100", "--output", "jsonl")
    known = {json.loads(line)["job"] for line in listed.stdout.splitlines()}
    assert known >= {row["id"] for row in rows}


def test_text_from_the_standard_input(data: Path) -> None:
    sent = turnout(data, "submit", "-", "--preferred-backend", "good", "-q", stdin="hello from a pipe\n")
    assert sent.returncode == 0, sent.stderr
    assert sent.stderr == ""
    piped = turnout(data, "submit", "--preferred-backend", "good", "-q", stdin="hello from a pipe\n")
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout.startswith("[simulated by good]")


def test_what_can_never_run_fails_with_reasons(data: Path) -> None:
    wrong = turnout(data, "submit", "hi", "--model", "nn")
    assert wrong.returncode == 1
    assert "no backend serves it" in wrong.stderr
    lacking = turnout(data, "submit", "hi", "--capability", "vision")
    assert lacking.returncode == 1
    assert "can do vision" in lacking.stderr


def test_too_large(data: Path) -> None:
    sent = turnout(data, "submit", "-", stdin="x" * 1_100_000)
    assert sent.returncode == 2
    assert "exceed the limit of" in sent.stderr


def test_cancel(data: Path) -> None:
    sent = turnout(data, "submit", "hi", "--preferred-backend", "good", "--id", "three", "-q")
    assert sent.returncode == 0
    late = turnout(data, "cancel", "three")
    assert late.returncode == 1
    assert "had ended before" in late.stderr
    unknown = turnout(data, "cancel", "nobody")
    assert unknown.returncode == 1
    assert "there is no job 'nobody'" in unknown.stderr


def test_backends_and_unknown_jobs(data: Path) -> None:
    shown = turnout(data, "backends")
    assert shown.returncode == 0, shown.stderr
    assert "good" in shown.stdout
    assert "bad" in shown.stdout
    rows = [json.loads(line) for line in turnout(data, "backends", "--output", "jsonl").stdout.splitlines()]
    assert [row["backend"]["backend"] for row in rows] == ["bad", "good"]
    unknown = turnout(data, "why", "onee")
    assert unknown.returncode == 1
    assert "there is no job 'onee'" in unknown.stderr


def test_a_second_server_in_the_same_place_is_told(data: Path) -> None:
    second = turnout(data, "dev", "--nats-port", "0")
    assert second.returncode == 1
    assert "in use" in second.stderr
    assert "--data-dir OTHER" in second.stderr


def test_a_taken_port_is_told(data: Path, tmp_path: Path) -> None:
    port = (data / "nats.url").read_text().strip().rpartition(":")[2]
    second = turnout(tmp_path / "other", "dev", "--nats-port", port)
    assert second.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in second.stderr
    assert "--nats-port 0" in second.stderr


def test_doctor_without_and_with_a_backend(data: Path) -> None:
    nothing = turnout(data, "doctor")
    assert nothing.returncode == 1
    assert "turnout sim-backend" in nothing.stdout
    found = turnout(data, "doctor", "--config", str(data.parent / "turnout.toml"))
    assert found.returncode == 0, found.stdout
    assert "clock        like that of the NATS server" in found.stdout
    assert "MB free" in found.stdout
    assert "turnout is on nats://127.0.0.1" in found.stdout
    assert "usable; next: turnout submit" in found.stdout
