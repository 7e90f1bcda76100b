"""The bytes of the NATS protocol: messages, headers, and what may stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec
from nats.errors import ProtocolError

from bus.bus import BusError

# Subject, request inbox and sizes must fit into one control line, 4,096 bytes at most, or the server hangs up.
SUBJECT_LIMIT = 2048
_LINE_LIMIT = 65_536
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MOST_NAMES = 256
_fit_names: set[str] = set()
"""Names that were looked at: the same few come with every message."""


class Frame(msgspec.Struct, gc=False):
    """A message as it came."""

    subject: bytes
    reply: bytes
    data: bytes
    head: bytes

    @property
    def status(self) -> bytes:
        """The status code of a message from the server itself, else empty."""
        return self.head[9:12] if self.head[8:9] == b" " else b""


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """The header block as it goes over the wire; values can't break out of their line."""
    lines = len(headers) + 2
    text = "NATS/1.0\r\n" + "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) + "\r\n"
    if text.count("\n") != lines or text.count("\r") != lines:
        clean = {name: " ".join(value.splitlines()) for name, value in headers.items()}
        text = "NATS/1.0\r\n" + "".join([f"{name}: {value}\r\n" for name, value in clean.items()]) + "\r\n"
    if not headers.keys() <= _fit_names:
        bad = next((name for name in headers if not _NAME.fullmatch(name)), None)
        if bad is not None:
            raise BusError(f"{bad!r} can't be the name of a header")
        if len(_fit_names) < _MOST_NAMES:
            _fit_names.update(headers)
    return text.encode()


def decode_headers(head: bytes) -> dict[str, str]:
    """Header names and values; the status line is left out."""
    if not head:
        return {}
    found: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value.strip()
    return found


class HeaderBlock(Mapping[str, str]):
    """The headers of a message as it came. One of them is found without taking the rest apart."""

    __slots__ = ("_all", "block")

    def __init__(self, head: bytes) -> None:
        self.block = head
        """The bytes."""
        self._all: dict[str, str] | None = None

    def _taken_apart(self) -> dict[str, str]:
        if self._all is None:
            self._all = decode_headers(self.block)
        return self._all

    def __bool__(self) -> bool:
        return bool(self.block)

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value of one header, or the default."""
        head, sought = self.block, b"\r\n%b:" % key.encode()
        start = head.rfind(sought)  # Of several with one name, the last one counts.
        if start < 0:
            return default if key.isascii() else self._taken_apart().get(key, default)
        start += len(sought)
        end = head.find(b"\r\n", start)  # A foreign client may leave out the last one.
        return head[start : end if end >= 0 else None].decode("utf-8", "replace").strip()

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._taken_apart())

    def __len__(self) -> int:
        return len(self._taken_apart())

    def __repr__(self) -> str:
        return repr(self._taken_apart())


def check_subject(subject: str) -> None:
    """Refuse what would end the line early, make the server hang up, or has an empty token."""
    if (
        not subject
        or " " in subject
        or ".." in subject
        or subject[0] == "."
        or subject[-1] == "."
        or not subject.isprintable()
        or len(subject) > SUBJECT_LIMIT
    ):
        raise BusError(f"{subject[:200]!r} can't be a subject")


def check_address(subject: str) -> None:
    """The same for what is published: the server would store it under a wildcard, where no consumer finds it."""
    check_subject(subject)
    if "*" in subject or ">" in subject:
        raise BusError(f"{subject[:200]!r} is a pattern; encode `*` and `>` in a token as %2A and %3E")


def publication(subject: str, reply: str, data: bytes, head: bytes) -> bytes:
    """A message as it goes over the wire."""
    if head:
        size = len(head)
        return b"".join(
            (f"HPUB {subject} {reply} {size} {size + len(data)}\r\n".encode(), head, data, b"\r\n"),
        )
    return b"".join((f"PUB {subject} {reply} {len(data)}\r\n".encode(), data, b"\r\n"))


class Ear(Protocol):
    """Who hears what the parser finds."""

    def deliver(self, sid: int, frame: Frame) -> None:
        """A message for a subscription."""
        ...

    async def obey(self, line: bytes) -> None:
        """Any other line."""
        ...


class Parser:
    """Reads what the server says; replaces nats-py's parser, which tries regular expressions and awaits per message."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear
        self.reset()

    def reset(self) -> None:
        """Forget what was begun."""
        self._parts: list[bytes] = []
        self._have = self._need = 0
        self._turn = object()

    async def parse(self, data: bytes = b"") -> None:
        """Hand on what is complete and keep the rest. Raises ProtocolError, which ends the connection."""
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts = []
        pos, end, need, turn = 0, len(data), 0, self._turn
        while pos < end:
            eol = data.find(b"\r\n", pos)
            if eol < 0:
                if end - pos > _LINE_LIMIT:
                    raise ProtocolError
                need = end - pos + 1
                break
            first = data[pos]
            if first == 0x4D or first == 0x48:  # MSG or HMSG  # noqa: PLR1714
                words = data[pos:eol].split()
                start = body = eol + 2
                count = len(words)
                try:
                    sid = int(words[2])
                    stop = start + int(words[-1])
                    if first == 0x48:
                        body += int(words[-2])
                        count -= 1
                except (ValueError, IndexError):
                    raise ProtocolError from None
                if not start <= body <= stop or (count != 5 and count != 4):  # noqa: PLR1714
                    raise ProtocolError
                if stop + 2 > end:
                    need = stop + 2 - pos
                    break
                if data[stop] != 0x0D or data[stop + 1] != 0x0A:
                    raise ProtocolError
                reply = words[3] if count == 5 else b""
                self._ear.deliver(sid, Frame(words[1], reply, data[body:stop], data[start:body]))
                pos = stop + 2
                continue
            line, pos = data[pos:eol], eol + 2
            await self._ear.obey(line)
            if self._turn is not turn:  # A reset meanwhile: the rest belongs to a connection that is gone.
                return
        if pos < end:
            self._parts, self._have, self._need = [data[pos:]], end - pos, need
