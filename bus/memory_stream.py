"""What the twin's server keeps, as plain data: streams, durable consumers, subject patterns.

No tasks and no clock in here: time comes in as an argument, and who is to be told of a change comes out as a result.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from bus.bus import BusError, Headers, QueueState, Record

if TYPE_CHECKING:
    from bus.topology import Queue, Stream

T = TypeVar("T")

FORGOTTEN_SECONDS = 0.1
"""A killed server has not yet written what its consumers did in this last stretch."""


class _Node(Generic[T]):
    __slots__ = ("any", "here", "rest", "tokens")

    def __init__(self) -> None:
        self.tokens: dict[str, _Node[T]] = {}
        self.any: _Node[T] | None = None  # `*`
        self.rest: list[T] = []  # `>`
        self.here: list[T] = []


class Patterns(Generic[T]):
    """Values filed under subject patterns; finds those whose pattern a subject matches."""

    __slots__ = ("_root", "count")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self.count = 0

    def _home(self, pattern: str) -> list[T]:
        node, tokens = self._root, pattern.split(".")
        for part in tokens[:-1] if tokens[-1] == ">" else tokens:
            if part == "*":
                if node.any is None:
                    node.any = _Node()
                node = node.any
            else:
                node = node.tokens.setdefault(part, _Node())
        return node.rest if tokens[-1] == ">" else node.here

    def add(self, pattern: str, value: T) -> None:
        """File `value`."""
        self._home(pattern).append(value)
        self.count += 1

    def remove(self, pattern: str, value: T) -> None:
        """Take it out again; nothing happens when it is not there."""
        home = self._home(pattern)
        if value in home:
            home.remove(value)
            self.count -= 1
        _prune(self._root, pattern.split("."))

    def match(self, subject: str) -> list[T]:
        """The values that `subject` concerns; one filed under several matching patterns comes several times."""
        found: list[T] = []
        level = [self._root]
        for token in subject.split("."):
            deeper: list[_Node[T]] = []
            for node in level:
                found += node.rest
                if (child := node.tokens.get(token)) is not None:
                    deeper.append(child)
                if node.any is not None:
                    deeper.append(node.any)
            if not deeper:
                return found
            level = deeper
        for node in level:
            found += node.here
        return found


def _prune(node: _Node[T], tokens: list[str]) -> bool:
    """Drop the branches along a pattern that hold nothing any more; whether `node` itself does not."""
    if tokens:
        child = node.any if tokens[0] == "*" else node.tokens.get(tokens[0])
        if child is not None and _prune(child, tokens[1:]):
            if tokens[0] == "*":
                node.any = None
            else:
                del node.tokens[tokens[0]]
    return not (node.tokens or node.any or node.rest or node.here)


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A test whether a subject matches one of `patterns`."""
    filed: Patterns[None] = Patterns()
    for pattern in patterns:
        filed.add(pattern, None)
    return lambda subject: bool(filed.match(subject))


