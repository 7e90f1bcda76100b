"""Who goes on: by age, at most twice the free slots at a time, nobody beside a trial call, and for budgets no more than fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.parking.choice import PATIENT_SECONDS
from actors.parking.gauge import LOAD_LAG_SECONDS, ON_THE_WAY_SECONDS, TRIAL_SECONDS
from messages import Awaited, Limit
from tests.actors.parking.parts import (
    COUNTER,
    Lot,
    breaker,
    load,
    on_backend,
    on_breaker,
    on_budget,
    parked,
    there,
    used,
)
from tests.messages.samples import T0


def many(*awaiting: Awaited, number: int = 20) -> list:
    return [parked(one, *awaiting) for one in range(number)]


@pytest.mark.parametrize("ill", [{"healthy": False}, {"active": False}, {"slots": 0}])
def test_nobody_goes_to_a_backend_that_takes_no_work(ill: dict) -> None:
    lot = Lot(there(**ill))
    lot.park(*many())
    assert lot.wake() == []
    lot.learn(there())
    assert lot.wake() == ["j-0", "j-1", "j-2", "j-3"]


@given(st.integers(1, 6), st.integers(0, 12), st.integers(0, 12))
def test_at_most_twice_the_free_slots_are_woken_and_the_oldest_first(slots: int, waiting: int, running: int) -> None:
    lot = Lot(there(slots=slots), load(waiting, running))
    lot.park(*reversed(many()))
    woken = lot.wake()
    assert woken == [f"j-{number}" for number in range(2 * max(0, slots - waiting - running))]
    assert lot.wake(T0 + 0.1) == [], "those on their way count"


def test_the_next_ones_follow_when_the_load_shows_those_who_came() -> None:
    lot = Lot(there(), load())
    lot.park(*many())
    assert len(lot.wake()) == 4
    lot.learn(load(2, 2, at=T0 + LOAD_LAG_SECONDS))
    assert lot.wake(T0 + 0.5) == []
    lot.learn(load(0, 1, at=T0 + 0.6))
    assert len(lot.wake(T0 + 0.7)) == 2
    assert lot.wake(T0 + 0.8) == []
    assert len(lot.wake(T0 + 0.8 + ON_THE_WAY_SECONDS)) == 2, "who never showed is not waited for"


def test_where_no_slot_is_ever_free_one_goes_on_now_and_then() -> None:
    lot = Lot(there(), load(9, 2))
    lot.park(*many())
    woken = [len(lot.wake(T0 + tick / 10)) for tick in range(int(10 * PATIENT_SECONDS * 3))]
    assert 2 <= sum(woken) <= 3
    assert max(woken) == 1


def test_who_comes_back_takes_no_place() -> None:
    lot = Lot(there(), load())
    lot.park(*many())
    for number in range(4):
        assert f"j-{number}" in (lot.wake() or [f"j-{number}"])
    lot.park(*(parked(number, n=3) for number in range(4)))
    assert lot.wake(T0 + 0.1) == ["j-4", "j-5", "j-6", "j-7"], "those who were just woken for nothing come later"


# Breakers.


def test_while_it_is_open_nobody_goes_on_and_then_one_tries() -> None:
    lot = Lot(there(), breaker(T0 + 30))
    lot.park(*many(on_breaker()))
    assert lot.wake(T0 + 29.9) == []
    assert lot.wake(T0 + 30) == ["j-0"]
    assert lot.wake(T0 + 31) == []
    lot.learn(breaker(T0 + 30, probe="j-0"))
    assert [lot.wake(T0 + 31 + second) for second in range(60)] == [[]] * 60, "nobody while the trial call runs"
    lot.learn(breaker(0.0, times=0))
    assert lot.wake(T0 + 92) == ["j-1", "j-2", "j-3", "j-4"]


def test_when_the_trial_call_failed_nobody_goes_on_until_the_next() -> None:
    lot = Lot(there(), breaker(T0, probe="j-0"))
    lot.park(*many(on_breaker()))
    lot.learn(breaker(T0 + 60))
    assert lot.wake(T0 + 59) == []
    assert len(lot.wake(T0 + 60)) == 1


def test_a_trial_call_that_never_took_its_lease_is_not_waited_for() -> None:
    lot = Lot(there(), breaker(T0))
    lot.park(*many(on_breaker()))
    assert lot.wake() == ["j-0"]
    assert lot.wake(T0 + TRIAL_SECONDS) == ["j-1"]
    lot.park(parked(1, on_breaker(), n=3), now=T0 + TRIAL_SECONDS)
    assert lot.wake(T0 + TRIAL_SECONDS + 0.1) == ["j-2"], "it waits again, so another one tries"


def test_a_trial_call_is_rather_not_the_one_that_failed_there() -> None:
    lot = Lot(there(), breaker(T0))
    lot.park(parked(0, on_breaker(), called=(("a", "m"),)), parked(1, on_breaker()))
    assert lot.wake() == ["j-1"]
    alone = Lot(there(), breaker(T0))
    alone.park(parked(0, on_breaker(), called=(("a", "m"),)))
    assert alone.wake() == ["j-0"]


def test_the_breaker_of_the_account_holds_for_those_who_wait_for_a_model_and_for_the_backend() -> None:
    lot = Lot(there(), breaker(T0 + 30, model="*"))
    lot.park(parked(0, on_breaker()), parked(1, on_backend()), parked(2, on_breaker(model="*")))
    assert lot.wake(T0 + 29) == []
    assert len(lot.wake(T0 + 30)) == 1


def test_one_models_breaker_keeps_nobody_from_another_model() -> None:
    lot = Lot(there(models=("m", "n")), breaker(T0 + 30))
    lot.park(parked(0, on_breaker()), parked(1, on_breaker(model="n")), parked(2, on_backend()))
    assert lot.wake() == ["j-1", "j-2"]


# New backends.


def test_who_waits_for_any_backend_goes_to_any() -> None:
    lot = Lot(there("b"))
    lot.park(*many(Awaited(kind="backend"), number=3))
    assert lot.wake() == ["j-0", "j-1", "j-2"]


def test_a_new_backend_is_looked_at_once_by_all_who_wait_for_others() -> None:
    lot = Lot(there("b"))
    lot.park(*many(on_backend("a"), number=6))
    assert lot.wake() == []
    lot.chooser.fresh.add("b")
    lot.index.something_new(T0 + 1)
    woken, now = [], T0
    for _ in range(40):
        now += 1.0
        new = lot.wake(now)
        assert len(new) <= 4
        lot.park(*(parked(int(job[2:]), on_backend("a"), n=3) for job in new), now=now)
        woken += new
    assert woken == [f"j-{number}" for number in range(6)]
    assert lot.chooser.fresh == set()


# Budgets.


def test_for_a_budget_those_go_on_for_whom_there_is_room() -> None:
    lot = Lot(used(20, 80))
    lot.park(*(parked(number, on_budget(amount)) for number, amount in enumerate((15, 30, 10, 15, 1))))
    assert lot.wake() == []
    lot.learn(used(25, 35, at=T0 + 1))
    assert lot.wake(T0 + 1) == ["j-0", "j-2", "j-3"], "40 are left: the second does not fit behind the first"
    assert lot.wake(T0 + 1.1) == []
    lot.learn(used(65, 0, at=T0 + 2))
    assert lot.wake(T0 + 2) == ["j-1", "j-4"]


def test_who_waited_for_a_settlement_that_leaves_no_room_goes_on_to_be_told() -> None:
    lot = Lot(used(20, 80))
    lot.park(parked(0, on_budget(50)), parked(1, on_budget(50, kind="budget")))
    assert lot.wake() == []
    lot.learn(used(60, 40, at=T0 + 1))
    assert lot.wake(T0 + 1) == ["j-0"], "who waits for the next window has to wait for that"


def test_raising_or_removing_a_budget_makes_room() -> None:
    lot = Lot(used(100, 0))
    lot.park(parked(0, on_budget(50, kind="budget")), parked(1, on_budget(500, kind="budget")))
    assert lot.wake() == []
    for limit, woken in ((Limit(name="team", limit=150), ["j-0"]), (Limit(name="team", removed=True), ["j-1"])):
        lot.gauge.learn_limit(limit)
        lot.chooser.dirty.add(COUNTER)
        assert lot.wake(T0 + 5) == woken


def test_a_wake_that_another_instance_said_counts_here_too() -> None:
    one, other = Lot(there(), load()), Lot(there(), load())
    for lot in (one, other):
        lot.park(*many())
    for wake in one.wakes():
        other.chooser.heard(wake.parked.key, wake.parked.n, wake.by, T0)
    assert other.wake(T0 + 0.05) == []
    half = Lot(there(), breaker(T0))
    half.park(*many(on_breaker()))
    half.chooser.heard(("acme", "j-0"), 2, on_breaker(), T0)
    assert half.wake(T0 + 0.05) == [], "another one's trial call"
