from typing import Any

import msgspec
import pytest
from genai_prices import extract_usage
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.completion import Completion
from actors.executor.backends.port import Answer, BackendError, Usage
from actors.executor.backends.usage import usage_in


def event(delta: object = None, finish: str | None = None, **fields: Any) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": delta}
    if finish:
        choice["finish_reason"] = finish
    return msgspec.json.encode({"choices": [choice], **fields})


def fold(*events: bytes) -> Answer:
    completion = Completion("asked")
    for data in events:
        completion.take(data)
    return completion.answer()


def failing(*events: bytes) -> BackendError:
    with pytest.raises(BackendError) as caught:
        fold(*events)
    return caught.value


def test_a_whole_stream() -> None:
    answer = fold(
        event({"role": "assistant", "content": None}, model="real"),
        event({"reasoning_content": "hm"}),
        event({"reasoning": "hm"}),
        event({"content": "Hel"}),
        event({"content": "lo"}),
        event({}, "stop"),
        b'{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5,'
        b'"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}}',
        b"[DONE]",
    )
    assert answer == Answer(
        text="Hello",
        finish_reason="stop",
        model="real",
        usage=Usage(input_tokens=9, output_tokens=5, cached_tokens=4, reasoning_tokens=2),
        reasoning="hmhm",
    )


def test_what_may_be_missing() -> None:
    assert fold(event({"content": "a"}, "length")).finish_reason == "length"
    unsaid = fold(event({"content": "a"}), b"[DONE]")
    assert (unsaid.finish_reason, unsaid.model, unsaid.usage) == ("", "asked", Usage())
    assert fold(event({"content": "a"}), b'{"choices": null}', b"{}", event(None, "stop")).text == "a"
    assert fold(event({"content": [{"type": "text", "text": "a"}]}, "whatever")).finish_reason == ""


def test_usage_on_any_chunk_and_never_zero_for_unknown() -> None:
    answer = fold(event({"content": "a"}, usage={"prompt_tokens": 3}), event({}, "stop", usage=None))
    assert answer.usage == Usage(input_tokens=3, output_tokens=None)
    assert fold(event({}, "stop", usage={"prompt_tokens": -1, "completion_tokens": True})).usage == Usage()


def test_tool_calls_are_assembled() -> None:
    answer = fold(
        event(
            {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}
        ),
        event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"q"'}}]}),
        event({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        event({}, "tool_calls"),
    )
    assert answer.finish_reason == "tool_calls"
    assert answer.tool_calls == (
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"q":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    )


def test_a_cut_stream_keeps_what_came() -> None:
    error = failing(event({"content": "half"}, usage={"completion_tokens": 1}))
    assert (error.kind, error.partial, error.usage) == ("cut_stream", "half", Usage(output_tokens=1))
    assert failing().kind == "cut_stream"
    assert failing(event({"content": "a"}, "abort"), b"[DONE]").kind == "cut_stream"


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"[]", b'"x"', b'{"choices": {}}', b'{"choices": [1]}', b'{"choices": [{"delta": "x"}]}',
        b'{"choices": [{"delta": {"content": 5}}]}', b'{"choices": [{"delta": {"tool_calls": {}}}]}', b"\xff",
    ],
)  # fmt: skip
def test_wrong_structure(data: bytes) -> None:
    error = failing(event({"content": "half"}), data)
    assert (error.kind, error.partial, error.status) == ("invalid_structure", "half", 200)


def test_an_end_without_any_choice_is_wrong() -> None:
    assert failing(b'{"result": "x"}', b"[DONE]").kind == "invalid_structure"


def test_an_error_in_the_stream() -> None:
    error = failing(event({"content": "half"}), b'{"error": {"message": "engine died", "code": 503}}')
    assert (error.kind, error.partial, error.status) == ("overloaded", "half", 200)
    assert "engine died" in str(error)
    assert "engine died" in error.body


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "usage",
                    "index",
                    "error",
                    "id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(ODD.map(msgspec.json.encode) | st.binary(max_size=5), max_size=4))
def test_nothing_but_an_answer_or_a_backend_error(events: list[bytes]) -> None:
    completion = Completion("m")
    try:
        texts = [completion.take(data) for data in events]
        assert completion.answer().text == "".join(texts)
    except BackendError:
        pass


COUNTS = st.integers(0, 10**8)


