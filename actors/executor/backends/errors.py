"""The error for what a server answered: what went wrong, in one sentence, without secrets. Pure.

`complaint` reads the body, `error_words` says what it means, `waits` how long to wait, and `redaction` takes the keys out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from actors.executor.backends.complaint import Complaint, complaint_in, complaint_of
from actors.executor.backends.error_fields import as_list, as_object
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
_CODED: Final = re.compile(r"error-?(?:type|code|name|reason)$")
"""Headers that name the kind of an error."""


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

    `now` is in seconds since the epoch; 0: unknown, so points in time say nothing. `complaint` is given when the
    caller has read the body already.
    """
    secrets = tuple(secrets)
    complaint = complaint or complaint_of(body)
    should_retry = {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
    if should_retry is None and complaint.exhausted:
        should_retry = False
    complaint = msgspec.structs.replace(complaint, words=complaint.words | _codes_in(headers))
    waits = [retry_after_seconds(headers, now), complaint.retry_after_seconds, *_later(complaint, now)]
    ruling = ruling_of(status, complaint, wait=next((wait for wait in waits if wait is not None), None))
    kind = ruling.kind
    if should_retry is None and ruling.elsewhere:
        should_retry = False
    if kind == "bad_request" and should_retry:
        kind = "server_error"  # The server knows better whose fault it was.
    if kind == "rate_limited":
        waits += [reset_seconds(headers, now), reset_seconds(complaint.headers, now) if now else None]
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


def _codes_in(headers: Mapping[str, str]) -> frozenset[str]:
    """Codes that come beside the body: `x-amzn-errortype: ThrottlingException:http://…`."""
    return frozenset(
        value.split(":")[0].strip() for name, value in headers.items() if _CODED.search(name.lower()) and value.strip()
    )


def _later(complaint: Complaint, now: float) -> list[float | None]:
    """The wait until a point in time that the body names; none where the present is unknown, or the point is past."""
    if not now:
        return []
    wait = None if complaint.works_again_at is None else complaint.works_again_at - now
    return [wait if wait is not None and wait > 0 else None, retry_after_seconds(complaint.headers, now)]


def shorten(text: str, limit: int) -> str:
    """`text` on one line, at most `limit` characters long (at least 1)."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
