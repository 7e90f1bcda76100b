"""Runs the program that switches an exclusive group: no shell, no secrets, a time limit, and the end of what it said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from typing import Final

PASSED_ON: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
    "CUDA_VISIBLE_DEVICES", "SYSTEMROOT",
)  # fmt: skip
"""Variables of ours that the program gets; keys stay here."""
SAID_CHARACTERS: Final = 1_000
"""So much of the end of its output is kept."""
KILL_SECONDS: Final = 2.0
"""Between the request to end and the end."""


class ScriptFailed(Exception):
    """The program did not do its work; the text says why."""


async def run_script(
    command: Sequence[str],
    variables: Mapping[str, str],
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end. Servers that it leaves behind live on. Raises ScriptFailed."""
    ours = os.environ if environment is None else environment
    given = {name: ours[name] for name in PASSED_ON if name in ours} | dict(variables)
    with tempfile.TemporaryFile() as said:  # A pipe would stay open for as long as a server it started.
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, env=given, start_new_session=True
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ScriptFailed(f"{command[0]} can't be run: {reason}") from error
        try:
            async with asyncio.timeout(timeout_seconds):
                code = await process.wait()
        except TimeoutError:
            await _end(process)
            raise ScriptFailed(f"{command[0]} was ended after {timeout_seconds:g} s{_tail(said.fileno())}") from None
        except asyncio.CancelledError:
            await _end(process)
            raise
        if code != 0:
            ended = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
            raise ScriptFailed(f"{command[0]} {ended}{_tail(said.fileno())}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await process.wait()
                return


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, 4 * SAID_CHARACTERS, max(0, size - 4 * SAID_CHARACTERS))
    text = " ".join(data.decode("utf-8", "replace").split())
    return f": {text[-SAID_CHARACTERS:]}" if text else ""
