from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.roster import DEAD_AFTER_SECONDS, Roster
from messages import ExecutorAlive, Offer, Running, Started
from tests.messages.samples import T0

RUN = Running(tenant="acme", job="j-1", n=1, run="7")


def alive(**changes: Any) -> ExecutorAlive:
    given: dict[str, Any] = {"instance": "e", "boot": "b1", "number": 1, "at": T0}
    return ExecutorAlive(**{**given, **changes})


def claim(**changes: Any) -> Started:
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "n": 1, "backend": "a", "instance": "e", "boot": "b1", "run": "7", "at": T0,
    }  # fmt: skip
    return Started(**{**given, **changes})


def roster(*heartbeats: tuple[ExecutorAlive, float], since: float = T0 - 100) -> Roster:
    made = Roster(since=since)
    for heartbeat, at in heartbeats:
        made.hear(heartbeat, at)
    return made


BEATS = st.lists(
    st.tuples(
        st.sampled_from(["e", "f", "g"]), st.integers(0, 20), st.floats(0, 60), st.booleans(),
        st.sampled_from(["a", "b"]),
    ),
    max_size=12,
)  # fmt: skip


@given(BEATS, st.floats(0, 80))
def test_who_lives_was_heard_lately_and_is_not_leaving(
    beats: list[tuple[str, int, float, bool, str]], later: float
) -> None:
    made = Roster(since=T0)
    for instance, number, at, leaving, backend in sorted(beats, key=lambda beat: beat[2]):
        offer = Offer(backend=backend, protocol="openai", local=True)
        heartbeat = alive(instance=instance, number=number, leaving=leaving, offers=(offer,), at=T0 + at)
        made.hear(heartbeat, T0 + at)
    living = made.living(T0 + later)
    assert [one.instance for one in living] == sorted({one.instance for one in living})
    assert not any(one.leaving for one in living)
    assert all(T0 + later - one.at <= DEAD_AFTER_SECONDS for one in living)
    offered = {(instance, backend) for backend, found in made.offers(T0 + later).items() for instance, _ in found}
    assert offered == {(one.instance, offer.backend) for one in living for offer in one.offers}


@given(st.permutations(range(6)))
def test_the_newest_heartbeat_of_a_boot_counts_in_whatever_order_they_come(order: list[int]) -> None:
    made = roster(*((alive(number=number, at=T0 + number), T0 + 10) for number in order))
    assert [one.number for one in made.living(T0 + 10)] == [5]


def test_a_new_boot_counts_from_the_start() -> None:
    made = roster((alive(number=500), T0), (alive(boot="b2", number=0), T0 + 1))
    assert [one.boot for one in made.living(T0 + 1)] == ["b2"]


@pytest.mark.parametrize(
    ("heartbeats", "now", "lives"),
    [
        # Its process is up and lists the run.
        ([(alive(at=T0 + 2, running=(RUN,)), T0 + 2)], T0 + 3, True),
        # It is up and no longer runs it.
        ([(alive(at=T0 + 2), T0 + 2)], T0 + 3, False),
        # The heartbeat is older than the claim, so it can't list it.
        ([(alive(at=T0 - 1), T0 - 1)], T0 + 3, True),
        # Silent for too long.
        ([(alive(at=T0 + 2, running=(RUN,)), T0 + 2)], T0 + 8.5, False),
        # Another boot speaks.
        ([(alive(boot="b2", at=T0 + 1), T0 + 1)], T0 + 2, False),
        # A heartbeat of another boot from before the claim: the claim's boot is the newer one.
        ([(alive(boot="b0", at=T0 - 1), T0 - 1)], T0 + 2, True),
        # Never heard, and not yet for long.
        ([], T0 + 5, True),
        ([], T0 + 7, False),
    ],
)
def test_whether_the_owner_of_a_claim_lives(
    heartbeats: list[tuple[ExecutorAlive, float]], now: float, lives: bool
) -> None:
    assert roster(*heartbeats).owner_lives(claim(), now) == lives


@pytest.mark.parametrize("change", [{"run": "8"}, {"job": "j-2"}, {"tenant": "other"}])
def test_another_run_is_not_the_claims(change: dict[str, str]) -> None:
    made = roster((alive(at=T0 + 2, running=(RUN,)), T0 + 2))
    assert not made.owner_lives(claim(**change), T0 + 3)


@given(st.floats(0, DEAD_AFTER_SECONDS))
def test_who_has_just_begun_to_listen_calls_nobody_dead(listening: float) -> None:
    made = Roster(since=T0 + 1000)
    assert made.owner_lives(claim(at=T0), T0 + 1000 + listening)


def test_silence_while_the_connection_was_gone_kills_nobody() -> None:
    made = roster((alive(at=T0, running=(RUN,)), T0))
    assert made.living(T0 + 20) == []
    made.listen_anew(T0 + 20)
    assert len(made.living(T0 + 22.9)) == 1
    assert made.owner_lives(claim(at=T0 - 1), T0 + 22.9)
    assert made.living(T0 + 23.1) == []
    assert not made.owner_lives(claim(at=T0 - 1), T0 + 23.1)


def test_names_of_processes_that_are_gone_do_not_pile_up_and_stay_dead() -> None:
    heard = roster(since=T0)
    for number in range(1_000):
        heard.hear(alive(instance=f"e-{number}", at=T0 + 60 * number), T0 + 60 * number)
    assert len(heard._seen) <= 62
    now = T0 + 60 * 999
    assert not heard.owner_lives(claim(instance="e-1", at=T0 + 60), now)
    assert heard.owner_lives(claim(instance="e-999", at=now), now)
