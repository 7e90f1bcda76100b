"""The error for what a server answered: what went wrong, in one sentence, without secrets. Pure.

`complaint` reads the body, `error_words` says what it means, `waits` how long to wait, and `redaction` takes the keys out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from actors.executor.backends.complaint import Complaint, as_object, complaint_in, complaint_of
from actors.executor.backends.error_words import kind_of
from actors.executor.backends.port import BackendError
from actors.executor.backends.redaction import redact
from actors.executor.backends.waits import reset_seconds, retry_after_seconds

__all__ = ["Complaint", "as_object", "complaint_in", "complaint_of", "failure", "failure_in", "redact", "shorten"]

_MESSAGE_LIMIT: Final = 300


def failure(
    status: int,
    body: str,
    headers: Mapping[str, str],
    *,
    now: float,
    secrets: Iterable[str] = (),
    complaint: Complaint | None = None,
) -> BackendError:
    """The error for an answer with this status, body and headers (lower-case names), without any of `secrets`.

    `now` is in seconds since the epoch. `complaint` is given when the caller has read the body already.
    """
    secrets = tuple(secrets)
    complaint = complaint or complaint_of(body)
    should_retry = {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
    if should_retry is None and complaint.exhausted:
        should_retry = False
    kind = kind_of(status, complaint)
    if kind == "bad_request" and should_retry:
        kind = "server_error"  # The server knows better whose fault it was.
    waits = [retry_after_seconds(headers, now), complaint.retry_after_seconds]
    if kind == "rate_limited":
        waits.append(reset_seconds(headers, now))
    words = " ".join(sorted(complaint.words))
    said = shorten(redact(complaint.message or words, secrets), _MESSAGE_LIMIT) or "no reason given"
    where = f"HTTP {status}" if status >= 300 else "an error inside the answer"
    return BackendError(
        kind,
        f"{where}: {said}",
        status=status,
        body=redact(body, secrets),
        retry_after_seconds=next((wait for wait in waits if wait is not None), None),
        should_retry=should_retry,
        input_tokens=complaint.counts.input_tokens if kind == "too_large" else None,
        limit_tokens=complaint.counts.limit_tokens if kind == "too_large" else None,
    )


def failure_in(event: bytes, *, secrets: Iterable[str] = ()) -> BackendError:
    """The error for an event that is one by its name, whatever its form."""
    body = event.decode("utf-8", "replace")
    return failure(200, body, {}, now=0.0, secrets=secrets)


def shorten(text: str, limit: int) -> str:
    """`text` on one line, at most `limit` characters long (at least 1)."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
