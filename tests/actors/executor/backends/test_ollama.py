import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import open_backend
from actors.executor.backends.ollama import context_size
from actors.executor.backends.port import Answer, Backend, BackendError, Call, Chunk, Offer, Usage
from tests.fakes.ollama import FakeMessage, FakeOllama, FakeOptions, last, line

CALL = Call(model="llama3.1:8b", messages=({"role": "user", "content": "hi"},), max_output_tokens=64)


@contextlib.asynccontextmanager
async def ollama(**options: Any) -> AsyncGenerator[tuple[FakeOllama, Backend], None]:
    async with FakeOllama() as fake:
        backend = open_backend("ollama", fake.url, api_key=options.pop("api_key", None), now=lambda: 0.0, **options)
        try:
            yield fake, backend
        finally:
            await backend.close()


async def all_of(backend: Backend, call: Call = CALL) -> tuple[str, Answer]:
    parts = [part async for part in backend.run(call)]
    *chunks, answer = parts
    assert isinstance(answer, Answer)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk)), answer


async def failure_of(backend: Backend, call: Call = CALL) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    return caught.value


def test_an_answer(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            text, answer = await all_of(backend)
            assert text == "Hello world"
            assert answer == Answer(
                text=text, finish_reason="stop", model="llama3.1:8b", usage=Usage(input_tokens=7, output_tokens=2)
            )
            (asked,) = fake.asked
            assert asked.options == FakeOptions(num_ctx=2048, num_predict=64)
            assert (asked.stream, asked.truncate, asked.shift, asked.format) == (True, False, False, None)
            assert fake.authorizations == [None]

    run(main())


def test_everything_a_call_can_ask(run) -> None:
    call = Call(
        model="llama3.1:8b",
        messages=(
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"q":1}'}}],
            },
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": "2"},
        ),
        max_output_tokens=100,
        temperature=0.5,
        stop=("x",),
        seed=3,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        tools=({"type": "function", "function": {"name": "f"}},),
        context_tokens=5000,
    )

    async def main() -> None:
        async with ollama(keep_alive="5m", api_key="secret-key") as (fake, backend):
            await all_of(backend, call)
            (asked,) = fake.asked
            assert asked.options == FakeOptions(num_ctx=8192, num_predict=100, temperature=0.5, seed=3, stop=["x"])
            assert asked.messages == [
                FakeMessage(role="system", content="be brief"),
                FakeMessage(role="user", content="what is this?", images=["aGk="]),
                FakeMessage(
                    role="assistant", content="", tool_calls=[{"function": {"name": "f", "arguments": {"q": 1}}}]
                ),
                FakeMessage(role="tool", content="2", tool_name="f"),
            ]
            assert (asked.format, asked.keep_alive) == ({"type": "object"}, "5m")
            assert fake.authorizations == ["Bearer secret-key"]

    run(main())


def test_an_image_elsewhere_is_for_another_backend(run) -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}

    async def main() -> None:
        async with ollama() as (fake, backend):
            error = await failure_of(backend, Call(model="m", messages=(image,), max_output_tokens=1))
            assert error.retry == "elsewhere"
            assert fake.asked == []

    run(main())


def test_missing_counts_are_unknown_and_thinking_is_no_text(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.lines = [line(thinking="hm"), line("a"), last(None)]
            _, answer = await all_of(backend)
            assert (answer.text, answer.finish_reason, answer.usage) == ("a", "", Usage())
            fake.lines = [line("a"), last("length", eval_count=64).rstrip()]
            _, answer = await all_of(backend)
            assert (answer.finish_reason, answer.usage) == ("length", Usage(output_tokens=64))

    run(main())


def test_tool_calls_take_openai_form(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.lines = [line(tool_calls=[{"function": {"name": "f", "arguments": {"q": 1}}}]), last()]
            _, answer = await all_of(backend)
            assert answer.finish_reason == "tool_calls"
            assert answer.tool_calls == (
                {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"q":1}'}},
            )

    run(main())


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([line("half"), b'{"error":"llama runner process has terminated"}\n'], "server_error"),
        ([line("half"), b'{"error":"x does not support tools","status":400}\n'], "unknown_model"),
        ([line("half")], "cut_stream"),
        ([line("half"), last()[:20]], "cut_stream"),
        ([line("half"), b'{"message"\n', last()], "invalid_structure"),
        ([line("half"), b"[]\n", last()], "invalid_structure"),
        ([line("half"), b'{"message": 5}\n', last()], "invalid_structure"),
        ([line("half"), b'{"message": {"content": 5}}\n', last()], "invalid_structure"),
    ],
)
def test_trouble_after_the_first_line(run, lines: list[bytes], kind: str) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.lines = lines
            error = await failure_of(backend)
            assert (error.kind, error.status, error.partial) == (kind, 200, "half")

    run(main())


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "invalid option", "bad_request"),
        (400, '"llama3.1:8b" does not support tools', "unknown_model"),
        (401, "unauthorized", "account"),
        (404, "model 'x' not found", "unknown_model"),
        (429, "too many", "rate_limited"),
        (500, "boom", "server_error"),
        (503, "server busy, please try again.  maximum pending requests exceeded", "overloaded"),
    ],
)
def test_refusals(run, status: int, message: str, kind: str) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.refusal = (status, message)
            error = await failure_of(backend)
            assert (error.kind, error.status) == (kind, status)
            assert message[:5].strip('"') in error.body
            with pytest.raises(BackendError):
                await backend.health()

    run(main())


def test_closing_stops_the_generation(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.lines, fake.hang = [line("a")], True
            running = backend.run(CALL)
            assert await anext(running) == Chunk(text="a")
            await running.aclose()  # type: ignore[attr-defined]
            await asyncio.wait_for(fake.cancelled.wait(), 5)

    run(main())


def test_health_and_discovery(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            await backend.health()
            assert await backend.discover() == ()
            fake.tags = {
                "models": [
                    {"name": "llama3.1:8b", "model": "llama3.1:8b", "details": {"family": "llama"}},
                    {
                        "name": "qwen3-vl:8b",
                        "model": "qwen3-vl:8b",
                        "details": {"context_length": 262144},
                        "capabilities": ["completion", "vision", "tools"],
                    },
                    {"name": "llama3.1:8b"},
                    {},
                ]
            }
            fake.loaded = {"models": [{"name": "qwen3-vl:8b", "size_vram": 1}]}
            assert await backend.discover() == (
                Offer(model="llama3.1:8b", loaded=False),
                Offer(
                    model="qwen3-vl:8b", context_tokens=262144, capabilities=("text", "vision", "tools"), loaded=True
                ),
            )
            fake.tags = {"models": None}
            assert await backend.discover() == ()
            fake.tags = {"models": 5}
            with pytest.raises(BackendError) as caught:
                await backend.discover()
            assert caught.value.kind == "invalid_structure"

    run(main())


@given(st.integers(-5, 1_000_000))
def test_context_sizes(tokens: int) -> None:
    size = context_size(tokens)
    assert size >= max(2048, tokens)
    assert size.bit_count() == 1
    assert size == 2048 or size < 2 * tokens
