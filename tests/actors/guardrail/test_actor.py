from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.guardrail.actor import Guardrail
from actors.guardrail.fold import Fold
from actors.guardrail.ledger import Ledger, entry_of
from actors.guardrail.sweeper import SWEEP_AFTER_SECONDS, Sweeper
from actors.host import Host
from actors.journal import Journal
from actors.settings import BreakerRules, Budget
from bus import codec
from bus.bus import Signal
from bus.memory import Faults
from bus.topology import FOLD, GUARDRAIL_DECIDED, SETTLE
from messages import (
    Attempt,
    Awaited,
    Breaker,
    Candidate,
    Correction,
    Decided,
    Done,
    Granted,
    Price,
    Queued,
    Reservation,
    Retry,
    Usage,
    Work,
)
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import PROBLEM, T0, attempted, candidate, decided, slip

RULES = BreakerRules(jitter=0.0)
DAILY = Budget(scope="tenant", limit=100)
NAMES = (f"j-{n}" for n in itertools.count())


def costs(name: str = "a", amount: int = 60, **changes: Any) -> Candidate:
    return candidate(name, worst_case_microdollars=amount, worst_case_tokens=110, **changes)


def counters(rig: Rig) -> dict[str, int]:
    """What every counter stands at."""
    return {record.subject: int(msgspec.json.decode(record.data)["val"]) for record in rig.server.log("LEDGER")}


def total(rig: Rig) -> int:
    """Everything that is held or used on all counters."""
    return sum(counters(rig).values())


async def guardrail(
    rig: Rig, *budgets: Budget, instance: str = "front", fold: bool = True, sweep: bool = False
) -> Host:
    """Start a guardrail and, if wanted, the fold of the breakers and the sweeper."""
    bus = rig.bus
    rooms = [
        room_of(
            lambda: Guardrail(journal=Journal(bus), ledger=Ledger(bus), budgets=budgets, rules=RULES),
            GUARDRAIL_DECIDED, SETTLE,
        ),
    ]  # fmt: skip
    if fold:
        rooms.append(room_of(lambda: Fold(rules=RULES), FOLD, slots=1))
    if sweep:
        rooms.append(room_of(lambda: Sweeper(journal=Journal(bus), ledger=Ledger(bus))))
    return await rig.host(*rooms, instance=instance, hand_on=False)


async def judged(rig: Rig, made: Decided, seconds: float = 1.0) -> Granted:
    await rig.publish(made)
    await rig.settle(seconds)
    return next(one for one in rig.stored(Granted) if (one.job, one.n) == (made.job, made.n))


def spoken(story: Any, **options: Any) -> None:
    play(story, rooms="apart", **options)


def test_the_best_candidate_gets_the_work_and_its_worst_case_is_held() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        verdict = await judged(rig, decided(ranking=(costs("a"), costs("b"))))
        assert (verdict.verdict, verdict.backend, verdict.probe, verdict.skipped) == ("candidate", "a", False, ())
        assert [held.amount for held in verdict.reserved] == [60]
        (item,) = rig.stored(Work)
        assert (item.backend, item.reserved) == ("a", verdict.reserved)
        assert total(rig) == 60

    spoken(story)


def test_where_the_work_lies_is_told_and_that_there_is_none() -> None:
    async def story(rig: Rig) -> None:
        told: list[Queued] = []

        async def hear(signal: Signal) -> None:
            told.append(codec.decode(Queued, signal.data))

        await rig.bus.subscribe(Queued.channel.pattern, hear)
        await guardrail(rig, DAILY)
        await rig.publish(Done(tenant="acme", job="ended", ending="cancelled", at=T0))
        for job, amounts in (("one", (60, 10)), ("two", (90, 20)), ("three", (90, 90)), ("ended", (1, 1))):
            ranking = tuple(costs(name, amount) for name, amount in zip("ab", amounts, strict=True))
            await judged(rig, decided(job=job, slip=slip(job=job), ranking=ranking))
        (first, second) = rig.records(Work)
        assert [(one.job, one.n, one.backend, one.seq) for one in told] == [
            ("one", 1, "a", first.seq), ("two", 1, "b", second.seq), ("three", 1, "", 0), ("ended", 1, "", 0),
        ]  # fmt: skip
        assert second.seq > first.seq > 0

    spoken(story)


