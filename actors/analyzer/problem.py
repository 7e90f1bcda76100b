"""How a refusal is put into words: the field, its value, what would be right, and the nearest known name. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from messages import Problem


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
