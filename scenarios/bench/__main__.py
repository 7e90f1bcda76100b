"""Run the benchmark: a table on the screen and `build/bench.json`."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import uvloop

from bus.server import NatsServer
from scenarios.bench.burst import JOBS, measure_bursts
from scenarios.bench.decide import measure_decisions
from scenarios.bench.figures import Step, alternate, percentile, rate, report
from scenarios.bench.floor import Floor, bodies_of
from scenarios.bench.ours import PROMPT, Ours
from scenarios.bench.reserve import measure_reservations
from scenarios.bench.start import measure_starts
from scenarios.bench.stream import measure_streams
from scenarios.simulation import events_per_second

IN_FLIGHT = 128


async def measure(directory: Path, *, blocks: int, size: int, load: int) -> dict[str, float]:
    """All figures of one run, microseconds unless the name says otherwise."""
    async with NatsServer(directory / "nats", port=0) as server:
        ours = Ours(server.url, directory)
        await ours.open()
        await ours.job(-1_000_000)
        floor = Floor(server.url, bodies_of(await ours.records("j-1000000"), PROMPT.encode()))
        await floor.open()
        steps: dict[str, Step] = {
            "floor.publish_ack": floor.publish_ack,
            "floor.publish_deliver": floor.publish_deliver,
            "floor.four_writes": floor.four_writes,
            "floor.chain": floor.chain,
            "job": ours.job,
            "job.first_byte": ours.first_byte,
            "job.http": ours.http_job,
        }
        seconds = await alternate(steps, blocks=blocks, size=size, warm_up=30)
        figures = {
            f"{name}.{label}_us": percentile(values, share) * 1e6
            for name, values in seconds.items()
            for label, share in (("p50", 0.5), ("p99", 0.99))
        }
        floors: list[float] = []
        rates: list[float] = []
        cpu: list[float] = []
        for turn in range(3):
            numbers = range(1_000_000 * (turn + 1), 1_000_000 * (turn + 1) + load)
            floors.append(await rate(floor.chain, numbers, IN_FLIGHT))
            began = time.process_time()
            rates.append(await rate(ours.job, numbers, IN_FLIGHT))
            cpu.append((time.process_time() - began) / load)
        figures["floor.chains_per_second"] = percentile(floors, 0.5)
        figures["jobs_per_second"] = percentile(rates, 0.5)
        figures["job.cpu_us"] = percentile(cpu, 0.5) * 1e6
        figures["ratio.job_to_chain"] = figures["job.p50_us"] / figures["floor.chain.p50_us"]
        figures["ratio.http_to_job"] = figures["job.http.p50_us"] / figures["job.p50_us"]
        figures["ratio.jobs_to_chains_per_second"] = figures["jobs_per_second"] / figures["floor.chains_per_second"]
        await floor.close()
        await ours.close()
    return figures


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--blocks", type=int, default=5, help="blocks in which floor and ours take turns")
    arguments.add_argument("--size", type=int, default=100, help="repetitions per block")
    arguments.add_argument("--load", type=int, default=2000, help="jobs per throughput run")
    arguments.add_argument(
        "--burst", type=int, default=JOBS, help="jobs at one instant, in bursts on several processes"
    )
    arguments.add_argument("--out", type=Path, default=Path("build/bench.json"))
    given = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="turnout-bench-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(measure(Path(directory), blocks=given.blocks, size=given.size, load=given.load))
        figures |= runner.run(
            measure_reservations(Path(directory), blocks=given.blocks, size=given.size, load=2 * given.load)
        )
        figures |= runner.run(measure_streams(Path(directory), blocks=given.blocks, size=given.size))
        figures |= runner.run(measure_bursts(Path(directory), jobs=given.burst))
    figures |= measure_decisions()
    figures |= measure_starts()
    figures["simulation.events_per_second"] = events_per_second()
    print(report(figures, given.out))


if __name__ == "__main__":
    main()
