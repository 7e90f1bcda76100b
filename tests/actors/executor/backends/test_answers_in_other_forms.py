"""Answers and errors whose content type does not fit their body, over a real socket, for every protocol that streams events.

Cases 07 and 08, and the words of cases 09 to 14 as they come through the adapters.
"""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from actors.executor.backends import open_backend
from actors.executor.backends.port import Answer, BackendError, Call
from tests.actors.executor.backends.conformance import all_of, checked
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.base import FakeServer
from tests.fakes.gemini import FakeGemini
from tests.fakes.llama_cpp import FakeLlamaCpp
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai_chat import ChatFake
from tests.fakes.vllm import FakeVllm


class Gateway(ChatFake):
    """Somebody's server that speaks OpenAI's protocol."""

    def refusal(self, status: int, message: str = "no") -> web.Response:
        return web.json_response({"error": {"message": message}}, status=status)


FAKES: dict[str, type[FakeServer]] = {
    "openai": Gateway, "anthropic": FakeAnthropic, "gemini": FakeGemini, "vllm": FakeVllm, "llama_cpp": FakeLlamaCpp,
    "ollama": FakeOllama,
}  # fmt: skip


async def answer_to(protocol: str, status: int, media_type: str, body: bytes) -> Answer:
    async with FAKES[protocol]() as fake:
        backend = open_backend(protocol, fake.url, api_key="sk-secret-0123456789", now=lambda: 0.0)
        model = (await backend.discover())[0].model
        fake.says = (status, media_type, body)
        call = Call(model=model, messages=({"role": "user", "content": "hi"},), max_output_tokens=8)
        last: object = None
        try:
            async for item in backend.run(call):
                last = item
        finally:
            await backend.close()
        assert isinstance(last, Answer)
        return last


def answered(protocol: str, status: int, media_type: str, body: object) -> Answer | BackendError:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    found: list[Answer | BackendError] = []

    async def main() -> None:
        try:
            found.append(await answer_to(protocol, status, media_type, data))
        except BackendError as error:
            found.append(error)

    checked(main())
    return found[0]


def kind(found: Answer | BackendError) -> str:
    assert isinstance(found, BackendError), found
    return found.kind


MONEY = {
    "error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}
}
LONG = {"error": {"code": 400, "message": "request (6009 tokens) exceeds the available context size (4096 tokens)",
                  "type": "exceed_context_size_error"}}  # fmt: skip
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}}  # fmt: skip
HI = 'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]}\n\n'
STOP = 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
FORMS = ("text/event-stream", "text/plain", "", "application/json", "text/html")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", ["openai", "vllm", "llama_cpp"])
def test_case_07_errors_inside_a_good_answer(protocol: str, form: str) -> None:
    assert kind(answered(protocol, 200, form, MONEY)) == "account"
    long = answered(protocol, 200, form, LONG)
    assert isinstance(long, BackendError)
    assert (long.kind, long.input_tokens, long.retry) == ("too_large", 6009, "elsewhere")
    assert "6009 tokens" in str(long), "the reason is told"


@pytest.mark.parametrize("form", FORMS)
def test_case_07_whole_answers_and_streams_whatever_they_are_called(form: str) -> None:
    whole, streamed = answered("openai", 200, form, WHOLE), answered("openai", 200, form, HI + STOP)
    assert isinstance(whole, Answer), whole
    assert isinstance(streamed, Answer), streamed
    assert (whole.text, whole.usage.input_tokens, streamed.text) == ("whole", 11, "hi")


SLOW = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}
MESSAGE = {"type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "whole"}],
           "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2}}  # fmt: skip
CANDIDATE = {
    "candidates": [{"content": {"parts": [{"text": "whole"}], "role": "model"}, "finishReason": "STOP", "index": 0}]
}


@pytest.mark.parametrize("form", FORMS)
def test_case_07_the_other_protocols_of_events(form: str) -> None:
    assert kind(answered("anthropic", 200, form, SLOW)) == "rate_limited"
    gone = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}
    for body in (gone, [gone], f"data: {json.dumps(gone)}\n\n"):
        assert kind(answered("gemini", 200, form, body)) == "rate_limited"
    for protocol, bodies in (
        ("anthropic", (MESSAGE,)),
        ("gemini", (CANDIDATE, [CANDIDATE], f"data: {json.dumps(CANDIDATE)}\n\n")),
    ):
        for body in bodies:
            found = answered(protocol, 200, form, body)
            assert isinstance(found, Answer), found
            assert found.text == "whole"


def test_case_07_an_event_named_error_is_one() -> None:
    event = 'event: error\ndata: {"code":429,"message":"too many requests","type":"rate_limit_error"}\n\n'
    found = answered("openai", 200, "text/event-stream", HI + event)
    assert isinstance(found, BackendError)
    assert (found.kind, found.partial) == ("rate_limited", "hi")


@pytest.mark.parametrize("protocol", ["openai", "anthropic", "gemini"])
def test_words_of_somebody_in_between_are_told(protocol: str) -> None:
    found = answered(protocol, 200, "text/event-stream", "upstream connect error: 503")
    assert isinstance(found, BackendError)
    assert (found.kind, "upstream connect error" in str(found)) == ("server_error", True)
    assert kind(answered(protocol, 200, "text/event-stream", "<!doctype html><p>log in</p>")) == "invalid_structure"


@pytest.mark.parametrize("protocol", FAKES)
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, 'data:{"error":{"code":"421","message":"Moderation Block","type":"content_filter"}}\n\n', "empty"),
        (400, 'event: error\ndata: {"error":{"message":"No models loaded.","code":"model_not_found"}}\n\n', "unknown_model"),
        (400, {"error": {"message": "Your credit balance is too low", "type": "invalid_request_error"}}, "account"),
        (403, {"error": {"message": "Project x does not have access to model m", "code": "model_not_found"}}, "unknown_model"),
        (413, {"error": {"message": "tokens per minute (TPM): Limit 6000, Requested 14368", "code": "rate_limit_exceeded"}},
         "too_large"),
        (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, "unknown_model"),
        (400, {"error": "the input length exceeds the context length"}, "too_large"),
    ],
)  # fmt: skip
def test_cases_08_to_14_through_every_protocol(protocol: str, status: int, body: object, expected: str) -> None:
    found = answered(protocol, status, "text/event-stream", body)
    assert (kind(found), getattr(found, "status", 0)) == (expected, status)


def test_a_key_that_is_echoed_does_not_show() -> None:
    for key in ("sk-secret-0123456789", "sk-secr******6789", "gsk_ABCDEFGHIJKLMNOPQRSTUV"):
        body = {
            "error": {"message": f"Incorrect API key provided: {key}. You can find it at x", "code": "invalid_api_key"}
        }
        found = answered("openai", 401, "application/json", body)
        assert isinstance(found, BackendError)
        assert found.kind == "account"
        assert key not in f"{found} {found.body}"


def test_a_stream_that_never_begins_is_asked_for_as_a_whole_and_once() -> None:
    """Case 14: what llama-cpp-python does to a prompt that is too long, at an address of this machine."""

    async def main() -> None:
        async with Gateway() as fake:
            backend = open_backend("openai", fake.url, api_key=None, now=lambda: 0.0)
            fake.says = (200, "text/event-stream", b"")
            call = Call(model="some-model", messages=({"role": "user", "content": "hi"},), max_output_tokens=8)
            with pytest.raises(BackendError) as caught:
                await all_of(backend, call)
            assert (caught.value.kind, [chat.stream for chat in fake.asked]) == ("cut_stream", [True, False])
            await backend.close()

    checked(main())
