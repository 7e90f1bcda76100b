"""The protocol's bytes: the parser takes any cut of the stream, headers survive the trip, and nothing breaks out."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from bus import wire
from bus.bus import BusError
from bus.wire import Frame, HeaderBlock, Parser, decode_headers, encode_headers, publication


class Listener:
    """Writes down what the parser finds, in order."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.parser = Parser(self)
        self.reset_at = b""

    def deliver(self, sid: int, frame: Frame) -> None:
        self.heard.append((sid, frame))

    async def obey(self, line: bytes) -> None:
        self.heard.append(line)
        if line == self.reset_at:
            self.parser.reset()


def heard(*pieces: bytes, reset_at: bytes = b"") -> list[Any]:
    listener = Listener()
    listener.reset_at = reset_at

    async def feed() -> None:
        for piece in pieces:
            await listener.parser.parse(piece)

    asyncio.run(feed())
    return listener.heard


words = st.text("abcXYZ019.$*>_-", min_size=1, max_size=12).map(str.encode)
bodies = st.binary(max_size=40) | st.sampled_from([b"", b"\r\n", b"PING\r\n", b"MSG a 1 3\r\nabc\r\n", b"\r"])
names = st.text("abcXYZ-_09", min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=33, exclude_categories=["C", "Z"]), max_size=12)
heads = st.dictionaries(names, values, max_size=3).map(encode_headers)
sids = st.integers(min_value=1, max_value=10**6)


@st.composite
def messages(draw) -> tuple[bytes, tuple[int, Frame]]:
    sid, subject, reply, data = draw(sids), draw(words), draw(st.just(b"") | words), draw(bodies)
    head = draw(st.just(b"") | heads)
    start = b" ".join(filter(None, (b"HMSG" if head else b"MSG", subject, str(sid).encode(), reply)))
    sizes = f"{len(head)} {len(head) + len(data)}" if head else f"{len(data)}"
    return b"%s %s\r\n%s%s\r\n" % (start, sizes.encode(), head, data), (sid, Frame(subject, reply, data, head))


lines = st.sampled_from([b"PING", b"PONG", b"+OK", b"-ERR 'Stale Connection'", b'INFO {"max_payload":1}']).map(
    lambda line: (line + b"\r\n", line)
)


