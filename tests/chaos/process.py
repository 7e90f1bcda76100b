"""One process of the chaos tests: rooms on a real server, or a simulated backend. Rooms may kill themselves at a step.

Run as `python -m tests.chaos.process PARTS URL NAME BOOT WORLD`: PARTS as in `actors.node` with commas, or `backend`;
WORLD is the file of `World` as JSON. It ends when its standard input does, so no run leaves anything behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvloop

from actors import node
from actors.actor import Heard
from actors.executor.actor import Executor, Served
from actors.executor.backends import open_backend, port
from actors.executor.claim import Said
from actors.executor.hosted import model_of
from actors.guardrail import state, sweeper
from actors.parking import actor as parking
from actors.settings import BreakerRules, Budget, BudgetRules, JobSettings, Settings
from actors.simbackend import Fault, SimServer, SimSettings
from actors.simbackend.protocol import ChatRequest
from actors.simbackend.settings import fault_of
from actors.voice import Boundary
from bus import topology
from bus.jetstream import connect
from bus.topology import Queue
from messages import Model, Offer, Price, Work
from scenarios.backends import most_tokens

log = logging.getLogger("chaos")
POINTS = ("before publish", "after publish", "before acknowledge")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A backend of the world."""

    name: str
    port: int = 0
    """Of its own process, which speaks HTTP; 0: answered inside the executors."""
    comfyui: str = ""
    """The URL of a ComfyUI; empty: it is none."""
    slots: int = 16
    """Of each executor that serves it."""
    served_by: tuple[str, ...] = ()
    """Names of executors; empty: all."""
    seconds: float = 0.1
    """A typical answer takes so long; one in twelve takes six times that."""
    faults: dict[Fault, float] = {}
    price: Price = Price(input_per_mtok=150_000, output_per_mtok=600_000)
    harsh: bool = False
    """Its tokenizer makes a token of every byte and its template says all it may; it makes all that it may, whatever becomes of
    the call. It counts from the moment at which it has the request, and writes that down."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def offer(self) -> Offer:
        model = Model(name=MODEL, capabilities=("text", "json", "code"), price=self.price)
        return Offer(
            backend=self.name, protocol="openai" if self.port else "inprocess", local=False, slots=self.slots,
            models=(model,),
        )  # fmt: skip


MODEL = "sim-small"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of a run share."""

    folder: str
    seed: int
    rooms: Literal["together", "apart"] = "together"
    kill_probability: float = 0.0
    """At every step boundary."""
    places: tuple[Place, ...]
    budgets: tuple[Budget, ...] = ()
    budgeting: BudgetRules = BudgetRules(ceilings=False)
    sweep_after_seconds: float = 2.0
    breaker: BreakerRules = BreakerRules(open_seconds=0.5, longest_open_seconds=2.0)
    ack_wait_seconds: float = 15.0
    """Longest acknowledgement wait of the rooms' queues."""

    @property
    def calls(self) -> Path:
        return Path(self.folder, "calls")

    @property
    def counts(self) -> Path:
        return Path(self.folder, "counts")

    @property
    def kills(self) -> Path:
        return Path(self.folder, "kills")

    @property
    def calm(self) -> Path:
        """Once this file is there, nobody kills itself any more."""
        return Path(self.folder, "calm")

    def settings(self) -> Settings:
        return Settings(
            rooms=self.rooms,
            budgets=self.budgets,
            budgeting=self.budgeting,
            breaker=self.breaker,
            jobs=JobSettings(deadline_seconds=300.0, longest_deadline_seconds=3600.0),
        )


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the call log: a backend is called, or the call is over."""

    what: Literal["call", "end"]
    tenant: str
    job: str
    n: int
    backend: str
    instance: str
    boot: str
    run: str
    prompt: str = ""
    at: float


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the count log: what a harsh backend counts for a request that it has."""

    tenant: str
    job: str
    n: int = 0
    """Round of the job; 0: the request did not say."""
    backend: str
    read_tokens: int
    made_tokens: int


