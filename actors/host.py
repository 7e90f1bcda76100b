"""The host runs actors on a bus: subscribe, decode, call, publish what was said and wait for the server's word, and only
then acknowledge what was heard. It owns timers, the hand-over in memory, the holding of long work, restarts and the drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from actors.actor import Form, Handler, Heard, Way
from actors.chain import Chain
from actors.room import Crashed, Room
from actors.voice import Boundary, FactLost, Voice
from bus import codec
from bus.bus import (
    Bus,
    BusClosed,
    BusError,
    BusUnavailable,
    Consuming,
    Delivery,
    PayloadTooLarge,
    QueueFull,
    Signal,
    Subscription,
)
from bus.topology import Queue
from messages import Kind, Message, Problem, untoken

log = logging.getLogger("turnout.host")

HOLD_EVERY_SECONDS = 2.0
"""How often the acknowledgement wait of work in hand starts anew (rule 7)."""
MAX_DELIVERIES = 12
"""A message whose handling crashed this often in this process becomes a dead letter."""


class Host:
    """Runs rooms on one bus connection until it is closed."""

    def __init__(
        self,
        bus: Bus,
        rooms: Sequence[Room],
        *,
        instance: str,
        boot: str,
        hand_on: bool = True,
        boundary: Boundary | None = None,
    ) -> None:
        self.bus, self.rooms = bus, list(rooms)
        self.instance, self.boot = instance, boot
        self.voice = Voice(bus, instance=instance, boot=boot, boundary=boundary)
        self.chain = Chain(bus, self.rooms, self.voice, hand_on=hand_on)
        self.boundary = boundary
        self._runs = 0
        self._walking: dict[tuple[str, str, int], Delivery] = {}
        self._crashes: Counter[tuple[str, str, int]] = Counter()
        self._gates: dict[float, asyncio.Event] = {}
        self._subscriptions: list[Subscription] = []
        self._pulls: list[Consuming] = []
        self._ending: dict[Consuming, Queue] = {}  # Paused, and stopped once nothing of them is in hand.
        self._draining = False
        self._rung = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def counts(self) -> Counter[str]:
        """Messages handled and crashes, by `room.handler`."""
        return self.chain.counts

    @property
    def failed(self) -> asyncio.Future[str] | None:
        """Ends with the reason when a room crashes too often; None before the host is open."""
        return self.chain.failed

    # ------------------------------------------------------------------------------------------------ life

    async def open(self) -> None:
        """Learn the facts, then hear signals, start the timers, and only then take work."""
        self.chain.failed = asyncio.get_running_loop().create_future()
        self._subscriptions.append(await self.bus.watch_facts(self.chain.on_fact))
        for room in self.rooms:
            for handler in room.handlers:
                await self._subscribe(room, handler)
        self.bus.on_reconnect(self._ring)
        self._tasks.append(asyncio.create_task(self._hold(), name="hold"))
        for room in self.rooms:
            for handler in room.handlers:
                if handler.way is Way.EVERY:
                    self._tasks.append(asyncio.create_task(self._timer(room, handler), name=f"{room.name} timer"))
            for queue, slots in room.queues:
                await self.pull(room, queue, slots)
            await self._match_pulls(room)

    async def _match_pulls(self, room: Room) -> None:
        """Hear exactly the queues that the actor wants now, for rooms whose queues come and go."""
        wish: Callable[[], dict[Queue, int]] | None = getattr(room.actor, "pulls", None)
        if wish is None or self._draining:
            return
        wanted = wish()
        for queue in [queue for queue in room.pulling if queue not in wanted]:
            await self.unpull(queue, room.pulling.pop(queue))
        for queue, slots in wanted.items():
            if queue not in room.pulling:
                room.pulling[queue] = await self.pull(room, queue, slots)

    async def pull(self, room: Room, queue: Queue, slots: int) -> Consuming:
        """Let a room hear one more queue."""

        async def on_delivery(delivery: Delivery) -> None:
            await self._walk(room, queue, delivery)

        pull = await self.bus.consume(queue, on_delivery, slots=slots)
        self._pulls.append(pull)
        return pull

    async def unpull(self, queue: Queue, pull: Consuming) -> None:
        """Stop hearing a queue; what is in hand goes on, so the pull is stopped only after that."""
        self._pulls.remove(pull)
        self._ending[pull] = queue
        await pull.pause()

    async def _stop_ended(self) -> None:
        """Stop the paused pulls of which nothing is in hand any more."""
        busy = {(stream, name) for stream, name, _ in self._walking}
        for pull, queue in list(self._ending.items()):
            if (queue.stream, queue.name) not in busy:
                del self._ending[pull]
                await pull.stop()

    async def _subscribe(self, room: Room, handler: Handler) -> None:
        if handler.hears is None:
            return
        channel = handler.hears.channel
        if handler.way is Way.OVERHEARS or (handler.way is Way.HEARS and channel.kind is Kind.SIGNAL):

            async def on_signal(signal: Signal) -> None:
                await self._overhear(room, handler, signal)

            self._subscriptions.append(await self.bus.subscribe(channel.public, on_signal))
        elif handler.way is Way.ANSWERS:

            async def on_question(signal: Signal) -> None:
                await self._answer(room, handler, signal)

            self._subscriptions.append(await self.bus.subscribe(channel.prefix, on_question))

    async def drain(self, patience_seconds: float) -> None:
        """Take no more, and wait until what is in hand has ended or the patience has."""
        self._draining = True
        for pull in list(self._pulls):
            await pull.pause()
        waited = 0.0
        while self._walking and waited < patience_seconds:
            await asyncio.sleep(0.05)
            waited += 0.05

    async def close(self) -> None:
        """End at once. Unacknowledged messages go to others after their wait."""
        for task in self._tasks:
            task.cancel()
        for ended in (*self._pulls, *self._ending, *self._subscriptions):
            with contextlib.suppress(BusClosed, BusUnavailable):
                await ended.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for room in self.rooms:
            closing = getattr(room.actor, "closing", None)
            if closing is not None:
                await closing()

    @property
    def in_hand(self) -> int:
        """Messages being handled now."""
        return len(self._walking)

    # ------------------------------------------------------------------------------------------- hearing

    async def _walk(self, room: Room, queue: Queue, delivery: Delivery) -> None:
        """One chain: from a head to its acknowledgement."""
        key = (queue.stream, queue.name, delivery.seq)
        if key in self._walking:
            return  # Redelivered while this process still handles it: neither acknowledged nor begun again.
        self._walking[key] = delivery
        try:
            if queue.patience_seconds:
                await self._lie(queue.patience_seconds)
            heard = self._heard(delivery)
            again = await self._head(room, delivery, heard)
            if again is not None:
                await delivery.nak(again)
                return
            if self.boundary:
                await self.boundary("before acknowledge", delivery.subject)
            await delivery.ack()
            self._crashes.pop(key, None)
        except Crashed as crash:
            # The same message again is no further reason to give the process up.
            self.chain.restart(crash.room, counts=not self._crashes[key])
            await self._not_handled(room, key, delivery)
        except BusClosed:
            return
        except (BusUnavailable, QueueFull) as error:
            log.warning("%s: %s could not be handled now: %s", room.name, delivery.subject, error)
            with contextlib.suppress(BusClosed, BusUnavailable):
                await delivery.nak(1.0)
        except Exception:  # What is said is too large or can't be addressed, or what is stored is not understood.
            log.exception("%s: %s can't be handled", room.name, delivery.subject)
            await self._not_handled(room, key, delivery)
        finally:
            self._walking.pop(key, None)

    async def _lie(self, seconds: float) -> None:
        """Wait for the next common moment; those who wait go on in the order in which they came."""
        gate = self._gates.get(seconds)
        if gate is None:
            gate = self._gates[seconds] = asyncio.Event()
            asyncio.get_running_loop().call_later(seconds, self._open_gate, seconds)
        await gate.wait()

    def _open_gate(self, seconds: float) -> None:
        self._gates.pop(seconds).set()

    def _heard(self, delivery: Delivery) -> Heard:
        self._runs += 1
        return Heard(
            now=self.bus.now(), stream=delivery.stream, seq=delivery.seq, stored_at=delivery.time,
            deliveries=delivery.deliveries, instance=self.instance, boot=self.boot, run=str(self._runs),
            trace=codec.trace_of(delivery.headers) or "", body=delivery.data, subject=delivery.subject,
        )  # fmt: skip

    async def _head(self, room: Room, delivery: Delivery, heard: Heard) -> float | None:
        kind = codec.type_at(delivery.subject)
        message: Message | None = None
        try:
            if kind is None:
                text = f"no message type lies on {delivery.subject}"
                raise codec.Undecodable(text)
            data, headers = codec.body_of(delivery.data, delivery.headers)
            message = codec.decode(kind, data, headers)
            if codec.is_msgpack(headers):
                heard = msgspec.structs.replace(heard, body=codec.as_json(data, headers))
        except codec.Undecodable as error:
            undecodable = getattr(room.actor, "undecodable", None)
            problem = Problem(reason="undecodable", message=f"{delivery.subject}: {error}")
            if undecodable is None:
                tenant, job = whose(delivery)
                await self.voice.dead_letter(heard, problem, tenant=tenant, job=job)
                return None
            heard = msgspec.structs.replace(heard, undecodable=str(error))
            says = self.chain.guard(room, "undecodable", lambda: undecodable(heard))
            return await self.chain.say_all(room, says, heard)
        return await self.chain.hear(room, message, heard)

    # -------------------------------------------------------------------------------- facts, signals, questions

    async def _overhear(self, room: Room, handler: Handler, signal: Signal) -> None:
        assert handler.hears is not None
        heard = Heard(
            now=self.bus.now(), instance=self.instance, boot=self.boot, run=f"signal:{self._next_run()}",
            trace=codec.trace_of(signal.headers) or "", subject=signal.subject,
        )  # fmt: skip
        try:
            message = codec.decode(handler.hears, signal.data, signal.headers)
            self.chain.counts[f"{room.name}.{handler.name}"] += 1
            if handler.form is Form.STEPS:
                await self.chain.steps(room, handler, message, heard)
            else:
                await self.chain.call(room, handler, message, heard)
        except codec.Undecodable as error:
            log.warning("%s: signal on %s is not understood: %s", room.name, signal.subject, error)
        except Crashed as crash:
            self.chain.restart(crash.room)
        except BusError as error:
            log.warning("%s: what it had to say to %s was not said: %s", room.name, signal.subject, error)

    async def _answer(self, room: Room, handler: Handler, signal: Signal) -> None:
        if not signal.reply or handler.hears is None:
            return
        heard = Heard(now=self.bus.now(), instance=self.instance, boot=self.boot, run="ask", subject=signal.subject)
        try:
            question = codec.decode(handler.hears, signal.data, signal.headers)
            answer = self.chain.guard(room, handler.name, lambda: room.call(handler, question, heard))
            if handler.form is Form.ASYNC:
                answer = await self.chain.guarded(room, handler.name, answer)
            data = codec.encode(answer)
        except codec.Undecodable as error:
            data = msgspec.json.encode({"problem": {"reason": "undecodable", "message": str(error)}})
        except Crashed:
            self.chain.restart(room)
            return
        with contextlib.suppress(BusClosed, BusUnavailable):
            await self.bus.signal(signal.reply, data)

    # ------------------------------------------------------------------------------------ timers, holding, crashes

    async def _timer(self, room: Room, handler: Handler) -> None:
        while True:
            heard = Heard(
                now=self.bus.now(), instance=self.instance, boot=self.boot, run=f"timer:{self._next_run()}"
            )  # fmt: skip
            try:
                says = self.chain.guard(room, handler.name, lambda h=heard: room.call(handler, h))
                if handler.form is Form.ASYNC:
                    says = await self.chain.guarded(room, handler.name, says)
                await self.chain.say_all(room, says, heard)
                await self._match_pulls(room)
            except Crashed as crash:
                self.chain.restart(crash.room)
            except FactLost as lost:
                await self.chain.refresh(lost.subject)
            except BusClosed:
                return
            except BusError as error:
                log.warning("%s: the timer's word was not said: %s", room.name, error)
            except Exception:  # It must ring again, whatever it was.
                log.exception("%s.%s: the timer's word was not said", room.name, handler.name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(getattr(room.actor, handler.period))):
                    await self._rung.wait()

    async def _ring(self) -> None:
        """The connection is back: every timer rings at once, so that heartbeats and loads are known again soon."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(HOLD_EVERY_SECONDS)
            for delivery in list(self._walking.values()):
                with contextlib.suppress(BusClosed, BusUnavailable):
                    await delivery.in_progress()
            with contextlib.suppress(BusClosed, BusUnavailable):
                await self._stop_ended()

    def _next_run(self) -> int:
        self._runs += 1
        return self._runs

    async def _not_handled(self, room: Room, key: tuple[str, str, int], delivery: Delivery) -> None:
        """Later again; after too many times it goes out of the way."""
        self._crashes[key] += 1
        with contextlib.suppress(BusClosed, BusUnavailable):
            if self._crashes[key] < MAX_DELIVERIES:
                await delivery.nak(min(0.1 * 2 ** self._crashes[key], 10.0))
                return
            await self._put_away(room, delivery)
            await delivery.ack()
            del self._crashes[key]

    async def _put_away(self, room: Room, delivery: Delivery) -> None:
        """A dead letter, and the end of the job where the room can say one without having understood the message."""
        heard = self._heard(delivery)
        text = f"{room.name} could not handle it {MAX_DELIVERIES} times"
        problem = Problem(reason="crashed", message=text)
        tenant, job = whose(delivery)
        undecodable = getattr(room.actor, "undecodable", None)
        if undecodable is not None:
            try:
                await self.chain.say_all(room, undecodable(msgspec.structs.replace(heard, undecodable=text)), heard)
            except (BusClosed, BusUnavailable):
                raise
            except Exception:  # The job stands already, and ends at its deadline; or it can't be named.
                log.exception("%s: %s has no end of its own", room.name, delivery.subject)
            else:
                return
        try:
            await self.voice.dead_letter(heard, problem, tenant=tenant, job=job)
        except (PayloadTooLarge, BusClosed, BusUnavailable):
            raise
        except BusError:  # Its names are too long for a subject.
            await self.voice.dead_letter(heard, problem, tenant="-", job=f"{delivery.stream}-{delivery.seq}")


def whose(delivery: Delivery) -> tuple[str, str]:
    """The tenant and the job a message is about, as its subject tells; `-` for what it does not tell."""
    kind = codec.type_at(delivery.subject)
    keys = kind.channel.keys if kind else ()
    told = dict(zip(reversed(keys), map(untoken, reversed(delivery.subject.split("."))), strict=False))
    return told.get("tenant", "-"), told.get("job", f"in-{delivery.seq}" if delivery.stream == "IN" else "-")
