"""Puller: takes messages from a durable consumer without ever holding more than its slots, and survives restarts.

- It never has asked for more than there are free slots: owed + busy <= slots.
- A delivered message keeps its own subject and the server serves open pulls in turn, so a message can't be attributed
  to a pull: only the total is counted. A status says how many of its pull will not come any more.
- Any sign of life resets the silence; silence, a reconnect or a status without a count means a new inbox and a new
  pull. Without its inbox the server forgets the old pulls.
- Where messages are handled together, those that lie and wait for the others count as busy.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from bus.bus import Headers, OnDeliveries, OnDelivery
from bus.link import Link, LinkClosed, LinkDown, NoAnswer
from bus.wire import Frame, HeaderBlock

log = logging.getLogger(__name__)

T = TypeVar("T")

_EXPIRES_SECONDS = 30.0
_HEARTBEAT_SECONDS = 1.0
_SILENCE_SECONDS = 2.5
_HOLD_SECONDS = 0.1
_HOLD_MOST_SECONDS = 1.0
_NANO = 1_000_000_000


class PulledDelivery:
    """A message in hand. What the acknowledgement subject says is only taken apart when asked for."""

    __slots__ = ("_frame", "_link", "_told", "data", "headers", "subject")

    def __init__(self, link: Link, frame: Frame) -> None:
        self._link = link
        self._frame = frame
        self._told: tuple[str, int, int, float] | None = None
        self.subject = frame.subject.decode()
        self.data = frame.data
        self.headers: Headers = HeaderBlock(frame.head)

    def _tell(self) -> tuple[str, int, int, float]:
        """Stream, deliveries, sequence, time."""
        told = self._told
        if told is None:
            # $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>; a newer form has
            # the domain and the account before the stream, and more at the end.
            parts = self._frame.reply.split(b".")
            at = 2 if len(parts) < 11 else 4
            told = parts[at].decode(), int(parts[at + 2]), int(parts[at + 3]), int(parts[at + 5]) / _NANO
            self._told = told
        return told

    @property
    def stream(self) -> str:
        """The stream it is stored in."""
        return self._tell()[0]

    @property
    def deliveries(self) -> int:
        """How often it was delivered."""
        return self._tell()[1]

    @property
    def seq(self) -> int:
        """Its sequence in the stream."""
        return self._tell()[2]

    @property
    def time(self) -> float:
        """When the server stored it."""
        return self._tell()[3]

    async def ack(self) -> None:
        """It is handled."""
        self._link.send_later(self._frame.reply, b"+ACK")

    async def nak(self, delay_seconds: float = 0.0) -> None:
        """Deliver it again after the delay."""
        word = b'-NAK {"delay": %d}' % int(delay_seconds * _NANO) if delay_seconds > 0 else b"-NAK"
        self._link.send_later(self._frame.reply, word)

    async def in_progress(self) -> None:
        """It is still being handled."""
        self._link.send_later(self._frame.reply, b"+WPI")

    def give_back(self) -> None:
        """Let the server deliver it to somebody else now."""
        self._link.send_later(self._frame.reply, b"-NAK")


class Puller:
    """A running pull. It has no task of its own: messages, timers and ended callbacks drive it."""

    def __init__(
        self,
        link: Link,
        stream: str,
        consumer: str,
        on_delivery: OnDelivery | None = None,
        *,
        slots: int,
        on_deliveries: OnDeliveries | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        """One of the callbacks: `on_delivery` for each message, or `on_deliveries` for what came within the patience."""
        if slots < 1:
            raise ValueError("a pull needs at least one slot")
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_delivery, self._on_deliveries = on_delivery, on_deliveries
        self._patience = patience_seconds
        self._slots = slots
        self._owed = self._busy = 0
        self._lying: list[PulledDelivery] = []
        self._gate: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox = ""
        self._sid = 0
        self._seen = 0.0
        self._hold_until = 0.0
        self._hold = _HOLD_SECONDS
        self._paused = self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self.on_end: Callable[[], None] | None = None

    def start(self) -> None:
        """Ask for the first messages."""
        self._link.on_up.append(self._reset)
        self._tick()

    async def pause(self) -> None:
        """Ask for no more; the server forgets what was asked, and what is under way is still handled."""
        self._ask_no_more()
        sid, self._sid = self._sid, 0
        if sid:
            self._link.unsubscribe(sid)
            try:
                await self._link.round_trip(_SILENCE_SECONDS)
            except (LinkDown, LinkClosed, NoAnswer):
                pass  # Then nothing is under way any more.
            finally:
                self._link.forget(sid)
        self._hand_over()

    async def stop(self) -> None:
        """End it. Callbacks that still run are cancelled; their messages come again after the acknowledgement wait."""
        self._stopped = True
        await self.pause()
        running = [task for task in self.cancel() if task is not asyncio.current_task()]
        if running:
            await asyncio.wait(running)

    def cancel(self) -> list[asyncio.Task[None]]:
        """End it without waiting: the tasks that are ending."""
        self._stopped = True
        self._ask_no_more()
        self._drop()
        if self.on_end is not None:
            self.on_end()
            self.on_end = None
        self._hand_over()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        return list(self._tasks)

    def _ask_no_more(self) -> None:
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
        if self._reset in self._link.on_up:
            self._link.on_up.remove(self._reset)

    def _tick(self) -> None:
        """Look after silence and pauses from time to time."""
        self._timer = self._loop.call_later(_HEARTBEAT_SECONDS / 2, self._tick)
        if self._owed and self._loop.time() - self._seen > _SILENCE_SECONDS * _HEARTBEAT_SECONDS:
            self._reset()
        else:
            self._pull()

    def _reset(self) -> None:
        """Whatever was asked before is void."""
        self._drop()
        self._hold_until = 0.0
        self._pull()

    def _drop(self) -> None:
        if self._sid:
            self._link.forget(self._sid)
        self._sid = self._owed = 0

    def _pull(self) -> None:
        """Ask for as many messages as there are free slots, once that is worth a request."""
        want = self._slots - self._busy - self._owed
        if self._paused or want <= 0 or (self._owed and want * 2 < self._slots) or not self._link.is_up:
            return
        now = self._loop.time()
        if now < self._hold_until:
            return
        if not self._sid:
            self._inbox = self._link.fresh_inbox()
            self._sid = self._link.listen(self._inbox, self._on_frame)
        request = {
            "batch": want,
            "expires": int(_EXPIRES_SECONDS * _NANO),
            "idle_heartbeat": int(_HEARTBEAT_SECONDS * _NANO),
        }
        self._owed += want
        self._seen = now
        self._link.send(self._next, msgspec.json.encode(request), reply=self._inbox)

    def _on_frame(self, frame: Frame) -> None:
        self._seen = self._loop.time()
        if frame.head[8:9] == b" " or not frame.reply:
            self._on_status(frame)
            return
        self._hold = _HOLD_SECONDS
        self._owed -= 1
        delivery = PulledDelivery(self._link, frame)
        if self._stopped:
            delivery.give_back()
            return
        self._busy += 1
        if self._on_delivery is not None:
            task = self._loop.create_task(self._handle(self._on_delivery, delivery, delivery.subject))
            self._tasks.add(task)
            task.add_done_callback(self._on_handled)
            return
        self._lying.append(delivery)
        if self._gate is None:
            self._gate = self._loop.call_later(self._patience, self._hand_over)

    def _hand_over(self) -> None:
        """Handle together what has come so far."""
        if self._gate is not None:
            self._gate.cancel()
            self._gate = None
        if not self._lying or self._on_deliveries is None:
            return
        lying, self._lying = self._lying, []
        if self._stopped:
            for delivery in lying:
                delivery.give_back()
            return
        task = self._loop.create_task(self._handle(self._on_deliveries, lying, lying[0].subject))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._on_handled, count=len(lying)))

    def _on_status(self, frame: Frame) -> None:
        status = frame.status
        if status == b"100":
            return  # A heartbeat.
        left = HeaderBlock(frame.head).get("Nats-Pending-Messages")
        if left is None:
            self._drop()  # Missing or deleted consumer, a change of leader, a server that goes down.
        else:
            self._owed = max(0, self._owed - int(left))
        if status in (b"404", b"408"):
            self._pull()
        else:
            self._hold_until = self._loop.time() + self._hold
            self._loop.call_later(self._hold + 0.001, self._pull)
            self._hold = min(self._hold * 2, _HOLD_MOST_SECONDS)

    async def _handle(self, handle: Callable[[T], Awaitable[None]], what: T, subject: str) -> None:
        try:
            await handle(what)
        except Exception:
            log.exception("handling %s failed; it will come again", subject)

    def _on_handled(self, task: asyncio.Task[None], count: int = 1) -> None:
        self._tasks.discard(task)
        self._busy -= count
        self._pull()
