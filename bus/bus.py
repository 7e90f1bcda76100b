"""The Bus contract: what every way of carrying messages promises. `jetstream` and `memory` keep it; one test suite checks both.

The bus moves bytes, headers and subjects; `codec` turns messages into them. Nothing here knows a message type except the
topology, which is derived from the channels. All coroutines may raise `BusUnavailable` when the connection is down or an
answer stays out; a publish that raised it may or may not have been stored, and is safe to repeat with the same `msg_id`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from bus.topology import RESULTS

if TYPE_CHECKING:
    from bus.topology import Queue, Topology

Headers = Mapping[str, str]
Pieces = bytes | Iterable[bytes] | AsyncIterable[bytes]
"""The bytes of an object, in pieces of any size."""


class BusError(Exception):
    """The bus can't do what was asked."""


class LoginRefused(BusError):
    """The server wants to know who connects, or does not know them."""


class BusUnavailable(BusError):
    """No answer from the server: not connected, restarting, or the answer was lost. The outcome is unknown."""


class BusClosed(BusError):
    """This connection was closed on purpose; nothing more can be done with it."""


class PayloadTooLarge(BusError):
    """A message exceeds the server's payload limit."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        super().__init__(f"{subject}: {size:,} bytes exceed the limit of {limit:,} bytes for one message")
        self.subject, self.size, self.limit = subject, size, limit


class QueueFull(BusError):
    """A bounded stream takes no more messages now."""


class Conflict(BusError):
    """A compare-and-set was refused: somebody else wrote first."""


class Record(msgspec.Struct, frozen=True):
    """A stored message."""

    subject: str
    seq: int
    data: bytes
    headers: Headers
    time: float
    """When the server stored it, seconds since the epoch."""


class Put(msgspec.Struct, frozen=True):
    """The server's word on a publish."""

    seq: int
    ours: bool
    """False when a first-writer subject already held somebody else's message (or an earlier one under another id)."""
    stored: Record | None = None
    """The message that holds the subject, when it is not ours."""


class Delivery(Protocol):
    """A message handed to a consumer, to be acknowledged once what it caused is stored."""

    @property
    def stream(self) -> str:
        """The stream it lies in."""
        ...

    @property
    def subject(self) -> str:
        """Its subject."""
        ...

    @property
    def data(self) -> bytes:
        """Its body."""
        ...

    @property
    def headers(self) -> Headers:
        """Its headers."""
        ...

    @property
    def seq(self) -> int:
        """Its sequence in the stream."""
        ...

    @property
    def time(self) -> float:
        """When the server stored it, seconds since the epoch."""
        ...

    @property
    def deliveries(self) -> int:
        """How often it was delivered, 1 for the first time; the server may forget deliveries when it is killed."""
        ...

    async def ack(self) -> None:
        """It is handled; the server need not deliver it again. Fire and forget: it may be lost."""
        ...

    async def nak(self, delay_seconds: float = 0.0) -> None:
        """It is not handled; deliver it again after the delay."""
        ...

    async def in_progress(self) -> None:
        """It is still being handled: the acknowledgement wait starts anew."""
        ...


class Signal(msgspec.Struct, frozen=True):
    """A core message: at most once, not stored."""

    subject: str
    data: bytes
    headers: Headers
    reply: str = ""


class Subscription(Protocol):
    """Something that can be ended."""

    async def stop(self) -> None:
        """End it; after this its callback is not called again. Safe to call twice."""
        ...


class Consuming(Subscription, Protocol):
    """A running pull on a durable consumer."""

    async def pause(self) -> None:
        """Ask for no more messages; those in hand go on. For a drain before `stop`."""
        ...


class FactEntry(msgspec.Struct, frozen=True):
    """The latest value of one fact."""

    subject: str
    revision: int
    data: bytes | None
    """None when the fact was deleted."""


