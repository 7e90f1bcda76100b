"""Real servers that write text, with tiny models of random weights: `make live-local`. See `local`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from actors.executor.backends import kinds, open_backend
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import Answer, Backend, BackendError, Call, Chunk, Item
from actors.executor.backends.wire import Wire
from actors.settings import BackendSettings
from messages import JobSubmit, Model
from tests.e2e.system import running
from tests.live import local

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
KINDS = {"llama_cpp_python": local.llama_cpp_python, "transformers": local.transformers}
PROTOCOLS = {"llama_cpp_python": "llama_cpp_python", "transformers": "openai"}
CONTEXT = 512
OVER = 3
"""llama-cpp-python writes the last character to its end, whatever the cap: so many tokens more."""

SILENT_SECONDS = 60.0


class Served(msgspec.Struct, frozen=True):
    """A server that runs, and what it has."""

    name: str
    url: str
    model: str

    @property
    def protocol(self) -> str:
        return PROTOCOLS[self.name]

    def call(self, **more: Any) -> Call:
        usual: dict[str, Any] = {"model": self.model, "messages": said("hi"), "max_output_tokens": 8}
        return Call(**{**usual, **more})


def said(text: str, role: str = "user") -> tuple[dict[str, Any], ...]:
    return ({"role": role, "content": text},)


@pytest.fixture(scope="module", params=KINDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    name: str = request.param
    try:
        with KINDS[name](tmp_path_factory.mktemp(name), os.environ) as (server, model):
            yield Served(name, server.url, model)
    except local.Missing as error:
        pytest.skip(str(error))


def test_it_is_recognised_for_what_it_is(served: Served) -> None:
    async def main() -> str:
        for name in kinds.names():
            kind = kinds.kind(name)
            try:
                wire = Wire(Connection(url=kind.address(served.url), now=time.time), auth=kind.auth)
            except ValueError:
                continue  # It is at no address of this kind.
            try:
                if kind.recognise is not None and await kind.recognise(wire) is not None:
                    return name
            except BackendError:
                continue
            finally:
                await wire.close()
        return ""

    assert asyncio.run(main()) == served.protocol


def test_it_lists_its_model_and_is_well(served: Served) -> None:
    async def main(backend: Backend) -> None:
        await backend.health()
        (offer,) = await backend.discover()
        assert offer.model == served.model
        assert "text" in offer.capabilities

    with_backend(served, main)


def test_it_writes_and_what_it_used_is_possible(served: Served) -> None:
    async def main(backend: Backend) -> None:
        for more in (
            {},
            {"temperature": 0.5, "seed": 3, "stop": ("\0",)},
            {"messages": (*said("be", "system"), *said("x"))},
        ):
            items = await all_of(backend, served.call(**more))
            answer = answer_of(items)
            assert "".join(item.text for item in items if isinstance(item, Chunk)) == answer.text
            assert answer.finish_reason in ("length", "stop")
            used = answer.usage.output_tokens
            assert used is None or 0 < used <= 8 + OVER * (served.name == "llama_cpp_python")

    with_backend(served, main)


def test_json_is_asked_for_in_a_form_that_it_takes(served: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["b", "c"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "choice", "schema": schema}}

    async def main(backend: Backend) -> None:
        answer = answer_of(await all_of(backend, served.call(response_format=form, max_output_tokens=200)))
        if served.name == "llama_cpp_python":  # The other one leaves the form out, and says so in its log alone.
            assert msgspec.json.decode(answer.text) in ({"a": "b"}, {"a": "c"})

    with_backend(served, main)


@pytest.mark.parametrize(
    ("more", "kinds_of"),
    [
        ({"model": "nope"}, {"unknown_model"}),
        ({"messages": said("hi", "nobody")}, {"bad_request"}),
        ({"asset": "embedding", "texts": ("a", "b"), "messages": ()}, {"unknown_model"}),
    ],
)
def test_what_it_refuses_is_named(served: Served, more: dict[str, Any], kinds_of: set[str]) -> None:
    async def main(backend: Backend) -> None:
        try:
            await all_of(backend, served.call(**more))
        except BackendError as error:
            assert error.kind in kinds_of, error.message  # noqa: PT017  # Some take what others refuse.
        else:
            assert served.name == "transformers"
            assert "messages" in more, "it takes any role"

    with_backend(served, main)


def test_a_prompt_above_its_context_is_too_large(served: Served) -> None:
    async def main(backend: Backend) -> None:
        call = served.call(messages=said("word " * CONTEXT))
        if served.name == "transformers":
            answer = answer_of(await all_of(backend, call))
            assert (answer.usage.input_tokens or 0) > CONTEXT, "it has no limit, and says how much there was"
            return
        with pytest.raises(BackendError) as caught:
            await all_of(backend, call)
        assert caught.value.kind == "too_large"
        assert (caught.value.input_tokens or 0) > CONTEXT
        assert caught.value.limit_tokens == CONTEXT

    with_backend(served, main)


def test_a_malformed_body_is_refused_and_harms_nobody(served: Served) -> None:
    async def main() -> None:
        kind = kinds.kind(served.protocol)
        wire = Wire(Connection(url=kind.address(served.url), now=time.time))
        json = {"content-type": "application/json"}
        try:
            for _ in range(4):
                for content in (b"{", b'{"messages": 5}'):
                    with pytest.raises(BackendError) as caught:
                        async with wire.exchange("POST", "chat/completions", content=content, headers=json):
                            pass
                    assert caught.value.status is not None, caught.value.message
        finally:
            await wire.close()

    asyncio.run(main())


def test_who_leaves_in_the_middle_leaves_it_free(served: Served) -> None:
    async def main(backend: Backend) -> None:
        for _ in range(2):
            items = backend.run(served.call(max_output_tokens=400))
            assert isinstance(await anext(items), Chunk)
            await items.aclose()  # type: ignore[attr-defined]
        assert answer_of(await all_of(backend, served.call())).finish_reason in ("length", "stop")

    with_backend(served, main)


def test_calls_at_once_all_end(served: Served) -> None:
    async def main(backend: Backend) -> None:
        calls = [all_of(backend, served.call(seed=number)) for number in range(4)]
        for items in await asyncio.gather(*calls):
            answer_of(items)

    with_backend(served, main)


def test_a_job_runs_on_it(served: Served, tmp_path_factory: pytest.TempPathFactory) -> None:
    backend = BackendSettings(
        name="real",
        protocol=served.protocol,
        url=served.url,
        models=(Model(name=served.model, context_tokens=CONTEXT),),
    )
    with running(tmp_path_factory.mktemp("system")) as system:

        async def main() -> None:
            async with system.serving(backend):
                await system.submit(JobSubmit(id="j-1", prompt="hi", max_output_tokens=16))
                done = await system.done("j-1")
                assert (done.ending, done.backend, done.model) == ("succeeded", "real", served.model), done.problem
                assert done.usage is not None

        system.do(main())


@asynccontextmanager
async def opened(served: Served) -> AsyncGenerator[Backend]:
    backend = open_backend(served.protocol, served.url, api_key=None, now=time.time)
    try:
        yield backend
    finally:
        await backend.close()


def with_backend(served: Served, work: Any) -> None:
    async def main() -> None:
        async with opened(served) as backend:
            running: Coroutine[Any, Any, None] = work(backend)
            await running

    asyncio.run(main())


async def all_of(backend: Backend, call: Call) -> list[Item]:
    """All that comes. A server that falls silent fails the test: llama-cpp-python did, once somebody had left a stream."""
    async with asyncio.timeout(SILENT_SECONDS):
        return [item async for item in backend.run(call)]


def answer_of(items: list[Item]) -> Answer:
    answer = items[-1]
    assert isinstance(answer, Answer)
    return answer
