from __future__ import annotations

import asyncio
import logging

import pytest

from bus import simloop
from bus.clock import ServerClock
from bus.timekeeper import LOOK_SECONDS, Timekeeper, apart, moved

T0 = 1_767_225_600.0


class Machine:
    """A server and this machine, on the loop's time; `silent`: it does not answer."""

    def __init__(self) -> None:
        self.set = self.ahead = self.slept = 0.0
        self.looks = 0
        self.silent = False
        self.clock = ServerClock(up=self.up, wall=lambda: self.there() + self.ahead)
        self.keeper = Timekeeper(self.clock, self.up, self.look)

    def up(self) -> float:
        return asyncio.get_running_loop().time() + self.slept

    def there(self) -> float:
        return T0 + self.up() + self.set

    async def look(self) -> float | None:
        self.looks += 1
        await asyncio.sleep(0.002)
        return None if self.silent else self.there()

    def off(self) -> float:
        return self.clock.now() - self.there()


def kept(story: object) -> None:
    async def main() -> None:
        machine = Machine()
        await machine.keeper.measure()
        ticking = asyncio.create_task(machine.keeper.run())
        try:
            await story(machine)  # type: ignore[operator]
        finally:
            ticking.cancel()

    simloop.run(main(), seed=1)


def test_it_looks_now_and_then_and_says_nothing_while_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    async def story(machine: Machine) -> None:
        before = machine.looks
        await asyncio.sleep(100 * LOOK_SECONDS)
        assert 0 < machine.looks - before <= 3 * 100
        assert caplog.records == []

    kept(story)


@pytest.mark.parametrize(("step", "words"), [(1200.0, "forward by 20 min"), (-3600.0, "back by 1 h")])
def test_a_step_here_is_told_and_moves_nothing(caplog: pytest.LogCaptureFixture, step: float, words: str) -> None:
    async def story(machine: Machine) -> None:
        machine.ahead += step
        assert abs(machine.off()) < 0.01
        await asyncio.sleep(30.0)
        assert abs(machine.off()) < 0.01
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"this machine's clock was set {words}; turnout does not go by it" in record.getMessage()
        assert f"{'20 min ahead of it' if step > 0 else '1 h behind it'} now" in record.getMessage()

    kept(story)


@pytest.mark.parametrize(("step", "words"), [(1200.0, "forward by 20 min"), (-3600.0, "back by 1 h")])
def test_a_step_of_the_server_s_clock_is_followed_soon_and_told(
    caplog: pytest.LogCaptureFixture, step: float, words: str
) -> None:
    async def story(machine: Machine) -> None:
        machine.set += step
        machine.ahead -= step  # Another machine than ours.
        await asyncio.sleep(LOOK_SECONDS + 2.0)
        assert abs(machine.off()) < 0.01
        assert caplog.records[0].getMessage().startswith(f"the nats-server's clock was set {words}")

    kept(story)


def test_where_both_share_a_machine_a_step_is_followed_within_two_seconds() -> None:
    async def story(machine: Machine) -> None:
        machine.set += 1200.0
        await asyncio.sleep(2.0)
        assert abs(machine.off()) < 0.01

    kept(story)


def test_after_a_sleep_it_looks_at_once() -> None:
    async def story(machine: Machine) -> None:
        await asyncio.sleep(1.5)
        before = machine.looks
        machine.slept += 5000.0
        await asyncio.sleep(2.0)
        assert machine.looks > before

    kept(story)


@pytest.mark.parametrize("jump", [1200.0, -600.0])
def test_an_uptime_that_can_t_be_trusted_is_corrected_and_not_blamed_on_the_server(
    caplog: pytest.LogCaptureFixture, jump: float
) -> None:
    async def story(machine: Machine) -> None:
        await asyncio.sleep(5.0)
        machine.slept += jump
        machine.set -= jump  # The server's clock went on as before.
        await asyncio.sleep(2.0)
        assert abs(machine.off()) < 0.01
        assert caplog.records[0].getMessage().startswith(f"this machine's uptime jumped {moved(jump)}")

    kept(story)


def test_a_server_that_does_not_answer_leaves_the_clock_running() -> None:
    async def story(machine: Machine) -> None:
        machine.silent = True
        machine.ahead += 5000.0
        await asyncio.sleep(1000.0)
        assert abs(machine.off()) < 0.01

    kept(story)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1200.0, "forward by 20 min"),
        (-2.5, "back by 2.5 s"),
        (3600.0, "forward by 1 h"),
        (-7 * 86_400.0, "back by 7 d"),
    ],
)
def test_steps_in_words(seconds: float, text: str) -> None:
    assert moved(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "like it"), (90.0, "90.0 s ahead of it"), (-5400.0, "90 min behind it")]
)
def test_distances_in_words(seconds: float, text: str) -> None:
    assert apart(seconds) == text
