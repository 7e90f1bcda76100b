import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.completion import Completion
from actors.executor.backends.connection import Connection
from actors.executor.backends.files import File
from actors.executor.backends.fold import Fold, Made
from actors.executor.backends.openai_stream import items, joined
from actors.executor.backends.port import Answer, Artifact, BackendError, Chunk, Item, Step
from actors.executor.backends.wire import Wire
from tests.fakes.base import FakeServer

STEP = Step(stage="working")


@given(st.lists(st.text(max_size=3) | st.just((STEP,)) | st.just(())))
def test_texts_are_joined_and_nothing_is_lost(parts: list[str | tuple[Step, ...]]) -> None:
    found = joined(parts)
    assert "".join(item.text for item in found if isinstance(item, Chunk)) == "".join(
        part for part in parts if isinstance(part, str)
    )
    assert found.count(STEP) == parts.count((STEP,))
    assert not any(isinstance(a, Chunk) and isinstance(b, Chunk) for a, b in itertools.pairwise(found))
    assert bool(found) == any(part != () for part in parts)


class Files(Fold[Made]):
    """A fold that makes two files of every event."""

    def __init__(self) -> None:
        super().__init__("m", ())
        self.made: list[File] = []

    @property
    def settled(self) -> bool:
        return False

    def event(self, fields: dict[str, Any], data: bytes) -> Made:
        files = [File(data), File(data)]
        self.made += files
        return tuple(Artifact(name="x", media_type="text/plain", file=file) for file in files)

    def told(self) -> Answer:
        raise BackendError("cut_stream", "never")


class One(FakeServer):
    media_type = "text/event-stream"
    pieces: tuple[bytes, ...] = (b"data: {}\n\ndata: {}\n\n",)

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/x", self.x)]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        return web.json_response({"error": message}, status=status)

    async def x(self, request: web.Request) -> web.StreamResponse:
        return await self.play(request, self.pieces, media_type=self.media_type)


@contextlib.asynccontextmanager
async def asked(
    fake: One, fold: Files | Completion, limit: int = 1000
) -> AsyncGenerator[AsyncGenerator[Item, None], None]:
    async with fake:
        wire = Wire(Connection(url=fake.url, now=lambda: 0.0))
        try:
            async with (
                wire.exchange("GET", "x") as reply,
                contextlib.aclosing(items(reply, fold, (), event_bytes=limit)) as found,
            ):
                yield found
        finally:
            await wire.close()


def test_files_that_nobody_took_are_closed(run) -> None:
    async def main() -> None:
        fold = Files()
        async with asked(One(), fold) as found:
            first = await anext(found)
            assert isinstance(first, Artifact)
        assert len(fold.made) == 4
        assert [file._file.closed for file in fold.made] == [False, True, True, True]
        first.file.close()

    run(main())


def test_an_event_has_a_limit(run) -> None:
    async def main() -> None:
        fake = One()
        text = msgspec.json.encode({"choices": [{"delta": {"content": "ab"}}]})
        fake.pieces = (b"data: " + text + b"\n\n", b"data: " + b"x" * 2000 + b"\n\n")
        async with asked(fake, Completion("m")) as found:
            with pytest.raises(BackendError) as caught:
                [item async for item in found]
        assert (caught.value.kind, caught.value.status) == ("invalid_structure", 200)

    run(main())


def test_cancelling_the_reader_ends_it(run) -> None:
    async def main() -> None:
        fake = One()
        fake.fault = "hang"
        async with asked(fake, Completion("m")) as found:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    [item async for item in found]

    run(main())
