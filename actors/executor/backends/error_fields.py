"""What stands in the fields of an error and of those within it: codes, sentences, waits, counts of tokens. Pure.

Servers name their fields and nest their errors as they like. So every field is looked into but those that hold what was sent or
made (`input`, `choices`), and names count without case and separators: `Response.Error.Code` and `error.code` are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.token_counts import Counts
from actors.executor.backends.waits import point_of, seconds_of

_DEPTH: Final = 6
_ITEMS: Final = 8
_CODES: Final = frozenset(
    {
        "code", "type", "status", "reason", "reasons", "errorcode", "errortype", "errcode", "errorname", "title",
        "exceptiontype",
    }
)  # fmt: skip
"""Where a server names the kind of an error in a word of its own."""
_TEXTS: Final = frozenset(
    {
        "message", "msg", "detail", "details", "error", "errormessage", "errormsg", "errmsg", "errordescription", "statusmsg",
        "description", "title", "raw",
    }
)  # fmt: skip
"""Where it says in a sentence what is wrong."""
_NOT_READ: Final = frozenset(
    {
        "input", "inputs", "ctx", "request", "prompt",
        "messages", "content", "flaggedinput", "failedgeneration", "tools", "schema",
        "parameters", "function", "choices", "delta", "candidates", "usage", "links", "headers",
    }
)  # fmt: skip
"""Where what was sent or made stands, or addresses for people: whoever wrote that is not the server."""
_STATUSES: Final = ("code", "status", "httpcode", "statuscode")
_EMBEDDED: Final = re.compile(r"[{\[]\s*[{\"]")


def as_object(value: object) -> dict[str, Any] | None:
    """`value` if it is a JSON object."""
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


def as_list(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def decoded(text: str) -> tuple[Any] | None:
    """The JSON that `text` is, alone in a tuple; None: it is none."""
    try:
        return (msgspec.json.decode(text.lstrip("\ufeff")),)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


class Gathered:
    """What is found in an error and in those within it."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.numbers: set[int] = set()
        """Codes that are numbers."""
        self.texts: list[str] = []
        self.waits: list[float] = []
        self.points: list[float] = []
        """When it works again, in seconds since the epoch."""
        self.headers: dict[str, str] = {}
        """Those of somebody else's answer, as gateways pass them on."""
        self.status: int | None = None
        self.counts = Counts()

    def take(self, value: object, depth: int = _DEPTH) -> None:
        """Read `value` and what is in it."""
        if depth <= 0:
            return
        if isinstance(value, list):
            for item in as_list(cast("object", value))[:_ITEMS]:
                self.take(item, depth - 1)
            return
        given = as_object(value)
        if given is None:
            if isinstance(value, str):
                self._take_text(value, depth)
            return
        fields: dict[str, object] = {plain(name): inner for name, inner in given.items()}
        self.status = _status(fields) or self.status
        self.counts = Counts.told(given) or self.counts
        for name, inner in fields.items():
            self._take_field(name, inner, depth)
        for name, inner in fields.items():
            if name not in _NOT_READ and not isinstance(inner, str):
                self.take(inner, depth - 1)

    def _take_field(self, name: str, value: object, depth: int) -> None:
        if name in _CODES:
            words: list[object] = [value, *as_list(value)[:_ITEMS]]
            self.codes += [word for word in words if isinstance(word, str) and word]
        if name in _CODES or name in _STATUSES:
            digits = str(value)[:12] if isinstance(value, str | int) else ""
            self.numbers |= {int(digits)} if digits.isdecimal() and digits.isascii() else set()
        if name in _TEXTS and isinstance(value, str):
            self._take_text(value, depth)
        elif name == "headers" and (headers := as_object(value)) is not None:
            self.headers |= {key.lower(): str(told) for key, told in headers.items()}
        elif (wait := seconds_of(name, value)) is not None:
            self.waits.append(wait)
        elif (point := point_of(name, value)) is not None:
            self.points.append(point)

    def _take_text(self, text: str, depth: int) -> None:
        """A sentence, and the JSON that gateways put behind or in place of theirs."""
        start = _EMBEDDED.search(text)
        if start is not None and len(text) < 100_000:
            try:
                _, end = json.JSONDecoder().raw_decode(text, start.start())
            except (ValueError, RecursionError):
                end = 0
            inner = decoded(text[start.start() : end]) if end else None
            if inner is not None:
                self.take(inner[0], depth - 1)
                text = text[: start.start()]
        if text.strip():
            self.texts.append(" ".join(text.split()))


def plain(name: str) -> str:
    """A field's name without case and separators."""
    return re.sub(r"[\W_]+", "", name).lower()


def _status(fields: Mapping[str, Any]) -> int | None:
    for name in _STATUSES:
        value: Any = fields.get(name)
        if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return None
