"""What is wrong with a policy, in words that say where and what would be right. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from actors.toml_lines import Path

Say = Callable[[Path, Any, str], None]
"""Notes a fault: where, the offending value (None: there is none), and what would be right."""

LONGEST_VALUE = 200
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong in a policy, or odd about it."""

    file: str
    """File, or environment variable."""
    line: int = 0
    """Line in it, from 1; 0: it is about no line."""
    field: str = ""
    """The field as a path: `rules[0].match.task`; empty: it is about all of it."""
    value: str = ""
    """The offending value as text, cut at 200 characters."""
    message: str
    """What is wrong and what would be right."""

    def __str__(self) -> str:
        """`file:line: field: message`, without the parts that are not known."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.field, self.message) if part)


class PolicyError(ValueError):
    """A policy is refused; its text has one line for each fault."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: (fault.file, fault.line))
        super().__init__("\n".join(str(fault) for fault in self.faults))


def dotted(path: Path) -> str:
    """A path as people write it: `models."llama3.1:8b".roles[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.match(part) else quoted(part))
    return text


def quoted(text: str) -> str:
    """A text as a TOML string on one line."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def shown(value: Any) -> str:
    """A value as text, cut at 200 characters; empty for none."""
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint to the known word that was probably meant, else all of them."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Known: {', '.join(names)}." if names else "None is known."
