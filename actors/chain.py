"""What happens between hearing and saying: call the handlers, publish what they say together, hand on in memory what is
stored, keep the facts that everybody here knows, and start an actor anew when it crashed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from actors.actor import Again, CantAnswer, Form, Handler, Heard, Later, Stored
from actors.room import CRASH_LIMIT, CRASH_WINDOW_SECONDS, Crashed, Room
from actors.voice import FactLost, Voice, together
from bus import codec
from bus.bus import Bus, BusError, FactEntry
from messages import Kind, Message

log = logging.getLogger("turnout.host")


class Call(NamedTuple):
    """A handler of a room, and the name under which its calls are counted."""

    room: Room
    handler: Handler
    name: str


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
        """Their latest values, until they are deleted: some are named by clients."""
        self._hearing: dict[tuple[str, type[Message]], tuple[Call, ...]] = {}
        self._handing: dict[tuple[str, type[Message]], tuple[Call, ...]] = {}

    async def hear(self, room: Room, message: Message, heard: Heard) -> float | None:
        """Let one room hear a message and say what it has to say; the delay, when it wants to hear it again later."""
        again: float | None = None
        for _, handler, name in self._calls(room, type(message)):
            self.counts[name] += 1
            if handler.form is Form.STEPS:
                wanted = await self.steps(room, handler, message, heard)
            else:
                wanted = await self.call(room, handler, message, heard)
            again = wanted if wanted is not None else again
        return again

    def _calls(self, room: Room, kind: type[Message]) -> tuple[Call, ...]:
        """The room's handlers of a type."""
        key = (room.name, kind)
        found = self._hearing.get(key)
        if found is None:
            found = tuple(Call(room, handler, f"{room.name}.{handler.name}") for handler in room.on(kind))
            self._hearing[key] = found
        return found

    def _handed(self, room: Room, kind: type[Message]) -> tuple[Call, ...]:
        """All handlers for what `room` said, of other rooms too: but of none that has a queue for it, so that nobody hears
        it twice.
        """
        key = (room.name, kind)
        found = self._handing.get(key)
        if found is None:
            pattern = kind.channel.pattern
            hear = [one for one in self.rooms if one is room or (self.hand_on and pattern not in one.filters)]
            found = self._handing[key] = tuple(call for one in hear for call in self._calls(one, kind))
        return found

    async def call(self, room: Room, handler: Handler, message: Message, heard: Heard) -> float | None:
        """A handler that decides. A refused compared fact lets it decide again on the fresh value."""
        while True:
            says = self.called(room, handler, message, heard)
            if handler.form is Form.ASYNC:
                says = await self.guarded(room, handler.name, says)
            try:
                return await self.say_all(room, says, heard)
            except FactLost as lost:
                await self.refresh(lost.subject)

    async def steps(self, room: Room, handler: Handler, message: Message, heard: Heard) -> float | None:
        """A handler with steps: say what it yields, and answer with what is stored."""
        steps = self.called(room, handler, message, heard)
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
                    reply, wanted = await self._step(room, said, heard)
                    again = wanted if wanted is not None else again
                elif isinstance(said, Later):
                    reply = await self.voice.later(said, heard)
                else:
                    found = await together(
                        self._step(room, said[0], heard), [self._step(room, one, heard) for one in said[1:]]
                    )
                    reply = [stored for stored, _ in found]
                    again = next((wanted for _, wanted in found if wanted is not None), again)
        finally:
            await steps.aclose()

    async def _step(self, room: Room, message: Message, heard: Heard) -> tuple[Stored, float | None]:
        try:
            return await self._say_message(room, message, heard)
        except FactLost as lost:
            return Stored(await self.refresh(lost.subject) or message, False), None

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
        return (await self._say_message(room, said, heard))[1]

    async def _say_message(self, room: Room, message: Message, heard: Heard) -> tuple[Stored, float | None]:
        """Say it, and hand it on; what is stored, and the delay when whoever heard it here wants to hear it again later."""
        channel = message.channel
        kind = channel.kind
        if kind is Kind.SIGNAL and self.hand_on and channel.handed_on:
            stored = Stored(message, True)  # Whoever it is for is here.
        else:
            stored = await self.voice.say(message, heard)
            if kind is Kind.FACT:
                await self._learn(message.subject, stored.seq, message)
            if kind is Kind.SIGNAL or not channel.handed_on:
                return stored, None
        handed = msgspec.structs.replace(heard, now=self.bus.now(), body=b"", lost=None if stored.ours else message)
        return stored, await self._hand_over(room, stored.message, handed)

    async def _hand_over(self, room: Room, message: Message, heard: Heard) -> float | None:
        """Let the rooms of this process hear a stored event, one after the other; what is only scheduled runs beside."""
        again: float | None = None
        beside: list[asyncio.Task[float | None]] = []
        try:
            for other, handler, name in self._handed(room, type(message)):
                self.counts[name] += 1
                if handler.form is Form.STEPS:
                    wanted = await self.steps(other, handler, message, heard)
                elif handler.form is Form.ASYNC:
                    wanted = await self.call(other, handler, message, heard)
                else:
                    says = self.called(other, handler, message, heard)
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
        """Take in a fact as the bus tells it. One without a value was deleted, or is about to be."""
        kind = codec.type_at(entry.subject)
        if kind is None:
            return
        if not entry.data:
            self._forget(entry.subject, entry.revision)
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
            if self._calls(room, type(message)):
                try:
                    await self.hear(room, message, heard)
                except Crashed as crash:
                    self.restart(crash.room)

    def _forget(self, subject: str, revision: int) -> None:
        """A fact is deleted: rooms that keep something of it may forget that too, with `def forget(self, message)`."""
        if revision < self.voice.revisions.get(subject, 0):
            return
        self.voice.revisions.pop(subject, None)
        message = self._facts.pop(subject, None)
        if message is None:
            return
        for room in self.rooms:
            forget = getattr(room.actor, "forget", None)
            if forget is not None and self._calls(room, type(message)):
                try:
                    self.guard(room, "forget", lambda call=forget: call(message))
                except Crashed as crash:
                    self.restart(crash.room)

    async def refresh(self, subject: str) -> Message | None:
        """Read a fact anew and let everybody here know it; None when it is deleted."""
        record = await self.bus.last("KV_facts", subject)
        if record is None:
            self._forget(subject, self.voice.revisions.get(subject, 0))
            return None
        await self.on_fact(FactEntry(subject, record.seq, record.data))
        if not record.data:  # It still lies there: a compared one is written over it.
            self.voice.revisions[subject] = record.seq
        return self._facts.get(subject)

    # ---------------------------------------------------------------------------------------------- crashes

    def called(self, room: Room, handler: Handler, *arguments: Any) -> Any:
        """What a handler of the present actor returns. Raises Crashed for whatever it raises."""
        try:
            return getattr(room.actor, handler.name)(*arguments)
        except CantAnswer:
            raise
        except Exception as error:
            log.exception("%s.%s crashed", room.name, handler.name)
            raise Crashed(room, handler.name) from error

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
        except (StopAsyncIteration, BusError, FactLost, CantAnswer, asyncio.CancelledError):  # No crashes.
            raise
        except Exception as error:
            log.exception("%s.%s crashed", room.name, name)
            raise Crashed(room, name) from error

    async def kept(self, room: Room, losses: int) -> bool:
        """Whether what the actor keeps outside the bus, and has heard since `losses` was read, is safe. Raises Crashed."""
        keeper: Any = room.actor
        return await self.guarded(room, "kept", self.guard(room, "kept", lambda: keeper.kept(losses)))

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
            for _, handler, _ in self._calls(room, type(message)):
                if handler.form is Form.PLAIN:
                    room.call(handler, message, heard)
