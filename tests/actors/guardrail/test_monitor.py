"""The monitor in its room, on the bus in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from actors.actor import Again, Heard, Stored
from actors.alert_settings import LatencyTarget
from actors.guardrail.monitor import ALL_SECONDS, MOST_BUDGETS, MOST_SAYINGS, MOST_SUBJECT, TELL_SECONDS, Monitor
from bus import codec
from bus.topology import MONITOR
from messages import Alert, Attempted, Breaker, BudgetState, LatencyRow, Reservation, Sample, Spending, token
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import attempted

TARGET = LatencyTarget(name="slow", model="m", target_seconds=2.0)
DAY = 86_400.0
COUNTER = "ledger.tenant.acme.microdollars.day-1"


def rung(targets: tuple[LatencyTarget, ...] = (TARGET,), **more: Any) -> Any:
    return room_of(lambda: Monitor(targets=targets, **more), MONITOR, slots=64)


def call(number: int, seconds: float, **changes: Any) -> Attempted:
    return attempted(job=f"j-{number}", latency_seconds=seconds, **changes)


def alerts(rig: Rig) -> list[tuple[str, str]]:
    return [(one.kind, one.job) for one in rig.stored(Alert)]


async def fact(rig: Rig, message: Any) -> None:
    await rig.bus.put_fact(message.subject, codec.encode(message))


def state(rig: Rig, spent: int, reserved: int = 0, **changes: Any) -> BudgetState:
    given: dict[str, Any] = {
        "budget": "daily", "holder": "acme", "counter": COUNTER, "unit": "microdollars", "window": "day", "spent": spent,
        "reserved": reserved, "limit": 1_000_000, "soft": spent + reserved >= 800_000, "began_at": rig.bus.now() - 10_000,
        "ends_at": rig.bus.now() - 10_000 + DAY, "at": rig.bus.now(),
    }  # fmt: skip
    return BudgetState(**{**given, **changes})


# Latency.


def test_each_late_call_is_a_warning_and_the_fourth_in_a_row_an_alert() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung())
        for number in range(1, 6):
            await rig.publish(call(number, 3.0))
            await rig.settle(0.5)
        await rig.publish(call(6, 1.0))
        await rig.publish(call(7, 3.0, model="other"))
        await rig.settle(2.0)
        assert alerts(rig) == [
            ("latency_warning", "j-1"), ("latency_warning", "j-2"), ("latency_warning", "j-3"), ("latency_alert", "j-4"),
        ]  # fmt: skip
        (row,) = [
            one
            for one in rig.stored(LatencyRow)
            if one.through_seq == max(r.through_seq for r in rig.stored(LatencyRow))
        ]
        assert row.in_row == 0
        assert await rig.unacknowledged(MONITOR) == 0

    play(story)


@pytest.mark.parametrize("after", range(1, 4))
def test_the_row_goes_on_over_a_restart(after: int) -> None:
    async def story(rig: Rig) -> None:
        first = await rig.host(rung(), instance="m1")
        for number in range(1, after + 1):
            await rig.publish(call(number, 3.0))
            await rig.settle(0.5)
        await first.close()
        for number in range(after + 1, 5):
            await rig.publish(call(number, 3.0))
        await rig.host(rung(), instance="m2")
        await rig.settle(20.0)
        assert [kind for kind, _ in alerts(rig)] == ["latency_warning"] * 3 + ["latency_alert"]

    play(story)


def test_many_at_once_over_two_monitors_are_told_once_each() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung(), instance="m1")
        await rig.host(rung(), instance="m2")
        for number in range(1, 5):
            await rig.publish(call(number, 3.0))
            await rig.settle(0.4)
        await rig.settle(30.0)
        assert [kind for kind, _ in alerts(rig)] == ["latency_warning"] * 3 + ["latency_alert"]
        assert await rig.unacknowledged(MONITOR) == 0

    play(story)


@pytest.mark.parametrize("point", ["before publish", "after publish", "before acknowledge"])
@pytest.mark.parametrize("when", range(8))
def test_no_alert_is_lost_or_doubled_whenever_a_monitor_dies(point: str, when: int) -> None:
    """It dies at every step boundary in turn; another one goes on."""

    class Died(Exception):
        pass

    async def story(rig: Rig) -> None:
        left = when

        async def boundary(at: str, what: str) -> None:
            nonlocal left
            if at == point:
                left -= 1
                if left == -1:
                    raise Died

        await rig.host(rung(), instance="m1", boundary=boundary)
        for number in range(1, 6):
            await rig.publish(call(number, 3.0))
            await rig.settle(0.5)
        await rig.hosts[0].close()
        await rig.host(rung(), instance="m2")
        await rig.settle(60.0)
        told = alerts(rig)
        assert len(told) == len(set(told))
        assert [kind for kind, _ in told].count("latency_alert") == 1
        # A call that was heard again after a later one is left out of the row.
        assert [kind for kind, _ in told].count("latency_warning") >= 2
        assert await rig.unacknowledged(MONITOR) == 0

    play(story)


async def steps_of(monitor: Monitor, event: Attempted, seq: int, answers: list[bool]) -> list[Any]:
    """What a run says, when the server's words are these."""
    steps: Any = monitor.attempted(event, Heard(now=1.0, seq=seq))
    said: list[Any] = []
    word: Stored | None = None
    try:
        while True:
            one = await steps.asend(word)
            said.append(one)
            ours = answers.pop(0) if isinstance(one, LatencyRow) and answers else True
            word = Stored(one, ours) if not isinstance(one, Again) else None
            if isinstance(one, LatencyRow) and ours:
                monitor.latency_row(one, Heard(now=1.0))
    except StopAsyncIteration:
        return said


