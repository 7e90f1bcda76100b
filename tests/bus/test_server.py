"""The embedded nats-server: it starts, says why it can't, comes back, and never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bus import server as module
from bus import server_guard
from bus.bus import BusUnavailable
from bus.jetstream import JetStreamBus, connect
from bus.server import NatsServer, ServerError, find_binary
from bus.topology import STREAMS, Topology
from tests.bus.contract import until


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    path = Path(f"/proc/{pid}/stat")
    return not path.exists() or path.read_text().rpartition(")")[2].split()[0] != "Z"


async def gone(pid: int) -> None:
    await until(lambda: not alive(pid), f"process {pid} ends")


def test_it_runs_and_keeps_its_data(tmp_path: Path) -> None:
    async def run() -> None:
        async with NatsServer(tmp_path / "new" / "data", sync="always") as server:
            pid = server.pid
            assert pid is not None
            assert server.url == f"nats://127.0.0.1:{server.port}"
            bus = await connect(server.url, name="x")
            await bus.set_up(Topology(streams=STREAMS, queues=()))
            put = await bus.publish("ev.a", b"x", msg_id="1")
            await bus.close()
        await gone(pid)
        assert "sync_interval: always" in server._config_path.read_text()
        async with NatsServer(tmp_path / "new" / "data") as server:
            bus = await connect(server.url, name="x")
            record = await bus.last("EV", "ev.a")
            assert record is not None
            assert record.seq == put.seq
            await bus.close()
        assert server.pid is None
        await server.stop()
        with pytest.raises(ServerError, match="stopped"):
            await server.ready()

    asyncio.run(run())


def test_it_can_be_started_again(tmp_path: Path) -> None:
    async def run() -> None:
        server = NatsServer(tmp_path)
        await server.start()
        port = server.port
        with pytest.raises(ServerError, match="already started"):
            await server.start()
        await server.stop()
        await server.start()
        assert server.port == port
        await server.stop()

    asyncio.run(run())


def test_it_comes_back_on_the_same_port(tmp_path: Path) -> None:
    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            bus = await connect(server.url, name="x")
            await bus.set_up(Topology(streams=STREAMS, queues=()))
            for n in range(3):
                pid, url = server.pid, server.url
                await server.restart()
                assert (server.url, server.restarts) == (url, n + 1)
                assert server.pid != pid
                assert (await bus.publish(f"ev.{n}", b"", msg_id=str(n))).ours
            server.send_signal(signal.SIGTERM)  # Somebody else stops it: not our wish.
            await until(lambda: server.restarts == 4)
            await server.ready()
            await bus.close()

    asyncio.run(run())


def test_it_gives_up_when_it_dies_too_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RESTARTS", 3)

    async def run() -> None:
        why: list[str] = []
        server = NatsServer(tmp_path, on_failure=why.append)
        await server.start()
        for _ in range(3):
            await server.restart()
        with pytest.raises(ServerError, match="died 4 times"):
            await server.restart()
        assert len(why) == 1
        assert server.pid is None
        await server.stop()

    asyncio.run(run())


def test_taken_port(tmp_path: Path) -> None:
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            server = NatsServer(tmp_path, port)
            with pytest.raises(ServerError, match=f"port {port} on 127.0.0.1 is taken.*another port"):
                await server.start()
        async with server:  # Once it is free.
            assert server.port == port

    asyncio.run(run())


def test_directory_in_use(tmp_path: Path) -> None:
    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            other = NatsServer(tmp_path)
            with pytest.raises(ServerError, match=rf"in use by another nats-server \(process {server.pid}\)"):
                await other.start()
        async with other:
            assert other.pid is not None

    asyncio.run(run())


def test_directory_that_is_given_up_in_a_moment(tmp_path: Path) -> None:
    async def run() -> None:
        holder = NatsServer(tmp_path)
        await holder._claim_dir()
        asyncio.get_running_loop().call_later(0.1, holder._release_dir)
        async with NatsServer(tmp_path) as server:
            assert server.pid is not None

    asyncio.run(run())


def test_directory_that_can_not_be(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ServerError, match="can't write to the data directory"):
            await NatsServer(tmp_path / "file" / "data").start()

    asyncio.run(run())


def test_stale_pid_file_is_no_lock(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "nats-server.pid").write_text(str(os.getpid()))
        async with NatsServer(tmp_path) as server:
            assert (tmp_path / "nats-server.pid").read_text() == str(server.pid)

    asyncio.run(run())


def test_odd_directory_name(tmp_path: Path) -> None:
    async def run() -> None:
        async with NatsServer(tmp_path / 'a "b" ü $HOME'):
            pass
        assert (tmp_path / 'a "b" ü $HOME' / "jetstream").is_dir()

    asyncio.run(run())


def test_missing_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        with pytest.raises(ServerError, match=r"\$NATS_SERVER names '/no/such/file'"):
            await NatsServer(tmp_path).start()

    monkeypatch.setenv("NATS_SERVER", "/no/such/file")
    asyncio.run(run())
    monkeypatch.delenv("NATS_SERVER")
    assert find_binary().name.startswith("nats-server")
    monkeypatch.setattr(module, "PACKAGE", "no-such-package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="install the package"):
        find_binary()


def test_binary_that_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nats-server"
    script.write_text("#!/bin/sh\necho '[1] [FTL] out of luck' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("NATS_SERVER", str(script))

    async def run() -> None:
        with pytest.raises(ServerError, match=r"ended at once: .*out of luck"):
            await NatsServer(tmp_path / "data").start()

    asyncio.run(run())


PARENT = """
import asyncio, sys
from bus.server import NatsServer

