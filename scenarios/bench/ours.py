"""Our own figures: whole jobs through all rooms of one process, in the same run as the floor."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from time import perf_counter

from actors import node
from actors.executor.actor import Served
from actors.executor.backends import open_backend, port
from actors.host import Host
from actors.settings import Settings
from actors.simbackend import SimServer, SimSettings
from bus import codec
from bus.bus import Bus, Record, Signal
from bus.jetstream import connect
from messages import JobSubmit, Model, Offer

PROMPT = "Write one sentence about railway switches, for a reader who has never seen one. " * 3


class InProcess:
    """A backend without a wire: answers at once, in two pieces."""

    async def run(self, call: port.Call) -> AsyncGenerator[port.Chunk | port.Answer, None]:
        """Yield one chunk and the answer."""
        yield port.Chunk(text="A switch guides ")
        usage = port.Usage(input_tokens=60, output_tokens=12)
        yield port.Answer(text="A switch guides a train.", finish_reason="stop", model=call.model, usage=usage)

    async def health(self) -> port.Vitals:
        """Always well."""
        return port.Vitals()

    async def discover(self) -> tuple[port.Offer, ...]:
        """Nothing to find."""
        return ()

    async def close(self) -> None:
        """Nothing to close."""


class Ours:
    """All rooms in one process with two backends, and a client on a connection of its own."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url, self.data_dir = url, data_dir
        self.waiting: dict[str, asyncio.Future[float]] = {}
        self.first_bytes: dict[str, asyncio.Future[float]] = {}

    async def open(self) -> None:
        """Start the simulated HTTP backend, the rooms, and the client."""
        self.sim = SimServer(SimSettings(name="bench", models=("http-model",), slots=256))
        await self.sim.start()
        self.bus: Bus = await connect(self.url, name="bench")
        settings = Settings()
        await node.set_up(self.bus, settings)
        http = open_backend("openai", self.sim.url, api_key=None, now=self.bus.now)
        here = Offer(backend="here", protocol="inprocess", local=True, slots=256, models=(Model(name="in-process"),))
        wire = Offer(backend="wire", protocol="openai", local=True, slots=256, models=(Model(name="http-model"),))
        served = {
            "here": Served(offer=here, adapter=InProcess()),
            "wire": Served(offer=wire, adapter=http),
        }
        rooms = node.build(node.ALL_ROOMS, self.bus, settings, served=served, history=self.data_dir / "history.db")
        self.host: Host = node.host(self.bus, rooms, settings, instance="bench", boot="1")
        await self.host.open()
        self.thresholds = gc.get_threshold()
        node.spare_collector()
        self.client: Bus = await connect(self.url, name="bench client")
        await self.client.subscribe("job.done.bench.*", self._ended)
        await self.client.subscribe("job.chunk.bench.*.*", self._chunk)
        await asyncio.sleep(1.5)

    async def _ended(self, signal: Signal) -> None:
        waiter = self.waiting.pop(signal.subject.rsplit(".", 1)[1], None)
        if waiter and not waiter.done():
            waiter.set_result(perf_counter())

    async def _chunk(self, signal: Signal) -> None:
        waiter = self.first_bytes.pop(signal.subject.split(".")[3], None)
        if waiter and not waiter.done():
            waiter.set_result(perf_counter())

    async def _job(self, name: str, model: str) -> None:
        self.waiting[name] = waiter = asyncio.get_running_loop().create_future()
        submit = JobSubmit(id=name, prompt=PROMPT, model=model)
        await self.client.publish("job.submit.bench", codec.encode(submit), msg_id=name)
        await asyncio.wait_for(waiter, 30)

    async def job(self, number: int) -> None:
        """One whole job with the in-process backend."""
        await self._job(f"j{number}", "in-process")

    async def http_job(self, number: int) -> None:
        """One whole job with the HTTP backend."""
        await self._job(f"h{number}", "http-model")

    async def first_byte(self, number: int) -> None:
        """From the submission to the first piece of the answer at the client."""
        name = f"b{number}"
        self.first_bytes[name] = waiter = asyncio.get_running_loop().create_future()
        submit = JobSubmit(id=name, prompt=PROMPT, model="in-process")
        await self.client.publish("job.submit.bench", codec.encode(submit), msg_id=name)
        await asyncio.wait_for(waiter, 30)

    async def records(self, name: str) -> list[Record]:
        """Everything stored about one job, for the floor's bodies."""
        found = [record async for record in self.client.read("EV", f"ev.*.bench.{name}")]
        found += [record async for record in self.client.read("EV", f"ev.*.bench.{name}.*")]
        found += [record async for record in self.client.read("EV", f"sched.*.bench.{name}")]
        return found

    async def close(self) -> None:
        """Stop everything."""
        await self.host.drain(10)
        await self.host.close()
        await self.client.close()
        await self.bus.close()
        await self.sim.stop()
        gc.unfreeze()
        gc.set_threshold(*self.thresholds)
