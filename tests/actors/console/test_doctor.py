from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from actors.console import doctor as module
from actors.console.output import Output
from bus.jetstream import JetStreamBus, connect
from bus.server import NatsServer
from bus.topology import STREAMS, Topology
from tests.actors.console.test_refusing import stick


def on_a_server(data: Path, story: Callable[[NatsServer, JetStreamBus], Awaitable[None]]) -> None:
    async def run() -> None:
        async with NatsServer(data) as server:
            bus = await connect(server.url, name="doctor", patience_seconds=2.0)
            await bus.set_up(Topology(streams=STREAMS, queues=()))
            await story(server, bus)
            await bus.close()

    asyncio.run(run())


def test_a_server_that_stores_nothing_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(server: NatsServer, bus: JetStreamBus) -> None:
        monkeypatch.setattr(server.disk, "has_room", lambda: False)  # Or it would be started anew.
        assert await module._stores(module.Say(Output()), bus)
        assert capsys.readouterr().out == ""
        assert await bus.last("EV", "sched.doctor") is None, "nothing stays behind"
        await stick(server, bus)
        assert not await module._stores(module.Say(Output()), bus)
        said = capsys.readouterr().out
        assert "store" in said
        assert "nothing is stored in IN:" in said
        assert "start the nats-server anew" in said

    on_a_server(tmp_path, story)


@pytest.mark.parametrize(
    ("step", "said"), [(0.0, "like that of"), (1200.0, "20 min ahead of it"), (-7200.0, "2 h behind it")]
)
def test_how_the_clocks_stand_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, step: float, said: str
) -> None:
    async def story(_: NatsServer, bus: JetStreamBus) -> None:
        real = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + step)
            module._clocks(module.Say(Output()), bus)
        assert said in capsys.readouterr().out

    on_a_server(tmp_path, story)


def test_a_full_disk_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module._data(module.Say(Output()), tmp_path / "new" / "data")
    assert "MB free (comes with the first `turnout dev`)" in capsys.readouterr().out
    monkeypatch.setattr(module.Disk, "free", lambda _: 100_000)
    module._data(module.Say(Output()), tmp_path / "new" / "data")
    assert "its disk is full, 0 MB free" in capsys.readouterr().out
