from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import anthropic
import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.anthropic import KIND, anthropic_address, recognise
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import Answer, Backend, BackendError, Call, Chunk, Offer, Usage
from actors.executor.backends.wire import Wire
from tests.actors.executor.backends.conformance import KEY, KINDS, Conformance, Rig, all_of, checked
from tests.fakes.anthropic import TEXT, FakeAnthropic, card, end, event, start, text
from tests.fakes.ollama import FakeOllama

CALL = Call(model="claude-sonnet-5-5", messages=({"role": "user", "content": "hi"},), max_output_tokens=64)
USED = Usage(input_tokens=330, output_tokens=42, cached_tokens=300, cache_write_tokens=20, reasoning_tokens=12)


class AnthropicRig(Rig):
    kind = "anthropic"
    fake = FakeAnthropic
    call = CALL
    text = TEXT
    faults: ClassVar[Any] = {**KINDS, "error_inside": "overloaded"}
    counts = (9 + 32, 409 + 32, 9 + 32)


class TestConformance(Conformance):
    rig = AnthropicRig


@contextlib.asynccontextmanager
async def opened(**options: Any) -> AsyncGenerator[tuple[FakeAnthropic, Backend], None]:
    async with FakeAnthropic() as fake:
        backend = open_backend("anthropic", fake.url, api_key=KEY, now=lambda: 0.0, options=options)
        try:
            yield fake, backend
        finally:
            await backend.close()


async def answer_of(backend: Backend, call: Call = CALL) -> Answer:
    answer = (await all_of(backend, call))[-1]
    assert isinstance(answer, Answer)
    return answer


async def failure_of(backend: Backend, call: Call = CALL) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    return caught.value


def test_usage_counts_what_was_read_from_the_cache_and_pings_are_signs_of_life() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            answer = await answer_of(backend)
            thought = {"type": "thinking", "thinking": "hm", "signature": "abc"}
            assert answer == Answer(
                text=TEXT,
                finish_reason="stop",
                model="claude-sonnet-5-5",
                usage=USED,
                reasoning="hm",
                carried=(thought,),
            )
            assert (fake.api_keys, fake.keys) == ([KEY], [None])
            fake.fault, fake.pieces = "hang", [event("ping"), *text(0, "a")]
            running = backend.run(CALL)
            assert await anext(running) == Chunk(text="")
            await running.aclose()

    checked(main())


def test_the_older_version_is_for_models_that_take_a_temperature() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            for model, temperature in (
                ("claude-sonnet-5-5", 0.5),
                ("claude-haiku-4-5", None),
                ("claude-haiku-4-5", 1.5),
            ):
                await all_of(
                    backend, Call(model=model, messages=CALL.messages, max_output_tokens=9, temperature=temperature)
                )
            assert [asked.temperature for asked in fake.asked] == [None, None, 1.0]
            assert fake.versions == ["2026-10-21", "2026-10-21", "2023-06-01"]
        async with opened(version="2023-06-01") as (fake, backend):
            await all_of(backend, CALL)
            assert fake.versions == ["2023-06-01"]

    checked(main())


def test_an_answer_that_does_not_stream_is_the_same() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            streamed = await answer_of(backend)
            fake.whole = True
            assert await answer_of(backend) == streamed
            fake.pieces = tool_use()
            whole = await answer_of(backend)
            fake.whole = False
            assert await answer_of(backend) == whole

    checked(main())


def tool_use() -> list[bytes]:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    pieces = ['{"city":', '"東京"}']
    deltas = [
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": one}) for one in pieces
    ]
    return [
        start(), *text(0, "Let me see."), event("content_block_start", index=1, content_block=use), *deltas,
        event("content_block_stop", index=1), *end("tool_use"),
    ]  # fmt: skip