def test_an_alert_that_died_with_its_monitor_is_said_before_its_row_is_replaced() -> None:
    monitor = Monitor(targets=(TARGET,))
    orphan = LatencyRow(
        target="slow", backend="a", model="m", through_seq=5, in_row=4, telling="alert", alerted_at=1.0, job="lost",
        target_seconds=2.0, measured_seconds=3.0, at=1.0,
    )  # fmt: skip
    monitor.latency_row(orphan, Heard(now=1.0))
    said = asyncio.run(steps_of(monitor, call(6, 1.0), 6, []))
    assert [type(one).__name__ for one in said] == ["Alert", "LatencyRow"]
    assert said[0].job == "lost"
    again = Monitor(targets=(TARGET,))
    again.latency_row(orphan, Heard(now=1.0))
    assert asyncio.run(steps_of(again, call(5, 3.0), 5, [])) == [said[0]]


def test_who_loses_ever_again_hears_the_call_a_second_later() -> None:
    said = asyncio.run(steps_of(Monitor(targets=(TARGET,)), call(1, 3.0), 1, [False] * 20))
    assert isinstance(said[-1], Again)
    assert not [one for one in said if isinstance(one, Alert)]


# Budgets.


def test_soft_and_hard_are_told_once_whoever_watches() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung(), instance="m1")
        await rig.host(rung(), instance="m2")
        await fact(rig, state(rig, 100_000))
        await rig.settle(10.0)
        assert rig.stored(Alert) == []
        await fact(rig, state(rig, 850_000))
        await rig.settle(30.0)
        await fact(rig, state(rig, 850_000, 150_000))
        await rig.settle(30.0)
        third = await rig.host(rung(), instance="m3")  # It learns the same facts, and finds it said.
        await rig.settle(30.0)
        assert sorted(one.kind for one in rig.stored(Alert)) == ["budget_hard", "budget_soft", "projection"]
        assert third.counts["monitor crashes"] == 0

    play(story)


def test_where_it_leads_is_told_once_a_minute_with_the_jobs_that_still_fit() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung())
        hold = Reservation(budget="daily", subject=COUNTER, amount=9_000, unit="microdollars")
        began = rig.bus.now()
        for number in range(40):
            await fact(rig, state(rig, 2_000 * number, began_at=began, ends_at=began + DAY))
            await rig.publish(call(number, 1.0, reserved=(hold,), billed_microdollars=2_000))
            await rig.settle(5.0)
        (last,) = rig.stored(Spending)
        assert rig.bus.now() - TELL_SECONDS - 5.0 <= last.at
        assert last.per_hour == pytest.approx(1_440_000, rel=0.1)
        assert last.projected == pytest.approx(34_560_000, rel=0.1)
        assert last.per_job == pytest.approx(2_000)
        assert last.per_hold == pytest.approx(9_000)
        assert last.jobs_left == pytest.approx((1_000_000 - 9_000 - last.samples[-1].spent) / 2_000, abs=3)
        assert last.breach_at > last.at
        assert {one.kind for one in rig.stored(Alert)} == {"burn_rate"}

    play(story)


