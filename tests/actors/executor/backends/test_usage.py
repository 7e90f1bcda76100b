"""Usage in every form that servers say it in, and what of it can't be."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import usage as usages
from actors.executor.backends.anthropic_answer import MessageFold
from actors.executor.backends.completion import Completion
from actors.executor.backends.gemini_answer import GenerateFold
from actors.executor.backends.ollama_form import ChatFold
from actors.executor.backends.port import Answer, Usage
from actors.executor.backends.responses import Response
from actors.executor.backends.usage import MOST_TOKENS, Tally, added, higher, tokens, usage_in, usage_of

Fields = dict[str, Any]


def said(*events: Fields) -> Usage:
    tally = Tally()
    for event in events:
        tally.hear(event)
    return tally.told or Usage()


def chat(**usage: Any) -> Fields:
    return {"choices": [], "usage": usage}


THOUGHT = {"reasoning_tokens": 3000}
CACHED = {"cached_tokens": 60}


@pytest.mark.parametrize(
    ("block", "read", "made"),
    [
        # Reasoning beside the output, or inside it: the total tells.
        ({"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 3040, "completion_tokens_details": THOUGHT}, 30, 3010),
        ({"prompt_tokens": 30, "completion_tokens": 3010, "total_tokens": 3040, "completion_tokens_details": THOUGHT}, 30, 3010),
        ({"prompt_tokens": 30, "completion_tokens": 5000, "total_tokens": 8030, "completion_tokens_details": THOUGHT}, 30, 8000),
        # Without a total a part that is larger than the whole stands beside it, a smaller one in it.
        ({"prompt_tokens": 30, "completion_tokens": 10, "completion_tokens_details": THOUGHT}, 30, 3010),
        ({"prompt_tokens": 30, "completion_tokens": 4000, "completion_tokens_details": THOUGHT}, 30, 4000),
        ({"prompt_tokens": 30, "completion_tokens": 10, "reasoning_tokens": 3000}, 30, 3010),
        # What the total has and no part explains was made.
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 815}, 10, 805),
        # A total that is too small says nothing.
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 7}, 10, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 0}, 10, 5),
        # What the cache held is part of the input, or beside it.
        ({"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": CACHED}, 100, 5),
        ({"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 105, "prompt_tokens_details": CACHED}, 100, 5),
        ({"prompt_tokens": 40, "completion_tokens": 5, "prompt_tokens_details": CACHED}, 100, 5),
        ({"input_tokens": 40, "output_tokens": 5, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 50}, 100, 5),
        ({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "cache_read_input_tokens": 60}, 100, 5),
        ({"input_tokens": 100, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 60}}, 100, 5),
        # Google: thoughts and tools are beside.
        ({"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 30, "totalTokenCount": 44}, 9, 35),
        ({"promptTokenCount": 9, "toolUsePromptTokenCount": 6, "candidatesTokenCount": 5, "totalTokenCount": 20}, 15, 5),
        ({"promptTokenCount": 9, "thoughtsTokenCount": 30}, 9, 30),
        ({"total_input_tokens": 9, "total_output_tokens": 5, "total_thought_tokens": 30}, 9, 35),
        ({"promptTokenCount": 9, "candidatesTokenCount": 35, "thoughtsTokenCount": 30, "totalTokenCount": 44}, 9, 35),
        # llama.cpp's own times, and RunPod's words.
        ({"prompt_n": 4, "cache_n": 26, "predicted_n": 12}, 30, 12),
        ({"input": 30, "output": 12}, 30, 12),
        # Other spellings, and blocks within blocks.
        ({"inputTokens": 30, "outputTokens": 12, "totalTokens": 42}, 30, 12),
        ({"inputTokens": 30, "outputTokens": 12, "totalTokens": 142, "cacheReadInputTokens": 100}, 130, 12),
        ({"promptTokens": 30, "completionTokens": 12}, 30, 12),
        ({"inputTokens": 30, "outputTokens": 3010, "totalTokens": 3040, "reasoningTokens": 3000}, 30, 3010),
        ({"prompt_token_count": 9, "candidates_token_count": 5, "thoughts_token_count": 30, "total_token_count": 44}, 9, 35),
        ({"billed_units": {"input_tokens": 25}, "tokens": {"input_tokens": 30, "output_tokens": 12}}, 30, 12),
        ({"prompt_tokens": "30", "completion_tokens": "12", "total_tokens": "42"}, 30, 12),
        # One part and the total tell the other.
        ({"prompt_tokens": 30, "total_tokens": 42}, 30, 12),
        ({"completion_tokens": 12, "total_tokens": 42}, 30, 12),
        ({"prompt_tokens": 0, "completion_tokens": 12, "total_tokens": 42}, 30, 12),
        ({"prompt_tokens": 0, "input_tokens": 30, "completion_tokens": 0, "output_tokens": 12}, 30, 12),
        ({"prompt_tokens": 8, "total_tokens": 8}, 8, None),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None, 0),
        ({}, None, None),
    ],
)  # fmt: skip
def test_the_parts_add_up(block: Fields, read: int | None, made: int | None) -> None:
    usage = usage_of(block)
    assert (usage.input_tokens, usage.output_tokens) == (read, made)


PLACES: list[tuple[str, Fields]] = [
    ("a chunk of its own", chat(prompt_tokens=30, completion_tokens=12)),
    ("a whole answer", {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 30, "completion_tokens": 12}}),
    ("the top of a chunk", {"choices": [], "prompt_tokens": 30, "completion_tokens": 12}),
    ("a choice", {"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 30, "completion_tokens": 12}}]}),
    ("a delta", {"choices": [{"delta": {"usage": {"prompt_tokens": 30, "completion_tokens": 12}}}]}),
    ("Groq's", {"choices": [], "x_groq": {"id": "r", "usage": {"prompt_tokens": 30, "completion_tokens": 12}}}),
    ("llama.cpp's", {"choices": [], "timings": {"prompt_n": 30, "cache_n": 0, "predicted_n": 12, "predicted_ms": 8.5}}),
    ("message_start", {"type": "message_start", "message": {"usage": {"input_tokens": 30, "output_tokens": 12}}}),
    ("message_delta", {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 30, "output_tokens": 12}}),
    ("Google's", {"candidates": [], "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 12}}),
    ("Ollama's", {"done": True, "prompt_eval_count": 30, "eval_count": 12}),
    ("a response", {"type": "response.completed", "response": {"usage": {"input_tokens": 30, "output_tokens": 12}}}),
    ("an interaction", {"usage": {"total_input_tokens": 30, "total_output_tokens": 12}}),
    ("Bedrock's", {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 30, "outputTokenCount": 12}}),
    ("llama.cpp's own protocol", {"content": "x", "stop": True, "tokens_evaluated": 30, "tokens_predicted": 12}),
    ("a list", {"choices": [], "usage": [{"prompt_tokens": 30, "completion_tokens": 12}]}),
    ("a worker's output", {"output": {"usage": {"input": 30, "output": 12}}}),
]  # fmt: skip


@pytest.mark.parametrize("event", [event for _, event in PLACES], ids=[name for name, _ in PLACES])
def test_wherever_it_stands_it_is_found(event: Fields) -> None:
    usage = usage_in(event)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (30, 12)
    zeros = chat(prompt_tokens=0, completion_tokens=0, total_tokens=0)
    for order in ((event, zeros), (zeros, event), (event, chat(prompt_tokens=7, completion_tokens=3))):
        assert (said(*order).input_tokens, said(*order).output_tokens) == (30, 12)


COUNTS = st.none() | st.integers(0, MOST_TOKENS)
USAGES = st.builds(
    Usage, input_tokens=COUNTS, output_tokens=COUNTS, cached_tokens=COUNTS, cache_write_tokens=COUNTS,
    reasoning_tokens=COUNTS, thought_bytes=st.integers(0, 10**6),
)  # fmt: skip
NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "reasoning_tokens",
     "cached_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "promptTokenCount", "thoughtsTokenCount",
     "candidatesTokenCount", "totalTokenCount", "prompt_eval_count", "eval_count", "prompt_n", "cache_n", "predicted_n",
     "completion_tokens_details", "prompt_tokens_details", "usage", "timings", "choices", "delta", "message", "response"]
)  # fmt: skip
ODD = (
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=4) | st.just("12")
    | st.integers(0, 5000)
)  # fmt: skip
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=20
)


@given(st.lists(st.dictionaries(NAMES, JSON, max_size=6), max_size=4))
def test_nothing_that_comes_from_outside_crashes_and_what_is_believed_is_possible(events: list[Fields]) -> None:
    usage = said(*events)
    for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"):
        value = getattr(usage, name)
        assert value is None or (type(value) is int and 0 <= value <= 3 * MOST_TOKENS)
    assert usage.input_tokens != 0
    if usage.input_tokens is not None and usage.cached_tokens is not None:
        assert usage.cached_tokens <= usage.input_tokens
    if usage.reasoning_tokens is not None:
        assert usage.output_tokens is not None
        assert usage.reasoning_tokens <= usage.output_tokens


@given(st.dictionaries(NAMES, JSON, max_size=6), st.lists(st.dictionaries(NAMES, JSON, max_size=6), max_size=3))
def test_a_later_word_takes_nothing_back(first: Fields, later: list[Fields]) -> None:
    before, after = said(first), said(first, *later)
    for name in ("input_tokens", "output_tokens"):
        known = getattr(before, name)
        assert known is None or getattr(after, name) >= known


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.booleans())
def test_reasoning_is_counted_once_wherever_it_stands(read: int, shown: int, thought: int, beside: bool) -> None:
    block = {
        "prompt_tokens": read, "completion_tokens": shown if beside else shown + thought,
        "total_tokens": read + shown + thought, "completion_tokens_details": {"reasoning_tokens": thought},
    }  # fmt: skip
    usage = usage_of(block)
    assert (usage.input_tokens, usage.output_tokens) == (read, shown + thought)


@given(USAGES, USAGES)
def test_the_higher_of_two_is_none_lower(one: Usage, two: Usage) -> None:
    assert higher(one, two) == higher(two, one)
    assert higher(one, one) == one
    assert higher(None, one) == one


def test_several_requests_are_unknown_as_soon_as_one_does_not_tell() -> None:
    told = Usage(input_tokens=3, output_tokens=4, thought_bytes=8)
    assert added(None, told) == told
    assert added(told, told) == Usage(input_tokens=6, output_tokens=8, thought_bytes=16)
    assert added(told, Usage(input_tokens=3)) == Usage(input_tokens=6, thought_bytes=8)
    assert added(told, None).input_tokens is None


@pytest.mark.parametrize(
    "odd", [-1, 1.5, math.nan, math.inf, 10**30, 1e30, True, "-1", "1.5", "12 tokens", None, [], {}]
)
def test_what_is_no_count_was_not_told(odd: object) -> None:
    assert tokens(odd) is None
    usage = usage_of({"prompt_tokens": odd, "completion_tokens": odd, "total_tokens": odd})
    assert (usage.input_tokens, usage.output_tokens) == (None, None)


def test_a_whole_number_is_a_count_however_it_is_written() -> None:
    assert (tokens(12.0), tokens("12"), tokens(0), tokens(MOST_TOKENS)) == (12, 12, 0, MOST_TOKENS)


# Thoughts, as each protocol says them.


def events(*fields: Fields) -> list[bytes]:
    return [msgspec.json.encode(one) for one in fields]


def choice(**delta: Any) -> Fields:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def folded(fold: Any, *fields: Fields) -> Answer:
    for event in events(*fields):
        fold.take(event)
    return fold.answer()


@pytest.mark.parametrize(
    ("fold", "fields"),
    [
        (Completion("m"), [choice(reasoning_content="thinks"), choice(reasoning_content="é" * 3), choice(content="x"), STOP]),
        (Completion("m"), [choice(reasoning="thinks", reasoning_content="thinks"), choice(reasoning="é" * 3), STOP]),
        (Completion("m"), [{"choices": [{"message": {"content": "x", "reasoning": "thinksééé"}, "finish_reason": "stop"}]}]),
        (
            MessageFold("m"),
            [{"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
             {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "thinks"}},
             {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "ééé"}},
             {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}],
        ),
        (
            MessageFold("m"),
            [{"type": "message", "stop_reason": "end_turn", "content": [{"type": "thinking", "thinking": "thinksééé"}]}],
        ),
        (
            GenerateFold("m"),
            [{"candidates": [{"content": {"parts": [{"text": "thinksééé", "thought": True}, {"text": "x"}]},
                              "finishReason": "STOP"}]}],
        ),
        (ChatFold("m"), [{"message": {"thinking": "thinks"}}, {"message": {"thinking": "ééé"}}, {"done": True}]),
        (
            Response("m"),
            [{"type": "response.reasoning_text.delta", "delta": "thinksééé"},
             {"type": "response.completed", "response": {"status": "completed", "output": [
                 {"type": "reasoning", "summary": [{"type": "summary_text", "text": "thinksééé"}]}]}}],
        ),
    ],
)  # fmt: skip
def test_thoughts_are_measured_once(fold: Any, fields: list[Fields]) -> None:
    assert folded(fold, *fields).usage.thought_bytes == len("thinksééé".encode())


_COUNTS = {"prompt_tokens": 5, "completion_tokens": 6}
_SAID = st.sampled_from([None, 7, "words", _COUNTS, {"thinking": "hm"}, [{"text": "x"}]])
_NAMES = sorted(
    usages.PIECE | {"usage", "timings", "message", "x_groq", "eval_count", "type", "candidates", "output", "response"}
)
_CHOICE_NAMES = sorted(usages.PIECE_CHOICE | {"usage", "message", "timings"})
_DELTA_NAMES = sorted(usages.PIECE_DELTA | {"usage", "reasoning", "reasoning_content", "thinking"})


@given(
    st.dictionaries(st.sampled_from(_NAMES), _SAID),
    st.lists(st.dictionaries(st.sampled_from(_CHOICE_NAMES), _SAID), max_size=2),
    st.dictionaries(st.sampled_from(_DELTA_NAMES), _SAID),
)
def test_what_is_known_at_a_glance_to_be_a_piece_tells_nothing(
    fields: Fields, choices: list[Fields], delta: Fields
) -> None:
    event = {**fields, "choices": [{**choice, "delta": delta} for choice in choices]}
    if usages.is_piece(event):
        assert list(usages.blocks_in(event)) == []
