"""Finding the bus: which URL, and a connection to it that says clearly when nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from actors.console.screen import Complaint, Unreachable, Wrong, shown
from actors.settings import Settings, load
from bus import codec
from bus.bus import Bus, BusUnavailable
from bus.jetstream import connect
from messages import Message, Problem

DEFAULT_URL = "nats://127.0.0.1:4222"
URL_VARIABLE = "TURNOUT_NATS_URL"
SCHEMES = ("nats", "tls", "ws", "wss")
URL_FILE = "nats.url"
"""In the data directory: where the development server listens."""
PATIENCE_SECONDS = 5.0
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


@asynccontextmanager
async def reach(where: Where) -> AsyncGenerator[Bus]:
    """A connection for one command. Raises Unreachable."""
    url, source = address(where.settings(), where)
    async with reach_url(url, source) as bus:
        yield bus


@asynccontextmanager
async def reach_url(url: str, source: str, *, name: str = "turnout-console", replicas: int = 0) -> AsyncGenerator[Bus]:
    """A connection to this very URL. Raises Unreachable; the text never holds a password."""
    if "," not in url and (why := await knock(url)):
        raise Unreachable(f"no bus at {shown(url)} (from {source}): {why}", _START)
    try:
        bus = await connect(url, name=name, connect_timeout_seconds=PATIENCE_SECONDS, replicas=replicas)
    except BusUnavailable:
        why = f"something listens there, but it does not answer as a NATS server within {PATIENCE_SECONDS:g} s"
        raise Unreachable(f"no bus at {shown(url)} (from {source}): {why}", _START) from None
    try:
        yield bus
    finally:
        await bus.close()


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
