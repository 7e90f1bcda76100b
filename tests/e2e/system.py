"""The whole system beside a test: a real nats-server and every room, on a loop of their own, for backends that come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from actors import node
from actors.executor.actor import Served
from actors.executor.discover import Discovery
from actors.settings import BackendSettings, Settings
from bus import codec
from bus.bus import Bus, FactEntry, Signal
from bus.jetstream import connect
from bus.server import NatsServer
from messages import Backend, Done, FailoverRules, JobSubmit, Message, Policy

TENANT = "e2e"
KEY_VARIABLE, KEY = "E2E_API_KEY", "key-that-must-not-show"
WAIT_SECONDS = 0.2
DEADLINE_SECONDS = 60.0
PATIENCE_SECONDS = DEADLINE_SECONDS + 5.0
POLICY = Policy(policy="e2e", failover=FailoverRules(max_attempts=3, waits_seconds=(WAIT_SECONDS,)))

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class System:
    """A deployment in one process; what happens to jobs is kept as it is heard."""

    def __init__(self, data: Path) -> None:
        self.server = NatsServer(data, port=0)
        self.served: dict[str, Served] = {}
        self.backends: dict[str, Backend] = {}
        self._heard: list[Message] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.do(self._start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the system's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(90)

    async def _start(self) -> None:
        await self.server.start()
        settings = Settings()
        self.bus: Bus = await connect(self.server.url, name="rooms")
        await node.set_up(self.bus, settings)
        await self.bus.put_fact(POLICY.subject, codec.encode(POLICY))
        rooms = node.build(node.ALL_ROOMS, self.bus, settings, served=self.served)
        self.host = node.host(self.bus, rooms, settings, instance="e2e", boot="1")
        await self.host.open()
        self.client: Bus = await connect(self.server.url, name="test")
        await self.client.subscribe(f"job.*.{TENANT}.>", self._hear)
        await self.client.watch_facts(self._learn)

    def close(self) -> None:
        """Stop everything."""
        self.do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        await self.client.close()
        await self.host.close()
        await self.bus.close()
        await self.server.stop()

    async def _hear(self, signal: Signal) -> None:
        if kind := codec.type_at(signal.subject):
            self._heard.append(codec.decode(kind, signal.data))

    async def _learn(self, entry: FactEntry) -> None:
        if entry.data is not None and codec.type_at(entry.subject) is Backend:
            backend = codec.decode(Backend, entry.data)
            self.backends[backend.backend] = backend

    def told(self, kind: type[M], job: str) -> list[M]:
        """What was said of a job, in the order in which it was heard."""
        return [one for one in self._heard if isinstance(one, kind) and getattr(one, "job", "") == job]

    async def until(self, true: Callable[[], object], what: str) -> None:
        """Return once it is true. Raises AssertionError that says what never came."""
        end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while not true():
            assert asyncio.get_running_loop().time() < end, f"this never came: {what}"
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def serving(self, *backends: BackendSettings) -> AsyncGenerator[None, None]:
        """These backends, as if the settings had named them at the start."""
        settings = Settings(discover=False, backends=backends)
        async with self.taking(node.discovery(settings, self.bus.now, environment={KEY_VARIABLE: KEY})):
            yield

    @asynccontextmanager
    async def taking(self, found: Discovery) -> AsyncGenerator[None, None]:
        """What is found at one look."""
        await found.look()
        assert not found.troubles
        self.served.update(found.served)
        names = found.served.keys()
        await self.until(lambda: all(self._takes_jobs(name) for name in names), f"the backends {', '.join(names)}")
        try:
            yield
        finally:
            for name in names:
                del self.served[name]
            await self.until(lambda: not any(map(self._takes_jobs, names)), f"no word of {', '.join(names)}")
            for one in found.served.values():
                await one.adapter.close()

    def _takes_jobs(self, name: str) -> bool:
        backend = self.backends.get(name)
        return backend is not None and backend.slots > 0

    async def submit(self, job: JobSubmit) -> None:
        """Send it as any client would."""
        body = msgspec.structs.replace(job, deadline_seconds=job.deadline_seconds or DEADLINE_SECONDS)
        await self.client.publish(f"{JobSubmit.channel.prefix}.{TENANT}", codec.encode(body), msg_id=job.id)

    async def done(self, job: str) -> Done:
        """Its end."""
        await self.until(lambda: self.told(Done, job), f"the end of {job}")
        return self.told(Done, job)[0]


@contextmanager
def running(data: Path) -> Generator[System]:
    """A deployment that is stopped at the end."""
    system = System(data)
    try:
        yield system
    finally:
        system.close()
