"""The breakers' room: what it writes, and when; several of them; accounts and executors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actors.actor import Heard
from actors.guardrail.fold import TELL_SECONDS, Fold
from actors.settings import BreakerRules
from bus import codec
from bus.memory import Faults
from bus.topology import FOLD
from messages import Attempted, Backend, Breaker, Problem
from messages.fleet import ALL_MODELS
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import attempted, backend

RULES = BreakerRules(jitter=0.0)
UNPAID = Problem(reason="account", message="pay first")


async def fold(rig: Rig, instance: str = "front") -> None:
    await rig.host(room_of(lambda: Fold(rules=RULES), FOLD, slots=1), instance=instance, hand_on=False)


async def say(rig: Rig, outcome: Any = "ok", number: int = 1, **fields: Any) -> None:
    """So many attempts end now."""
    for _ in range(number):
        say.jobs += 1  # type: ignore[attr-defined]
        given_: dict[str, Any] = {"job": f"j-{say.jobs}", "outcome": outcome, "at": rig.bus.now(), **fields}  # type: ignore[attr-defined]
        await rig.publish(attempted(**given_))


say.jobs = 0  # type: ignore[attr-defined]


async def know(rig: Rig, fact: Backend | Breaker) -> None:
    await rig.bus.put_fact(fact.subject, codec.encode(fact))
    await rig.settle(0.1)


def breaker(rig: Rig, model: str = "m") -> Breaker:
    """The latest breaker of a model, or of the account."""
    return [fact for fact in rig.stored(Breaker) if fact.model == model][-1]


def counted(rig: Rig) -> tuple[int, int]:
    recent = breaker(rig).recent
    return sum(one.calls for one in recent), sum(one.failures for one in recent)


def test_successes_are_told_now_and_then_and_all_of_them() -> None:
    async def story(rig: Rig) -> None:
        await fold(rig)
        await say(rig, number=40)
        await rig.settle()
        assert rig.stored(Breaker) == []
        await rig.settle(TELL_SECONDS)
        await say(rig)
        await rig.settle()
        assert counted(rig) == (41, 0)
        revision = rig.records(Breaker)[-1].seq
        await say(rig, number=10)
        await rig.settle()
        assert rig.records(Breaker)[-1].seq == revision
        await say(rig, "timeout")
        await rig.settle()
        assert counted(rig) == (52, 1), "a failure is told at once, with what was not told before"

    play(story)


def test_what_was_not_told_counts_when_a_failure_comes() -> None:
    async def story(rig: Rig) -> None:
        await fold(rig)
        await say(rig, number=3)
        for _ in range(2):
            await say(rig, "timeout")
        await say(rig, number=1)
        await say(rig, "timeout")
        await rig.settle()
        assert counted(rig) == (7, 3)
        assert breaker(rig).open_until == 0.0
        await say(rig, "timeout")
        await rig.settle()
        assert breaker(rig).reason == "4 failures in 8 calls, last: timeout"

    play(story)


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 2))
def test_no_failure_is_counted_twice_whatever_is_heard_again(seed: int, ends: list[bool], processes: int) -> None:
    """Nor a success in one process; two may each count one whose acknowledgement was lost, before either tells of it."""

    async def story(rig: Rig) -> None:
        for number in range(processes):
            await fold(rig, f"front-{number}")
        for well in ends:
            await say(rig, "ok" if well else "empty")
        await rig.settle(60.0)
        rig.server.faults = Faults()
        await say(rig, "empty")
        await rig.settle(60.0)
        if breaker(rig).times_opened == 0:
            calls, failures = counted(rig)
            assert failures <= ends.count(False) + 1
            assert calls - failures <= processes * ends.count(True)
        assert await rig.unacknowledged(FOLD) == 0

    play(story, seed=seed, faults=Faults(ack_lost=0.3, delivered_twice=0.5, answer_lost=0.1, delay_seconds=(0.0, 0.02)))


def test_an_account_error_closes_the_backend_off_and_leaves_its_models_alone() -> None:
    async def story(rig: Rig) -> None:
        await fold(rig)
        await know(rig, backend("a", executors=("exec-a", "exec-b")))
        await say(rig, "account", problem=UNPAID, model="m")
        await rig.settle()
        (account,) = rig.stored(Breaker)
        assert (account.backend, account.model, account.reason) == ("a", ALL_MODELS, "pay first")
        assert account.executors == ("exec-a", "exec-b")
        assert account.open_until > rig.bus.now() + 3000

    play(story)


@pytest.mark.parametrize(
    ("then", "shut"),
    [
        ([("exec-a",)], True),
        ([("exec-a", "exec-b")], False),
        ([("exec-b",)], False),
        ([(), ("exec-a",)], False),
        ([()], True),
    ],
)
def test_a_new_executor_gives_the_account_a_chance(then: list[tuple[str, ...]], shut: bool) -> None:
    async def story(rig: Rig) -> None:
        for name in ("one", "two"):
            await fold(rig, name)
        await know(rig, backend("a", executors=("exec-a",)))
        await say(rig, "account", problem=UNPAID)
        await rig.settle()
        for number, executors in enumerate(then, 1):
            await know(rig, backend("a", executors=executors, priority=number + 1))
        await rig.settle()
        assert (breaker(rig, ALL_MODELS).open_until > rig.bus.now()) is shut

    play(story)


def test_an_executor_that_came_while_nobody_folded_is_noticed_later() -> None:
    async def story(rig: Rig) -> None:
        await know(rig, backend("a", executors=("exec-b",)))
        now = rig.bus.now()
        await know(
            rig,
            Breaker(
                backend="a", model=ALL_MODELS, cause="account", times_opened=1, opened_at=now, open_until=now + 3600,
                executors=("exec-a",),
            ),
        )  # fmt: skip
        await fold(rig)
        await rig.settle()
        assert breaker(rig, ALL_MODELS).open_until == 0.0

    play(story)


def test_a_clock_that_is_wrong_opens_nothing_for_long() -> None:
    async def story(rig: Rig) -> None:
        await fold(rig)
        for _ in range(3):
            await say(rig, "timeout", at=rig.bus.now() + 1e6)
        await rig.settle()
        assert rig.bus.now() < breaker(rig).open_until <= rig.bus.now() + RULES.open_seconds

    play(story)


def test_it_hears_what_ends_and_nothing_else() -> None:
    assert Attempted.channel.prefix in FOLD.filters[0]


@pytest.mark.parametrize("seed", range(3))
def test_many_at_once_are_folded_in_stream_order(seed: int) -> None:
    """However many are in hand, each is folded on what the one before has left, and none is passed over."""

    async def story(rig: Rig) -> None:
        await rig.host(room_of(lambda: Fold(rules=RULES), FOLD, slots=256), hand_on=False)
        for number in range(60):
            await say(rig, "server_error" if (number * 7 + seed) % 5 < 3 else "ok")
        await rig.settle(60.0)
        alone = Fold(rules=RULES)
        for record in rig.records(Attempted):
            heard = Heard(now=record.time + FOLD.patience_seconds, seq=record.seq, stored_at=record.time)
            for said in alone.attempted(codec.decode(Attempted, record.data), heard):
                assert isinstance(said, Breaker)
                alone.breaker(said, heard)
        assert breaker(rig) == alone._breakers["a", "m"]

    play(story, seed=seed, faults=Faults(delay_seconds=(0.0, 0.01)))


def test_health_checks_that_failed_while_it_was_open_and_go_well_again_let_one_try() -> None:
    async def story(rig: Rig) -> None:
        await fold(rig)
        await fold(rig, "second")
        await know(rig, backend("a"))
        for _ in range(3):  # One by one: of two who fold at once each may miss one.
            await say(rig, "timeout")
            await rig.settle()
        assert breaker(rig).open_until > rig.bus.now() + 20
        await know(rig, backend("a", version="2"))
        assert breaker(rig).open_until > rig.bus.now() + 20, "no check has failed: a good one says nothing"
        await know(rig, backend("a", healthy=False))
        await know(rig, backend("a"))
        await rig.settle()
        early = breaker(rig)
        assert (early.cause, early.times_opened, early.strikes) == ("failures", 1, 1)
        assert early.open_until <= rig.bus.now()
        await say(rig, "timeout", started_at=rig.bus.now())
        await rig.settle()
        await know(rig, backend("a", healthy=False))
        await know(rig, backend("a"))
        assert breaker(rig).open_until > rig.bus.now() + 50, "from the second opening on its time holds"

    play(story)


def test_an_executor_that_comes_back_is_no_health_check_that_goes_well() -> None:
    async def story(rig: Rig) -> None:
        await fold(rig)
        await know(rig, backend("a"))
        await say(rig, "timeout", number=3)
        await rig.settle()
        until = breaker(rig).open_until
        await know(rig, backend("a", healthy=False, slots=0))
        await know(rig, backend("a"))
        await rig.settle()
        assert breaker(rig).open_until == until

    play(story)


def test_a_request_that_fails_and_fails_takes_the_backend_from_nobody() -> None:
    async def story(rig: Rig) -> None:
        await fold(rig)
        await say(rig, "server_error", number=20, request="bad graph")
        await rig.settle()
        assert all(one.open_until == 0.0 for one in rig.stored(Breaker))
        await say(rig, "server_error", request="another")
        await say(rig, "server_error", request="a third one")
        await rig.settle()
        assert breaker(rig).open_until > rig.bus.now()

    play(story)
