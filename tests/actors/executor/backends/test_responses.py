import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.port import Answer, BackendError, Call, Usage
from actors.executor.backends.responses import Response, request_body

CALL = Call(model="gpt-5.5-pro", messages=({"role": "user", "content": "hi"},), max_output_tokens=100)


def event(kind: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"type": kind, **fields})


def said(text: str, kind: str = "output_text") -> dict[str, Any]:
    return {"type": "message", "content": [{"type": kind, "text" if kind == "output_text" else kind: text}]}


def ended(*output: Any, status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"object": "response", "model": "gpt-5.5-pro-2026", "status": status, "output": list(output), **fields}


def fold(*events: bytes) -> Answer:
    response = Response("asked")
    for data in events:
        response.take(data)
    return response.answer()


def failing(*events: bytes) -> BackendError:
    with pytest.raises(BackendError) as caught:
        fold(*events)
    return caught.value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "object", "response", "output", "content", "text", "delta", "status", "error", "usage", "refusal",
                 "incomplete_details", "input_tokens", "input_tokens_details", "message"]
            ), inner | st.sampled_from(
                ["response", "message", "output_text", "completed", "incomplete", "response.completed", "error",
                 "response.failed", "response.output_text.delta", "function_call"]
            ), max_size=6,
        )
    ),
    max_leaves=20,
)  # fmt: skip
ODD_END = st.fixed_dictionaries(
    {"type": st.sampled_from(["response.completed", "response.incomplete", "response.failed"]) | JSON},
    optional={
        "response": st.fixed_dictionaries(
            {"output": st.lists(JSON, max_size=2)},
            optional=dict.fromkeys(["status", "usage", "model", "error", "incomplete_details"], JSON),
        )
    },
)
DELTA = event("response.output_text.delta", delta="Hel")


def test_the_smallest_request() -> None:
    assert request_body(msgspec.structs.replace(CALL, temperature=0.5, seed=3)) == {
        "model": "gpt-5.5-pro",
        "input": [{"role": "user", "content": "hi"}],
        "max_output_tokens": 100,
        "store": False,
        "stream": True,
    }


def test_everything_a_call_can_ask() -> None:
    schema = {"type": "object"}
    call = msgspec.structs.replace(
        CALL,
        messages=(
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
                {"type": "image_url", "image_url": "https://x/y.png"},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"q":1}'}}
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "2"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
        ),
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
        tools=({"type": "function", "function": {"name": "f", "parameters": schema}},),
    )  # fmt: skip
    body = request_body(call)
    assert body["input"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "input_text", "text": "what is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"},
            {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
        ]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"q":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
    ]  # fmt: skip
    assert body["text"] == {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    assert body["tools"] == [{"type": "function", "name": "f", "parameters": schema, "strict": False}]
    plain = msgspec.structs.replace(CALL, response_format={"type": "json_object"})
    assert request_body(plain)["text"] == {"format": {"type": "json_object"}}


def test_what_it_can_not_carry_is_for_another_backend() -> None:
    sound = ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},)
    for call in (msgspec.structs.replace(CALL, stop=("x",)), msgspec.structs.replace(CALL, messages=sound)):
        with pytest.raises(BackendError) as caught:
            request_body(call)
        assert caught.value.retry == "elsewhere"


def test_a_stream() -> None:
    usage = {
        "input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
        "output_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    answer = fold(
        event("response.created", response=ended(status="in_progress")),
        event("response.reasoning_summary_text.delta", delta="hm"),
        DELTA,
        event("response.some_new_thing", what=[1]),
        event("response.output_text.delta", delta="lo"),
        event("response.completed", response=ended(said("Hello"), usage=usage)),
        event("response.output_text.delta", delta="ignored"),
    )
    assert answer == Answer(
        text="Hello",
        finish_reason="stop",
        model="gpt-5.5-pro-2026",
        usage=Usage(input_tokens=9, output_tokens=5, cached_tokens=4, cache_write_tokens=1, reasoning_tokens=2),
        reasoning="hm",
    )


def test_a_whole_answer_in_one_piece() -> None:
    whole = ended({"type": "reasoning", "summary": []}, said("Hel"), said("lo"))
    assert (fold(msgspec.json.encode(whole)).text, fold(msgspec.json.encode(whole)).usage) == ("Hello", Usage())


