"""The in-memory twin of the JetStream bus: the same contract without a network, deterministic in a `simloop`.

One `MemoryServer` stands for the server, each `MemoryBus` for one process connected to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

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
from bus.clock import ServerClock
from bus.memory_hearing import MemoryConsuming, MemoryListening, MemoryWatch
from bus.memory_link import ROUGH, Faults, Link, Listener
from bus.memory_server import Broker
from bus.memory_stream import Answer
from bus.timekeeper import LOOK_SECONDS
from bus.topology import RESULTS, Queue, Topology
from bus.wire import check_address, check_subject, encode_headers

__all__ = ["ROUGH", "Faults", "MemoryBus", "MemoryServer"]

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""How long a call tries before it raises BusUnavailable."""
READ_PATIENCE_SECONDS = 10.0
"""The same for calls that change nothing."""
ANSWER_SECONDS = 0.7
"""When a try counts as unanswered."""
ENDING_SECONDS = 5.0
"""How long `close` waits for cancelled callbacks."""
AGAIN_SECONDS = 0.05
"""Pause before the next try."""
_BATCH = 256


class MemoryBus:
    """One connection to a `MemoryServer`: one process, as the server sees it."""

    def __init__(self, server: Broker, name: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.server = server
        self.name = name
        self.up, self.down = Link(server.delay), Link(server.delay)
        self.connected = False
        self.closed = False
        self.wall_ahead = 0.0
        """How far the wall clock of this process is ahead of the server's; may be changed while it runs."""
        self.clock = ServerClock(up=server.time, wall=lambda: server.now() + self.wall_ahead)
        self._patience = patience_seconds
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._waiting: list[asyncio.Future[None]] = []  # Calls that wait for the connection.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._consuming: list[MemoryConsuming] = []
        self._listening: list[MemoryListening] = []
        self._watches: list[MemoryWatch] = []
        self._leaving: list[MemoryConsuming] = []
        """Stopped, though the server may not know it yet."""
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._cut_until = 0.0
        self._number = server.join(self)

    # The connection.

    def greet(self) -> None:
        """The server says that it can be reached."""
        if self.closed or self.connected or self.server.time() < self._cut_until:
            return
        self.connected = True
        self.server.note("connected", self.name)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        for listening in self._listening:
            self.tell(self.server.subscribe, listening.listener)
        for consuming in self._consuming:
            consuming.ask()
        if self._watches or self._on_reconnect:
            self.spawn(self._reconnected())

    async def _reconnected(self) -> None:
        for call in [*(watch.again for watch in self._watches), *self._on_reconnect]:
            await self.guard(call(), "reconnect")

    def cut(self, down_seconds: float | None = None) -> None:
        """Lose the connection, and what is on its way; with `down_seconds` it comes back after that time."""
        if self.connected:
            self._disconnect(arrive=0)
            self._fail_calls(BusUnavailable(f"{self.name} lost its connection"))
            self.server.note("cut", self.name)
        if down_seconds is not None:
            self._cut_until = self.server.time() + down_seconds
            self.server.alarms.at(self._cut_until, self._try_again)

    def _try_again(self) -> None:
        if self.server.up:
            self.greet()

    def _disconnect(self, arrive: int) -> None:
        self.connected = False
        self.up.cut(arrive)
        self.down.cut()
        for listening in self._listening:
            self.server.unsubscribe(listening.listener)
        for consuming in (*self._consuming, *self._leaving):
            consuming.lost()
        self._leaving.clear()

    def _fail_calls(self, error: BusError) -> None:
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(error)

    def crash(self) -> None:
        """The process dies: its pulls end, and its callbacks; what it held is left to the acknowledgement wait.

        Of what it was sending, some may still arrive.
        """
        if self.closed:
            return
        self.server.note("crashed", self.name)
        on_its_way = len(self.up)
        self._end(arrive=self.server.rng.randint(0, on_its_way) if on_its_way else 0)

    async def close(self) -> None:
        """End everything, in order: what was sent arrives."""
        if self.closed:
            return
        self.server.note("closed", self.name)
        self._end(arrive=len(self.up))
        here = asyncio.current_task()
        ending = [task for task in self._tasks if task is not here]
        if ending:
            await asyncio.wait(ending, timeout=ENDING_SECONDS)

    def _end(self, arrive: int) -> None:
        self.closed = True
        if self.connected:
            self._disconnect(arrive)
        error = BusClosed(f"{self.name} is closed")
        self._fail_calls(error)
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self.server.connections.pop(self._number, None)
        here = asyncio.current_task()
        for task in list(self._tasks):
            if task is not here:
                task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task that ends with this connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._forget_task)

    async def guard(self, work: Awaitable[None], what: str) -> None:
        """Await a callback; that it fails is logged and stops nothing else."""
        try:
            await work
        except Exception:
            self.server.note("callback failed", self.name, what)
            log.exception("%s: the callback failed: %s", self.name, what)

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]

    def on_reconnect(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call this after every reconnect."""
        self._on_reconnect.append(call)

    def drop_consuming(self, consuming: MemoryConsuming) -> None:
        """Renew it no more. Its word that it takes no more may still be lost with the connection."""
        if consuming in self._consuming:
            self._consuming.remove(consuming)
        self._leaving = [one for one in self._leaving if not one.ended]
        if self.connected:
            self._leaving.append(consuming)

    def drop_listening(self, listening: MemoryListening) -> None:
        """Renew it no more."""
        if listening in self._listening:
            self._listening.remove(listening)
            if not self.closed:
                self.tell(self.server.unsubscribe, listening.listener)

    def drop_watch(self, watch: MemoryWatch) -> None:
        """Renew it no more."""
        if watch in self._watches:
            self._watches.remove(watch)

    # Talking to the server.

    def tell(self, function: Callable[..., None], *args: Any) -> None:
        """Send something that has no answer; it is lost while disconnected."""
        self._check_open()
        if self.connected:
            self.up.send(_quietly, function, args)

    async def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Let the server do something, again and again until there is an answer or patience ends."""
        return await self._persist(self._patience, function, args)

    async def _look(self, function: Callable[..., Any], *args: Any) -> Any:
        """Let the server tell something; the same with less patience."""
        return await self._persist(min(self._patience, READ_PATIENCE_SECONDS), function, args)

    async def _persist(self, patience_seconds: float, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience_seconds
        while True:
            self._check_open()
            try:
                if self.connected:
                    return await self._try(loop, function, args)
                await self._connection(give_up)
            except BusUnavailable:
                if loop.time() + AGAIN_SECONDS >= give_up:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    async def _try(self, loop: asyncio.AbstractEventLoop, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self._numbers = number = self._numbers + 1
        answer = self._calls[number] = loop.create_future()
        self.up.send(self._serve, number, function, args)
        try:
            return await answer
        finally:
            self._calls.pop(number, None)

    async def reachable(self) -> None:
        """Wait for the connection. Raises BusUnavailable when patience ends."""
        await self._connection(asyncio.get_running_loop().time() + self._patience)

    async def _connection(self, give_up: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout_at(give_up):
                await future
        except TimeoutError:
            raise BusUnavailable(f"{self.name} has no connection") from None
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _serve(self, number: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """The server's end of a question."""
        try:
            result: Any = function(*args)
        except Exception as error:  # noqa: BLE001 (the caller hears of it)
            self.down.send(self._settle, number, None, error)
            return
        if isinstance(result, Answer) and self.server.happens(self.server.faults.answer_lost):
            self.server.note("answer lost", self.name)
            lost = BusUnavailable(f"{self.name} got no answer")
            self.server.alarms.at(self.server.time() + ANSWER_SECONDS, self._settle, number, None, lost)
            return
        self.down.send(self._settle, number, result, None)

    def _settle(self, number: int, result: Any, error: Exception | None) -> None:
        answer = self._calls.pop(number, None)
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    def _own_id(self) -> str:
        """A message id for a call whose caller gave none: guards it against its own repetition."""
        self._numbers += 1
        return f"{self.name}.{self._number}.{self._numbers}"

    def _check_open(self) -> None:
        if self.closed:
            raise BusClosed(f"{self.name} is closed")

    def _check(self, subject: str, data: bytes, headers: Headers) -> None:
        """Refuse what could not be sent."""
        check_address(subject)
        size = len(data) + (len(encode_headers(headers)) if headers else 0)
        if size > self.max_payload:
            raise PayloadTooLarge(subject, size, self.max_payload)

    # The contract.

    @property
    def max_payload(self) -> int:
        """Largest message in bytes, headers included."""
        return self.server.max_payload

    def now(self) -> float:
        """The server's clock as well as this process knows it: measured again as often as the real thing does it."""
        if self.clock.age >= LOOK_SECONDS or self.clock.wall_step():
            at = self.server.time()
            self.clock.wall_seen()
            self.clock.measured(at, at, self.server.now())
        return self.clock.now()

    async def set_up(self, topology: Topology) -> None:
        """Create or update streams and consumers."""
        await self._ask(self.server.set_up, topology)

    async def set_up_queue(self, queue: Queue) -> None:
        """Create or update one durable consumer."""
        await self._ask(self.server.set_up_queue, queue)

    async def publish(
        self, subject: str, data: bytes, *, msg_id: str, headers: Headers | None = None, first_writer: bool = False
    ) -> Put:
        """Store a message and wait for the server's word."""
        sent = {**(headers or {}), "Nats-Msg-Id": msg_id}
        if first_writer:
            sent["Nats-Expected-Last-Subject-Sequence"] = "0"
        self._check(subject, data, sent)
        expected = 0 if first_writer else None
        while True:
            answer: Answer = await self._ask(self.server.publish, subject, data, sent, msg_id, expected)
            if answer.word == "full":
                raise QueueFull(f"{subject}: the stream takes no more messages now")
            if answer.word != "taken":
                return Put(seq=answer.seq, ours=True)
            stored: Record | None = await self._look(self.server.last_at, subject)
            if stored is not None:
                ours = stored.headers.get("Nats-Msg-Id") == msg_id
                return Put(seq=stored.seq, ours=ours, stored=None if ours else stored)

    async def schedule(
        self, subject: str, data: bytes, *, at: float, target: str, headers: Headers | None = None
    ) -> None:
        """Let the server publish `data` on `target` at time `at`."""
        sent = {**(headers or {}), "Nats-Msg-Id": self._own_id()}
        self._check(subject, data, sent)
        check_subject(target)
        await self._ask(self.server.schedule, subject, data, sent, at, target)

    async def signal(self, subject: str, data: bytes, *, headers: Headers | None = None) -> None:
        """Publish without storing."""
        sent = dict(headers or {})
        self._check(subject, data, sent)
        self.tell(self.server.signal, Signal(subject=subject, data=data, headers=sent))

    async def subscribe(self, pattern: str, on_signal: OnSignal) -> Subscription:
        """Hear core messages."""
        return await self.listen(pattern, on_signal)

    async def listen(self, pattern: str, on_signal: OnSignal, *, reliable: bool = False) -> Subscription:
        """Subscribe; a reliable subscription is exempt from lost signals."""
        self._check_open()
        listening = MemoryListening(self, pattern, on_signal, reliable=reliable)
        self._listening.append(listening)
        self.spawn(listening.run())
        await self._ask(self.server.subscribe, listening.listener)
        return listening

    async def ask(self, subject: str, data: bytes, *, timeout_seconds: float) -> bytes:
        """Request and wait for one answer."""
        self._check(subject, data, {})
        self._check_open()
        if not self.connected:
            raise BusUnavailable(f"{subject}: {self.name} has no connection")
        self._numbers = number = self._numbers + 1
        inbox = f"_INBOX.{self.name}.{number}"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer

        def hear(signal: Signal) -> None:
            self._settle(number, signal.data, None)

        listener = Listener(client=self, pattern=inbox, hear=hear)
        self.tell(self.server.subscribe, listener)
        self.tell(self.server.signal, Signal(subject=subject, data=data, headers={}, reply=inbox))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError:
            raise BusUnavailable(f"{subject}: no answer within {timeout_seconds} s") from None
        finally:
            self._calls.pop(number, None)
            if self.connected:
                self.tell(self.server.unsubscribe, listener)
            else:
                self.server.unsubscribe(listener)

    async def consume(self, queue: Queue, on_delivery: OnDelivery, *, slots: int) -> Consuming:
        """Pull from a durable consumer."""
        return self._begin(MemoryConsuming(self, queue, on_delivery, slots=slots))

    async def consume_together(self, queue: Queue, on_deliveries: OnDeliveries, *, slots: int) -> Consuming:
        """The same; what comes within the queue's patience is handed over together."""
        return self._begin(MemoryConsuming(self, queue, slots=slots, on_deliveries=on_deliveries))

    def _begin(self, consuming: MemoryConsuming) -> MemoryConsuming:
        self._check_open()
        self._consuming.append(consuming)
        if self.connected:
            consuming.ask()
        return consuming

    async def last(self, stream: str, subject: str) -> Record | None:
        """The latest message on a subject."""
        return await self._look(self.server.last, stream, subject)

    async def get(self, stream: str, seq: int) -> Record | None:
        """One message."""
        return await self._look(self.server.get, stream, seq)

    async def read(self, stream: str, pattern: str, *, from_seq: int = 1) -> AsyncIterator[Record]:
        """The stored messages that match, in order."""
        through: int | None = None
        while True:
            batch: list[Record]
            batch, through = await self._look(self.server.read, stream, pattern, from_seq, through, _BATCH)
            for record in batch:
                yield record
            if len(batch) < _BATCH:
                return
            from_seq = batch[-1].seq + 1

    async def queue_state(self, queue: Queue) -> QueueState | None:
        """How full a durable consumer is."""
        return await self._look(self.server.queue_state, queue)

    async def last_seq(self, stream: str) -> int:
        """The sequence of what was stored last in a stream; 0: nothing yet."""
        return await self._look(self.server.last_seq, stream)

    async def put_fact(self, subject: str, data: bytes, *, expected_revision: int | None = None) -> int:
        """Write a fact."""
        msg_id = self._own_id()
        sent = {"Nats-Msg-Id": msg_id}
        if expected_revision is not None:
            sent["Nats-Expected-Last-Subject-Sequence"] = str(expected_revision)
        self._check(subject, data, sent)
        answer: Answer = await self._ask(self.server.publish, subject, data, sent, msg_id, expected_revision)
        if answer.word != "taken":
            return answer.seq
        stored: Record | None = await self._look(self.server.last_at, subject)
        if stored is not None and stored.headers.get("Nats-Msg-Id") == msg_id:
            return stored.seq  # A repetition of ours, whose first answer was lost.
        raise Conflict(f"{subject}: revision {stored.seq if stored else 0} is stored, not {expected_revision}")

    async def watch_facts(self, on_fact: OnFact) -> Subscription:
        """All facts now, then every change."""
        watch = MemoryWatch(self, on_fact)
        self._watches.append(watch)
        try:
            await watch.start()
        except BaseException:
            await watch.stop()
            raise
        return watch

    async def add(self, subject: str, amount: int, *, msg_id: str, headers: Headers | None = None) -> int:
        """Add to a counter."""
        sent = {**(headers or {}), "Nats-Msg-Id": msg_id}
        self._check(subject, b"", sent)
        answer: Answer = await self._ask(self.server.add, subject, amount, sent, msg_id)
        if answer.word == "stored":
            return answer.total
        stored: Record | None = await self._look(self.server.get_at, subject, answer.seq)
        if stored is None:
            raise BusError(f"{subject}: the increment {msg_id} is gone")
        return int(stored.data[len(b'{"val":"') : -len(b'"}')])

    async def purge(self, stream: str, subject: str, *, before_seq: int = 0) -> None:
        """Remove the messages on a subject, or those before a sequence."""
        await self._ask(self.server.purge, stream, subject, before_seq)

    async def put_object(self, key: str, pieces: Pieces, *, bucket: str = RESULTS, once: bool = False) -> Kept:
        """Keep a large object."""
        del once  # Here everything takes a single round trip.
        data = b"".join([chunk async for chunk in objects.evenly(pieces)])
        await self._ask(self.server.put_object, bucket, key, data)
        return Kept(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    async def get_object(self, key: str, *, bucket: str = RESULTS) -> bytes | None:
        """A kept object."""
        return await self._look(self.server.get_object, bucket, key)

    async def open_object(self, key: str, *, bucket: str = RESULTS) -> Object | None:
        """A kept object to be read piece by piece."""
        data = await self.get_object(key, bucket=bucket)
        if data is None:
            return None
        return Object(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), pieces=objects.evenly(data))

    async def remove_object(self, key: str, *, bucket: str = RESULTS) -> None:
        """Forget an object."""
        await self._ask(self.server.remove_object, bucket, key)


def _quietly(function: Callable[..., None], args: tuple[Any, ...]) -> None:
    with contextlib.suppress(BusError):
        function(*args)


class MemoryServer(Broker):
    """The server. What it stored survives `restart`; make it inside or outside a running loop."""

    async def connect(self, name: str, *, patience_seconds: float = PATIENCE_SECONDS) -> MemoryBus:
        """A new connection; waits until the server can be reached."""
        bus = MemoryBus(self, name, patience_seconds)
        if self.up:
            bus.greet()
        else:
            await bus.reachable()
        return bus
