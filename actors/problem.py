"""How a refusal is put into words: the field, its value, what would be right, and the nearest known name. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final

from messages import Message, Problem

MOST_REASON: Final = 1_000
"""Characters of a decoder's message."""
MOST_FIELD: Final = 128
"""Characters of a field's name."""
_PATH = re.compile(r"`\$\.?([^`]*)`")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_MISSING = re.compile(r"required field `([^`]+)`")


def invalid(field: str, value: Any, right: str) -> Problem:
    """A problem that names the field, the value and what would be right."""
    shown = repr(value) if isinstance(value, str) else str(value)
    return Problem(
        reason="invalid", field=field, value=shown[:200], message=f"{field} is {shown[:80] or 'empty'}: {right}"
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the known name most like `word`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""


def unreadable(kind: type[Message], thing: str, reason: str) -> Problem:
    """A problem from a decoder's message, with the field it points at and the nearest name for an unknown one.

    `thing` is what the body should have been, in a word.
    """
    unknown = _UNKNOWN.search(reason)
    if unknown:
        known, name = [name for name in kind.__struct_fields__ if name != "tenant"], unknown[1][:MOST_FIELD]
        text = f"{name} is not a field of a {thing}.{nearest(name, known)} Known: {', '.join(known)}."
        return Problem(reason="invalid", field=name, message=text)
    path = _PATH.search(reason) or _MISSING.search(reason)
    field = path[1][:MOST_FIELD] if path else ""
    if len(reason) > MOST_REASON:  # It repeats the value; where it lies comes last.
        reason = f"{reason[: MOST_REASON // 2]} … {reason[-MOST_REASON // 2 :]}"
    text = f"{field}: {reason}" if field else f"the body is not a {thing} in JSON: {reason}"
    return Problem(reason="invalid" if field else "undecodable", field=field, message=text)
