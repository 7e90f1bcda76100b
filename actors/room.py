"""A room as the host holds it: an actor, how to make it anew, and what it hears."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from actors.actor import Actor, Handler, Way, handlers_of
from bus.bus import Consuming
from bus.topology import Queue
from messages import Message

CRASH_LIMIT = 20
"""Crashes of one room within CRASH_WINDOW_SECONDS after which the process gives up."""
CRASH_WINDOW_SECONDS = 60.0


class Room:
    """An actor, how to make it anew, and what it hears."""

    def __init__(self, factory: Callable[[], Actor], *, queues: Sequence[tuple[Queue, int]] = ()) -> None:
        self.factory = factory
        self.actor = factory()
        self.name = self.actor.room
        self.queues = tuple(queues)
        """Its durable consumers, each with how many messages it takes in hand at once."""
        self.filters = frozenset(pattern for queue, _ in self.queues for pattern in queue.filters)
        self.handlers = handlers_of(type(self.actor))
        self.keeps = hasattr(self.actor, "kept")
        """Whether its actor keeps something outside the bus, which must be safe before anything is acknowledged."""
        self.crashes: deque[float] = deque(maxlen=CRASH_LIMIT)
        self.pulling: dict[Queue, Consuming] = {}
        """Queues that come and go with the actor's wish."""

    @property
    def losses(self) -> int:
        """How often its actor could not keep what it had heard."""
        return getattr(self.actor, "losses", 0) if self.keeps else 0

    def on(self, kind: type[Message], way: Way = Way.HEARS) -> list[Handler]:
        """Its handlers for one message type."""
        return [h for h in self.handlers if h.hears is kind and h.way is way]

    def call(self, handler: Handler, *arguments: Any) -> Any:
        """Call a handler on the present actor."""
        return getattr(self.actor, handler.name)(*arguments)


class Crashed(Exception):
    """A handler raised. It is a bug; the message will come again to a fresh actor."""

    def __init__(self, room: Room, handler: str) -> None:
        super().__init__(f"{room.name}.{handler}")
        self.room = room
