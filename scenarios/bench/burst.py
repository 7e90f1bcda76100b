"""What a burst gains from equal backends: 1, 2, 4 and 8 of them, one slot each, on real processes.

Run as `python -m scenarios.bench.burst PARTS URL SECONDS` it is one of these processes: rooms as in `actors.node`, with commas.
The executor serves all backends. It ends when its standard input does, so no run leaves anything behind.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop

from actors import node
from actors.executor.actor import Served
from actors.executor.backends import port
from actors.settings import Settings
from bus import codec
from bus.bus import Bus, FactEntry, Signal
from bus.jetstream import connect
from bus.server import NatsServer
from messages import Backend, Done, JobSubmit, Model, Offer

SIZES = (1, 2, 4, 8)
"""Each size is a fleet of its own, with a model of its own: all are there in one run."""
SECONDS = 0.5
"""Of a call."""
JOBS = 200
"""Published at one instant."""
BASE_SHARE = 10
"""The base, one backend, gets so many times fewer jobs: its rate is the same, and all of them would take 100 s."""
AGAIN_JOBS = 48
"""A second burst on two backends, which are measured by then."""
PROCESSES = ("front", "registry", "executor", "telemetry")
PATIENCE_SECONDS = 60.0


class Busy:
    """A backend that takes its time, and a slot."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def run(self, call: port.Call) -> AsyncGenerator[port.Chunk | port.Answer, None]:
        """Yield the answer after a while."""
        await asyncio.sleep(self.seconds)
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


def fleet(seconds: float) -> dict[str, Served]:
    """The backends of all sizes, by name."""
    found: dict[str, Served] = {}
    for size in SIZES:
        for number in range(size):
            name = f"{size}-{number}"
            offer = Offer(backend=name, protocol="inprocess", local=True, slots=1, models=(Model(name=model_of(size)),))
            found[name] = Served(offer=offer, adapter=Busy(seconds))
    return found


def model_of(size: int) -> str:
    """What a fleet of that size serves."""
    return f"of-{size}"


async def serve(parts: str, url: str, seconds: float) -> None:
    """Run these rooms until the standard input ends."""
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)
    bus: Bus = await connect(url, name=parts)
    settings = Settings(discover=False)
    rooms = node.build(node.check_parts(parts.split(","), settings), bus, settings, served=fleet(seconds))
    host = node.host(bus, rooms, settings, instance=parts, boot="1")
    await host.open()
    node.spare_collector()
    await asyncio.Event().wait()


class Burst(msgspec.Struct, frozen=True):
    """What became of the jobs of one burst."""

    jobs: int
    ends: dict[str, list[float]]
    """Backend -> when its jobs had ended, in seconds from the first submission."""

    @property
    def per_second(self) -> float:
        """Jobs until the last end."""
        return self.jobs / max(end for ends in self.ends.values() for end in ends)

    @property
    def ends_apart(self) -> float:
        """How much sooner the backend ends that ends first, as a share of the whole time."""
        last = [max(ends, default=0.0) for ends in self.ends.values()]
        return 1.0 - min(last) / max(last)

    @property
    def fewest_to_most(self) -> float:
        """Jobs of the backend that got fewest, as a share of those of the one that got most."""
        counts = [len(ends) for ends in self.ends.values()]
        return min(counts) / max(counts)


class Client:
    """Submits, and hears of ends."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._backends: set[str] = set()
        self._ends: dict[str, tuple[str, float]] = {}
        self._numbers = 0

    async def open(self, backends: int) -> None:
        """Wait for the backends. Raises TimeoutError."""
        await self.bus.subscribe("job.done.bench.*", self._ended)
        await self.bus.watch_facts(self._fact)
        await _until(lambda: len(self._backends) >= backends, PATIENCE_SECONDS)
        await asyncio.sleep(1.0)  # Everybody else has heard of them, too.

    async def _fact(self, entry: FactEntry) -> None:
        if entry.data and codec.type_at(entry.subject) is Backend:
            backend = codec.decode(Backend, entry.data)
            if backend.slots > 0:
                self._backends.add(backend.backend)

    async def _ended(self, signal: Signal) -> None:
        at = perf_counter()
        done = codec.decode(Done, signal.data, signal.headers)
        self._ends[done.job] = (done.backend if done.ending == "succeeded" else "", at)

    async def burst(self, size: int, jobs: int, seconds: float) -> Burst:
        """So many at one instant. Raises TimeoutError, and RuntimeError when one fails."""
        self._numbers += 1
        names = [f"burst-{self._numbers}-{number}" for number in range(jobs)]
        began = perf_counter()
        await asyncio.gather(*(self._submit(name, size) for name in names))
        await _until(lambda: all(name in self._ends for name in names), PATIENCE_SECONDS + 2 * jobs * seconds)
        ends: dict[str, list[float]] = {f"{size}-{number}": [] for number in range(size)}
        for name in names:
            backend, at = self._ends.pop(name)
            if backend not in ends:
                raise RuntimeError(f"{name} did not end well on a backend of its fleet")
            ends[backend].append(at - began)
        return Burst(jobs, ends)

    async def _submit(self, name: str, size: int) -> None:
        body = codec.encode(
            JobSubmit(id=name, prompt="Write one sentence.", model=model_of(size), max_output_tokens=64)
        )
        await self.bus.publish("job.submit.bench", body, msg_id=name)


async def _until(true: Callable[[], bool], patience_seconds: float) -> None:
    end = asyncio.get_running_loop().time() + patience_seconds
    while not true():
        if asyncio.get_running_loop().time() > end:
            raise TimeoutError
        await asyncio.sleep(0.05)


@asynccontextmanager
async def process(parts: str, url: str, seconds: float) -> AsyncGenerator[None, None]:
    """One of the processes, killed at the end."""
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scenarios.bench.burst", parts, url, str(seconds), stdin=asyncio.subprocess.PIPE
    )  # fmt: skip
    try:
        yield
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


async def measure_bursts(
    directory: Path, *, jobs: int = JOBS, seconds: float = SECONDS, sizes: Sequence[int] = SIZES
) -> dict[str, float]:
    """`burst.backends_<n>.speedup` against one backend in the same run; how far apart equal ones end, and how evenly jobs are
    spread. `burst.measured` is two backends once more, when all of them are measured.
    """
    figures: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(NatsServer(directory / "burst", port=0))
        bus = await connect(server.url, name="bench burst")
        stack.push_async_callback(bus.close)
        await node.set_up(bus, Settings())
        for parts in PROCESSES:
            await stack.enter_async_context(process(parts, server.url, seconds))
        client = Client(bus)
        await client.open(sum(SIZES))
        base = await client.burst(1, max(4, jobs // BASE_SHARE), seconds)
        figures["burst.backends_1.jobs_per_second"] = base.per_second
        for size in sizes:
            found = base if size == 1 else await client.burst(size, jobs, seconds)
            figures[f"burst.backends_{size}.speedup"] = found.per_second / base.per_second
            if size > 1:
                figures[f"burst.backends_{size}.ends_apart"] = found.ends_apart
                figures[f"burst.backends_{size}.fewest_to_most"] = found.fewest_to_most
        again = await client.burst(2, min(jobs, AGAIN_JOBS), seconds)
        figures["burst.measured.ends_apart"] = again.ends_apart
        figures["burst.measured.fewest_to_most"] = again.fewest_to_most
    return figures


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], float(sys.argv[3])))