def test_tools_go_there_and_back() -> None:
    tool = {
        "type": "function",
        "function": {"name": "weather", "description": "of a city", "parameters": {"type": "object"}},
    }
    call = Call(model=CALL.model, messages=CALL.messages, max_output_tokens=64, tools=(tool,))

    async def main() -> None:
        async with opened() as (fake, backend):
            fake.pieces = tool_use()
            answer = await answer_of(backend, call)
            assert (answer.text, answer.finish_reason) == ("Let me see.", "tool_calls")
            (used,) = answer.tool_calls
            function = {"name": "weather", "arguments": '{"city":"東京"}'}
            assert used == {"id": "toolu_1", "type": "function", "function": function}
            assert fake.asked[0].tools is not None
            again = (
                *call.messages,
                {"role": "assistant", "content": answer.text, "tool_calls": [used]},
                {"role": "tool", "tool_call_id": used["id"], "content": "sunny"},
                {"role": "user", "content": "and now?"},
            )
            await all_of(backend, Call(model=CALL.model, messages=again, max_output_tokens=64, tools=(tool,)))
            assert len(fake.asked[1].messages) == 3  # The fake checked the order of their blocks.

    checked(main())


def test_a_schema_holds_the_answer_where_the_model_can_do_that() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    async def main() -> None:
        async with opened() as (fake, backend):
            fake.models = [card("claude-haiku-4-5", capabilities={"structured_outputs": {"supported": False}})]
            for model in ("claude-haiku-4-5", "claude-3-opus-20240229"):
                await all_of(
                    backend,
                    Call(model=model, messages=CALL.messages, max_output_tokens=9, response_format=wanted),
                )
            await backend.discover()
            await all_of(
                backend,
                Call(model="claude-haiku-4-5", messages=CALL.messages, max_output_tokens=9, response_format=wanted),
            )
            first, second, third = fake.asked
            assert first.output_config is not None
            assert first.output_config.format is not None
            assert first.output_config.format.schema == {**schema, "additionalProperties": False}
            assert first.system is None
            for asked in (second, third):
                assert asked.output_config is None
                assert '"required":["n"]' in (asked.system or "")

    checked(main())


