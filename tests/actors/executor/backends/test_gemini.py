from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import httpx2
import msgspec
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from google.genai.client import AsyncClient

from actors.executor.backends import open_backend
from actors.executor.backends.connection import Connection
from actors.executor.backends.gemini import KIND, gemini_address, recognise
from actors.executor.backends.port import (
    Answer,
    Artifact,
    Backend,
    BackendError,
    Call,
    Chunk,
    Input,
    Item,
    Offer,
    Usage,
)
from actors.executor.backends.wire import Wire
from messages import Media
from tests.actors.executor.backends.conformance import KEY, KINDS, Conformance, Rig, all_of, checked
from tests.fakes.gemini import PNG, TEXT, FakeGemini, candidate, card, inline, quota, retry_info, said, sse
from tests.fakes.ollama import FakeOllama

CALL = Call(model="gemini-3.8-flash", messages=({"role": "user", "content": "hi"},), max_output_tokens=64)
IMAGE = Call(
    model="gemini-3.1-flash-image",
    asset="image",
    messages=({"role": "user", "content": "a fox"},),
    max_output_tokens=64,
)
USED = Usage(input_tokens=11, output_tokens=55, cached_tokens=4, reasoning_tokens=33)


class TextRig(Rig):
    kind = "gemini"
    fake = FakeGemini
    call = CALL
    text = TEXT
    faults: ClassVar[Any] = {**KINDS, "error_inside": "overloaded"}
    counts = (9 + 32, 3_009 + 3_009 // 50, 9 + 32)


class ImageRig(Rig):
    kind = "gemini"
    fake = FakeGemini
    call = IMAGE
    media_type = "image/png"
    streams = False


class TestText(Conformance):
    rig = TextRig


class TestImage(Conformance):
    rig = ImageRig


@contextlib.asynccontextmanager
async def opened(**options: Any) -> AsyncGenerator[tuple[FakeGemini, Backend], None]:
    async with FakeGemini() as fake:
        backend = open_backend("gemini", fake.url, api_key=KEY, now=lambda: 0.0, options=options)
        try:
            yield fake, backend
        finally:
            await backend.close()


@contextlib.asynccontextmanager
async def official(fake: FakeGemini) -> AsyncGenerator[AsyncClient, None]:
    async with httpx2.AsyncClient() as transport:  # Its aiohttp one warns.
        options = types.HttpOptions(base_url=fake.url, httpx_async_client=transport)
        yield genai.Client(api_key=KEY, http_options=options).aio


async def answer_of(backend: Backend, call: Call = CALL) -> Answer:
    answer = (await all_of(backend, call))[-1]
    assert isinstance(answer, Answer)
    return answer


async def failure_of(backend: Backend, call: Call = CALL) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    return caught.value


def artifacts(items: list[Item]) -> list[tuple[str, str, int, int, bytes]]:
    found = [item for item in items if isinstance(item, Artifact)]
    seen = [(one.name, one.media_type, one.width, one.height, one.file.read()) for one in found]
    for one in found:
        one.file.close()
    return seen


def test_usage_counts_thoughts_as_output_and_thoughts_are_no_text() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            answer = await answer_of(backend)
            assert answer == Answer(
                text=TEXT, finish_reason="stop", model="gemini-3.8-flash", usage=USED, reasoning="hm"
            )
            assert (fake.api_keys, fake.keys) == ([KEY], [None])
            fake.fault = "hang"
            fake.pieces = [said({"text": "hm", "thought": True}), said({"text": "a"}, finish="STOP")]
            running = backend.run(CALL)
            assert await anext(running) == Chunk(text="")  # A sign of life.
            await running.aclose()

    checked(main())


def test_tools_go_there_and_back_with_the_signatures_of_their_thoughts() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    call = Call(model="gemini-3.8-flash", messages=CALL.messages, max_output_tokens=64, tools=(tool,))

    async def main() -> None:
        async with opened() as (fake, backend):
            function = {"functionCall": {"name": "weather", "args": {"city": "東京"}}}
            other = {"functionCall": {"name": "time", "args": {}, "id": "f2"}}
            fake.pieces = [said({**function, "thoughtSignature": "c2ln"}, other, finish="STOP")]
            answer = await answer_of(backend, call)
            assert answer.finish_reason == "tool_calls"
            first, second = answer.tool_calls
            assert (first["id"], first["function"]) == ("call_0", {"name": "weather", "arguments": '{"city":"東京"}'})
            assert (second["id"], second["function"]["name"]) == ("f2", "time")
            again = (
                *call.messages,
                {"role": "assistant", "content": None, "tool_calls": [first, second]},
                {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
                {"role": "tool", "tool_call_id": "f2", "content": '{"now": "noon"}'},
            )
            await all_of(backend, Call(model="gemini-3.8-flash", messages=again, max_output_tokens=64, tools=(tool,)))
            _, model, user = fake.asked[1].contents
            assert [part.thought_signature for part in model.parts] == ["c2ln", None]
            responses = [part.function_response for part in user.parts if part.function_response]
            assert [one.response for one in responses] == [{"result": "sunny"}, {"now": "noon"}]
            assert [one.name for one in responses] == ["weather", "time"]

    checked(main())


@pytest.mark.parametrize(
    ("answered", "part"),
    [
        (
            sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 5}}),
            "PROHIB",
        ),
        (said(finish="SAFETY"), "SAFETY"),
        (said(finish="RECITATION"), "RECITATION"),
    ],
)
def test_what_was_blocked_is_empty_and_says_why(answered: bytes, part: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.pieces = [answered]
            error = await failure_of(backend)
            assert (error.kind, error.retry, error.status) == ("empty", "elsewhere", 200)
            assert part in error.message

    checked(main())


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("SPII", "content_filter"),
        ("OTHER", ""),
    ],
)
def test_finish_reasons(finish: str, reason: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.pieces = [said({"text": "so far"}, finish=finish)]
            answer = await answer_of(backend)
            assert (answer.text, answer.finish_reason, answer.usage) == ("so far", reason, Usage())

    checked(main())


@pytest.mark.parametrize("finish", ["NO_IMAGE", "IMAGE_SAFETY", "IMAGE_OTHER", "STOP"])
def test_a_picture_that_was_not_made_is_empty_and_says_why(finish: str) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            shown = candidate({"text": "I can't draw that"}, finish=finish, finishMessage="Unable to show it")
            fake.picture = {"candidates": [shown], "usageMetadata": {"promptTokenCount": 5}}
            error = await failure_of(backend, IMAGE)
            assert error.kind == "empty"
            assert finish in error.message
            assert "I can't draw that" in error.message
            assert error.usage is not None
            assert error.usage.input_tokens == 5

    checked(main())


def test_pictures_bring_pictures_along_and_come_in_number() -> None:
    call = Call(
        model=IMAGE.model, asset="image", messages=IMAGE.messages, max_output_tokens=1,
        media=Media(images=2, width=1920, height=1080), negative_prompt="text",
        inputs=(Input(name="image", media_type="image/png", data=PNG),),
    )  # fmt: skip

    async def main() -> None:
        async with opened() as (fake, backend):
            items = await all_of(backend, call)
            assert artifacts(items) == [("image1.png", "image/png", 1, 1, PNG)] * 2
            answer = items[-1]
            assert isinstance(answer, Answer)
            assert (answer.text, answer.usage.output_tokens) == ("", 110)
            assert len(fake.asked) == 2
            config = fake.asked[0].generation_config
            assert config is not None
            assert config.image_config is not None
            assert (config.image_config.aspect_ratio, config.image_config.image_size) == ("16:9", "2K")
            assert config.max_output_tokens is None
            prompt, picture, rest = fake.asked[0].contents[-1].parts
            assert (prompt.text, rest.text) == ("a fox", "Leave out: text")
            assert picture.inline_data is not None
            assert base64.b64decode(picture.inline_data.data) == PNG

    checked(main())


def test_a_picture_that_is_no_base64_is_a_fault_of_the_server() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            broken = {"inlineData": {"mimeType": "image/png", "data": "!!"}}
            fake.picture = {"candidates": [candidate(broken, finish="STOP")]}
            assert (await failure_of(backend, IMAGE)).kind == "invalid_structure"

    checked(main())


@pytest.mark.parametrize(
    ("status", "details", "kind", "retry", "wait"),
    [
        (
            400,
            [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
            "account",
            "account",
            None,
        ),
        (400, None, "bad_request", "never", None),
        (402, None, "account", "account", None),
        (403, None, "account", "account", None),
        (
            429,
            [quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), retry_info("46s")],
            "rate_limited",
            "same",
            46.0,
        ),
        (
            429,
            [quota("GenerateRequestsPerDayPerProjectPerModel"), retry_info("46s")],
            "rate_limited",
            "elsewhere",
            46.0,
        ),
        (429, [quota("GenerateRequestsPerMinute", "0")], "rate_limited", "elsewhere", None),
        (503, None, "overloaded", "elsewhere", None),
        (504, None, "timeout", "same", None),
    ],
)
def test_refusals(status: int, details: list[dict[str, Any]] | None, kind: str, retry: str, wait: float | None) -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            for fake.as_list in (False, True):
                fake.fault, fake.status, fake.details = "server_error", status, details
                error = await failure_of(backend)
                assert (error.kind, error.retry, error.retry_after_seconds) == (kind, retry, wait)

    checked(main())


def test_discovery_turns_pages_and_leaves_out_what_can_not_be_asked() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.page = 2
            fake.models.append(card("gemma-4-it", thinking=False))
            limits: Any = {"context_tokens": 1_048_576, "max_output_tokens": 65_536}
            assert await backend.discover() == (
                Offer(model="gemini-3.8-flash", capabilities=("text", "vision", "tools", "json", "thinking"), **limits),
                Offer(model="gemini-3.1-flash-image", capabilities=("image",), **limits),
                Offer(model="gemini-omni-1.1-flash", capabilities=("video",), **limits),
                Offer(model="gemma-4-it", capabilities=("text",), **limits),
            )
            assert len(fake.paths) == 3

    checked(main())


def test_it_is_recognised_with_and_without_a_key() -> None:
    async def main() -> None:
        async with FakeGemini() as fake, FakeOllama() as other:
            for url, key, found in ((fake.url, KEY, ""), (fake.url, None, ""), (other.url, KEY, None)):
                wire = Wire(Connection(url=url, api_key=key, now=lambda: 0.0), auth=KIND.auth)
                assert await recognise(wire) == found
                await wire.close()

    checked(main())


def test_addresses_and_options() -> None:
    for url in (KIND.url, f"{KIND.url}/", f"{KIND.url}/v1beta", f"{KIND.url}/v1"):
        assert gemini_address(url) == KIND.url
    with pytest.raises(ValueError, match="kind 'openai'"):
        gemini_address(f"{KIND.url}/v1beta/openai/")
    with pytest.raises(ValueError, match="root URL"):
        gemini_address(f"{KIND.url}/v1beta/models")
    with pytest.raises(ValueError, match=r"options: poll_seconds: 0\.0"):
        open_backend("gemini", KIND.url, api_key=None, now=lambda: 0.0, options={"poll_seconds": 0})


def test_pictures_before_a_failure_are_paid_for_and_kept() -> None:
    call = msgspec.structs.replace(IMAGE, media=Media(images=3))

    async def main() -> None:
        async with opened() as (fake, backend):
            came = 0
            answer: object = None
            async for item in backend.run(call):
                answer = item
                if isinstance(item, Artifact):
                    item.file.close()
                    came += 1
                    fake.fault = "overloaded" if came == 2 else None
            fake.fault = None
            *_, made, alone = await all_of(backend, IMAGE)
            assert isinstance(made, Artifact)
            made.file.close()
            assert isinstance(alone, Answer)
            assert isinstance(answer, Answer)
            assert (came, [remark.name for remark in answer.remarks]) == (2, ["count"])
            assert alone.usage.output_tokens is not None
            assert answer.usage.output_tokens == 2 * alone.usage.output_tokens

    checked(main())


class TestOfficialClient:
    """Google's own client and the adapter agree about the fake."""

    def test_of_texts_and_usage(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                ours = await answer_of(backend)
                async with official(fake) as client:
                    plain = await client.models.generate_content(model=CALL.model, contents="hi")
                    texts: list[str] = []
                    streamed = plain
                    async for streamed in await client.models.generate_content_stream(model=CALL.model, contents="hi"):
                        texts.append(streamed.text or "")
                    assert (plain.text, "".join(texts)) == (ours.text, ours.text)
                    for theirs in (plain, streamed):
                        used = theirs.usage_metadata
                        assert used is not None
                        assert used.prompt_token_count == ours.usage.input_tokens
                        assert (used.candidates_token_count or 0) + (
                            used.thoughts_token_count or 0
                        ) == ours.usage.output_tokens
                        assert used.cached_content_token_count == ours.usage.cached_tokens

        checked(main())

    def test_of_pictures(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                ours = artifacts(await all_of(backend, IMAGE))
                async with official(fake) as client:
                    config = types.GenerateContentConfig(
                        response_modalities=["TEXT", "IMAGE"], image_config=types.ImageConfig(aspect_ratio="1:1")
                    )
                    theirs = await client.models.generate_content(model=IMAGE.model, contents="a fox", config=config)
                    blobs = [part.inline_data for part in theirs.parts or [] if part.inline_data]
                    assert [(blob.mime_type, blob.data) for blob in blobs] == [(one[1], one[4]) for one in ours]

        checked(main())

    def test_of_tools(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                fake.pieces = [said({"functionCall": {"name": "weather", "args": {"n": 1}}}, finish="STOP")]
                ours = await answer_of(backend)
                async with official(fake) as client:
                    theirs = await client.models.generate_content(model=CALL.model, contents="hi")
                    (called,) = theirs.function_calls or []
                    assert (called.name, called.args) == ("weather", {"n": 1})
                    assert ours.tool_calls[0]["function"] == {"name": "weather", "arguments": '{"n":1}'}

        checked(main())

    def test_of_models(self) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                fake.page = 1
                fake.models = [card("gemini-3.8-flash"), card("gemini-4-argon")]
                async with official(fake) as client:
                    theirs = [one async for one in await client.models.list()]
                    ours = await backend.discover()
                    assert [one.name for one in theirs] == [f"models/{one.model}" for one in ours]
                    assert [one.input_token_limit for one in theirs] == [one.context_tokens for one in ours]

        checked(main())

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ("rate_limited", "rate_limited"),
            ("account", "account"),
            ("bad_request", "bad_request"),
            ("unknown_model", "unknown_model"),
            ("server_error", "server_error"),
            ("overloaded", "overloaded"),
        ],
    )
    def test_of_errors(self, fault: str, kind: str) -> None:
        async def main() -> None:
            async with opened() as (fake, backend):
                fake.fault = fault
                ours = await failure_of(backend)
                async with official(fake) as client:
                    with pytest.raises(genai_errors.APIError) as caught:
                        await client.models.generate_content(model=CALL.model, contents="hi")
                    assert (ours.kind, ours.status) == (kind, caught.value.code)

        checked(main())


def test_the_stable_version_has_its_own_paths() -> None:
    async def main() -> None:
        async with opened(version="v1") as (fake, backend):
            assert (await answer_of(backend)).text == TEXT
            await backend.health()
            assert fake.paths == ["POST /v1/models/gemini-3.8-flash:streamGenerateContent", "GET /v1/models"]

    checked(main())


def test_a_picture_inside_a_text_is_left_out() -> None:
    async def main() -> None:
        async with opened() as (fake, backend):
            fake.pieces = [said({"text": "a"}, inline(PNG), finish="STOP")]
            items = await all_of(backend, CALL)
            assert artifacts(items) == []
            assert (await answer_of(backend)).text == "a"

    checked(main())
