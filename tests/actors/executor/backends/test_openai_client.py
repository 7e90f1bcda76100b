"""OpenAI's own client judges the fake: it must understand every answer as the adapter does."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import openai
import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.port import Answer, Artifact, Backend, BackendError, Call, Input, Item, Step, Usage
from messages import Media
from tests.fakes import openai as fakes
from tests.fakes.openai_chat import TEXT

KEY = "sk-test-key-of-the-client"
ASK: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@contextlib.asynccontextmanager
async def both(key: str = KEY) -> AsyncGenerator[tuple[fakes.FakeOpenAI, openai.AsyncOpenAI, Backend], None]:
    async with fakes.FakeOpenAI() as fake:
        options = {"service": "openai", "partial_images": 1}
        backend = open_backend("openai", fake.url, api_key=key, now=lambda: 0.0, options=options)
        async with openai.AsyncOpenAI(base_url=fake.url, api_key=key, max_retries=0) as client:
            try:
                yield fake, client, backend
            finally:
                await backend.close()


async def all_of(backend: Backend, **fields: Any) -> tuple[list[Item], Answer]:
    usual = Call(model=fakes.CHAT, messages=tuple(ASK), max_output_tokens=64)
    call = msgspec.structs.replace(usual, **fields)
    *items, answer = [item async for item in backend.run(call)]
    assert isinstance(answer, Answer)
    return items, answer


def same_usage(theirs: Any, ours: Usage) -> None:
    """Their words for the same figures, of chat or of responses."""
    read = getattr(theirs, "prompt_tokens", None) or theirs.input_tokens
    written = getattr(theirs, "completion_tokens", None) or theirs.output_tokens
    assert (read, written) == (ours.input_tokens, ours.output_tokens)


def test_chat_streamed_and_whole(run) -> None:
    async def main() -> None:
        async with both() as (_, client, backend):
            _, ours = await all_of(backend)
            whole = await client.chat.completions.create(model=fakes.CHAT, messages=ASK)
            assert whole.choices[0].message.content == ours.text == TEXT
            assert whole.choices[0].finish_reason == ours.finish_reason
            assert whole.usage is not None
            same_usage(whole.usage, ours.usage)
            text, usage = "", None
            async for chunk in await client.chat.completions.create(
                model=fakes.CHAT, messages=ASK, stream=True, stream_options={"include_usage": True}
            ):
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
                usage = chunk.usage or usage
            assert (text, usage) == (ours.text, whole.usage)

    run(main())


def test_tools(run) -> None:
    async def main() -> None:
        async with both() as (_, client, backend):
            _, ours = await all_of(backend, tools=(TOOL,))
            whole = await client.chat.completions.create(model=fakes.CHAT, messages=ASK, tools=[TOOL])
            (theirs,) = whole.choices[0].message.tool_calls or []
            assert (theirs.to_dict(),) == ours.tool_calls
            assert whole.choices[0].finish_reason == ours.finish_reason == "tool_calls"
            async with client.chat.completions.stream(model=fakes.CHAT, messages=ASK, tools=[TOOL]) as stream:
                streamed = (await stream.get_final_completion()).choices[0].message.tool_calls or []
            assert [call.function.arguments for call in streamed] == [ours.tool_calls[0]["function"]["arguments"]]

    run(main())


@pytest.mark.parametrize("final", ["completed", "incomplete", "refused"])
def test_responses(run, final: str) -> None:
    async def main() -> None:
        async with both() as (fake, client, backend):
            fake.final = final
            _, ours = await all_of(backend, model=fakes.PRO)
            assert fake.paths[-1] == "POST /v1/responses"
            whole = await client.responses.create(model=fakes.PRO, input="hi")
            assert whole.output_text == ours.text
            assert whole.usage is not None
            same_usage(whole.usage, ours.usage)
            assert whole.usage.output_tokens_details.reasoning_tokens == ours.usage.reasoning_tokens
            assert whole.usage.input_tokens_details.cached_tokens == ours.usage.cached_tokens
            expected = {"completed": "stop", "incomplete": "length", "refused": "content_filter"}[final]
            assert (ours.finish_reason, whole.status) == (
                expected,
                "incomplete" if final == "incomplete" else "completed",
            )
            text = ""
            async for event in await client.responses.create(model=fakes.PRO, input="hi", stream=True):
                text += event.delta if event.type == "response.output_text.delta" else ""
            assert text == ours.text

    run(main())


def test_a_response_with_tools_and_one_that_fails(run) -> None:
    async def main() -> None:
        async with both() as (fake, client, backend):
            _, ours = await all_of(backend, model=fakes.PRO, tools=(TOOL,))
            tool: Any = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
            whole = await client.responses.create(model=fakes.PRO, input="hi", tools=[tool])
            (theirs,) = [item for item in whole.output if item.type == "function_call"]
            assert (theirs.call_id, theirs.arguments) == ("call_1", ours.tool_calls[0]["function"]["arguments"])
            fake.final = "failed"
            failed = await client.responses.create(model=fakes.PRO, input="hi")
            assert failed.error is not None
            with pytest.raises(BackendError, match=failed.error.message) as caught:
                await all_of(backend, model=fakes.PRO)
            assert caught.value.kind == "server_error"

    run(main())


def test_pictures(run) -> None:
    async def main() -> None:
        async with both() as (fake, client, backend):
            call = {"model": fakes.IMAGE, "asset": "image"}
            items, ours = await all_of(backend, **call, media=Media(width=1024, height=1536))
            assert [type(item) for item in items] == [Step, Artifact]
            whole = await client.images.generate(model=fakes.IMAGE, prompt="hi", size="1024x1536")
            assert whole.data is not None
            for item in items:
                if isinstance(item, Artifact):
                    assert item.file.read() == base64.b64decode(whole.data[0].b64_json or "")
                    item.file.close()
            same_usage(whole.usage, ours.usage)
            kinds = [
                event.type
                async for event in await client.images.generate(
                    model=fakes.IMAGE, prompt="hi", stream=True, partial_images=2
                )
            ]
            assert kinds == [*["image_generation.partial_image"] * 2, "image_generation.completed"]
            asked = fake.asked[0]
            assert (asked.size, asked.quality, asked.n) == ("1024x1536", "medium", 1)

    run(main())


def test_edits(run) -> None:
    first, mask = b"\x89PNG first", b"\x89PNG mask"

    async def main() -> None:
        async with both() as (fake, client, backend):
            inputs = tuple(
                Input(name=name, media_type="image/png", data=data) for name, data in (("image", first), ("mask", mask))
            )
            items, ours = await all_of(backend, model=fakes.IMAGE, asset="image", inputs=inputs)
            for item in items:
                if isinstance(item, Artifact):
                    item.file.close()
            whole = await client.images.edit(
                model=fakes.IMAGE, prompt="hi", image=("a.png", first, "image/png"), mask=("b.png", mask, "image/png")
            )
            same_usage(whole.usage, ours.usage)
            assert [sorted(files.values()) for files in fake.files] == [[("image/png", first), ("image/png", mask)]] * 2

    run(main())


def test_embeddings(run) -> None:
    async def main() -> None:
        async with both() as (_, client, backend):
            texts = ["a", "bc", "def"]
            _, ours = await all_of(
                backend, model=fakes.EMBEDDING, asset="embedding", texts=tuple(texts), dimensions=8
            )  # fmt: skip
            whole = await client.embeddings.create(
                model=fakes.EMBEDDING, input=texts, dimensions=8, encoding_format="float"
            )
            theirs = {row.index: tuple(row.embedding) for row in whole.data}
            assert tuple(theirs[index] for index in range(3)) == ours.embeddings
            assert whole.usage.prompt_tokens == ours.usage.input_tokens

    run(main())


def test_models(run) -> None:
    async def main() -> None:
        async with both() as (_, client, backend):
            theirs = {model.id: model.shutdown_date async for model in client.models.list()}
            ours = {offer.model: offer.retires for offer in await backend.discover()}
            assert theirs.keys() - ours.keys() == {"whisper-1"}
            assert all((theirs[name] or "") == retires for name, retires in ours.items())

    run(main())


@pytest.mark.parametrize(
    ("fault", "theirs", "kind"),
    [
        ("rate_limited", openai.RateLimitError, "rate_limited"),
        ("slow_down", openai.RateLimitError, "rate_limited"),
        *((code, openai.RateLimitError, "account") for code in fakes.BILLING),
        ("moderation_blocked", openai.BadRequestError, "empty"),
        ("server_error", openai.InternalServerError, "server_error"),
        ("overloaded", openai.InternalServerError, "overloaded"),
        ("bad_request", openai.BadRequestError, "bad_request"),
        ("account", openai.AuthenticationError, "account"),
        ("unknown_model", openai.NotFoundError, "unknown_model"),
    ],
)
def test_errors(run, fault: str, theirs: type[openai.APIStatusError], kind: str) -> None:
    async def main() -> None:
        async with both() as (fake, client, backend):
            fake.fault = fault
            with pytest.raises(theirs) as refused:
                await client.chat.completions.create(model=fakes.CHAT, messages=ASK)
            with pytest.raises(BackendError) as caught:
                await all_of(backend)
            assert caught.value.kind == kind
            assert caught.value.status == refused.value.status_code
            assert (refused.value.code or "") in caught.value.body
            waits = {"rate_limited": 7.0, "slow_down": 2.5}.get(fault)
            assert caught.value.retry_after_seconds == waits

    run(main())


def test_a_wrong_key_and_what_is_not_known(run) -> None:
    async def main() -> None:
        async with both("wrong") as (_, client, backend):
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
            with pytest.raises(BackendError) as caught:
                await backend.health()
            assert caught.value.kind == "account"
        async with both() as (_, client, backend):
            unknown: Any = {"extra_body": {"no_such_field": 1}}
            with pytest.raises(openai.BadRequestError, match="no_such_field"):
                await client.chat.completions.create(model=fakes.CHAT, messages=ASK, **unknown)
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model=fakes.PRO, messages=ASK)

    run(main())


def test_reasoning_models_get_neither_max_tokens_nor_temperature(run) -> None:
    async def main() -> None:
        async with both() as (fake, client, backend):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model=fakes.REASONING, messages=ASK, temperature=0.5)
            assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "temperature")
            _, answer = await all_of(backend, model=fakes.REASONING, temperature=0.5)
            asked = fake.asked[-1]
            assert (answer.text, asked.max_completion_tokens, asked.temperature) == (TEXT, 64, None)
            await all_of(backend, temperature=0.5)
            assert fake.asked[-1].temperature == 0.5
            with pytest.raises(BackendError) as caught:
                await all_of(backend, model=fakes.REASONING, stop=("x",))
            assert caught.value.retry == "elsewhere"

    run(main())
