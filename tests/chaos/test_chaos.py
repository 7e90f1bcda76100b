"""Nothing is lost and nothing ends twice, whatever is killed: real processes on a real server."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from actors.settings import BreakerRules, Budget
from actors.simbackend import Fault
from messages import JobSubmit
from tests.chaos.harness import (
    TENANTS,
    Blow,
    Client,
    Field,
    Report,
    environment_seed,
    free_port,
    plan,
    until,
)
from tests.chaos.process import Place, World
from tests.fakes.comfyui import FakeComfyui

Rooms = Literal["together", "apart"]
BUDGETS = (
    Budget(scope="global", unit="microdollars", window="total", limit=10**12),
    Budget(scope="tenant", unit="tokens", window="day", limit=10**12),
    Budget(scope="backend", unit="requests", window="total", limit=10**12),
)
FRONTS: dict[Rooms, dict[str, str]] = {
    "together": {"front-1": "front", "front-2": "front"},
    "apart": {"analyzer-1": "analyzer", "router-1": "router", "router-2": "router", "guardrail-1": "guardrail"},
}


def job_name(rng: random.Random, number: int) -> str:
    """Ids as clients choose them, some with characters that mean something to the bus."""
    return f"{'j.ö * >' if rng.random() < 0.1 else 'job'}-{number}"


async def load(client: Client, rng: random.Random, jobs: int, seconds: float, *, cancel: float = 0.0) -> None:
    """Submit jobs evenly; some twice, and some are cancelled soon after."""
    began = time.monotonic()
    beside: list[asyncio.Task[None]] = []
    for number in range(jobs):
        await asyncio.sleep(max(0.0, began + seconds * number / jobs - time.monotonic()))
        tenant, job = rng.choice(TENANTS), job_name(rng, number)
        wish = rng.choice(client.backends) if rng.random() < 0.8 else ""
        submit = JobSubmit(
            id=job, prompt=f"say something about {number}", max_output_tokens=200, preferred_backend=wish
        )  # fmt: skip
        beside.append(asyncio.create_task(client.submit(tenant, submit)))
        if rng.random() < 0.03:
            beside.append(asyncio.create_task(client.submit(tenant, submit, again="/again")))
        if rng.random() < cancel:
            beside.append(asyncio.create_task(client.cancel(tenant, job)))
    await asyncio.gather(*beside)


async def chaos(
    field: Field, blows: list[Blow], *, jobs: int, seconds: float, patience: float, cancel: float
) -> Report:
    async with field.open() as client:
        print(*blows, sep="\n")
        rng = random.Random(f"{field.world.seed}/load")
        await asyncio.gather(load(client, rng, jobs, seconds, cancel=cancel), field.strike(blows))
        field.world.calm.touch()
        await client.wait(patience)
        return await field.settle(client, 45.0)


def test_nothing_is_lost_in_a_short_storm(tmp_path: Path) -> None:
    seed = environment_seed(int.from_bytes(os.urandom(3)))
    rooms: Rooms = "apart" if seed % 2 else "together"
    print(f"SEED={seed}")
    world = World(
        folder=str(tmp_path), seed=seed, rooms=rooms, kill_probability=0.001, budgets=BUDGETS, ack_wait_seconds=5.0,
        places=(Place(name="one"), Place(name="two", port=free_port(), faults={"500": 0.05, "cut": 0.05})),
    )  # fmt: skip
    processes = {
        **FRONTS[rooms], "executor-1": "executor", "executor-2": "executor", "registry-1": "registry",
        "history-1": "telemetry,explainer", "two": "backend",
    }  # fmt: skip
    field = Field(tmp_path, world, processes)
    blows = plan(
        seed, 5.0, servers=2, kills=5, actors=[name for name, parts in processes.items() if parts != "backend"]
    )
    report = asyncio.run(chaos(field, blows, jobs=150, seconds=6.0, patience=60.0, cancel=0.02))
    print(report)
    assert not report.wrong, f"SEED={seed}\n{report}"
    assert report.holds >= report.jobs


def test_a_job_whose_executor_is_killed_runs_elsewhere(tmp_path: Path) -> None:
    world = World(
        folder=str(tmp_path), seed=1, budgets=BUDGETS, ack_wait_seconds=5.0,
        places=(Place(name="one", seconds=3.0), Place(name="two", seconds=0.1)),
    )  # fmt: skip
    processes = {"front-1": "front", "executor-1": "executor", "executor-2": "executor", "registry-1": "registry",
                 "history-1": "telemetry,explainer"}  # fmt: skip
    field = Field(tmp_path, world, processes)

    async def run() -> Report:
        async with field.open() as client:
            await client.submit("acme", JobSubmit(id="j", prompt="hello", preferred_backend="one"))
            await until(lambda: ("acme", "j") in client.running)
            await field.strike([Blow(at=0.5, what="kill", whom=client.running["acme", "j"])])
            await client.wait(60.0)
            done = client.ends["acme", "j"]
            assert done.ending == "succeeded"
            assert [attempt.outcome for attempt in done.attempts] == ["executor_lost", "ok"]
            return await field.settle(client, 30.0)

    report = asyncio.run(run())
    print(report)
    assert not report.wrong, str(report)
    assert len(report.failover) == 1


GRAPH: dict[str, Any] = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["4", 0], "seed": 1, "steps": 4, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal",
            "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0], "denoise": 1.0,
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "mine"}},
}  # fmt: skip


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_prompt_whose_node_is_killed_is_taken_up_or_stopped(tmp_path: Path, *, cancelled: bool) -> None:
    """One ComfyUI, one node that serves it, SIGKILL in the middle of a prompt."""
    time_on_gpu = Budget(scope="global", unit="gpu_milliseconds", window="total", limit=10**12)

    async def run() -> tuple[Report, FakeComfyui]:
        async with FakeComfyui() as fake:
            fake.middle.clear()
            world = World(
                folder=str(tmp_path), seed=1, budgets=(time_on_gpu,), ack_wait_seconds=5.0,
                places=(Place(name="comfy", comfyui=fake.url),),
            )  # fmt: skip
            processes = {"front-1": "front", "executor-1": "executor", "registry-1": "registry",
                         "history-1": "telemetry,explainer"}  # fmt: skip
            field = Field(tmp_path, world, processes)
            async with field.open() as client:
                await client.submit("acme", JobSubmit(id="j", prompt="a fox", graph=GRAPH))
                await until(lambda: fake.sampled > 0)
                await field.strike([Blow(at=0.0, what="kill", whom="executor-1")])
                if cancelled:
                    await client.cancel("acme", "j")
                    await fake.cancelled.wait()
                else:
                    await until(lambda: len(fake.flags) == 2, 60.0)
                fake.middle.set()
                await client.wait(60.0)
                done = client.ends["acme", "j"]
                report = await field.settle(client, 30.0)
                total = await client.bus.last("LEDGER", "ledger.global.>")
                assert total is not None
                if cancelled:
                    assert (done.ending, fake.interrupts) == ("cancelled", [fake.asked[0].prompt_id])
                else:
                    assert [attempt.outcome for attempt in done.attempts] == ["executor_lost", "ok"]
                    assert done.result is not None
                    assert [one.ref.media_type for one in done.result.artifacts] == ["image/png"]
                    assert msgspec.json.decode(total.data)["val"] == "3000", "by the fake's own clock, and once"
            return report, fake

    report, fake = asyncio.run(run())
    print(report)
    assert not report.wrong, str(report)
    assert (fake.calls, fake.sampled) == (1, 1)


@pytest.mark.soak
@pytest.mark.parametrize("rooms", ["together", "apart"])
def test_nothing_is_lost_in_a_long_storm(tmp_path: Path, rooms: Rooms) -> None:
    seed = environment_seed(int.from_bytes(os.urandom(3)))
    jobs, seconds = int(os.environ.get("JOBS", "1200")), float(os.environ.get("SECONDS", "100"))
    faults: dict[Fault, float] = {
        "500": 0.03,
        "429": 0.01,
        "hang": 0.01,
        "slow": 0.02,
        "cut": 0.02,
        "malformed": 0.02,
        "empty": 0.01,
    }
    world = World(
        folder=str(tmp_path), seed=seed, rooms=rooms, kill_probability=0.0005, budgets=BUDGETS,
        places=(
            Place(name="fast", seconds=0.2),
            Place(name="slow", seconds=1.5, served_by=("executor-1", "executor-2")),
            Place(name="lone", seconds=1.0, served_by=("executor-3",)),
            Place(name="http", port=free_port(), seconds=0.5),
            Place(name="poor", port=free_port(), seconds=0.5, faults=faults),
        ),
    )  # fmt: skip
    processes = {
        **FRONTS[rooms], "executor-1": "executor", "executor-2": "executor", "executor-3": "executor",
        "registry-1": "registry", "history-1": "telemetry,explainer", "http": "backend", "poor": "backend",
    }  # fmt: skip
    blows = plan(
        seed, seconds, servers=10, kills=20, stops=4, freezes=[("executor-3", 10.0)], backends=["http", "poor"],
        actors=[name for name, parts in processes.items() if parts != "backend"],
    )  # fmt: skip
    print(f"\nSEED={seed}")
    field = Field(tmp_path, world, processes)
    report = asyncio.run(chaos(field, blows, jobs=jobs, seconds=seconds, patience=240.0, cancel=0.02))
    print(report)
    assert not report.wrong, f"SEED={seed}\n{report}"


@pytest.mark.soak
def test_failover_takes_no_more_than_half_a_minute(tmp_path: Path) -> None:
    """One executor at a time is killed with its hands full; nothing else goes wrong."""
    world = World(
        folder=str(tmp_path), seed=1, budgets=BUDGETS, breaker=BreakerRules(),
        places=(Place(name="one", seconds=1.2), Place(name="two", seconds=1.2)),
    )  # fmt: skip
    processes = {"front-1": "front", "front-2": "front", "executor-1": "executor", "executor-2": "executor",
                 "registry-1": "registry", "history-1": "telemetry,explainer"}  # fmt: skip
    field = Field(tmp_path, world, processes)

    async def run() -> Report:
        async with field.open() as client:
            for number in range(10):
                jobs = [f"j-{number}-{k}" for k in range(20)]
                for job in jobs:
                    await client.submit("acme", JobSubmit(id=job, prompt=f"hello {job}"))
                await until(lambda these=jobs: all(("acme", job) in client.running for job in these))
                await field.strike([Blow(at=0.1 * number, what="kill", whom=f"executor-{number % 2 + 1}")])
                await client.wait(60.0)
            return await field.settle(client, 45.0)

    report = asyncio.run(run())
    print(f"\n{report}")
    assert not report.wrong, str(report)
    assert max(one.seconds for one in report.failover) < 30
