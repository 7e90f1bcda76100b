"""When a server is started anew because of its disk: as soon as there is room, never before, and not again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import simloop
from bus.server_guard import LOOK_SECONDS, PAUSES_SECONDS, Guard


class Disk:
    """Writes fail from `full` on; a restart with room mends it, unless it is `broken`."""

    def __init__(self) -> None:
        self.stuck = self.full = self.broken = False
        self.restarts: list[float] = []
        self.told: list[str] = []

    @property
    def trouble(self) -> str:
        return "the disk is full" if self.stuck else ""

    def fill(self, *, full: bool) -> None:
        self.full = full
        self.stuck = self.stuck or full

    def look(self) -> bool:
        return self.stuck

    def has_room(self) -> bool:
        return not self.full

    async def restart(self) -> None:
        assert not self.full, "it would only fail again"
        self.restarts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.3)
        self.stuck = self.broken or self.full


async def here(call: Callable[[], bool]) -> bool:
    return call()


def guarded(story: Callable[[Disk], object]) -> None:
    async def main() -> None:
        disk = Disk()
        guard = Guard(disk, disk.restart, offload=here)
        guard.on_trouble = disk.told.append
        running = asyncio.create_task(guard.run())
        try:
            await story(disk)  # type: ignore[misc]
        finally:
            running.cancel()

    simloop.run(main(), seed=1)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 900.0)), max_size=20))
def test_it_waits_for_room_and_then_stores_again(changes: list[tuple[bool, float]]) -> None:
    async def story(disk: Disk) -> None:
        for full, seconds in changes:
            disk.fill(full=full)
            await asyncio.sleep(seconds)
        disk.fill(full=False)
        await asyncio.sleep(PAUSES_SECONDS[-1] + 3 * LOOK_SECONDS)
        assert not disk.stuck
        assert disk.told == ["the disk is full", ""] * (len(disk.told) // 2)
        assert len(disk.restarts) >= len(disk.told) // 2

    guarded(story)


def test_a_long_time_without_room_is_told_once_and_starts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def story(disk: Disk) -> None:
        disk.fill(full=True)
        await asyncio.sleep(7200.0)
        assert disk.restarts == []
        assert disk.told == ["the disk is full"]
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    guarded(story)


def test_what_a_new_start_does_not_mend_is_tried_ever_more_seldom() -> None:
    async def story(disk: Disk) -> None:
        disk.broken = True
        disk.fill(full=True)
        disk.full = False
        await asyncio.sleep(7200.0)
        assert len(disk.restarts) < 7200 / PAUSES_SECONDS[-1] + len(PAUSES_SECONDS) + 1
        gaps = [after - before for before, after in zip(disk.restarts, disk.restarts[1:], strict=False)]
        assert all(gap >= least for gap, least in zip(gaps, PAUSES_SECONDS, strict=False))
        assert min(gaps[len(PAUSES_SECONDS) :]) >= PAUSES_SECONDS[-1]

    guarded(story)


def test_after_a_good_while_a_new_start_comes_soon_again() -> None:
    async def story(disk: Disk) -> None:
        for _ in range(10):
            disk.fill(full=True)
            await asyncio.sleep(5.0)
            disk.fill(full=False)
            began = asyncio.get_running_loop().time()
            while disk.stuck:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() - began < 2 * LOOK_SECONDS
            await asyncio.sleep(700.0)

    guarded(story)


def test_a_callback_that_fails_and_a_disk_that_can_t_be_looked_at_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        disk = Disk()
        guard = Guard(disk, disk.restart, offload=here)
        guard.on_trouble = lambda _: 1 / 0  # type: ignore[assignment,return-value]
        running = asyncio.create_task(guard.run())
        monkeypatch.setattr(disk, "look", _raise)
        await asyncio.sleep(10.0)
        monkeypatch.undo()
        disk.fill(full=True)
        disk.fill(full=False)
        await asyncio.sleep(10.0)
        assert len(disk.restarts) == 1
        running.cancel()

    simloop.run(main(), seed=1)


def _raise() -> bool:
    raise OSError("stale file handle")