class Killed(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the kill log: a process kills itself now."""

    name: str
    boot: str
    point: str
    event: str
    at: float


def note(path: Path, line: msgspec.Struct) -> None:
    """Append a line in one write, so that several processes may do so and a kill cuts none."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(file)


def dangerous(world: World, name: str, boot: str) -> Boundary:
    """A hook that kills its own process with a seeded probability at each step boundary."""
    rng = random.Random(f"{world.seed}/{name}/{boot}")

    async def boundary(point: str, event: str) -> None:
        assert point in POINTS, point
        if rng.random() < world.kill_probability and not world.calm.exists():
            note(world.kills, Killed(name=name, boot=boot, point=point, event=event, at=time.time()))
            os.kill(os.getpid(), signal.SIGKILL)

    return boundary


_working: ContextVar[tuple[Work, Heard]] = ContextVar("working")


class Watched(Executor):
    """An executor whose adapters know for which attempt they are called."""

    async def run(self, work: Work, heard: Heard) -> AsyncGenerator[Said, None]:
        _working.set((work, heard))
        async with aclosing(super().run(work, heard)) as steps:
            async for said in steps:
                yield said


class Recorded:
    """An adapter that writes every call down before it is made."""

    def __init__(self, inner: port.Backend, log: Path) -> None:
        self.inner, self.log = inner, log

    async def run(self, call: port.Call) -> AsyncGenerator[port.Item, None]:
        work, heard = _working.get()
        called = Called(
            what="call", tenant=work.tenant, job=work.job, n=work.n, backend=work.backend, instance=heard.instance,
            boot=heard.boot, run=heard.run, prompt=str(call.messages[-1]["content"]), at=time.time(),
        )  # fmt: skip
        note(self.log, called)
        try:
            async with aclosing(self.inner.run(call)) as stream:
                async for item in stream:
                    yield item
        finally:
            note(self.log, msgspec.structs.replace(called, what="end", at=time.time()))

    async def health(self) -> port.Vitals:
        return await self.inner.health()

    async def discover(self) -> tuple[port.Offer, ...]:
        return await self.inner.discover()

    async def close(self) -> None:
        await self.inner.close()


class Keeper(Recorded):
    """The same of a backend that goes on with a call when its caller has died."""

    inner: Any

    async def left(self) -> tuple[str, ...]:
        return await self.inner.left()

    async def stop(self, key: str) -> None:
        await self.inner.stop(key)


class Inside:
    """A backend without a socket: a wait and a short answer."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def run(self, call: port.Call) -> AsyncGenerator[port.Chunk | port.Answer, None]:
        draw = hashlib.blake2b(repr(call.messages).encode(), digest_size=2).digest()
        pause = self.place.seconds * (6.0 if draw[0] < 21 else 0.5 + draw[1] / 256)
        await asyncio.sleep(pause / 2)
        yield port.Chunk(text="an ")
        await asyncio.sleep(pause / 2)
        usage = port.Usage(input_tokens=20 + draw[0], output_tokens=10 + draw[1])
        yield port.Answer(text="an answer", finish_reason="stop", model=call.model, usage=usage)

    async def health(self) -> port.Vitals:
        return port.Vitals()

    async def discover(self) -> tuple[port.Offer, ...]:
        return ()

    async def close(self) -> None:
        pass


class Harsh(Inside):
    """One whose place is harsh. Of the faults it has `500`, before it counts; `hang`; and `cut`, half of them before a token."""

    def __init__(self, place: Place, world: World) -> None:
        super().__init__(place)
        assert place.faults.keys() <= {"500", "hang", "cut"}, place.faults
        self.world = world

    async def run(self, call: port.Call) -> AsyncGenerator[port.Chunk | port.Answer, None]:
        work, _ = _working.get()
        draw = hashlib.blake2b(f"{work.tenant}/{work.job}/{work.n}".encode(), digest_size=4).digest()
        fault = fault_of(self.world.seed, int.from_bytes(draw), self.place.faults)
        if fault == "500":
            raise port.BackendError("server_error", "it broke", status=500)
        read, made = most_tokens(str(message["content"]) for message in call.messages), call.max_output_tokens
        counted = Counted(
            tenant=work.tenant, job=work.job, n=work.n, backend=work.backend, read_tokens=read, made_tokens=made
        )
        note(self.world.counts, counted)
        await asyncio.sleep(self.place.seconds / 2)
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "cut" and draw[0] % 2:
            raise port.BackendError("cut_stream", "the stream broke off")
        yield port.Chunk(text="an ")
        await asyncio.sleep(self.place.seconds / 2)
        if fault == "cut":
            raise port.BackendError("cut_stream", "the stream broke off", partial="an ")
        usage = port.Usage(input_tokens=read, output_tokens=made)
        yield port.Answer(text="an answer", finish_reason="stop", model=call.model, usage=usage)


MARK = re.compile(r"\[(\S+) (\S+)\]")
"""How a prompt names its tenant and job, for a backend that nobody else tells."""


class HarshServer(SimServer):
    """A simulated backend that is harsh. Its prompts must hold a mark; `500`, `429` and `empty` would make its counts untrue."""

    def __init__(self, settings: SimSettings, port: int, world: World) -> None:
        super().__init__(settings, port=port)
        assert settings.faults.keys() <= {"hang", "slow", "cut", "malformed", "structure"}, settings.faults
        self.world = world

    def _input_tokens(self, asked: ChatRequest) -> int:
        texts = asked.texts()
        marked = MARK.search(texts[-1])
        assert marked is not None, texts
        assert asked.cap is not None
        read = most_tokens(texts)
        counted = Counted(
            tenant=marked[1], job=marked[2], backend=self.settings.name, read_tokens=read, made_tokens=asked.cap
        )
        note(self.world.counts, counted)
        return read


def inside(place: Place, world: World) -> port.Backend:
    """The backend of a place without a socket."""
    return Harsh(place, world) if place.harsh else Inside(place)


async def served(world: World, name: str) -> dict[str, Served]:
    """The backends that this executor serves."""
    found: dict[str, Served] = {}
    for place in world.places:
        if place.served_by and name not in place.served_by:
            continue
        if place.comfyui:
            comfyui = open_backend("comfyui", place.comfyui, api_key=None, now=time.time)
            models = tuple(model_of(one, local=True) for one in await comfyui.discover())
            offer = Offer(backend=place.name, protocol="comfyui", local=True, slots=1, models=models)
            found[place.name] = Served(offer=offer, adapter=Keeper(comfyui, world.calls))
            continue
        inner = open_backend("openai", place.url, api_key=None, now=time.time) if place.port else inside(place, world)
        found[place.name] = Served(offer=place.offer(), adapter=Recorded(inner, world.calls))
    return found


def hasty(queues: tuple[Queue, ...], world: World) -> tuple[Queue, ...]:
    """The same queues with no longer an acknowledgement wait than the world's."""
    wait = world.ack_wait_seconds
    return tuple(msgspec.structs.replace(queue, ack_wait_seconds=min(queue.ack_wait_seconds, wait)) for queue in queues)


async def run_rooms(parts: list[str], url: str, name: str, boot: str, world: World, stop: asyncio.Event) -> int:
    """Run rooms until told to stop, then let what is in hand end."""
    sweeper.SWEEP_AFTER_SECONDS, sweeper.TAKE_OVER_SECONDS = world.sweep_after_seconds, 4.0
    sweeper.MARK_SECONDS = sweeper.LOOK_SECONDS = 1.0
    state.LOOK_AGAIN_SECONDS, parking.READ_SECONDS = 2.0, 5.0
    topology.QUEUES, topology.APART = hasty(topology.QUEUES, world), hasty(topology.APART, world)
    node.Executor = Watched
    settings = world.settings()
    bus = await connect(url, name=f"{name}/{boot}", connect_timeout_seconds=60.0)
    await node.set_up(bus, settings)
    rooms = node.build(
        node.check_parts(parts, settings), bus, settings, served=await served(world, name) if "executor" in parts else None,
        history=Path(world.folder, f"{name}.sqlite"),
    )  # fmt: skip
    host = node.host(bus, rooms, settings, instance=name, boot=boot, boundary=dangerous(world, name, boot))
    await host.open()
    assert host.failed is not None
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, host.failed}, return_when=asyncio.FIRST_COMPLETED)
    if host.failed.done():
        log.error("gave up: %s", host.failed.result())
        return 3
    await host.drain(5.0)
    await host.close()
    await bus.close()
    return 0


