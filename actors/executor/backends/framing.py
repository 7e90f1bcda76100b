"""In what form an answer comes, by its own first bytes: server-sent events, one JSON document, or a web page. Pure.

Servers and proxies give any of them any content type: an error in JSON under `text/event-stream`, events under
`application/json`, a whole answer under `text/plain`.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from actors.executor.backends.json_reader import in_utf_8
from actors.executor.backends.sse import LINE_LIMIT, Event, Events, LineEvents

Form = Literal["", "events", "document", "page"]
"""Empty: nothing has come yet that tells."""

_BLANK: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_NOTES: Final = re.compile(rb"(?:\s*:[^\r\n]*[\r\n]+)+\s*")
"""Comments, which some send to keep a connection alive whatever comes after them."""
_MOST_NOTES: Final = 65_536
_OPEN: Final = (b":", b"\xef", b"\x00", b"G", b"R")
_TELLING: Final = 8
"""So many bytes tell what it is that begins with one of these."""
_HEAD: Final = 4_096
_FIELDS: Final = (b"data", b"event", b"id", b"retry", b":")


class Framed:
    """Cuts an answer into events, whatever its form: a JSON document is one event at its end, a list of objects one each."""

    def __init__(self, limit_bytes: int = LINE_LIMIT, *, lines: bool = False) -> None:
        """With `lines` each line is an event, and none of it one document."""
        self._events: Events | LineEvents = LineEvents(limit_bytes) if lines else Events(limit_bytes)
        self._lines = lines
        self._document: list[bytes] = []
        self._start = b""  # What came while it is not clear what it is.
        self.form: Form = ""
        self.head = b""
        """What came first, up to the first event, at most some thousand bytes."""
        self.any = False
        """An event has come."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises LineTooLong."""
        if not self.form:
            data = self._begun(self._start + data)
        return self._fed(data) if data else []

    def close(self) -> list[Event]:
        """The events that the end of the answer completes; one that ended in its middle may be among them."""
        if self.form == "events":
            last = self._events.close()
            return self._counted([last] if last is not None else [])
        if self.form != "document":
            return []
        whole = in_utf_8(b"".join(self._document))
        try:
            items = msgspec.json.decode(whole, type=list[msgspec.Raw])
        except (ValueError, RecursionError):  # What is no list is one event; its reader says what is wrong with it.
            return self._counted([Event("", whole)])
        return self._counted([Event("", bytes(item)) for item in items])

    def _begun(self, data: bytes) -> bytes:
        """What is there, once it is clear what it is, without what stands before a document; nothing while it is not."""
        data = data.lstrip(_BLANK)
        if len(data) >= len(_BOM):
            data = data.removeprefix(_BOM).lstrip(_BLANK)
        rest = data
        if data.startswith(b":") and len(data) < _MOST_NOTES:
            found = _NOTES.match(data)
            rest = data[found.end() :] if found else b""
        if not rest or (rest[:1] in _OPEN and len(rest) < _TELLING):
            self._start = data
            return b""
        self._start = b""
        return rest if rest[:1] in (b"{", b"[") else data

    def _fed(self, data: bytes) -> list[Event]:
        if not self.form:
            document = (data[:1] in (b"{", b"[") and not self._lines) or _is_binary(data)
            self.form = "document" if document else "page" if data[:1] == b"<" else "events"
        if not self.any and len(self.head) < _HEAD:
            self.head += data[: _HEAD - len(self.head)]
        if self.form != "events":
            self._document.append(data)
            return []
        return self._counted(self._events.feed(data))

    def is_text(self) -> bool:
        """Whether what came is no event at all, but words of somebody's own."""
        return self.form == "events" and not self.any and not self.head.lower().startswith(_FIELDS)

    def _counted(self, events: list[Event]) -> list[Event]:
        self.any = self.any or bool(events)
        return events


def _is_binary(data: bytes) -> bool:
    """Whether no text in UTF-8 begins so: a file in place of an answer that tells of one, or a text in UTF-16."""
    return 0x80 <= data[0] < 0xC0 or data[0] >= 0xF8 or data.startswith((b"GIF8", b"RIFF")) or data[4:8] == b"ftyp"
