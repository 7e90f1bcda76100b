"""What the twin's clients hear with: deliveries, pulls, core subscriptions, and the watch on facts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from bus.bus import FactEntry, Headers, OnDeliveries, OnDelivery, OnFact, OnSignal, Record, Signal, Subscription
from bus.memory_link import Listener
from bus.memory_stream import Pull
from bus.topology import FACTS, Queue

if TYPE_CHECKING:
    from bus.memory import MemoryBus

T = TypeVar("T")


class MemoryDelivery:
    """A message in the hands of a callback."""

    __slots__ = ("_bus", "_queue", "_record", "deliveries")

    def __init__(self, bus: MemoryBus, queue: Queue, record: Record, deliveries: int) -> None:
        self._bus = bus
        self._queue = queue
        self._record = record
        self.deliveries = deliveries

    @property
    def stream(self) -> str:
        """The stream it is stored in."""
        return self._queue.stream

    @property
    def subject(self) -> str:
        """Its subject."""
        return self._record.subject

    @property
    def data(self) -> bytes:
        """Its body."""
        return self._record.data

    @property
    def headers(self) -> Headers:
        """Its headers, the server's included."""
        return self._record.headers

    @property
    def seq(self) -> int:
        """Its number in the stream."""
        return self._record.seq

    @property
    def time(self) -> float:
        """When it was stored."""
        return self._record.time

    async def ack(self) -> None:
        """It is handled."""
        self._bus.tell(self._bus.server.ack, self._queue.stream, self._queue.name, self.seq)

    async def nak(self, delay_seconds: float = 0.0) -> None:
        """It comes again after the delay."""
        self._bus.tell(self._bus.server.nak, self._queue.stream, self._queue.name, self.seq, delay_seconds)

    async def in_progress(self) -> None:
        """It is still being handled."""
        self._bus.tell(self._bus.server.in_progress, self._queue.stream, self._queue.name, self.seq)


