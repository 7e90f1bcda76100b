"""The guardrail's budgets as processes hold them: limits changed while running, held jobs, states, and very many at once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.guardrail.actor import Guardrail
from actors.guardrail.ledger import Ledger
from actors.guardrail.state import DROP_AFTER_SECONDS
from actors.guardrail.sweeper import SWEEP_AFTER_SECONDS, Sweeper
from actors.guardrail.verdict import ROLLOVER_SECONDS
from actors.host import Host
from actors.journal import Journal
from actors.settings import BreakerRules, Budget, BudgetRules
from bus import codec
from bus.bus import Bus
from bus.jetstream import connect
from bus.memory import Faults
from bus.server import NatsServer
from bus.topology import GUARDRAIL_DECIDED, LEDGER, RESUME, SETTLE, topology
from messages import (
    Analyzed,
    BudgetsAre,
    BudgetsOf,
    BudgetState,
    Candidate,
    Decided,
    Done,
    Granted,
    Held,
    JobResume,
    LedgerEntry,
    Limit,
    Media,
    Price,
    Problem,
    Refused,
    Retry,
    Work,
)
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, attempted, candidate, decided, slip

OVER = Problem(reason="over_budget", message="a: over budget (x)")
DAILY = Budget(name="daily", scope="tenant", limit=100)


def costs(name: str = "a", amount: int = 60, **changes: Any) -> Candidate:
    return candidate(name, worst_case_microdollars=amount, worst_case_tokens=110, **changes)


def rooms_on(bus: Bus, budgets: tuple[Budget, ...], rules: BudgetRules | None, *, slots: int = 8) -> list[Any]:
    def made() -> Guardrail:
        return Guardrail(
            journal=Journal(bus), ledger=Ledger(bus), budgets=budgets, rules=BreakerRules(),
            budgeting=rules or BudgetRules(ceilings=False),
        )  # fmt: skip

    return [
        room_of(made, GUARDRAIL_DECIDED, SETTLE, RESUME, slots=slots),
        room_of(lambda: Sweeper(journal=Journal(bus), ledger=Ledger(bus))),
    ]


async def guardrail(rig: Rig, *budgets: Budget, rules: BudgetRules | None = None, instance: str = "front") -> Host:
    return await rig.host(*rooms_on(rig.bus, budgets, rules), instance=instance, hand_on=False)


async def judged(rig: Rig, made: Decided, seconds: float = 0.5) -> Granted:
    await rig.publish(made)
    await rig.settle(seconds)
    return next(one for one in rig.stored(Granted) if (one.job, one.n) == (made.job, made.n))


async def say(rig: Rig, limit: Limit) -> None:
    await rig.bus.put_fact(limit.subject, codec.encode(limit))
    await rig.settle(0.1)


def spoken(story: Any, **options: Any) -> None:
    play(story, rooms="apart", **options)


def one(job: str, **changes: Any) -> Decided:
    given: dict[str, Any] = {"ranking": (costs(),), "slip": slip(job=job)}
    return decided(**{"job": job, **given, **changes})


# Limits that change while running.


def test_a_limit_is_set_raised_and_removed_while_running() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig)
        limit = Limit(name="new", scope="tenant", limit=60, by="ada", at=T0)
        await say(rig, limit)
        assert (await judged(rig, one("j-1"))).verdict == "candidate"
        assert (await judged(rig, one("j-2"))).over == ("new",)
        await say(rig, msgspec.structs.replace(limit, limit=120))
        assert (await judged(rig, one("j-3"))).verdict == "candidate"
        assert (await judged(rig, one("j-4"))).verdict == "refused"
        await say(rig, msgspec.structs.replace(limit, removed=True))
        verdict = await judged(rig, one("j-5"))
        assert (verdict.verdict, verdict.reserved) == ("candidate", ())

    spoken(story)


def test_a_limit_that_can_not_be_meant_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="turnout.guardrail")

    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY)
        await say(rig, Limit(name="daily", scope="tenant", limit=10_000, time_zone="Mars"))
        assert (await judged(rig, one("j-1", ranking=(costs(amount=101),)))).verdict == "refused"
        assert "the budget daily is left as it was: time_zone is 'Mars'" in caplog.text

    spoken(story)


def test_a_guardrail_that_starts_anew_knows_the_limits_that_were_set() -> None:
    async def story(rig: Rig) -> None:
        await say(rig, Limit(name="daily", scope="tenant", limit=10))
        await guardrail(rig, DAILY)
        assert (await judged(rig, one("j-1"))).over == ("daily",)

    spoken(story)


def test_a_job_that_spans_the_rollover_is_settled_where_it_was_held() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, msgspec.structs.replace(DAILY, window="minute"))
        verdict = await judged(rig, one("j-1", at=T0 + 59))
        await rig.settle(60.0)
        await rig.publish(attempted(reserved=verdict.reserved, billed_microdollars=25, at=T0 + 61))
        await rig.settle()
        last = {record.subject: record.data for record in rig.server.log("LEDGER")}
        assert last == {"ledger.tenant.acme.microdollars.minute-20260101T0000": b'{"val":"25"}'}

    spoken(story)


# When everybody is over budget.


def test_the_next_window_is_waited_for() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(
            rig, DAILY, msgspec.structs.replace(DAILY, name="m", window="minute", on_all_over_budget="wait")
        )
        first = await judged(rig, one("j-0"))
        await rig.publish(attempted(job="j-0", reserved=first.reserved, billed_microdollars=60))
        await rig.settle(3.0)
        verdict = await judged(rig, one("j-1", n=2, cause=OVER))
        assert (verdict.when_over, verdict.room_at, verdict.over) == ("fail", 0.0, ("daily",))
        await say(rig, Limit(name="daily", removed=True))
        verdict = await judged(rig, one("j-2", n=2, cause=OVER))
        assert (verdict.when_over, verdict.room_at, verdict.over) == ("wait", T0 + 60, ("m",))
        (retry,) = rig.stored(Retry)
        assert (retry.job, retry.n) == ("j-2", 3)
        assert T0 + 60 + ROLLOVER_SECONDS <= retry.not_before <= T0 + 66 + ROLLOVER_SECONDS
        (done,) = rig.stored(Done)
        assert (done.job, done.ending, done.problem) == ("j-1", "failed", Problem(
            reason="over_budget", message="a/m: over budget (daily): may cost $0.000060 (input about 10 tokens, 0 at most; "
            "output at most 0), $0.000040 of $0.000100 left: raise it (`turnout budget raise daily`) or lower "
            "max_output_tokens"))  # fmt: skip

    spoken(story)


ASK = BudgetRules(on_all_over_budget="ask", ceilings=False)


def test_a_held_job_is_resumed_from_outside_into_its_next_round() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, rules=ASK)
        await judged(rig, one("j-1", ranking=(costs(amount=101),)))
        (held,) = rig.stored(Held)
        assert (held.n, held.budgets, held.cost_microdollars, held.until) == (1, ("daily",), 101, T0 + 600)
        assert rig.stored(Retry) == rig.stored(Done) == []
        for number in range(2):
            await rig.publish(JobResume(tenant="acme", job="j-1", by="ada"), msg_id=f"resume-{number}")
        await rig.settle()
        (retry,) = rig.stored(Retry)
        assert (retry.n, retry.cause.reason, retry.not_before) == (2, "resumed", 0.0)
        assert await rig.unacknowledged(RESUME) == 0
        await judged(rig, one("j-1", n=2, ranking=(costs(amount=102),)))
        assert [one.n for one in rig.stored(Held)] == [1, 2]
        await rig.publish(JobResume(tenant="acme", job="j-1"), msg_id="resume-3")
        await rig.settle()
        assert [retry.n for retry in rig.stored(Retry)] == [2, 3]

    spoken(story)


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_not_held_is_not_resumed(ended: bool) -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, rules=ASK)
        if ended:
            await judged(rig, one("j-1", ranking=(costs(amount=101),)))
            await rig.publish(Done(tenant="acme", job="j-1", ending="expired", at=T0))
        await rig.publish(JobResume(tenant="acme", job="j-1"))
        await rig.settle()
        assert rig.stored(Retry) == []
        assert await rig.unacknowledged(RESUME) == 0
        (refused,) = rig.stored(Refused)
        why = "it has ended (expired): nothing is left to resume." if ended else (
            "tenant 'acme' has no job of this id; the id is the one its events carry."
        )  # fmt: skip
        assert (refused.word, refused.problem.field, refused.problem.message) == (
            "resume",
            "job",
            f"job is 'j-1': {why}",
        )

    spoken(story)


def test_a_resume_of_a_job_that_waits_for_nobody_is_refused_and_one_that_comes_again_is_not() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, rules=ASK)
        await rig.publish(Analyzed(tenant="acme", job="j-1", fingerprint="f", slip=slip(), at=T0))
        await rig.publish(JobResume(tenant="acme", job="j-1"))
        await rig.settle()
        (refused,) = rig.stored(Refused)
        assert refused.problem.message == "job is 'j-1': it is not held: only a job that waits for a person is resumed."
        await judged(rig, one("j-1", ranking=(costs(amount=101),)))
        rig.server.faults = Faults(ack_lost=1.0)
        await rig.publish(JobResume(tenant="acme", job="j-1"), msg_id="resume-2")
        await rig.settle()
        await rig.publish(Done(tenant="acme", job="j-1", ending="succeeded", at=rig.bus.now()))
        await rig.settle(60.0)
        rig.server.faults = Faults()
        await rig.settle(60.0)
        assert len(rig.stored(Retry)) == 1
        assert rig.stored(Refused) == [refused], "it was followed the first time"
        assert await rig.unacknowledged(RESUME) == 0

    spoken(story)


def test_a_state_that_was_removed_is_folded_anew_when_its_budget_is_used_again() -> None:
    async def story(rig: Rig) -> None:
        hosts = [await guardrail(rig, DAILY), await guardrail(rig, DAILY, instance="other")]
        await judged(rig, one("j-1", ranking=(costs(amount=30),)))
        await rig.settle(2.0)
        (before,) = rig.records(BudgetState)[-1:]
        await Ledger(rig.bus).forget(before)
        await rig.settle(1.0)
        assert [host.rooms[0].actor.states._known for host in hosts] == [{}, {}]  # type: ignore[attr-defined]
        await judged(rig, one("j-2", ranking=(costs(amount=30),)))
        await rig.settle(2.0)
        state = rig.stored(BudgetState)[-1]
        assert (state.holder, state.reserved, state.spent) == ("acme", 60, 0)

    spoken(story)


def test_a_verdict_of_another_process_is_followed_though_the_settings_differ() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, rules=ASK)
        await rig.publish(
            Granted(tenant="acme", job="j-1", n=1, verdict="refused", when_over="fail", hopeless=True, at=T0)
        )
        await rig.publish(one("j-1", ranking=(costs(amount=101),)))
        await rig.settle()
        assert rig.stored(Held) == []
        assert [done.ending for done in rig.stored(Done)] == ["failed"]

    spoken(story)


# What is told.


def test_the_use_of_a_budget_is_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="turnout.guardrail")

    async def story(rig: Rig) -> None:
        for name in ("one", "two"):
            await guardrail(rig, msgspec.structs.replace(DAILY, limit=1000), instance=name)
        for number in range(14):
            await rig.publish(one(f"j-{number}"))
        await rig.settle(0.3)
        for number in range(3):
            verdict = next(g for g in rig.stored(Granted) if g.job == f"j-{number}")
            await rig.publish(attempted(job=f"j-{number}", reserved=verdict.reserved, billed_microdollars=20))
        await rig.settle(3.0)
        states = rig.stored(BudgetState)
        (state,) = {(s.spent, s.reserved, s.soft, s.limit) for s in states[-1:]}
        assert state == (60, 660, False, 1000)
        assert len(rig.records(BudgetState)) == 1, "a fact: its last value"
        before = rig.records(BudgetState)[0].seq
        await rig.settle(10.0)
        assert rig.records(BudgetState)[0].seq == before, "nothing is said while nothing changes"
        await judged(rig, one("dear", ranking=(costs(amount=200),)), 2.0)
        assert rig.stored(BudgetState)[0].soft
        assert "budget daily of acme: 920 of 1000 microdollars used" in caplog.text

    spoken(story)


def test_what_was_told_of_windows_that_are_over_is_dropped_everywhere() -> None:
    """Users are named by clients: what is told of each must end, and nothing of a window that lasts."""
    budgets = (
        Budget(name="users", scope="user", unit="requests", window="minute", limit=5),
        Budget(name="ever", scope="user", unit="requests", window="total", limit=5),
    )

    async def story(rig: Rig) -> None:
        hosts = [await guardrail(rig, *budgets, instance=name) for name in ("g1", "g2")]
        for number in range(150):
            await rig.publish(one(f"j-{number}", slip=slip(job=f"j-{number}", needs={"user": f"u-{number}"})))
        await rig.settle(10.0)
        assert len(rig.records(BudgetState)) == 300
        await rig.settle(60.0)
        await judged(rig, one("late", at=rig.bus.now(), slip=slip(job="late", needs={"user": "u-0"})), 3.0)
        await rig.settle(DROP_AFTER_SECONDS + 17.0)
        told = rig.stored(BudgetState)
        assert {state.budget for state in told if state.holder != "acme/u-0"} == {"ever"}
        assert {state.counter for state in told if state.holder == "acme/u-0"} == {
            "ledger.user.acme%2Fu-0.requests.minute-20260101T0001", "ledger.user.acme%2Fu-0.requests.total",
        }  # fmt: skip
        await rig.settle(120.0)
        assert {state.budget for state in rig.stored(BudgetState)} == {"ever"}
        assert len(rig.stored(BudgetState)) == 150
        for host in hosts:
            known = host.rooms[0].actor.states._known  # type: ignore[attr-defined]
            assert {budget for budget, _ in known} == {"ever"}
            facts = [fact for fact in host.chain._facts.values() if isinstance(fact, BudgetState)]
            assert {fact.budget for fact in facts} == {"ever"}
            assert len([subject for subject in host.voice.revisions if codec.type_at(subject) is BudgetState]) == 150
        await judged(rig, one("again", at=rig.bus.now(), slip=slip(job="again", needs={"user": "u-7"})), 3.0)
        assert sum(state.budget == "users" for state in rig.stored(BudgetState)) == 1

    spoken(story)


def test_what_is_in_force_can_be_asked() -> None:
    async def story(rig: Rig) -> None:
        await guardrail(rig, DAILY, Budget(name="other", limit=5))
        await say(rig, Limit(name="daily", scope="tenant", limit=200, by="ada", at=T0))
        await judged(rig, one("j-1", ranking=(costs(amount=5),)), 2.0)

        async def ask(name: str = "") -> BudgetsAre:
            data = await rig.bus.ask(BudgetsOf().subject, codec.encode(BudgetsOf(name=name)), timeout_seconds=1)
            return codec.decode(BudgetsAre, data)

        answer = await ask()
        assert [(limit.name, limit.limit, limit.by) for limit in answer.limits] == [
            ("daily", 200, "ada"),
            ("other", 5, ""),
        ]
        assert [(state.budget, state.holder, state.reserved) for state in answer.states] == [
            ("other", "all", 5), ("daily", "acme", 5),
        ]  # fmt: skip
        answer = await ask("daily")
        assert [limit.name for limit in answer.limits] == [state.budget for state in answer.states] == ["daily"]

    spoken(story)


# Very many at once.


def admitted(records: Any, limits: dict[str, int]) -> Counter[str]:
    """Replay the ledger, and check every event: what was admitted and not given back never exceeds a limit."""
    standing: Counter[str] = Counter()
    open_now: dict[tuple[Any, ...], int] = {}
    for record in records:
        entry = codec.decode(LedgerEntry, *codec.body_of(record.data, record.headers))
        total = int(msgspec.json.decode(record.data)["val"])
        key = (entry.counter, entry.job, entry.n, entry.backend, entry.hold)
        if entry.step == "reserve" and total <= entry.limit:
            standing[entry.counter] += entry.amount
            open_now[key] = entry.amount
            assert entry.limit == limits[entry.budget]
        elif entry.step != "reserve" and key in open_now:
            incr = int(record.headers["Nats-Incr"])
            standing[entry.counter] += incr
            del open_now[key]
        assert standing[entry.counter] <= limits[entry.budget], "spent + reserved exceed the limit"
    assert not open_now, "reservations have leaked"
    return standing


MEDIA = {"text": Media(), "image": Media(images=4, width=1024, height=1024), "video": Media(seconds=8.0)}
PRICES = {
    "text": Price(output_per_mtok=400_000_000), "image": Price(per_image=10_000), "video": Price(per_second=5_000),
}  # fmt: skip
"""Each kind of work is billed in its own way, and comes to the same worst case."""


@pytest.mark.parametrize("asset", ["text", "image", "video"])
def test_two_thousand_jobs_over_four_guardrails_against_a_budget_for_five_hundred(asset: str) -> None:
    """Exactly 500 run, every event of the ledger keeps the limit, and nothing is left when all have ended."""
    budgets = (
        Budget(name="all", limit=500 * 40_000, window="total"),
        Budget(name="users", scope="user", unit="requests", window="total", limit=130),
        Budget(name="backend", scope="backend", unit="tokens", window="total", limit=10**9),
    )

    async def story(rig: Rig) -> None:
        for number in range(4):
            bus = await rig.server.connect(f"guardrail-{number}")
            host = Host(bus, rooms_on(bus, budgets, None, slots=256), instance=f"g{number}", boot="b1", hand_on=False)
            await host.open()
            rig.hosts.append(host)
        job_needs = {"asset": asset, "capabilities": (asset,)} if asset != "text" else {}
        made_of = MEDIA[asset]
        price = PRICES[asset]
        worst = price.worst(10, 100, made_of)
        assert worst == 40_000, "the same budget for all kinds of work"
        jobs = [
            one(
                f"j-{n}", ranking=(costs("a", worst, known={"price": price}),), cause=OVER, n=2,
                slip=slip(job=f"j-{n}", needs={"user": f"u-{n % 5}", "media": made_of, **job_needs}),
            )
            for n in range(2000)
        ]  # fmt: skip
        await asyncio.gather(*(rig.publish(made) for made in jobs))
        await rig.settle(20.0)
        granted = [verdict for verdict in rig.stored(Granted) if verdict.verdict == "candidate"]
        assert len(rig.stored(Granted)) == 2000
        assert len(granted) == len(rig.stored(Work)) == 500
        waiting = rig.stored(Retry)
        assert (len(waiting), rig.stored(Done)) == (1500, []), "as long as nothing is settled there may be room"
        assert {retry.cause.reason for retry in waiting} == {"over_budget"}
        assert {one.kind for retry in waiting for one in retry.awaiting} == {"settlement"}
        for verdict in granted:
            await rig.publish(
                attempted(job=verdict.job, n=2, reserved=verdict.reserved, billed_microdollars=40_000, at=rig.bus.now())
            )
        await rig.settle(3 * SWEEP_AFTER_SECONDS)
        left = admitted(rig.server.log("LEDGER"), {budget.name: budget.limit for budget in budgets})
        assert left["ledger.global.all.microdollars.total"] == 500 * 40_000
        assert sum(left[f"ledger.user.acme%2Fu-{n}.requests.total"] for n in range(5)) == 500

    spoken(story, faults=Faults(delay_seconds=(0.0, 0.002)))


@pytest.mark.parametrize("seed", range(3))
def test_crashes_and_redeliveries_in_the_middle_leak_nothing(seed: int) -> None:
    budgets = (Budget(name="all", unit="requests", limit=50, window="total"), DAILY)

    async def story(rig: Rig) -> None:
        for number in range(4):
            bus = await rig.server.connect(f"guardrail-{number}")
            host = Host(bus, rooms_on(bus, budgets, None), instance=f"g{number}", boot="b1", hand_on=False)
            await host.open()
            rig.hosts.append(host)
        jobs = [one(f"j-{n}", ranking=(costs("a", 1),), slip=slip(job=f"j-{n}")) for n in range(200)]
        await asyncio.gather(*(rig.publish(made) for made in jobs))
        await rig.settle(0.02)
        await rig.hosts[0].close()  # In the middle of whatever it did.
        await rig.settle(60.0)
        rig.server.faults = Faults()
        await rig.settle(60.0)
        granted = [verdict for verdict in rig.stored(Granted) if verdict.verdict == "candidate"]
        assert len(rig.stored(Granted)) == 200
        assert len(granted) <= 50
        for verdict in granted:
            await rig.publish(attempted(job=verdict.job, reserved=verdict.reserved, billed_microdollars=1))
        await rig.settle(5 * SWEEP_AFTER_SECONDS)
        left = admitted(rig.server.log("LEDGER"), {"all": 50, "daily": 100})
        assert left["ledger.global.all.requests.total"] == len(granted)

    faults = Faults(delay_seconds=(0.0, 0.02), answer_lost=0.05, ack_lost=0.1, delivered_twice=0.2)
    spoken(story, seed=seed, faults=faults)


def test_the_same_on_a_real_server(tmp_path: Path) -> None:
    asyncio.run(_on_a_real_server(tmp_path))


async def _on_a_real_server(tmp_path: Path) -> None:
    budgets = (Budget(name="all", unit="requests", limit=60, window="total"),)
    async with NatsServer(tmp_path, port=0) as server:
        admin = await connect(server.url, name="admin")
        await admin.set_up(topology("apart"))
        hosts: list[Host] = []
        for number in range(4):
            bus = await connect(server.url, name=f"g{number}")
            hosts.append(
                Host(bus, rooms_on(bus, budgets, None, slots=64), instance=f"g{number}", boot="b1", hand_on=False)
            )
            await hosts[-1].open()
        now = admin.now()
        jobs = [
            one(f"j-{n}", n=2, cause=OVER, at=now, slip=slip(job=f"j-{n}", deadline_at=now + 600)) for n in range(240)
        ]
        await asyncio.gather(*(admin.publish(made.subject, codec.encode(made), msg_id=made.subject) for made in jobs))

        async def stored(kind: Any) -> list[Any]:
            found = [record async for record in admin.read(kind.channel.stream, kind.channel.pattern)]
            return [codec.decode(kind, record.data, record.headers) for record in found]

        async with asyncio.timeout(30):
            while len(await stored(Granted)) < 240 or len(await stored(Retry)) < 180:  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.1)
        granted = [verdict for verdict in await stored(Granted) if verdict.verdict == "candidate"]
        assert len(granted) == 60
        for verdict in granted:
            done = attempted(job=verdict.job, n=2, reserved=verdict.reserved, at=admin.now())
            await admin.publish(done.subject, codec.encode(done), msg_id=done.subject)
        async with asyncio.timeout(30):
            while True:
                records = [record async for record in admin.read(LEDGER.name, "ledger.>")]
                if sum(b'"settle"' in record.headers[codec.LEDGER_HEADER].encode() for record in records) == 60:
                    break
                await asyncio.sleep(0.1)
        assert admitted(records, {"all": 60})["ledger.global.all.requests.total"] == 60
        for host in hosts:
            await host.close()
            await host.bus.close()
        await admin.close()
