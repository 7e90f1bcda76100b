"""Files and directories for their owner alone: what turnout keeps on a machine holds prompts, answers and ways in."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


def private_directory(path: Path) -> Path:
    """`path` as a directory that nobody else can look into; made when it is not there. Raises OSError.

    One that belongs to somebody else is used as it is: its owner decides who sees it.
    """
    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        if path.stat().st_mode & 0o777 != DIRECTORY_MODE:
            path.chmod(DIRECTORY_MODE)
    return path


def write_private(path: Path, text: str) -> None:
    """Put `text` into a file that nobody else can read, whole or not at all. A link in its place is replaced, not followed.

    Raises OSError.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def make_private(path: Path) -> None:
    """Let nobody else read a file that is there, or will be: it is made empty, if need be. Raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, FILE_MODE))
    with contextlib.suppress(PermissionError):
        if path.stat().st_mode & 0o777 != FILE_MODE:
            path.chmod(FILE_MODE)
