"""The rooms that answer questions on a real server, beside the test: commands are run as people type them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

import pytest

from actors import node
from actors.console import app
from actors.settings import Settings
from bus import codec
from bus.bus import Bus
from bus.jetstream import connect
from bus.server import NatsServer
from messages import Message, Policy

T = TypeVar("T")
COMMANDS = {
    name: EntryPoint(name, f"actors.console.{name}:{name}", app.GROUP)
    for name in ("decide", "estimate", "get", "policy", "quote", "recommend", "submit")
}


class Live:
    """A server in a thread of its own, with an analyzer and a router on it."""

    def __init__(self, data: Path) -> None:
        self.server = NatsServer(data)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.do(self._start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def _start(self) -> None:
        await self.server.start()
        settings = Settings()
        self.bus: Bus = await connect(self.server.url, name="rooms")
        await node.set_up(self.bus, settings)
        rooms = node.build(("analyzer", "router"), self.bus, settings)
        self.host = node.host(self.bus, rooms, settings, instance="front", boot="b1")
        await self.host.open()

    async def _stop(self) -> None:
        await self.host.close()
        await self.bus.close()
        await self.server.stop()

    def close(self) -> None:
        """Stop everything."""
        self.do(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def know(self, *facts: Message) -> None:
        """Store facts, and wait until the router knows them: facts arrive in their order."""
        for fact in facts:
            self.do(self.bus.put_fact(fact.subject, codec.encode(fact)))
        self.do(asyncio.sleep(0.2))

    def stored(self, policy: str) -> Policy | None:
        """What is stored of a policy."""
        record = self.do(self.bus.last("KV_facts", Policy(policy=policy).subject))
        return codec.decode(Policy, record.data) if record else None

    def jobs(self) -> int:
        """How many jobs were ever submitted."""

        async def count() -> int:
            return len([record async for record in self.bus.read("IN", "job.>")])

        return self.do(count())


@contextmanager
def live(data: Path) -> Generator[Live]:
    """A running deployment."""
    there = Live(data)
    try:
        yield there
    finally:
        there.close()


def run(*words: str, url: str = "nats://127.0.0.1:1") -> int:
    """Run a command line against the bus at this URL; the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "found", lambda: COMMANDS)
        return app.run([*words, "--nats", url])
