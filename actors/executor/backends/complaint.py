"""Reads what an error body says, in every form that servers are known to give it. Pure; what it means stands in `error_words`.

Bodies come as JSON objects of a dozen shapes, as lists of one, as server-sent events, as web pages and as plain text, and one
may hold another: gateways put their provider's error into theirs, as an object or as JSON in a text.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.gemini_errors import read_details
from actors.executor.backends.sse import Events, LineTooLong
from actors.executor.backends.token_counts import Counts, counts_in
from actors.executor.backends.waits import wait_in

_DEPTH: Final = 6
_CODES: Final = ("code", "type", "status", "reason", "error_code", "error_type", "err_code", "__type", "title")
"""Where a server names the kind of an error in a word of its own."""
_TEXTS: Final = (
    "message", "msg", "detail", "details", "error", "error_message", "error_msg", "errmsg", "error_description",
    "status_msg", "description", "title", "Message", "raw",
)  # fmt: skip
"""Where it says in a sentence what is wrong."""
_WITHIN: Final = (
    "error", "errors", "innererror", "inner_error", "details", "detail", "metadata", "raw", "fault", "base_resp", "cause",
    "provider_specific_fields", "provider_error", "response", "body",
)  # fmt: skip
"""Where it keeps another error, mostly somebody else's. What was sent to it (`input`, `flagged_input`) is not read."""
_WAITS: Final = {"retry_after": 1.0, "retry_after_seconds": 1.0, "retryAfter": 1.0, "retry_after_ms": 0.001}
_EMBEDDED: Final = re.compile(r"[{\[]\s*[{\"]")
_PAGE: Final = re.compile(r"(?i)\s*(?:<!doctype|<html|<head|<\?xml|<!--)")
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
    exhausted: bool = False
    """A quota is used up for so long that waiting does not help (Google)."""
    page: bool = False
    """It is a web page: somebody between us and the API speaks."""
    counts: Counts = Counts()
    """Tokens that it tells: how many there are, and how many there may be."""


def as_object(value: object) -> dict[str, Any] | None:
    """`value` if it is a JSON object."""
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


def as_list(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def complaint_in(event: Mapping[str, Any]) -> Complaint | None:
    """The error that a JSON object reports, or None when it reports none.

    Knows `{"error": {...}}`, `{"error": "text"}`, `{"detail": ...}`, `{"errors": [...]}`, the flat `{"object": "error", ...}` and
    MiniMax's `{"base_resp": {"status_code": 1008, ...}}`.
    """
    base = as_object(event.get("base_resp"))
    if event.get("error") or (base is not None and base.get("status_code")):
        return read(event)
    if event.get("object") == "error" or event.get("type") == "error":
        return read(event)
    told: Any = event.get("detail") or (event.get("success") is False and event.get("errors"))
    return read(event) if told and "choices" not in event else None


def complaint_of(body: str) -> Complaint:
    """What an error body says, whatever its form; plain text is its own message."""
    found = _decoded(body)
    if found is None and (event := _event_in(body)) is not None:
        return event
    if found is None:
        return _page(body) if _PAGE.match(body) else _plain(body.strip())
    only = _only(found[0])
    event = as_object(only)
    return read(event) if event is not None else _plain(only if isinstance(only, str) else _text(only))


def read(event: Mapping[str, Any]) -> Complaint:
    """What a JSON object says that is known to be an error, whatever its form."""
    gathered = _Gathered()
    gathered.take(event, _DEPTH)
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
        exhausted=google.exhausted,
        counts=gathered.counts if gathered.counts != Counts() else counts_in(said),
    )


class _Gathered:
    """What is found in an error and in those within it."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.texts: list[str] = []
        self.waits: list[float] = []
        self.status: int | None = None
        self.counts = Counts()

    def take(self, value: object, depth: int) -> None:
        if depth <= 0:
            return
        if isinstance(value, list):
            for item in cast("list[object]", value)[:8]:
                self.take(item, depth - 1)
            return
        fields = as_object(value)
        if fields is None:
            if isinstance(value, str):
                self._take_text(value, depth)
            return
        self.status = _status(fields) or self.status
        self.codes += [word for name in _CODES if isinstance(word := fields.get(name), str) and word]
        for name, factor in _WAITS.items():
            wait = fields.get(name)
            if isinstance(wait, int | float) and not isinstance(wait, bool) and wait >= 0:
                self.waits.append(wait * factor)
        self.counts = Counts.told(fields) or self.counts
        for name in _TEXTS:
            if isinstance(text := fields.get(name), str):
                self._take_text(text, depth)
        for name in _WITHIN:
            inner: Any = fields.get(name)
            if isinstance(inner, dict | list):
                self.take(cast("object", inner), depth - 1)

    def _take_text(self, text: str, depth: int) -> None:
        """A sentence, and the JSON that gateways put behind or in place of theirs."""
        start = _EMBEDDED.search(text)
        if start is not None and len(text) < 100_000:
            try:
                _, end = json.JSONDecoder().raw_decode(text, start.start())
            except (ValueError, RecursionError):
                end = 0
            inner = _decoded(text[start.start() : end]) if end else None
            if inner is not None:
                self.take(inner[0], depth - 1)
                text = text[: start.start()]
        if text.strip():
            self.texts.append(text.strip())


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


def _decoded(text: str) -> tuple[Any] | None:
    try:
        return (msgspec.json.decode(text.lstrip("\ufeff")),)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


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
        decoded = _decoded(event.data.decode("utf-8", "replace"))
        fields = as_object(_only(decoded[0])) if decoded is not None else None
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
    gathered = _Gathered()
    gathered.take(text, _DEPTH)
    said = "\n".join(gathered.texts) or text
    return Complaint(
        message=text, said=said, words=frozenset(gathered.codes), status=gathered.status,
        retry_after_seconds=next(iter(gathered.waits), wait_in(said)), counts=counts_in(said),
    )  # fmt: skip


def _only(value: object) -> object:
    """The one item of a list: Google's errors of streams come as one."""
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return items[0] if len(items) == 1 else items


def _status(error: Mapping[str, Any]) -> int | None:
    for name in ("code", "status", "http_code", "status_code"):
        value: Any = error.get(name)
        if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
