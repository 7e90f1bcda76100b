"""What becomes of a request where something preferred is missing: only what the step names."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.port import Call
from actors.executor.degrade import (
    IMAGE_TOKENS,
    JSON_WANTED,
    degraded,
    describe_style,
    drop_images,
    drop_tools,
    message_tokens,
    plain_text,
    shorten,
)
from messages.policies import Degrade

STEPS: tuple[Degrade, ...] = get_args(Degrade)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SCHEMA = {"type": "object", "required": ["a"]}
FORMATS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
)


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


PARTS = st.lists(st.just(IMAGE) | WORDS.map(lambda text: {"type": "text", "text": text}), max_size=5)
SPOKEN = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "developer", "user", "assistant"]), WORDS | PARTS,
)  # fmt: skip
CALLING = st.builds(
    lambda content, name, arguments: {"role": "assistant", "content": content, "tool_calls": [tool_call(name, arguments)]},
    st.none() | WORDS | PARTS, WORDS, WORDS,
)  # fmt: skip
ANSWERING = st.builds(lambda text: {"role": "tool", "tool_call_id": "c1", "content": text}, WORDS | PARTS)
CONVERSATIONS = st.lists(SPOKEN | CALLING | ANSWERING, min_size=1, max_size=8).map(tuple)
CALLS = st.builds(
    lambda messages, tools, wanted, cap: Call(
        model="m", messages=messages, max_output_tokens=cap, tools=tools, response_format=wanted, context_tokens=5000
    ),
    CONVERSATIONS, st.sampled_from([(), ({"type": "function", "function": {"name": "look"}},)]),
    st.sampled_from(FORMATS), st.integers(1, 300),
)  # fmt: skip


def texts(messages: Any) -> list[str]:
    """All text of a conversation in order, tool calls included."""
    found: list[str] = []
    for message in messages:
        content = message.get("content") or ""
        found += [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
        for call in message.get("tool_calls", ()):
            found += [call["function"]["name"], call["function"]["arguments"]]
    return [text for text in found if text]


def images(messages: Any) -> int:
    contents = [message.get("content") for message in messages]
    return sum(part == IMAGE for content in contents if isinstance(content, list) for part in content)


def follows(wanted: list[str], found: list[str]) -> bool:
    """Whether every wanted text is somewhere in the found ones, in order."""
    whole, at = "\0".join(found), 0
    for text in wanted:
        at = whole.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return True


@given(CALLS, st.lists(st.sampled_from(STEPS), max_size=5), WORDS, st.none() | st.integers(1, 3000))
def test_a_second_time_changes_nothing_and_the_order_of_steps_does_not_matter(
    call: Call, steps: list[Degrade], style: str, context: int | None
) -> None:
    once = degraded(call, steps, style=style, context_tokens=context)
    assert degraded(once, steps, style=style, context_tokens=context) == once
    assert degraded(call, steps[::-1], style=style, context_tokens=context) == once
    assert degraded(call, ()) == call


@given(CALLS, st.sets(st.sampled_from([step for step in STEPS if step != "shorten"])), WORDS)
def test_no_text_is_lost_and_the_order_is_kept(call: Call, steps: set[Degrade], style: str) -> None:
    after = degraded(call, sorted(steps), style=style, context_tokens=1)
    assert follows(texts(call.messages), texts(after.messages))
    assert [message["role"] for message in call.messages if message["role"] != "tool"] == [
        now["role"] for before, now in zip(call.messages, after.messages, strict=False) if before["role"] != "tool"
    ]
    if not steps & {"drop_images", "describe_style"}:
        assert images(after.messages) == images(call.messages)
    if "drop_tools" not in steps:
        assert after.tools == call.tools
    if "plain_text" not in steps:
        assert after.response_format == call.response_format


@given(CONVERSATIONS, WORDS)
def test_images_become_one_text_for_each_message(messages: Any, style: str) -> None:
    for after in (drop_images(messages), describe_style(messages, style)):
        assert images(after) == 0
        for before, now in zip(messages, after, strict=True):
            if images((before,)):
                assert len(texts((now,))) == len(texts((before,))) + 1
            else:
                assert now == before


def test_what_is_left_out_is_said_where_it_was() -> None:
    before, text = {"type": "text", "text": "Like this:"}, {"type": "text", "text": "A cat."}
    one = ({"role": "user", "content": [before, IMAGE, text]},)
    two = ({"role": "user", "content": [IMAGE, before, IMAGE]},)

    def note(words: str) -> dict[str, str]:
        return {"type": "text", "text": words}

    assert drop_images(one)[0]["content"] == [before, note("An image is left out."), text]
    assert drop_images(two)[0]["content"] == [note("2 images are left out."), before]
    assert describe_style(one, "soft light ")[0]["content"] == [
        before, note("The style image is left out. Wanted style: soft light"), text
    ]  # fmt: skip
    assert describe_style(one, " ") == drop_images(one)


def test_tools_are_told_in_words() -> None:
    messages = (
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": None, "tool_calls": [tool_call("weather", '{"at": "Rome"}')]},
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "31 degrees"},
    )
    call = Call(model="m", messages=messages, max_output_tokens=9, tools=({"type": "function"},))
    after = drop_tools(call)
    assert after.tools == ()
    assert after.messages == (
        messages[0],
        {"role": "assistant", "content": 'I called the tool weather with {"at": "Rome"}'},
        {"role": "user", "content": "Answer of the tool weather:\n31 degrees"},
    )


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"type": "text"}, "hi"),
        ({"type": "json_object"}, f"hi\n\n{JSON_WANTED}"),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
            f'hi\n\n{JSON_WANTED} It must fit this JSON schema: {{"type":"object"}}',
        ),
    ],
)
def test_json_is_asked_for_in_words(wanted: dict[str, Any], text: str) -> None:
    messages = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "{"})
    after = plain_text(Call(model="m", messages=messages, max_output_tokens=9, response_format=wanted))
    assert after.response_format is None
    assert after.messages == ({"role": "user", "content": text}, messages[1])


def test_json_is_asked_for_even_when_no_user_speaks() -> None:
    call = Call(model="m", messages=(), max_output_tokens=9, response_format={"type": "json_object"})
    assert plain_text(call).messages == ({"role": "user", "content": JSON_WANTED},)


@given(CALLS, st.integers(1, 3000))
def test_shortened_the_newest_stay_and_what_stays_is_whole(call: Call, context: int) -> None:
    after = shorten(call, context)
    kept, before = list(after.messages), list(call.messages)
    assert kept[-1] is before[-1]
    rest = iter(before)
    assert all(any(message is one for one in rest) for message in kept), "what stays is untouched and in order"
    instructions = [message for message in before if message["role"] in ("system", "developer")]
    assert [message for message in kept if message["role"] in ("system", "developer")] == instructions
    tail = 1
    while tail < len(before) and before[-tail]["role"] == "tool":
        tail += 1
    assert kept[-tail:] == before[-tail:], "the last one stays, with the call that it answers"
    others = [message for message in before[:-tail] if message not in instructions]
    left = [message for message in kept[:-tail] if message not in instructions]
    assert left == others[len(others) - len(left) :], "the oldest go first"
    room = context - call.max_output_tokens - len(msgspec.json.encode(call.tools)) // 3
    if sum(map(message_tokens, kept)) > room:
        assert not left, "only when nothing else can go it stays too long"
    if len(kept) < len(before):
        assert after.context_tokens <= context
        assert not left or left[0]["role"] != "tool", "no answer without its call"
    else:
        assert after == call


def test_what_fits_is_left_alone_and_what_does_not_loses_its_oldest() -> None:
    system, old, new = ({"role": role, "content": "x" * 270} for role in ("system", "user", "user"))
    call = Call(model="m", messages=(system, old, new), max_output_tokens=100, context_tokens=900)
    size = sum(map(message_tokens, call.messages))
    assert 300 <= size <= 330
    assert shorten(call, size + 100) == call
    after = shorten(call, size + 99)
    assert after.messages == (system, new)
    assert after.context_tokens == size + 99
    assert shorten(call, 1).messages == (system, new)


def test_an_image_weighs_the_same_however_large_its_data_are() -> None:
    small = {"role": "user", "content": [IMAGE]}
    large = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:," + "A" * 99_999}}]}
    assert message_tokens(small) == message_tokens(large)
    assert IMAGE_TOKENS < message_tokens(small) < IMAGE_TOKENS + 20


@given(WORDS, WORDS)
def test_more_text_never_weighs_less(text: str, more: str) -> None:
    assert message_tokens({"role": "user", "content": text}) <= message_tokens({"role": "user", "content": text + more})
