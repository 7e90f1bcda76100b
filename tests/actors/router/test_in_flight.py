"""What is in flight: each round once, from the decision until its work is counted, and nothing for ever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.in_flight import MEMORY_SECONDS, InFlight, Key, Lane, OnItsWay, Uses

KEY: Key = ("acme", "j-1", 1)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["decided", "stored", "queued", "abandon", "leave", "counted", "late"]),
        st.integers(0, 4), st.integers(0, 2), st.integers(1, 12),
    ),
    max_size=60,
)  # fmt: skip
"""What happens, to which job, on which lane, and a sequence."""


@given(STEPS)
def test_sums_are_those_of_the_rounds_whatever_happens_in_whatever_order(steps: Any) -> None:
    found, lanes, uses, now = InFlight(), [Lane() for _ in range(3)], [Uses() for _ in range(3)], 100.0
    known: dict[int, tuple[int, bool, int]] = {}
    for what, job, lane, seq in steps:
        key = ("acme", f"j-{job}", 1)
        at_work = known.get(job, (0, False, 0))[2]
        if what == "decided":
            found.enter(key, lanes[lane], now, uses=uses[lane])
            known |= {} if at_work else {job: (lane, True, 0)}
        elif what == "stored":
            found.enter(key, lanes[lane], now)
            known |= {} if at_work else {job: (lane, False, 0)}
        elif what == "queued":
            found.enter(key, lanes[lane], now, seq=seq)
            known.pop(job, None)
            if seq > lanes[lane].through_seq:
                known[job] = lane, False, seq
        elif what == "abandon":
            found.abandon(key)
            known = known if at_work else {one: at for one, at in known.items() if one != job}
        elif what == "leave":
            found.leave(key)
            known.pop(job, None)
        elif what == "counted":
            found.counted(lanes[lane], seq)
            known = {one: at for one, at in known.items() if at[0] != lane or not 0 < at[2] <= seq}
        else:
            now += 2 * MEMORY_SECONDS
            found.enter(key, lanes[lane], now)
            known = {job: (lane, False, 0)}
        assert len(found) == len(known)
        for number in range(3):
            mine = [at for at in known.values() if at[0] == number]
            assert lanes[number].own == len(mine)
            assert uses[number].since(0.0) == sum(deciding for _, deciding, _ in mine)
            assert [one.seq for one in lanes[number].queued] == sorted(at for _, _, at in mine if at)


def test_what_nobody_hears_of_again_is_forgotten() -> None:
    found, lane = InFlight(), Lane()
    found.enter(KEY, lane, 100.0)
    found.enter(("acme", "j-2", 1), lane, 100.0 + MEMORY_SECONDS - 0.1)
    assert lane.own == 2
    found.enter(("acme", "j-3", 1), lane, 100.0 + MEMORY_SECONDS)
    assert (lane.own, len(found)) == (2, 2)


def test_what_fails_before_all_is_said_goes_nowhere() -> None:
    found, lane, uses = InFlight(), Lane(), Uses()

    def fails() -> None:
        with OnItsWay(found, KEY) as way:
            way.goes(lane, uses, 100.0)
            assert (lane.own, uses.since(0.0)) == (1, 1)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert (lane.own, uses.since(0.0), len(found)) == (0, 0, 0)


def test_what_is_queued_stays_there_whatever_fails_afterwards() -> None:
    found, lane = InFlight(), Lane()

    def fails() -> None:
        with OnItsWay(found, KEY) as way:
            way.goes(lane, None, 100.0)
            found.enter(KEY, lane, 100.0, seq=5)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert lane.own == 1
    with OnItsWay(found, KEY) as way:
        way.nowhere()
        way.goes(lane, None, 101.0)
    assert lane.own == 1, "decided anew, it lies where it lies"
    found.counted(lane, 5)
    assert (lane.own, len(found)) == (0, 0)