@pytest.mark.parametrize(
    ("last", "finish"),
    [
        (ended(said("a"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (ended(said("a"), status="incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
        (ended(said("a"), status="incomplete", incomplete_details={"reason": "steered"}), ""),
        (ended(said("I can't", "refusal")), "content_filter"),
        (ended(), "stop"),
        (ended({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}), "tool_calls"),
    ],
)
def test_how_it_ends(last: dict[str, Any], finish: str) -> None:
    assert fold(event(f"response.{last['status']}", response=last)).finish_reason == finish


def test_tool_calls_take_chats_form() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": '{"q":1}'}
    answer = fold(event("response.completed", response=ended(call, said("hm"))))
    assert answer.text == "hm"
    assert answer.tool_calls == (
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"q":1}'}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("events", "kind", "partial"),
    [
        ([DELTA], "cut_stream", "Hel"),
        ([DELTA, b"[DONE]"], "cut_stream", "Hel"),
        ([DELTA, event("response.cancelled", response=ended(status="cancelled"))], "cut_stream", "Hel"),
        ([DELTA, event("error", code="server_error", message="died")], "server_error", "Hel"),
        ([DELTA, event("error", code="rate_limit_exceeded", message="slow")], "rate_limited", "Hel"),
        ([DELTA, event("response.failed", response=ended(
            status="failed", error={"code": "server_error", "message": "x"}, usage={"input_tokens": 3}
        ))], "server_error", "Hel"),
        ([event("response.failed", response=ended(
            status="failed", error={"code": "image_content_policy_violation", "message": "x"}
        ))], "empty", ""),
        ([b'{"error": {"message": "x", "code": "model_not_found"}}'], "unknown_model", ""),
        ([DELTA, b"{"], "invalid_structure", "Hel"),
        ([b"[1]"], "invalid_structure", ""),
        ([event("response.output_text.delta", delta=5)], "invalid_structure", ""),
        ([event("response.completed", response={"output": 5})], "invalid_structure", ""),
        ([event("response.completed")], "invalid_structure", ""),
    ],
)  # fmt: skip
def test_trouble(events: list[bytes], kind: str, partial: str) -> None:
    error = failing(*events)
    assert (error.kind, error.partial, error.status) == (kind, partial, 200)


def test_a_failed_answer_tells_what_it_used() -> None:
    last = ended(status="failed", error={"code": "server_error", "message": "x"}, usage={"input_tokens": 3})
    assert failing(event("response.failed", response=last)).usage == Usage(input_tokens=3)


@given(st.lists(st.text()), st.binary())
def test_text_is_the_sum_of_its_deltas(texts: list[str], noise: bytes) -> None:
    response = Response("m")
    found = [response.take(event("response.output_text.delta", delta=text)) for text in texts]
    response.take(event("response.completed", response=ended(said("".join(texts)))))
    assert response.take(noise) == ""
    held = response.end()  # What may have become a mark, as blanks and `<` may.
    assert response.answer().text == "".join(texts) == "".join(found) + held


@given(st.lists((JSON | ODD_END).map(msgspec.json.encode) | st.binary(max_size=20), max_size=4))
def test_nothing_but_an_answer_or_a_backend_error(events: list[bytes]) -> None:
    with contextlib.suppress(BackendError):
        answer = fold(*events)
        assert isinstance(answer, Answer)


CALL_ITEM = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": ""}
WHOLE_ITEM = {**CALL_ITEM, "arguments": '{"q":1}'}
BEGUN = event("response.output_item.added", output_index=0, item=CALL_ITEM)
ARGUED = [
    event("response.function_call_arguments.delta", item_id="fc", delta=piece) for piece in ('{"q"', ":1}")
]  # fmt: skip


@pytest.mark.parametrize(
    "made",
    [
        [event("response.output_item.done", output_index=0, item=WHOLE_ITEM)],
        [BEGUN, *ARGUED],
        [BEGUN, event("response.function_call_arguments.done", item_id="fc", arguments='{"q":1}')],
        [BEGUN, *ARGUED, event("response.output_item.done", output_index=0, item=WHOLE_ITEM)],
    ],
)
@pytest.mark.parametrize("ends", [ended(), ended(WHOLE_ITEM)])
def test_what_the_end_leaves_out_was_told_before_and_counts_once(made: list[bytes], ends: dict[str, Any]) -> None:
    """Case 03."""
    answer = fold(*made, event("response.completed", response=ends))
    assert [one["function"] for one in answer.tool_calls] == [{"name": "f", "arguments": '{"q":1}'}]
    assert answer.finish_reason == "tool_calls"


def test_thoughts_that_the_end_leaves_out_are_carried() -> None:
    item = {"type": "reasoning", "id": "r", "encrypted_content": "x", "summary": []}
    answer = fold(DELTA, event("response.output_item.done", item=item), event("response.completed", response=ended()))
    assert (answer.text, answer.carried) == ("Hel", (item,))