@st.composite
def cut_streams(draw) -> tuple[list[bytes], list[Any]]:
    """A stream, cut anywhere, and what is in it."""
    parts: list[tuple[bytes, Any]] = draw(st.lists(messages() | lines, min_size=1, max_size=6))
    stream = b"".join(data for data, _ in parts)
    places = sorted(draw(st.lists(st.integers(min_value=0, max_value=len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    return pieces, [found for _, found in parts]


@given(cut_streams())
def test_any_cut_of_the_stream_gives_the_same_frames(cut):
    pieces, expected = cut
    assert heard(*pieces) == expected


@given(st.lists(messages() | lines, min_size=1, max_size=3))
def test_byte_by_byte_gives_the_same_frames(parts):
    stream = b"".join(data for data, _ in parts)
    assert heard(*(stream[i : i + 1] for i in range(len(stream)))) == [found for _, found in parts]


@given(messages(), st.data())
def test_a_message_is_heard_only_when_it_is_whole(message, data):
    raw, _ = message
    place = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))
    assert heard(raw[:place]) == []


def test_what_was_begun_is_forgotten_on_a_reset():
    listener = Listener()

    async def feed() -> None:
        await listener.parser.parse(b"MSG a 1 5\r\nab")
        listener.parser.reset()
        await listener.parser.parse(b"PONG\r\n")

    asyncio.run(feed())
    assert listener.heard == [b"PONG"]


def test_after_a_reset_in_the_middle_nothing_of_the_old_connection_is_heard():
    assert heard(b"-ERR 'gone'\r\nMSG a 1 1\r\nx\r\nPI", b"PONG\r\n", reset_at=b"-ERR 'gone'") == [
        b"-ERR 'gone'",
        b"PONG",
    ]


def test_an_endless_line_is_an_error():
    with pytest.raises(ProtocolError):
        heard(b"x" * (wire._LINE_LIMIT + 1))
    assert heard(b"x" * wire._LINE_LIMIT) == []


@pytest.mark.parametrize(
    "line",
    [b"MSG", b"MSG a 1", b"MSG a 1 x", b"MSG a b 1", b"HMSG a 1 12", b"HMSG a 1 x 12", b"MSG a 1 -5", b"MSG a 1 r e 1",
     b"MSG  1 1", b"HMSG a 1 9 3", b"HMSG a 1 -1 3", b"MANY a 1 1", b"HELLO"],
)  # fmt: skip
def test_a_malformed_message_line_is_a_protocol_error(line):
    with pytest.raises(ProtocolError):
        heard(line + b"\r\n" + b"0123456789abcdef\r\n")


def test_a_body_that_does_not_end_where_it_should_is_a_protocol_error():
    with pytest.raises(ProtocolError):
        heard(b"MSG a 1 3\r\nabcdefgh\r\n")


# ------------------------------------------------------------------------------------------------- headers


@given(st.dictionaries(names, values, max_size=6))
def test_headers_survive_the_trip(headers):
    assert decode_headers(encode_headers(headers)) == headers


@given(st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_no_value_breaks_out_of_its_line(headers):
    head = encode_headers(headers)
    assert head.startswith(b"NATS/1.0\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert (head.count(b"\r"), head.count(b"\n")) == (len(headers) + 2, len(headers) + 2)
    assert set(decode_headers(head)) == set(headers)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "a\n", "é", "(a)"])
def test_a_name_that_cannot_be_a_header_is_refused(name):
    with pytest.raises(BusError, match="can't be the name of a header"):
        encode_headers({"good": "x", name: "y"})


@pytest.mark.parametrize("value", ["a\r\nEvil: yes", "a\nEvil: yes", "a\rEvil: yes", "a\n\nb", "\r\n"])
def test_a_value_of_several_lines_becomes_one(value):
    head = encode_headers({"A": value, "B": "b"})
    assert decode_headers(head) == {"A": " ".join(value.splitlines()).strip(), "B": "b"}


def test_the_exact_bytes_of_headers():
    assert (
        encode_headers({"Nats-Msg-Id": "a/1", "x": "é: b"}) == b"NATS/1.0\r\nNats-Msg-Id: a/1\r\nx: \xc3\xa9: b\r\n\r\n"
    )
    assert decode_headers(b"") == {}
    assert decode_headers(b"NATS/1.0 100 Idle Heartbeat\r\nA:b\r\nC:  d \r\nno colon\r\n\r\n") == {"A": "b", "C": "d"}
    assert decode_headers(b"NATS/1.0\r\nA: \xff\r\n\r\n") == {"A": "\ufffd"}


@given(
    st.builds(
        lambda noise, end: b"NATS/1.0\r\nA:b\r\n" + noise + end,
        st.binary(max_size=60) | st.sampled_from([b"A: c", b"B:d\r\nA: e", b"A:"]),
        st.sampled_from([b"\r\n\r\n", b"\r\n", b""]),
    )
)
def test_one_header_is_found_as_if_all_were_read(head):
    block, headers = HeaderBlock(head), decode_headers(head)
    assert block == headers
    assert list(block) == list(headers)
    assert len(block) == len(headers)
    for name, value in headers.items():
        assert block[name] == block.get(name) == value
        assert name in block


def test_of_several_headers_with_one_name_the_last_one_counts():
    head = b"NATS/1.0 100 A: no\r\nA:  b \r\nAB: c\r\nA: d\r\n\r\n"
    assert HeaderBlock(head) == decode_headers(head) == {"A": "d", "AB": "c"}
    assert (HeaderBlock(head)["A"], HeaderBlock(head).get("B"), HeaderBlock(head).get("B", "x")) == ("d", None, "x")
    assert "B" not in HeaderBlock(head)
    with pytest.raises(KeyError):
        HeaderBlock(head)["B"]
    assert (bool(HeaderBlock(head)), bool(HeaderBlock(b""))) == (True, False)
    assert HeaderBlock(b"") == {}
    assert repr(HeaderBlock(head)) == repr({"A": "d", "AB": "c"})


@pytest.mark.parametrize(
    ("head", "status"),
    [(b"NATS/1.0 503\r\n\r\n", b"503"), (b"NATS/1.0 404 No Messages\r\n\r\n", b"404"),
     (b"NATS/1.0\r\nA: b\r\n\r\n", b""), (b"", b"")],
)  # fmt: skip
def test_only_the_server_itself_has_a_status(head, status):
    assert Frame(b"s", b"", b"", head).status == status


# ------------------------------------------------------------------------------------------- publications


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("a.b", "", b"hi", b""), b"PUB a.b  2\r\nhi\r\n"),
        (("a.b", "_INBOX.1", b"", b""), b"PUB a.b _INBOX.1 0\r\n\r\n"),
        (("a", "", b"\r\n", b""), b"PUB a  2\r\n\r\n\r\n"),
        (("a", "r", b"hi", b"NATS/1.0\r\nA: b\r\n\r\n"), b"HPUB a r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"),
        (("a", "", b"", b"NATS/1.0\r\n\r\n"), b"HPUB a  12 12\r\nNATS/1.0\r\n\r\n\r\n"),
    ],
)
def test_the_exact_bytes_of_a_publication(arguments, expected):
    assert publication(*arguments) == expected


@pytest.mark.parametrize(
    "subject", ["", " ", "a b", ".a", "a.", "a..b", "a\r\nPUB b 0", "a\n", "a\tb", "a\x00", "x" * 2049]
)
def test_what_cannot_be_a_subject_is_refused(subject):
    with pytest.raises(BusError, match="can't be a subject"):
        wire.check_subject(subject)


@pytest.mark.parametrize("subject", ["a", "a.b", "ev.*.é", "a.>", "$JS.API.x", "x" * 2048])
def test_what_can_be_a_subject_is_not(subject):
    wire.check_subject(subject)


@pytest.mark.parametrize("subject", ["a.*", "a.>", "a*b", ">"])
def test_a_pattern_is_no_address(subject):
    with pytest.raises(BusError, match="is a pattern"):
        wire.check_address(subject)