def test_who_is_too_dear_is_passed_over_and_holds_nothing() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, Budget(scope="global", limit=1000))
        verdict = await judged(rig, decided(ranking=(costs("dear", 101), costs("fair", 100), costs("b"))))
        assert verdict.backend == "fair"
        (skip,) = verdict.skipped
        assert (skip.backend, skip.reason.partition(":")[0]) == ("dear", f"over budget ({DAILY.name})")
        assert total(rig) == 200

    spoken(story)


def test_two_models_of_one_backend_hold_their_own_amounts() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, Budget(scope="global", unit="microdollars", limit=1000))
        opened = Breaker(backend="a", model="big", open_until=T0 + 60, times_opened=1, reason="x")
        await rig.bus.put_fact(opened.subject, codec.encode(opened))
        await rig.settle()
        ranking = (costs("a", 500, model="big"), costs("a", 60, model="small"))
        verdict = await judged(rig, decided(ranking=ranking))
        assert (verdict.model, [held.amount for held in verdict.reserved]) == ("small", [60])
        awaits = Awaited(kind="breaker", name="a", model="big")
        assert [(skip.backend, skip.model, skip.awaits) for skip in verdict.skipped] == [("a", "big", awaits)]
        assert total(rig) == 60

    spoken(story)


def test_over_budget_everywhere_is_a_refusal_without_an_attempt() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        first = await judged(rig, decided(job="j-0", slip=slip(job="j-0"), ranking=(costs("a", 100),)))
        verdict = await judged(rig, decided(ranking=(costs("a"), costs("b"))))
        assert (verdict.verdict, verdict.over, verdict.settling) == ("refused", (DAILY.name,), True)
        (retry,) = rig.stored(Retry)
        assert (retry.n, retry.attempts, retry.cause.reason) == (2, (), "over_budget")
        counter = first.reserved[0].subject
        assert retry.awaiting == (Awaited(kind="settlement", name=counter, budget=DAILY.name, amount=60),)
        assert rig.stored(Done) == [], "what is held may leave room"
        assert [item.job for item in rig.stored(Work)] == ["j-0"]
        assert total(rig) == 100

    spoken(story)


@pytest.mark.parametrize(("used", "runs"), [(40, True), (41, False)])
def test_once_what_others_held_is_settled_there_is_room_or_an_end(used: int, runs: bool) -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        first = await judged(rig, decided(job="j-0", slip=slip(job="j-0"), ranking=(costs("a", 100),)))
        await rig.publish(attempted(job="j-0", reserved=first.reserved, billed_microdollars=used))
        await rig.settle(3.0)
        verdict = await judged(rig, decided(ranking=(costs("a"),)))
        assert (verdict.verdict == "candidate", verdict.settling) == (runs, False)
        assert [done.ending for done in rig.stored(Done)] == ([] if runs else ["failed"])
        assert rig.stored(Retry) == []

    spoken(story)


def test_a_spent_limit_in_dollars_never_blocks_a_free_backend() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, Budget(scope="tenant", limit=0))
        assert (await judged(rig, decided(ranking=(costs("dear"), costs("free", 0))))).backend == "free"

    spoken(story)


def test_what_has_no_known_price_is_passed_over_where_dollars_are_limited() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        unknown = candidate("a", known={"price": Price(unknown=True)})
        verdict = await judged(rig, decided(ranking=(unknown, costs("b"))))
        assert verdict.backend == "b"
        assert "price is unknown" in verdict.skipped[0].reason

    spoken(story)


def test_for_a_job_that_has_ended_the_verdict_is_void() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        await rig.publish(Done(tenant="acme", job="j-1", ending="cancelled", at=T0))
        assert (await judged(rig, decided(ranking=(costs(),)))).verdict == "void"
        assert rig.stored(Work) == rig.stored(Retry) == []
        assert total(rig) == 0

    spoken(story)


def test_a_decision_that_gave_up_needs_no_verdict() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        await rig.publish(decided(ranking=(), gave_up=PROBLEM))
        await rig.settle()
        assert rig.stored(Granted) == []
        assert await rig.unacknowledged(GUARDRAIL_DECIDED) == 0

    spoken(story)


def test_a_decision_that_waits_is_a_refusal_with_that_wait() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig)
        verdict = await judged(rig, decided(ranking=(), wait_seconds=0.5))
        (retry,) = rig.stored(Retry)
        assert (verdict.verdict, retry.not_before) == ("refused", verdict.at + 0.5)

    spoken(story)


