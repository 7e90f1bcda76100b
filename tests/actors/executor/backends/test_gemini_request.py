from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.gemini_request import generate_body, image_config, model_version, seed_of, takes_sampling
from actors.executor.backends.port import BackendError, Call, Input
from messages import Media
from tests.fakes.gemini_asked import Generate

TOOL_CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"q": 1}'}}
TEXTS = st.sampled_from(["", "hi", "東京"])
MESSAGES = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "user", "assistant"]), TEXTS
    )
    | st.builds(lambda text: {"role": "user", "content": [{"type": "text", "text": text}]}, TEXTS)
    | st.just({"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]})
    | st.builds(lambda text: {"role": "tool", "tool_call_id": "t1", "content": text}, TEXTS),
    max_size=8,
).map(lambda found: (*found, {"role": "user", "content": "end"}))
SIDES = st.integers(16, 8192)


def body_of(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    more = {"model": "gemini-3.1-pro-preview", "max_output_tokens": 64, **more}
    return generate_body(Call(messages=messages or ({"role": "user", "content": "hi"},), **more))


@given(MESSAGES)
def test_roles_take_turns_and_every_part_says_one_thing(messages: tuple[dict[str, Any], ...]) -> None:
    body = body_of(*messages)
    asked = msgspec.convert(body, Generate)  # The fake's types are strict.
    roles = [content.role for content in asked.contents]
    assert all(one != two for one, two in itertools.pairwise(roles))
    parts = [part for content in body["contents"] for part in content["parts"]]
    assert all(len(part.keys() - {"thoughtSignature"}) == 1 for part in parts)
    answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
    assert len(answers) == len([one for one in messages if one["role"] == "tool"])
    for content in body["contents"]:
        called = [part for part in content["parts"] if "functionCall" in part]
        assert not called or "thoughtSignature" in called[0]


@given(SIDES, SIDES)
def test_the_nearest_ratio_and_a_size_that_is_not_smaller(width: int, height: int) -> None:
    found = image_config("gemini-3.1-flash-image", width, height)
    across, down = (int(side) for side in found["aspectRatio"].split(":"))
    wish = math.log(width / height)
    distance = abs(math.log(across / down) - wish)
    assert distance <= min(abs(wish), abs(math.log(16 / 9) - wish), abs(math.log(9 / 16) - wish)) + 1e-9
    side = {"512": 512, "": 1024, "2K": 2048, "4K": 4096}[found.get("imageSize", "")]
    assert side == 4096 or side * 1.1 >= math.sqrt(width * height) - 1e-6


@pytest.mark.parametrize(
    ("model", "width", "height", "found"),
    [
        ("gemini-3.1-flash-image", 0, 0, {}),
        ("gemini-3.1-flash-image", 512, 512, {"aspectRatio": "1:1", "imageSize": "512"}),
        ("gemini-3-pro-image", 512, 512, {"aspectRatio": "1:1"}),
        ("gemini-3-pro-image", 1024, 1024, {"aspectRatio": "1:1"}),
        ("gemini-3-pro-image", 1920, 1080, {"aspectRatio": "16:9", "imageSize": "2K"}),
        ("gemini-3-pro-image", 4096, 2304, {"aspectRatio": "16:9", "imageSize": "4K"}),
        ("gemini-3-pro-image", 800, 100, {"aspectRatio": "21:9"}),
        ("gemini-3.1-flash-image", 1600, 200, {"aspectRatio": "8:1"}),
        ("gemini-2.5-flash-image", 2048, 2048, {"aspectRatio": "1:1"}),
    ],
)
def test_shapes_of_pictures(model: str, width: int, height: int, found: dict[str, str]) -> None:
    assert image_config(model, width, height) == found


@pytest.mark.parametrize(
    ("model", "version", "sampled"),
    [
        ("gemini-3.1-pro-preview", (3, 1), True),
        ("gemini-3.5-flash-lite", (3, 5), False),
        ("gemini-3.8-flash", (3, 8), False),
        ("gemini-4-argon", (4, 0), False),
        ("models/gemini-2.5-pro", (2, 5), True),
        ("gemini-flash-latest", None, False),
        ("gemma-4-it", None, True),
    ],
)
def test_only_models_known_to_take_a_temperature_get_one(model: str, version: object, *, sampled: bool) -> None:
    assert (model_version(model), takes_sampling(model)) == (version, sampled)
    config = body_of(model=model, temperature=0.5, seed=7)["generationConfig"]
    assert ("temperature" in config, "seed" in config) == (sampled, sampled)


def test_everything_a_call_can_ask() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    linked = {"type": "image_url", "image_url": {"url": "https://example.com/a.webp?size=2"}}
    tool = {"type": "function", "function": {"name": "f", "description": "does", "parameters": {"type": "object"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    body = body_of(
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what is this?"}, picture, linked]},
        temperature=0.5,
        seed=3,
        stop=("END",),
        tools=(tool,),
        response_format=wanted,
    )
    assert body == {
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "what is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                    {"fileData": {"mimeType": "image/webp", "fileUri": "https://example.com/a.webp?size=2"}},
                ],
            }
        ],
        "generationConfig": {
            "maxOutputTokens": 64,
            "temperature": 0.5,
            "seed": 3,
            "stopSequences": ["END"],
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
        },
        "tools": [
            {"functionDeclarations": [{"name": "f", "description": "does", "parametersJsonSchema": {"type": "object"}}]}
        ],
    }
    plain = body_of(response_format={"type": "json_object"})["generationConfig"]
    assert plain == {"maxOutputTokens": 64, "responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"asset": "audio"}, "audio"),
        ({"stop": tuple("abcdef")}, "stop"),
        ({"asset": "image", "inputs": (Input(name="mask", media_type="image/png", data=b"x"),)}, "mask"),
        ({"asset": "image", "inputs": (Input(name="audio", media_type="audio/wav", data=b"x"),)}, "audio"),
    ],
)
def test_what_it_can_not_is_for_another_backend(more: dict[str, Any], part: str) -> None:
    with pytest.raises(BackendError, match=part) as caught:
        body_of(media=Media(), **more)
    assert caught.value.retry == "elsewhere"


@pytest.mark.parametrize("url", ["http://example.com/a.png", "https://example.com/a", "data:image/png,x", ""])
def test_images_it_does_not_take_are_for_another_backend(url: str) -> None:
    with pytest.raises(BackendError) as caught:
        body_of({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    assert caught.value.retry == "elsewhere"


def test_arguments_of_a_tool_must_be_json() -> None:
    use = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}
    with pytest.raises(BackendError) as caught:
        body_of({"role": "assistant", "content": None, "tool_calls": [use]})
    assert caught.value.kind == "bad_request"


def test_older_models_get_no_stand_in_for_a_signature() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
    parts = body_of(called, model="gemini-2.5-pro")["contents"][0]["parts"]
    assert parts == [{"functionCall": {"name": "f", "args": {"q": 1}, "id": "t1"}}]


@given(st.integers(-(2**80), 2**80))
def test_a_seed_has_32_bits_and_a_usual_one_stays(seed: int) -> None:
    assert -(2**31) <= seed_of(seed) < 2**31
    assert seed_of(seed) == seed or not -(2**31) <= seed < 2**31


def test_a_job_without_a_message_of_the_user_is_for_another_backend() -> None:
    with pytest.raises(BackendError) as caught:
        body_of({"role": "system", "content": "be brief"})
    assert caught.value.kind == "unknown_model"
