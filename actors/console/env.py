"""`turnout env`: the address of the bus, for a shell and for other NATS clients."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from actors.console.output import TEXT, Output
from actors.console.reach import HERE, Where, address
from actors.console.screen import OK, Complaint, Wrong, err, out
from bus.private import private_directory, write_private

Shell = Literal["sh", "fish", "powershell", "none"]
_FORMS = {"sh": "export NATS_URL={}", "fish": "set -gx NATS_URL {}", "powershell": "$env:NATS_URL = {}", "none": "{}"}


def env(
    *,
    shell: Annotated[Shell, Parameter(help="Whose words: `sh` for bash and zsh too, `none` for the URL alone.")] = "sh",
    context: Annotated[
        str | None, Parameter(help="Write it as a context of this name for the `nats` command instead.")
    ] = None,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Print NATS_URL for the shell, so that any NATS client finds the bus: `eval "$(turnout env)"`. It holds the token."""
    url, source = address(where.settings(), where)
    if context is not None:
        file = _write_context(context, url)
        if output.machine:
            output.one({"url": url, "from": source, "context": str(file)})
            return OK
        err.print(f"written to {file}; `nats --context {context} sub 'job.>'` uses it", soft_wrap=True, highlight=False)
        return OK
    if source == "the default":
        err.print(f"no `turnout dev` runs with this data directory: this is {source}", style="yellow", soft_wrap=True)
    if output.machine:
        output.one({"url": url, "from": source, "context": None})
        return OK
    quoted = (
        url if shell == "none" else "'" + url.replace("'", "''") + "'" if shell == "powershell" else shlex.quote(url)
    )
    out.print(_FORMS[shell].format(quoted), soft_wrap=True, highlight=False, markup=False)
    return OK


def _write_context(name: str, url: str) -> Path:
    """The file that the `nats` command reads. Raises Wrong for a name that is none, and Complaint when it can't be written."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise Wrong(f"--context {name!r}: a name of letters, digits, '_', '-' and '.'", "--context turnout")
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    file = Path(home) / "nats" / "context" / f"{name}.json"
    body = {"description": "turnout", "url": url}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        private_directory(file.parent)
        write_private(file, msgspec.json.format(msgspec.json.encode(body)).decode() + "\n")
    except OSError as error:
        raise Complaint(f"{file}: {error.strerror}") from None
    return file
