"""The server's clock as a process knows it: whatever is done to the clocks here, and however late answers come."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.clock import DRIFT, SLEW, STEP_SECONDS, ServerClock, uptime

T0 = 1_767_225_600.0


class Clocks:
    """The clocks of one machine and of a server: the uptime drifts a little, both wall clocks can be set."""

    def __init__(self, *, ahead: float = 0.0, drift: float = 0.0) -> None:
        self.at = 5000.0
        self.drift = drift
        self.ahead = ahead
        self.set = 0.0
        """By how much the server's clock was set."""
        self.clock = ServerClock(up=self.up, wall=self.wall)

    def up(self) -> float:
        return self.at * (1 + self.drift)

    def wall(self) -> float:
        return self.there() + self.ahead

    def there(self) -> float:
        return T0 + self.at + self.set

    def measure(self, there: float = 0.0, back: float = 0.0) -> float:
        sent = self.up()
        self.at += there
        then = self.there()
        self.at += back
        return self.clock.measured(sent, self.up(), then)

    def off(self) -> float:
        return self.clock.now() - self.there()


trips = st.tuples(st.floats(0, 0.3), st.floats(0, 0.3))
here = st.floats(-1e6, 1e6)
pauses = st.floats(0, 60)


@given(st.lists(st.one_of(st.tuples(st.just("set here"), here), st.tuples(st.just("wait"), pauses),
                          st.tuples(st.just("look"), trips)), max_size=40), st.floats(-DRIFT / 4, DRIFT / 4))  # fmt: skip
def test_whoever_sets_this_machine_s_clock_moves_nothing(acts: list[tuple[str, object]], drift: float) -> None:
    clocks = Clocks(drift=drift)
    clocks.measure(0.001, 0.001)
    last, looked_at = clocks.clock.now(), clocks.at
    for act, how in acts:
        if act == "set here":
            assert isinstance(how, float)
            clocks.ahead += how
        elif act == "wait":
            assert isinstance(how, float)
            clocks.at += how
        else:
            assert isinstance(how, tuple)
            assert clocks.measure(*how) == 0.0, "no step was made there"
            looked_at = clocks.at
        assert clocks.clock.now() >= last, "time never runs backwards"
        last = clocks.clock.now()
        assert abs(clocks.off()) <= 0.3 + 0.01 + DRIFT * (clocks.at - looked_at) * 2


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), trips, pauses), min_size=1, max_size=20))
def test_a_step_of_the_server_s_clock_is_followed_and_told(
    steps: list[tuple[float, tuple[float, float], float]],
) -> None:
    clocks = Clocks()
    clocks.measure(0.001, 0.001)
    for step, trip, pause in steps:
        clocks.set += step
        told = clocks.measure(*trip)
        assert abs(clocks.off()) <= 0.3 + 0.31 + STEP_SECONDS + 0.1
        if abs(step) > 2 * STEP_SECONDS + 1.3:
            assert told == pytest.approx(step, abs=STEP_SECONDS + 1.3)
        clocks.at += pause


@given(st.floats(-0.9, 0.9), st.lists(st.floats(1e-6, 2.0), min_size=1, max_size=60))
def test_what_is_small_is_made_good_slowly_and_never_backwards(step: float, waits: list[float]) -> None:
    clocks = Clocks()
    clocks.measure()
    clocks.set += step
    before = clocks.clock.now()
    assert clocks.measure() == 0.0
    for wait in waits:
        last = clocks.clock.now()
        clocks.at += wait
        passed = clocks.clock.now() - last
        assert (1 - SLEW) * wait - 1e-6 <= passed <= (1 + SLEW) * wait + 1e-6
    assert clocks.clock.now() >= before
    clocks.at += 1.0 / SLEW
    assert clocks.off() == pytest.approx(0.0, abs=1e-5)


def test_small_steps_of_time_add_up() -> None:
    """A correction smaller than what a time since the epoch can show must not get lost."""
    clocks = Clocks()
    clocks.measure()
    clocks.set -= 0.5
    clocks.measure()
    clocks.clock.now()
    for _ in range(60_000):
        clocks.at += 1e-4
        clocks.clock.now()
    assert clocks.off() == pytest.approx(0.0, abs=1e-3)


def test_before_it_was_measured_the_wall_clock_stands_in() -> None:
    clocks = Clocks(ahead=7.0)
    assert clocks.clock.age == math.inf
    assert clocks.clock.now() == clocks.wall()
    clocks.ahead = -3.0
    assert clocks.clock.now() == clocks.wall()
    clocks.measure()
    assert clocks.clock.age == 0.0
    assert clocks.off() == 0.0


def test_who_shares_the_server_s_machine_agrees_with_it_to_the_microsecond() -> None:
    clocks = Clocks()
    for trip in ((0.02, 0.0), (0.0, 0.05), (0.001, 0.004)):
        clocks.measure(*trip)
        assert abs(clocks.off()) < 2e-6


def test_a_poor_answer_does_not_replace_a_good_one_until_that_is_old() -> None:
    clocks = Clocks(ahead=100.0)
    clocks.measure(0.001, 0.001)
    clocks.measure(0.4, 0.0)
    assert abs(clocks.off()) < 2e-3
    clocks.at += 5000.0
    assert clocks.clock.age > 4999
    clocks.measure(0.4, 0.0)
    assert clocks.clock.age == 0.0


@pytest.mark.parametrize("step", [-7200.0, -20.0, 20.0, 7200.0])
def test_a_step_here_is_seen_once(step: float) -> None:
    clocks = Clocks()
    clocks.measure()
    clocks.at += 10
    assert clocks.clock.wall_step() == 0.0
    clocks.ahead += step
    assert clocks.clock.wall_step() == pytest.approx(step)
    assert clocks.clock.wall_seen() == pytest.approx(step)
    assert clocks.clock.wall_step() == clocks.clock.wall_seen() == 0.0
    assert clocks.clock.wall_ahead() == pytest.approx(step)


def test_the_uptime_counts_seconds() -> None:
    before, wall = uptime(), time.monotonic()
    assert 0.0 <= uptime() - before <= time.monotonic() - wall + 1.0
