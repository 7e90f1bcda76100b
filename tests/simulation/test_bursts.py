"""A burst is spread over equal backends, however many they are, whoever decides, and in whatever order things are delivered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.router.verify import check
from actors.settings import GroupingRules, JobSettings, Settings
from bus import codec, simloop
from bus.memory import Faults
from messages import Decided, Model, Offer
from scenarios.world import Spec, World, offer
from tests.simulation.directed import seconds

LASTS = 0.5
"""Seconds of a call."""
SETTLE = 2.0


class Burst:
    """A fleet of equal backends with one slot each, and what became of the jobs."""

    def __init__(
        self, backends: int, *, seed: int = 1, fronts: int = 1, rooms: Literal["together", "apart"] = "together",
        lasts: float = LASTS, faults: Faults | None = None,
    ) -> None:  # fmt: skip
        self.world = World(
            seed=seed, settings=Settings(rooms=rooms, jobs=JobSettings(deadline_seconds=3600.0)),
            write=seconds(lasts)(), faults=faults or Faults(),
        )  # fmt: skip
        self.names = [f"b{i}" for i in range(backends)]
        parts = ("front",) if rooms == "together" else ("analyzer", "router", "guardrail")
        self.deciding = {f"{part}-{i}": Spec((part,)) for part in parts for i in range(fronts)}
        self.executors = {f"x-{name}": Spec(("executor",), (offer(name, slots=1),)) for name in self.names}
        self.lasts, self._jobs = lasts, 0

    async def open(self, *, executors: bool = True) -> None:
        """Start it; without executors nobody serves the backends yet."""
        others = {"registry-1": Spec(("registry",)), "telemetry": Spec(("telemetry",))}
        await self.world.open(self.deciding | others | (self.executors if executors else {}))
        await asyncio.sleep(SETTLE)

    async def submit(self, jobs: int, **more: Any) -> list[str]:
        """So many at one instant."""
        ids = [f"j{self._jobs + i}" for i in range(jobs)]
        self._jobs += jobs
        await asyncio.gather(*(self.world.submit(job, **more) for job in ids))
        return ids

    async def done(self, ids: Sequence[str]) -> Counter[str]:
        """How many of them each backend did."""
        assert await self.world.until_done(ids, 100.0 + 2 * self.lasts * len(ids))
        ends = [end for job in ids if (end := self.world.done(job)) is not None]
        assert [end.ending for end in ends] == ["succeeded"] * len(ids)
        return Counter(dict.fromkeys(self.names, 0)) + Counter(end.backend for end in ends) if ids else Counter()

    async def close(self) -> None:
        """What is told late is told."""
        await asyncio.sleep(SETTLE)
        await self.world.close()

    def decisions(self) -> list[Decided]:
        """Every stored one."""
        stored = [record for record in self.world.log("EV") if codec.type_at(record.subject) is Decided]
        return [codec.decode(Decided, record.data, record.headers) for record in stored]


def uneven(counts: Mapping[str, int], names: Sequence[str], at_most: int) -> str:
    """How far the backends are apart, in words, if by more than `at_most` jobs and a tenth of the most."""
    found = [counts.get(name, 0) for name in names]
    most, least = max(found), min(found)
    return "" if most - least <= max(at_most, 0.1 * most) else f"{dict(zip(names, found, strict=True))}"


@settings(max_examples=30)
@given(
    backends=st.integers(1, 8),
    jobs=st.integers(1, 100),
    fronts=st.integers(1, 3),
    rooms=st.sampled_from(["together", "apart"]),
    strategy=st.sampled_from(["", "weighted_score", "expected_cost", "least_loaded", "latency_first"]),
    delay=st.sampled_from([0.0, 0.002, 0.01, 0.05]),
    rough=st.sampled_from([0.0, 0.3]),
    measured=st.lists(st.integers(0, 4), max_size=2),
    seed=st.integers(0, 1000),
)
@example(backends=2, jobs=48, fronts=1, rooms="together", strategy="", delay=0.01, rough=0.0, measured=[], seed=1)
@example(backends=2, jobs=48, fronts=1, rooms="together", strategy="", delay=0.01, rough=0.0, measured=[3, 0], seed=1)
@example(
    backends=8,
    jobs=200,
    fronts=2,
    rooms="together",
    strategy="expected_cost",
    delay=0.01,
    rough=0.3,
    measured=[1],
    seed=1,
)
def test_equal_backends_get_equal_parts_of_a_burst(
    backends: int, jobs: int, fronts: int, rooms: Any, strategy: str, delay: float, rough: float, measured: list[int],
    seed: int,
) -> None:  # fmt: skip
    """Each process that decides may be one job off, since it knows of its own decisions at once, and of others' by the load."""

    async def main() -> None:
        faults = Faults(delay_seconds=(0.0, delay), reordered=rough, delivered_twice=rough)
        burst = Burst(backends, seed=seed, fronts=fronts, rooms=rooms, faults=faults)
        await burst.open()
        for name, runs in zip(burst.names, measured, strict=False):
            await burst.done(await burst.submit(runs, preferred_backend=name))
        await asyncio.sleep(SETTLE)
        counts = await burst.done(await burst.submit(jobs, strategy=strategy))
        await burst.close()
        assert not uneven(counts, burst.names, fronts)
        assert {check(decided) for decided in burst.decisions()} == {""}

    simloop.run(main(), seed=seed)