def details(*names: str) -> st.SearchStrategy[Any]:
    """Some of these counts, or no details at all."""
    return st.none() | st.fixed_dictionaries({}, optional=dict.fromkeys(names, COUNTS))


CHAT_USAGE = st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS},
    optional={
        "total_tokens": COUNTS,
        "prompt_tokens_details": details("cached_tokens", "cache_write_tokens", "text_tokens", "image_tokens"),
        "completion_tokens_details": details("reasoning_tokens", "accepted_prediction_tokens"),
    },
)
RESPONSES_USAGE = st.fixed_dictionaries(
    {"input_tokens": COUNTS, "output_tokens": COUNTS},
    optional={
        "total_tokens": COUNTS,
        "input_tokens_details": details("cached_tokens", "cache_write_tokens"),
        "output_tokens_details": details("reasoning_tokens"),
    },
)
IMAGE_USAGE = st.fixed_dictionaries(
    {
        "input_tokens": COUNTS,
        "output_tokens": COUNTS,
        "input_tokens_details": st.fixed_dictionaries({"text_tokens": COUNTS, "image_tokens": COUNTS}),
    }
)


def added_up(usage: dict[str, Any]) -> None:
    """Make the parts fit into their whole, and the total be their sum: others are judged apart."""
    read, made = (
        ("prompt_tokens", "completion_tokens") if "prompt_tokens" in usage else ("input_tokens", "output_tokens")
    )
    usage[read] += 1
    for whole in (read, made):
        parts = usage.get(f"{whole}_details") or {}
        for name in parts:
            parts[name] = parts[name] % (usage[whole] // 2 + 1)
    if "total_tokens" in usage:
        usage["total_tokens"] = usage[read] + usage[made]


@given(
    st.tuples(st.just("chat"), CHAT_USAGE)
    | st.tuples(st.just("responses"), RESPONSES_USAGE)
    | st.tuples(st.just("images"), IMAGE_USAGE)
)
def test_usage_is_read_as_the_price_lists_read_it(told: tuple[str, dict[str, Any]]) -> None:
    flavor, usage = told
    added_up(usage)
    answer = {"model": "gpt-6-luna", "usage": usage}
    theirs: Any = extract_usage(answer, provider_id="openai", api_flavor=flavor).usage
    ours = usage_in(answer)
    assert ours is not None
    # To the price lists what nobody tells is 0; to us it is unknown.
    assert [ours.input_tokens, ours.output_tokens] == [theirs.input_tokens, theirs.output_tokens]
    assert [ours.cached_tokens or 0, ours.cache_write_tokens or 0, ours.reasoning_tokens or 0] == [
        theirs.cache_read_tokens, theirs.cache_write_tokens, theirs.output_reasoning_tokens,
    ]  # fmt: skip


def test_a_refusal_is_no_text() -> None:
    refused = fold(event({"role": "assistant", "content": None}), event({"refusal": "I can't."}), event({}, "stop"))
    assert (refused.text, refused.finish_reason) == ("", "content_filter")
    assert fold(event({"content": "a", "refusal": None}), event({}, "stop")).finish_reason == "stop"


@pytest.mark.parametrize(
    ("said", "finish"),
    [("max_tokens", "length"), ("MAX_TOKENS", "length"), ("end_turn", "stop"), ("tool_use", "stop"), ("?", "")],
)
def test_other_servers_words_for_the_end(said: str, finish: str) -> None:
    """Case 02. Who says that it calls tools, and calls none, has ended by itself."""
    answer = fold(event({"content": "a"}, said))
    assert (answer.finish_reason, [one.name for one in answer.remarks]) == (finish, ["tools"] * (said == "tool_use"))


def test_thoughts_in_details_and_parts_are_told_and_measured() -> None:
    """Case 20."""
    for said in (
        {"reasoning_details": [{"type": "reasoning.text", "text": "hmm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]}]},
        {"content": "<think>hmm</think>"},
    ):
        answer = fold(event(said), event({"content": "a"}, "stop"))
        assert (answer.text, answer.reasoning, answer.usage) == ("a", "hmm", Usage(thought_bytes=3))
    cut = failing(event({"reasoning": "hmm"}), event({"content": "a"}))
    assert (cut.partial, cut.usage) == ("a", Usage(thought_bytes=3))
