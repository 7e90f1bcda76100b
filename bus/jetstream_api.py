"""Api: questions to JetStream, asked again until there is an answer, and what the answers look like."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from bus.bus import BusError, BusUnavailable, PayloadTooLarge, Record
from bus.link import Link, LinkDown, NoAnswer, NoResponders
from bus.wire import Frame, check_address, check_subject, decode_headers

TRY_SECONDS = 0.7
LONG_TRY_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
_READ_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.02
_PAUSE_MOST_SECONDS = 0.5
_HOLDER_READS = 20
_BATCH = 256
_BATCH_BYTES = 8 << 20
NANO = 1_000_000_000

# Error codes.
CONSUMER_NOT_FOUND = 10014
STREAM_NAME_IN_USE = 10058
STREAM_NOT_FOUND = 10059
WRONG_LAST_SEQUENCE = (10071, 10164)
STORE_FAILED = 10077
_DISABLED = (10039, 10076)
_NO_RESOURCES = (10023, 10047)
NO_ROOM = 507
"""Our own refusal of what the server can't store now; as HTTP means it."""


SILENT = (
    "the nats-server is there, but stores nothing: its disk is full, or was and the server was not started again since"
)
"""A stream that met a full disk answers no publish at all."""


class ApiError(BusError):
    """JetStream refused something."""

    def __init__(self, what: str, fault: Fault) -> None:
        super().__init__(f"{what}: {fault.description} (JetStream error {fault.err_code})")
        self.code, self.err_code, self.description = fault.code, fault.err_code, fault.description


class Fault(msgspec.Struct):
    """Why JetStream says no."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    @property
    def full(self) -> bool:
        """Whether a limit of the stream was reached."""
        return self.err_code == STORE_FAILED and "maximum" in self.description

    @property
    def queued(self) -> bool:
        """Whether the subject already has its one message."""
        return self.full and "per subject" in self.description

    @property
    def lost(self) -> bool:
        """Whether somebody else wrote first."""
        return self.err_code in WRONG_LAST_SEQUENCE

    @property
    def last_seq(self) -> int | None:
        """The sequence that made the server refuse, where it says so; 0 when the subject is empty."""
        number = re.search(r"wrong last sequence: (\d+)", self.description)
        return int(number[1]) if number else None

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a moment later."""
        if self.err_code == STORE_FAILED:
            return not self.full and self.code != NO_ROOM
        return (self.code >= 500 or self.code == 409) and self.err_code not in _DISABLED


class Answer(msgspec.Struct):
    """Any answer."""

    error: Fault | None = None


class PubAck(Answer):
    """The answer to a publish."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    val: str = ""


class Delivered(msgspec.Struct, frozen=True):
    """How far a consumer has come."""

    consumer_seq: int = 0


class ConsumerInfo(Answer):
    """What a consumer is and does."""

    config: dict[str, Any] = {}
    num_pending: int = 0
    num_ack_pending: int = 0
    delivered: Delivered = Delivered()


class Holding(msgspec.Struct, frozen=True):
    """What a stream holds."""

    last_seq: int = 0


class StreamInfo(Answer):
    """What a stream is; of it, its configuration, how far it has come, and the server's time."""

    config: dict[str, Any] = {}
    state: Holding = Holding()
    ts: datetime | None = None


class StreamNames(Answer):
    """Streams by name."""

    streams: list[str] | None = None


A = TypeVar("A", bound=Answer)
R = TypeVar("R")
_decode_put = msgspec.json.Decoder(PubAck).decode


