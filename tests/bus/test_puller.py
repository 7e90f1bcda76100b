"""What an acknowledgement subject says, in both of its forms. The rest of the puller is for the contract and the twin."""

import asyncio
from typing import Any

import pytest

from bus.puller import PulledDelivery
from bus.wire import Frame, encode_headers

OLD = b"$JS.ACK.EV.router.3.17.9.1767225600500000000.4"
NEW = b"$JS.ACK.hub.ACCOUNT.EV.router.3.17.9.1767225600500000000.4.rAnDoM"


class Mouth:
    def __init__(self) -> None:
        self.said: list[tuple[bytes, bytes]] = []

    def send_later(self, subject: bytes, data: bytes) -> None:
        self.said.append((subject, data))


def delivery(reply: bytes, head: bytes = b"") -> tuple[PulledDelivery, Mouth]:
    mouth: Any = Mouth()
    return PulledDelivery(mouth, Frame(b"ev.decided.a", reply, b"{}", head)), mouth


@pytest.mark.parametrize("reply", [OLD, NEW])
def test_both_forms_say_the_same(reply):
    made, _ = delivery(reply)
    assert (made.stream, made.deliveries, made.seq, made.time) == ("EV", 3, 17, 1_767_225_600.5)
    assert (made.subject, made.data, made.headers) == ("ev.decided.a", b"{}", {})


def test_headers_are_read_when_asked_for():
    made, _ = delivery(OLD, encode_headers({"A": "b"}))
    assert made.headers == {"A": "b"}
    assert made.headers is made.headers


async def _answers(made: PulledDelivery) -> None:
    await made.ack()
    await made.nak()
    await made.nak(0.25)
    await made.in_progress()
    made.give_back()


def test_the_exact_words_of_the_answers():
    made, mouth = delivery(OLD)
    asyncio.run(_answers(made))
    assert mouth.said == [(OLD, word) for word in (b"+ACK", b"-NAK", b'-NAK {"delay": 250000000}', b"+WPI", b"-NAK")]
