"""Finding the bus: which URL, and a connection to it that says clearly when nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from actors.console.screen import INTERRUPTED, Complaint, Unreachable, Wrong, err, shown
from actors.settings import Settings, load
from bus import codec
from bus.bus import Bus, BusUnavailable, LoginRefused
from bus.jetstream import connect
from bus.server_disk import FULL_BYTES, Disk
from messages import Message, Problem

DEFAULT_URL = "nats://127.0.0.1:4222"
URL_VARIABLE = "TURNOUT_NATS_URL"
SCHEMES = ("nats", "tls", "ws", "wss")
URL_FILE = "nats.url"
"""In the data directory: where the development server listens."""
PATIENCE_SECONDS = 5.0
STORE_SECONDS = 10.0
"""What the server does not store within this time, a command gives up; rooms have more patience."""
ROOM_SECONDS = 30.0
KNOCK_AGAIN_SECONDS = 1.0
SAY_AGAIN_SECONDS = 30.0
"""Who waits for a bus says so at first, and again after this."""
_START = "`turnout dev` starts one here; `--nats URL` names another"
M = TypeVar("M", bound=Message)


@Parameter(name="*", group="Where")
@dataclass(frozen=True, kw_only=True)
class Where:
    """Which bus, and where the settings lie: shared by all commands."""

    nats: Annotated[str | None, Parameter(help="URL of the NATS server. [TURNOUT_NATS_URL; else a running `dev`]")] = (
        None
    )
    data_dir: Annotated[str | None, Parameter(help="Directory of `turnout dev`. [TURNOUT_DATA_DIR; else .turnout]")] = (
        None
    )
    config: Annotated[Path | None, Parameter(help="Settings file (TOML).")] = None

    def settings(self, more: Mapping[tuple[str, ...], Any] | None = None) -> Settings:
        """The settings tree: file, environment, flags. Raises SettingsError."""
        flags = {("nats", "url"): self.nats, ("data_dir",): self.data_dir, **(more or {})}
        return load(self.config, environment=os.environ, flags=flags)


HERE = Where()


def address(settings: Settings, where: Where = HERE) -> tuple[str, str]:
    """The URL to connect to, and where it comes from. Raises Wrong."""
    if settings.nats.url:
        from_where = where.config or "the settings"
        source = "--nats" if where.nats else URL_VARIABLE if os.environ.get(URL_VARIABLE) else str(from_where)
        return checked(settings.nats.url, source), source
    file = Path(settings.data_dir) / URL_FILE
    with contextlib.suppress(OSError):
        written = file.read_text(encoding="utf-8").strip()
        if written:
            return written, str(file)
    return DEFAULT_URL, "the default"


def checked(url: str, source: str) -> str:
    """`url` if it can be one of a NATS server. Raises Wrong."""
    for part in url.split(","):
        scheme, separator, _ = part.strip().partition("://")
        if separator and scheme not in SCHEMES:
            raise Wrong(f"{source} is {shown(url)!r}: it must begin with {', '.join(f'{one}://' for one in SCHEMES)}")
        if not part.strip() or any(mark.isspace() for mark in part.strip()):
            raise Wrong(f"{source} is {shown(url)!r}: that is no URL", "--nats nats://127.0.0.1:4222")
    return url


async def knock(url: str, patience_seconds: float = 2.0) -> str:
    """Why nobody accepts a connection there; empty when somebody does."""
    try:
        parts = urlsplit(url if "//" in url else f"nats://{url}")
        host, port = parts.hostname or "127.0.0.1", parts.port or 4222
    except ValueError as error:
        return f"that is no URL: {error}"
    try:
        async with asyncio.timeout(patience_seconds):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {patience_seconds:g} s"
    except ConnectionRefusedError:
        return "nothing listens there"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""


def check_room(where: Where) -> None:
    """Raise Complaint when the server of a `turnout dev` here has no room to keep what is sent to it."""
    settings = where.settings()
    data = Path(settings.data_dir)
    if address(settings, where)[1] != str(data / URL_FILE):
        return  # Its disk is not ours to look at.
    disk = Disk(data.absolute(), data)
    if disk.free() < FULL_BYTES:
        text = f"nothing was sent: the disk of {disk.directory} is full ({disk.free() / 1e6:.1f} MB free)"
        raise Complaint(text, hint="free some space there; `turnout dev` takes jobs again a moment later, by itself")


@asynccontextmanager
async def reach(where: Where) -> AsyncGenerator[Bus]:
    """A connection for one command. Raises Unreachable."""
    url, source = address(where.settings(), where)
    async with reach_url(url, source) as bus:
        yield bus


@asynccontextmanager
async def reach_url(url: str, source: str, *, name: str = "turnout-console", replicas: int = 0) -> AsyncGenerator[Bus]:
    """A connection to this very URL, for one command: what does not work within some seconds is said.

    Raises Unreachable; the text never holds a password.
    """
    bus = await _connected(url, source, name=name, replicas=replicas, patience_seconds=STORE_SECONDS)
    try:
        yield bus
    finally:
        await bus.close()


async def _connected(url: str, source: str, *, name: str, replicas: int, patience_seconds: float) -> Bus:
    if "," not in url and (why := await knock(url)):
        raise Unreachable(f"no bus at {shown(url)} (from {source}): {why}", _START)
    try:
        return await connect(
            url, name=name, connect_timeout_seconds=PATIENCE_SECONDS, replicas=replicas,
            patience_seconds=patience_seconds,
        )  # fmt: skip
    except BusUnavailable:
        why = f"something listens there, but it does not answer as a NATS server within {PATIENCE_SECONDS:g} s"
        raise Unreachable(f"no bus at {shown(url)} (from {source}): {why}", _START) from None
    except LoginRefused as error:
        hint = "a `turnout dev` asks for its token: `--data-dir` of it, or its whole address (`turnout env`)"
        raise Complaint(f"{error} (from {source})", hint=hint, code=3) from None


@asynccontextmanager
async def reach_patiently(
    url: str,
    source: str,
    set_up: Callable[[Bus], Awaitable[None]],
    *,
    name: str,
    wait_seconds: float,
    stopped: asyncio.Event,
    replicas: int = 0,
) -> AsyncGenerator[Bus]:
    """A connection for rooms, set up. While nobody answers there it waits for so long, and says so now and then.

    Raises Unreachable after that, and Complaint when `stopped` meanwhile. What waiting can't mend is raised at once.
    """
    waiting = _Waiting(wait_seconds, stopped)
    while True:
        try:
            bus = await _connected(url, source, name=name, replicas=replicas, patience_seconds=ROOM_SECONDS)
        except Unreachable as error:
            await waiting.after(error)
            continue
        try:
            await set_up(bus)
        except BusUnavailable as error:
            await bus.close()
            await waiting.after(Unreachable(f"the bus at {shown(url)} (from {source}) is not ready: {error}", _START))
            continue
        except BaseException:
            await bus.close()
            raise
        break
    waiting.over()
    try:
        yield bus
    finally:
        await bus.close()


class _Waiting:
    """Waits for a bus, for so long and no longer."""

    def __init__(self, seconds: float, stopped: asyncio.Event) -> None:
        self._seconds, self._stopped = seconds, stopped
        self._began = asyncio.get_running_loop().time()
        self._say_at = 0.0

    async def after(self, error: Unreachable) -> None:
        """Wait a moment after this; raise it when that was long enough."""
        now = asyncio.get_running_loop().time()
        waited = now - self._began
        if waited >= self._seconds:
            text = f"{error.text}; waited for {self._seconds:g} s" if self._seconds else error.text
            raise Unreachable(text, f"{error.hint}; --wait SECONDS waits longer") from None
        if now >= self._say_at:
            text = f"{error.text}; waiting for it, {self._seconds - waited:.0f} s at most (Ctrl-C stops)"
            err.print(text, style="yellow", soft_wrap=True)
            self._say_at = now + SAY_AGAIN_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), min(KNOCK_AGAIN_SECONDS, self._seconds - waited))
            raise Complaint("stopped while waiting for the bus", code=INTERRUPTED)

    def over(self) -> None:
        """It is there."""
        if self._say_at:
            err.print("the bus is there", style="green")


async def ask(bus: Bus, question: Message, answer: type[M]) -> M:
    """A question to the room that owns the answer. Raises Complaint when that room is silent."""
    room = question.channel.prefix.split(".")[1]
    try:
        data = await bus.ask(question.subject, codec.encode(question), timeout_seconds=PATIENCE_SECONDS)
        if (failed := _failed(data)) is not None:
            raise Complaint(f"{room} can't answer: {failed.message}")
        return codec.decode(answer, data)
    except BusUnavailable:
        hint = f"`turnout dev`, or `turnout run {room}` against this bus"
        raise Complaint(f"the room {room!r} does not answer: nobody runs it on this bus", hint=hint, code=3) from None
    except codec.Undecodable as error:
        raise Complaint(f"{room} answered something else than {answer.__name__}: {error}") from None


class _Failed(msgspec.Struct):
    """What a room says that can't answer: no message of ours, so without a type."""

    type: str = ""
    problem: Problem | None = None


def _failed(data: bytes) -> Problem | None:
    try:
        said = msgspec.json.decode(data, type=_Failed)
    except msgspec.MsgspecError:
        return None  # The answer itself is looked at next.
    return None if said.type else said.problem
