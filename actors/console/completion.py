"""`turnout completion`: what a shell needs to complete commands and flags."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from actors.console.output import TEXT, Output
from actors.console.screen import OK, out

Shell = Literal["bash", "zsh", "fish", "powershell"]
FILES: dict[Shell, str] = {
    "bash": "~/.local/share/bash-completion/completions/turnout", "zsh": "~/.zfunc/_turnout",
    "fish": "~/.config/fish/completions/turnout.fish", "powershell": "a file that $PROFILE reads",
}  # fmt: skip
"""Where each shell looks."""


def completion(shell: Annotated[Shell, Parameter(help="Which shell.")], *, output: Output = TEXT) -> int:
    """Print what a shell needs to complete commands and flags.

    As in: turnout completion bash > ~/.local/share/bash-completion/completions/turnout.
    """
    from actors.console.app import build, found

    script = build(found(), "").generate_completion(prog_name="turnout", shell=shell)
    if output.machine:
        output.one({"shell": shell, "file": FILES[shell], "script": script})
    else:
        out.file.write(script)
    return OK
