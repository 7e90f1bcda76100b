"""What went wrong? Reads error bodies of every known form and classifies them. Pure."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.gemini_errors import read_details
from actors.executor.backends.port import BackendError, ErrorKind

_MESSAGE_LIMIT: Final = 300

_ACCOUNT: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_error",
        "invalid_api_key",
        "authentication_error",
        "permission_error",
        "API_KEY_INVALID",
    }
)
_UNKNOWN_MODEL: Final = frozenset({"model_not_found", "not_found_error", "NotFoundError"})
# Google's FAILED_PRECONDITION: the place, the tier or the model does not allow it.
_NOT_HERE: Final = frozenset({"model_not_found", "unsupported_parameter", "unsupported_value", "FAILED_PRECONDITION"})
_BLOCKED: Final = frozenset(
    {
        "moderation_blocked",
        "content_policy_violation",
        "image_content_policy_violation",
        "misalignment_policy_violation",
        "bio_policy",
        "content_filter",
    }
)

# Only for errors inside a 200, where the words are all there is.
_STATUS_OF_WORD: Final = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "slow_down": 429,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
    "ServiceUnavailableError": 503,
    "unavailable_error": 503,
    "overloaded_error": 529,
    "timeout_error": 504,
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "UnprocessableEntityError": 422,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "unsupported_parameter": 400,
    "unsupported_value": 400,
    "not_supported_error": 501,
    "request_too_large": 413,
    "invalid_prompt": 400,
}
_KIND_OF_STATUS: Final[dict[int, ErrorKind]] = {
    401: "account",
    402: "account",
    403: "account",
    404: "unknown_model",
    405: "unknown_model",
    408: "timeout",
    409: "server_error",
    410: "unknown_model",
    425: "server_error",
    429: "rate_limited",
    499: "server_error",
    501: "unknown_model",
    503: "overloaded",
    504: "timeout",
    524: "timeout",
    529: "overloaded",
}
# Local servers answer 500 to some requests that will never work, and 400 to some that would work elsewhere.
_WRONG_REQUEST: Final = re.compile(r"(?i)parse error|failed to parse|syntax error|is required|missing required")
_WRONG_BACKEND: Final = re.compile(r"(?i)does not support|input is not supported|server is pinned to")
_KEYS: Final = re.compile(r"\b(?:sk|rk|pk|rpa)[-_][A-Za-z0-9_-]{12,}|\bAIza[A-Za-z0-9_-]{20,}|(?<=Bearer )[^\s\"']+")


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """An error body, understood as far as possible."""

    message: str = ""
    words: frozenset[str] = frozenset()
    """Its `code`, `type`, `status`, `details.error_code` and the reasons of Google's `details`, those that are text."""
    status: int | None = None
    """Its `code` or `status` where that is an HTTP error status (vLLM, llama.cpp)."""
    param: str = ""
    """The request's field that is to blame."""
    retry_after_seconds: float | None = None
    """How long to wait, where the body says it (Google); None: it does not."""
    exhausted: bool = False
    """A quota is used up for so long that waiting does not help (Google)."""


def as_object(value: object) -> dict[str, Any] | None:
    """`value` if it is a JSON object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def complaint_in(event: Mapping[str, Any]) -> Complaint | None:
    """The error that a JSON object reports, or None when it reports none.

    Knows `{"error": {...}}`, `{"error": "text"}`, `{"detail": ...}` and the flat `{"object": "error", ...}`.
    """
    error: Any = event.get("error")
    if error:
        inner = as_object(error)
        return _read(inner) if inner is not None else Complaint(message=_text(error), status=_status(event))
    if event.get("object") == "error" or event.get("type") == "error":
        return _read(event)
    detail: Any = event.get("detail")
    if detail and "choices" not in event:
        return Complaint(message=_text(detail))
    return None


def complaint_of(body: str) -> Complaint:
    """What an error body says, whatever its form; plain text is its own message."""
    try:
        decoded: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Complaint(message=body.strip())
    event = as_object(_only(decoded))
    if event is None:
        return Complaint(message=_text(decoded))
    return complaint_in(event) or _read(event)


def kind_of(status: int, complaint: Complaint) -> ErrorKind:
    """The kind of failure that an answer's status and body mean together.

    A status below 300 says that the error came inside a successful answer; then the body alone decides.
    """
    words = complaint.words
    if words & _ACCOUNT or any(word.endswith("_spend_limit_reached") for word in words):
        return "account"
    if words & _BLOCKED:
        return "empty"
    if status < 300:
        status = complaint.status or next((_STATUS_OF_WORD[word] for word in sorted(words & _STATUS_OF_WORD.keys())), 0)
        if words & _UNKNOWN_MODEL:
            return "unknown_model"
        if status == 0:
            status = 500
    if status < 400:
        return "invalid_structure"  # A redirect: the address is wrong, and a POST must not be moved.
    if status in _KIND_OF_STATUS:
        return _KIND_OF_STATUS[status]
    if status in {400, 500} and (words & _NOT_HERE or _WRONG_BACKEND.search(complaint.message)):
        return "unknown_model"
    if status == 500 and _WRONG_REQUEST.search(complaint.message):
        return "bad_request"
    return "server_error" if status >= 500 else "bad_request"


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
    wait = retry_after_seconds(headers, now)
    kind = kind_of(status, complaint)
    if kind == "bad_request" and should_retry:
        kind = "server_error"  # The server knows better whose fault it was.
    words = " ".join(sorted(complaint.words))
    said = shorten(redact(complaint.message or words, secrets), _MESSAGE_LIMIT) or "no reason given"
    where = f"HTTP {status}" if status >= 300 else "an error inside the answer"
    return BackendError(
        kind,
        f"{where}: {said}",
        status=status,
        body=redact(body, secrets),
        retry_after_seconds=complaint.retry_after_seconds if wait is None else wait,
        should_retry=should_retry,
    )


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """How long the server asks to be left alone: at least 0 and finite, or None when it does not say.

    Reads `retry-after-ms`, then `retry-after` as a number of seconds or an HTTP date; `now` is in epoch seconds.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is not None or not value:
        return seconds
    try:
        then = parsedate_to_datetime(value)
        if then.tzinfo is None:
            then = then.replace(tzinfo=UTC)
        return max(0.0, then.timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`, and without what looks like a key."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    return _KEYS.sub("[redacted]", text)


def shorten(text: str, limit: int) -> str:
    """`text` on one line, at most `limit` characters long (at least 1)."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _only(value: object) -> object:
    """The one item of a list: Google's errors of streams come as one."""
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return items[0] if len(items) == 1 else items


def _read(error: Mapping[str, Any]) -> Complaint:
    details = as_object(error.get("details")) or {}
    google = read_details(error.get("details"))
    words = (error.get("code"), error.get("type"), details.get("error_code"), error.get("status"), *google.reasons)
    return Complaint(
        message=_text(error.get("message") or error.get("detail") or ""),
        words=frozenset(word for word in words if isinstance(word, str) and word),
        status=_status(error),
        param=str(error.get("param") or ""),
        retry_after_seconds=google.retry_after_seconds,
        exhausted=google.exhausted,
    )


def _status(error: Mapping[str, Any]) -> int | None:
    for name in ("code", "status"):
        value: Any = error.get(name)
        if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