def test_a_budget_that_stops_the_next_job_is_told_though_not_all_is_spent() -> None:
    """Jobs hold much more than they use: the next one is refused long before the last dollar is spent."""

    async def story(rig: Rig) -> None:
        await rig.host(rung())
        hold = Reservation(budget="daily", subject=COUNTER, amount=300_000, unit="microdollars")
        now = rig.bus.now()
        window: dict[str, Any] = {"began_at": now - 60, "ends_at": now - 60 + DAY}
        await fact(rig, state(rig, 0, **window))
        await rig.publish(call(1, 1.0, reserved=(hold,), billed_microdollars=2_000))
        await rig.settle(1.0)
        await fact(rig, state(rig, 750_000, **window))
        await rig.settle(10.0)
        (hard,) = [one for one in rig.stored(Alert) if one.kind == "budget_hard"]
        assert "has no room for another average job" in hard.text

    play(story)


def test_a_failed_attempt_says_nothing_about_the_next_one() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung())
        hold = Reservation(budget="daily", subject=COUNTER, amount=9_000, unit="microdollars")
        await fact(rig, state(rig, 0))
        await rig.publish(call(1, 1.0, outcome="executor_lost", reserved=(hold,), billed_microdollars=9_000))
        await rig.settle(70.0)
        assert [one.per_job for one in rig.stored(Spending)] == [None]

    play(story)


def test_whoever_starts_goes_on_from_what_was_told() -> None:
    """The first one has seen an hour; the second one, a minute later, knows of it."""

    async def story(rig: Rig) -> None:
        first = await rig.host(rung(), instance="m1")
        began = rig.bus.now()
        for number in range(30):
            await fact(rig, state(rig, 1_000 * number, began_at=began, ends_at=began + DAY))
            await rig.settle(20.0)
        await first.close()
        await rig.settle(30.0)
        second = await rig.host(rung(), instance="m2")
        await fact(rig, state(rig, 31_000, began_at=began, ends_at=began + DAY))
        await rig.settle(100.0)
        watching: Any = second.rooms[0].actor
        assert watching._spending["daily", "acme"].samples[0] == Sample(at=began, spent=0)
        assert len(rig.stored(Spending)[-1].samples) > 10

    play(story)


def test_what_was_used_while_nobody_looked_is_no_burst() -> None:
    """A monitor that was away for hours does not take all of it for a minute's use."""
    monitor, began = Monitor(), 1_000_000.0

    def at(seconds: float, spent: int) -> BudgetState:
        return BudgetState(
            budget="daily", holder="acme", counter=COUNTER, unit="microdollars", window="day", spent=spent, reserved=0,
            limit=1_000_000, began_at=began, ends_at=began + DAY, at=began + seconds,
        )  # fmt: skip

    told = Spending(budget="daily", holder="acme", counter=COUNTER, samples=(Sample(at=began, spent=0),), at=began + 60)
    monitor.spending(told, Heard(now=began))
    monitor.budget_state(at(7200, 300_000), Heard(now=began + 7200))
    said = monitor.look(Heard(now=began + 7205))
    assert not [one for one in said if isinstance(one, Alert) and one.kind == "burn_rate"]
    (spending,) = [one for one in said if isinstance(one, Spending)]
    assert spending.per_hour == pytest.approx(300_000 / 7205 * 3600)
    # The same the other way round: the state is heard before what was told.
    other = Monitor()
    other.budget_state(at(7200, 300_000), Heard(now=began + 7200))
    other.spending(told, Heard(now=began + 7200))
    assert other._spending["daily", "acme"].samples == (Sample(at=began + 7200, spent=300_000),)


def test_a_new_window_begins_at_nothing() -> None:
    monitor, began = Monitor(), 1_000_000.0
    base = BudgetState(
        budget="daily", holder="acme", counter=COUNTER, unit="microdollars", window="day", spent=900_000, reserved=0,
        limit=1_000_000, began_at=began, ends_at=began + DAY, at=began + DAY - 5,
    )  # fmt: skip
    monitor.budget_state(base, Heard(now=base.at))
    later = msgspec.structs.replace(
        base, counter="ledger.tenant.acme.microdollars.day-2", spent=700, began_at=began + DAY, ends_at=began + 2 * DAY,
        at=began + DAY + 9,
    )  # fmt: skip
    monitor.budget_state(later, Heard(now=later.at))
    assert monitor._spending["daily", "acme"].samples == (
        Sample(at=began + DAY, spent=0),
        Sample(at=began + DAY + 9, spent=700),
    )


