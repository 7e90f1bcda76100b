"""The monitors' facts end: what is over goes from the server and from everybody who knew it, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail import fact_retention
from actors.guardrail.fact_retention import (
    IDLE_SECONDS,
    LOOK_SECONDS,
    NOTHING_SECONDS,
    ROW_SECONDS,
    FactRetention,
    fact_over_at,
    groups_of,
)
from actors.guardrail.ledger import Ledger
from actors.guardrail.monitor import Monitor
from actors.guardrail.retention import FOR_EVER, KEPT_SECONDS
from actors.guardrail.sweeper import Sweeper
from actors.journal import Journal
from actors.windows import span
from bus import codec
from bus.topology import DAY_SECONDS, MONITOR
from messages import (
    Backend,
    Breaker,
    BudgetState,
    Gpu,
    LatencyRow,
    Load,
    Message,
    ModelPrice,
    Preference,
    Spending,
    Stats,
    token,
)
from messages.fleet import Window
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import EXAMPLES, T0, backend

WINDOWS: tuple[Window, ...] = ("hour", "day", "week", "month", "total")


def counter(window: Window, at: float, holder: str = "acme") -> str:
    return f"ledger.tenant.{token(holder)}.requests.{token(span(window, at).name)}"


def spending(holder: str, at: float, window: Window = "day") -> Spending:
    return Spending(budget="daily", holder=holder, counter=counter(window, at, holder), at=at)


def row(tenant: str, at: float, in_row: int = 0) -> LatencyRow:
    return LatencyRow(target="slow", tenant=tenant, backend="a", model="m", in_row=in_row, at=at)


async def fact(rig: Rig, message: Message) -> None:
    await rig.bus.put_fact(message.subject, codec.encode(message))


@given(st.sampled_from(WINDOWS), st.floats(T0, T0 + 400 * DAY_SECONDS), st.floats(-100, 100))
def test_no_spending_is_over_before_its_counter_may_go(window: Window, at: float, later: float) -> None:
    ends, over = span(window, at).ends_at, fact_over_at(spending("acme", at, window), at + later)
    assert over == FOR_EVER if window == "total" else over >= ends + KEPT_SECONDS


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(0, 3))
def test_rows_go_by_what_was_written_last_and_open_ones_later(at: float, stored_at: float, in_row: int) -> None:
    over = fact_over_at(row("acme", at, in_row), stored_at)
    assert over == max(at, stored_at) + (ROW_SECONDS if in_row else KEPT_SECONDS)


@pytest.mark.parametrize(
    ("one", "seconds"),
    [
        (Stats(backend="a", model="m", scope="-", attempts=1, successes=1, at=T0), IDLE_SECONDS),
        (Gpu(host="h", index=0, at=T0), IDLE_SECONDS),
        (backend("a", slots=0), IDLE_SECONDS),
        (backend("a", slots=1), FOR_EVER),
        (Breaker(backend="a", model="m"), IDLE_SECONDS),
        (Breaker(backend="a", model="m", times_opened=1), FOR_EVER),
        (Breaker(backend="a", model="m", open_until=T0), FOR_EVER),
        (Breaker(backend="a", model="m", probe_job="j-1"), FOR_EVER),
        (Preference(tenant="acme", scope="tenant", at=T0), NOTHING_SECONDS),
        (Preference(tenant="acme", scope="tenant", allow_cloud=False, at=T0), FOR_EVER),
        (ModelPrice(seller="a", model="m", withdrawn=True, at=T0), NOTHING_SECONDS),
        (ModelPrice(seller="a", model="m", at=T0), FOR_EVER),
    ],
)
def test_what_says_nothing_any_more_goes_after_a_while_and_what_holds_stays(one: Message, seconds: float) -> None:
    assert fact_over_at(one, T0) == T0 + seconds


def test_all_other_facts_stay() -> None:
    known = Spending | LatencyRow | Stats | Gpu | Backend | Breaker | Preference | ModelPrice
    others = [one for one in EXAMPLES if not isinstance(one, known)]
    assert {fact_over_at(one, 0.0) for one in others} == {FOR_EVER}
    assert not [one for one in others if list(groups_of(one)) and not isinstance(one, BudgetState)]


def test_what_is_over_goes_here_and_there_and_what_is_not_stays() -> None:
    async def story(rig: Rig) -> None:
        host = await rig.host(room_of(Monitor, MONITOR))
        monitor: Any = host.rooms[0].actor
        now = rig.bus.now()
        for number in range(5):
            await fact(rig, spending(f"t{number}", now))
            await fact(rig, row(f"t{number}", now))
        await fact(rig, row("late", now, in_row=2))
        await fact(rig, spending("ever", now, "total"))
        await fact(rig, backend("a"))
        await rig.bus.put_fact("$KV.facts.spending.odd.one", b'{"budget": "odd"}')
        kept = FactRetention(Ledger(rig.bus))
        await rig.settle(KEPT_SECONDS + 3 * DAY_SECONDS)
        await fact(rig, spending("new", rig.bus.now()))
        await fact(rig, row("t0", now))  # Written again: its last call was good.
        await kept.clear(rig.bus.now())
        await rig.settle(1.0)
        subjects = {record.subject.removeprefix("$KV.facts.") for record in rig.server.log("KV_facts")}
        assert subjects == {
            "spending.daily.ever", "spending.daily.new", "spending.odd.one", "latency.slow.late.a.m", "latency.slow.t0.a.m",
            backend("a").subject.removeprefix("$KV.facts."),
        }  # fmt: skip
        assert {holder for _, holder in monitor._spending} == {"ever", "new"}
        assert {tenant for _, tenant, _, _ in monitor._rows} == {"late", "t0"}
        assert len(host.chain._facts) == len(host.voice.revisions) == 5
        await rig.settle(ROW_SECONDS)
        await kept.clear(rig.bus.now())
        await rig.settle(1.0)
        assert rig.stored(LatencyRow) == []
        assert monitor._rows == {}

    play(story)


def test_some_go_in_one_turn_and_the_rest_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_retention, "MOST_REMOVED", 7)

    async def story(rig: Rig) -> None:
        now = rig.bus.now()
        for number in range(10):
            await fact(rig, spending(f"t{number}", now))
            await fact(rig, row(f"t{number}", now))
        await rig.settle(12 * DAY_SECONDS)
        kept, left = FactRetention(Ledger(rig.bus)), list[int]()
        for _ in range(4):
            await kept.clear(rig.bus.now())
            left.append(len(rig.server.log("KV_facts")))
        assert left == [13, 6, 0, 0]
        await fact(rig, row("old", now - 30 * DAY_SECONDS))
        await rig.settle(10.0)
        await kept.clear(rig.bus.now() + KEPT_SECONDS)
        assert rig.stored(LatencyRow) == []

    play(story)


def test_a_load_goes_with_its_backend_and_never_before() -> None:
    async def story(rig: Rig) -> None:
        await fact(rig, Load(backend="idle", waiting=0, running=0, at=rig.bus.now()))
        await fact(rig, Load(backend="gone", waiting=0, running=0, at=rig.bus.now()))
        await fact(rig, backend("idle"))
        await fact(rig, backend("gone", slots=0))
        kept = FactRetention(Ledger(rig.bus))
        await rig.settle(IDLE_SECONDS + 10)
        for _ in range(2):
            await kept.clear(rig.bus.now())
            await rig.settle(LOOK_SECONDS + 1)
        assert [one.backend for one in (*rig.stored(Load), *rig.stored(Backend))] == ["idle", "idle"]

    play(story)


def stats(scope: str, model: str = "m") -> Stats:
    return Stats(backend="a", model=model, scope=scope, attempts=1, successes=1, at=T0)


def test_of_too_many_those_go_that_were_written_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_retention, "MOST_FACTS", 20)
    monkeypatch.setattr(fact_retention, "MOST_OF_ONE", 5)
    monkeypatch.setattr(fact_retention, "MOST_REMOVED", 16)

    async def story(rig: Rig) -> None:
        now = rig.bus.now()
        for number in range(30):
            await fact(rig, spending(f"t{number}", now))
            await fact(rig, row(f"t{number}", now))
            await fact(rig, stats(f"many/w{number}"))
            await fact(rig, Breaker(backend="a", model=f"m{number}", times_opened=number % 2))
            await fact(rig, Preference(tenant=f"t{number}", scope="tenant", allow_cloud=False))
        await fact(rig, stats("few/w"))
        await fact(rig, stats("-"))
        await fact(rig, spending("t0", now + 1))
        kept, left = FactRetention(Ledger(rig.bus)), list[int]()
        for _ in range(5):
            await kept.clear(rig.bus.now())
            left.append(len(rig.server.log("KV_facts")))
        assert left == [152 - 16, 152 - 32, 152 - 45, 152 - 45, 152 - 45]
        assert [one.holder for one in rig.stored(Spending)] == [*(f"t{number}" for number in range(11, 30)), "t0"]
        assert [one.tenant for one in rig.stored(LatencyRow)] == [f"t{number}" for number in range(10, 30)]
        assert [one.scope for one in rig.stored(Stats)] == [
            *(f"many/w{number}" for number in range(25, 30)),
            "few/w",
            "-",
        ]
        assert len(rig.stored(Breaker)) == len(rig.stored(Preference)) == 30, (
            "15 breakers are closed, and they may stay"
        )

    play(story)


def test_the_sweeper_sees_to_it() -> None:
    async def story(rig: Rig) -> None:
        await fact(rig, spending("acme", rig.bus.now()))
        await fact(rig, spending("ever", rig.bus.now(), "total"))
        await rig.settle(12 * DAY_SECONDS)
        await rig.host(room_of(lambda: Sweeper(journal=Journal(rig.bus), ledger=Ledger(rig.bus))))
        await rig.settle(30.0)
        assert [one.holder for one in rig.stored(Spending)] == ["ever"]

    play(story)


def test_what_was_written_since_it_was_read_stays() -> None:
    async def story(rig: Rig) -> None:
        ledger, old = Ledger(rig.bus), row("acme", 1.0)
        await fact(rig, old)
        (read,) = rig.records(LatencyRow)
        newer = row("acme", 2.0, in_row=1)
        await fact(rig, newer)
        await ledger.forget(read)
        assert rig.stored(LatencyRow) == [newer]

    play(story)


def test_what_was_emptied_by_one_that_died_goes_as_well() -> None:
    async def story(rig: Rig) -> None:
        now = rig.bus.now()
        await rig.bus.put_fact(row("acme", now).subject, b"")
        state = BudgetState(
            budget="b", holder="acme", counter=counter("hour", now), unit="requests", window="hour", spent=0, reserved=0,
            limit=1, at=now,
        )  # fmt: skip
        await rig.bus.put_fact(state.subject, b"")
        await Ledger(rig.bus).drop(state)
        kept = FactRetention(Ledger(rig.bus))
        await kept.clear(now)
        assert len(rig.server.log("KV_facts")) == 1, "somebody may be at it"
        await rig.settle(7200.0)
        await kept.clear(rig.bus.now())
        assert rig.server.log("KV_facts") == []

    play(story)


def test_a_monitor_forgets_what_is_deleted_but_not_what_is_newer() -> None:
    monitor, heard = Monitor(), Any
    old, new = spending("acme", T0), spending("acme", T0 + DAY_SECONDS)
    monitor.spending(new, heard)  # type: ignore[arg-type]
    monitor.forget(old)
    assert list(monitor._spending.values()) == [new]
    monitor.forget(new)
    assert monitor._spending == {}
    late = row("acme", T0, in_row=1)
    monitor.latency_row(late, heard)  # type: ignore[arg-type]
    monitor.forget(row("acme", T0))
    assert list(monitor._rows.values()) == [late]
    monitor.forget(late)
    assert monitor._rows == {}
