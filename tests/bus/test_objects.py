"""Objects in a stream: what nobody may make of them, and what a write that breaks off leaves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bus import objects
from bus.topology import INPUTS


class Stream:
    """The stored messages of a store, by subject; the answer to a publication can be held back."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, bytes]] = []
        self.slow = False
        self.purged: list[str] = []

    async def publish(self, subject: str, data: bytes, *, msg_id: str, headers: Any = None) -> Any:
        self.stored.append((subject, data))
        if self.slow:
            await asyncio.Event().wait()

    async def last(self, stream: str, subject: str) -> Any:
        found = [data for one, data in self.stored if one == subject]
        return SimpleNamespace(data=found[-1]) if found else None

    async def read(self, stream: str, pattern: str) -> AsyncIterator[Any]:
        start = pattern.removesuffix(">")
        for subject, data in list(self.stored):
            if subject == pattern or (start != pattern and subject.startswith(start)):
                yield SimpleNamespace(data=data)

    async def purge(self, stream: str, subject: str) -> None:
        self.purged.append(subject)
        self.stored = [one for one in self.stored if one[0] != subject]

    def describe(self, key: str, **changes: Any) -> None:
        """Put a description there, as anybody may who may upload."""
        given: dict[str, Any] = {
            "name": key, "bucket": INPUTS, "nuid": "abc", "size": 3, "chunks": 1,
            "digest": "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(b"abc").digest()).decode(), **changes,
        }  # fmt: skip
        made = msgspec.json.encode(objects.Description(**given))
        self.stored.append((f"$O.{INPUTS}.M.{base64.urlsafe_b64encode(key.encode()).decode()}", made))


async def _all(pieces: AsyncIterator[bytes], into: list[bytes]) -> None:
    async for piece in pieces:
        into.append(piece)  # noqa: PERF401  # What came before the error counts.


def test_no_more_is_read_than_the_description_says() -> None:
    async def story() -> None:
        stream = Stream()
        stream.describe("t/a")
        stream.stored += [(f"$O.{INPUTS}.C.abc", b"x" * 1_000)] * 1_000
        found = await objects.open_object(stream, INPUTS, "t/a")
        assert found is not None
        read: list[bytes] = []
        with pytest.raises(objects.Damaged):
            await _all(found.pieces, read)
        assert len(b"".join(read)) <= 3

    asyncio.run(story())


@pytest.mark.parametrize("nuid", [">", "*", "a.b", "", "a b"])
def test_a_description_that_names_the_chunks_of_others_is_damaged(nuid: str) -> None:
    async def story() -> None:
        stream = Stream()
        await objects.put(stream, INPUTS, "other/secret", b"abc")
        stream.describe("t/a", nuid=nuid)
        with pytest.raises(objects.Damaged):
            await objects.open_object(stream, INPUTS, "t/a")

    asyncio.run(story())


def test_a_description_without_a_digest_is_damaged() -> None:
    async def story() -> None:
        stream = Stream()
        stream.describe("t/a", digest="SHA-256=%%%")
        with pytest.raises(objects.Damaged):
            await objects.open_object(stream, INPUTS, "t/a")

    asyncio.run(story())


def test_a_write_that_is_cancelled_at_its_first_chunk_leaves_nothing() -> None:
    async def story() -> None:
        stream = Stream()
        stream.slow = True
        writing = asyncio.create_task(objects.put(stream, INPUTS, "t/a", b"abc"))
        await asyncio.sleep(0.01)
        assert len(stream.stored) == 1
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert stream.stored == []

    asyncio.run(story())
