"""Completions for shells."""

import pytest

from actors.console import app


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_the_commands_and_their_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["completion", shell]) == 0
    said = capsys.readouterr().out
    for word in ("submit", "backends", "--quality" if shell != "fish" else "quality"):
        assert word in said


def test_an_unknown_shell_is_told_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["completion", "csh"]) == 2
    assert "bash" in capsys.readouterr().err