def test_the_loser_of_a_verdict_returns_what_it_held_and_follows_the_stored_one() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, Budget(scope="backend", limit=1000))
        held = Reservation(budget="x", subject="ledger.backend.b.microdollars.total", amount=60, unit="microdollars")
        await rig.publish(
            Granted(tenant="acme", job="j-1", n=1, verdict="candidate", backend="b", model="m", reserved=(held,), at=T0)
        )
        await rig.publish(decided(ranking=(costs("a"), costs("b"))))
        await rig.settle()
        (item,) = rig.stored(Work)
        assert (item.backend, item.reserved) == ("b", (held,))
        assert total(rig) == 0, "what was held for `a` is returned; `b` was held by the winner"

    spoken(story)


def test_walking_a_decision_twice_holds_once() -> None:
    async def story(rig: Rig) -> None:
        for name in ("one", "two"):
            await guardrail(rig, DAILY, instance=name)
        await judged(rig, decided(ranking=(costs(),)), seconds=40.0)
        rig.server.faults = Faults()
        await rig.settle(40.0)
        assert len(rig.stored(Granted)) == len(rig.stored(Work)) == 1
        assert total(rig) == 60

    spoken(story, faults=Faults(ack_lost=0.9, delivered_twice=1.0, delay_seconds=(0.0, 0.01)))


@pytest.mark.parametrize(
    ("end", "left"),
    [
        ({"billed_microdollars": 25}, 25),
        ({"outcome": "not_started"}, 0),
        ({"outcome": "executor_lost", "billed_microdollars": 60}, 60),
    ],
)
def test_settling_replaces_what_was_held_by_what_was_used(end: dict[str, Any], left: int) -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, sweep=True)
        verdict = await judged(rig, decided(ranking=(costs(),)))
        await rig.publish(attempted(reserved=verdict.reserved, usage=Usage(), **end))
        await rig.settle(5.0)
        assert total(rig) == left
        await rig.settle(3 * SWEEP_AFTER_SECONDS)
        assert total(rig) == left, "the sweeper changes nothing that is settled"

    spoken(story)


@pytest.mark.parametrize("windows", [False, True])
def test_what_turns_out_to_be_right_replaces_what_was_counted_exactly_once(*, windows: bool) -> None:
    """Also where attempts come again, two guardrails hear them, and the lost one was counted in an earlier window."""

    async def story(rig: Rig) -> None:
        hourly = Budget(scope="global", unit="microdollars", window="hour", limit=100) if windows else DAILY
        for name in ("one", "two"):
            await guardrail(rig, hourly, instance=name, sweep=True)
        first = await judged(rig, decided(ranking=(costs(),)))
        await rig.publish(attempted(reserved=first.reserved, outcome="executor_lost", billed_microdollars=60))
        await rig.settle(3700.0 if windows else 5.0)
        second = await judged(rig, decided(n=2, ranking=(costs(amount=30),), at=rig.bus.now()))
        assert second.verdict == "candidate"
        right = (Correction(n=1, billed_microdollars=12), Correction(n=7))
        end = attempted(n=2, reserved=second.reserved, billed_microdollars=25, took_up=1, corrections=right)
        await rig.publish(end)
        await rig.settle(40.0)
        rig.server.faults = Faults()
        await rig.settle(3 * SWEEP_AFTER_SECONDS)
        assert sum(counters(rig).values()) == 12 + 25
        assert sorted(counters(rig).values()) == ([12, 25] if windows else [37])

    spoken(story, faults=Faults(ack_lost=0.9, delivered_twice=1.0, delay_seconds=(0.0, 0.01)))


# The breaker in the way.


async def opened(rig: Rig, name: str = "a") -> Breaker:
    """Three failures open the breaker of a backend."""
    for _ in range(3):
        await rig.publish(attempted(job=next(NAMES), backend=name, outcome="timeout", at=rig.bus.now()))
    await rig.settle()
    return next(fact for fact in rig.stored(Breaker) if fact.backend == name)


def test_an_open_breaker_sends_the_work_elsewhere() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        breaker = await opened(rig)
        assert (breaker.failures_in_row, breaker.times_opened) == (3, 1)
        verdict = await judged(rig, decided(ranking=(costs("a"), costs("b"))))
        assert verdict.backend == "b"
        assert [skip.awaits for skip in verdict.skipped] == [Awaited(kind="breaker", name="a", model="m")]
        assert total(rig) == 60

    spoken(story)


