"""The demo's story: start everything, submit the jobs, kill the local backend and bring it back, count the ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from importlib.resources import files
from itertools import cycle, islice
from typing import TypeVar

import msgspec
from rich.console import Console

from actors import node
from actors.console.output import TEXT, Output
from actors.executor.actor import Served
from actors.executor.backends import open_backend
from actors.host import Host
from actors.simbackend import SimServer
from bus import codec
from bus.bus import Bus, BusError, FactEntry, Signal
from bus.jetstream import connect
from bus.server import NatsServer, ServerError
from messages import (
    Attempted,
    Backend,
    Breaker,
    Decided,
    Done,
    Explained,
    Granted,
    JobSubmit,
    Load,
    Message,
    Progress,
)
from scenarios.demo.fleet import FLEET, LOCAL, POLICY, SETTINGS
from scenarios.demo.screen import Screen
from scenarios.demo.summary import Summary, summarize

TENANT = "demo"
OUTAGE_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""A job without an end this long after the last submission is lost."""
INTERRUPTED = 130
START_SECONDS = 15.0
_LOOK_SECONDS = 0.05
T = TypeVar("T", bound=Message)


class Stopped(Exception):
    """The demo can't go on; the text says why."""


def main(jobs: int, pace: float, output: Output = TEXT) -> int:
    """Run the demo; the exit code."""
    console = Console(highlight=False, stderr=output.machine)
    try:
        return asyncio.run(_main(console, jobs, pace, output))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped. The nats-server and its data are gone.")
        return INTERRUPTED
    except (ServerError, BusError, Stopped, OSError) as error:
        print(f"turnout demo: {error}", file=sys.stderr)
        return 2


async def _main(console: Console, jobs: int, pace: float, output: Output) -> int:
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    screen = Screen(console, FLEET, jobs)
    screen.introduce()
    with tempfile.TemporaryDirectory(prefix="turnout-demo-", ignore_cleanup_errors=True) as folder:
        async with running(folder) as world:
            with screen:
                summary, example = await Story(world, screen, submissions(jobs), pace).play()
    screen.summary(summary, PATIENCE_SECONDS)
    if example:
        screen.why(example)
    if output.machine:
        output.one(summary)
    return summary.exit_code


def submissions(count: int) -> list[JobSubmit]:
    """So many jobs from the file, from its beginning again when it ends, each with an id."""
    lines = files("scenarios").joinpath("jobs/mixed.jsonl").read_bytes().splitlines()
    jobs = [msgspec.json.decode(line, type=JobSubmit) for line in lines]
    return [
        msgspec.structs.replace(job, id=f"m-{number:03}") for number, job in enumerate(islice(cycle(jobs), count), 1)
    ]


class World(msgspec.Struct, frozen=True):
    """All that runs."""

    bus: Bus
    """A client's connection; the rooms have their own."""
    host: Host
    sims: dict[str, SimServer]


@contextlib.asynccontextmanager
async def running(folder: str) -> AsyncGenerator[World, None]:
    """A nats-server, the simulated backends, and all rooms in this process."""
    async with contextlib.AsyncExitStack() as stack:
        sims = {member.offer.backend: SimServer(member.sim) for member in FLEET}
        for sim in sims.values():
            await stack.enter_async_context(sim)
        server = await stack.enter_async_context(NatsServer(folder))
        bus = await connect(server.url, name="turnout-demo")
        stack.push_async_callback(bus.close)
        await node.set_up(bus, SETTINGS)
        await bus.put_fact(POLICY.subject, codec.encode(POLICY))
        served = {
            member.offer.backend: Served(
                offer=member.offer,
                adapter=open_backend("openai", sims[member.offer.backend].url, api_key=None, now=bus.now),
            )
            for member in FLEET
        }
        host = node.host(
            bus, node.build(node.ALL_ROOMS, bus, SETTINGS, served=served), SETTINGS, instance="demo", boot="1"
        )
        stack.push_async_callback(host.close)
        await host.open()
        client = await connect(server.url, name="turnout-demo-client")
        stack.push_async_callback(client.close)
        yield World(client, host, sims)
        await host.drain(2.0)


