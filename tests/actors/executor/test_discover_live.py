"""A backend that comes and goes, on a real bus with all rooms: it is announced, takes a job, and is gone from decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from actors import node
from actors.executor.places import Place
from actors.settings import Settings
from bus import codec
from bus.bus import FactEntry, Signal
from bus.jetstream import connect
from bus.server import NatsServer
from messages import Backend, Decided, Done, JobSubmit
from tests.fakes.ollama import FakeOllama


def test_a_server_that_starts_later_takes_a_job_and_one_that_stops_gets_none(tmp_path: Path) -> None:
    async def story() -> None:
        settings = Settings(health_interval_seconds=1.0, discover=False)
        server = NatsServer(tmp_path / "nats", port=0)
        await server.start()
        bus = await connect(server.url, name="test")
        await node.set_up(bus, settings)
        fake = FakeOllama()
        async with fake:
            url = fake.url
        discovery = node.discovery(settings, bus.now, environment={})
        discovery.places = [Place("ollama", url, "Ollama")]
        rooms = node.build(node.ALL_ROOMS, bus, settings, served=discovery.served)
        host = node.host(bus, rooms, settings, instance="dev", boot="b1")
        await host.open()
        told: list[Backend] = []
        ended: list[Done] = []
        decided: list[Decided] = []
        heard = asyncio.Event()

        async def on_fact(entry: FactEntry) -> None:
            if codec.type_at(entry.subject) is Backend and entry.data is not None:
                told.append(codec.decode(Backend, entry.data))
                heard.set()

        async def on_signal(signal: Signal) -> None:
            kind = codec.type_at(signal.subject)
            if kind is Done:
                ended.append(codec.decode(Done, signal.data))
            elif kind is Decided:
                decided.append(codec.decode(Decided, signal.data))
            heard.set()

        async def until(holds: Callable[[], bool]) -> None:
            async with asyncio.timeout(30):
                while not holds():
                    heard.clear()
                    await heard.wait()

        async def submit(job: str, seconds: float = 20.0) -> Done:
            body = codec.encode(JobSubmit(id=job, prompt="hi", deadline_seconds=seconds))
            await bus.publish("job.submit.acme", body, msg_id=job)
            await until(lambda: any(one.job == job for one in ended))
            return next(one for one in ended if one.job == job)

        await bus.watch_facts(on_fact)
        await bus.subscribe(Done.channel.public, on_signal)
        await bus.subscribe(Decided.channel.public, on_signal)
        try:
            assert await discovery.look() == []
            async with fake:
                assert [news.kind for news in await discovery.look()] == ["found"]
                await until(lambda: bool(told))
                done = await submit("first")
                assert (done.ending, done.backend) == ("succeeded", told[0].backend)
                assert len(told) == 1, "it is announced with one event"
                assert told[0].healthy
            await until(lambda: not told[-1].healthy)
            before = len(decided)
            await submit("second", 2.0)
            assert all(not one.ranking for one in decided[before:] if one.job == "second")
        finally:
            await host.close()
            await discovery.clients.close()
            await bus.close()
            await server.stop()

    asyncio.run(story())
