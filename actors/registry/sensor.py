"""The sensor: tells how the GPUs of this host are."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from actors.actor import Actor, Heard, Says, every, hears
from actors.registry.aside import NoAnswer
from actors.registry.gpu import Look
from messages import Gpu

log = logging.getLogger("turnout.sensor")

REPEAT_SECONDS = 30.0
"""A GPU that is there is told at least this often."""
PAUSE_SECONDS = 1.8
"""Two facts about one GPU are at least this far apart; less than the time between looks, as clocks are corrected."""
FREE_STEP_MB, FREE_STEP_SHARE = 64, 0.01
"""Free memory that changed by so much, or by this share of all its memory, is told."""
LOAD_STEP, TEMPERATURE_STEP = 0.05, 2.0
THE_HOST = -1
"""The index under which a host without a readable GPU says why."""
GONE = "it is no longer there"

N = TypeVar("N", int, float)


class GpuSensor(Actor):
    """Looks every 2 s, and says what changed. It learns from the facts what was told before, also by others on its host."""

    room = "sensor"

    def __init__(self, *, host: str, look: Callable[[], Awaitable[Look]], look_seconds: float = 2.0) -> None:
        """`look` reads all GPUs of `host`; it may raise NoAnswer."""
        self.host, self.look_seconds = host, look_seconds
        self._look = look
        self._told: dict[int, Gpu] = {}

    @hears
    def gpu(self, gpu: Gpu, heard: Heard) -> None:
        """What is known of this host's GPUs, by whoever said it."""
        if gpu.host == self.host:
            self._told[gpu.index] = gpu

    @every("look_seconds")
    async def look(self, heard: Heard) -> Says[Gpu]:
        """Read them, and say what is new."""
        try:
            seen = await self._look()
        except NoAnswer as error:
            seen = Look(problem=str(error))
        said = news(seen, self._told, host=self.host, now=heard.now)
        for gpu in said:
            before = self._told.get(gpu.index)
            if gpu.problem != (before.problem if before else ""):
                what = "GPU" if gpu.index == THE_HOST else f"GPU {gpu.index}"
                log.info("%s: %s", what, gpu.problem or "it can be read")
        return said


def news(look: Look, told: Mapping[int, Gpu], *, host: str, now: float) -> list[Gpu]:
    """What is to be said after a look, given what was told last of each index. Pure."""
    there = {index for index, gpu in told.items() if index != THE_HOST and gpu.problem != GONE}
    if look.problem and there:
        fresh = [_unread(told[index], look.problem) for index in sorted(there)]
    elif look.problem:
        fresh = [Gpu(host=host, index=THE_HOST, problem=look.problem, at=now)]
    else:
        fresh = list(look.gpus)
        missing = sorted(there - {gpu.index for gpu in look.gpus})
        fresh += [_unread(told[index], GONE) for index in missing]
        if THE_HOST in told:
            fresh.append(Gpu(host=host, index=THE_HOST, at=now))
    return [msgspec.structs.replace(gpu, at=now) for gpu in fresh if _worth_saying(gpu, told.get(gpu.index), now)]


def _unread(gpu: Gpu, problem: str) -> Gpu:
    return Gpu(
        host=gpu.host, index=gpu.index, name=gpu.name, uuid=gpu.uuid, driver=gpu.driver, problem=problem, at=gpu.at
    )


def _worth_saying(gpu: Gpu, told: Gpu | None, now: float) -> bool:
    if told is None or gpu.problem != told.problem:
        return True
    since = abs(now - told.at)  # A clock that was set back must not silence it.
    if since < PAUSE_SECONDS:
        return False
    if differs(gpu, told):
        return True
    return since >= REPEAT_SECONDS and gpu.index != THE_HOST and gpu.problem != GONE


def differs(one: Gpu, other: Gpu) -> bool:
    """Whether two readings of a GPU differ in substance: not by what merely trembles."""
    free_step = min(FREE_STEP_MB, FREE_STEP_SHARE * (one.memory_total_mb or FREE_STEP_MB / FREE_STEP_SHARE))
    return (
        (one.name, one.uuid, one.driver, one.memory_total_mb)
        != (other.name, other.uuid, other.driver, other.memory_total_mb)
        or _pids(one) != _pids(other)
        or _moved(one.memory_free_mb, other.memory_free_mb, free_step)
        or _moved(one.load, other.load, LOAD_STEP)
        or _moved(one.temperature_c, other.temperature_c, TEMPERATURE_STEP)
    )


def _pids(gpu: Gpu) -> frozenset[int] | None:
    return None if gpu.processes is None else frozenset(process.pid for process in gpu.processes)


def _moved(one: N | None, other: N | None, step: float) -> bool:
    if one is None or other is None:
        return one is not other
    return round(abs(one - other), 6) >= step
