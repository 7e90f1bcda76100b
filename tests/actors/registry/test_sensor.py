from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.registry.aside import NoAnswer
from actors.registry.gpu import Look
from actors.registry.sensor import GONE, PAUSE_SECONDS, REPEAT_SECONDS, THE_HOST, GpuSensor, news
from bus import codec
from messages import Gpu, GpuProcess
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0


def gpu(index: Any = 0, **changes: Any) -> Gpu:
    given: dict[str, Any] = {
        "name": "L4", "uuid": f"GPU-{index}", "memory_total_mb": 24_000, "memory_free_mb": 20_000,
        "memory_used_mb": 4_000, "load": 0.4, "temperature_c": 55.0, "processes": (GpuProcess(pid=7, memory_mb=900),),
        "driver": "580", "at": T0, **changes,
    }  # fmt: skip
    return Gpu(host="box", index=index, **given)


class Card:
    """Reads what it is told to; an exception is raised."""

    def __init__(self, *gpus: Gpu, problem: str = "") -> None:
        self.reads: Look | NoAnswer = Look(gpus, problem)
        self.looks = 0

    def set(self, *gpus: Gpu, problem: str = "") -> None:
        self.reads = Look(gpus, problem)

    async def __call__(self) -> Look:
        self.looks += 1
        if isinstance(self.reads, NoAnswer):
            raise self.reads
        return self.reads


class Heard:
    """A sensor's room on the bus, and everything it said."""

    def __init__(self, rig: Rig, card: Card) -> None:
        self.rig, self.card = rig, card
        self.said = 0

    async def open(self) -> None:
        async def boundary(point: str, name: str) -> None:
            if point == "before publish":
                self.said += 1

        factory = lambda: GpuSensor(host="box", look=self.card)  # noqa: E731
        await self.rig.host(room_of(factory), boundary=boundary, instance=f"sensor{len(self.rig.hosts)}")
        await asyncio.sleep(0.5)

    def facts(self) -> dict[int, Gpu]:
        return {fact.index: fact for fact in self.rig.stored(Gpu)}


async def sensor(rig: Rig, card: Card) -> Heard:
    heard = Heard(rig, card)
    await heard.open()
    return heard


def test_a_gpu_is_told_at_once_and_then_on_change_or_every_30_s() -> None:
    async def story(rig: Rig) -> None:
        card = Card(gpu())
        heard = await sensor(rig, card)
        fact = heard.facts()[0]
        assert msgspec.structs.replace(fact, at=T0) == gpu()
        assert fact.at >= T0
        assert heard.said == 1
        await rig.settle(20.0)
        assert (heard.said, card.looks) == (1, 11)
        card.set(gpu(memory_free_mb=12_000, memory_used_mb=12_000))
        await rig.settle(2.5)
        assert heard.said == 2
        assert heard.facts()[0].memory_free_mb == 12_000
        await rig.settle(26.0)
        assert heard.said == 2
        await rig.settle(6.0)
        assert heard.said == 3

    play(story)


def test_no_gpu_is_told_once_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story(rig: Rig) -> None:
        card = Card(problem="there is no NVIDIA driver here")
        heard = await sensor(rig, card)
        await rig.settle(120.0)
        assert heard.said == 1
        assert card.looks > 50
        (fact,) = heard.facts().values()
        assert fact == Gpu(host="box", index=-1, problem="there is no NVIDIA driver here", at=fact.at)
        again = await sensor(rig, card)
        await rig.settle(10.0)
        assert again.said == 0, "a process that starts again finds it told"
        card.set(gpu())
        await rig.settle(3.0)
        assert (heard.facts()[-1].problem, heard.facts()[0].problem) == ("", "")

    with caplog.at_level(logging.INFO, "turnout.sensor"):
        play(story)
    assert caplog.records[0].getMessage() == "GPU: there is no NVIDIA driver here"
    assert sum("no NVIDIA driver" in record.getMessage() for record in caplog.records) == 1


def test_a_driver_that_hangs_makes_what_is_known_unknown() -> None:
    async def story(rig: Rig) -> None:
        card = Card(gpu(0), gpu(1))
        heard = await sensor(rig, card)
        card.reads = NoAnswer("NVML has not answered within 5 s")
        await rig.settle(20.0)
        assert heard.said == 4, "once for each"
        for index, fact in heard.facts().items():
            assert fact.problem == "NVML has not answered within 5 s"
            assert (fact.uuid, fact.memory_total_mb, fact.memory_free_mb, fact.load) == (
                f"GPU-{index}",
                None,
                None,
                None,
            )
        card.set(gpu(0), gpu(1))
        await rig.settle(3.0)
        assert [fact.memory_free_mb for fact in heard.facts().values()] == [20_000, 20_000]

    play(story)


