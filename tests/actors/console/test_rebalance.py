"""`turnout rebalance` against a telemetry room, and against nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.console import rebalance as module
from actors.console.reach import Where
from actors.console.rebalance import rebalance, reset, summary, user
from actors.console.screen import Complaint, Unreachable
from actors.host import Host
from actors.journal import Journal
from actors.node import set_up
from actors.settings import Settings
from actors.telemetry.actor import Telemetry
from actors.telemetry.history import History
from bus.bus import Bus
from bus.jetstream import connect
from bus.server import NatsServer
from bus.topology import TELEMETRY, TELEMETRY_RATE
from messages import Epoch, Rebalanced
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import attempted


async def here(call: Any) -> Any:
    return call()


def room(history: History, bus: Bus) -> Any:
    return room_of(lambda: Telemetry(history=history, journal=Journal(bus)), TELEMETRY, TELEMETRY_RATE)


@pytest.mark.parametrize(
    ("answer", "by", "said"),
    [
        (Rebalanced(epoch=3, forgotten=14), "ada", "epoch 3 by ada: 14 averages forgotten, shares are equal until"),
        (Rebalanced(epoch=1, forgotten=1), "a\x1b[1m", "epoch 1 by a�[1m: 1 average forgotten, shares"),
    ],
)
def test_it_says_what_was_forgotten(answer: Rebalanced, by: str, said: str) -> None:
    assert summary(answer, by).startswith(said)


def test_when_it_returns_the_reset_is_stored() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(room(History(":memory:", offload=here), rig.bus))
        await rig.publish(attempted(latency_seconds=2.0))
        await rig.settle(2.0)
        assert await reset(rig.bus, "ada") == Rebalanced(epoch=1, forgotten=2)
        (epoch,) = rig.stored(Epoch)
        assert (epoch.epoch, epoch.by) == (1, "ada")
        assert (await reset(rig.bus, "bob")).epoch == 2

    play(story)


def test_a_reset_that_is_not_stored_is_no_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Telemetry, "stats_seconds", 3600.0)

    async def story(rig: Rig) -> None:
        await rig.host(room(History(":memory:", offload=here), rig.bus))
        await rig.settle(1.0)
        with pytest.raises(Complaint, match="nothing was stored within 5 s"):
            await reset(rig.bus, "ada")

    play(story)


def test_nobody_measures_on_this_bus() -> None:
    async def story(rig: Rig) -> None:
        with pytest.raises(Complaint, match="'telemetry' does not answer"):
            await reset(rig.bus, "ada")

    play(story)


def test_nobody_is_there() -> None:
    with pytest.raises(Unreachable, match="no bus at"):
        rebalance(where=Where(nats="nats://127.0.0.1:1"))


def test_who_asks_is_the_user_unless_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.getpass, "getuser", lambda: "ada")
    assert user() == "ada"

    def nobody() -> str:
        raise KeyError("uid not found: 4711")

    monkeypatch.setattr(module.getpass, "getuser", nobody)
    assert user() == "unknown"


def test_the_command_on_a_real_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> tuple[int, str]:
        async with NatsServer(tmp_path) as server:
            bus = await connect(server.url, name="telemetry")
            await set_up(bus, Settings())
            history = History(tmp_path / "history.db", offload=here)
            host = Host(bus, [room(history, bus)], instance="one", boot="b1")
            await host.open()
            code = await asyncio.to_thread(rebalance, by="ada", where=Where(nats=server.url))
            epoch = await bus.last("KV_facts", Epoch(epoch=1, by="", at=0.0).subject)
            await host.close()
            await bus.close()
            return code, epoch.data.decode() if epoch else ""

    code, stored = asyncio.run(main())
    assert code == 0
    assert '"by":"ada"' in stored
    assert "epoch 1 by ada: 0 averages forgotten" in capsys.readouterr().out
