"""What the documents show must work as it stands there."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stdout
from functools import cache
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


@cache
def help_of(command: str) -> str:
    said = io.StringIO()
    with redirect_stdout(said):
        assert app.run([command, "--help"]) == 0
    return said.getvalue()


@pytest.mark.parametrize("words", [w for w in commands() if w[0].endswith("turnout")], ids=" ".join)
def test_commands_and_flags_exist(words: list[str]) -> None:
    """Every command that is shown is one, and knows the flags that are shown."""
    known = help_of(words[1])
    for flag in [word for word in words[2:] if word.startswith("--")]:
        assert flag in known, f"{words[1]} does not know {flag}"