def test_one_that_was_taken_out_is_gone_and_may_come_back() -> None:
    async def story(rig: Rig) -> None:
        card = Card(gpu(0), gpu(1))
        heard = await sensor(rig, card)
        card.set(gpu(0))
        await rig.settle(100.0)
        assert heard.facts()[1].problem == GONE
        assert heard.facts()[1].at < heard.facts()[0].at, "told once; the other one again and again"
        card.set(gpu(0), gpu(1))
        await rig.settle(3.0)
        assert heard.facts()[1].problem == ""

    play(story)


def test_several_processes_of_a_host_tell_it_once_and_other_hosts_do_not_matter() -> None:
    async def story(rig: Rig) -> None:
        other = Gpu(host="attic", index=0, memory_free_mb=1, at=T0)
        await rig.bus.put_fact(other.subject, codec.encode(other))
        card = Card(gpu())
        one, two = await sensor(rig, card), await sensor(rig, card)
        await rig.settle(100.0)
        assert one.said + two.said in range(4, 7), "as often as one alone, but for looks at the same moment"
        assert [(fact.host, fact.memory_free_mb) for fact in rig.stored(Gpu)] == [("attic", 1), ("box", 20_000)]

    play(story)


STEADY = gpu(at=T0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, False),
        ({"memory_free_mb": 20_063}, False),
        ({"memory_free_mb": 20_064}, True),
        ({"memory_free_mb": 19_936}, True),
        ({"memory_free_mb": None}, True),
        ({"memory_total_mb": 23_999}, True),
        ({"load": 0.44}, False),
        ({"load": 0.45}, True),
        ({"load": 0.35}, True),
        ({"load": None}, True),
        ({"temperature_c": 56.9}, False),
        ({"temperature_c": 57.0}, True),
        ({"processes": (GpuProcess(pid=7, memory_mb=950),)}, False),
        ({"processes": ()}, True),
        ({"processes": None}, True),
        ({"driver": "590"}, True),
        ({"uuid": "GPU-else"}, True),
        ({"problem": "lost"}, True),
    ],
)
def test_what_is_of_substance_is_told(changes: dict[str, Any], told: bool) -> None:
    said = news(Look((gpu(**changes),)), {0: STEADY}, host="box", now=T0 + 5)
    assert said == ([gpu(**{**changes, "at": T0 + 5})] if told else [])


def test_a_small_gpu_tells_smaller_changes() -> None:
    told = {0: gpu(memory_total_mb=4_000, memory_free_mb=1_000)}
    assert news(Look((gpu(memory_total_mb=4_000, memory_free_mb=961),)), told, host="box", now=T0 + 5) == []
    assert news(Look((gpu(memory_total_mb=4_000, memory_free_mb=960),)), told, host="box", now=T0 + 5)


READINGS = st.fixed_dictionaries(
    {
        "index": st.integers(0, 2), "memory_free_mb": st.none() | st.integers(0, 24_000), "load": st.floats(0, 1),
        "temperature_c": st.none() | st.floats(20, 90), "problem": st.sampled_from(["", "lost"]),
    }
).map(lambda given: gpu(**given))  # fmt: skip
LOOKS = st.one_of(
    st.builds(Look, gpus=st.lists(READINGS, min_size=1, max_size=3, unique_by=lambda one: one.index).map(tuple)),
    st.builds(Look, problem=st.sampled_from(["no driver", "no answer"])),
)


@given(st.lists(st.tuples(st.floats(0.1, 40), LOOKS), max_size=20))
def test_what_was_told_is_what_there_is(looks: list[tuple[float, Look]]) -> None:
    told: dict[int, Gpu] = {}
    now = T0
    for passed, look in looks:
        now += passed
        before = dict(told)
        said = news(look, told, host="box", now=now)
        assert len({one.index for one in said}) == len(said)
        told.update((one.index, one) for one in said)
        for one in said:
            was = before.get(one.index)
            assert one.at == now
            assert was is None or one.problem != was.problem or now - was.at >= PAUSE_SECONDS
        present = {index for index, one in told.items() if index != THE_HOST and one.problem != GONE}
        if look.problem:
            assert {told[index].problem for index in present or {THE_HOST}} == {look.problem}
        else:
            assert present == {one.index for one in look.gpus}
            assert THE_HOST not in told or not told[THE_HOST].problem
            assert all(told[one.index].problem == one.problem for one in look.gpus)
            assert all(now - told[index].at < REPEAT_SECONDS for index in present)