def test_what_is_said_and_not_heard_is_said_a_few_times_and_no_more() -> None:
    monitor = Monitor()
    monitor.budget_state(
        BudgetState(
            budget="daily", holder="acme", counter=COUNTER, unit="microdollars", window="day", spent=10, reserved=0, limit=5,
            began_at=0.0, ends_at=DAY, at=50.0,
        ),
        Heard(now=50.0),
    )  # fmt: skip
    looks = {at: monitor.look(Heard(now=float(at))) for at in range(100, 20_000)}
    said = [(at, one) for at, ones in looks.items() for one in ones if isinstance(one, Alert)]
    first = [at for at, _ in said][:3]
    assert len(said) == MOST_SAYINGS
    assert len({one.subject for _, one in said}) == 1
    assert first[:2] == [100, 105]
    assert first[2] <= 105 + 30 + ALL_SECONDS
    heard = Monitor()
    heard.alert(said[0][1], Heard(now=1.0))
    heard.budget_state(monitor._states["daily", "acme"], Heard(now=50.0))
    assert not [one for one in heard.look(Heard(now=100.0)) if isinstance(one, Alert)]


def test_an_alert_is_not_lost_when_the_bus_is_away_for_minutes() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung())
        await fact(rig, state(rig, 850_000))
        await rig.server.restart(300.0)
        await rig.settle(1500.0)
        assert "budget_soft" in {one.kind for one in rig.stored(Alert)}

    play(story)


def test_names_that_are_too_long_for_a_subject_keep_no_other_alert() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung())
        for scope, holder in (
            ("tenant", "\N{SNOWMAN}" * 200),
            ("user", f"acme/{token('x' * 128)}"),
            ("user", "acme/ada"),
        ):
            counter = f"ledger.{scope}.{token(holder)}.microdollars.day-1"
            await fact(rig, state(rig, 850_000, budget=scope, holder=holder, counter=counter))
        await rig.settle(30.0)
        told = [one for one in rig.stored(Alert) if one.kind == "budget_soft"]
        assert len(told) == 2
        assert {one.tenant for one in told} == {"acme"}
        assert all(len(one.subject) <= MOST_SUBJECT for one in told)

    play(story)


def test_a_provider_that_costs_more_than_its_threshold_is_told() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung(thresholds={"openai": 100_000_000}))
        counter = "ledger.provider.openai.microdollars.month-202601"
        made = state(
            rig, 120_000_000, budget="billing-openai", holder="openai", counter=counter, window="month", limit=10**15
        )
        await fact(rig, made)
        await rig.settle(10.0)
        assert [(one.kind, one.limit) for one in rig.stored(Alert)] == [("billing", 100_000_000)]

    play(story)


def test_a_breaker_that_opens_is_told() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(rung())
        now = rig.bus.now()
        await fact(rig, Breaker(
            backend="a", model="m", opened_at=now, times_opened=1, open_until=now + 60, cause="failures", reason="timeouts",
        ))  # fmt: skip
        await rig.settle(20.0)
        assert [(one.kind, one.backend) for one in rig.stored(Alert)] == [("breaker_open", "a")]

    play(story)


def test_so_many_budgets_are_watched_and_the_idle_ones_seldom() -> None:
    monitor = Monitor()
    for number in range(MOST_BUDGETS + 10):
        made = BudgetState(
            budget="user", holder=f"u{number}", counter=f"ledger.user.u{number}.tokens.day-1", unit="tokens", window="day",
            spent=1, reserved=0, limit=100, began_at=0.0, ends_at=DAY, at=50.0,
        )  # fmt: skip
        monitor.budget_state(made, Heard(now=50.0))
    assert len(monitor._states) == len(monitor._spending) == MOST_BUDGETS
    assert len(monitor.look(Heard(now=1000.0))) == MOST_BUDGETS
    assert monitor.look(Heard(now=1000.0 + TELL_SECONDS)) == []
    assert len(monitor.look(Heard(now=1000.0 + ALL_SECONDS))) == MOST_BUDGETS


def test_limits_per_minute_are_not_watched() -> None:
    monitor = Monitor()
    made = BudgetState(
        budget="calls", holder="all", counter="ledger.global.all.requests.m", unit="requests", window="minute", spent=9,
        reserved=0, limit=9, began_at=0.0, ends_at=60.0, at=5.0,
    )  # fmt: skip
    monitor.budget_state(made, Heard(now=5.0))
    assert monitor.look(Heard(now=6.0)) == []
