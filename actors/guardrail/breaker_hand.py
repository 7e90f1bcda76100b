"""What a person does with a breaker, and what a new executor or a good health check means for one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.guardrail.breaker import closed, without_lease
from messages import Breaker

UNTIL_CLOSED = 32_503_680_000.0
"""The year 3000: until when a breaker is open that was opened by hand."""


def changed(breaker: Breaker, executors: Sequence[str], now: float) -> Breaker | None:
    """An account's breaker after its backend was announced anew: closed when an executor serves it that was not there when
    it opened, since that one may have another key. None when nothing changes.
    """
    if breaker.cause != "account":
        return None
    if set(executors) - set(breaker.executors):
        return closed(breaker, now)
    left = tuple(one for one in breaker.executors if one in executors)
    return None if left == breaker.executors else msgspec.structs.replace(breaker, executors=left)


def tried_early(breaker: Breaker, now: float) -> Breaker | None:
    """The breaker after its backend has answered a health check again, having failed them while it was open: half-open, since
    only a call can close it. None when nothing changes: what was no failure, or has opened before lately, keeps its time.
    """
    if breaker.cause != "failures" or breaker.strikes > 1 or not breaker.opened_at <= now < breaker.open_until:
        return None
    return msgspec.structs.replace(breaker, open_until=now)


def opened_by_hand(breaker: Breaker, by: str, now: float) -> Breaker:
    """Open until a hand closes it."""
    return msgspec.structs.replace(
        without_lease(breaker), open_until=UNTIL_CLOSED, opened_at=now, times_opened=max(1, breaker.times_opened),
        cause="manual", reason=f"opened by hand by {by}"[:200], by=by,
    )  # fmt: skip


def closed_by_hand(breaker: Breaker, by: str, now: float) -> Breaker:
    """Closed, with nothing held against it."""
    return msgspec.structs.replace(closed(breaker, now), strikes=0, by=by)
