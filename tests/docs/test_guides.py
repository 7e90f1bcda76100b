"""What the documents show must work as it stands there."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from pathlib import Path

import pytest

from actors.console import app
from actors.settings import Settings, load
from bus import codec
from messages import JobSubmit

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(language: str) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        found += [(path, block) for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]
    return found


def commands() -> list[list[str]]:
    found: list[list[str]] = []
    for _, block in blocks("console"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append(words)
    return found


def test_settings_examples_are_accepted(tmp_path: Path) -> None:
    examples = blocks("toml")
    assert examples
    for number, (path, block) in enumerate(examples):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, encoding="utf-8")
        assert isinstance(load(file), Settings), path


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[1] for words in commands() if words[0] == "make"}
    assert {"demo", "test"} <= named <= targets


def test_published_examples_are_messages() -> None:
    published = {words[2]: words[3] for words in commands() if words[:2] == ["nats", "pub"]}
    assert published
    for subject, body in published.items():
        assert codec.type_at(subject) is JobSubmit
        assert codec.decode(JobSubmit, body.encode()).prompt


SHOWN = [words for words in commands() if words[0].endswith("turnout")]
STAND_IN = {"JOB": "j-1", "NAME": "sim", "SELLER": "sim", "MODEL": "m", "ID": "j-1"}
"""What is written large stands for something of the reader's."""
STARTS = ("demo", "dev", "run", "sim-backend")
"""Commands that go on until they are stopped."""


SETTINGS = """
[[backends]]
name = "vllm-dolphin"
url = "http://127.0.0.1:1"
exclusive_group = "gpu"

[[groups]]
name = "gpu"
switch = ["false", "{backend}"]
timeout_seconds = 1
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the documents name."""
    there = tmp_path_factory.mktemp("home")
    (there / "scenarios" / "jobs").mkdir(parents=True)
    (there / "scenarios" / "jobs" / "mixed.jsonl").write_text('{"prompt": "hello"}\n', encoding="utf-8")
    (there / "jobs.jsonl").write_text('{"prompt": "hello"}\n', encoding="utf-8")
    (there / "passages.txt").write_text("one\ntwo\n", encoding="utf-8")
    (there / "workflow.json").write_text('{"1": {"class_type": "SaveImage", "inputs": {}}}', encoding="utf-8")
    (there / "turnout.toml").write_text(SETTINGS, encoding="utf-8")
    (there / "fox.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("my.toml", "mine.toml"):
        (there / name).write_text('policy = "mine"\n', encoding="utf-8")
    return there


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_every_command_that_is_shown_runs(
    words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the flags that are shown, as far as the bus, which is not there: no word of it is misunderstood.

    Those that would go on are asked for their help instead, which knows their flags.
    """
    monkeypatch.chdir(home)
    for name in [name for name in os.environ if name.startswith("TURNOUT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TURNOUT_DISCOVER", "false")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # Nothing is fetched from anywhere.
    given = list(itertools.takewhile(lambda word: word not in (">", "|", "&"), words[1:]))
    given = [STAND_IN.get(word, word) for word in given]
    if given[0] in STARTS or "--help" in given:
        assert app.run([given[0], "--help"]) == 0
        said = capsys.readouterr().out
        assert all(word in said for word in given if word.startswith("--"))
        return
    takes_bus = given[0] not in ("schema", "completion")
    nowhere = [] if "--nats" in given or not takes_bus else ["--nats", "nats://127.0.0.1:1"]
    code = app.run([*given, *nowhere])
    said = capsys.readouterr().err
    assert code in (0, 1, 3), said
    assert "Traceback" not in said