class Api:
    """JetStream at the other end of a link. What it can't get raises what the link raises, or BusUnavailable."""

    def __init__(
        self, link: Link, streams: dict[str, tuple[str, ...]], *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._link = link
        self._patience = patience_seconds
        self._loop = asyncio.get_running_loop()
        self.streams = streams
        """Subjects of each stream, as far as they are known."""

    async def call(self, subject: str, request: Any, kind: type[A]) -> A:
        """A request of the administrative kind. Raises ApiError."""
        decode = msgspec.json.Decoder(kind).decode
        data = b"" if request is None else msgspec.json.encode(request)

        async def once() -> A:
            return decode((await self._link.ask(f"$JS.API.{subject}", data, timeout=LONG_TRY_SECONDS)).data)

        answer = await self._persist(subject, once)
        if answer.error is not None:
            raise ApiError(subject, answer.error)
        return answer

    async def store(self, subject: str, data: bytes, head: bytes) -> PubAck:
        """Publish until the server has said something about it."""
        link = self._link
        size = len(head) + len(data)
        if size > link.max_payload:
            raise PayloadTooLarge(subject, size, link.max_payload)
        check_address(subject)
        try:  # The usual way: one question, one answer.
            ack = _decode_put((await link.ask(subject, data, head, timeout=TRY_SECONDS)).data)
            if ack.error is None or not ack.error.passing:
                return ack
        except (LinkDown, NoAnswer, NoResponders):
            pass

        async def once() -> PubAck:
            return _decode_put((await link.ask(subject, data, head, timeout=TRY_SECONDS)).data)

        return await self._persist(subject, once, stores=True)

    async def _persist(self, what: str, once: Callable[[], Awaitable[A]], *, stores: bool = False) -> A:
        """Ask again and again until the answer is not a passing trouble. `stores`: what is asked is to store something."""
        end = self._loop.time() + self._patience
        pause = _PAUSE_SECONDS
        while True:
            try:
                await self._link.up(end - self._loop.time())
                answer = await once()
                if answer.error is None or not answer.error.passing:
                    return answer
                trouble = answer.error.description
                if answer.error.err_code in _NO_RESOURCES:
                    trouble += " (its disk is full, or it may use no more of it)"
            except NoAnswer:
                trouble = SILENT if stores and self._link.is_up else "no answer"
            except NoResponders:
                trouble = "nobody is responsible for it (no such stream, or JetStream is still starting)"
            except LinkDown:
                trouble = "not connected"
            if self._loop.time() >= end:
                raise BusUnavailable(f"{what}: {trouble}, for {self._patience:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MOST_SECONDS)

    # Reading

    async def last(self, stream: str, subject: str) -> Record | None:
        """The latest message on a subject."""
        check_subject(subject)
        return await self._direct(stream, {"last_by_subj": subject})

    async def get(self, stream: str, seq: int) -> Record | None:
        """The message with this sequence."""
        return await self._direct(stream, {"seq": seq})

    async def patiently(self, read: Callable[[], Coroutine[Any, Any, Record | None]], least: int) -> Record | None:
        """Read something that must be there. A replica may be behind, so it is asked several times."""
        for n in range(_HOLDER_READS):
            record = await read()
            if record is not None and record.seq >= least:
                return record
            await asyncio.sleep(_PAUSE_SECONDS * (n + 1))
        return None

    async def holder(self, subject: str, fault: Fault) -> Record | None:
        """The message that made the server refuse ours; None when it is gone again."""
        stream = await self._stream_of(subject)
        return await self.patiently(lambda: self.last(stream, subject), fault.last_seq or 0)

    async def _stream_of(self, subject: str) -> str:
        for name, patterns in self.streams.items():
            if any(matches(pattern, subject) for pattern in patterns):
                return name
        found = await self.call("STREAM.NAMES", {"subject": subject}, StreamNames)
        if not found.streams:
            raise BusError(f"no stream keeps {subject}")
        return found.streams[0]

    async def _direct(self, stream: str, request: dict[str, Any]) -> Record | None:
        subject, data = f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request)

        async def once() -> Frame:
            return await self._link.ask(subject, data, timeout=TRY_SECONDS)

        try:  # The usual way: one question, one answer.
            frame = await self._link.ask(subject, data, timeout=TRY_SECONDS)
        except (LinkDown, NoAnswer, NoResponders):
            frame = await self._read_on(once)
        status = frame.status
        if not status:
            return record(frame)[0]
        if status == b"404":
            return None
        raise BusError(f"reading {stream} {request}: {frame.head.decode('utf-8', 'replace').strip()}")

    async def read(self, stream: str, pattern: str, from_seq: int = 1) -> AsyncIterator[Record]:
        """What matches, in order, up to what is there now."""
        left: int | None = None
        while left is None or left > 0:
            records, behind = await self._batch(stream, pattern, max(from_seq, 1))
            if left is None:
                left = len(records) + behind
            for found in records[:left]:
                yield found
            if not records:
                return
            left -= len(records)
            from_seq = records[-1].seq + 1

    async def _batch(self, stream: str, pattern: str, from_seq: int) -> tuple[list[Record], int]:
        """Some records in order, and how many match behind them."""
        subject = f"$JS.API.DIRECT.GET.{stream}"
        data = msgspec.json.encode(
            {"seq": from_seq, "next_by_subj": pattern, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
        )

        async def once() -> tuple[list[Frame], bytes]:
            return await self._link.collect(subject, data, timeout=LONG_TRY_SECONDS)

        frames, status = await self._read_on(once)
        if status not in (b"204", b"404"):
            raise BusError(f"reading {stream} {pattern}: status {status.decode()}")
        found = [record(frame) for frame in frames]
        return [read for read, _ in found], found[-1][1] if found else 0

    async def _read_on(self, once: Callable[[], Awaitable[R]]) -> R:
        """Read again while nobody answers: a server that starts needs a moment."""
        end = self._loop.time() + _READ_PATIENCE_SECONDS
        pause = _PAUSE_SECONDS
        while True:
            try:
                await self._link.up(end - self._loop.time())
                return await once()
            except (LinkDown, NoAnswer, NoResponders):
                if self._loop.time() >= end:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MOST_SECONDS)


_OWN = ("Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending", "Nats-Last-Sequence")


def record(frame: Frame) -> tuple[Record, int]:
    """A directly read message, and how many match behind it."""
    headers = decode_headers(frame.head)
    _, subject, seq, stamp, behind, _ = (headers.pop(name, "") for name in _OWN)
    return Record(subject, int(seq), frame.data, headers, epoch(stamp)), int(behind or 0)


def epoch(stamp: str) -> float:
    """Seconds of an RFC 3339 time with up to nine digits behind the point."""
    whole, point, rest = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + (int(rest.ljust(9, "0")) / NANO if point else 0.0)


def rfc3339(seconds: float) -> str:
    """That time for the server, in microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def matches(pattern: str, subject: str) -> bool:
    """Whether the subject lies under the pattern."""
    have = subject.split(".")
    want = pattern.split(".")
    if want[-1] == ">":
        want = want[:-1]
        if len(have) <= len(want):
            return False
    elif len(have) != len(want):
        return False
    return all(token in ("*", part) for token, part in zip(want, have, strict=False))
