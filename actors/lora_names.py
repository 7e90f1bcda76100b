"""Which LoRA of a server a job means: the same rule for who decides where a job goes and for who runs it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable


def lora_named(wanted: str, names: Iterable[str]) -> str | None:
    """The LoRA of the server that a job means: by its whole name, else by its file name with or without its ending.

    None when there is none, or when several files of that name lie in different folders.
    """
    known = tuple(names)
    if wanted in known:
        return wanted
    found = [name for name in known if wanted in (_file(name), _file(name).rpartition(".")[0])]
    return found[0] if len(found) == 1 else None


def _file(name: str) -> str:
    return re.split(r"[\\/]", name)[-1]
