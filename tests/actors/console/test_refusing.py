"""A server that stores nothing answers nobody; whoever publishes a job is told so all the same."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import msgspec
import pytest

from actors.console.refusing import Refusing
from bus import server_guard
from bus.bus import BusError, BusUnavailable
from bus.jetstream import JetStreamBus, connect
from bus.server import NatsServer
from bus.topology import STREAMS, Topology
from tests.bus.contract import until


async def stick(server: NatsServer, bus: JetStreamBus) -> None:
    """Let the `IN` stream meet a limit, as on a full disk."""
    assert server.pid is not None
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    for n in range(1000):
        try:
            await bus.publish(f"job.rate.acme.j{n}", b"x" * 4000, msg_id=f"fill {n}")
        except BusError:
            return
    pytest.fail("it never got stuck")


def test_a_job_that_can_t_be_stored_is_refused_at_once_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_guard, "LOOK_SECONDS", 0.05)

    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            room = False
            monkeypatch.setattr(server.disk, "has_room", lambda: room)
            bus = await connect(server.url, name="dev", patience_seconds=2.0)
            await bus.set_up(Topology(streams=STREAMS, queues=()))
            refusing = Refusing(bus, server.guard)
            client = await connect(server.url, name="client", patience_seconds=60.0)
            assert (await client.publish("job.submit.acme", b"{}", msg_id="well")).ours
            await stick(server, bus)
            await until(lambda: refusing._hearing, "it hears what is published")

            with pytest.raises(BusError, match=r"not stored: writes to .* failed in IN .* Free some space") as caught:
                await client.publish("job.submit.acme", b"{}", msg_id="refused")
            assert not isinstance(caught.value, BusUnavailable), "no reason to try again for a minute"
            assert str(tmp_path) in str(caught.value)
            told = msgspec.json.decode((await client._link.ask("job.cancel.acme.j1", b"", timeout=10.0)).data)
            assert told["error"]["code"] == 507
            assert told["stream"] == "IN"

            room = True
            await until(lambda: not server.guard.trouble and not refusing._hearing, "it stores again")
            put = await client.publish("job.submit.acme", b"{}", msg_id="refused")
            assert put.ours
            records = [record.headers["Nats-Msg-Id"] async for record in client.read("IN", "job.submit.acme")]
            assert records == ["well", "refused"], "what was refused was not stored"
            await refusing.close()
            await client.close()
            await bus.close()

    asyncio.run(run())


def test_what_the_server_stores_all_the_same_is_not_refused(tmp_path: Path) -> None:
    """A disk that is nearly full may take one more; the server's own word counts."""

    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            bus = await connect(server.url, name="dev")
            await bus.set_up(Topology(streams=STREAMS, queues=()))
            refusing = Refusing(bus, server.guard)
            server.guard._tell("the disk is full")
            await until(lambda: refusing._hearing)
            for n in range(20):
                assert (await bus.publish("job.submit.acme", b"{}", msg_id=str(n))).ours
            await refusing.close()
            await bus.close()

    asyncio.run(run())