def overlap(one: str, two: str) -> bool:
    """Whether some subject matches both patterns."""
    mine, yours = one.split("."), two.split(".")
    for a, b in zip(mine, yours, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(mine) == len(yours)


class Answer(NamedTuple):
    """What the server says to a publish; `seq` is the message that holds the place when ours does not."""

    word: Literal["stored", "duplicate", "taken", "exists", "full"]
    seq: int
    total: int = 0
    """Of a counter."""


class Held:
    """A message that was delivered and is not acknowledged."""

    __slots__ = ("alarm_at", "deadline", "deliveries", "record", "sent_at")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.deliveries = 0
        self.sent_at = 0.0
        self.deadline = math.inf
        """When it comes again; infinite while it waits for somebody to take it."""
        self.alarm_at = -1.0
        """The time of the one alarm that counts for it."""

    @property
    def queued(self) -> bool:
        """Whether it waits for somebody to take it again."""
        return self.deadline == math.inf


class Pull:
    """One client's open request for messages of one consumer."""

    __slots__ = ("client", "closed", "deliver", "free")

    def __init__(self, client: str, deliver: Callable[[Record, int], None]) -> None:
        self.client = client
        self.deliver = deliver
        self.free = 0
        self.closed = False
        """Once closed it stays so, whatever of its client still arrives."""


class Durable:
    """A durable consumer: what waits, what is held, and who asks for messages."""

    def __init__(self, queue: Queue, stream: StreamState) -> None:
        self.queue = queue
        self.stream = stream
        self.waiting: deque[Record] = deque()
        self.again: deque[Held] = deque()
        self.held: dict[int, Held] = {}
        self.pulls: deque[Pull] = deque()
        self.deliveries = 0
        self._acked: deque[tuple[float, Held]] = deque()  # Young enough to be forgotten.

    def take(self, skip: int = 0) -> Held | None:
        """The next message to deliver, if there is one that may be; `skip` passes over some, where there are more."""
        records = self.stream.records
        while self.again:  # Redeliveries come first, and whatever the limit says: they are in flight already.
            held = self.again.popleft()
            if self.held.get(held.record.seq) is held and held.queued and held.record.seq in records:
                self.deliveries += 1
                return held
        waiting = self.waiting
        while waiting and len(self.held) < self.queue.max_in_flight:
            if skip and skip < len(waiting):
                record = waiting[skip]
                del waiting[skip]
            else:
                record = waiting.popleft()
            if record.seq in records:
                held = self.held[record.seq] = Held(record)
                self.deliveries += 1
                return held
        return None

    def ack(self, seq: int, now: float) -> bool:
        """It is handled; False when it was already."""
        held = self.held.pop(seq, None)
        if held is None:
            return self._ack_forgotten(seq)
        while self._acked and self._acked[0][0] < now - FORGOTTEN_SECONDS:
            self._acked.popleft()
        self._acked.append((now, held))
        if self.stream.config.work_queue:
            self.stream.remove(seq)
        return True

    def _ack_forgotten(self, seq: int) -> bool:
        """An acknowledgement counts although the server forgot the delivery."""
        for record in self.waiting:
            if record.seq == seq:
                self.waiting.remove(record)
                if self.stream.config.work_queue:
                    self.stream.remove(seq)
                return True
            if record.seq > seq:
                return False
        return False

    def queue_again(self, held: Held) -> None:
        """Let it be delivered again as soon as somebody takes it."""
        held.deadline = math.inf
        self.again.append(held)

    def forget(self, now: float) -> None:
        """The server was killed: what happened in the last moments did not."""
        young = now - FORGOTTEN_SECONDS
        for at, held in self._acked:
            if at > young and held.record.seq in self.stream.records:
                self.held[held.record.seq] = held
                held.deadline = math.inf
        self._acked.clear()
        undelivered: list[Record] = []
        self.again.clear()
        for seq, held in sorted(self.held.items()):
            if held.sent_at > young:
                held.deliveries -= 1
                self.deliveries -= 1
                held.deadline = math.inf
            if held.deliveries < 1:
                undelivered.append(held.record)
                del self.held[seq]
            elif held.queued:
                self.again.append(held)
        self.waiting.extendleft(reversed(undelivered))

    def update(self, queue: Queue) -> None:
        """Change the settings; a new filter counts for what was not delivered yet."""
        if set(queue.filters) != set(self.queue.filters):
            floor = self.waiting[0].seq if self.waiting else self.stream.last_seq + 1
            fits = matcher(queue.filters)
            self.waiting = deque(r for s, r in self.stream.records.items() if s >= floor and fits(r.subject))
        self.queue = queue

    def state(self) -> QueueState:
        """How full it is."""
        waiting = len(self.waiting)
        if not self.stream.config.work_queue:  # Elsewhere a message may have been replaced since.
            waiting = sum(record.seq in self.stream.records for record in self.waiting)
        return QueueState(waiting=waiting, running=len(self.held), deliveries=self.deliveries)


class StreamState:
    """The messages of one stream and its durable consumers."""

    def __init__(self, config: Stream) -> None:
        self.config = config
        self.records: dict[int, Record] = {}
        self.subjects: dict[str, list[int]] = {}
        self.last_seq = 0
        self.durables: dict[str, Durable] = {}
        self._hearers: Patterns[Durable] = Patterns()
        self._ids: dict[str, int] = {}
        self._ages: deque[tuple[float, str]] = deque()
        self.totals: dict[str, int] = {}
        self.due: dict[int, tuple[float, str]] = {}
        """When its schedules fire by the server's clock, and where, by their sequences."""

    # Storing.

    def judge(
        self, subject: str, msg_id: str, expected: int | None, now: float, *, duplicate_first: bool
    ) -> Answer | None:
        """Why a message is not stored, or None. One replica checks the condition first, three the duplicate."""
        seq = self.seq_of(msg_id, now) if msg_id else None
        if duplicate_first and seq is not None:
            return Answer("duplicate", seq)
        last = self.last(subject)
        if expected is not None and expected != (last.seq if last else 0):
            return Answer("taken", last.seq if last else 0)
        if seq is not None:
            return Answer("duplicate", seq)
        if self.config.work_queue:
            if last is not None:
                return Answer("exists", last.seq)
            if 0 <= self.config.max_messages <= len(self.records):
                return Answer("full", 0)
        return None

    def seq_of(self, msg_id: str, now: float) -> int | None:
        """The message that was stored under this id within the duplicate window."""
        oldest = now - self.config.duplicate_window_seconds
        ages = self._ages
        while ages and ages[0][0] <= oldest:
            del self._ids[ages.popleft()[1]]
        return self._ids.get(msg_id)

    def store(self, subject: str, data: bytes, headers: Headers, *, msg_id: str, now: float, wall: float) -> Record:
        """Append a message; a fact replaces the one on its subject."""
        self.last_seq = seq = self.last_seq + 1
        record = Record(subject=subject, seq=seq, data=data, headers=headers, time=wall)
        if self.config.last_per_subject and subject in self.subjects:
            for old in tuple(self.subjects[subject]):
                self.remove(old)
        self.records[seq] = record
        self.subjects.setdefault(subject, []).append(seq)
        if msg_id:
            self._ids[msg_id] = seq
            self._ages.append((now, msg_id))
        return record

    def concerned(self, record: Record) -> list[Durable]:
        """File a stored message with the consumers that hear its subject; these consumers."""
        found = self._hearers.match(record.subject)
        if len(found) > 1:
            found = list(dict.fromkeys(found))
        for durable in found:
            durable.waiting.append(record)
        return found

    def remove(self, seq: int) -> None:
        """Delete a message."""
        record = self.records.pop(seq, None)
        self.due.pop(seq, None)
        if record is not None:
            seqs = self.subjects[record.subject]
            seqs.remove(seq)
            if not seqs:
                del self.subjects[record.subject]

    # Reading.

    def last(self, subject: str) -> Record | None:
        """The latest message on a subject."""
        seqs = self.subjects.get(subject)
        return self.records[seqs[-1]] if seqs else None

    def scan(self, pattern: str, first: int, through: int) -> Iterator[Record]:
        """The messages between two sequences that match, in order."""
        if "*" not in pattern and not pattern.endswith(">"):
            yield from (self.records[seq] for seq in self.subjects.get(pattern, ()) if first <= seq <= through)
            return
        fits = matcher([pattern])
        if through - first < len(self.records):
            found = (self.records.get(seq) for seq in range(first, through + 1))
        else:
            found = (record for seq, record in self.records.items() if first <= seq <= through)
        yield from (record for record in found if record is not None and fits(record.subject))

    # Consumers.

    def set_up(self, queue: Queue) -> Durable:
        """Create or change a durable consumer. Raises BusError where a work queue would have two for one message."""
        if self.config.work_queue:
            for other in self.durables.values():
                if other.queue.name != queue.name and any(
                    overlap(a, b) for a in queue.filters for b in other.queue.filters
                ):
                    raise BusError(f"{queue.stream}: {queue.name} and {other.queue.name} would hear the same messages")
        durable = self.durables.get(queue.name)
        if durable is None:
            durable = self.durables[queue.name] = Durable(queue, self)
            fits, since = matcher(queue.filters), queue.start_time or 0.0
            durable.waiting.extend(r for r in self.records.values() if r.time >= since and fits(r.subject))
        else:
            for pattern in durable.queue.filters:
                self._hearers.remove(pattern, durable)
            durable.update(queue)
        for pattern in queue.filters:
            self._hearers.add(pattern, durable)
        return durable
