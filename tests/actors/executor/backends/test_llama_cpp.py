import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import msgspec
import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.connection import Connection
from actors.executor.backends.llama_cpp import LlamaCppBackend, recognise
from actors.executor.backends.port import Answer, BackendError, Call, Offer, Switch, Vitals
from actors.executor.backends.wire import Wire
from tests.actors.executor.backends.conformance import KINDS, Conformance, Rig, all_of
from tests.fakes.llama_cpp import ALIAS, MODEL, FakeLlamaCpp
from tests.fakes.openai_chat import TEXT
from tests.fakes.vllm import FakeVllm

CALL = Call(model=MODEL, messages=({"role": "user", "content": "hi"},), max_output_tokens=64)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


class LlamaRig(Rig):
    kind = "llama_cpp"
    fake = FakeLlamaCpp
    call = CALL
    text = TEXT
    faults: ClassVar = {**KINDS, "error_inside": "overloaded"}
    counts = (3, 3, None)


class TestConformance(Conformance):
    rig = LlamaRig


@contextlib.asynccontextmanager
async def llama(**states: str) -> AsyncGenerator[tuple[FakeLlamaCpp, LlamaCppBackend], None]:
    async with FakeLlamaCpp() as fake:
        fake.states = states
        backend = open_backend("llama_cpp", fake.url, api_key=None, now=lambda: 0.0)
        assert isinstance(backend, LlamaCppBackend)
        try:
            yield fake, backend
        finally:
            await backend.close()


async def error_of(awaited: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await awaited
    return caught.value


def test_it_tells_its_slots(run) -> None:
    async def main() -> None:
        async with llama() as (fake, backend):
            fake.deferred = 3
            assert await backend.health() == Vitals(
                version="b7000-abc", waiting=3, running=0, slots=2, loaded=(MODEL,)
            )  # fmt: skip
            fake.fault = "hang"
            calls = [asyncio.create_task(all_of(backend, CALL)) for _ in range(3)]
            while (await backend.health()).running != 2:
                pass
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            while (await backend.health()).running:  # Closing the connection frees the slot.
                pass
            fake.slots_on = fake.metrics_on = False
            assert await backend.health() == Vitals(version="b7000-abc", slots=2, loaded=(MODEL,))
            fake.is_sleeping = True
            vitals = await backend.health()
            assert (vitals.loaded, vitals.cold) == ((), True)

    run(main())


def test_while_it_loads_it_is_not_well(run) -> None:
    async def main() -> None:
        async with llama() as (fake, backend):
            fake.loading = True
            for asked in (backend.health(), backend.discover(), all_of(backend, CALL)):
                assert (await error_of(asked)).kind == "overloaded"

    run(main())


def test_its_template_and_its_projector_tell_what_it_can_do(run) -> None:
    async def main() -> None:
        async with llama() as (fake, backend):
            offer = Offer(
                model=MODEL, context_tokens=4096, capabilities=("json", "text", "tools"), loaded=True,
                parameters_billion=4.02,
            )  # fmt: skip
            assert await backend.discover() == (offer,)
            fake.takes_tools, fake.sees = False, True
            assert await backend.discover() == (
                msgspec.structs.replace(offer, capabilities=("json", "text", "vision")),
            )

    run(main())


def test_a_name_that_it_does_not_have_is_refused_though_it_would_answer(run) -> None:
    async def main() -> None:
        async with llama() as (fake, backend):
            error = await error_of(all_of(backend, msgspec.structs.replace(CALL, model="gpt-4.1")))
            assert (error.kind, error.retry) == ("unknown_model", "elsewhere")
            assert fake.calls == 0
            answer = (await all_of(backend, msgspec.structs.replace(CALL, model=ALIAS)))[-1]
            assert isinstance(answer, Answer)
            assert (answer.text, answer.model) == (TEXT, MODEL)

    run(main())


def test_tools_that_it_would_ignore_are_refused(run) -> None:
    async def main() -> None:
        call = msgspec.structs.replace(CALL, tools=(TOOL,))
        async with llama() as (fake, backend):
            answer: Any = (await all_of(backend, call))[-1]
            assert [tool["function"] for tool in answer.tool_calls] == [{"name": "f", "arguments": '{"q":1}'}]
        async with llama() as (fake, backend):
            fake.takes_tools = False
            assert (await error_of(all_of(backend, call))).kind == "unknown_model"
            assert fake.calls == 0

    run(main())


def test_a_500_may_be_for_ever(run) -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}

    async def main() -> None:
        async with llama() as (_, backend):
            error = await error_of(all_of(backend, msgspec.structs.replace(CALL, messages=(image,))))
            assert (error.status, error.kind) == (500, "unknown_model")

    run(main())


def test_a_router_loads_and_unloads(run) -> None:
    async def main() -> None:
        async with llama(a="loaded", b="unloaded") as (fake, backend):
            assert isinstance(backend, Switch)
            assert (await backend.health()).loaded == ("a",)
            assert [(offer.model, offer.loaded, offer.capabilities) for offer in await backend.discover()] == [
                ("a", True, ("json", "text", "tools")),
                ("b", False, ("text",)),
            ]
            fake.load_looks = 3
            await backend.load("b")
            await backend.load("b")
            assert fake.states == {"a": "loaded", "b": "loaded"}
            assert fake.paths.count("POST /models/load") == 1
            await backend.unload("a")
            await backend.unload("a")
            assert fake.states == {"a": "unloaded", "b": "loaded"}
            fake.fails_to_load, fake.load_looks = True, 2
            assert (await error_of(backend.load("a"))).kind == "server_error"
            assert (await error_of(backend.load("c"))).kind == "unknown_model"
            assert (await all_of(backend, msgspec.structs.replace(CALL, model="b")))[-1].text == TEXT  # type: ignore[union-attr]

    run(main())


def test_a_server_for_one_model_keeps_it(run) -> None:
    async def main() -> None:
        async with llama() as (fake, backend):
            await backend.load(MODEL)
            assert (await error_of(backend.unload(MODEL))).kind == "unknown_model"
            assert (await error_of(backend.load("other"))).kind == "unknown_model"
            assert not any(path.startswith("POST") for path in fake.paths)

    run(main())


def test_it_is_told_from_others(run) -> None:
    async def ask(fake: Any) -> str | None:
        wire = Wire(Connection(url=fake.url, now=lambda: 0.0))
        try:
            return await recognise(wire)
        finally:
            await wire.close()

    async def main() -> None:
        async with FakeLlamaCpp() as fake:
            assert await ask(fake) == "b7000-abc"
            fake.states = {"a": "unloaded"}
            assert await ask(fake) == ""
            fake.loading = True
            assert (await error_of(ask(fake))).kind == "overloaded"
        async with FakeVllm() as other:
            assert await ask(other) is None

    run(main())
