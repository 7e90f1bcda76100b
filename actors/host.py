"""The host runs actors on a bus: it subscribes, pulls from their queues, hears signals and questions, and owns the timers and
the drain. What becomes of a queue's messages stands in `heads`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from actors.actor import CantAnswer, Form, Handler, Heard, NotMine, Way
from actors.chain import Chain
from actors.heads import Heads
from actors.room import Crashed, Room
from actors.voice import Boundary, FactLost, Voice
from bus import codec
from bus.bus import Bus, BusClosed, BusError, BusUnavailable, Consuming, Signal, Subscription
from bus.topology import Queue
from messages import Kind

log = logging.getLogger("turnout.host")

HOLD_EVERY_SECONDS = 2.0
"""How often the acknowledgement wait of work in hand starts anew (rule 7)."""


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
        self.heads = Heads(bus, self.chain, self.voice)
        self._subscriptions: list[Subscription] = []
        self._pulls: list[Consuming] = []
        self._ending: dict[Consuming, Queue] = {}  # Paused, and stopped once nothing of them is in hand.
        self._unheard: set[Queue] = set()  # Complained of once.
        self._draining = False
        self._bells: dict[asyncio.Future[None], None] = {}
        """What the timers wait for, in the order in which they began to."""
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
            if queue in room.pulling:
                continue
            try:
                room.pulling[queue] = await self.pull(room, queue, slots)
            except ValueError:  # What can't be heard must not end what can; it is tried again at the next look.
                if queue not in self._unheard:
                    log.exception("%s: the queue %s can't be heard with %s slots", room.name, queue.name, slots)
                self._unheard.add(queue)
            else:
                self._unheard.discard(queue)

    async def pull(self, room: Room, queue: Queue, slots: int) -> Consuming:
        """Let a room hear one more queue."""
        if queue.patience_seconds:
            together = functools.partial(self.heads.walk_together, room, queue)
            pull = await self.bus.consume_together(queue, together, slots=slots)
        else:
            pull = await self.bus.consume(queue, functools.partial(self.heads.walk, room, queue), slots=slots)
        self._pulls.append(pull)
        return pull

    async def unpull(self, queue: Queue, pull: Consuming) -> None:
        """Stop hearing a queue; what is in hand goes on, so the pull is stopped only after that."""
        self._pulls.remove(pull)
        self._ending[pull] = queue
        await pull.pause()

    async def _stop_ended(self) -> None:
        """Stop the paused pulls of which nothing is in hand any more."""
        busy = self.heads.queues
        for pull, queue in list(self._ending.items()):
            if (queue.stream, queue.name) not in busy:
                del self._ending[pull]
                await pull.stop()

    async def _subscribe(self, room: Room, handler: Handler) -> None:
        if handler.hears is None:
            return
        channel = handler.hears.channel
        handed = channel.handed_on and self.chain.hand_on
        if handler.way is Way.OVERHEARS or (handler.way is Way.HEARS and channel.kind is Kind.SIGNAL and not handed):

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
        while waited < patience_seconds:
            await asyncio.sleep(0.05)  # First of all: what lay is only just handed over.
            waited += 0.05
            if not self.in_hand:
                return

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
        return self.heads.in_hand

    # -------------------------------------------------------------------------------- facts, signals, questions

    async def _overhear(self, room: Room, handler: Handler, signal: Signal) -> None:
        assert handler.hears is not None
        heard = Heard(
            now=self.bus.now(), instance=self.instance, boot=self.boot, run=f"signal:{self.heads.next_run()}",
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
            answer = self.chain.called(room, handler, question, heard)
            if handler.form is Form.ASYNC:
                answer = await self.chain.guarded(room, handler.name, answer)
            data = codec.encode(answer)
        except codec.Undecodable as error:
            data = msgspec.json.encode({"problem": {"reason": "undecodable", "message": str(error)}})
        except NotMine:
            return
        except CantAnswer as error:
            data = msgspec.json.encode({"problem": {"reason": "unavailable", "message": str(error)}})
        except Crashed:
            self.chain.restart(room)
            return
        with contextlib.suppress(BusClosed, BusUnavailable):
            await self.bus.signal(signal.reply, data)

    # ------------------------------------------------------------------------------------ timers, holding, crashes

    async def _timer(self, room: Room, handler: Handler) -> None:
        while True:
            heard = Heard(
                now=self.bus.now(), instance=self.instance, boot=self.boot, run=f"timer:{self.heads.next_run()}"
            )  # fmt: skip
            try:
                says = self.chain.called(room, handler, heard)
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
            await self._until_rung(float(getattr(room.actor, handler.period)))

    async def _until_rung(self, seconds: float) -> None:
        """Until the time is over, or all timers ring."""
        loop = asyncio.get_running_loop()
        bell: asyncio.Future[None] = loop.create_future()
        self._bells[bell] = None
        timer = loop.call_later(seconds, _strike, bell)
        try:
            await bell
        finally:
            timer.cancel()
            del self._bells[bell]

    async def _ring(self) -> None:
        """The connection is back: every timer rings at once, so that heartbeats and loads are known again soon."""
        for bell in list(self._bells):
            _strike(bell)

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(HOLD_EVERY_SECONDS)
            await self.heads.hold()
            with contextlib.suppress(BusClosed, BusUnavailable):
                await self._stop_ended()


def _strike(bell: asyncio.Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)
