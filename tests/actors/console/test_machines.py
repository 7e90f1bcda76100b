"""What every command tells machines: the shape of each answer is frozen in `golden/`.

A wanted change is accepted by running `UPDATE_GOLDEN=1 pytest tests/actors/console/test_machines.py` and committing what it
writes. What scripts read already must stay: add fields, never rename or remove one. Events stand for themselves there: their own
bytes are frozen in tests/messages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.console import app
from scenarios.demo.summary import summarize

GOLDEN = Path(__file__).with_name("golden")
RUN = [sys.executable, "-c", "from actors.console.entry import main; main()"]


def environment() -> dict[str, str]:
    hidden = ("TURNOUT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "OLLAMA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "NO_COLOR": "1", "TURNOUT_DISCOVER": "false"}


def shape(value: Any) -> Any:
    """What a value is made of: kinds in place of values, one element for all of a list."""
    match value:
        case {"type": str(kind)} if kind.startswith("turnout."):
            return kind
        case dict():
            return {str(key): shape(one) for key, one in sorted(value.items())}
        case list():
            merged: Any = None
            for one in value:
                merged = shape(one) if merged is None else together(merged, shape(one))
            return [] if merged is None else [merged]
        case bool():
            return "boolean"
        case None:
            return "null"
        case int() | float():
            return "number"
        case _:
            return "string"


def together(one: Any, other: Any) -> Any:
    """Two shapes that stand at one place."""
    if one == other:
        return one
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: together(one.get(key, "absent"), other.get(key, "absent")) for key in sorted({*one, *other})}
    if isinstance(one, list) and isinstance(other, list):
        return [together(one[0], other[0])] if one and other else one or other
    if isinstance(one, str) and isinstance(other, str):
        return "|".join(sorted({*one.split("|"), *other.split("|")}))
    return one if not isinstance(one, str) else other


def check(name: str, value: Any) -> None:
    """Compare with the golden file, or write it."""
    file = GOLDEN / f"{name}.json"
    text = json.dumps(shape(value), indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.is_file(), "no golden file yet; see the top of this file"
    assert file.read_text(encoding="utf-8") == text


def stopped(process: subprocess.Popen[str]) -> list[Any]:
    """Every line that a process said, after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [json.loads(line) for line in told.splitlines()]


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
    )


class System:
    """A development server with one simulated backend, and commands that run beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.data = home, home / "data"
        self.sim = started(
            "sim-backend", "--port", "0", "--first-token", "0", "--tokens-per-second", "0", "--output", "jsonl"
        )
        self.sim_events = [self.line(self.sim)]
        config = home / "turnout.toml"
        config.write_text(
            f'[[backends]]\nname = "sim"\nurl = "{self.sim_events[0]["url"]}"\nlocal = true\n'
            'models = [{name = "sim-small", context_tokens = 8192}]\n',
            encoding="utf-8",
        )
        self.dev = started(
            "dev", "--nats-port", "0", "--data-dir", str(self.data), "--config", str(config), "--output", "jsonl"
        )
        self.dev_events = [self.line(self.dev)]
        while self.dev_events[-1]["event"] != "ready":
            self.dev_events.append(self.line(self.dev))

    @staticmethod
    def line(process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        return json.loads(process.stdout.readline())


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    there = System(tmp_path_factory.mktemp("machines"))
    yield there
    check("dev", [*there.dev_events, *stopped(there.dev)])
    check("sim-backend", [*there.sim_events, *stopped(there.sim)])


def told(system: System, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """What a command tells; the same as `json` and as `jsonl`, but for what changes by being asked twice."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("TURNOUT_"):
                patch.delenv(name)
        patch.chdir(system.home)
        patch.setenv("TURNOUT_DISCOVER", "false")
        found = app.run([*words, "--data-dir", str(system.data), "--output", "json"])
    said = capsys.readouterr()
    assert found == code, (words, said.out, said.err)
    assert len(said.out.splitlines()) == 1, "one document on one line"
    return json.loads(said.out)