def test_a_half_open_breaker_lets_one_probe_through() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, instance="one")
        await guardrail(rig, instance="two", fold=False)
        await opened(rig)
        await rig.settle(RULES.open_seconds)
        jobs = [f"p-{n}" for n in range(6)]
        await asyncio.gather(*(rig.publish(decided(job=job, slip=slip(job=job))) for job in jobs))
        await rig.settle(2.0)
        granted = [one for one in rig.stored(Granted) if one.verdict == "candidate"]
        assert len(granted) == 1
        assert granted[0].probe
        (item,) = rig.stored(Work)
        assert item.probe
        refused = [one for one in rig.stored(Granted) if one.verdict == "refused"]
        assert len(refused) == 5
        assert all("another job probes it" in one.skipped[0].reason for one in refused)
        await rig.publish(attempted(job=granted[0].job, probe=True, at=rig.bus.now()))
        await rig.settle()
        after = await judged(rig, decided(job="later", slip=slip(job="later")))
        assert (after.verdict, after.probe) == ("candidate", False)

    spoken(story, faults=Faults(delay_seconds=(0.001, 0.01)))


def test_the_breakers_are_folded_once_whatever_is_redelivered() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig)
        for number in range(2):
            await rig.publish(attempted(job=f"j-{number}", outcome="timeout"))
        await rig.settle(60.0)
        rig.server.faults = Faults()
        await rig.settle(60.0)
        (breaker,) = rig.stored(Breaker)
        assert (breaker.failures_in_row, breaker.open_until) == (2, 0.0)

    spoken(story, faults=Faults(ack_lost=0.8, delivered_twice=1.0))


@pytest.mark.parametrize("seed", range(5))
def test_several_processes_that_fold_may_miss_single_events_but_the_breaker_opens(seed: int) -> None:
    async def story(rig: Rig) -> None:
        for name in ("one", "two", "three"):
            await guardrail(rig, instance=name)
        for number in range(12):
            await rig.publish(attempted(job=f"j-{number}", outcome="timeout"))
        await rig.settle(60.0)
        (breaker,) = rig.stored(Breaker)
        assert RULES.failures_in_row <= breaker.failures_in_row <= 12
        assert breaker.times_opened >= 1

    spoken(story, seed=seed, faults=Faults(delay_seconds=(0.001, 0.01)))


def test_an_unusable_account_sends_the_work_elsewhere_whatever_the_model_and_even_in_panic() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        await rig.publish(attempted(job="x", outcome="account", at=rig.bus.now()))
        await rig.settle()
        ranking = (costs("a", model="other", panic=True), costs("b"))
        verdict = await judged(rig, decided(ranking=ranking))
        assert verdict.backend == "b"
        assert [skip.awaits for skip in verdict.skipped] == [Awaited(kind="breaker", name="a", model="*")]

    spoken(story)


def test_in_panic_the_work_goes_to_a_backend_whose_breaker_is_open_and_is_no_probe() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig)
        await opened(rig)
        verdict = await judged(rig, decided(ranking=(costs("a", panic=True),)))
        assert (verdict.verdict, verdict.backend, verdict.probe) == ("candidate", "a", False)

    spoken(story)


def test_a_job_may_probe_its_account_and_its_model_at_once() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig)
        past: dict[str, Any] = {"times_opened": 1, "opened_at": T0 - 90, "open_until": T0 - 30, "cause": "failures"}
        for model in ("*", "m"):
            fact = Breaker(backend="a", model=model, **past)
            await rig.bus.put_fact(fact.subject, codec.encode(fact))
        await rig.settle()
        jobs = [f"p-{n}" for n in range(4)]
        await asyncio.gather(*(rig.publish(decided(job=job, slip=slip(job=job))) for job in jobs))
        await rig.settle(2.0)
        (granted,) = [one for one in rig.stored(Granted) if one.verdict == "candidate"]
        assert granted.probe
        assert {fact.model: fact.probe_job for fact in rig.stored(Breaker)} == {"*": granted.job, "m": granted.job}
        await rig.publish(attempted(job=granted.job, at=rig.bus.now()))
        await rig.settle()
        assert {fact.times_opened for fact in rig.stored(Breaker)} == {0}

    spoken(story)


