"""What Google's error details say: why, how long to wait, and whether waiting helps. Pure.

They are lists of `google.rpc` messages, each with its type in `@type`: ErrorInfo, RetryInfo, QuotaFailure.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, cast

import msgspec

_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)s")
_LONG: Final = re.compile(r"(?i)per_?(?:day|month)")


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """The details of one error, as far as they matter."""

    reasons: frozenset[str] = frozenset()
    """Of its ErrorInfo: `API_KEY_INVALID`."""
    retry_after_seconds: float | None = None
    """Of its RetryInfo: at least 0 and finite; None: it does not say."""
    exhausted: bool = False
    """A quota is used up for the day or longer, or is 0: waiting a little does not help."""


def read_details(details: object) -> Details:
    """What an error's `details` say; nothing when they are no such list."""
    reasons: set[str] = set()
    delay: float | None = None
    exhausted = False
    for item in cast("list[Any]", details) if isinstance(details, list) else []:
        fields = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
        reason: Any = fields.get("reason")
        if isinstance(reason, str) and reason:
            reasons.add(reason)
        delay = _seconds(fields.get("retryDelay")) if delay is None else delay
        violations: Any = fields.get("violations")
        for violation in cast("list[Any]", violations) if isinstance(violations, list) else []:
            exhausted = exhausted or _is_hopeless(violation)
    return Details(reasons=frozenset(reasons), retry_after_seconds=delay, exhausted=exhausted)


def _seconds(value: object) -> float | None:
    """A `google.protobuf.Duration` in JSON: `46s`, `1.5s`."""
    found = _DELAY.fullmatch(value) if isinstance(value, str) else None
    seconds = float(found[1]) if found else math.inf
    return seconds if math.isfinite(seconds) else None


def _is_hopeless(violation: object) -> bool:
    fields = cast("dict[str, Any]", violation) if isinstance(violation, dict) else {}
    return bool(_LONG.search(str(fields.get("quotaId") or ""))) or str(fields.get("quotaValue") or "") == "0"