@pytest.mark.parametrize(
    ("status", "details", "kind", "retry"),
    [
        (402, None, "account", "account"),
        (403, None, "account", "account"),
        (409, None, "server_error", "same"),
        (413, None, "too_large", "elsewhere"),
        (429, {"error_code": "enforced_spend_limit_reached"}, "account", "account"),
        (429, {"error_code": "workspace_spend_limit_reached"}, "account", "account"),
        (504, None, "timeout", "same"),
        (529, None, "overloaded", "elsewhere"),
    ],
)
def test_refusals(status: int, details: dict[str, Any] | None, kind: str, retry: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.fault, fake.status, fake.details = "server_error", status, details
            error = await failure_of(backend)
            assert (error.kind, error.retry, error.status) == (kind, retry, status)

    checked(main())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        ({"type": "api_error", "message": "boom"}, "server_error"),
        ({"type": "rate_limit_error", "message": "x", "details": {"error_code": "org_spend_limit_reached"}}, "account"),
    ],
)
def test_an_error_after_the_200_tells_what_was_used(error: dict[str, Any], kind: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.pieces = [start(), *text(0, "half")[:2], event("error", error=error)]
            caught = await failure_of(backend)
            assert (caught.kind, caught.status, caught.partial) == (kind, 200, "half")
            assert caught.usage is not None
            assert caught.usage.input_tokens == 330

    checked(main())


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (Call(model="m", asset="image", messages=CALL.messages, max_output_tokens=1), "makes text"),
        (Call(model="m", messages=CALL.messages, max_output_tokens=1, stop=("\n",)), "whitespace"),
    ],
)
def test_what_it_can_not_is_for_another_backend(call: Call, part: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            error = await failure_of(backend, call)
            assert error.retry == "elsewhere"
            assert part in error.message
            assert fake.paths == []

    checked(main())


def test_discovery_turns_pages_and_leaves_out_the_retired() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.page = 1
            bare = {"type": "model", "id": "claude-old", "display_name": "x", "created_at": "2025-01-01T00:00:00Z"}
            fake.models = [
                card("claude-sonnet-5-5", lifecycle="deprecated", retires_at="2026-12-11T00:00:00Z"),
                card("claude-gone", lifecycle="retired"),
                bare,
            ]
            assert await backend.discover() == (
                Offer(
                    model="claude-sonnet-5-5", context_tokens=1_000_000, max_output_tokens=128_000,
                    capabilities=("text", "tools", "vision", "json", "thinking"), retires="2026-12-11",
                ),
                Offer(model="claude-old", capabilities=("text", "tools", "vision")),
            )  # fmt: skip
            assert fake.paths == ["GET /v1/models"] * 3

    checked(main())


def test_it_is_recognised_with_and_without_a_key() -> None:
    async def main() -> None:
        async with FakeAnthropic() as fake, FakeOllama() as other:
            for url, key, found in ((fake.url, KEY, ""), (fake.url, None, ""), (other.url, KEY, None)):
                wire = Wire(Connection(url=url, api_key=key, now=lambda: 0.0), auth=KIND.auth)
                assert await recognise(wire) == found
                await wire.close()

    checked(main())


def test_addresses() -> None:
    for url in ("https://api.anthropic.com", "https://api.anthropic.com/", "https://api.anthropic.com/v1"):
        assert anthropic_address(url) == "https://api.anthropic.com" == KIND.url
    with pytest.raises(ValueError, match=r"^url: .*leave out '/v1/messages'"):
        anthropic_address("https://api.anthropic.com/v1/messages")
    with pytest.raises(ValueError, match="options"):
        open_backend("anthropic", KIND.url, api_key=None, now=lambda: 0.0, options={"version": "2024"})


class TestOfficialClient:
    """Anthropic's own client and the adapter agree about the fake."""

    def test_of_texts_and_usage(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                ours = await answer_of(backend)
                async with anthropic.AsyncAnthropic(base_url=fake.url, api_key=KEY, max_retries=0) as client:
                    plain = await client.messages.create(
                        model=CALL.model, max_tokens=64, messages=[{"role": "user", "content": "hi"}]
                    )
                    async with client.messages.stream(
                        model=CALL.model, max_tokens=64, messages=[{"role": "user", "content": "hi"}]
                    ) as stream:
                        streamed = await stream.get_final_message()
                for theirs in (plain, streamed):
                    assert "".join(one.text for one in theirs.content if one.type == "text") == ours.text
                    used = theirs.usage
                    cached = (used.cache_read_input_tokens or 0, used.cache_creation_input_tokens or 0)
                    assert cached == (ours.usage.cached_tokens, ours.usage.cache_write_tokens)
                    assert used.input_tokens + sum(cached) == ours.usage.input_tokens
                    assert used.output_tokens == ours.usage.output_tokens
                    assert theirs.stop_reason == "end_turn"

        checked(main())

    def test_of_tools(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                fake.pieces = tool_use()
                ours = await answer_of(backend)
                async with anthropic.AsyncAnthropic(base_url=fake.url, api_key=KEY, max_retries=0) as client:
                    theirs = await client.messages.create(
                        model=CALL.model, max_tokens=64, messages=[{"role": "user", "content": "hi"}],
                        tools=[{"name": "weather", "input_schema": {"type": "object"}}],
                    )  # fmt: skip
                (used,) = [one for one in theirs.content if one.type == "tool_use"]
                assert (used.id, used.name, used.input) == ("toolu_1", "weather", {"city": "東京"})
                assert (ours.tool_calls[0]["id"], ours.finish_reason) == (used.id, "tool_calls")

        checked(main())

    def test_of_models(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                fake.page = 1
                ours = await backend.discover()
                async with anthropic.AsyncAnthropic(base_url=fake.url, api_key=KEY, max_retries=0) as client:
                    theirs = [one async for one in client.models.list()]
                assert [one.model for one in ours] == [one.id for one in theirs]
                assert [one.context_tokens for one in ours] == [one.max_input_tokens for one in theirs]

        checked(main())

    @pytest.mark.parametrize(
        ("fault", "kind", "theirs"),
        [
            ("rate_limited", "rate_limited", anthropic.RateLimitError),
            ("account", "account", anthropic.AuthenticationError),
            ("bad_request", "bad_request", anthropic.BadRequestError),
            ("unknown_model", "unknown_model", anthropic.NotFoundError),
            ("overloaded", "overloaded", anthropic.InternalServerError),
            ("error_inside", "overloaded", anthropic.APIStatusError),
        ],
    )
    def test_of_errors(self, fault: str, kind: str, theirs: type[Exception]) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                fake.fault = fault
                assert (await failure_of(backend)).kind == kind
                async with anthropic.AsyncAnthropic(base_url=fake.url, api_key=KEY, max_retries=0) as client:
                    with pytest.raises(theirs):
                        async with client.messages.stream(
                            model=CALL.model, max_tokens=64, messages=[{"role": "user", "content": "hi"}]
                        ) as stream:
                            await stream.get_final_message()

        checked(main())
