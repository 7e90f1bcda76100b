"""Whose turn it is: grouped by model, with a bound on waiting."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.executor.lookahead import Held, Line, Place, Seat
from actors.settings import GroupingRules
from tests.messages.samples import work


class Memory:
    """One place with room for one model."""

    def __init__(self, *, slots: int = 1, evicts: bool = True, loaded: str = "") -> None:
        self.count, self.evicting, self.loaded = slots, evicts, loaded
        self.busy = False
        self.forbidden: set[str] = set()

    def place(self, backend: str) -> str:
        return "gpu"

    def slots(self, backend: str) -> int:
        return self.count

    def warm(self, held: Held, place: Place) -> bool:
        return held.model == self.loaded

    def evicts(self, backend: str) -> bool:
        return self.evicting

    def may_switch(self, held: Held, now: float) -> bool:
        return held.model not in self.forbidden

    def switching(self, place: str) -> bool:
        return self.busy


class Bench:
    """A line under a clock of the test, and what began in which order."""

    def __init__(self, memory: Memory, **rules: Any) -> None:
        self.now, self.memory = 0.0, memory
        self.line = Line(rules=GroupingRules(**rules), clock=lambda: self.now)
        self.line.conditions = memory
        self.began: list[str] = []
        self.seats: dict[str, Seat | None] = {}
        self.works: dict[str, Any] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *jobs: str) -> None:
        """Jobs named after their model: `a1`, `b1`."""
        for job in jobs:
            self.works[job] = work(job=job, model=job[0])
            self.tasks[job] = asyncio.create_task(self._wait(job))
            await settle()

    async def _wait(self, job: str) -> None:
        self.seats[job] = await self.line.turn(self.works[job], job[0])
        if self.seats[job] is not None:
            self.began.append(job)
            if self.memory.loaded != job[0]:
                self.memory.loaded = job[0]
                self.line.settled(self.works[job])

    async def end(self, job: str) -> None:
        seat = self.seats[job]
        assert seat is not None
        seat.free()
        await settle()


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def test_jobs_of_the_model_in_memory_go_first() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"))
        await bench.come("a1", "b1", "a2", "b2", "a3")
        for job in ("a1", "a2", "a3", "b1", "b2"):
            await bench.end(job)
        assert bench.began == ["a1", "a2", "a3", "b1", "b2"]
        assert bench.line.waiting == 0

    asyncio.run(story())


def test_nobody_is_overtaken_by_more_than_the_rules_allow() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"), overtaken_jobs=2)
        await bench.come("a1", "b1", "a2", "a3", "a4")
        for job in ("a1", "a2", "a3", "b1", "a4"):
            await bench.end(job)
        assert bench.began == ["a1", "a2", "a3", "b1", "a4"]

    asyncio.run(story())


def test_nobody_is_overtaken_for_longer_than_the_rules_allow() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"), overtaken_seconds=10.0)
        await bench.come("a1", "b1", "a2", "a3")
        await bench.end("a1")
        bench.now = 9.0
        await bench.end("a2")
        assert bench.began == ["a1", "a2", "a3"]
        await bench.come("a4")
        bench.now = 10.0
        await bench.end("a3")
        assert bench.began == ["a1", "a2", "a3", "b1"]

    asyncio.run(story())


def test_without_overtaking_it_is_first_come_first_served() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"), overtaken_jobs=0)
        await bench.come("a1", "b1", "a2")
        for job in ("a1", "b1", "a2"):
            await bench.end(job)
        assert bench.began == ["a1", "b1", "a2"]

    asyncio.run(story())


def test_what_runs_is_never_evicted_and_an_overdue_job_lets_nobody_pass() -> None:
    async def story() -> None:
        bench = Bench(Memory(slots=2, loaded="a"), overtaken_jobs=1)
        await bench.come("a1", "b1", "a2", "a3")
        assert bench.began == ["a1", "a2"]
        await bench.end("a2")
        assert bench.began == ["a1", "a2"], "b1 waits for a1, and a3 for b1"
        await bench.end("a1")
        assert bench.began == ["a1", "a2", "b1"]
        await bench.end("b1")
        assert bench.began == ["a1", "a2", "b1", "a3"]

    asyncio.run(story())


def test_a_server_that_loads_by_itself_gets_other_models_beside() -> None:
    async def story() -> None:
        bench = Bench(Memory(slots=2, evicts=False, loaded="a"))
        await bench.come("a1", "b1")
        assert bench.began == ["a1", "b1"]

    asyncio.run(story())


def test_a_switch_that_is_not_allowed_yet_holds_nobody_up() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"), overtaken_jobs=1)
        bench.memory.forbidden = {"b"}
        await bench.come("a1", "b1", "a2", "a3")
        for job in ("a1", "a2", "a3"):
            await bench.end(job)
        assert bench.began == ["a1", "a2", "a3"]
        bench.memory.forbidden = set()
        bench.line.look()
        await settle()
        assert bench.began[-1] == "b1"

    asyncio.run(story())


def test_nobody_begins_while_something_is_switched() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"))
        bench.memory.busy = True
        await bench.come("a1")
        assert bench.began == []
        bench.memory.busy = False
        bench.line.look()
        await settle()
        assert bench.began == ["a1"]

    asyncio.run(story())


def test_what_cannot_run_here_any_more_is_given_back() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"))
        await bench.come("a1", "a2", "a3")
        bench.line.fit = lambda one: one.job != "a2"
        bench.line.look()
        await settle()
        assert bench.seats == {"a1": bench.seats["a1"], "a2": None}
        await bench.end("a1")
        assert bench.began == ["a1", "a3"]

    asyncio.run(story())


def test_who_leaves_gives_back_all_that_is_held_at_once() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"))
        await bench.come("a1", "a2", "b1")
        bench.line.fit = lambda _: False
        bench.line.look()
        await settle()
        assert [bench.seats[job] for job in ("a2", "b1")] == [None, None]
        assert bench.line.waiting == 0
        await bench.end("a1")
        assert bench.began == ["a1"]

    asyncio.run(story())


def test_a_job_that_has_ended_goes_on_without_a_slot() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"))
        await bench.come("a1", "a2", "a3")
        bench.line.job_ended("acme", "a2")
        await settle()
        assert bench.began == ["a1", "a2"]
        await bench.end("a2")
        assert bench.began == ["a1", "a2"], "its end frees no slot of others"
        await bench.end("a1")
        assert bench.began == ["a1", "a2", "a3"]

    asyncio.run(story())


def test_whoever_is_cancelled_while_waiting_or_at_its_turn_leaves_no_trace() -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"))
        await bench.come("a1", "a2", "a3")
        bench.tasks["a2"].cancel()
        await settle()
        assert bench.line.waiting == 1
        seat = bench.seats["a1"]
        assert seat is not None
        seat.free()
        bench.tasks["a3"].cancel()  # It has its turn, and does not know yet.
        await settle()
        await bench.come("a4")
        assert bench.began == ["a1", "a4"]
        seat.free()
        assert bench.began == ["a1", "a4"], "a seat is given up once"

    asyncio.run(story())


STEPS = st.lists(st.one_of(st.sampled_from("abc"), st.integers(0, 9), st.just("wait")), max_size=60)


@given(STEPS, st.integers(1, 3), st.booleans(), st.integers(0, 4), st.sampled_from([0.0, 3.0, 1e9]))
def test_the_promises_hold_whatever_comes(
    steps: list[Any], slots: int, evicts: bool, most: int, longest: float
) -> None:
    async def story() -> None:
        bench = Bench(Memory(slots=slots, evicts=evicts, loaded="a"), overtaken_jobs=most, overtaken_seconds=longest)
        order: list[str] = []
        ended: set[str] = set()
        checked = 0

        def check() -> None:
            nonlocal checked
            running = [job for job in bench.began if job not in ended]
            assert len(running) <= slots
            if evicts:
                assert len({job[0] for job in running}) <= 1, "one model at a time"
            for place, job in enumerate(bench.began[checked:], start=checked):
                before = bench.began[:place]
                later = [one for one in before if order.index(one) > order.index(job)]
                assert len(later) <= most, (job, bench.began)
            checked = len(bench.began)

        for step in steps:
            if isinstance(step, str) and step != "wait":
                order.append(f"{step}{len(order)}")
                await bench.come(order[-1])
            elif step == "wait":
                bench.now += 1.0
                bench.line.look()
                await settle()
            else:
                running = [job for job in bench.began if job not in ended]
                if running:
                    ended.add(running[step % len(running)])
                    await bench.end(running[step % len(running)])
            check()
        for _ in range(len(order)):
            for job in [job for job in bench.began if job not in ended]:
                ended.add(job)
                await bench.end(job)
                check()
        assert set(bench.began) == set(order) == ended, "everybody has had a turn"

    asyncio.run(story())


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=30))
def test_there_are_never_more_switches_than_first_come_first_served_makes(models: list[str]) -> None:
    async def story() -> None:
        bench = Bench(Memory(loaded="a"))
        await bench.come(*[f"{model}{number}" for number, model in enumerate(models)])
        for _ in models:
            await bench.end(bench.began[-1])
        ran = [job[0] for job in bench.began]

        def switches(names: list[str]) -> int:
            return sum(one != other for one, other in zip(["a", *names], names, strict=False))

        assert switches(ran) <= switches(models)

    asyncio.run(story())
