from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bus import simloop

ROOT = Path(__file__).resolve().parents[2]

STORY = """
import asyncio, sys
from bus import simloop
from bus.memory import ROUGH, MemoryServer
from bus.topology import EV, Queue, Topology

async def main():
    server = MemoryServer(seed=3, faults=ROUGH)
    buses = [await server.connect(f"b{n}") for n in range(3)]
    queue = Queue(stream="EV", name="q", filters=("ev.>",), ack_wait_seconds=1.0)
    await buses[0].set_up(Topology(streams=(EV,), queues=(queue,)))

    async def work(delivery):
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(asyncio.sleep(n / 100))
        if delivery.subject.startswith("ev.in."):
            await buses[1].publish("ev.out." + delivery.data.decode(), b"", msg_id="o" + str(delivery.seq))
        await delivery.ack()

    for bus in buses:
        await bus.consume(queue, work, slots=4)
    await asyncio.gather(
        *(buses[n % 3].publish(f"ev.in.{n}", str(n).encode(), msg_id=f"i{n}", first_writer=True) for n in range(60)),
        server.restart(0.5),
    )
    pending = {asyncio.create_task(asyncio.sleep(n % 7)) for n in range(40)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            server.note("slept", task.get_name())
    await asyncio.sleep(30)
    return server.digest(), server.events["stored"], asyncio.get_running_loop().time()

print(*simloop.run(main(), seed=int(sys.argv[1]) if sys.argv[1] != "none" else None))
"""


def tell(seed: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    done = subprocess.run(
        [sys.executable, "-c", STORY, seed], env=env, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_same_seed_same_digest_in_fresh_processes():
    first, second, other, plain = tell("1"), tell("1"), tell("2"), tell("none")
    assert first == second
    assert first.split()[1] == "120"
    assert len({line.split()[0] for line in (first, other, plain)}) == 3


def test_time_jumps():
    async def main() -> float:
        await asyncio.sleep(3600)
        await asyncio.gather(*(asyncio.sleep(n) for n in range(100)))
        return asyncio.get_running_loop().time()

    started = time.perf_counter()
    assert simloop.run(main()) == 3699.0
    assert time.perf_counter() - started < 5


def test_time_does_not_drift():
    async def main() -> float:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.call_at(0.3, arrived.set)
        await asyncio.sleep(0.1)
        await arrived.wait()
        return loop.time()

    assert simloop.run(main()) == 0.3


def test_timers_of_one_moment_go_first_come_first_served():
    async def main() -> list[int]:
        order: list[int] = []
        for n in range(50):
            asyncio.get_running_loop().call_at(1.0, order.append, n)
        await asyncio.sleep(2)
        return order

    assert simloop.run(main()) == list(range(50))
    assert simloop.run(main(), seed=1) == simloop.run(main(), seed=1) != list(range(50))


def test_a_seed_shuffles():
    async def main() -> tuple[int, ...]:
        order: list[int] = []

        async def mark(n: int) -> None:
            await asyncio.sleep(0)
            order.append(n)

        await asyncio.gather(*(mark(n) for n in range(5)))
        return tuple(order)

    assert simloop.run(main()) == (0, 1, 2, 3, 4)
    assert len({simloop.run(main(), seed) for seed in range(20)}) > 10


def test_deadlock_is_found():
    async def main() -> None:
        await asyncio.sleep(1.5)
        waiting = asyncio.create_task(asyncio.Event().wait(), name="the-one")
        await waiting

    with pytest.raises(simloop.Deadlock, match=r"1\.500000 s.*the-one \(Event\.wait"):
        simloop.run(main())


def test_being_busy_for_ever_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simloop, "_STILL", 1000)

    async def main() -> None:
        await asyncio.sleep(1)
        while True:  # noqa: ASYNC110 (busy on purpose)
            await asyncio.sleep(0)

    with pytest.raises(simloop.Livelock, match=r"1\.000000 s"):
        simloop.run(main())


def test_timeouts_and_groups():
    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 1)

        async def fail() -> None:
            await asyncio.sleep(1)
            raise ValueError("x")

        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
                tasks.create_task(asyncio.sleep(1000))

        with pytest.raises(ExceptionGroup):
            await group()
        assert asyncio.get_running_loop().time() == 3.0
        return "done"

    assert simloop.run(main()) == "done"


def test_many_cancelled_timers_are_dropped():
    async def main() -> int:
        for _ in range(5000):
            async with asyncio.timeout(1000):
                await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, simloop.SimLoop)
        return len(loop._timers)

    assert simloop.run(main()) < 500


def test_tasks_end_in_order_of_creation():
    ended: list[int] = []

    async def wait(n: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(n)

    async def main() -> None:
        for n in range(20):
            asyncio.get_running_loop().create_task(wait(n))
        await asyncio.sleep(1)

    simloop.run(main())
    assert ended == list(range(20))


@pytest.mark.parametrize("nap", [0.0, 1.0])
def test_a_task_that_never_ends_does_not_hang_the_run(nap: float):
    asked = 0

    async def stubborn() -> None:
        nonlocal asked
        while True:
            try:
                await asyncio.sleep(nap)
            except asyncio.CancelledError:
                asked += 1

    async def main() -> None:
        asyncio.get_running_loop().create_task(stubborn(), name="mule")
        await asyncio.sleep(nap)

    with pytest.raises(simloop.StubbornTasks, match="mule"):
        simloop.run(main())
    assert asked > 1


def test_the_error_of_main_comes_out():
    async def main() -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(10**9))
        await asyncio.sleep(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        simloop.run(main())


def test_async_generators_are_closed():
    closed: list[str] = []

    async def numbers(name: str):
        try:
            for n in range(10):
                yield n
                await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            closed.append(name)

    kept = numbers("kept")

    async def main() -> None:
        assert await anext(kept) == 0
        async for _ in numbers("dropped"):
            break
        await asyncio.sleep(5)
        assert closed == ["dropped"]

    simloop.run(main())
    assert closed == ["dropped", "kept"]


def test_no_threads_no_network():
    async def main() -> None:
        with pytest.raises(RuntimeError, match="thread"):
            await asyncio.to_thread(time.time)
        with pytest.raises(NotImplementedError):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(RuntimeError, match="another thread"):
            asyncio.get_running_loop().call_soon_threadsafe(print)

    simloop.run(main())


def test_gc_is_off_during_a_run():
    async def main() -> bool:
        return gc.isenabled()

    assert gc.isenabled()
    assert not simloop.run(main())
    assert gc.isenabled()


def test_under_anyio():
    anyio = pytest.importorskip("anyio")

    async def main() -> list[int]:
        ended: list[int] = []

        async def wait(n: int) -> None:
            with anyio.CancelScope():
                try:
                    await anyio.sleep(100)
                finally:
                    ended.append(n)

        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(wait, n)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        with anyio.move_on_after(5) as scope:
            await anyio.sleep(10)
        assert scope.cancelled_caught
        return ended

    assert len({tuple(simloop.run(main(), seed=4)) for _ in range(5)}) == 1
