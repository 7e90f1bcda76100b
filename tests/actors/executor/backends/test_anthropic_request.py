from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.anthropic_request import model_version, request_body, takes_sampling, takes_schema
from actors.executor.backends.port import BackendError, Call
from tests.fakes.anthropic import Asked

TOOL_CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"q": 1}'}}
TEXTS = st.sampled_from(["", " ", "hi", "東京"])
MESSAGES = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "user", "assistant"]), TEXTS
    )
    | st.builds(lambda text: {"role": "user", "content": [{"type": "text", "text": text}]}, TEXTS)
    | st.just({"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]})
    | st.builds(lambda text: {"role": "tool", "tool_call_id": "t1", "content": text}, TEXTS),
    max_size=8,
).map(lambda found: (*found, {"role": "user", "content": "end"}))


def call(*messages: dict[str, Any], **more: Any) -> Call:
    more = {"model": "claude-sonnet-5-5", "max_output_tokens": 64, **more}
    return Call(messages=messages or ({"role": "user", "content": "hi"},), **more)


def body_of(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return request_body(call(*messages, **more), structured=True)


@given(MESSAGES)
def test_roles_take_turns_and_no_text_is_empty(messages: tuple[dict[str, Any], ...]) -> None:
    body = body_of(*messages)
    asked = msgspec.convert(body, Asked)  # The fake's types are strict.
    roles = [message.role for message in asked.messages]
    assert all(one != two for one, two in itertools.pairwise(roles))
    blocks = [block for message in body["messages"] for block in message["content"]]
    assert all(block["text"].strip() for block in blocks if block["type"] == "text")
    for kind, role in (("tool_use", "assistant"), ("tool_result", "tool")):
        wanted = [one for one in messages if one["role"] == role and (role == "tool" or one.get("tool_calls"))]
        assert len([block for block in blocks if block["type"] == kind]) == len(wanted)
    assert "system" in body or not any(one["role"] == "system" and one["content"].strip() for one in messages)


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-sonnet-5-5", (5, 5)),
        ("claude-haiku-4-5", (4, 5)),
        ("claude-haiku-4-5-20251001", (4, 5)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-3-opus-20240229", (3, 0)),
        ("claude-opus-4-7", (4, 7)),
        ("claude-fable-5-2", (5, 2)),
        ("claude-opus-10-1", (10, 1)),
        ("llama-3", None),
        ("claude", None),
    ],
)
def test_versions_in_names(model: str, version: tuple[int, int] | None) -> None:
    assert model_version(model) == version


def test_only_models_known_to_take_a_temperature_get_one() -> None:
    takes = {name for name in ("claude-haiku-4-5", "claude-opus-4-6", "claude-opus-4-7", "claude-sonnet-5-5", "gpt-4")
             if takes_sampling(name)}  # fmt: skip
    assert takes == {"claude-haiku-4-5", "claude-opus-4-6"}
    assert "temperature" not in body_of(temperature=0.0)
    assert body_of(model="claude-haiku-4-5", temperature=2.0)["temperature"] == 1.0
    assert [takes_schema(name) for name in ("claude-3-opus-20240229", "claude-haiku-4-5", "x")] == [False, True, False]


def test_everything_a_call_can_ask() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    linked = {"type": "image_url", "image_url": {"url": "https://example.com/a"}}
    tool = {"type": "function", "function": {"name": "f", "description": "does", "parameters": {"type": "object"}}}
    body = body_of(
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "text", "text": "and kind"}]},
        {"role": "user", "content": [{"type": "text", "text": "what is this?"}, picture, linked]},
        stop=("END",),
        seed=3,
        tools=(tool, {"type": "function", "function": {"name": "g"}}),
        response_format={"type": "json_object"},
    )
    assert body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 64,
        "stream": True,
        "system": "be brief\n\nand kind\n\nAnswer with one JSON value and nothing else: no explanation, no code fence.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a"}},
                ],
            }
        ],
        "stop_sequences": ["END"],
        "tools": [
            {"name": "f", "description": "does", "input_schema": {"type": "object"}},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        ],
    }
    assert msgspec.convert(body, Asked).model == "claude-sonnet-5-5"


@pytest.mark.parametrize(
    "url", ["http://example.com/a.png", "data:image/tiff;base64,aGk=", "data:image/png,x", "", "x"]
)
def test_images_it_does_not_take_are_for_another_backend(url: str) -> None:
    with pytest.raises(BackendError) as caught:
        body_of({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    assert caught.value.retry == "elsewhere"


def test_sounds_are_for_another_backend() -> None:
    with pytest.raises(BackendError, match="input_audio") as caught:
        body_of({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "aGk="}}]})
    assert caught.value.retry == "elsewhere"


@pytest.mark.parametrize("arguments", ["{", "5", "[]"])
def test_arguments_of_a_tool_must_be_an_object(arguments: str) -> None:
    use = {"id": "t", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(BackendError) as caught:
        body_of({"role": "assistant", "content": None, "tool_calls": [use]})
    assert caught.value.kind == "bad_request"


def test_an_answer_that_was_begun_goes_only_to_models_that_go_on() -> None:
    begun = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well, \n"})
    body = body_of(*begun, model="claude-haiku-4-5")
    assert body["messages"][-1]["content"] == [{"type": "text", "text": "Well,"}]
    with pytest.raises(BackendError) as caught:
        body_of(*begun)
    assert caught.value.retry == "elsewhere"


def test_a_schema_that_can_not_be_enforced_is_asked_for_in_words() -> None:
    free = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    body = body_of(response_format=free)
    assert "output_config" not in body
    assert body["system"].endswith('{"type":"object"}')


def test_a_job_without_a_message_of_the_user_is_for_another_backend() -> None:
    with pytest.raises(BackendError) as caught:
        body_of({"role": "system", "content": "be brief"})
    assert caught.value.kind == "unknown_model"
