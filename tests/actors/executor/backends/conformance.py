"""What every adapter must do, whatever protocol it speaks: one suite, run against each protocol's fake on a real socket.

A test module of an adapter makes a `Rig` and lets a class inherit from `Conformance` (see `test_ollama.py`); faults that a
protocol can't have are left out of its `Rig.faults`, with the reason beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping
from typing import Any, ClassVar, Literal, Protocol, Self

import msgspec
import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.port import (
    SENDING,
    Answer,
    Artifact,
    Backend,
    BackendError,
    Call,
    Chunk,
    Counts,
    ErrorKind,
    Item,
    Offer,
    Sending,
)

KEY = "key-that-must-not-show"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PICTURE = {
    "role": "user",
    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}],
}

Fault = Literal[
    "rate_limited", "server_error", "overloaded", "account", "bad_request", "unknown_model", "web_page", "no_json",
    "wrong_json", "cut", "error_inside", "hang", "drip", "huge", "refuse",
]  # fmt: skip
"""What a fake does to the next call.

- `rate_limited` .. `unknown_model`: it answers with its protocol's form of that error; `rate_limited` asks for 7 s.
- `web_page`: 200 with HTML. `no_json`: 200 with broken JSON. `wrong_json`: JSON that is not what the protocol promises.
- `cut`: the answer begins and the connection breaks. `error_inside`: it begins with a 200 and then tells an error.
- `hang`: it begins (where it streams) and then nothing comes any more.
- `drip`: it comes a few bytes at a time, at every border of a character. `huge`: it does not end.
- `refuse`: nobody listens.
"""
KINDS: Mapping[Fault, ErrorKind] = {
    "rate_limited": "rate_limited", "server_error": "server_error", "overloaded": "overloaded", "account": "account",
    "bad_request": "bad_request", "unknown_model": "unknown_model", "web_page": "invalid_structure",
    "no_json": "invalid_structure", "wrong_json": "invalid_structure", "cut": "cut_stream", "huge": "invalid_structure",
    "refuse": "connection_error",
}  # fmt: skip


class Fake(Protocol):
    """A server that speaks one protocol, strictly: an unknown or missing field of a request is an error (400)."""

    url: str
    """What an operator would write as the backend's address."""
    fault: Fault | None
    """What happens to every call from now on; None: all is well. Health and discovery are not touched, `refuse` excepted."""
    calls: int
    """Calls that it was asked to run."""
    cancelled: asyncio.Event
    """Set when a running call was stopped by the client: its connection closed, or the protocol's own word."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...

    def open_connections(self) -> int:
        """Connections that clients hold open now."""
        ...


class Rig:
    """How the suite meets one adapter."""

    kind: ClassVar[str]
    fake: ClassVar[type[Any]]
    call: ClassVar[Call]
    """A usual call; the fake's usual answer to it is `text` or one artifact."""
    text: ClassVar[str] = ""
    """The fake's usual answer; has characters of more than one byte, so that a cut in a piece shows."""
    media_type: ClassVar[str] = ""
    """Of the artifact that is made; empty: text is written."""
    streams: ClassVar[bool] = True
    """Whether text comes in more than one piece."""
    faults: ClassVar[Mapping[Fault, ErrorKind]] = KINDS
    """The faults that the protocol can have, and what each must be called."""
    retry_after_seconds: ClassVar[float | None] = 7.0
    """What a `rate_limited` must tell; None: the protocol can't say."""
    counts: ClassVar[tuple[int | None, ...]] = ()
    """Tokens that it counts of the usual call, of that with `TOOL`, and of `PICTURE` instead of text; none: it can't count."""
    options: ClassVar[Mapping[str, Any]] = {}


@contextlib.asynccontextmanager
async def opened(rig: type[Rig], **more: Any) -> AsyncGenerator[tuple[Any, Backend], None]:
    """The fake, and an adapter for it."""
    async with rig.fake() as fake:
        backend = open_backend(rig.kind, fake.url, api_key=KEY, now=lambda: 0.0, options=rig.options, **more)
        try:
            yield fake, backend
        finally:
            await backend.close()


@contextlib.contextmanager
def sending() -> Generator[Sending]:
    """What a transport tells of the request that is made inside."""
    told = Sending()
    token = SENDING.set(told)
    try:
        yield told
    finally:
        SENDING.reset(token)


async def all_of(backend: Backend, call: Call) -> list[Item]:
    """Everything that a run yields; who takes an artifact closes it, which the test does at its end."""
    return [item async for item in backend.run(call)]


def checked(main: Coroutine[Any, Any, None]) -> None:
    """Run a test, and see that it leaves no task behind."""

    async def guarded() -> None:
        await asyncio.wait_for(main, 60)
        gc.collect()
        for _ in range(20):  # Let closed sockets and finalizers end.
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    gc.freeze()  # What was there before is none of the test's, and in a long run it is too much to search each time.
    try:
        asyncio.run(guarded())
    finally:
        gc.unfreeze()


