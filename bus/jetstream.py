"""JetStreamBus: the Bus contract on a NATS JetStream server.

Every publish carries a message id and is repeated until the server has answered, so a restart of the server shows as a
delay. nats-py's own JetStream code is not used: it parses slowly and its waiting pulls don't survive restarts.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

import msgspec

from bus import objects
from bus.bus import (
    BusClosed,
    BusError,
    BusUnavailable,
    Conflict,
    Consuming,
    Headers,
    Kept,
    Object,
    OnDeliveries,
    OnDelivery,
    OnFact,
    OnSignal,
    PayloadTooLarge,
    Pieces,
    Put,
    QueueFull,
    QueueState,
    Record,
    Signal,
    Subscription,
)
from bus.clock import ServerClock, uptime
from bus.hearing import Hearing, Watch
from bus.jetstream_api import (
    CONSUMER_NOT_FOUND,
    LONG_TRY_SECONDS,
    PATIENCE_SECONDS,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    TRY_SECONDS,
    Answer,
    Api,
    ApiError,
    ConsumerInfo,
    StreamInfo,
    rfc3339,
)
from bus.jetstream_setup import check_server, consumer_config, stream_config
from bus.link import Credentials, Link, LinkClosed, LinkDown, NoAnswer, NoResponders
from bus.puller import Puller
from bus.timekeeper import Timekeeper
from bus.topology import FACTS, RESULTS, STREAMS, Queue, Topology
from bus.wire import Frame, HeaderBlock, check_subject, encode_headers

P = ParamSpec("P")
T = TypeVar("T")


class _Total(msgspec.Struct):
    val: str


async def connect(
    url: str,
    *,
    name: str,
    inbox_prefix: str = "_INBOX_turnout",
    credentials: Credentials | None = None,
    connect_timeout_seconds: float = 10.0,
    replicas: int = 0,
    patience_seconds: float = PATIENCE_SECONDS,
) -> JetStreamBus:
    """Connect to a nats-server with JetStream, 2.12 or newer. `replicas`: of each stream that `set_up` makes; 0: as
    they are, and 1 for new ones. `patience_seconds`: what the server does not store for so long raises BusUnavailable.

    Raises BusUnavailable when nobody answers in time, BusError when the server refuses or isn't fit.
    """
    link = Link()
    await link.open(url, name=name, inbox_prefix=inbox_prefix, credentials=credentials, timeout=connect_timeout_seconds)
    try:
        check_server(link.info)
        bus = JetStreamBus(link, replicas=replicas, patience_seconds=patience_seconds)
        await bus.measure_clock()
    except BaseException:
        await link.shut()
        raise
    bus.keep_time()
    return bus


def _raised(method: Callable[P, Awaitable[T]]) -> Callable[P, CoroutineType[Any, Any, T]]:
    """Turn what the link raises into what the contract promises."""

    @functools.wraps(method)
    async def wrapped(*args: P.args, **more: P.kwargs) -> T:
        try:
            return await method(*args, **more)
        except (LinkClosed, LinkDown, NoAnswer, NoResponders) as fault:
            raise _promised(fault) from None

    return wrapped


def _promised(fault: Exception) -> BusError:
    if isinstance(fault, LinkClosed):
        return BusClosed("the connection was closed")
    if isinstance(fault, LinkDown):
        return BusUnavailable("not connected to the nats-server")
    why = "it takes too long" if isinstance(fault, NoAnswer) else "nobody is responsible"
    return BusUnavailable(f"no answer from the nats-server: {why}")


class JetStreamBus:
    """A connection to a nats-server, speaking JetStream. Made by `connect`."""

    def __init__(self, link: Link, *, replicas: int = 0, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._link = link
        streams = {stream.name: stream.subjects for stream in STREAMS}
        self._api = Api(link, streams, patience_seconds=patience_seconds)
        self._loop = asyncio.get_running_loop()
        self._replicas = replicas
        self._clock = ServerClock()
        self._timekeeper = Timekeeper(self._clock, uptime, self._time_there)
        self._ticking: asyncio.Task[None] | None = None
        self._ends: list[Hearing | Watch | Puller] = []
        self._closed = False
        link.on_up.append(lambda: link.call(self.measure_clock))

    @property
    def max_payload(self) -> int:
        """Largest body of one message in bytes, headers included."""
        return self._link.max_payload

    def now(self) -> float:
        """The server's clock as well as this side knows it."""
        return self._clock.now()

    async def measure_clock(self) -> None:
        """Compare the clocks now. Keeps what is known when the server doesn't tell."""
        await self._timekeeper.measure()

    def keep_time(self) -> None:
        """Compare them again and again from now on."""
        self._ticking = self._loop.create_task(self._timekeeper.run(), name="timekeeper")

    async def _time_there(self) -> float | None:
        try:
            frame = await self._link.ask(f"$JS.API.STREAM.INFO.{FACTS.name}", b"", timeout=TRY_SECONDS)
            there = msgspec.json.decode(frame.data, type=StreamInfo).ts
        except (LinkDown, LinkClosed, NoAnswer, NoResponders, BusError, msgspec.MsgspecError):
            return None
        return there and there.timestamp()

    # Setting up

    @_raised
    async def set_up(self, topology: Topology) -> None:
        """Create or update streams, the object store and consumers."""
        for stream in topology.streams:
            self._api.streams[stream.name] = stream.subjects
            await self._set_up_stream(stream_config(stream, self._replicas or 1))
        for bucket in objects.BUCKETS:
            await self._set_up_stream(objects.stream_config(bucket, self._replicas or 1))
        for queue in topology.queues:
            await self.set_up_queue(queue)
        await self.measure_clock()

    async def _set_up_stream(self, config: dict[str, Any]) -> None:
        try:
            await self._api.call(f"STREAM.CREATE.{config['name']}", config, Answer)
        except ApiError as fault:
            if fault.err_code != STREAM_NAME_IN_USE:
                raise
            if not self._replicas:  # Nobody asked for another number: a cluster keeps its copies.
                there = await self._api.call(f"STREAM.INFO.{config['name']}", None, StreamInfo)
                config["num_replicas"] = there.config.get("num_replicas", 1)
            await self._api.call(f"STREAM.UPDATE.{config['name']}", config, Answer)

    @_raised
    async def set_up_queue(self, queue: Queue) -> None:
        """Create or update one durable consumer."""
        there = await self._consumer(queue)
        config = consumer_config(queue, there and there.config)
        request = {"stream_name": queue.stream, "config": config, "action": ""}
        await self._api.call(f"CONSUMER.CREATE.{queue.stream}.{queue.name}", request, Answer)

    async def _consumer(self, queue: Queue) -> ConsumerInfo | None:
        try:
            return await self._api.call(f"CONSUMER.INFO.{queue.stream}.{queue.name}", None, ConsumerInfo)
        except ApiError as fault:
            if fault.err_code in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
                return None
            raise

    @_raised
    async def queue_state(self, queue: Queue) -> QueueState | None:
        """How full a durable consumer is; None when it does not exist."""
        info = await self._consumer(queue)
        return info and QueueState(
            waiting=info.num_pending, running=info.num_ack_pending, deliveries=info.delivered.consumer_seq
        )  # fmt: skip

    @_raised
    async def last_seq(self, stream: str) -> int:
        """The sequence of what was stored last in a stream; 0: nothing yet."""
        return (await self._api.call(f"STREAM.INFO.{stream}", None, StreamInfo)).state.last_seq

    # Publishing

    async def publish(
        self, subject: str, data: bytes, *, msg_id: str, headers: Headers | None = None, first_writer: bool = False
    ) -> Put:
        """Store a message and wait for the server's word."""
        extra = {"Nats-Msg-Id": msg_id}
        if first_writer:
            extra["Nats-Expected-Last-Subject-Sequence"] = "0"
        if headers:
            extra.update(headers)
        head = encode_headers(extra)
        try:
            while True:
                ack = await self._api.store(subject, data, head)
                fault = ack.error
                if fault is None:
                    return Put(seq=ack.seq, ours=True)
                if fault.full and not fault.queued:
                    raise QueueFull(f"{subject}: {fault.description}")
                if not fault.queued and not (first_writer and fault.lost):
                    raise ApiError(subject, fault)
                stored = await self._api.holder(subject, fault)
                if stored is not None:
                    ours = fault.queued or stored.headers.get("Nats-Msg-Id") == msg_id
                    return Put(seq=stored.seq, ours=ours, stored=None if ours else stored)
                # What held the subject is gone again: once more.
        except (LinkClosed, LinkDown, NoAnswer, NoResponders) as fault:
            raise _promised(fault) from None

    @_raised
    async def schedule(
        self, subject: str, data: bytes, *, at: float, target: str, headers: Headers | None = None
    ) -> None:
        """Let the server publish `data` on `target` at time `at`."""
        check_subject(target)
        head = {
            "Nats-Schedule": "@at " + rfc3339(at),
            "Nats-Schedule-Target": target,
            # Guards this very call against its own repetition; another call is another schedule.
            "Nats-Msg-Id": f"{subject}@{secrets.token_hex(8)}",
            **(headers or {}),
        }
        ack = await self._api.store(subject, data, encode_headers(head))
        if ack.error is not None:
            raise ApiError(subject, ack.error)

    @_raised
    async def add(self, subject: str, amount: int, *, msg_id: str, headers: Headers | None = None) -> int:
        """Add to a counter and return its total at that moment."""
        head = {"Nats-Incr": f"{amount:+d}", "Nats-Msg-Id": msg_id, **(headers or {})}
        ack = await self._api.store(subject, b"", encode_headers(head))
        if ack.error is not None:
            raise ApiError(subject, ack.error)
        if ack.val:
            return int(ack.val)
        # A repetition is answered without the total: the stored message has that of then.
        stored = await self._api.patiently(lambda: self._api.get(ack.stream, ack.seq), ack.seq)
        if stored is None:
            raise BusError(f"{subject}: the addition {msg_id!r} was made, but is not stored any more")
        return int(msgspec.json.decode(stored.data, type=_Total).val)

    # Core messages

    async def signal(self, subject: str, data: bytes, *, headers: Headers | None = None) -> None:
        """Publish without storing."""
        head = encode_headers(headers) if headers else b""
        size = len(head) + len(data)
        if size > self.max_payload:
            raise PayloadTooLarge(subject, size, self.max_payload)
        check_subject(subject)
        try:
            self._link.send(subject, data, head)
        except LinkDown:
            return
        except LinkClosed as fault:
            raise _promised(fault) from None
        if self._link.is_full:
            await self._link.drain_out()

    @_raised
    async def subscribe(self, pattern: str, on_signal: OnSignal) -> Subscription:
        """Hear core messages."""
        check_subject(pattern)
        self._check_open()

        async def hear(frame: Frame) -> None:
            await on_signal(Signal(frame.subject.decode(), frame.data, HeaderBlock(frame.head), frame.reply.decode()))

        hearing = Hearing(self._link, pattern, hear, self._ends)
        try:
            await self._announced()
        except BaseException:
            await hearing.stop()
            raise
        return hearing

    async def _announced(self) -> None:
        """Return once the server knows every subscription so far."""
        end = self._loop.time() + PATIENCE_SECONDS
        while True:
            try:
                await self._link.up(end - self._loop.time())
                await self._link.round_trip(LONG_TRY_SECONDS)
            except (LinkDown, NoAnswer):
                if self._loop.time() >= end:
                    raise
            else:
                return

    @_raised
    async def ask(self, subject: str, data: bytes, *, timeout_seconds: float) -> bytes:
        """Request and wait for one answer."""
        if len(data) > self.max_payload:
            raise PayloadTooLarge(subject, len(data), self.max_payload)
        check_subject(subject)
        try:
            return (await self._link.ask(subject, data, timeout=timeout_seconds)).data
        except (NoAnswer, NoResponders) as fault:
            why = "nobody listens" if isinstance(fault, NoResponders) else f"no answer within {timeout_seconds:g} s"
            raise BusUnavailable(f"{subject}: {why}") from None

    # Consuming and reading

    @_raised
    async def consume(self, queue: Queue, on_delivery: OnDelivery, *, slots: int) -> Consuming:
        """Pull from a durable consumer. `stop` cancels callbacks that still run: drain with `pause` first."""
        return self._pull(Puller(self._link, queue.stream, queue.name, on_delivery, slots=slots))

    @_raised
    async def consume_together(self, queue: Queue, on_deliveries: OnDeliveries, *, slots: int) -> Consuming:
        """The same; what comes within the queue's patience is handed over together."""
        puller = Puller(
            self._link, queue.stream, queue.name, on_deliveries=on_deliveries, slots=slots,
            patience_seconds=queue.patience_seconds,
        )  # fmt: skip
        return self._pull(puller)

    def _pull(self, puller: Puller) -> Puller:
        self._check_open()
        self._ends.append(puller)
        puller.on_end = lambda: self._ends.remove(puller)
        puller.start()
        return puller

    async def last(self, stream: str, subject: str) -> Record | None:
        """The latest message on a subject, or None."""
        try:
            return await self._api.last(stream, subject)
        except (LinkClosed, LinkDown, NoAnswer, NoResponders) as fault:
            raise _promised(fault) from None

    @_raised
    async def get(self, stream: str, seq: int) -> Record | None:
        """The message with this sequence, or None."""
        return await self._api.get(stream, seq)

    async def read(self, stream: str, pattern: str, *, from_seq: int = 1) -> AsyncIterator[Record]:
        """The stored messages that match, in order, up to those that are there now."""
        try:
            async for found in self._api.read(stream, pattern, from_seq):
                yield found
        except (LinkClosed, LinkDown, NoAnswer, NoResponders) as fault:
            raise _promised(fault) from None

    # Facts

    @_raised
    async def put_fact(self, subject: str, data: bytes, *, expected_revision: int | None = None) -> int:
        """Write a fact; the revision it got."""
        msg_id = secrets.token_hex(12)
        extra = {"Nats-Msg-Id": msg_id}
        if expected_revision is not None:
            extra["Nats-Expected-Last-Subject-Sequence"] = str(expected_revision)
        ack = await self._api.store(subject, data, encode_headers(extra))
        fault = ack.error
        if fault is None:
            return ack.seq
        if expected_revision is None or not fault.lost:
            raise ApiError(subject, fault)
        if fault.last_seq is None or fault.last_seq > expected_revision:  # It may be our own repetition.
            stored = await self._api.holder(subject, fault)
            if stored is not None and stored.headers.get("Nats-Msg-Id") == msg_id:
                return stored.seq
        raise Conflict(f"{subject}: somebody else wrote after revision {expected_revision}")

    @_raised
    async def watch_facts(self, on_fact: OnFact) -> Subscription:
        """All facts now, then every change; everything once more after a reconnect."""
        self._check_open()
        watch = Watch(self._api, self._link, on_fact, self._ends)
        try:
            await self._announced()
            await watch.begin()
        except BaseException:
            await watch.stop()
            raise
        return watch

    # Objects

    @_raised
    async def put_object(self, key: str, pieces: Pieces, *, bucket: str = RESULTS, once: bool = False) -> Kept:
        """Keep a large object."""
        if once and isinstance(pieces, bytes) and 0 < len(pieces) <= objects.CHUNK_BYTES:
            return await objects.put_once(self, bucket, key, pieces)
        return await objects.put(self, bucket, key, pieces)

    @_raised
    async def get_object(self, key: str, *, bucket: str = RESULTS) -> bytes | None:
        """A kept object, or None."""
        return await objects.get(self, bucket, key)

    @_raised
    async def open_object(self, key: str, *, bucket: str = RESULTS) -> Object | None:
        """A kept object to be read piece by piece, or None."""
        return await objects.open_object(self, bucket, key)

    @_raised
    async def remove_object(self, key: str, *, bucket: str = RESULTS) -> None:
        """Forget an object."""
        await objects.remove(self, bucket, key)

    @_raised
    async def purge(self, stream: str, subject: str, *, before_seq: int = 0) -> None:
        """Remove the messages on a subject, or those before a sequence."""
        request: dict[str, Any] = {"filter": subject}
        if before_seq:
            request["seq"] = before_seq
        await self._api.call(f"STREAM.PURGE.{stream}", request, Answer)

    # The connection

    def on_reconnect(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call this after every reconnect."""
        self._link.on_up.append(lambda: self._link.call(call))

    async def close(self) -> None:
        """End everything."""
        if self._closed:
            return
        self._closed = True
        if self._ticking is not None:
            self._ticking.cancel()
        ending = [task for end in list(self._ends) for task in end.cancel()]
        await self._link.shut()
        others = [task for task in ending if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others)

    def _check_open(self) -> None:
        if self._closed:
            raise BusClosed("the connection was closed")
