"""The error for what a server answered: what went wrong, in one sentence, without secrets. Pure.

`complaint` reads the body, `error_words` says what it means, `waits` how long to wait, and `redaction` takes the keys out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from actors.executor.backends.complaint import Complaint, as_list, as_object, complaint_in, complaint_of
from actors.executor.backends.error_words import of_a_job, ruling_of
from actors.executor.backends.port import BackendError
from actors.executor.backends.redaction import redact
from actors.executor.backends.waits import reset_seconds, retry_after_seconds

__all__ = [
    "Complaint",
    "as_list",
    "as_object",
    "complaint_in",
    "complaint_of",
    "failure",
    "failure_in",
    "job_failure",
    "redact",
    "shorten",
]

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
    ruling = ruling_of(status, complaint)
    kind = ruling.kind
    if should_retry is None and ruling.elsewhere:
        should_retry = False
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


def job_failure(
    said: str, where: str, *, words: Iterable[str] = (), refused: bool = False, status: int = 200, body: str = "",
    secrets: Iterable[str] = (),
) -> BackendError:  # fmt: skip
    """The error of a job that a server took and that failed there, or (`refused`) that it did not take.

    By what is `said` of it and `words` that name its kind; `body` is all that was told. `where` comes first in the sentence.
    """
    secrets = tuple(secrets)
    told = complaint_of(said)
    told = msgspec.structs.replace(told, words=told.words | frozenset(words), page=False)
    ruling = of_a_job(told, refused=refused)
    hint = f"{ruling.rule.hint}. " if ruling.rule is not None and ruling.rule.hint else ""
    text = shorten(redact(told.message, secrets), _MESSAGE_LIMIT) or "no reason given"
    return BackendError(
        ruling.kind, f"{where}: {hint}{text}", status=status, body=redact(body or said, secrets),
        should_retry=False if ruling.elsewhere else None,
    )  # fmt: skip


def failure_in(event: bytes, *, secrets: Iterable[str] = ()) -> BackendError:
    """The error for an event that is one by its name, whatever its form."""
    body = event.decode("utf-8", "replace")
    return failure(200, body, {}, now=0.0, secrets=secrets)


def shorten(text: str, limit: int) -> str:
    """`text` on one line, at most `limit` characters long (at least 1)."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
