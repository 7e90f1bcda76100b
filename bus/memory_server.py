"""The server of the in-memory twin: JetStream's semantics, sharp edges included, with seeded faults.

What clients ask arrives through a `Link`, is done at once and in order, and is answered through another. All chance
comes from one seeded generator, and everything that happens is folded into a digest: two runs of one seed in a
`simloop` can be compared byte for byte. `max_age` is not modelled: no simulation runs that long.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, Literal

from bus.bus import BusError, BusUnavailable, Headers, QueueState, Record, Signal
from bus.memory_link import Alarms, Connection, Faults, Listener
from bus.memory_stream import Answer, Durable, Held, Patterns, Pull, StreamState

if TYPE_CHECKING:
    from bus.topology import Queue, Topology

FIRES_LATE_SECONDS = 0.25
"""A schedule fires up to this much after its time."""
RECONNECT_SECONDS = 0.05
"""A client finds a restarted server again within this time."""
_REORDER_DEPTH = 4
_EARLY_SECONDS = 1e-3
"""What adding up times may be off."""
_STRIPPED = ("nats-msg-id", "nats-expected-", "nats-schedule")

EPOCH = 1_767_225_600.0
"""Where virtual time starts: 2026-01-01T00:00:00Z."""


class Broker:
    """The state that survives `restart`, and the connections that don't."""

    def __init__(
        self,
        *,
        seed: int = 0,
        faults: Faults = Faults(),  # noqa: B008 (frozen)
        replicas: Literal[1, 3] = 1,
        epoch: float = EPOCH,
        max_payload: int = 1_048_576,
    ) -> None:
        self.faults = faults
        """May be replaced while it runs."""
        self.replicas = replicas
        self.epoch = epoch
        self.max_payload = max_payload
        self.rng = random.Random(seed)  # noqa: S311 (faults, not secrets)
        self.events: Counter[str] = Counter()
        """How often what happened."""
        self.up = True
        self.alarms = Alarms()
        self.connections: dict[int, Connection] = {}
        self._numbers = itertools.count(1)
        self._digest = hashlib.blake2b(digest_size=16)
        self._streams: dict[str, StreamState] = {}
        self._by_subject: Patterns[StreamState] = Patterns()
        self._core: Patterns[Listener] = Patterns()
        self._orphans: dict[tuple[str, str], list[Pull]] = {}  # Pulls on consumers that are not there yet.
        self._missed: list[tuple[StreamState, Record, str]] = []  # Schedules that were due while it was down.
        self._objects: dict[tuple[str, str], bytes] = {}

    # For tests and scenarios.

    def digest(self) -> str:
        """A hash of everything that happened so far, in order, with times and contents."""
        return self._digest.copy().hexdigest()

    def log(self, stream: str) -> list[Record]:
        """The messages that a stream holds, in order."""
        return list(self._streams[stream].records.values())

    def kill(self) -> None:
        """Die at once: connections are cut, and what consumers did in the last moments is forgotten."""
        if not self.up:
            return
        self.up = False
        self.note("killed")
        for connection in list(self.connections.values()):
            connection.cut()
        for stream in self._streams.values():
            for durable in stream.durables.values():
                durable.forget(self.time())

    def start(self) -> None:
        """Come back with what was stored; the clients find it one after the other."""
        if self.up:
            return
        self.up = True
        self.note("started")
        missed, self._missed = self._missed, []
        for stream, record, target in missed:
            self._plan(stream, record, target, self.time())
        for connection in list(self.connections.values()):
            self.invite(connection)

    async def restart(self, down_seconds: float = 0.3) -> None:
        """Kill it, and start it again after a while."""
        self.kill()
        await asyncio.sleep(down_seconds)
        self.start()

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the server's clock, forward or back; its schedules go by it."""
        self.epoch += seconds
        self.note("clock set", seconds)
        for stream in self._streams.values():
            for seq, (at, target) in list(stream.due.items()):
                self._plan(stream, stream.records[seq], target, max(at - self.epoch, self.time()))

    # Time, chance and the record of events.

    def time(self) -> float:
        """The event loop's time."""
        return asyncio.get_running_loop().time()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.epoch + self.time()

    def delay(self) -> float:
        """How long one message takes to the other end."""
        least, most = self.faults.delay_seconds
        return least + (most - least) * self.rng.random() if most else 0.0

    def happens(self, probability: float) -> bool:
        """Whether a fault strikes now."""
        return probability > 0.0 and self.rng.random() < probability

    def note(self, what: str, *details: object) -> None:
        """Count an event and fold it into the digest."""
        self.events[what] += 1
        self._digest.update(f"{self.time():.9f} {what} {details}\n".encode())

    # Connections.

    def join(self, connection: Connection) -> int:
        """Know a client; its number."""
        number = next(self._numbers)
        self.connections[number] = connection
        self.note("joined", connection.name)
        return number

    def invite(self, connection: Connection) -> None:
        """Let a client find the server within the time it takes to try again."""
        self.alarms.at(self.time() + RECONNECT_SECONDS * self.rng.random(), self._greet, connection)

    def _greet(self, connection: Connection) -> None:
        if self.up:
            connection.greet()

    # Streams and consumers.

    def set_up(self, topology: Topology) -> None:
        """Create or change streams and consumers."""
        for config in topology.streams:
            stream = self._streams.get(config.name)
            if stream is None:
                stream = self._streams[config.name] = StreamState(config)
            else:
                for pattern in stream.config.subjects:
                    self._by_subject.remove(pattern, stream)
                stream.config = config
            for pattern in config.subjects:
                self._by_subject.add(pattern, stream)
        for queue in topology.queues:
            self.set_up_queue(queue)

    def set_up_queue(self, queue: Queue) -> None:
        """Create or change a durable consumer."""
        if queue.stream not in self._streams:
            raise BusError(f"{queue.name}: there is no stream {queue.stream}")
        durable = self._streams[queue.stream].set_up(queue)
        self.note("consumer", queue.stream, queue.name, durable.queue.max_in_flight)
        durable.pulls.extend(p for p in self._orphans.pop((queue.stream, queue.name), ()) if p.free)
        self._dispatch(durable)

    def stream(self, name: str) -> StreamState:
        """A stream by its name. Raises BusUnavailable when there is none (yet)."""
        if name not in self._streams:
            raise BusUnavailable(f"there is no stream {name}")
        return self._streams[name]

    def _durable(self, stream: str, name: str) -> Durable | None:
        found = self._streams.get(stream)
        return found.durables.get(name) if found else None

    def queue_state(self, queue: Queue) -> QueueState | None:
        """How full a consumer is."""
        durable = self._durable(queue.stream, queue.name)
        return durable.state() if durable else None

    def last_seq(self, stream: str) -> int:
        """The sequence of what was stored last in a stream."""
        return self.stream(stream).last_seq

    # Publishing.

    def _home(self, subject: str) -> StreamState:
        found = self._by_subject.match(subject)
        if not found:
            raise BusUnavailable(f"no stream keeps {subject}")
        return found[0]

    def publish(self, subject: str, data: bytes, headers: Headers, msg_id: str, expected: int | None) -> Answer:
        """Store a message, unless its condition, its id or a limit says otherwise."""
        if self._core.count:  # Core subscribers on the subject itself hear it before anything is decided.
            self._fan_out(subject, data, headers)
        return self._publish(self._home(subject), subject, data, headers, msg_id, expected)

    def _publish(
        self, stream: StreamState, subject: str, data: bytes, headers: Headers, msg_id: str, expected: int | None
    ) -> Answer:
        now = self.time()
        refusal = stream.judge(subject, msg_id, expected, now, duplicate_first=self.replicas > 1)
        if refusal is not None:
            self.note(refusal.word, subject, msg_id, refusal.seq)
            return refusal
        total = 0
        if stream.config.counters:
            if "Nats-Incr" not in headers:
                raise BusError(f"{subject}: a counter takes increments only")
            total = stream.totals.get(subject, 0) + int(headers["Nats-Incr"])
            stream.totals[subject] = total
            data = b'{"val":"%d"}' % total
        record = self._store(stream, subject, data, headers, msg_id=msg_id)
        return Answer("stored", record.seq, total)

    def add(self, subject: str, amount: int, headers: Headers, msg_id: str) -> Answer:
        """Add to a counter."""
        stream = self._home(subject)
        if not stream.config.counters:
            raise BusError(f"{subject}: {stream.config.name} keeps no counters")
        return self._publish(stream, subject, b"", {**headers, "Nats-Incr": f"{amount:+d}"}, msg_id, None)

    def _store(self, stream: StreamState, subject: str, data: bytes, headers: Headers, *, msg_id: str = "") -> Record:
        before = stream.last(subject)
        record = stream.store(subject, data, headers, msg_id=msg_id, now=self.time(), wall=self.now())
        self.note("stored", stream.config.name, record.seq, subject, data, headers)
        for durable in stream.concerned(record):
            self._dispatch(durable)
        if stream.config.republish is not None and self._core.count:
            self._republish(stream, record, before.seq if before else 0, *stream.config.republish)
        return record

    def _republish(self, stream: StreamState, record: Record, before: int, source: str, target: str) -> None:
        head = source.removesuffix(">")
        if not record.subject.startswith(head):
            return
        subject = target.removesuffix(">") + record.subject[len(head) :]
        hearers = self._core.match(subject)
        if not hearers:
            return
        headers = {
            **record.headers,
            "Nats-Stream": stream.config.name,
            "Nats-Subject": record.subject,
            "Nats-Sequence": str(record.seq),
            "Nats-Last-Sequence": str(before),
            "Nats-Time-Stamp": _stamp(record.time),
        }
        self._tell(hearers, Signal(subject=subject, data=record.data, headers=headers))

    # Schedules.

    def schedule(self, subject: str, data: bytes, headers: Headers, at: float, target: str) -> Answer:
        """Keep a message and store it on `target` once it is time; it replaces an older schedule on its subject.

        Its message id only guards it against being repeated itself.
        """
        stream = self._home(subject)
        if not stream.config.schedules or stream not in self._by_subject.match(target):
            raise BusError(f"{subject}: {stream.config.name} can't schedule for {target}")
        msg_id = headers["Nats-Msg-Id"]
        if (seq := stream.seq_of(msg_id, self.time())) is not None:
            self.note("duplicate", subject, msg_id, seq)
            return Answer("duplicate", seq)
        for older in tuple(stream.subjects.get(subject, ())):
            stream.remove(older)
        headers = {**headers, "Nats-Schedule": f"@at {_stamp(at)}", "Nats-Schedule-Target": target}
        record = self._store(stream, subject, data, headers, msg_id=msg_id)
        stream.due[record.seq] = at, target
        self._plan(stream, record, target, max(at - self.epoch, self.time()))
        return Answer("stored", record.seq)

    def _plan(self, stream: StreamState, record: Record, target: str, at: float) -> None:
        self.alarms.at(at + FIRES_LATE_SECONDS * self.rng.random(), self._fire, stream, record, target)

    def _fire(self, stream: StreamState, record: Record, target: str) -> None:
        if record.seq not in stream.records or stream.due[record.seq][0] > self.now() + _EARLY_SECONDS:
            return  # Replaced, or planned by a clock that was set back since.
        if not self.up:
            self._missed.append((stream, record, target))
            return
        stream.remove(record.seq)
        self.note("fired", record.subject, record.seq, target)
        headers = {k: v for k, v in record.headers.items() if not k.lower().startswith(_STRIPPED)}
        headers |= {"Nats-Scheduler": record.subject, "Nats-Schedule-Next": "purge"}
        self._store(stream, target, record.data, headers)

    # Delivering.

    def open_pull(self, stream: str, name: str, pull: Pull, free: int) -> None:
        """A client takes up to `free` messages of a consumer, which may not exist yet."""
        if pull.closed:
            return  # Sent before its client left: nobody listens there.
        pull.free = free
        durable = self._durable(stream, name)
        if durable is None:
            self._orphans.setdefault((stream, name), []).append(pull)
        elif free:
            durable.pulls.append(pull)
            self._dispatch(durable)

    def ask_more(self, stream: str, name: str, pull: Pull) -> None:
        """A client takes one more."""
        if pull.closed:
            return
        pull.free += 1
        durable = self._durable(stream, name)
        if durable is not None:
            if pull.free == 1:
                durable.pulls.append(pull)
            self._dispatch(durable)

    def close_pull(self, stream: str, name: str, pull: Pull) -> None:
        """A client takes no more."""
        pull.free, pull.closed = 0, True
        durable = self._durable(stream, name)
        if durable is not None and pull in durable.pulls:
            durable.pulls.remove(pull)
        elif pull in (waiting := self._orphans.get((stream, name), [])):
            waiting.remove(pull)

    def _dispatch(self, durable: Durable) -> None:
        """Hand out what may be handed out, to those who ask in turn."""
        if not self.up:
            return
        faults = self.faults
        while durable.pulls:
            skip = self.rng.randrange(1, _REORDER_DEPTH) if self.happens(faults.reordered) else 0
            held = durable.take(skip)
            if held is None:
                return
            held.deliveries += 1
            held.sent_at = now = self.time()
            held.deadline = now + durable.queue.ack_wait_seconds
            self._wake(durable, held, held.deadline)
            self._deliver(durable, held)
            if self.happens(faults.delivered_twice):
                again = now + self.rng.random() * durable.queue.ack_wait_seconds
                self.alarms.at(again, self._deliver_twice, durable, held)

    def _deliver(self, durable: Durable, held: Held) -> None:
        pull = durable.pulls.popleft()
        pull.free -= 1
        if pull.free:
            durable.pulls.append(pull)
        self.note("delivered", durable.queue.name, held.record.seq, held.deliveries, pull.client)
        pull.deliver(held.record, held.deliveries)

    def _deliver_twice(self, durable: Durable, held: Held) -> None:
        if durable.pulls and held.record.seq in durable.stream.records:
            held.deliveries += 1
            self._deliver(durable, held)

    def _wake(self, durable: Durable, held: Held, at: float) -> None:
        held.alarm_at = at
        self.alarms.at(at, self._overdue, durable, held, at)

    def _overdue(self, durable: Durable, held: Held, at: float) -> None:
        if held.alarm_at != at or durable.held.get(held.record.seq) is not held:
            return
        if held.queued:
            return
        if held.deadline > at:  # Extended since.
            self._wake(durable, held, held.deadline)
            return
        self.note("overdue", durable.queue.name, held.record.seq)
        durable.queue_again(held)
        self._dispatch(durable)

    def ack(self, stream: str, name: str, seq: int) -> None:
        """A client handled a message."""
        durable = self._durable(stream, name)
        if durable is None:
            return
        if self.happens(self.faults.ack_lost):
            self.note("ack lost", name, seq)
        elif durable.ack(seq, self.time()):
            self.note("acked", name, seq)
            self._dispatch(durable)

    def nak(self, stream: str, name: str, seq: int, delay_seconds: float) -> None:
        """A client wants a message again."""
        durable = self._durable(stream, name)
        held = durable.held.get(seq) if durable else None
        if durable is None or held is None or held.queued:
            return
        self.note("nak", name, seq, delay_seconds)
        if delay_seconds > 0.0:
            held.deadline = self.time() + delay_seconds
            self._wake(durable, held, held.deadline)
        else:
            durable.queue_again(held)
            self._dispatch(durable)

    def in_progress(self, stream: str, name: str, seq: int) -> None:
        """A client still handles a message."""
        durable = self._durable(stream, name)
        held = durable.held.get(seq) if durable else None
        if durable is not None and held is not None and not held.queued:
            self.note("in progress", name, seq)
            held.deadline = self.time() + durable.queue.ack_wait_seconds

    # Core messages.

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every core message that matches."""
        self._core.add(listener.pattern, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell it no more."""
        self._core.remove(listener.pattern, listener)

    def signal(self, signal: Signal) -> None:
        """Pass on a core message; on a stream's subject it is stored as well."""
        self.note("signal", signal.subject, signal.data, signal.headers)
        self._fan_out(signal.subject, signal.data, signal.headers, signal.reply)
        if found := self._by_subject.match(signal.subject):
            self._publish(found[0], signal.subject, signal.data, signal.headers, "", None)

    def _fan_out(self, subject: str, data: bytes, headers: Headers, reply: str = "") -> None:
        hearers = self._core.match(subject)
        if hearers:
            self._tell(hearers, Signal(subject=subject, data=data, headers=headers, reply=reply))

    def _tell(self, hearers: list[Listener], signal: Signal) -> None:
        for listener in hearers:
            if not listener.reliable and self.happens(self.faults.signal_lost):
                self.note("signal lost", signal.subject, listener.client.name)
            else:
                listener.client.down.send(listener.hear, signal)

    # Reading.

    def last(self, stream: str, subject: str) -> Record | None:
        """The latest message on a subject."""
        return self.stream(stream).last(subject)

    def last_at(self, subject: str) -> Record | None:
        """The latest message on a subject of whichever stream keeps it."""
        return self._home(subject).last(subject)

    def get(self, stream: str, seq: int) -> Record | None:
        """One message."""
        return self.stream(stream).records.get(seq)

    def get_at(self, subject: str, seq: int) -> Record | None:
        """One message of the stream that keeps `subject`."""
        return self._home(subject).records.get(seq)

    def read(self, stream: str, pattern: str, first: int, through: int | None, most: int) -> tuple[list[Record], int]:
        """Up to `most` messages that match, and the sequence up to which to go on reading."""
        state = self.stream(stream)
        through = state.last_seq if through is None else through
        return list(itertools.islice(state.scan(pattern, first, through), most)), through

    def purge(self, stream: str, subject: str, before_seq: int) -> None:
        """Remove the messages on a subject, or those before a sequence."""
        state = self.stream(stream)
        for seq in tuple(state.subjects.get(subject, ())):
            if not before_seq or seq < before_seq:
                state.remove(seq)
        if subject not in state.subjects:
            state.totals.pop(subject, None)
        self.note("purged", stream, subject, before_seq)

    # Objects.

    def put_object(self, bucket: str, key: str, data: bytes) -> None:
        """Keep an object."""
        self.note("object", key, len(data))
        self._objects[bucket, key] = data

    def get_object(self, bucket: str, key: str) -> bytes | None:
        """A kept object."""
        return self._objects.get((bucket, key))

    def remove_object(self, bucket: str, key: str) -> None:
        """Forget an object."""
        self.note("object removed", key)
        self._objects.pop((bucket, key), None)

    def object_keys(self, bucket: str) -> list[str]:
        """What is kept, in order. Only the twin tells: for tests and invariants."""
        return sorted(key for kept, key in self._objects if kept == bucket)


def _stamp(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat().replace("+00:00", "Z")
