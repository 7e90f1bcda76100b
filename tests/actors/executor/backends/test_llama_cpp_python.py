import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import msgspec
import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.connection import Connection
from actors.executor.backends.llama_cpp_python import recognise
from actors.executor.backends.port import Answer, Backend, BackendError, Call, Chunk, Offer, Step, Usage
from actors.executor.backends.wire import Wire
from tests.actors.executor.backends.conformance import KINDS, Conformance, Rig, all_of
from tests.fakes.llama_cpp_python import MODEL, FakeLlamaCppPython
from tests.fakes.openai_chat import PIECES, TEXT
from tests.fakes.vllm import FakeVllm

CALL = Call(model=MODEL, messages=({"role": "user", "content": "hi"},), max_output_tokens=64)


class PythonRig(Rig):
    kind = "llama_cpp_python"
    fake = FakeLlamaCppPython
    call = CALL
    text = TEXT
    faults: ClassVar = {**KINDS, "error_inside": "server_error"}


class TestConformance(Conformance):
    rig = PythonRig


@contextlib.asynccontextmanager
async def server(key: str | None = None) -> AsyncGenerator[tuple[FakeLlamaCppPython, Backend], None]:
    async with FakeLlamaCppPython() as fake:
        backend = open_backend("llama_cpp_python", fake.url, api_key=key, now=lambda: 0.0)
        try:
            yield fake, backend
        finally:
            await backend.close()


async def error_of(awaited: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await awaited
    return caught.value


def test_its_streams_tell_no_usage(run) -> None:
    async def main() -> None:
        async with server() as (_, backend):
            answer = (await all_of(backend, CALL))[-1]
            assert isinstance(answer, Answer)
            assert (answer.text, answer.usage) == (TEXT, Usage())
            await backend.health()
            assert await backend.discover() == (Offer(model=MODEL),)

    run(main())


def test_calls_wait_for_each_other_instead_of_interrupting(run) -> None:
    async def main() -> None:
        async with server() as (fake, backend):
            fake.fault = "hang"
            first = asyncio.create_task(all_of(backend, CALL))
            while not fake.hanging:  # noqa: ASYNC110  # Nothing sets an event when it begins.
                await asyncio.sleep(0.001)
            second = backend.run(CALL)
            assert await anext(second) == Step(stage="queued", text="waits for the call before it")
            fake.fault = None
            waiting = asyncio.ensure_future(anext(second))
            await asyncio.sleep(0.05)
            assert (waiting.done(), fake.calls) == (False, 1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert isinstance(await waiting, Chunk)
            await second.aclose()
            answers = await asyncio.gather(*(all_of(backend, CALL) for _ in range(5)))
            assert {items[-1].text for items in answers} == {TEXT}  # type: ignore[union-attr]

    run(main())


def test_the_fake_interrupts_as_the_real_one_does(run) -> None:
    async def main() -> None:
        async with server() as (fake, backend):
            fake.fault = "hang"
            first = asyncio.create_task(all_of(backend, CALL))
            while not fake.hanging:  # noqa: ASYNC110  # Nothing sets an event when it begins.
                await asyncio.sleep(0.001)
            fake.fault = None
            other = open_backend("openai", fake.url, api_key=None, now=lambda: 0.0)
            try:
                assert (await all_of(other, CALL))[-1].text == TEXT  # type: ignore[union-attr]
            finally:
                await other.close()
            assert (await error_of(first)).kind == "cut_stream"
            assert fake.interrupted == 1

    run(main())


def test_what_it_would_ignore_is_refused(run) -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}

    async def main() -> None:
        async with server() as (fake, backend):
            for change in ({"model": "other"}, {"messages": (image,)}):
                assert (
                    await error_of(all_of(backend, msgspec.structs.replace(CALL, **change)))
                ).kind == "unknown_model"
            assert fake.calls == 0
            long = await error_of(all_of(backend, msgspec.structs.replace(CALL, max_output_tokens=4096)))
            assert (long.status, long.kind, long.limit_tokens) == (400, "too_large", 2048), (
                "case 14: its stream tells nothing"
            )

    run(main())


def test_a_wrong_key_in_fastapis_form(run) -> None:
    async def main() -> None:
        async with server("key-of-ours") as (fake, backend):
            fake.key = "right"
            error = await error_of(backend.health())
            assert (error.kind, "Invalid API key" in error.message) == ("account", True)

    run(main())


def test_it_is_told_from_others(run) -> None:
    async def ask(fake: Any) -> str | None:
        wire = Wire(Connection(url=fake.url, now=lambda: 0.0))
        try:
            return await recognise(wire)
        finally:
            await wire.close()

    async def main() -> None:
        async with FakeLlamaCppPython() as fake:
            assert await ask(fake) == ""
        async with FakeVllm() as other:
            assert await ask(other) is None

    run(main())


def test_a_schema_goes_in_the_form_that_it_takes(run) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    async def main() -> None:
        async with server() as (fake, backend):
            for given, sent in ((form, ("json_object", schema)), ({"type": "json_object"}, ("json_object", None))):
                await all_of(backend, msgspec.structs.replace(CALL, response_format=given))
                asked = fake.asked[-1].response_format
                assert (asked.type, asked.schema, asked.json_schema) == (*sent, None)

    run(main())


def test_the_tokens_that_end_a_character_are_within_the_cap(run) -> None:
    async def main() -> None:
        async with server() as (fake, backend):
            for cap, sent in ((64, 61), (5, 2), (2, 1)):
                await all_of(backend, msgspec.structs.replace(CALL, max_output_tokens=cap))
                assert fake.asked[-1].max_tokens == sent

    run(main())


def test_a_model_that_was_not_made_to_embed_is_looked_for_elsewhere(run) -> None:
    async def main() -> None:
        async with server() as (_, backend):
            call = msgspec.structs.replace(CALL, asset="embedding", messages=(), texts=("a",))
            assert (await error_of(all_of(backend, call))).kind == "unknown_model"

    run(main())


def test_a_call_that_somebody_interrupted_is_no_answer(run) -> None:
    async def main() -> None:
        async with server() as (fake, backend):
            fake.ends_early = True
            error = await error_of(all_of(backend, CALL))
            assert (error.kind, error.partial) == ("cut_stream", "".join(PIECES[:2]))
            fake.ends_early = False
            assert (await all_of(backend, CALL))[-1].text == TEXT  # type: ignore[union-attr]

    run(main())
