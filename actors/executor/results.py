"""Where a result lies: in its event, or in the object store when it is too large for that."""

from __future__ import annotations

import hashlib

import msgspec

from actors.journal import Journal
from messages import ObjectRef, Result, Work, token

LARGE_RESULT_BYTES = 262_144
"""A result above this size lies in the object store, and events carry a reference."""


async def put_aside(journal: Journal, work: Work, result: Result) -> Result:
    """The result as events carry it: itself, or the reference to it in the object store. Raises the bus's errors."""
    encoded = msgspec.json.encode(result)
    if len(encoded) <= LARGE_RESULT_BYTES:
        return result
    data, media_type = (result.text or "").encode(), "text/plain; charset=utf-8"
    if result.tool_calls:
        data, media_type = encoded, "application/json"
    key = f"{token(work.tenant)}/{token(work.job)}/{work.n}"  # A `/` in a name must not lead to another's.
    await journal.keep(key, data)
    digest = hashlib.sha256(data).hexdigest()
    ref = ObjectRef(key=key, size_bytes=len(data), sha256=digest, media_type=media_type)
    return Result(ref=ref, finish_reason=result.finish_reason)