class Story:
    """Submits, kills, revives and listens, until every job has ended or the patience has."""

    def __init__(self, world: World, screen: Screen, jobs: Sequence[JobSubmit], pace: float) -> None:
        self.world, self.screen, self.jobs, self.pace = world, screen, jobs, pace
        self._bus = world.bus
        self._submitted: list[str] = []
        self._ended: set[str] = set()
        self._answering: dict[str, set[tuple[str, int]]] = {}
        self._ready: set[str] = set()
        self._hears: dict[type[Message], Callable[..., None]] = {
            Decided: screen.decided,
            Granted: screen.granted,
            Progress: self._progress,
            Attempted: self._attempted,
            Done: self._done,
            Breaker: self._breaker,
            Load: screen.load,
            Backend: self._backend,
        }

    async def play(self) -> tuple[Summary, Explained | None]:
        """The whole story: what came of the jobs, and one decision explained."""
        await self._bus.subscribe(f"job.*.{TENANT}.>", self._hear)
        await self._bus.watch_facts(self._learn)
        await self._until(lambda: len(self._ready) == len(FLEET), START_SECONDS)
        if len(self._ready) < len(FLEET):
            raise Stopped(f"only {len(self._ready)} of {len(FLEET)} backends were announced within {START_SECONDS:g} s")
        self.screen.start_clock()
        beside = [asyncio.create_task(self._draw()), asyncio.create_task(self._drama())]
        try:
            await self._submit()
            await self._until(lambda: self._all_ended, PATIENCE_SECONDS)
            await beside[1]
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
        dones = [record async for record in self._records(Done)]
        attempts = [record async for record in self._records(Attempted)]
        names = [member.offer.backend for member in FLEET]
        summary = summarize(self._submitted, dones, attempts, backends=names)
        return summary, await self._example(summary, dones)

    @property
    def _all_ended(self) -> bool:
        return len(self._submitted) == len(self.jobs) and self._ended.issuperset(self._submitted)

    async def _submit(self) -> None:
        for job in self.jobs:
            await self._bus.publish(f"{JobSubmit.channel.prefix}.{TENANT}", codec.encode(job), msg_id=job.id)
            self._submitted.append(job.id)
            await asyncio.sleep(self.pace)

    async def _drama(self) -> None:
        """Kill the local backend in the middle of its work; bring it back later."""
        name = LOCAL.offer.backend
        sim = self.world.sims[name]

        def busy() -> bool:
            wanted = 1 if len(self._submitted) == len(self.jobs) else 2
            return len(self._submitted) * 3 >= len(self.jobs) and len(self._answering.get(name, ())) >= wanted

        await self._until(lambda: busy() or self._all_ended)
        if not busy():
            self.screen.event(f"{name} had nothing to do, so its death would show nothing")
            return
        count = len(self._answering[name])
        self.screen.event(f"{name} is killed in the middle of {count} answer{'s' * (count > 1)}", "bold red")
        await sim.kill()
        await self._until(lambda: self._all_ended, OUTAGE_SECONDS)
        await sim.start()
        self.screen.event(f"{name} is started again", "bold green")

    async def _draw(self) -> None:
        while True:
            self.screen.refresh()
            await asyncio.sleep(0.1)

    async def _until(self, true: Callable[[], bool], patience_seconds: float = float("inf")) -> None:
        """Look until it is true, or the patience has ended. Raises Stopped when a room gave up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_seconds
        while not true() and loop.time() < end:
            failed = self.world.host.failed
            if failed is not None and failed.done():
                raise Stopped(failed.result())
            await asyncio.sleep(_LOOK_SECONDS)

    # -------------------------------------------------------------------------------------------- hearing

    async def _hear(self, signal: Signal) -> None:
        self._take(signal.subject, signal.data)

    async def _learn(self, entry: FactEntry) -> None:
        if entry.data is not None:
            self._take(entry.subject, entry.data)

    def _take(self, subject: str, data: bytes) -> None:
        kind = codec.type_at(subject)
        heard = self._hears.get(kind) if kind else None
        if heard and kind:
            heard(codec.decode(kind, data))

    def _backend(self, backend: Backend) -> None:
        if backend.slots > 0:
            self._ready.add(backend.backend)

    def _breaker(self, breaker: Breaker) -> None:
        self.screen.breaker(breaker, self._bus.now())

    def _progress(self, progress: Progress) -> None:
        if progress.stage == "first_token":
            self._answering.setdefault(progress.backend, set()).add((progress.job, progress.n))

    def _attempted(self, attempted: Attempted) -> None:
        self._answering.get(attempted.backend, set()).discard((attempted.job, attempted.n))
        self.screen.attempted(attempted)

    def _done(self, done: Done) -> None:
        self._ended.add(done.job)
        self.screen.done(done)

    # -------------------------------------------------------------------------------------------- counting

    async def _records(self, kind: type[T]) -> AsyncGenerator[T, None]:
        channel = kind.channel
        async for record in self._bus.read(channel.stream, channel.pattern):
            yield codec.decode(kind, record.data, record.headers)

    async def _example(self, summary: Summary, dones: Sequence[Done]) -> Explained | None:
        """Why a job went where it succeeded: one that had a failover, if there is any."""
        good = [done for done in dones if done.ending == "succeeded" and done.attempts]
        done = next((done for done in good if done.job in summary.moved), next(iter(good), None))
        if done is None:
            return None
        subject = Explained.channel.key_of(tenant=TENANT, job=done.job, n=done.attempts[-1].n)
        for _ in range(30):  # The explainer is never in a job's way, so it may be behind.
            record = await self._bus.last(Explained.channel.stream, subject)
            if record:
                return codec.decode(Explained, record.data, record.headers)
            await asyncio.sleep(0.1)
        return None
