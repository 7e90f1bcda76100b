"""Link: one connection to a nats-server, and the only place that knows the inside of nats-py.

From nats-py come connecting, authentication, TLS and reconnecting. Parsing, writing and answering requests are done
here: a request costs one future and one timer, what is said in one turn of the loop goes out in at most two writes, and
a message goes straight from the parser to whoever listens. What was asked over a connection that broke fails at once.

Private names of nats-py 2.16 in use: `_ps`, `_pongs`, `_pings_outstanding`, `_sid`, `_subs`, `_status`, `_transport`,
`_nuid`, `_server_info`, `_max_payload`, `_process_info`, `_process_op_err`, `_attempt_reconnect`,
`_connect_to_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
from nats.aio.client import Client
from nats.aio.subscription import Subscription as _Place
from nats.errors import ProtocolError

from bus.bus import BusError, BusUnavailable, LoginRefused
from bus.wire import Frame, Parser, publication

log = logging.getLogger(__name__)

_ACKS_KEPT = 10_000
_CLOSE_SECONDS = 2.0
_FULL_BYTES = 1_000_000
_LOOK_SECONDS = 0.05
"""How often questions without an answer are looked for: none waits longer than this beyond its time."""


class LinkDown(Exception):
    """Not connected, or the connection broke before the answer."""


class LinkClosed(Exception):
    """Closed on purpose."""


class NoAnswer(Exception):
    """The answer stayed out for too long."""


class NoResponders(Exception):
    """Nobody listens to that subject."""


class Refused(BusError):
    """The server does not let this user say that."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """How to log in. A user and password may also stand in the URL."""

    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds_file: str | None = None
    nkey_seed: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def options(self) -> dict[str, Any]:
        """As arguments of nats-py's connect."""
        given = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "user_credentials": self.creds_file,
            "nkeys_seed_str": self.nkey_seed,
        }
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.tls_ca or self.tls_cert:
            options["tls"] = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert:
                options["tls"].load_cert_chain(self.tls_cert, self.tls_key)
        return options


class _Many:
    """Several answers to one request, ended by a status."""

    __slots__ = ("done", "frames")

    def __init__(self, done: asyncio.Future[bytes]) -> None:
        self.frames: list[Frame] = []
        self.done = done


