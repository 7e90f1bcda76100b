import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.sse import Event, Events, LineEvents, Lines, LineTooLong


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def events_of(pieces: list[bytes]) -> list[Event]:
    decoder = Events()
    found = [event for piece in pieces for event in decoder.feed(piece)]
    rest = decoder.close()
    return [*found, rest] if rest else found


STREAMS = st.lists(
    st.sampled_from(
        [b"data: ", b"data:", b"event: x", b":", b"\n", b"\r", b"\r\n", b"\n\n", b"a", b'{"b": 1}', b"\xc3\xa9"]
    )
).map(b"".join)
PLACES = st.lists(st.integers(0, 1000), max_size=8)


@given(STREAMS, PLACES)
def test_cutting_a_stream_changes_no_line(data: bytes, places: list[int]) -> None:
    lines = Lines()
    found = [line for piece in cut(data, places) for line in lines.feed(piece)]
    rest = lines.close()
    assert [*found, *([rest] if rest else [])] == data.splitlines()
    assert lines.close() == b""


@given(STREAMS, PLACES)
def test_cutting_a_stream_changes_no_event(data: bytes, places: list[int]) -> None:
    assert events_of(cut(data, places)) == events_of([data])


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1)),
    st.sampled_from(["\n", "\r\n", "\r"]),
    PLACES,
)
def test_what_was_written_is_read(texts: list[str], end: str, places: list[int]) -> None:
    stream = "".join(f": note{end}data: {text}{end}id: 1{end}{end}" for text in texts).encode()
    # An event of blanks alone says nothing.
    assert events_of(cut(stream, places)) == [Event("", data) for text in texts if (data := text.encode()).strip()]


def test_data_lines_are_joined_and_the_name_is_kept() -> None:
    assert events_of([b"\xef\xbb\xbfevent: delta\ndata: a\ndata:b\ndata\n\ndata: c\n\n"]) == [
        Event("delta", b"a\nb\n"),
        Event("", b"c"),
    ]


def test_comments_and_empty_events_are_dropped() -> None:
    assert events_of([b": keep-alive\n\nevent: ping\n\nretry: 5\n\n"]) == []


def test_an_event_without_its_blank_line_is_kept_for_the_end() -> None:
    decoder = Events()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.close() == Event("", b"a")
    assert decoder.close() is None


def test_endless_lines_and_events_are_refused() -> None:
    lines = Lines(limit_bytes=10)
    lines.feed(b"1234567890")
    with pytest.raises(LineTooLong, match="10 bytes"):
        lines.feed(b"x")
    events = Events(limit_bytes=10)
    events.feed(b"data: 12345\n")
    with pytest.raises(LineTooLong, match="10 bytes"):
        events.feed(b"data: 678901\n")


@given(PLACES, st.sampled_from([b"", b"data:", b"data: data: "]), st.sampled_from([b"\n", b"\r\n"]))
def test_events_without_blank_lines_between_them_are_told_apart(places: list[int], again: bytes, end: bytes) -> None:
    """Case 01: an object that has ended is not gone on with; one that has not is."""
    whole = [b'{"a": 1}', b'{"b":', b"2}", b"[DONE]"]
    stream = b"".join(b"data: " + (again if line[:1] == b"{" else b"") + line + end for line in whole) + end
    assert events_of(cut(stream, places)) == [Event("", b'{"a": 1}'), Event("", b'{"b":\n2}'), Event("", b"[DONE]")]


def test_a_name_belongs_to_the_event_around_it() -> None:
    assert events_of([b'event: x\ndata: {"a": 1}\nevent: y\ndata: {"b": 2}\n\n']) == [
        Event("x", b'{"a": 1}'),
        Event("y", b'{"b": 2}'),
    ]
    assert events_of([b"data: a\nevent: late\n\ndata: b\n\n"]) == [Event("late", b"a"), Event("", b"b")]


@given(PLACES)
def test_lines_are_taken_out_of_server_sent_events(places: list[int]) -> None:
    """Case 02."""
    decoder = LineEvents()
    stream = b': ping\nevent: x\ndata: {"a": 1}\n\ndata:{"b": 2}\n\n{"c": 3}\ndata: data: {"d": 4}'
    found = [event.data for piece in cut(stream, places) for event in decoder.feed(piece)]
    rest = decoder.close()
    assert [*found, rest.data if rest else b""] == [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}', b'{"d": 4}']
