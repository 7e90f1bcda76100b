"""The heads of chains: decode what a queue delivered, let its room hear it, and acknowledge once all that follows is stored."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from actors.actor import Actor, Heard
from actors.bounded import Bounded
from actors.chain import Chain
from actors.problem import unreadable
from actors.room import Crashed, Room
from actors.voice import Voice, together
from bus import codec
from bus.bus import Bus, BusClosed, BusError, BusUnavailable, Delivery, PayloadTooLarge, QueueFull
from bus.topology import Queue
from messages import Message, Problem, untoken

log = logging.getLogger("turnout.host")

MAX_DELIVERIES = 12
"""A message whose handling crashed this often in this process becomes a dead letter."""
MOST_CRASHED = 10_000
"""Messages whose crashes are remembered."""
LONGEST_PAUSE_SECONDS = 30.0
"""What an actor could not keep, because of a full disk for instance, is delivered again after no more than this."""
LANES = 8
"""Of messages that are handled together, so many at once wait for an answer; those that need none follow each other."""

Key = tuple[str, str, int]
"""Stream, queue, sequence."""
Taken = tuple[Key, Delivery]
Handled = tuple[Key, Delivery, Actor]
"""With the actor that heard it."""


class Heads:
    """What this process has in hand, from its delivery to its acknowledgement."""

    def __init__(self, bus: Bus, chain: Chain, voice: Voice) -> None:
        self.bus, self.chain, self.voice = bus, chain, voice
        self._runs = 0
        self._walking: dict[Key, Delivery] = {}
        self._crashes = Bounded[Key, int](MOST_CRASHED)
        """How often each message crashed its handler here; it may be handled elsewhere then, of which nobody tells."""
        self._turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        """Whose turn it is, by queue, where they are handled in order."""

    @property
    def in_hand(self) -> int:
        """Messages being handled now."""
        return len(self._walking)

    @property
    def queues(self) -> set[tuple[str, str]]:
        """Stream and name of the queues they came from."""
        return {(stream, name) for stream, name, _ in self._walking}

    def next_run(self) -> int:
        """The number of one more run of a handler: no two share one."""
        self._runs += 1
        return self._runs

    async def hold(self) -> None:
        """Let the acknowledgement wait of everything in hand start anew (rule 7)."""
        for delivery in list(self._walking.values()):
            with contextlib.suppress(BusClosed, BusUnavailable):
                await delivery.in_progress()

    # ------------------------------------------------------------------------------------------- walking

    async def walk(self, room: Room, queue: Queue, delivery: Delivery) -> None:
        """One chain: from a head to its acknowledgement."""
        for key, taken in self._take(queue, (delivery,)):
            actor, losses = room.actor, room.losses
            try:
                if await self._hear(room, key, taken):
                    await self._acknowledge(room, ((key, taken, actor),), losses)
            finally:
                self._let_go(key, taken)

    async def walk_together(self, room: Room, queue: Queue, deliveries: Sequence[Delivery]) -> None:
        """Chains that begin together, and end one by one; those of an actor that keeps something end together."""
        taken = self._take(queue, deliveries)
        left, handled, losses = iter(taken), list[Handled](), room.losses

        async def lane() -> None:
            for one in left:
                actor = room.actor
                try:
                    if not await self._hear(room, *one):
                        self._let_go(*one)
                    elif room.keeps:
                        handled.append((*one, actor))
                    else:
                        await self._acknowledge(room, ((*one, actor),), losses)
                        self._let_go(*one)
                except Exception:  # It must not take the others with it.
                    log.exception("%s: %s can't be put out of the way; it will come again", room.name, one[1].subject)
                    self._let_go(*one)

        try:
            if queue.in_order:
                async with self._turns[queue.stream, queue.name]:
                    await lane()
            else:
                await together(lane(), [lane() for _ in range(min(len(taken), LANES) - 1)])
            if handled:
                await self._acknowledge(room, handled, losses)
        finally:
            for one in taken:
                self._let_go(*one)

    def _take(self, queue: Queue, deliveries: Iterable[Delivery]) -> list[Taken]:
        """What is not in hand already: redelivered while it is handled, it is neither acknowledged nor begun again."""
        taken: list[Taken] = []
        for delivery in deliveries:
            key = (queue.stream, queue.name, delivery.seq)
            if key not in self._walking:
                self._walking[key] = delivery
                taken.append((key, delivery))
        return taken

    def _let_go(self, key: Key, delivery: Delivery) -> None:
        """It is not in hand any more; delivered again meanwhile, it is in other hands, and stays there."""
        if self._walking.get(key) is delivery:
            del self._walking[key]

    async def _hear(self, room: Room, key: Key, delivery: Delivery) -> bool:
        """Let the room hear it; whether it is to be acknowledged. If not, it comes again."""
        try:
            again = await self._head(room, delivery, self._heard(delivery))
            if again is None:
                return True
            await delivery.nak(again)
        except Crashed as crash:
            # The same message again is no further reason to give the process up.
            self.chain.restart(crash.room, counts=key not in self._crashes)
            await self._not_handled(room, key, delivery)
        except BusClosed:
            return False
        except (BusUnavailable, QueueFull) as error:
            log.warning("%s: %s could not be handled now: %s", room.name, delivery.subject, error)
            with contextlib.suppress(BusClosed, BusUnavailable):
                await delivery.nak(1.0)
        except Exception:  # What is said is too large or can't be addressed, or what is stored is not understood.
            log.exception("%s: %s can't be handled", room.name, delivery.subject)
            await self._not_handled(room, key, delivery)
        return False

    async def _acknowledge(self, room: Room, handled: Sequence[Handled], losses: int) -> None:
        """Once the actor has kept what it wrote down of them, the server need not deliver them again.

        What it could not keep (`losses`: those of before they were heard) comes again, sooner at first. So does what was
        heard by an actor that has crashed since: its notes may be gone with it.
        """
        try:
            if room.keeps:
                for _, delivery, actor in handled:
                    if actor is not room.actor:
                        await delivery.nak()
                handled = [one for one in handled if one[2] is room.actor]
                if not handled:
                    return
                if not await self.chain.kept(room, losses):
                    for _, delivery, _ in handled:
                        await delivery.nak(min(0.5 * 2**delivery.deliveries, LONGEST_PAUSE_SECONDS))
                    return
            for key, delivery, _ in handled:
                if self.voice.boundary:
                    await self.voice.boundary("before acknowledge", delivery.subject)
                await delivery.ack()
                self._crashes.pop(key, None)
        except Crashed as crash:
            self.chain.restart(crash.room, counts=not any(key in self._crashes for key, _, _ in handled))
            for key, delivery, _ in handled:
                await self._not_handled(room, key, delivery)
        except (BusClosed, BusUnavailable):  # It comes again after its wait.
            return

    def _heard(self, delivery: Delivery) -> Heard:
        return Heard(
            now=self.bus.now(), stream=delivery.stream, seq=delivery.seq, stored_at=delivery.time,
            deliveries=delivery.deliveries, instance=self.voice.instance, boot=self.voice.boot,
            run=str(self.next_run()), trace=codec.trace_of(delivery.headers) or "", body=delivery.data,
            subject=delivery.subject,
        )  # fmt: skip

    async def _head(self, room: Room, delivery: Delivery, heard: Heard) -> float | None:
        kind = codec.type_at(delivery.subject)
        message: Message | None = None
        try:
            if kind is None:
                text = f"no message type lies on {delivery.subject}"
                raise codec.Undecodable(text)
            packed = codec.is_msgpack(delivery.headers)
            message = codec.decode_body(kind, delivery.data, packed=packed)
            if packed:
                heard = msgspec.structs.replace(heard, body=codec.as_json(delivery.data, delivery.headers))
        except codec.Undecodable as error:
            undecodable = getattr(room.actor, "undecodable", None)
            problem = (
                unreadable(kind, kind.__name__, str(error))
                if kind is not None and kind.channel.stream == "IN"
                else Problem(reason="undecodable", message=f"{delivery.subject}: {error}")
            )
            if undecodable is None:
                tenant, job = whose(delivery)
                await self.voice.dead_letter(heard, problem, tenant=tenant, job=job)
                return None
            heard = msgspec.structs.replace(heard, undecodable=str(error))
            says = self.chain.guard(room, "undecodable", lambda: undecodable(heard))
            return await self.chain.say_all(room, says, heard)
        return await self.chain.hear(room, message, heard)

    # ------------------------------------------------------------------------------------------- crashes

    async def _not_handled(self, room: Room, key: Key, delivery: Delivery) -> None:
        """Later again; after too many times it goes out of the way."""
        times = self._crashes[key] = self._crashes.get(key, 0) + 1
        with contextlib.suppress(BusClosed, BusUnavailable):
            if times < MAX_DELIVERIES:
                await delivery.nak(min(0.1 * 2**times, 10.0))
                return
            await self._put_away(room, delivery)
            await delivery.ack()
            self._crashes.pop(key, None)

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
