"""Puller: takes messages from a durable consumer without ever holding more than its slots, and survives restarts.

- It never has asked for more than there are free slots: owed + busy <= slots.
- A delivered message keeps its own subject and the server serves open pulls in turn, so a message can't be attributed
  to a pull: only the total is counted. A status says how many of its pull will not come any more.
- Any sign of life resets the silence; silence, a reconnect or a status without a count means a new inbox and a new
  pull. Without its inbox the server forgets the old pulls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from bus.bus import Headers, OnDelivery
from bus.link import Link, LinkClosed, LinkDown, NoAnswer
from bus.wire import Frame, decode_headers

log = logging.getLogger(__name__)

_EXPIRES_SECONDS = 30.0
_HEARTBEAT_SECONDS = 1.0
_SILENCE_SECONDS = 2.5
_HOLD_SECONDS = 0.1
_HOLD_MOST_SECONDS = 1.0
_NANO = 1_000_000_000


class PulledDelivery:
    """A message in hand. What the acknowledgement subject says is only taken apart when asked for."""

    __slots__ = ("_frame", "_headers", "_link", "_parts", "data", "subject")

    def __init__(self, link: Link, frame: Frame) -> None:
        self._link = link
        self._frame = frame
        self._headers: Headers | None = None
        self._parts: list[str] | None = None
        self.subject = frame.subject.decode()
        self.data = frame.data

    def _part(self, index: int) -> str:
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>; a newer form has the
        # domain and the account before the stream, and more at the end.
        if self._parts is None:
            parts = self._frame.reply.decode().split(".")
            self._parts = parts[2:] if len(parts) < 11 else parts[4:]
        return self._parts[index]

    @property
    def stream(self) -> str:
        """The stream it is stored in."""
        return self._part(0)

    @property
    def deliveries(self) -> int:
        """How often it was delivered."""
        return int(self._part(2))

    @property
    def seq(self) -> int:
        """Its sequence in the stream."""
        return int(self._part(3))

    @property
    def time(self) -> float:
        """When the server stored it."""
        return int(self._part(5)) / _NANO

    @property
    def headers(self) -> Headers:
        """Its headers."""
        if self._headers is None:
            self._headers = decode_headers(self._frame.head)
        return self._headers

    async def ack(self) -> None:
        """It is handled."""
        self._say(b"+ACK")

    async def nak(self, delay_seconds: float = 0.0) -> None:
        """Deliver it again after the delay."""
        if delay_seconds > 0:
            self._say(b'-NAK {"delay": %d}' % int(delay_seconds * _NANO))
        else:
            self._say(b"-NAK")

    async def in_progress(self) -> None:
        """It is still being handled."""
        self._say(b"+WPI")

    def give_back(self) -> None:
        """Let the server deliver it to somebody else now."""
        self._say(b"-NAK")

    def _say(self, word: bytes) -> None:
        self._link.send_later(self._frame.reply.decode(), word)


class Puller:
    """A running pull. It has no task of its own: messages, timers and ended callbacks drive it."""

    def __init__(self, link: Link, stream: str, consumer: str, on_delivery: OnDelivery, *, slots: int) -> None:
        if slots < 1:
            raise ValueError("a pull needs at least one slot")
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_delivery = on_delivery
        self._slots = slots
        self._owed = 0
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
        want = self._slots - len(self._tasks) - self._owed
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
        if frame.status or not frame.reply:
            self._on_status(frame)
            return
        self._hold = _HOLD_SECONDS
        self._owed -= 1
        delivery = PulledDelivery(self._link, frame)
        if self._stopped:
            delivery.give_back()
            return
        task = self._loop.create_task(self._handle(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._on_handled)

    def _on_status(self, frame: Frame) -> None:
        status = frame.status
        if status == b"100":
            return  # A heartbeat.
        left = decode_headers(frame.head).get("Nats-Pending-Messages")
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

    async def _handle(self, delivery: PulledDelivery) -> None:
        try:
            await self._on_delivery(delivery)
        except Exception:
            log.exception("handling %s failed; it will come again", delivery.subject)

    def _on_handled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._pull()
