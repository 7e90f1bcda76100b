import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import BackendError, Call, Offer, Switch, Usage, Vitals
from actors.executor.backends.vllm import VllmBackend, recognise
from actors.executor.backends.wire import Wire
from tests.actors.executor.backends.conformance import KINDS, Conformance, Rig, all_of
from tests.fakes.llama_cpp import FakeLlamaCpp
from tests.fakes.openai_chat import TEXT
from tests.fakes.vllm import ADAPTER, MAX_MODEL_LEN, MODEL, FakeVllm

CALL = Call(model=MODEL, messages=({"role": "user", "content": "hi"},), max_output_tokens=64)


class VllmRig(Rig):
    kind = "vllm"
    fake = FakeVllm
    call = CALL
    text = TEXT
    faults: ClassVar = {**KINDS, "error_inside": "overloaded"}
    counts = (3, 53, None)


class TestConformance(Conformance):
    rig = VllmRig


@contextlib.asynccontextmanager
async def vllm(key: str | None = None) -> AsyncGenerator[tuple[FakeVllm, VllmBackend], None]:
    async with FakeVllm() as fake:
        backend = open_backend("vllm", fake.url, api_key=key, now=lambda: 0.0)
        assert isinstance(backend, VllmBackend)
        try:
            yield fake, backend
        finally:
            await backend.close()


async def kind_of(awaited: Any) -> str:
    with pytest.raises(BackendError) as caught:
        await awaited
    return caught.value.kind


def test_its_figures(run) -> None:
    async def main() -> None:
        async with vllm() as (fake, backend):
            loaded = (MODEL, ADAPTER)
            assert await backend.health() == Vitals(version="0.33.0", waiting=5, running=2, loaded=loaded)
            fake.metrics_on = False
            assert await backend.health() == Vitals(version="0.33.0", loaded=loaded)
            fake.version_on = False
            assert (await backend.health()).version == ""
            fake.dead = True
            assert await kind_of(backend.health()) == "overloaded"

    run(main())


def test_a_lora_adapter_is_a_model_that_reads_as_much_as_its_own(run) -> None:
    async def main() -> None:
        async with vllm() as (fake, backend):
            assert await backend.discover() == (
                Offer(
                    model=MODEL, context_tokens=MAX_MODEL_LEN, capabilities=("text", "json", "lora"), loaded=True,
                    loras=(ADAPTER,),
                ),
                Offer(model=ADAPTER, context_tokens=MAX_MODEL_LEN, capabilities=("text", "json"), loaded=True),
            )  # fmt: skip
            fake.sleeping = True
            assert [offer.loaded for offer in await backend.discover()] == [False, False]

    run(main())


@pytest.mark.parametrize("silent", [False, True])
def test_a_sleeping_engine_has_nothing_in_memory_until_it_is_woken(run, silent: bool) -> None:
    async def main() -> None:
        async with vllm() as (fake, backend):
            assert isinstance(backend, Switch)
            fake.silent_orders = silent
            await backend.load(MODEL)  # It is awake already.
            await backend.unload("another")  # Nothing happens.
            assert not any(path.startswith("POST") for path in fake.paths)
            await backend.unload(MODEL)
            await backend.unload(MODEL)
            assert fake.paths.count("POST /sleep") == 1
            assert (await backend.health()).loaded == ()
            assert await kind_of(all_of(backend, CALL)) == "overloaded"
            assert fake.calls == 0
            assert await kind_of(backend.load("another")) == "unknown_model"
            fake.wake_looks = 2
            await backend.load(MODEL)
            assert fake.wake_looks == 0
            assert MODEL in ((await backend.health()).loaded or ())
            assert (await all_of(backend, CALL))[-1].text == TEXT  # type: ignore[union-attr]

    run(main())


def test_without_sleep_mode_nothing_can_be_switched(run) -> None:
    async def main() -> None:
        async with vllm() as (fake, backend):
            fake.dev = False
            await backend.health()
            await backend.health()
            assert fake.paths.count("GET /is_sleeping") == 1
            with pytest.raises(BackendError, match="--enable-sleep-mode") as caught:
                await backend.unload(MODEL)
            assert caught.value.kind == "unknown_model"

    run(main())


def test_keys_and_errors_in_its_own_forms(run) -> None:
    async def main() -> None:
        async with vllm("wrong-key-of-ours") as (fake, backend):
            fake.key = "right"
            with pytest.raises(BackendError) as caught:
                await backend.health()
            assert (caught.value.kind, caught.value.body) == ("account", '{"error": "Unauthorized"}')
        for flat in (False, True):
            async with vllm() as (fake, backend):
                fake.flat_errors = flat
                long = Call(model=MODEL, messages=CALL.messages, max_output_tokens=MAX_MODEL_LEN + 1)
                with pytest.raises(BackendError, match="maximum context length") as caught:
                    await all_of(backend, long)
                assert (caught.value.kind, caught.value.limit_tokens) == ("too_large", MAX_MODEL_LEN)
                other = Call(model="other", messages=CALL.messages, max_output_tokens=1)
                assert await kind_of(all_of(backend, other)) == "unknown_model"

    run(main())


def test_an_answer_tells_its_usage(run) -> None:
    async def main() -> None:
        async with vllm() as (fake, backend):
            answer: Any = (await all_of(backend, CALL))[-1]
            assert answer.usage == Usage(input_tokens=12, output_tokens=9, cached_tokens=4, reasoning_tokens=2)
            assert fake.asked[0].max_tokens == 64
            texts = Call(model=MODEL, messages=(), texts=("a", "bc"), max_output_tokens=1)
            vectors: Any = (await all_of(backend, texts))[-1]
            assert [vector[0] for vector in vectors.embeddings] == [1.0, 2.0]

    run(main())


def test_it_is_told_from_others(run) -> None:
    async def ask(fake: Any) -> str | None:
        wire = Wire(Connection(url=fake.url, now=lambda: 0.0))
        try:
            return await recognise(wire)
        finally:
            await wire.close()

    async def main() -> None:
        async with FakeVllm() as fake:
            assert await ask(fake) == "0.33.0"
            fake.key = "secret"
            assert await ask(fake) == "0.33.0"
            fake.version_on = False
            assert await ask(fake) is None
        async with FakeLlamaCpp() as other:
            assert await ask(other) is None
            other.key = "secret"
            assert await kind_of(ask(other)) == "account"

    run(main())


def test_stopping_to_wait_for_it_to_wake_leaves_nothing_behind(run) -> None:
    async def main() -> None:
        async with vllm() as (fake, backend):
            fake.sleeping, fake.wake_looks = True, 1_000_000
            loading = asyncio.create_task(backend.load(MODEL))
            while fake.paths.count("GET /is_sleeping") < 2:  # noqa: ASYNC110  # A look sets no event.
                await asyncio.sleep(0)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            assert loading.cancelled()

    run(main())
