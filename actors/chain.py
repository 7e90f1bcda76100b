"""What happens between hearing and saying: call the handlers, publish what they say together, hand on in memory what is
stored, keep the facts that everybody here knows, and start an actor anew when it crashed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors.actor import Again, Form, Handler, Heard, Later, Stored
from actors.room import CRASH_LIMIT, CRASH_WINDOW_SECONDS, Crashed, Room
from actors.voice import FactLost, Voice, together
from bus import codec
from bus.bus import Bus, BusError, FactEntry
from messages import Kind, Message

log = logging.getLogger("turnout.host")


class Chain:
    """The rooms of one process and what they say. Holds no subscriptions and no timers: those are the host's."""

    def __init__(self, bus: Bus, rooms: Sequence[Room], voice: Voice, *, hand_on: bool) -> None:
        self.bus, self.rooms, self.voice = bus, list(rooms), voice
        self.hand_on = hand_on
        """Whether events are handed to other rooms in memory (rooms together), or only to the room that said them."""
        self.counts: Counter[str] = Counter()
        """Messages handled and crashes, by `room.handler`."""
        self.failed: asyncio.Future[str] | None = None
        """Set to the reason when a room crashes too often."""
        self._facts: dict[str, Message] = {}
        self._by_type: dict[tuple[str, type[Message]], tuple[Handler, ...]] = {}
        self._by_handed_type: dict[tuple[str, type[Message]], tuple[Handler, ...]] = {}

    async def hear(self, room: Room, message: Message, heard: Heard) -> float | None:
        """Let one room hear a message and say what it has to say; the delay, when it wants to hear it again later."""
        again: float | None = None
        for handler in self._handlers(room, type(message)):
            self.counts[f"{room.name}.{handler.name}"] += 1
            if handler.form is Form.STEPS:
                wanted = await self.steps(room, handler, message, heard)
            else:
                wanted = await self.call(room, handler, message, heard)
            again = wanted if wanted is not None else again
        return again

    def _handlers(self, room: Room, kind: type[Message]) -> tuple[Handler, ...]:
        key = (room.name, kind)
        found = self._by_type.get(key)
        if found is None:
            found = self._by_type[key] = tuple(room.on(kind))
        return found

    def _handed(self, room: Room, other: Room, kind: type[Message]) -> tuple[Handler, ...]:
        """The handlers of `other` for what `room` said: none when it has a queue for that, so that nobody hears it twice."""
        if other is room:
            return self._handlers(room, kind)
        if not self.hand_on:
            return ()
        key = (other.name, kind)
        found = self._by_handed_type.get(key)
        if found is None:
            queued = kind.channel.pattern in other.filters
            found = self._by_handed_type[key] = () if queued else self._handlers(other, kind)
        return found

    async def call(self, room: Room, handler: Handler, message: Message, heard: Heard) -> float | None:
        """A handler that decides. A refused compared fact lets it decide again on the fresh value."""
        while True:
            says = self.guard(room, handler.name, lambda: room.call(handler, message, heard))
            if handler.form is Form.ASYNC:
                says = await self.guarded(room, handler.name, says)
            try:
                return await self.say_all(room, says, heard)
            except FactLost as lost:
                await self.refresh(lost.subject)

    async def steps(self, room: Room, handler: Handler, message: Message, heard: Heard) -> float | None:
        """A handler with steps: say what it yields, and answer with what is stored."""
        steps = self.guard(room, handler.name, lambda: room.call(handler, message, heard))
        reply: Any = None
        again: float | None = None
        try:
            while True:
                try:
                    said = await self.guarded(room, handler.name, steps.asend(reply))
                except StopAsyncIteration:
                    return again
                if isinstance(said, Again):
                    again, reply = said.seconds, None
                elif isinstance(said, Message):
                    reply = await self._step(said, heard)
                elif isinstance(said, Later):
                    reply = await self.voice.later(said, heard)
                else:
                    reply = await together(self._step(said[0], heard), [self._step(m, heard) for m in said[1:]])
        finally:
            await steps.aclose()

    async def _step(self, message: Message, heard: Heard) -> Stored:
        try:
            stored = await self.voice.say(message, heard)
        except FactLost as lost:
            return Stored(await self.refresh(lost.subject) or message, False)
        if message.channel.kind is Kind.FACT:
            await self._learn(message.subject, stored.seq, message)
        return stored

    async def say_all(self, room: Room, says: Sequence[Any] | None, heard: Heard) -> float | None:
        """Publish everything said in answer to one event together; hand on what travels in memory."""
        if not says:
            return None
        if len(says) == 1:
            return await self._say_one(room, says[0], heard)
        ordered = sorted(says, key=lambda said: not (isinstance(said, Message) and said.channel.handed_on))
        delays = await together(
            self._say_one(room, ordered[0], heard), [self._say_one(room, said, heard) for said in ordered[1:]]
        )
        return next((delay for delay in delays if delay is not None), None)

    async def _say_one(self, room: Room, said: Any, heard: Heard) -> float | None:
        if isinstance(said, Again):
            return said.seconds
        if isinstance(said, Later):
            await self.voice.later(said, heard)
            return None
        stored = await self.voice.say(said, heard)
        channel = said.channel
        if channel.kind is Kind.FACT:
            await self._learn(said.subject, stored.seq, said)
        if not channel.handed_on:
            return None
        handed = msgspec.structs.replace(heard, now=self.bus.now(), body=b"", lost=None if stored.ours else said)
        return await self._hand_over(room, stored.message, handed)

    async def _hand_over(self, room: Room, message: Message, heard: Heard) -> float | None:
        """Let the rooms of this process hear a stored event, one after the other; what is only scheduled runs beside."""
        again: float | None = None
        beside: list[asyncio.Task[float | None]] = []
        try:
            for other in self.rooms:
                for handler in self._handed(room, other, type(message)):
                    self.counts[f"{other.name}.{handler.name}"] += 1
                    if handler.form is Form.STEPS:
                        wanted = await self.steps(other, handler, message, heard)
                    elif handler.form is Form.ASYNC:
                        wanted = await self.call(other, handler, message, heard)
                    else:
                        says = self.guard(other, handler.name, lambda o=other, h=handler: o.call(h, message, heard))
                        if says and all(isinstance(said, Later) for said in says):
                            beside.append(asyncio.ensure_future(self.say_all(other, says, heard)))
                            continue
                        wanted = await self.say_all(other, says, heard)
                    again = wanted if wanted is not None else again
            for task in beside:
                await task
        finally:
            for task in beside:
                task.cancel()
        return again

    # ------------------------------------------------------------------------------------------------ facts

    async def on_fact(self, entry: FactEntry) -> None:
        """Take in a fact as the bus tells it."""
        kind = codec.type_at(entry.subject)
        if kind is None or entry.data is None:
            return
        try:
            message = codec.decode(kind, entry.data)
        except codec.Undecodable as error:
            log.warning("fact %s is not understood and left out: %s", entry.subject, error)
            return
        await self._learn(entry.subject, entry.revision, message)

    async def _learn(self, subject: str, revision: int, message: Message) -> None:
        known = self.voice.revisions.get(subject, 0)
        if revision < known or (revision == known and self._facts.get(subject) == message):
            return
        self.voice.revisions[subject] = revision
        self._facts[subject] = message
        heard = Heard(
            now=self.bus.now(), instance=self.voice.instance, boot=self.voice.boot, run="fact", subject=subject
        )
        for room in self.rooms:
            if self._handlers(room, type(message)):
                try:
                    await self.hear(room, message, heard)
                except Crashed as crash:
                    self.restart(crash.room)

    async def refresh(self, subject: str) -> Message | None:
        """Read a fact anew and let everybody here know it."""
        record = await self.bus.last("KV_facts", subject)
        if record is None:
            self.voice.revisions[subject] = 0
            return None
        await self.on_fact(FactEntry(subject, record.seq, record.data))
        return self._facts.get(subject)

    # ---------------------------------------------------------------------------------------------- crashes

    def guard(self, room: Room, name: str, call: Callable[[], Any]) -> Any:
        """Call into an actor. Raises Crashed for whatever it raises."""
        try:
            return call()
        except Exception as error:
            log.exception("%s.%s crashed", room.name, name)
            raise Crashed(room, name) from error

    async def guarded(self, room: Room, name: str, waiting: Any) -> Any:
        """Wait for an actor. Raises Crashed for whatever it raises, but for the bus's errors."""
        try:
            return await waiting
        except (StopAsyncIteration, BusError, FactLost, asyncio.CancelledError):  # The bus's errors are no crashes.
            raise
        except Exception as error:
            log.exception("%s.%s crashed", room.name, name)
            raise Crashed(room, name) from error

    def restart(self, room: Room, *, counts: bool = True) -> None:
        """A fresh actor that knows the facts. Too many crashes in a short time end the process: its supervisor's turn."""
        now = asyncio.get_running_loop().time()
        self.counts[f"{room.name} crashes"] += 1
        if counts and len(room.crashes) == CRASH_LIMIT and now - room.crashes[0] < CRASH_WINDOW_SECONDS:
            if self.failed and not self.failed.done():
                self.failed.set_result(f"room {room.name} crashed {CRASH_LIMIT} times in {CRASH_WINDOW_SECONDS:g} s")
            return
        if counts:
            room.crashes.append(now)
        fresh = room.factory()
        room.actor = fresh
        heard = Heard(now=self.bus.now(), instance=self.voice.instance, boot=self.voice.boot, run="fact")
        for message in list(self._facts.values()):
            for handler in self._handlers(room, type(message)):
                if handler.form is Form.PLAIN:
                    room.call(handler, message, heard)
