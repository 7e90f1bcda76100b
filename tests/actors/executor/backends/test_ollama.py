import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import ollama as official
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import open_backend
from actors.executor.backends.ollama_form import context_size, embedded, offer_of
from actors.executor.backends.port import Answer, Backend, BackendError, Call, Chunk, Offer, Switch, Usage, Vitals
from tests.actors.executor.backends.conformance import KINDS, Conformance, Rig
from tests.fakes.ollama import FakeEmbed, FakeMessage, FakeOllama, FakeOptions, last, line

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
            assert text == "Hello world, né 🚂"
            assert answer == Answer(
                text=text, finish_reason="stop", model="llama3.1:8b", usage=Usage(input_tokens=7, output_tokens=2)
            )
            (asked,) = fake.asked
            assert asked.options == FakeOptions(num_ctx=2048, num_predict=64)
            assert (asked.stream, asked.truncate, asked.shift, asked.format) == (True, False, False, None)
            assert fake.keys == [None]

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
        async with ollama(options={"keep_alive": "5m"}, api_key="secret-key") as (fake, backend):
            await all_of(backend, call)
            (asked,) = fake.asked
            assert asked.options == FakeOptions(num_ctx=8192, num_predict=100, temperature=0.5, seed=3, stop=("x",))
            assert asked.messages == [
                FakeMessage(role="system", content="be brief"),
                FakeMessage(role="user", content="what is this?", images=["aGk="]),
                FakeMessage(
                    role="assistant", content="", tool_calls=[{"function": {"name": "f", "arguments": {"q": 1}}}]
                ),
                FakeMessage(role="tool", content="2", tool_name="f"),
            ]
            assert (asked.format, asked.keep_alive) == ({"type": "object"}, "5m")
            assert fake.keys == ["Bearer secret-key"]

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
            assert (answer.text, answer.finish_reason, answer.usage) == ("a", "", Usage(thought_bytes=2))
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
        ([line("half"), b"[]\n"], "invalid_structure"),
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
            fake.refusal_with = (status, message)
            error = await failure_of(backend)
            assert (error.kind, error.status) == (kind, status)
            assert message[:5].strip('"') in error.body
            with pytest.raises(BackendError):
                await backend.health()

    run(main())