class Conformance:
    """The suite. A subclass names its `rig`."""

    rig: ClassVar[type[Rig]]

    def test_it_answers(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (fake, backend):
                self._expect_usual(await all_of(backend, self.rig.call))
                assert fake.calls == 1

        checked(main())

    def test_what_streams_comes_in_pieces_that_make_the_whole(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (fake, backend):
                fake.fault = "drip"  # Whole answers are read at once.
                items = await all_of(backend, self.rig.call)
                self._expect_usual(items)
                chunks = [item.text for item in items if isinstance(item, Chunk)]
                assert "".join(chunks) == self.rig.text
                assert not self.rig.streams or len([chunk for chunk in chunks if chunk]) > 1

        checked(main())

    def test_a_drip_changes_nothing(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (fake, backend):
                fake.fault = "drip"
                self._expect_usual(await all_of(backend, self.rig.call))

        checked(main())

    def test_each_fault_is_called_by_its_name(self, subtests: pytest.Subtests) -> None:
        async def main() -> None:
            for fault, kind in self.rig.faults.items():
                with subtests.test(fault=fault):
                    async with opened(self.rig) as (fake, backend):
                        fake.fault = fault
                        if fault == "refuse":
                            await fake.__aexit__(None, None, None)
                        with sending() as told, pytest.raises(BackendError) as caught:
                            await all_of(backend, self.rig.call)
                        self._expect_error(caught.value, fault, kind)
                        if fault in ("refuse", "cut"):  # Nothing is counted of the first, and the most of the other.
                            assert (told.begun, caught.value.refused) == (fault == "cut", False)
                        if fault == "refuse":
                            await fake.__aenter__()

        checked(main())

    def test_who_stops_reading_stops_the_work(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (fake, backend):
                fake.fault = "hang"
                with sending() as told, pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await all_of(backend, self.rig.call)
                assert told.begun
                async with asyncio.timeout(10):
                    await fake.cancelled.wait()
                fake.fault = None
                self._expect_usual(await all_of(backend, self.rig.call))

        checked(main())

    def test_after_a_restart_of_the_server_it_goes_on(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (fake, backend):
                self._expect_usual(await all_of(backend, self.rig.call))
                await fake.__aexit__(None, None, None)
                with pytest.raises(BackendError):
                    await backend.health()
                await fake.__aenter__()  # At the same address.
                self._expect_usual(await all_of(backend, self.rig.call))

        checked(main())

    def test_many_calls_at_once_do_not_mix_and_leak_nothing(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (fake, backend):
                for items in await asyncio.gather(*(all_of(backend, self.rig.call) for _ in range(16))):
                    self._expect_usual(items)
                await backend.close()
                await backend.close()
                async with asyncio.timeout(10):
                    while fake.open_connections():  # noqa: ASYNC110  # The sockets' end sets no event.
                        await asyncio.sleep(0.01)

        checked(main())

    def test_it_is_well_and_offers_its_models(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (_, backend):
                await backend.health()
                offers = await backend.discover()
                assert self.rig.call.model in [offer.model for offer in offers]
                assert len({offer.model for offer in offers}) == len(offers)
                assert all(isinstance(offer, Offer) and offer.capabilities for offer in offers)

        checked(main())

    def test_it_counts_what_it_would_read_or_does_not_say_that_it_can(self) -> None:
        async def main() -> None:
            async with opened(self.rig) as (_, backend):
                able = isinstance(backend, Counts)
                assert bool(self.rig.counts) == (able and not self.rig.media_type), "only texts are counted"
                if able and self.rig.counts:
                    call = self.rig.call
                    told = (
                        await backend.count(call),
                        await backend.count(msgspec.structs.replace(call, tools=(TOOL,))),
                        await backend.count(msgspec.structs.replace(call, messages=(PICTURE,))),
                    )
                    assert told == self.rig.counts

        checked(main())

    def _expect_usual(self, items: list[Item]) -> None:
        *rest, answer = items
        assert isinstance(answer, Answer)
        assert not any(isinstance(item, Answer) for item in rest)
        assert answer.text == self.rig.text
        made = [item for item in rest if isinstance(item, Artifact)]
        try:
            assert [item.media_type for item in made] == ([self.rig.media_type] if self.rig.media_type else [])
            assert all(item.file.size_bytes > 0 for item in made)
        finally:
            for item in made:
                item.file.close()

    def _expect_error(self, error: BackendError, fault: Fault, kind: ErrorKind) -> None:
        assert error.kind == kind, error.message
        assert error.message
        shown = f"{error.message} {error.body} {error!r} {error}"
        assert KEY not in shown
        if fault == "rate_limited":
            assert error.retry_after_seconds == self.rig.retry_after_seconds
        if fault == "cut" and self.rig.streams:
            assert error.partial
            assert self.rig.text.startswith(error.partial)
