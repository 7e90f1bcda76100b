"""Reads what an error body says, in every form that servers are known to give it. Pure; what it means stands in `error_words`.

Bodies come as JSON objects of a dozen shapes, as lists of one, as server-sent events, as web pages and as plain text, and one
may hold another: gateways put their provider's error into theirs, as an object or as JSON in a text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.error_fields import Gathered, as_object, decoded
from actors.executor.backends.gemini_errors import read_details
from actors.executor.backends.sse import Events, LineTooLong
from actors.executor.backends.token_counts import Counts, counts_in
from actors.executor.backends.waits import point_in, wait_in

_PAGE: Final = re.compile(r"(?i)\s*(?:<!doctype|<html|<head|<\?xml|<!--)")
_GOOD: Final = (None, "", 0, 200, "0", "200", "ok", "OK", "success", "Success")
"""Codes that report no error."""
_SHORT_PAGE: Final = re.compile(r"error code: \d{3,4}")
"""Cloudflare's pages for those who want no HTML."""
_BETWEEN: Final = re.compile(r"https://developers\.cloudflare\.com/support/")
"""The type of the same page in JSON."""
_DROPPED: Final = re.compile(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->")
_HEADING: Final = re.compile(r"(?is)<(title|h1|h2|p|message|code)\b[^>]*>(.*?)</\1\s*>")
_CODE: Final = re.compile(r"(?is)<Code>([\w.-]{1,80})</Code>")


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """An error body, understood as far as possible."""

    message: str = ""
    """What it says first, for people."""
    said: str = ""
    """All its sentences, those of errors within it too; empty: only `message`."""
    words: frozenset[str] = frozenset()
    """Its codes and types, those of errors within it too, as they are written."""
    status: int | None = None
    """Its `code` or `status` where that is an HTTP error status (vLLM, llama.cpp); the innermost one."""
    param: str = ""
    """The request's field that is to blame."""
    retry_after_seconds: float | None = None
    """How long to wait, where the body says it; None: it does not."""
    works_again_at: float | None = None
    """When it works again, in seconds since the epoch, where the body says it."""
    headers: Mapping[str, str] = {}
    """Headers of somebody else's answer, where the body has them (lower-case names)."""
    exhausted: bool = False
    """A quota is used up for so long that waiting does not help (Google)."""
    page: bool = False
    """It is a web page, or a proxy's short word for one: somebody between us and the API speaks."""
    counts: Counts = Counts()
    """Tokens that it tells: how many there are, and how many there may be."""


def complaint_in(event: Mapping[str, Any]) -> Complaint | None:
    """The error that a JSON object reports, or None when it reports none.

    Knows `{"error": {...}}`, `{"error": "text"}`, `{"detail": ...}`, `{"errors": [...]}`, the flat `{"object": "error", ...}`,
    `{"code": ..., "message": "..."}` and `{"error_code": ...}`, and MiniMax's `{"base_resp": {"status_code": 1008, ...}}`.
    """
    base = as_object(event.get("base_resp"))
    if event.get("error") or (base is not None and base.get("status_code")):
        return read(event)
    if event.get("object") == "error" or event.get("type") == "error":
        return read(event)
    told: Any = (
        event.get("detail") or (event.get("success") is False and event.get("errors")) or event.get("error_code")
    )
    coded = event.get("code") not in _GOOD and isinstance(event.get("message") or event.get("msg"), str)
    return read(event) if (told or coded) and "choices" not in event else None


def complaint_of(body: str) -> Complaint:
    """What an error body says, whatever its form; plain text is its own message."""
    found = decoded(body)
    if found is None and (event := _event_in(body)) is not None:
        return event
    if found is None:
        return _page(body) if _PAGE.match(body) else _plain(body.strip())
    only = _only(found[0])
    event = as_object(only)
    return read(event) if event is not None else _plain(only if isinstance(only, str) else _text(only))


def read(event: Mapping[str, Any]) -> Complaint:
    """What a JSON object says that is known to be an error, whatever its form."""
    gathered = Gathered()
    gathered.take(event)
    inner = as_object(event.get("error")) or event
    google = read_details(inner.get("details"))
    message = _message(event)
    said = "\n".join(dict.fromkeys(gathered.texts))
    waits = (google.retry_after_seconds, *gathered.waits, wait_in(said))
    return Complaint(
        message=message,
        said=said,
        words=frozenset({*gathered.codes, *google.reasons}),
        status=gathered.status,
        param=str(inner.get("param") or ""),
        retry_after_seconds=next((wait for wait in waits if wait is not None), None),
        works_again_at=next(iter(gathered.points), point_in(said)),
        headers=gathered.headers,
        exhausted=google.exhausted,
        page=bool(_BETWEEN.match(str(event.get("type") or ""))) or event.get("cloudflare_error") is True,
        counts=gathered.counts if gathered.counts != Counts() else counts_in(said, gathered.numbers),
    )


def _message(event: Mapping[str, Any]) -> str:
    """The first sentence for people: the outermost."""
    error: Any = event.get("error")
    inner = as_object(error)
    if inner is not None:
        said: Any = inner.get("message") or inner.get("detail") or inner.get("msg") or ""
        return _text(said) if said else ""
    for name in ("error", "message", "msg", "detail", "error_message", "error_msg", "errors", "base_resp"):
        value: Any = event.get(name)
        if value:
            told = as_object(value)
            return _text(told.get("message") or told.get("status_msg") or told) if told is not None else _text(value)
    return ""


def _event_in(body: str) -> Complaint | None:
    """The error in a body of server-sent events; None when it is no such body. One that is called an error comes first."""
    if not re.match(r"\s*(?:data|event|id|retry)?:", body):
        return None
    events = Events()
    try:
        found = events.feed(body.lstrip().encode("utf-8", "replace"))
    except LineTooLong:
        return None
    last = events.close()
    if last is not None:
        found.append(last)
    found.sort(key=lambda event: event.name != "error")
    complaints: list[Complaint] = []
    for event in found:
        document = decoded(event.data.decode("utf-8", "replace"))
        fields = as_object(_only(document[0])) if document is not None else None
        complaint = complaint_in(fields) if fields is not None else None
        if complaint is not None:
            return complaint
        if fields is not None:
            complaints.append(read(fields))
        elif event.name == "error":
            complaints.append(_plain(event.data.decode("utf-8", "replace")))
    return complaints[0] if complaints else None


def _page(body: str) -> Complaint:
    """What stands in the title and the headings of a web page; an error in XML (S3 and its kin) has its code read."""
    text = _DROPPED.sub(" ", body)
    parts = [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", part)).split()) for _, part in _HEADING.findall(text)]
    said = ". ".join(dict.fromkeys(part for part in parts if part))
    return Complaint(message=said or body.strip(), said=said, words=frozenset(_CODE.findall(text)), page=True)


def _plain(text: str) -> Complaint:
    gathered = Gathered()
    gathered.take(text)
    said = "\n".join(gathered.texts)
    return Complaint(
        message=text, said=said, words=frozenset(gathered.codes), status=gathered.status,
        retry_after_seconds=next(iter(gathered.waits), wait_in(said)),
        works_again_at=next(iter(gathered.points), point_in(said)),
        headers=gathered.headers, counts=counts_in(said), page=_SHORT_PAGE.fullmatch(text) is not None,
    )  # fmt: skip


def _only(value: object) -> object:
    """The one item of a list: Google's errors of streams come as one."""
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return items[0] if len(items) == 1 else items


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
