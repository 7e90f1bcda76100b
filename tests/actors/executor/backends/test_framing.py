from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.framing import Framed
from actors.executor.backends.sse import Event, LineTooLong


def events_of(data: bytes, cuts: list[int]) -> tuple[list[Event], Framed]:
    framed = Framed()
    found: list[Event] = []
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        found += framed.feed(data[start:end])
    return [*found, *framed.close()], framed


CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@given(CUTS)
def test_forms_are_told_by_their_first_bytes(cuts: list[int]) -> None:
    assert events_of(b'\n data: {"a": 1}\n\ndata: [DONE]\n\n', cuts)[0] == [
        Event("", b'{"a": 1}'),
        Event("", b"[DONE]"),
    ]
    assert events_of(b'event: error\ndata: {"a": 1}', cuts)[0] == [Event("error", b'{"a": 1}')]
    assert events_of(b'\xef\xbb\xbf \n{"a":\n 1}', cuts)[0] == [Event("", b'{"a":\n 1}')]
    assert events_of(b'[{"a": 1}, {"b": 2}]', cuts)[0] == [Event("", b'{"a": 1}'), Event("", b'{"b": 2}')]
    for notes in (b": ping\n\n: ping\r\n\n", b"\n\n:\n"):
        assert events_of(notes + b'{"a": 1}', cuts)[0] == [Event("", b'{"a": 1}')], "case 01"
        assert events_of(notes + b'data: {"a": 1}\n\n', cuts)[0] == [Event("", b'{"a": 1}')]
    assert events_of('[{"a": 1}]'.encode("utf-16"), cuts)[0] == [Event("", b'{"a": 1}')], "case 06"
    for picture in (b"\x89PNG\r\n\x1a\n\n\n", b"\xff\xd8\xff\n\ndata: x", b"\0\0\0\x1cftypavif\n", b"GIF89a\n\n\n"):
        assert events_of(picture, cuts)[0] == [Event("", picture)], "case 22"
    found, framed = events_of(b"<html>no</html>", cuts)
    assert (found, framed.form, framed.is_text()) == ([], "page", False)
    found, framed = events_of(b"upstream is gone", cuts)
    assert (found, framed.is_text(), framed.head) == ([], True, b"upstream is gone")


@given(st.binary(), CUTS)
def test_any_bytes_may_come_and_cuts_do_not_matter(data: bytes, cuts: list[int]) -> None:
    assert events_of(data, cuts)[0] == events_of(data, [])[0]


def test_nothing_is_nothing() -> None:
    for data in (b"", b" \r\n\n"):
        found, framed = events_of(data, [1])
        assert (found, framed.form, framed.any, framed.is_text()) == ([], "", False, False)
    found, framed = events_of(b": ping\n\n: ping\n\n", [3])
    assert (found, framed.any, framed.is_text()) == ([], False, False), "comments are no words of an error"


def test_an_event_has_a_limit() -> None:
    with pytest.raises(LineTooLong):
        Framed(10).feed(b"data: 0123456789012345\n\n")
