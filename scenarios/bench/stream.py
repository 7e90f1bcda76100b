"""What a streamed piece of an answer costs on its way from a backend to whoever listens, beside plain httpx in the same run."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import httpx
import msgspec
from aiohttp import web

from actors import node
from actors.executor.actor import Served
from actors.executor.backends import open_backend
from actors.settings import Settings
from bus import codec
from bus.bus import Bus, Signal
from bus.jetstream import connect
from bus.server import NatsServer
from bus.topology import work_queue
from messages import Chunk, Failover, JobSubmit, Model, Needs, Offer, Slip, Work
from scenarios.bench.figures import percentile, rate

STREAMS, CHUNKS, IN_FLIGHT = 1_000, 20, 16
MODEL = "pieces"
_NEEDS = Needs(
    task="chat", quality="standard", complexity="simple", complexity_score=1.0, input_tokens=10, max_output_tokens=100
)


PAUSE_SECONDS = 0.002
"""Between two pieces while they are measured: what comes at once is put together on its way, and would cost less."""


class Source:
    """A server that answers chat completions with as many pieces, so far apart, as the prompt says (`20 0.002`)."""

    async def open(self) -> str:
        """Listen on a free port; the base URL."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        pieces, pause = body["messages"][-1]["content"].split()
        for number in range(int(pieces)):
            await response.write(_event({"content": f"{number} "}, None))
            await asyncio.sleep(float(pause))
        await response.write(_event({}, "stop") + b"data: [DONE]\n\n")
        return response

    async def close(self) -> None:
        """Stop."""
        await self._runner.cleanup()