async def run_backend(name: str, world: World, stop: asyncio.Event) -> int:
    """Run one simulated backend until told to stop."""
    place = next(place for place in world.places if place.name == name)
    settings = SimSettings(
        name=name, models=(MODEL,), first_token_seconds=place.seconds / 2, tokens_per_second=24 / place.seconds,
        slots=64, faults=place.faults, seed=world.seed, retry_after_seconds=0.5,
    )  # fmt: skip
    server = SimServer(settings, port=place.port)
    if place.harsh:
        long = {"answer_tokens": 10**6, "context_tokens": 10**7, "tokens_per_second": 512 / place.seconds}
        server = HarshServer(msgspec.structs.replace(settings, **long), place.port, world)
    async with server:
        await stop.wait()
    return 0


async def main(parts: str, url: str, name: str, boot: str, world: World) -> int:
    """Run until the end of standard input (at once) or SIGTERM (in order)."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), os._exit, 1)
    if parts == "backend":
        return await run_backend(name, world, stop)
    return await run_rooms(parts.split(","), url, name, boot, world, stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _, its_parts, its_url, its_name, its_boot, world_file = sys.argv
    its_world = msgspec.json.decode(Path(world_file).read_bytes(), type=World)
    sys.exit(uvloop.run(main(its_parts, its_url, its_name, its_boot, its_world)))
