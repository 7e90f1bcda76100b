import msgspec
import pytest

from actors.console.answer_notes import call_in_words, notes
from messages import Check, Result


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (b'{"function":{"name":"weather","arguments":"{\\"city\\":\\"Ulm\\"}"}}', 'weather({"city":"Ulm"})'),
        (b'{"function":{}}', "?()"),
        (b"{}", "?()"),
        (b"[1]", "[1]"),
    ],
)
def test_a_call_as_code_would_have_it(call: bytes, words: str) -> None:
    assert call_in_words(msgspec.Raw(call)) == words


def test_a_whole_answer_has_nothing_to_be_known() -> None:
    assert notes(Result(text="a", finish_reason="stop", checks=(Check(name="x", verdict="pass"),))) == []


def test_what_a_filter_cut_and_what_checks_tell() -> None:
    result = Result(
        text="a", finish_reason="content_filter", checks=(Check(name="x", verdict="soft_fail", message="y"),)
    )
    assert notes(result) == ["ended by a content filter", "x: y"]
