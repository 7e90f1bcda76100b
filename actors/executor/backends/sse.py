"""Reading streams: bytes in, lines or server-sent events out. Pure, and indifferent to how the bytes were cut."""

import re
from typing import Final, NamedTuple

LINE_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that may wait for the end of one line or one event."""

_BOM: Final = b"\xef\xbb\xbf"
_AGAIN: Final = re.compile(rb"(?:data:\s*)+(?=[{\[])")
"""`data:` before what is known to be JSON."""


class LineTooLong(ValueError):
    """A line or an event outgrew its limit; the stream can't be read on."""


class Lines:
    r"""Cuts a byte stream into lines. Lines end with `\n`, `\r\n` or `\r`; the ends are not part of them."""

    def __init__(self, limit_bytes: int = LINE_LIMIT) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []  # Of the line that has not ended.
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Raises LineTooLong."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        lines = data.splitlines()
        self._after_cr = data.endswith(b"\r")
        rest = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        if lines:
            lines[0] = self.close() + lines[0]
        if rest:
            self._keep(rest)
        return lines

    def close(self) -> bytes:
        """What follows the last line end; usually nothing."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return rest

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit_bytes:
            raise LineTooLong(f"a line of the stream exceeds {self._limit_bytes} bytes")
        self._pieces.append(piece)


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    """Of its `event:` line; empty when there was none."""
    data: bytes
    r"""Its `data:` lines, joined by `\n`; not decoded."""


class Events:
    """Cuts a byte stream into server-sent events. Comments, `id:`, `retry:` and events without data are dropped.

    Servers that forget the blank line after an event, or say `data:` twice, are understood: nothing in JSON looks like that.
    """

    def __init__(self, limit_bytes: int = LINE_LIMIT) -> None:
        self._lines = Lines(limit_bytes)
        self._limit_bytes = limit_bytes
        self._first = True
        self._name = self._later = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises LineTooLong."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            self._take(line, events)
        return events

    def close(self) -> Event | None:
        """The event that the stream ended in, if any.

        The standard discards it; some servers leave out the last blank line, so the reader may try it.
        """
        rest = self._lines.close()
        events: list[Event] = []
        if rest:
            self._take(rest, events)
        self._take(b"", events)
        return events[0] if events else None

    def _take(self, line: bytes, events: list[Event]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            self._name = self._later or self._name
            self._later = ""
            self._end(events)
            return
        field, _, value = line.lstrip(b" \t").partition(b":")  # A comment has an empty field.
        value = value.removeprefix(b" ")
        if field == b"data":
            value = _AGAIN.sub(b"", value, count=1) if value.startswith(b"data:") else value
            if self._data and _begins_anew(value) and self._data[-1].rstrip().endswith(b"}"):
                self._end(events)
            self._size += len(value)
            if self._size > self._limit_bytes:
                raise LineTooLong(f"an event of the stream exceeds {self._limit_bytes} bytes")
            self._data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
            if self._data:  # Of this event, or of the next one.
                self._later = name
            else:
                self._name = name

    def _end(self, events: list[Event]) -> None:
        data = b"\n".join(self._data)
        if data.strip():
            events.append(Event(self._name, data))
        self._name, self._later = self._later, ""
        self._data = []
        self._size = 0


def _begins_anew(value: bytes) -> bool:
    """Whether it is no continuation of an object that has ended before it."""
    return value.startswith((b"{", b"[DONE]"))


_FIELDS: Final = (b"event:", b"id:", b"retry:", b":")


class LineEvents:
    """Cuts a byte stream into events of one line each; empty lines are dropped. Raises as `Events` does.

    Proxies put them into server-sent events, of which the data is taken.
    """

    def __init__(self, limit_bytes: int = LINE_LIMIT) -> None:
        self._lines = Lines(limit_bytes)

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises LineTooLong."""
        return [Event("", found) for line in self._lines.feed(data) if (found := _plain(line))]

    def close(self) -> Event | None:
        """The line that the stream ended in, if any."""
        rest = _plain(self._lines.close())
        return Event("", rest) if rest else None


def _plain(line: bytes) -> bytes:
    """A line without what server-sent events put around it."""
    line = line.strip()
    if line.startswith(b"data:"):
        line = _AGAIN.sub(b"", line, count=1)
    return b"" if line.startswith(_FIELDS) else line