def test_jobs_and_what_becomes_of_them(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*words: str, code: int = 0) -> Any:
        return told(system, capsys, *words, code=code)

    one = ask("submit", "hello there", "--id", "one", "--quiet")
    assert one["ending"] == "succeeded"
    check("submit", one)
    (system.home / "jobs.jsonl").write_text('{"prompt": "hello", "id": "two"}\n', encoding="utf-8")
    check("submit-file", ask("submit", "--file", "jobs.jsonl", "--quiet"))
    check("submit-no-wait", ask("submit", "later", "--id", "three", "--no-wait", "--quiet"))
    end = time.monotonic() + 60  # Until the history has them.
    while len(ask("jobs", "--state", "succeeded")) < 3 and time.monotonic() < end:
        time.sleep(0.2)
    check("jobs", ask("jobs", "--state", "succeeded"))
    check("get", ask("get", "one"))
    check("rate", ask("rate", "one", "5", "--by", "ada"))
    check("cancel", ask("cancel", "one", code=1))
    assert ask("cancel", "--all", "--yes") == []
    check("why", ask("why", "one"))
    check("policy-explain", ask("policy", "explain", "one"))
    check("verify", ask("verify", "--all"))
    check("decide", ask("decide", "a haiku"))
    check("quote", ask("quote", "a haiku"))
    check("estimate", ask("estimate", "--jobs", "10"))
    check("recommend", ask("recommend", "--jobs", "10", "--budget", "1"))
    check("backends", ask("backends"))
    assert ask("backends", "show", "sim")["totals"][0]["succeeded"] == 3
    check("rebalance", ask("rebalance", "--by", "ada"))
    check("doctor", ask("doctor", "--config", "turnout.toml"))
    check("alerts", ask("alerts"))


def test_what_people_set(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*words: str, code: int = 0) -> Any:
        return told(system, capsys, *words, code=code)

    check("budget-set", ask("budget", "set", "daily", "--limit", "5.00", "--by", "ada"))
    check("budget-raise", ask("budget", "raise", "daily", "--limit", "6.00", "--by", "ada"))
    end = time.monotonic() + 60
    while not any(one["name"] == "daily" for one in ask("budget", "list")) and time.monotonic() < end:
        time.sleep(0.1)
    assert ask("budget", "show", "daily")["limit"] == 6_000_000
    check("budget", [one for one in ask("budget", "list") if one["name"] == "daily"])
    check("budget-remove", ask("budget", "remove", "daily", "--by", "ada"))
    check("breaker-open", ask("breaker", "open", "sim", "--by", "ada"))
    check("breaker", ask("breaker", "list"))
    check("breaker-close", ask("breaker", "close", "sim", "--by", "ada"))
    (system.home / "mine.toml").write_text('policy = "mine"\n\n[[rules]]\nname = "r"\nstrategy = "cost_first"\n')
    (system.home / "bad.toml").write_text('policy = "bad"\nordr = 1\n')
    check("policy-check", ask("policy", "check", "mine.toml", "bad.toml", code=1))
    check("policy-diff", ask("policy", "diff", "mine.toml"))
    check("policy-apply", ask("policy", "apply", "mine.toml", "--by", "ada"))
    check("policy", [one for one in ask("policy", "show") if one["policy"] == "mine"])
    check("policy-remove", ask("policy", "remove", "mine", "--by", "ada"))
    check("policy-sets", ask("policy", "use"))
    check("policy-use", ask("policy", "use", "002", "--by", "ada"))
    ask("policy", "use", "default", "--by", "ada")
    check("preferences-set", ask("preferences", "set", "--quality", "draft"))
    check("preferences", ask("preferences", "show"))
    check("preferences-clear", ask("preferences", "clear"))
    check("prices", ask("prices", "show"))
    check("prices-set", ask("prices", "set", "sim", "sim-small", "--in", "1", "--out", "2"))
    check("prices-check", ask("prices", "check"))
    check("setup", ask("setup"))
    check("env", ask("env"))


def test_what_needs_no_bus(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    check("recipes", told(system, capsys, "recipes", "show", "upscale"))
    assert {row["name"] for row in told(system, capsys, "recipes")} >= {"upscale", "text-to-video"}
    for words, name in ((("schema", "JobCancel"), "schema"), (("completion", "bash"), "completion")):
        assert app.run([*words, "--output", "json"]) == 0
        document = json.loads(capsys.readouterr().out)
        check(name, sorted(document) if name == "schema" else document)
    summary = summarize(["j-1"], [], [], backends=["a"])
    check("demo", json.loads(msgspec.json.encode(summary)))


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_stream_is_a_line_for_each_or_a_list_in_the_end(
    system: System, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["watch", "--data-dir", str(system.data), "--output", form]
    watch = subprocess.Popen(
        [*RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert watch.stderr is not None
    while "watching" not in watch.stderr.readline():
        assert watch.poll() is None
    told(system, capsys, "submit", "hi", "--id", f"seen-{form}", "--quiet")
    watch.send_signal(signal.SIGINT)
    text, _ = watch.communicate(timeout=60)
    heard = json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]
    assert heard
    assert {"subject", "time", "event"} == set(heard[0])
    check(
        "watch", [{"subject": one["subject"], "time": one["time"], "event": {"type": "turnout.any"}} for one in heard]
    )


def test_every_command_has_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for name in app.found():
        assert app.run([name, "--help"]) == 0
        assert "--output" in capsys.readouterr().out, name