@pytest.mark.parametrize("gap", [0.0, 0.4, 1.5])
@pytest.mark.parametrize("delay", [0.002, 0.05])
def test_a_storm_of_wakes_is_spread_too(gap: float, delay: float) -> None:
    """Jobs wait for backends that are away; these come back one soon after the other, and the first may begin so much earlier."""

    async def main() -> None:
        burst = Burst(2, faults=Faults(delay_seconds=(0.0, delay)), lasts=2.0)
        await burst.open()
        for name in burst.executors:
            await burst.world.stop(name)
        await asyncio.sleep(SETTLE)
        ids = await burst.submit(48)
        await asyncio.sleep(5.0)
        for name, spec in burst.executors.items():
            await burst.world.start(name, spec)
            await asyncio.sleep(gap)
        counts = await burst.done(ids)
        await burst.close()
        assert not uneven(counts, burst.names, 3)

    simloop.run(main(), seed=1)


@pytest.mark.parametrize("several", [False, True], ids=["one model", "held beyond the slots"])
def test_two_executors_of_a_backend_share_its_slots(*, several: bool) -> None:
    models = ("m", "n") if several else ("m",)

    async def main() -> None:
        world = World(
            seed=1, settings=Settings(grouping=GroupingRules(ahead=4)), write=seconds(LASTS)(),
            faults=Faults(delay_seconds=(0.0, 0.01)),
        )  # fmt: skip
        shared = Spec(("executor",), (offer("b", slots=3, models=models),))
        await world.open({"front": Spec(("front",)), "registry": Spec(("registry",)), "x1": shared, "x2": shared})
        await asyncio.sleep(SETTLE)
        ids = [f"j{i}" for i in range(30)]
        await asyncio.gather(*(world.submit(job, model=models[i % len(models)]) for i, job in enumerate(ids)))
        assert await world.until_done(ids)
        await world.close()
        calls = world.stage.calls
        assert {call.instance for call in calls} == {"x1", "x2"}
        at_once = [sum(one.began_at <= call.began_at < (one.ended_at or 0.0) for one in calls) for call in calls]
        assert max(at_once) == 3

    simloop.run(main(), seed=1)


def test_a_burst_of_code_overflows_when_its_model_is_saturated() -> None:
    """Seed 004: simple code goes to the small model until that is saturated, and then to the overflow."""
    small, cloud = "qwen2.5-coder:7b", "qwen3-coder:480b-cloud"

    def served(backend: str, model: str, slots: int) -> Offer:
        made = Model(name=model, capabilities=("text", "code"), tokens_per_second=100.0)
        return Offer(backend=backend, protocol="inprocess", local=True, slots=slots, models=(made,))

    async def main() -> None:
        world = World(seed=1, write=seconds(LASTS)(), faults=Faults(delay_seconds=(0.0, 0.01)))
        offers = (served("small", small, 4), served("cloud", cloud, 8))
        await world.open({"front": Spec(("front",)), "registry": Spec(("registry",)), "x": Spec(("executor",), offers)})
        await asyncio.sleep(SETTLE)
        ids = [f"j{i}" for i in range(30)]
        prompt = "Fix the typo in this function: def add(a, b): return a - b"
        await asyncio.gather(*(world.submit(job, prompt=prompt, task="code") for job in ids))
        assert await world.until_done(ids)
        await world.close()
        counts = Counter(end.backend for job in ids if (end := world.done(job)) is not None)
        assert counts["small"] >= 4
        assert counts["cloud"] >= 7, "until that is saturated as well: 80% of its slots"

    simloop.run(main(), seed=1)