def test_a_trial_call_that_went_elsewhere_leaves_room_for_the_next_at_once() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig)
        await opened(rig)
        await rig.settle(RULES.open_seconds)
        fact = rig.stored(Breaker)[-1]
        lost = msgspec.structs.replace(
            fact, probe_tenant="acme", probe_job="lost", probe_n=1, probe_until=rig.bus.now() + 1000
        )
        await rig.bus.put_fact(lost.subject, codec.encode(lost))
        await rig.publish(
            Granted(tenant="acme", job="lost", n=1, verdict="candidate", backend="b", model="m", at=rig.bus.now())
        )
        verdict = await judged(rig, decided())
        assert (verdict.verdict, verdict.probe) == ("candidate", True)

    spoken(story)


def test_repeats_on_the_same_backend_are_paced_and_failover_is_not() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig)
        failed = (Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=0),)
        for number in range(RULES.repeat_floor + 1):
            job = f"r-{number}"
            await judged(
                rig, decided(job=job, n=2, slip=slip(job=job), attempts=failed, ranking=(costs("a"), costs("b")))
            )
        granted = [one.backend for one in rig.stored(Granted)]
        assert granted == ["a"] * RULES.repeat_floor + ["b"]
        (skip,) = rig.stored(Granted)[-1].skipped
        assert "its repeats are used up" in skip.reason
        assert skip.until > rig.stored(Granted)[-1].at

    spoken(story)


# What leaks.


def test_a_reservation_no_verdict_names_is_returned() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, sweep=True)
        held = Reservation(budget="b", subject="ledger.tenant.acme.microdollars.total", amount=40, unit="microdollars")
        lost: dict[str, Any] = {"tenant": "acme", "job": "j-1", "n": 1, "model": "m", "at": T0}
        await Ledger(rig.bus).reserve(held, entry_of(held, backend="lost", **lost), 100)
        await rig.settle(2 * SWEEP_AFTER_SECONDS)
        assert total(rig) == 40, "no verdict yet: it may still come"
        await rig.publish(Granted(tenant="acme", job="j-1", n=1, verdict="void", at=T0))
        await rig.settle(2 * SWEEP_AFTER_SECONDS)
        assert total(rig) == 0

    spoken(story)


def test_what_was_never_settled_is_settled_by_the_sweeper() -> None:
    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        held = Reservation(budget="b", subject="ledger.tenant.acme.microdollars.total", amount=40, unit="microdollars")
        entry = entry_of(held, tenant="acme", job="j-1", n=1, backend="a", model="m", at=T0)
        await ledger.reserve(held, entry, 100)
        await rig.publish(
            Granted(tenant="acme", job="j-1", n=1, verdict="candidate", backend="a", model="m", reserved=(held,), at=T0)
        )
        await rig.host(room_of(lambda: Sweeper(journal=Journal(rig.bus), ledger=ledger)))
        await rig.settle(2 * SWEEP_AFTER_SECONDS)
        assert total(rig) == 40, "it still runs"
        await rig.publish(attempted(reserved=(held,), billed_microdollars=15))
        await rig.settle(2 * SWEEP_AFTER_SECONDS)
        assert total(rig) == 15

    spoken(story)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 70), min_size=1, max_size=10))
def test_a_budget_is_never_overspent_by_any_number_of_guardrails(seed: int, amounts: list[int]) -> None:
    async def story(rig: Rig) -> None:
        for number in range(3):
            await guardrail(rig, DAILY, instance=f"front-{number}", sweep=True)
        jobs = {f"j-{number}": amount for number, amount in enumerate(amounts)}
        await asyncio.gather(
            *(
                rig.publish(decided(job=job, slip=slip(job=job), ranking=(costs("a", amount),)))
                for job, amount in jobs.items()
            )
        )
        await rig.settle(60.0)
        rig.server.faults = Faults()
        await rig.settle(3 * SWEEP_AFTER_SECONDS)
        granted = [one for one in rig.stored(Granted) if one.verdict == "candidate"]
        assert len(rig.stored(Granted)) == len(jobs)
        assert sum(jobs[one.job] for one in granted) <= DAILY.limit
        assert total(rig) == sum(jobs[one.job] for one in granted)
        assert sorted(item.job for item in rig.stored(Work)) == sorted(one.job for one in granted)

    faults = Faults(delay_seconds=(0.0, 0.02), answer_lost=0.05, ack_lost=0.1, delivered_twice=0.2)
    spoken(story, seed=seed, faults=faults)