OnDelivery = Callable[[Delivery], Awaitable[None]]
OnDeliveries = Callable[[Sequence[Delivery]], Awaitable[None]]
OnSignal = Callable[[Signal], Awaitable[None]]
OnFact = Callable[[FactEntry], Awaitable[None]]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What was put into the object store."""

    size_bytes: int
    sha256: str
    """In hexadecimal."""


class Object(Kept, frozen=True, kw_only=True):
    """An object of the store, to be read once."""

    pieces: AsyncIterator[bytes]
    """Its bytes in order, never more than some megabytes at once. Raises BusError at its end when they don't fit the digest:
    what came before is not to be trusted then. It may have been replaced meanwhile: open it again."""


class QueueState(msgspec.Struct, frozen=True):
    """How full a durable consumer is."""

    waiting: int
    """Stored and not delivered."""
    running: int
    """Delivered and not acknowledged."""
    deliveries: int = 0
    """How often something was delivered so far, repetitions included: when it moves, the queue has."""


class Bus(Protocol):
    """A connection to the message system."""

    @property
    def max_payload(self) -> int:
        """Largest body of one message in bytes, headers included."""
        ...

    def now(self) -> float:
        """The server's clock as well as this side knows it, in seconds since the epoch.

        Whoever sets this machine's clock does not move it. It never runs backwards, unless the server's clock is set back by
        more than a second.
        """
        ...

    async def set_up(self, topology: Topology) -> None:
        """The admin step: create or update streams and consumers. Safe to repeat and to run from several processes."""
        ...

    async def set_up_queue(self, queue: Queue) -> None:
        """Create or update one durable consumer."""
        ...

    async def publish(
        self, subject: str, data: bytes, *, msg_id: str, headers: Headers | None = None, first_writer: bool = False
    ) -> Put:
        """Store a message and wait for the server's word.

        A repeated `msg_id` is stored once (within the duplicate window). With `first_writer` it is stored only while its
        subject is empty; otherwise `Put.ours` tells whether the stored message carries this very `msg_id`, and
        `Put.stored` is that message. Tries again by itself for some seconds, so a server restart shows as a delay.
        Raises PayloadTooLarge, QueueFull (bounded work queue), BusUnavailable, BusClosed.
        A repetition in a stream that keeps one message per subject (a work queue) counts as stored and ours.
        """
        ...

    async def schedule(
        self, subject: str, data: bytes, *, at: float, target: str, headers: Headers | None = None
    ) -> None:
        """Let the server publish `data` on `target` (same stream) at time `at`; `subject` names the schedule.

        A schedule on the same subject replaces the older one. It may fire up to some hundred milliseconds late, and its
        conditions and message id do not act when it fires: what hears the target must be idempotent.
        """
        ...

    async def signal(self, subject: str, data: bytes, *, headers: Headers | None = None) -> None:
        """Publish without storing: at most once, dropped while disconnected."""
        ...

    async def subscribe(self, pattern: str, on_signal: OnSignal) -> Subscription:
        """Hear core messages, republished events (`job.>`, `fact.>`) included. Callbacks run one after the other."""
        ...

    async def ask(self, subject: str, data: bytes, *, timeout_seconds: float) -> bytes:
        """Request and wait for one answer. Raises BusUnavailable when nobody answers in time."""
        ...

    async def consume(self, queue: Queue, on_delivery: OnDelivery, *, slots: int) -> Consuming:
        """Pull from a durable consumer, at most `slots` messages in hand at once, each callback in its own task.

        Several may pull from the same one: each message goes to one of them. Survives restarts and a consumer that does
        not exist yet. A callback that returns without ack or nak leaves its message to the acknowledgement wait.
        """
        ...

    async def consume_together(self, queue: Queue, on_deliveries: OnDeliveries, *, slots: int) -> Consuming:
        """The same, but what comes within the queue's `patience_seconds` is handed over together, in one task.

        The slots of all of them are free again when the callback returns. `pause` hands over at once what lies and waits.
        """
        ...

    async def last(self, stream: str, subject: str) -> Record | None:
        """The latest message on a subject, or None."""
        ...

    async def get(self, stream: str, seq: int) -> Record | None:
        """The message with this sequence, or None when there is none (any more)."""
        ...

    def read(self, stream: str, pattern: str, *, from_seq: int = 1) -> AsyncIterator[Record]:
        """The stored messages that match, in order, up to those that are there now."""
        ...

    async def queue_state(self, queue: Queue) -> QueueState | None:
        """How full a durable consumer is; None when it does not exist."""
        ...

    async def last_seq(self, stream: str) -> int:
        """The sequence of what was stored last in a stream; 0: nothing yet."""
        ...

    async def put_fact(self, subject: str, data: bytes, *, expected_revision: int | None = None) -> int:
        """Write a fact; the revision it got. With `expected_revision` (0: not there yet) raises Conflict when another
        is stored.
        """
        ...

    async def watch_facts(self, on_fact: OnFact) -> Subscription:
        """All facts now, then every change; everything once more after a reconnect. Returns after the first pass.

        Values arrive in the order of their revisions per fact; a value may arrive twice.
        """
        ...

    async def add(self, subject: str, amount: int, *, msg_id: str, headers: Headers | None = None) -> int:
        """Add to a counter and return its total at that moment. A repeated `msg_id` adds nothing and returns the total
        of then.
        """
        ...

    async def purge(self, stream: str, subject: str, *, before_seq: int = 0) -> None:
        """Remove the messages on a subject, or those before a sequence. A counter of which nothing is left begins at 0."""
        ...

    async def put_object(self, key: str, pieces: Pieces, *, bucket: str = RESULTS, once: bool = False) -> Kept:
        """Keep a large object, for as long as events are kept. Storing the same key again replaces it.

        An object is there as a whole or not at all. What `pieces` raises is raised, and nothing is kept then. `once`: the
        key names the content, so nothing else can lie there; a small object takes a single round trip then.
        """
        ...

    async def get_object(self, key: str, *, bucket: str = RESULTS) -> bytes | None:
        """A kept object, checked against its digest, or None. For what is known to be small."""
        ...

    async def open_object(self, key: str, *, bucket: str = RESULTS) -> Object | None:
        """A kept object to be read piece by piece, or None."""
        ...

    async def remove_object(self, key: str, *, bucket: str = RESULTS) -> None:
        """Forget an object; nothing happens when it is not there."""
        ...

    def on_reconnect(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call this after every reconnect (core messages may have been missed meanwhile)."""
        ...

    async def close(self) -> None:
        """End everything. Pending calls raise BusClosed."""
        ...
