"""Who waits for a backend, and who runs beside a job that fails: a `turnout dev` and simulated backends, each a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60
MAIN = [sys.executable, "-c", "from actors.console.entry import main; main()"]
JOBS = 2


def environment() -> dict[str, str]:
    hidden = ("TURNOUT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "OLLAMA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "NO_COLOR": "1", "TURNOUT_DISCOVER": "false"}


class Node:
    """A development node, and the backends beside it."""

    def __init__(self, home: Path) -> None:
        self.data = home / "data"
        self.ports = {name: free_port() for name in ("late", "steady")}
        lines = [
            f'[[backends]]\nname = "{name}"\nurl = "http://127.0.0.1:{port}/v1"\nlocal = true\n'
            f'models = [{{name = "{name}", capabilities = ["text", "json"]}}]\n'
            for name, port in self.ports.items()
        ]
        (home / "turnout.toml").write_text("".join(lines), encoding="utf-8")
        self._home = home
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, until: str) -> subprocess.Popen[str]:
        """A process, once it has said this."""
        process = subprocess.Popen(
            [*MAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
        )
        self._children.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if until in line:
                return process
        raise AssertionError(f"{arguments}: it never said {until!r}")

    def dev(self) -> None:
        config = str(self._home / "turnout.toml")
        self.start("dev", "--nats-port", "0", "--data-dir", str(self.data), "--config", config, until="ready")

    def backend(self, name: str, *more: str) -> None:
        quick = ("--first-token", "0", "--tokens-per-second", "0", *more)
        self.start(
            "sim-backend",
            "--name",
            name,
            "--port",
            str(self.ports[name]),
            "--model",
            name,
            *quick,
            until="http://127.0.0.1:",
        )

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*MAIN, *arguments, "--data-dir", str(self.data)], capture_output=True, text=True, timeout=PATIENCE,
            check=False, env=environment(),
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def events(self, job: str) -> list[dict[str, Any]]:
        """What is stored of a job, in the order in which it was."""
        told = [json.loads(line) for line in self.run("why", job, "--output", "jsonl").splitlines()]
        assert [one["seq"] for one in told] == sorted(one["seq"] for one in told)
        return told

    def until(self, job: str, kind: str) -> list[dict[str, Any]]:
        """The events, once one of this kind is among them."""
        end = time.monotonic() + PATIENCE
        while kind not in kinds(found := self.events(job)):
            assert time.monotonic() < end, f"{job}: no {kind} in {kinds(found)}"
        return found

    def close(self) -> None:
        for child in reversed(self._children):
            child.send_signal(signal.SIGINT)
            try:
                child.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [one["event"]["type"].removeprefix("turnout.") for one in events]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("waits"))
    try:
        made.backend("steady")
        made.dev()
        yield made
    finally:
        made.close()


def test_who_waits_for_a_backend_goes_on_because_it_answers_and_not_because_time_has_passed(node: Node) -> None:
    jobs = [f"waits-{number}" for number in range(JOBS)]
    for job in jobs:
        node.run("submit", "hello", "--id", job, "--model", "late", "--deadline", "300", "--no-wait")
    for job in jobs:
        (waiting, *_) = [one["event"] for one in node.until(job, "retry") if one["event"]["type"].endswith(".retry")]
        assert "backend" in {one["kind"] for one in waiting["awaiting"]}, waiting
    node.backend("late")
    answers_since = time.time()
    for job in jobs:
        events = node.until(job, "done")
        told = kinds(events)
        assert events[told.index("done")]["event"]["ending"] == "succeeded"
        (first, *_) = [one["event"] for one in reversed(events) if one["event"]["type"].endswith(".due")]
        assert first["woken_by"]["kind"] in ("backend", "breaker"), "its own time did not end it"
        started = events[told.index("started")]["time"]
        print(f"\n{job} began {started - answers_since:.2f} s after its backend could answer")


def test_beside_a_job_that_fails_nobody_waits(node: Node, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"never": {"type": "string", "pattern": "^qq[0-9]{9}$"}},
        "required": ["never"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "never", "schema": schema}}
    job = {"id": "bad", "prompt": "words only", "model": "steady", "response_format": form}
    (tmp_path / "bad.jsonl").write_text(json.dumps(job) + "\n", encoding="utf-8")
    node.run("submit", "--file", str(tmp_path / "bad.jsonl"), "--no-wait")
    node.run("submit", "hello", "--id", "innocent", "--model", "steady", "--no-wait")
    bad, innocent = node.until("bad", "done"), node.until("innocent", "done")
    assert kinds(bad).count("attempted") >= 1
    assert bad[kinds(bad).index("done")]["event"]["ending"] == "failed"
    told = kinds(innocent)
    assert {"retry", "due"}.isdisjoint(told), "it ran in its first round"
    assert innocent[told.index("done")]["event"]["ending"] == "succeeded"
