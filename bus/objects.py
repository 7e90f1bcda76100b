"""Large objects in a stream, laid out as NATS object stores are: chunks, then one description that names them.

An object is there once its description is; the chunks of the one it replaced are removed after that. Neither side ever holds
a whole object: it is written and read piece by piece, whatever its size.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import Any, Protocol

import msgspec

from bus.bus import BusError, Kept, Object, Pieces, Put, Record
from bus.topology import EV, INPUTS, RESULTS

CHUNK_BYTES = 128 * 1024
KEPT_SECONDS = EV.max_age_seconds
"""How long an object is kept: as long as the events that refer to it."""
BUCKETS = (RESULTS, INPUTS)
_READS = 5
_NANO = 1_000_000_000


class Description(msgspec.Struct, omit_defaults=True):
    """What the store knows about one object."""

    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str
    options: dict[str, int] = {}
    deleted: bool = False


class _Bus(Protocol):
    async def publish(
        self, subject: str, data: bytes, *, msg_id: str, headers: dict[str, str] | None = None
    ) -> Put: ...
    async def last(self, stream: str, subject: str) -> Record | None: ...
    def read(self, stream: str, pattern: str) -> Any: ...
    async def purge(self, stream: str, subject: str) -> None: ...


def stream_config(bucket: str, replicas: int) -> dict[str, Any]:
    """The stream behind a store."""
    return {
        "name": f"OBJ_{bucket}",
        "subjects": [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": replicas,
        "max_age": int(KEPT_SECONDS * _NANO),
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": -1,
        "duplicate_window": 120 * _NANO,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
    }


async def put(bus: _Bus, bucket: str, key: str, pieces: Pieces) -> Kept:
    """Store the chunks as they come, then the description, then remove what it replaced.

    When it does not come to the description, the chunks are removed again; what `pieces` raises is raised.
    """
    old = await _replaced(bus, bucket, key)
    nuid = secrets.token_hex(12)
    chunks = f"$O.{bucket}.C.{nuid}"
    digest = hashlib.sha256()
    size = count = 0
    begun = False
    try:
        async for chunk in evenly(pieces):
            begun = True  # It may be stored though nobody hears of it.
            # One after the other: their order in the stream is their order in the object.
            await bus.publish(chunks, chunk, msg_id=f"{nuid}:{count}")
            digest.update(chunk)
            size, count = size + len(chunk), count + 1
        description = Description(
            name=key, bucket=bucket, nuid=nuid, size=size, chunks=count, digest=_digest(digest.digest()),
            options={"max_chunk_size": CHUNK_BYTES},
        )  # fmt: skip
        await _write(bus, description)
    except BaseException:
        if begun:
            await _drop(bus, bucket, nuid)
        raise
    if old is not None and old.chunks:
        await _drop(bus, bucket, old.nuid)
    return Kept(size_bytes=size, sha256=digest.hexdigest())


async def put_once(bus: _Bus, bucket: str, key: str, chunk: bytes) -> Kept:
    """Store an object of one chunk under a key that names its content: chunk and description go together.

    The same object again leaves an equal one there, and a chunk that age removes.
    """
    nuid, digest = secrets.token_hex(12), hashlib.sha256(chunk)
    description = Description(
        name=key, bucket=bucket, nuid=nuid, size=len(chunk), chunks=1, digest=_digest(digest.digest()),
        options={"max_chunk_size": CHUNK_BYTES},
    )  # fmt: skip
    first = asyncio.ensure_future(bus.publish(f"$O.{bucket}.C.{nuid}", chunk, msg_id=f"{nuid}:0"))
    try:
        await asyncio.sleep(0)  # The chunk is sent first.
        await _write(bus, description)
        await first
    finally:
        first.cancel()
    return Kept(size_bytes=len(chunk), sha256=digest.hexdigest())


async def get(bus: _Bus, bucket: str, key: str) -> bytes | None:
    """The whole object, checked against its digest; for what is known to be small."""
    fault = BusError(key)
    for _ in range(_READS):
        found = await open_object(bus, bucket, key)
        if found is None:
            return None
        try:
            return b"".join([piece async for piece in found.pieces])
        except Damaged as error:  # Replaced between the two readings, or not yet on this replica: look again.
            fault = error
    raise fault


class Damaged(BusError):
    """The chunks of an object don't fit its description: a part is missing, it was replaced while it was read, or the
    description is none.
    """


async def open_object(bus: _Bus, bucket: str, key: str) -> Object | None:
    """An object as it lies there, or None; its pieces raise Damaged at their end when they don't fit its digest.

    Raises Damaged for a description that is none.
    """
    description = await _describe(bus, bucket, key)
    if description is None or description.deleted:
        return None
    try:
        digest = _hex(description.digest)
    except ValueError as error:
        raise Damaged(f"the object {key!r} is damaged: its digest is none") from error
    return Object(size_bytes=description.size, sha256=digest, pieces=_read(bus, bucket, description))


async def _read(bus: _Bus, bucket: str, description: Description) -> AsyncGenerator[bytes]:
    digest = hashlib.sha256()
    size = 0
    if description.chunks:
        async for record in bus.read(f"OBJ_{bucket}", f"$O.{bucket}.C.{description.nuid}"):
            digest.update(record.data)
            size += len(record.data)
            if size > description.size:
                break  # Whoever reads has made room for that size.
            yield record.data
    if size != description.size or _digest(digest.digest()) != description.digest:
        raise Damaged(f"the object {description.name!r} is damaged: its chunks don't fit its digest")


async def remove(bus: _Bus, bucket: str, key: str) -> None:
    """Forget an object; nothing happens when it is not there."""
    old = await _describe(bus, bucket, key)
    if old is None or old.deleted:
        return
    gone = Description(name=key, bucket=bucket, nuid=old.nuid, size=0, chunks=0, digest="", deleted=True)
    await _write(bus, gone)
    await _drop(bus, bucket, old.nuid)


async def evenly(pieces: Pieces) -> AsyncIterator[bytes]:
    """The same bytes in chunks of the store's size, from pieces of any size. Holds one chunk and one piece."""
    rest = bytearray()
    async for piece in _each(pieces):
        rest += piece
        at = 0
        while len(rest) - at >= CHUNK_BYTES:
            yield bytes(rest[at : at + CHUNK_BYTES])
            at += CHUNK_BYTES
        del rest[:at]
    if rest:
        yield bytes(rest)


