"""Between the twin's clients and its server: what goes wrong on the way, timers, and the two directions of a connection."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from bus.bus import Signal


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong, and how likely. Without arguments nothing does and nothing takes time."""

    delay_seconds: tuple[float, float] = (0.0, 0.0)
    """Least and most time for one message between client and server, one way; each connection keeps its order."""
    answer_lost: float = 0.0
    """Stored, but the publisher never hears it, so it publishes again."""
    ack_lost: float = 0.0
    """A delivery's acknowledgement gets lost, so it is delivered again."""
    delivered_twice: float = 0.0
    """A message is delivered once more within its acknowledgement wait, though held or already acknowledged."""
    reordered: float = 0.0
    """A consumer is handed a later message first."""
    signal_lost: float = 0.0
    """A core message, republished events included, doesn't reach one of its hearers. Watched facts are exempt."""


ROUGH = Faults(
    delay_seconds=(0.0, 0.01),
    answer_lost=0.02,
    ack_lost=0.02,
    delivered_twice=0.02,
    reordered=0.05,
    signal_lost=0.02,
)
"""Everything at once, for soak tests."""


class Alarms:
    """Many planned calls on one timer of the event loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._set_for = 0.0

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Call at the loop's time `when`."""
        heapq.heappush(self._heap, (when, next(self._numbers), call, args))
        if self._timer is None or when < self._set_for:
            self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._set_for = self._heap[0][0]
            self._timer = asyncio.get_running_loop().call_at(self._set_for, self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            while self._heap and self._heap[0][0] <= now:
                _, _, call, args = heapq.heappop(self._heap)
                call(*args)
        finally:
            self._timer = None
            self._set()


class Link:
    """One direction of one connection: messages arrive in order, each after its own delay."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, Callable[..., None], tuple[Any, ...]]] = deque()
        self._armed: asyncio.Handle | None = None

    def send(self, call: Callable[..., None], *args: Any) -> None:
        """Let `call` happen at the other end."""
        now = self._loop.time()
        due = now + self._delay()
        if self._queue:
            due = max(due, self._queue[-1][0])
        self._queue.append((due, call, args))
        if self._armed is None:
            self._armed = self._loop.call_at(due, self._arrive) if due > now else self._loop.call_soon(self._arrive)

    def _arrive(self) -> None:
        now, queue = self._loop.time(), self._queue
        try:
            while queue and queue[0][0] <= now:
                _, call, args = queue.popleft()
                call(*args)
        finally:
            self._armed = self._loop.call_at(queue[0][0], self._arrive) if queue else None

    def __len__(self) -> int:
        return len(self._queue)

    def cut(self, arrive: int = 0) -> None:
        """Lose what is on its way, but for the first `arrive` messages, which still make it at once."""
        going = list(itertools.islice(self._queue, arrive))
        self._queue.clear()
        for _, call, args in going:
            call(*args)
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None


class Connection(Protocol):
    """What the server knows of a client."""

    name: str
    down: Link

    def cut(self) -> None:
        """The connection is gone."""
        ...

    def greet(self) -> None:
        """The server can be reached again."""
        ...


class Listener(msgspec.Struct, frozen=True, eq=False):
    """A core subscription."""

    client: Connection
    pattern: str
    hear: Callable[[Signal], None]
    reliable: bool = False
