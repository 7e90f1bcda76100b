"""Large objects in a stream, laid out as NATS object stores are: chunks, then one description that names them.

An object is there once its description is; the chunks of the one it replaced are removed after that.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
from typing import Any, Protocol

import msgspec

from bus.bus import BusError, Put, Record
from bus.topology import EV

CHUNK_BYTES = 128 * 1024
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
    """The stream behind a store. Objects last as long as the events that refer to them."""
    return {
        "name": f"OBJ_{bucket}",
        "subjects": [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": replicas,
        "max_age": int(EV.max_age_seconds * _NANO),
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": -1,
        "duplicate_window": 120 * _NANO,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
    }


async def put(bus: _Bus, bucket: str, key: str, data: bytes) -> None:
    """Store the chunks, then the description, then remove what it replaced."""
    old = await _describe(bus, bucket, key)
    nuid = secrets.token_hex(12)
    chunks = f"$O.{bucket}.C.{nuid}"
    count = 0
    for start in range(0, len(data), CHUNK_BYTES):
        # One after the other: their order in the stream is their order in the object.
        await bus.publish(chunks, data[start : start + CHUNK_BYTES], msg_id=f"{nuid}:{count}")
        count += 1
    description = Description(
        name=key,
        bucket=bucket,
        nuid=nuid,
        size=len(data),
        chunks=count,
        digest=_digest(data),
        options={"max_chunk_size": CHUNK_BYTES},
    )
    encoded = msgspec.json.encode(description)
    await bus.publish(_meta(bucket, key), encoded, msg_id=f"{nuid}:meta", headers={"Nats-Rollup": "sub"})
    if old is not None and old.chunks:
        with contextlib.suppress(BusError):  # Not allowed, or not now: age removes them.
            await bus.purge(f"OBJ_{bucket}", f"$O.{bucket}.C.{old.nuid}")


async def get(bus: _Bus, bucket: str, key: str) -> bytes | None:
    """The whole object, checked against its digest."""
    for _ in range(_READS):
        description = await _describe(bus, bucket, key)
        if description is None or description.deleted:
            return None
        parts = [record.data async for record in bus.read(f"OBJ_{bucket}", f"$O.{bucket}.C.{description.nuid}")]
        data = b"".join(parts) if description.chunks else b""
        if len(data) == description.size and _digest(data) == description.digest:
            return data
        # Replaced between the two readings, or not yet on this replica: look again.
    raise BusError(f"the object {key!r} is damaged: its chunks don't fit its digest")


async def _describe(bus: _Bus, bucket: str, key: str) -> Description | None:
    record = await bus.last(f"OBJ_{bucket}", _meta(bucket, key))
    return record and msgspec.json.decode(record.data, type=Description)


def _meta(bucket: str, key: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(key.encode()).decode()}"


def _digest(data: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
