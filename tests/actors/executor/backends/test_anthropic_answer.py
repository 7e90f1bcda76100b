from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.anthropic_answer import MessageFold
from actors.executor.backends.port import Answer, BackendError, Usage
from actors.executor.backends.usage import usage_of
from tests.fakes.anthropic import block, end, event, start, text

COUNTS = st.none() | st.integers(0, 10**9)
NAMES = st.sampled_from(
    ["type", "index", "delta", "message", "content_block", "content", "usage", "error", "text", "id"]
)
WORDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "message", "error",
     "text", "tool_use", "text_delta", "input_json_delta", "ping", "?"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)

FIELDS = ("index", "delta", "content_block", "message", "usage", "content", "error")
EVENTS = st.fixed_dictionaries({"type": WORDS}, optional=dict.fromkeys(FIELDS, JSON))


def data_of(piece: bytes) -> bytes:
    return piece.partition(b"data: ")[2]


def folded(*pieces: bytes) -> Answer:
    fold = MessageFold("asked-for")
    for piece in pieces:
        fold.take(data_of(piece))
    return fold.answer()


@given(st.lists(JSON | EVENTS, max_size=6))
def test_whatever_comes_only_a_backend_error_is_raised(events: list[Any]) -> None:
    fold = MessageFold("m")
    told = ""
    with contextlib.suppress(BackendError):
        for one in events:
            told += fold.take(msgspec.json.encode(one))
        answer = fold.answer()
        assert answer.text == told
        assert all(isinstance(call["function"]["arguments"], str) for call in answer.tool_calls)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_adds_both_cache_numbers(
    fresh: int | None, read: int | None, written: int | None, out: int | None
) -> None:
    usage = usage_of(
        {"input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": written,
         "output_tokens": out}
    )  # fmt: skip
    assert usage.input_tokens == (None if fresh is None else fresh + (read or 0) + (written or 0) or None)
    assert usage.output_tokens == out
    if usage.input_tokens is not None:
        assert (usage.cached_tokens, usage.cache_write_tokens) == (read, written)
    assert usage.reasoning_tokens is None


def test_totals_so_far_are_not_added() -> None:
    answer = folded(
        start({"input_tokens": 5, "output_tokens": 1}),
        *text(0, "a"),
        event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 20}),
        *end(usage={"output_tokens": 30, "input_tokens": 6}),
    )
    assert answer.usage == Usage(input_tokens=6, output_tokens=30)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", ""),
    ],
)
def test_stop_reasons(said: str, reason: str) -> None:
    assert folded(start(), *text(0, "a"), *end(said)).finish_reason == reason


def test_a_tool_without_input_has_an_empty_object() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    answer = folded(start(), *block(0, use), *end("tool_use"))
    assert answer.tool_calls == ({"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}},)


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([start(), *text(0, "half")], "cut_stream"),
        ([], "cut_stream"),
        ([start(), b"data: []"], "invalid_structure"),
        ([start(), b'data: {"no": "type"}'], "invalid_structure"),
        ([start(), event("content_block_delta", index=0)], "invalid_structure"),
        ([start(), event("content_block_delta", delta={"type": "text_delta", "text": "a"})], "invalid_structure"),
        (
            [start(), event("content_block_delta", index=0, delta={"type": "text_delta", "text": 5})],
            "invalid_structure",
        ),
        ([event("message_start", message=5)], "invalid_structure"),
        ([event("message", content=5)], "invalid_structure"),
    ],
)
def test_broken_streams(pieces: list[bytes], kind: str) -> None:
    with pytest.raises(BackendError) as caught:
        folded(*pieces)
    assert (caught.value.kind, caught.value.status) == (kind, 200)


def test_a_stop_reason_without_message_stop_is_enough() -> None:
    answer = folded(start(), *text(0, "all"), *end()[:1])
    assert (answer.text, answer.finish_reason, answer.model) == ("all", "stop", "claude-sonnet-5-5")


def test_no_secret_shows() -> None:
    fold = MessageFold("m", secrets=("hush",))
    fold.take(b'["hush"]')
    with pytest.raises(BackendError) as caught:
        fold.answer()
    assert "hush" not in caught.value.body + caught.value.message
