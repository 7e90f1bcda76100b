import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import msgspec
import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.connection import Connection
from actors.executor.backends.lm_studio import LmStudioBackend, address, recognise
from actors.executor.backends.port import BackendError, Call, Offer, Switch, Vitals
from actors.executor.backends.wire import Wire
from tests.actors.executor.backends.conformance import KINDS, Conformance, Rig, all_of
from tests.fakes.lm_studio import EMBEDDING, MODEL, OTHER, FakeLmStudio
from tests.fakes.openai_chat import TEXT
from tests.fakes.vllm import FakeVllm

CALL = Call(model=MODEL, messages=({"role": "user", "content": "hi"},), max_output_tokens=64)


class LmStudioRig(Rig):
    kind = "lm_studio"
    fake = FakeLmStudio
    call = CALL
    text = TEXT
    faults: ClassVar = {**KINDS, "error_inside": "server_error"}


class TestConformance(Conformance):
    rig = LmStudioRig


@contextlib.asynccontextmanager
async def studio(*, native: bool = True) -> AsyncGenerator[tuple[FakeLmStudio, LmStudioBackend], None]:
    async with FakeLmStudio() as fake:
        fake.native = native
        backend = open_backend("lm_studio", fake.url, api_key=None, now=lambda: 0.0)
        assert isinstance(backend, LmStudioBackend)
        try:
            yield fake, backend
        finally:
            await backend.close()


async def error_of(awaited: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await awaited
    return caught.value


OFFERS = (
    Offer(
        model=MODEL, context_tokens=8192, capabilities=("text", "json", "tools"), loaded=True, parameters_billion=8.0
    ),
    Offer(
        model=OTHER, context_tokens=131_072, capabilities=("text", "json", "vision"), loaded=False,
        parameters_billion=8.0,
    ),
    Offer(model=EMBEDDING, context_tokens=131_072, capabilities=("embedding",), loaded=False),
)  # fmt: skip


def test_listed_is_not_loaded(run) -> None:
    async def main() -> None:
        async with studio() as (fake, backend):
            assert await backend.discover() == OFFERS
            assert await backend.health() == Vitals(loaded=(MODEL,), slots=4)
            fake.loaded = {}
            assert await backend.health() == Vitals(loaded=())

    run(main())


def test_an_older_one_lists_in_its_own_way_and_has_no_switch(run) -> None:
    async def main() -> None:
        async with studio(native=False) as (_, backend):
            expected = [
                msgspec.structs.replace(offer, context_tokens=131_072, parameters_billion=None) for offer in OFFERS
            ]
            assert list(await backend.discover()) == expected
            assert await backend.health() == Vitals(loaded=(MODEL,))
            for asked in (backend.load(OTHER), backend.unload(MODEL)):
                assert (await error_of(asked)).kind == "unknown_model"

    run(main())


def test_it_loads_and_unloads_every_instance(run) -> None:
    async def main() -> None:
        async with studio() as (fake, backend):
            assert isinstance(backend, Switch)
            await backend.load(MODEL)
            assert not any(path.startswith("POST") for path in fake.paths)
            await backend.load(OTHER)
            assert fake.loaded == {OTHER: 1}
            fake.loaded = {MODEL: 2}
            await backend.unload(MODEL)
            await backend.unload(MODEL)
            assert fake.loaded == {MODEL: 0}
            assert (await error_of(backend.load("none"))).kind == "unknown_model"
            fake.load_status = "failed"
            assert (await error_of(backend.load(OTHER))).kind == "server_error"

    run(main())


def test_a_call_for_another_model_changes_what_is_loaded(run) -> None:
    async def main() -> None:
        async with studio() as (fake, backend):
            await all_of(backend, msgspec.structs.replace(CALL, model=OTHER))
            assert (await backend.health()).loaded == (OTHER,)
            texts = msgspec.structs.replace(CALL, model=EMBEDDING, texts=("a",))
            assert len((await all_of(backend, texts))[-1].embeddings) == 1  # type: ignore[union-attr]
            fake.token = "t"
            assert (await error_of(backend.health())).kind == "account"

    run(main())


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://h:1234", "http://h:1234/v1"),
        ("http://h:1234/v1/", "http://h:1234/v1"),
        ("http://h:1234/api/v1", "http://h:1234/v1"),
        ("http://h:1234/api/v0/models", "http://h:1234/v1"),
    ],
)
def test_addresses(written: str, url: str) -> None:
    assert address(written) == url


def test_it_is_told_from_others(run) -> None:
    async def ask(fake: Any) -> str | None:
        wire = Wire(Connection(url=address(fake.url), now=lambda: 0.0))
        try:
            return await recognise(wire)
        finally:
            await wire.close()

    async def main() -> None:
        async with FakeLmStudio() as fake:
            assert await ask(fake) == ""
            fake.downloaded = ()
            assert await ask(fake) == ""
            fake.native = False
            assert await ask(fake) == ""
        async with FakeVllm() as other:
            assert (await error_of(ask(other))).kind == "invalid_structure"

    run(main())