def test_closing_stops_the_generation(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.lines, fake.fault = [line("a"), last()], "hang"
            running = backend.run(CALL)
            assert await anext(running) == Chunk(text="a")
            await running.aclose()  # type: ignore[attr-defined]
            await asyncio.wait_for(fake.cancelled.wait(), 5)

    run(main())


def test_discovery_asks_what_the_list_does_not_say(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.tags = {
                "models": [
                    {
                        "name": "llama3.1:8b",
                        "model": "llama3.1:8b",
                        "digest": "a",
                        "details": {"parameter_size": "8.0B"},
                    },
                    {
                        "name": "qwen3-vl:8b",
                        "model": "qwen3-vl:8b",
                        "details": {"context_length": 262144},
                        "capabilities": ["completion", "vision", "tools", "insert"],
                    },
                    {"name": "nomic-embed-text", "details": {"parameter_size": "125M"}},
                    {"name": "gpt-oss:120b-cloud", "remote_host": "https://ollama.com"},
                    {"name": "llama3.1:8b"},
                    {},
                ]
            }
            fake.shown = {
                "llama3.1:8b": {
                    "capabilities": ["completion", "tools"],
                    "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
                },
                "nomic-embed-text": {"capabilities": ["embedding"]},
            }
            fake.loaded = ["qwen3-vl:8b"]
            found = (
                Offer(
                    model="llama3.1:8b", context_tokens=131072, capabilities=("text", "tools", "json"), loaded=False,
                    parameters_billion=8.0,
                ),
                Offer(
                    model="qwen3-vl:8b", context_tokens=262144, capabilities=("text", "vision", "tools", "json"),
                    loaded=True,
                ),
                Offer(
                    model="nomic-embed-text", capabilities=("embedding",), loaded=False,
                    parameters_billion=0.125,
                ),
                Offer(model="gpt-oss:120b-cloud", capabilities=("text", "json"), cloud=True),
            )  # fmt: skip
            assert await backend.discover() == found
            assert await backend.discover() == found
            assert fake.paths.count("POST /api/show") == 2, "asked once for each model that the list says too little of"
            assert await backend.health() == Vitals(version="0.13.1", loaded=("qwen3-vl:8b",))

    run(main())


@pytest.mark.parametrize(("tags", "kind"), [({"models": 5}, "invalid_structure")])
def test_a_list_that_is_none(run, tags: object, kind: str) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            fake.tags = {"models": None}
            assert await backend.discover() == ()
            fake.tags = tags
            with pytest.raises(BackendError) as caught:
                await backend.discover()
            assert caught.value.kind == kind

    run(main())


def test_models_are_put_into_memory_and_out_of_it(run) -> None:
    async def main() -> None:
        async with ollama() as (fake, backend):
            assert isinstance(backend, Switch)
            await backend.load("llama3.1:8b")
            assert (await backend.health()).loaded == ("llama3.1:8b",)
            await backend.unload("llama3.1:8b")
            await backend.unload("llama3.1:8b")
            assert (await backend.health()).loaded == ()
            with pytest.raises(BackendError) as caught:
                await backend.load("llama4")
            assert (caught.value.kind, fake.calls) == ("unknown_model", 0)

    run(main())


def test_texts_become_embeddings(run) -> None:
    call = Call(
        model="nomic-embed-text", asset="embedding", messages=(), max_output_tokens=1, texts=("a", "bcd"), dimensions=2
    )

    async def main() -> None:
        async with ollama(options={"keep_alive": "5m"}) as (fake, backend):
            text, answer = await all_of(backend, call)
            assert text == ""
            assert answer.embeddings == ((1.0, 0.5), (3.0, 0.5))
            assert answer.usage == Usage(input_tokens=4, output_tokens=0)
            (asked,) = fake.embedded
            assert asked == FakeEmbed(
                model="nomic-embed-text", input=["a", "bcd"], truncate=False, dimensions=2, keep_alive="5m"
            )

    run(main())


@pytest.mark.parametrize("rows", [None, 5, [[1.0]], [[1.0], ["x"]], [[1.0], [2.0], [3.0]]])
def test_embeddings_that_are_not_one_for_each_text(rows: object) -> None:
    call = Call(model="m", asset="embedding", messages=(), max_output_tokens=1, texts=("a", "b"))
    with pytest.raises(BackendError) as caught:
        embedded({"embeddings": rows}, call)
    assert caught.value.kind == "invalid_structure"


def test_the_official_client_agrees_with_us(run) -> None:
    """It judges the fake: what it understands is Ollama's protocol."""
    messages = [{"role": "user", "content": "hi"}]

    async def main() -> None:
        async with ollama() as (fake, backend):
            theirs = official.AsyncClient(host=fake.url)
            parts = [part async for part in await theirs.chat(model="llama3.1:8b", messages=messages, stream=True)]
            whole = await theirs.chat(model="llama3.1:8b", messages=messages)
            text, ours = await all_of(backend)
            assert text == "".join(part.message.content or "" for part in parts) == whole.message.content
            assert (ours.usage.input_tokens, ours.usage.output_tokens) == (
                parts[-1].prompt_eval_count, parts[-1].eval_count,
            )  # fmt: skip
            vectors = await theirs.embed(model="llama3.1:8b", input=["a", "bcd"])
            call = Call(model="llama3.1:8b", asset="embedding", messages=(), max_output_tokens=1, texts=("a", "bcd"))
            _, embeddings = await all_of(backend, call)
            assert embeddings.embeddings == tuple(map(tuple, vectors.embeddings))
            listed = await theirs.list()
            assert [one.model for one in listed.models] == [offer.model for offer in await backend.discover()]
            fake.refusal_with = (404, "model 'llama3.1:8b' not found")
            with pytest.raises(official.ResponseError) as refused:
                await theirs.chat(model="llama3.1:8b", messages=messages)
            error = await failure_of(backend)
            assert (refused.value.status_code, refused.value.error) == (error.status, "model 'llama3.1:8b' not found")
            assert refused.value.error in error.message
            await theirs._client.aclose()

    run(main())


class OllamaRig(Rig):
    kind = "ollama"
    fake = FakeOllama
    call = CALL
    text = "Hello world, né 🚂"
    faults: ClassVar = {**KINDS, "error_inside": "server_error"}


class TestConformance(Conformance):
    rig = OllamaRig


@given(st.integers(-5, 1_000_000))
def test_context_sizes(tokens: int) -> None:
    size = context_size(tokens)
    assert size >= max(2048, tokens)
    assert size.bit_count() == 1
    assert size == 2048 or size < 2 * tokens


@pytest.mark.parametrize(
    ("said", "sent"), [("-1", -1), ("0", 0), (" 300 ", 300), ("1h30m", "1h30m"), ("-1m", "-1m"), ("", None)]
)
def test_how_long_a_model_stays_goes_as_the_server_reads_it(run, said: str, sent: str | int | None) -> None:
    async def main() -> None:
        async with ollama(options={"keep_alive": said}) as (fake, backend):
            await all_of(backend, CALL)
            assert [asked.keep_alive for asked in fake.asked] == [sent]
            assert isinstance(backend, Switch)
            await backend.load(CALL.model)
            assert fake.loaded == [CALL.model], "what stays for no time is loaded all the same"

    run(main())


@pytest.mark.parametrize("said", ["5x", "for ever", "m"])
def test_a_time_that_is_none_is_refused_at_once(said: str) -> None:
    with pytest.raises(ValueError, match=r"^options: keep_alive: "):
        open_backend("ollama", "http://127.0.0.1:1", api_key=None, now=lambda: 0.0, options={"keep_alive": said})


@pytest.mark.parametrize(
    ("model", "family", "can"),
    [
        ("nomic-embed-text:latest", "nomic-bert", ("embedding",)),
        ("bge-m3:latest", "", ("embedding",)),
        ("all-minilm:22m", "bert", ("embedding",)),
        ("somebodys-own:latest", "bert", ("embedding",)),
        ("llama-guard3:8b", "llama", ()),
        ("llama3.1:8b", "llama", ("text", "json")),
    ],
)
def test_older_servers_do_not_say_what_a_model_can(model: str, family: str, can: tuple[str, ...]) -> None:
    """Case 25."""
    assert offer_of(model, {"name": model, "details": {"family": family}}, {}, loaded=None).capabilities == can
