"""The most tokens that a submission can give to read."""

from __future__ import annotations

import base64
import json
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.bound import bound_of, escaped, rendered, widest
from messages import Bound, Input, JobSubmit

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather, don't ask twice <fast> & „still“",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "enum": ["Köln", "Łódź", "東京"]}, "days": {"type": "integer"}},
            "required": ["place"],
        },
    },
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def bound(**fields: Any) -> Bound:
    return bound_of(JobSubmit(**fields))


def size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("", 0),
        ("hello", 5),
        ("ሰላም", 9),
        ("\ufdfa", 33),
        ("\u0958", 6),
        ("①", 3),
        ("\u0390", 6),
        ("한국", 6),
        ("\U0001d160", 12),
    ],
)
def test_the_longest_form_of_a_text(text: str, most: int) -> None:
    assert widest(text) == most


@given(st.text(st.characters(exclude_categories=[])))
def test_no_form_that_tokenizers_read_is_longer(text: str) -> None:
    most = widest(text)
    for form in ("NFC", "NFKC"):
        made = unicodedata.normalize(form, text)
        assert size(made) <= most
        assert size(made.lower()) <= most
    apart = unicodedata.normalize("NFKD", text).casefold()
    assert sum(unicodedata.category(one) != "Mn" for one in apart) <= most


def test_that_holds_for_every_character() -> None:
    wrong: list[str] = []
    for code in range(sys.maxunicode + 1):
        one = chr(code)
        most = widest(one)
        if most > 4 or code < 0x3000:  # The others are checked by their forms being themselves.
            forms = [unicodedata.normalize("NFC", one), unicodedata.normalize("NFKC", one), one.casefold()]
            wrong += [hex(code)] if max(map(size, forms)) > most else []
    assert not wrong


@given(st.text(), st.text())
def test_at_a_seam_less_than_the_margin_is_added(one: str, other: str) -> None:
    for form in ("NFC", "NFKC"):
        apart = size(unicodedata.normalize(form, one)) + size(unicodedata.normalize(form, other))
        assert size(unicodedata.normalize(form, one + other)) <= apart + 6


@given(VALUES)
def test_a_value_is_bounded_however_it_is_written(value: Any) -> None:
    most = rendered(value)
    for ascii_only in (True, False):
        for indent in (None, 2, 4):
            written = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
            assert size(written) <= most
    assert size(repr(value)) <= most, "as Python writes it"


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_tags_around_fields_are_bounded(fields: dict[str, str]) -> None:
    written = "".join(f"\n<{name}>{value}</{name}>" for name, value in fields.items())
    assert size(written) <= rendered(fields)


@given(st.text())
def test_signs_that_some_servers_escape_are_bounded(text: str) -> None:
    written = json.dumps(text)
    for sign in "<>&'\x7f":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    assert size(written) <= escaped(text)


def test_a_prompt_is_one_message() -> None:
    assert bound(prompt="hello") == Bound(tokens=5 + 8, messages=1)
    assert bound(prompt="hello", system="hi").messages == 2


def test_parts_tools_schema_and_style_are_in_it() -> None:
    plain = bound(prompt="hello")
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    for more in ({"tools": (TOOL,)}, {"response_format": schema}):
        assert bound(prompt="hello", **more).tools
        assert bound(prompt="hello", **more).tokens >= plain.tokens + len(
            json.dumps(next(iter(more.values())), indent=4)
        )
    assert bound(prompt="hello", style="dark").tokens >= plain.tokens + 4
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://a/b.png"}}]
    assert bound(messages=({"role": "user", "content": parts},)).images == 1


def test_calls_of_tools_are_bounded_as_text_and_taken_apart() -> None:
    arguments = json.dumps({"place": "Köln", "days": [1, 2, 3]})
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    apart = {**call, "function": {"name": "weather", "arguments": json.loads(arguments)}}
    found = bound(messages=({"role": "assistant", "content": None, "tool_calls": [call]},)).tokens
    for written in (json.dumps([call]), json.dumps([apart], indent=4)):
        assert found >= len(written)


def test_the_answer_of_a_tool_may_be_written_as_json() -> None:
    answer = '{"weather": "Köln: 12°"}\n' * 5
    found = bound(messages=({"role": "tool", "tool_call_id": "call_1", "content": answer},))
    assert found.tokens >= len(json.dumps(answer)) + len("call_1")


def test_a_sound_is_bounded_by_its_bytes_and_a_file_elsewhere_by_nothing() -> None:
    data = base64.b64encode(bytes(16_000)).decode()
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    found = bound(messages=({"role": "user", "content": [sound]},))
    assert (found.unbounded, found.tokens >= 16_000 // 8) == ("", True)
    kept = (Input(name="voice", media_type="audio/wav", key="acme/voice"),)
    assert bound(prompt="hello", inputs=kept).unbounded == "a file (audio/wav)"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"messages": ({"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://a/b"}}]},)},
         "a part of the kind video_url"),
        ({"messages": ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f-1"}}]},)}, "a part of the kind file"),
        ({"prompt": "x", "tools": ({"type": "web_search"},)}, "the server's tool web_search"),
    ],
)  # fmt: skip
def test_what_bytes_do_not_bound_is_named(fields: dict[str, Any], why: str) -> None:
    assert bound(**fields).unbounded == why


def test_texts_to_embed_have_marks_of_their_own() -> None:
    assert bound(texts=("a", "b", "c"), asset="embedding") == Bound(tokens=3 + 2 + 3 * 8, messages=3)


@given(st.text(max_size=60), st.text(max_size=20))
def test_more_is_never_less(text: str, more: str) -> None:
    assert bound(prompt=text or "x").tokens <= bound(prompt=(text or "x") + more).tokens + 6