def _event(delta: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@dataclass
class Streams:
    """One executor on one server, and a listener on a connection of its own that counts what it hears."""

    url: str
    nats: str
    lost: int = 0
    """Pieces that never came."""
    disordered: int = 0
    """Chunks that came before their turn, or twice."""
    _texts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _ends: dict[str, asyncio.Future[None]] = field(default_factory=dict[str, asyncio.Future[None]])

    async def open(self) -> None:
        """Start the executor and the listener."""
        self.bus: Bus = await connect(self.nats, name="stream bench")
        settings = Settings()
        await node.set_up(self.bus, settings)
        await self.bus.set_up_queue(work_queue("wire", IN_FLIGHT))
        offered = Offer(backend="wire", protocol="openai", local=True, slots=IN_FLIGHT, models=(Model(name=MODEL),))
        adapter = open_backend("openai", self.url, api_key=None, now=self.bus.now)
        rooms = node.build(("executor",), self.bus, settings, served={"wire": Served(offer=offered, adapter=adapter)})
        self.host = node.host(self.bus, rooms, settings, instance="bench", boot="1")
        await self.host.open()
        self.client: Bus = await connect(self.nats, name="stream listener")
        # One subscription: what is heard of one job comes in its order.
        await self.client.subscribe("job.*.bench.>", self._hear)
        self.http = httpx.AsyncClient(limits=httpx.Limits(max_connections=IN_FLIGHT))

    async def _hear(self, signal: Signal) -> None:
        _, stage, _, job, *_ = signal.subject.split(".")
        if stage == "chunk":
            chunk = codec.decode(Chunk, signal.data, signal.headers)
            texts = self._texts.setdefault(job, [])
            self.disordered += chunk.number != len(texts)
            texts.append(chunk.text)
        elif stage == "done" and not self._ends[job].done():
            self._ends[job].set_result(None)

    async def ours(self, name: str, chunks: int, pause: float = 0.0) -> None:
        """One stream through the executor, until its end is heard."""
        self._ends[name] = end = asyncio.get_running_loop().create_future()
        now = self.bus.now()
        body = msgspec.Raw(codec.encode(JobSubmit(prompt=f"{chunks} {pause}")))
        slip = Slip(
            tenant="bench", job=name, submitted_at=now, deadline_at=now + 600, input_seq=1, input=body, needs=_NEEDS
        )
        work = Work(
            tenant="bench", job=name, n=1, backend="wire", model=MODEL, slip=slip, failover=Failover(),
            max_output_tokens=100,
        )  # fmt: skip
        await self.client.publish(work.subject, codec.encode(work), msg_id=name)
        async with asyncio.timeout(60):
            await end
        del self._ends[name]
        heard = "".join(self._texts.pop(name, [])).split()
        wanted = [str(number) for number in range(chunks)]
        self.lost += sum(number not in heard for number in wanted)
        self.disordered += heard != [number for number in wanted if number in heard]

    async def plain(self, chunks: int, pause: float = 0.0) -> None:
        """The same request with httpx alone, every event decoded. Raises RuntimeError when a piece is missing."""
        body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": f"{chunks} {pause}"}]}
        async with self.http.stream("POST", f"{self.url}/chat/completions", json=body) as response:
            lines = (line async for line in response.aiter_lines() if line.startswith("data: {"))
            texts = [json.loads(line[6:])["choices"][0]["delta"].get("content", "") async for line in lines]
        if "".join(texts) != "".join(f"{number} " for number in range(chunks)):
            raise RuntimeError("httpx lost a piece")

    async def close(self) -> None:
        """Stop everything."""
        await self.http.aclose()
        await self.host.drain(10)
        await self.host.close()
        await self.client.close()
        await self.bus.close()


async def run_streams(streams: Streams, name: str, count: int) -> float:
    """So many streams through the executor, `IN_FLIGHT` at once; the seconds they took."""
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        async with free:
            await streams.ours(f"{name}-{number}", CHUNKS)

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    return perf_counter() - began


async def measure_memory(streams: Streams, count: int) -> tuple[int, int]:
    """Bytes that are held after a first part of the streams, and how many more after all the others."""
    tracemalloc.start()
    try:
        await run_streams(streams, "first", max(IN_FLIGHT, count // 4))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await run_streams(streams, "then", count)
        gc.collect()
        return before, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


async def measure_streams(directory: Path, *, blocks: int, size: int, load: int = STREAMS) -> dict[str, float]:
    """The figures: CPU time of this process for each piece beyond the first, with httpx alone and through an executor with
    its listener (the source costs both the same); pieces per second without pauses; loss and order.
    """
    source = Source()
    async with NatsServer(directory / "nats-stream", port=0) as server:
        streams = Streams(url=await source.open(), nats=server.url)
        await streams.open()
        spent: dict[str, list[float]] = {"floor": [], "ours": []}
        try:
            for block in range(-1, blocks):
                for name, found in spent.items():
                    one, every = [await _cpu(streams, name, f"{name}{block}", chunks, size) for chunks in (1, CHUNKS)]
                    if block >= 0:  # The first one warms up.
                        found.append((every - one) / (size * (CHUNKS - 1)) * 1e6)
            loaded = await run_streams(streams, "load", load)
        finally:
            await streams.close()
            await source.close()
    floor, ours = (percentile(found, 0.5) for found in spent.values())
    return {
        "floor.stream.chunk_cpu_us": floor,
        "stream.chunk_cpu_us": ours,
        "stream.chunk_overhead_us": ours - floor,
        "stream.chunks_per_second": load * CHUNKS / loaded,
        "stream.lost": float(streams.lost),
        "stream.disordered": float(streams.disordered),
    }


async def _cpu(streams: Streams, way: str, name: str, chunks: int, size: int) -> float:
    """Seconds of CPU for so many streams, `IN_FLIGHT` at once."""

    async def step(number: int) -> None:
        if way == "floor":
            await streams.plain(chunks, PAUSE_SECONDS)
        else:
            await streams.ours(f"{name}-{chunks}-{number}", chunks, PAUSE_SECONDS)

    began = process_time()
    await rate(step, range(size), IN_FLIGHT)
    return process_time() - began
