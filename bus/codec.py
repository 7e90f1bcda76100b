"""Messages to bytes and back; headers in CloudEvents' binary mode; which type lies on a subject.

JSON is the default, so `nats pub` and every language can speak. MessagePack is understood when the header
`ce-datacontenttype` (or `Content-Type`) says `application/msgpack`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from messages.jobs import JobCancel, JobResume
from messages.message import ALL, Message

if TYPE_CHECKING:
    from bus.bus import Headers

T = TypeVar("T", bound=Message)

_encoder = msgspec.json.Encoder()
_MSGPACK = "application/msgpack"


class Undecodable(ValueError):
    """Bytes that are not the message their subject promises; the text says where and why."""


def encode(message: Message) -> bytes:
    """The JSON form of a message."""
    return _encoder.encode(message)


@cache
def _json(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


@cache
def _msgpack(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    return msgspec.msgpack.Decoder(kind)


def is_msgpack(headers: Headers) -> bool:
    """Whether the headers announce MessagePack."""
    block: bytes | None = getattr(headers, "block", None)
    if block is not None and b"msgpack" not in block:
        return False  # As they came over the wire: nearly always one look is enough.
    return bool(headers) and _MSGPACK in (headers.get("ce-datacontenttype"), headers.get("Content-Type"))


def decode(kind: type[T], data: bytes, headers: Headers | None = None) -> T:
    """The message in `data`. Raises Undecodable with the field's path when it is not one."""
    return decode_body(kind, data, packed=headers is not None and is_msgpack(headers))


_BODILESS = (JobCancel, JobResume)
"""Their subject says all that must be said."""


def decode_body(kind: type[T], data: bytes, *, packed: bool) -> T:
    """The same, when it is known whether it is MessagePack."""
    try:
        if packed:
            return _msgpack(kind).decode(data)
        return _json(kind).decode(data or (b"{}" if kind in _BODILESS else b""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(str(error)) from error


def as_json(data: bytes, headers: Headers) -> bytes:
    """The same body as JSON. Raises Undecodable."""
    if not is_msgpack(headers):
        return data
    try:
        return _encoder.encode(msgspec.msgpack.decode(data))
    except (msgspec.MsgspecError, TypeError) as error:
        raise Undecodable(str(error)) from error


LEDGER_HEADER = "turnout-entry"
"""On a counter's increments: the ledger entry, since the server replaces the body by the total."""


def body_of(data: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """The message's own bytes: the body, or the entry in the header of a counter's increment."""
    entry = headers.get(LEDGER_HEADER) if headers else None
    return (entry.encode(), {}) if entry else (data, headers)


def _prefixes() -> dict[str, type[Message]]:
    return {made.channel.prefix: made for made in ALL.values()}


@lru_cache(maxsize=1024)  # Anybody may publish on any subject.
def _type_of_prefix(prefix: str) -> type[Message] | None:
    return _prefixes().get(prefix)


def type_at(subject: str) -> type[Message] | None:
    """The message type whose address `subject` is, on its stream or republished (`job.<x>`, `fact.<x>`), or None."""
    parts = subject.split(".", 3)
    first = parts[0]
    if first in ("work", "ledger", "queued"):
        return _type_of_prefix(first)
    if first == "fact" and len(parts) > 1:
        return _type_of_prefix(f"$KV.facts.{parts[1]}")
    if first == "$KV" and len(parts) > 2:
        return _type_of_prefix(f"$KV.facts.{parts[2]}")
    two = ".".join(parts[:2])
    found = _type_of_prefix(two)
    if found is None and first == "job":
        return _type_of_prefix(f"ev.{parts[1]}") if len(parts) > 1 else None
    return found or _type_of_prefix(".".join(parts[:3]))


@lru_cache(maxsize=4096)  # Each job has several events.
def trace_id(tenant: str, job: str) -> str:
    """W3C trace id of a job that brought none: a hash, so every attempt of every process lies on one trace."""
    return hashlib.blake2b(f"{tenant}\0{job}".encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=64)
def _second(whole: int) -> str:
    return dt.datetime.fromtimestamp(whole, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(seconds: float) -> str:
    """A time as ISO 8601 in UTC with milliseconds."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


def headers(message: Message, *, msg_id: str, source: str, now: float, trace: str) -> dict[str, str]:
    """CloudEvents attributes (binary mode) and W3C trace context of one message.

    `trace` is the 32-digit trace id; the span id is a hash of the message id.
    """
    span = hashlib.blake2b(msg_id.encode(), digest_size=8).hexdigest()
    return {
        "ce-specversion": "1.0",
        "ce-id": msg_id if msg_id.isascii() and " " not in msg_id else quote(msg_id),
        "ce-type": message.type_name,
        "ce-source": source,
        "ce-time": stamp(now),
        "traceparent": f"00-{trace}-{span}-01",
    }


def trace_of(heard: Headers) -> str | None:
    """The trace id in a `traceparent` header, if there is a valid one."""
    parts = heard.get("traceparent", "").split("-") if heard else []
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None
