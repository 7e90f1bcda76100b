"""Many streams through one executor: nothing is lost, nothing comes out of turn, nothing is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bus.server import NatsServer
from scenarios.bench.stream import CHUNKS, STREAMS, Source, Streams, measure_memory, measure_streams, run_streams

TRACED = 400
"""Streams whose memory is traced, which makes them slow."""


def test_a_thousand_streams_lose_nothing_keep_their_order_and_leave_no_memory_behind(tmp_path: Path) -> None:
    async def main() -> tuple[Streams, int]:
        source = Source()
        async with NatsServer(tmp_path, port=0) as server:
            streams = Streams(url=await source.open(), nats=server.url)
            await streams.open()
            try:
                await run_streams(streams, "all", STREAMS)
                _, more = await measure_memory(streams, TRACED)
            finally:
                await streams.close()
                await source.close()
        return streams, more

    streams, more = asyncio.run(main())
    assert (streams.lost, streams.disordered) == (0, 0)
    assert more < TRACED * CHUNKS * 64  # Nothing is kept for each piece.


def test_a_short_run_yields_every_figure(tmp_path: Path) -> None:
    figures = asyncio.run(measure_streams(tmp_path, blocks=1, size=10, load=20))
    assert set(figures) == {
        "floor.stream.chunk_cpu_us", "stream.chunk_cpu_us", "stream.chunk_overhead_us", "stream.chunks_per_second",
        "stream.lost", "stream.disordered",
    }  # fmt: skip
    assert (figures["stream.lost"], figures["stream.disordered"]) == (0, 0)
    assert figures["stream.chunks_per_second"] > 0
