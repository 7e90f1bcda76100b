from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.simbackend import SimSettings
from actors.simbackend.protocol import ChatRequest, Refused, read_request
from actors.simbackend.words import answer_pieces, count_tokens, example

SETTINGS = SimSettings(models=("m",))
GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def read(**changes: Any) -> ChatRequest:
    return read_request(msgspec.json.encode({**GOOD, **changes}), SETTINGS)


def refusal(body: bytes) -> tuple[int, dict[str, Any]]:
    with pytest.raises(Refused) as caught:
        read_request(body, SETTINGS)
    return caught.value.status, msgspec.json.decode(caught.value.body)["error"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": None}, "model"), ({"model": 5}, "model"), ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"), ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0]"), ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": 3}, "temperature"), ({"n": 2}, "n"), ({"tempreature": 1}, "tempreature"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused_as_openai_does(changes: dict[str, Any], param: str) -> None:
    status, error = refusal(msgspec.json.encode({**GOOD, **changes}))
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error["message"]
    assert error["code"] is None


def test_other_refusals() -> None:
    assert refusal(b"{")[0] == 400
    assert refusal(b"[]")[0] == 400
    status, error = refusal(msgspec.json.encode({"messages": GOOD["messages"]}))
    assert (status, error["param"]) == (400, "model")
    status, error = refusal(msgspec.json.encode({**GOOD, "model": "other"}))
    assert (status, error["code"], error["type"]) == (404, "model_not_found", "not_found_error")


def pieces(request: ChatRequest, tokens: int = 24, seed: int = 0) -> tuple[str, str, int]:
    found, finish = answer_pieces(request, name="sim", tokens=tokens, seed=seed)
    return "".join(found), finish, len(found)


@given(st.integers(1, 50), st.integers(1, 50) | st.none(), st.integers())
def test_answers_are_marked_reproducible_and_capped(tokens: int, cap: int | None, seed: int) -> None:
    request = read(max_tokens=cap)
    text, finish, size = pieces(request, tokens, seed)
    assert (text, finish, size) == pieces(request, tokens, seed)
    assert text.startswith("[simulated by sim]"[: len(text)].rstrip())
    assert size == count_tokens([text]) <= min(max(tokens, 3), cap or 99)
    assert finish == ("length" if cap is not None and cap < max(tokens, 3) else "stop")


def test_answers_depend_on_seed_and_prompt_and_obey_stops() -> None:
    texts = {
        pieces(read())[0],
        pieces(read(), seed=1)[0],
        pieces(read(messages=[{"role": "user", "content": "ho"}]))[0],
    }
    assert len(texts) == 3
    assert pieces(read(stop=" by"))[0] == "[simulated"


def test_json_when_json_is_wanted() -> None:
    text, finish, _ = pieces(read(response_format={"type": "json_object"}))
    assert msgspec.json.decode(text)["simulated_by"] == "sim"
    assert finish == "stop"
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 18},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2},
            "ok": {"type": ["boolean", "null"]},
            "kind": {"const": "x"},
            "either": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
    }
    text, _, _ = pieces(read(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}))
    assert msgspec.json.decode(text) == {
        "name": "[simulated by sim]", "age": 18, "tags": ["a", "a"], "ok": True, "kind": "x", "either": None,
    }  # fmt: skip


def test_a_schema_of_any_depth_ends() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["again"] = schema
    assert example(schema, "x")