async def main():
    async with NatsServer(sys.argv[1]) as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is needed")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    asyncio.run(gone(child))

    async def run() -> None:
        async with NatsServer(tmp_path):
            pass

    asyncio.run(run())


# A disk without room. The limit on the size of files stands in for it: no mount is needed, and the server can't tell the
# difference but for the word it has for it.


def fill_up(server: NatsServer, size: int = 60_000) -> None:
    """No file of the server grows beyond this any more."""
    assert server.pid is not None
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def make_room(server: NatsServer) -> None:
    fill_up(server, resource.RLIM_INFINITY)


async def until_stuck(bus: JetStreamBus) -> list[int]:
    """Publish until the stream takes nothing more; what it had taken."""
    taken: list[int] = []
    for n in range(1000):
        try:
            await bus.publish(f"ev.a.{n}", b"x" * 4000, msg_id=str(n))
        except BusUnavailable:
            return taken
        taken.append(n)
    pytest.fail("it never got stuck")


@pytest.fixture(name="impatient")
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_guard, "LOOK_SECONDS", 0.05)


def test_once_there_is_room_it_is_started_anew_and_stores_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            told: list[str] = []
            room = False
            monkeypatch.setattr(server.disk, "has_room", lambda: room)
            server.guard.on_trouble = told.append
            bus = await connect(server.url, name="x", patience_seconds=2.0)
            await bus.set_up(Topology(streams=STREAMS, queues=()))
            fill_up(server)
            taken = await until_stuck(bus)
            await until(lambda: told, "it is told")
            assert "EV" in told[0]
            assert str(tmp_path) in told[0]
            make_room(server)  # But the stream does not find out.
            pid = server.pid
            with pytest.raises(BusUnavailable, match="stores nothing: its disk is full"):
                await bus.publish("ev.b", b"", msg_id="b")
            assert server.pid == pid, "without room it would only fail again"
            room = True
            await until(lambda: len(told) == 2, "it stores again")
            assert told[1] == ""
            assert (server.restarts, len(server._deaths)) == (1, 0)
            await bus.publish("ev.b", b"", msg_id="b")
            for n in taken:
                record = await bus.last("EV", f"ev.a.{n}")
                assert record is not None, f"{n} was taken and is gone"
            await bus.close()

    asyncio.run(run())


def test_a_server_that_dies_on_a_full_disk_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)

    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            free = 0
            monkeypatch.setattr(server.disk, "free", lambda: free)
            await until(lambda: server.guard.trouble)
            server.kill()
            await until(lambda: server.pid is None)
            await asyncio.sleep(0.5)
            assert server.restarts == 0
            assert len(server._deaths) == 1
            free = 1 << 30
            await server.ready()
            await until(lambda: not server.guard.trouble)
            assert server.restarts == 1

    asyncio.run(run())


def test_what_it_holds_already_does_not_count_against_the_room_it_may_use(tmp_path: Path) -> None:
    """By itself it takes three quarters of what is free at its start for all that it may ever hold."""

    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            bus = await connect(server.url, name="x")
            said = msgspec.json.decode((await bus._link.ask("$JS.API.INFO", b"", timeout=5.0)).data)
            assert "error" not in said
            await bus.close()
        assert f"max_file_store: {shutil.disk_usage(tmp_path).total}" in server._config_path.read_text()

    asyncio.run(run())