class MemoryConsuming:
    """A pull on a durable consumer, renewed after every reconnect."""

    def __init__(
        self,
        bus: MemoryBus,
        queue: Queue,
        on_delivery: OnDelivery | None = None,
        *,
        slots: int,
        on_deliveries: OnDeliveries | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError("a pull needs at least one slot")
        self._bus, self._queue = bus, queue
        self._on_delivery, self._on_deliveries = on_delivery, on_deliveries
        self._slots = slots
        self._in_hand = 0
        self._lying: list[MemoryDelivery] = []
        self._open = True
        self._stopped = False
        self._pull: Pull | None = None

    def ask(self) -> None:
        """Open the pull for the slots that are free."""
        if self._open:
            self._pull = Pull(self._bus.name, self._hear)
            where = (self._queue.stream, self._queue.name)
            self._bus.tell(self._bus.server.open_pull, *where, self._pull, self._slots - self._in_hand)

    def lost(self) -> None:
        """The connection is gone, and the pull with it."""
        if self._pull is not None:
            self._bus.server.close_pull(self._queue.stream, self._queue.name, self._pull)
            self._pull = None

    @property
    def ended(self) -> bool:
        """Whether the server has nothing of it any more."""
        return self._pull is None or self._pull.closed

    def _hear(self, record: Record, deliveries: int) -> None:
        self._bus.down.send(self._take, record, deliveries)

    def _take(self, record: Record, deliveries: int) -> None:
        if self._stopped:
            return
        self._in_hand += 1
        delivery = MemoryDelivery(self._bus, self._queue, record, deliveries)
        if self._on_delivery is not None:
            self._bus.spawn(self._handle(self._on_delivery, delivery, delivery.subject, 1))
            return
        self._lying.append(delivery)
        if not self._open:
            self._hand_over()  # It was on its way when the pull was paused.
        elif len(self._lying) == 1:
            asyncio.get_running_loop().call_later(self._queue.patience_seconds, self._hand_over)

    def _hand_over(self) -> None:
        """Handle together what has come so far."""
        lying, self._lying = self._lying, []
        if lying and self._on_deliveries is not None and not self._stopped and not self._bus.closed:
            self._bus.spawn(self._handle(self._on_deliveries, lying, lying[0].subject, len(lying)))

    async def _handle(self, handle: Callable[[T], Awaitable[None]], what: T, subject: str, count: int) -> None:
        try:
            await self._bus.guard(handle(what), subject)
        finally:
            self._in_hand -= count  # A pull opened after a reconnect was opened without the slots then in use.
            if self._open and self._pull is not None and not self._bus.closed:
                for _ in range(count):
                    self._bus.tell(self._bus.server.ask_more, self._queue.stream, self._queue.name, self._pull)

    async def pause(self) -> None:
        """Take no more; what is in hand goes on."""
        if self._open:
            self._open = False
            if self._pull is not None and not self._bus.closed:
                self._bus.tell(self._bus.server.close_pull, self._queue.stream, self._queue.name, self._pull)
            self._hand_over()

    async def stop(self) -> None:
        """Take no more, and drop what still arrives: it comes again after its acknowledgement wait."""
        await self.pause()
        self._stopped = True
        self._bus.drop_consuming(self)


class MemoryListening:
    """A core subscription: its callback hears one signal after the other."""

    def __init__(self, bus: MemoryBus, pattern: str, on_signal: OnSignal, *, reliable: bool = False) -> None:
        self._bus = bus
        self._on_signal = on_signal
        self._inbox: deque[Signal] = deque()
        self._bell: asyncio.Future[None] | None = None
        self._stopped = False
        self.listener = Listener(client=bus, pattern=pattern, hear=self._hear, reliable=reliable)

    def _hear(self, signal: Signal) -> None:
        self._inbox.append(signal)
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def run(self) -> None:
        """Hand over signals until it is stopped."""
        while not self._stopped:
            if self._inbox:
                signal = self._inbox.popleft()
                await self._bus.guard(self._on_signal(signal), signal.subject)
            else:
                self._bell = asyncio.get_running_loop().create_future()
                await self._bell

    async def stop(self) -> None:
        """End it."""
        if not self._stopped:
            self._stopped = True
            self._ring()
            self._bus.drop_listening(self)


class MemoryWatch:
    """All facts, and then every change; all facts again after a reconnect."""

    def __init__(self, bus: MemoryBus, on_fact: OnFact) -> None:
        self._bus = bus
        self._on_fact = on_fact
        self._seen: dict[str, int] = {}
        self._lock = asyncio.Lock()
        self._stopped = False
        self._listening: Subscription | None = None

    async def start(self) -> None:
        """Subscribe first and read then, so that no change falls between."""
        async with self._lock:
            self._listening = await self._bus.listen("fact.>", self._hear, reliable=True)
            await self._pass()

    async def again(self) -> None:
        """Tell everything once more."""
        async with self._lock:
            await self._pass()

    async def _pass(self) -> None:
        unseen = set(self._seen)
        async for record in self._bus.read(FACTS.name, FACTS.subjects[0]):
            unseen.discard(record.subject)
            await self._tell(record.subject, record.seq, record.data, record.headers, repeat=True)
        for subject in sorted(unseen):  # Removed while nobody here listened, or written anew since the reading began.
            if await self._bus.last(FACTS.name, subject) is None:
                await self._tell(subject, self._seen[subject], b"", {"KV-Operation": "PURGE"}, repeat=True)

    async def _hear(self, signal: Signal) -> None:
        async with self._lock:
            headers = signal.headers
            await self._tell(headers["Nats-Subject"], int(headers["Nats-Sequence"]), signal.data, headers)

    async def _tell(self, subject: str, revision: int, data: bytes, headers: Headers, *, repeat: bool = False) -> None:
        seen = self._seen.get(subject, 0)
        if self._stopped or revision < seen or (revision == seen and not repeat):
            return
        deleted = headers.get("KV-Operation") in ("DEL", "PURGE")
        if data and not deleted:
            self._seen[subject] = revision
        else:
            self._seen.pop(subject, None)
        entry = FactEntry(subject=subject, revision=revision, data=None if deleted else data)
        await self._bus.guard(self._on_fact(entry), subject)

    async def stop(self) -> None:
        """End it."""
        self._stopped = True
        self._bus.drop_watch(self)
        if self._listening is not None:
            await self._listening.stop()