class Link(Client):
    """One connection. It reconnects for ever by itself until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = cast("Any", Parser(self))
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[int, Callable[[Frame], None]] = {}
        self._waiting: dict[bytes, tuple[asyncio.Future[Frame], float, str]] = {}  # Until when, and where it was asked.
        self._looks = False
        self._many: dict[bytes, _Many] = {}
        self._trips: set[asyncio.Future[Any]] = set()
        self._out: list[bytes] = []
        self._planned = False
        self._kept: list[bytes] = []
        self._serial = 0
        self._inbox = ""
        self._inbox_size = 0
        self._inbox_sid = 0
        self._shut = False
        self._refused: asyncio.Future[Exception] = self._loop.create_future()
        self._last_fault: Exception | None = None
        self._up = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self.on_down: list[Callable[[], None]] = []
        self.on_up: list[Callable[[], None]] = []

    # Opening and closing

    async def open(
        self, url: str, *, name: str, inbox_prefix: str, credentials: Credentials | None, timeout: float
    ) -> None:
        """Connect for the first time. Raises BusUnavailable when nobody is there, BusError when the server says no."""
        self._inbox_root = inbox_prefix
        options = credentials.options() if credentials else {}
        connecting = asyncio.ensure_future(
            self.connect(
                url,
                name=name,
                inbox_prefix=inbox_prefix,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                # A dead server is noticed after 3 s, and looked for at once and for ever.
                ping_interval=1,
                max_outstanding_pings=2,
                reconnect_time_wait=cast("int", 0.05),
                max_reconnect_attempts=-1,
                connect_timeout=1,
                **options,
            )
        )
        try:
            await asyncio.wait({connecting, self._refused}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                if self._refused.done():
                    raise LoginRefused(f"the nats-server at {_bare(url)} refuses {name!r}: {self._refused.result()}")
                raise BusUnavailable(
                    f"no nats-server answers at {_bare(url)} within {timeout:g} s ({self._last_fault or 'silence'})"
                )
            connecting.result()
        except BaseException:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await connecting
            await self.shut()
            raise
        self._inbox = self.fresh_inbox() + "."
        self._inbox_size = len(self._inbox)
        self._inbox_sid = self.listen(self._inbox + "*", self._on_reply)
        self._up.set()

    async def shut(self) -> None:
        """Close for good. What waits for an answer raises LinkClosed."""
        if self._shut:
            return
        self._shut = True
        self._flush_out()
        self._fail(LinkClosed)
        self._up.set()
        for call in list(self._calls):
            call.cancel()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.close()
        except TimeoutError:
            transport = getattr(self._transport, "_io_writer", None)
            if transport is not None:
                transport.transport.abort()
        except Exception as fault:  # noqa: BLE001  # Closing a broken connection may say anything.
            log.debug("while closing: %r", fault)

    @property
    def is_up(self) -> bool:
        """Connected now."""
        return self._status == Client.CONNECTED

    @property
    def info(self) -> dict[str, Any]:
        """What the server said about itself."""
        return self._server_info

    async def up(self, seconds: float) -> None:
        """Wait until connected. Raises LinkClosed, or LinkDown after that time."""
        if not self.is_up and not self._shut:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, 0.0)):
                    await self._up.wait()
        if self._shut:
            raise LinkClosed
        if not self.is_up:
            raise LinkDown

    # Saying and asking

    def send(self, subject: str, data: bytes, head: bytes = b"", reply: str = "") -> None:
        """Say something without waiting. Raises LinkDown when not connected."""
        self._check()
        self._emit(publication(subject, reply, data, head))

    def send_later(self, subject: bytes, data: bytes) -> None:
        """Say something small now or, when not connected, after the reconnect (an acknowledgement stays valid)."""
        message = b"PUB %b %d\r\n%b\r\n" % (subject, len(data), data)
        if self.is_up:
            self._emit(message)
        elif not self._shut and len(self._kept) < _ACKS_KEPT:
            self._kept.append(message)

    def ask(self, subject: str, data: bytes, head: bytes = b"", *, timeout: float) -> asyncio.Future[Frame]:
        """Ask; the future has the answer, or raises NoAnswer, NoResponders, Refused, LinkDown or LinkClosed."""
        self._check()
        self._serial += 1
        serial = str(self._serial)
        key = serial.encode()
        answer: asyncio.Future[Frame] = self._loop.create_future()
        self._waiting[key] = answer, self._loop.time() + timeout, subject
        if not self._looks:  # One timer for all of them: nearly every answer comes in time.
            self._looks = True
            self._loop.call_later(_LOOK_SECONDS, self._look_after)
        self._emit(publication(subject, self._inbox + serial, data, head))
        return answer

    async def collect(self, subject: str, data: bytes, *, timeout: float) -> tuple[list[Frame], bytes]:
        """Ask for several answers: those that came before the closing status, and that status."""
        self._check()
        self._serial += 1
        serial = str(self._serial)
        many = _Many(self._loop.create_future())
        self._many[serial.encode()] = many
        self._emit(publication(subject, self._inbox + serial, data, b""))
        try:
            async with asyncio.timeout(timeout):
                status = await many.done
        except TimeoutError:
            raise NoAnswer from None
        finally:
            self._many.pop(serial.encode(), None)
        return many.frames, status

    @property
    def is_full(self) -> bool:
        """Whether too much lies in the buffer of the socket."""
        writer = getattr(self._transport, "_io_writer", None)
        return writer is not None and writer.transport.get_write_buffer_size() > _FULL_BYTES

    async def drain_out(self) -> None:
        """Wait until less lies there."""
        writer = getattr(self._transport, "_io_writer", None)
        if self.is_up and writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                await writer.drain()

    async def round_trip(self, timeout: float) -> None:
        """Return once the server has seen all that was sent. Raises as `ask` does."""
        self._check()
        self._flush_out()
        trip: asyncio.Future[Any] = self._loop.create_future()
        cast("list[Any]", self._pongs).append(trip)
        self._trips.add(trip)
        try:
            self._transport_write(b"PING\r\n")
            async with asyncio.timeout(timeout):
                await trip
        except TimeoutError:
            raise NoAnswer from None
        finally:
            self._trips.discard(trip)

    # Listening

    def fresh_inbox(self) -> str:
        """A subject nobody else uses."""
        return f"{self._inbox_root}.{self._nuid.next().decode()}"

    def listen(self, pattern: str, on_frame: Callable[[Frame], None]) -> int:
        """Subscribe; also after every reconnect. `on_frame` must be quick. Returns the number to end it with."""
        if self._shut:
            raise LinkClosed
        self._sid += 1
        sid = self._sid
        # The placeholder makes nats-py subscribe again after a reconnect.
        self._subs[sid] = _Place(self, sid, pattern)
        self._listeners[sid] = on_frame
        if self.is_up:
            self._emit(f"SUB {pattern} {sid}\r\n".encode())
        return sid

    def unsubscribe(self, sid: int) -> None:
        """Tell the server to send no more; what is under way still arrives until `forget`."""
        if self._subs.pop(sid, None) is not None and self.is_up:
            self._emit(f"UNSUB {sid}\r\n".encode())

    def forget(self, sid: int) -> None:
        """Unsubscribe and hear nothing more from now on."""
        self.unsubscribe(sid)
        self._listeners.pop(sid, None)

    # What the server says

    def deliver(self, sid: int, frame: Frame) -> None:
        """Hand a message to its listener; whatever that does, the connection lives on."""
        listener = self._listeners.get(sid)
        if listener is not None:
            try:
                listener(frame)
            except Exception:
                log.exception("a listener on %s failed", frame.subject)

    async def obey(self, line: bytes) -> None:
        """Act on a line that is not a message."""
        word = line[:4].upper()
        if word == b"PING":
            self._emit(b"PONG\r\n")
        elif word == b"PONG":
            pongs = cast("list[asyncio.Future[bool]]", self._pongs)
            if pongs:
                self._pings_outstanding = 0
                trip = pongs.pop(0)
                if not trip.done():  # nats-py would stop reading here.
                    trip.set_result(True)
        elif word == b"INFO":
            info = msgspec.json.decode(line[5:], type=dict[str, Any])
            self._server_info = {**self._server_info, **info}
            self._max_payload = self._server_info.get("max_payload", self._max_payload)
            await self._process_info(info)
        elif word == b"-ERR":
            await self._on_refusal(line[4:].decode("utf-8", "replace").strip(" '"))
        elif line and word[:3] != b"+OK":
            raise ProtocolError

    async def _on_refusal(self, text: str) -> None:
        fault = PermissionError(text)
        self._last_fault = fault
        if "permissions violation" in text.lower():
            log.error("the server refuses: %s", text)
            # It gives no answer to a question it refused; only the subject tells which one that was.
            for answer, _, subject in list(self._waiting.values()):
                if f'Publish to "{subject}"' in text and not answer.done():
                    answer.set_exception(Refused(text))
            return
        # nats-py would close for ever; the reason may pass (an expired login, too many connections).
        log.warning("the server ends the connection: %s", text)
        await self._process_op_err(fault)

    def _on_reply(self, frame: Frame) -> None:
        key = frame.subject[self._inbox_size :]
        entry = self._waiting.pop(key, None)
        if entry is not None:
            answer = entry[0]
            if not answer.done():
                if frame.head and frame.status == b"503":
                    answer.set_exception(NoResponders())
                else:
                    answer.set_result(frame)
            return
        many = self._many.get(key)
        if many is None:
            return
        if not frame.status:
            many.frames.append(frame)
        elif not many.done.done():
            many.done.set_result(frame.status)

    def _look_after(self) -> None:
        """Give up what has waited for too long."""
        now = self._loop.time()
        for key in [key for key, entry in self._waiting.items() if entry[1] <= now]:
            answer = self._waiting.pop(key)[0]
            if not answer.done():
                answer.set_exception(NoAnswer())
        self._looks = bool(self._waiting)
        if self._looks:
            self._loop.call_later(_LOOK_SECONDS, self._look_after)

    # What nats-py calls; an exception here would end its reading or reconnecting for ever.

    async def _on_error(self, fault: Exception) -> None:
        self._last_fault = fault
        log.debug("nats: %r", fault)
        if "authorization" in str(fault).lower() and not self._refused.done():
            self._refused.set_result(fault)

    async def _attempt_reconnect(self) -> None:
        while not self._shut:
            try:
                await super()._attempt_reconnect()
            except Exception:
                if self._shut:  # Closing meanwhile makes nats-py stumble over its own future.
                    return
                log.exception("reconnecting failed in an unexpected way; trying again")
                await asyncio.sleep(0.5)
            else:
                return

    async def _connect_to_server(self, s: Any) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:  # nats-py leaves the socket of a try open that got no answer.
            writer.close()
        await super()._connect_to_server(s)

    async def _on_disconnected(self) -> None:
        self._up.clear()
        if self._shut:
            self._up.set()
            return
        log.info("disconnected from the nats-server (%s)", self._last_fault)
        self._out.clear()
        self._fail(LinkDown)
        _call_all(self.on_down)

    async def _on_reconnected(self) -> None:
        if self._shut:
            return
        log.info("connected to the nats-server again")
        self._last_fault = None
        kept, self._kept = self._kept, []
        for message in kept:
            self._emit(message)
        self._up.set()
        _call_all(self.on_up)

    def call(self, what: Callable[[], Awaitable[None]]) -> None:
        """Run something in a task of this connection; its failure is logged."""

        async def run() -> None:
            try:
                await what()
            except (LinkClosed, LinkDown, NoAnswer, BusError) as fault:
                log.debug("%r: %r", what, fault)
            except Exception:
                log.exception("%r failed", what)

        task = self._loop.create_task(run())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # Writing

    def _check(self) -> None:
        if self._status != Client.CONNECTED:
            if self._shut:
                raise LinkClosed
            raise LinkDown

    def _emit(self, message: bytes) -> None:
        """Write at once when nothing else was written in this turn of the loop, else together with the rest of it."""
        if self._planned:
            self._out.append(message)
        else:
            self._planned = True
            self._loop.call_soon(self._flush_out)
            self._transport_write(message)

    def _flush_out(self) -> None:
        self._planned = False
        if self._out:
            out, self._out = self._out, []
            if self._status == Client.CONNECTED:
                self._transport_write(b"".join(out))

    def _transport_write(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None:
            try:
                transport.write(data)
            except (OSError, RuntimeError) as fault:  # Broken or closed: the reading side notices and reconnects.
                log.debug("write: %r", fault)

    def _fail(self, fault: type[Exception]) -> None:
        waiting, self._waiting = self._waiting, {}
        for answer, _, _ in waiting.values():
            if not answer.done():
                answer.set_exception(fault())
        for trip in [*self._trips, *(many.done for many in self._many.values())]:
            if not trip.done():
                trip.set_exception(fault())


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in list(calls):
        try:
            call()
        except Exception:
            log.exception("%r failed", call)


def _bare(url: str) -> str:
    """Without user and password."""
    scheme, mark, rest = url.rpartition("://")
    return scheme + mark + rest.rpartition("@")[2]