async def _each(pieces: Pieces) -> AsyncIterator[bytes]:
    if isinstance(pieces, bytes):
        for at in range(0, len(pieces), CHUNK_BYTES):
            yield pieces[at : at + CHUNK_BYTES]
    elif isinstance(pieces, AsyncIterable):
        async for piece in pieces:
            yield piece
    elif isinstance(pieces, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        for piece in pieces:
            yield piece


async def _describe(bus: _Bus, bucket: str, key: str) -> Description | None:
    """What lies there under a key. Raises Damaged for what is no description: whoever may upload may write anything."""
    record = await bus.last(f"OBJ_{bucket}", _meta(bucket, key))
    if record is None:
        return None
    try:
        found = msgspec.json.decode(record.data, type=Description)
    except msgspec.DecodeError as error:
        raise Damaged(f"the object {key!r} is damaged: its description is not understood: {error}") from error
    if not (found.nuid.isascii() and found.nuid.isalnum()):  # With a wildcard it would mean the chunks of others.
        raise Damaged(f"the object {key!r} is damaged: its description names no chunks")
    return found


async def _replaced(bus: _Bus, bucket: str, key: str) -> Description | None:
    """What a new object takes the place of."""
    try:
        return await _describe(bus, bucket, key)
    except Damaged:
        return None


async def _write(bus: _Bus, description: Description) -> None:
    """Store a description in place of the one before."""
    msg_id = f"{description.nuid}:{'gone' if description.deleted else 'meta'}"
    subject = _meta(description.bucket, description.name)
    await bus.publish(subject, msgspec.json.encode(description), msg_id=msg_id, headers={"Nats-Rollup": "sub"})


async def _drop(bus: _Bus, bucket: str, nuid: str) -> None:
    with contextlib.suppress(BusError):  # Not allowed, or not now: age removes them.
        await bus.purge(f"OBJ_{bucket}", f"$O.{bucket}.C.{nuid}")


def _meta(bucket: str, key: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(key.encode()).decode()}"


def _digest(raw: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(raw).decode()


def _hex(digest: str) -> str:
    """The digest in hexadecimal. Raises ValueError."""
    raw = base64.urlsafe_b64decode(digest.removeprefix("SHA-256="))
    if len(raw) != hashlib.sha256().digest_size:
        raise ValueError("no SHA-256")
    return raw.hex()
