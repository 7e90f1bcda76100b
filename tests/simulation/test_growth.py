"""No table grows with the names that clients give: all rooms at work, ever new names, and every container they hold counted.

Nobody lists the tables here: whatever the rooms, their host and their connection hold is walked. So a new table that is
never pruned fails this test on the day it is written.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import node
from actors.alert_settings import LatencyTarget
from actors.bounded import Bounded
from actors.guardrail import fact_retention, state
from actors.guardrail.budgets import Budgets
from actors.guardrail.ledger import Ledger
from actors.host import Host
from actors.settings import Budget, Settings
from actors.telemetry import actor as telemetry
from bus import codec
from bus.jetstream import connect
from bus.memory_server import Broker
from bus.server import NatsServer
from bus.simloop import SimFuture, SimLoop, SimTask
from messages import (
    Breaker,
    BudgetState,
    Done,
    ExecutorAlive,
    Gpu,
    JobRate,
    LatencyRow,
    Load,
    Message,
    Model,
    ModelPrice,
    Preference,
    Reservation,
)
from tests.actors.rig import Rig, play
from tests.messages.samples import PROBLEM, T0, attempted, backend

ROOMS = (
    "analyzer", "router", "parking", "guardrail", "breaker", "sweeper", "monitor", "registry", "drainer", "executor", "sensor",
    "telemetry", "explainer", "notifier",
)  # fmt: skip
NAMES = 120
MOST = 30
"""What every bound is for this test."""
SLACK = 25
"""How many rows a table may have more by chance: what waits to be told, or is in hand."""
OURS = ("actors", "bus", "messages")
STORED = (Broker, SimLoop, SimTask, SimFuture)
"""The server's twin, where what is stored goes by age, and the clock's."""


def tables(root: object) -> Counter[str]:
    """The lengths of all containers below an object, by where they lie: attributes by name, all elements of one alike."""
    sizes, seen = Counter[str](), set[int]()
    waiting: deque[tuple[str, Any]] = deque([(type(root).__name__, root)])
    while waiting:
        path, thing = waiting.popleft()
        if id(thing) in seen or isinstance(thing, str | bytes | int | float | type | None):
            continue
        seen.add(id(thing))
        if isinstance(thing, Mapping):
            sizes[path] += len(thing)
            waiting.extend((f"{path}[]", value) for value in thing.values())
        elif isinstance(thing, Sequence | AbstractSet):
            sizes[path] += len(thing)
            waiting.extend((f"{path}[]", value) for value in thing)
        else:
            waiting.extend((f"{path}.{name}", value) for name, value in attributes(thing))
    return sizes


def attributes(thing: object) -> Iterator[tuple[str, Any]]:
    """What one of our own objects holds; messages are values, and hold what they said."""
    if type(thing).__module__.partition(".")[0] not in OURS or isinstance(thing, (*STORED, Message)):
        return
    names = [*getattr(thing, "__dict__", {}), *(slot for kind in type(thing).__mro__ for slot in slots(kind))]
    for name in names:
        value = getattr(thing, name, None)
        if not callable(value) or isinstance(value, msgspec.Struct):
            yield name, value


def slots(kind: type) -> Sequence[str]:
    found: Any = getattr(kind, "__slots__", ())
    return (found,) if isinstance(found, str) else tuple(found)


async def fact(rig: Rig, message: Message) -> None:
    await rig.bus.put_fact(message.subject, codec.encode(message))


async def say(rig: Rig, name: str) -> None:
    """Everything the outside and the executors can say under a new name."""
    now = rig.bus.now()
    await rig.submit(
        f"t{name}", id="job", user=f"u{name}", workflow=f"w{name}", step="s", product=f"p{name}", batch=f"b{name}",
        recipe="", deadline_seconds=5.0,
    )  # fmt: skip
    await rig.submit(f"t{name}", id=f"odd{name}", model=f"no-model{name}", recipe=f"no-recipe{name}")
    for word, body in {"rate": codec.encode(JobRate(score=4.0, rater=name)), "cancel": b"{}", "resume": b"{}"}.items():
        for job in ("job", f"ghost{name}"):
            await rig.raw(f"job.{word}.t{name}.{job}", body)
    held = Reservation(
        budget="daily", subject=f"ledger.tenant.t{name}.microdollars.day-20261121", unit="microdollars", amount=9
    )
    for outcome in ("ok", "server_error"):
        who: dict[str, Any] = {"tenant": f"t{name}", "job": f"done-{outcome}", "workflow": f"w{name}", "step": "s"}
        await rig.publish(
            attempted(
                **who, outcome=outcome, model=f"m{name}", latency_seconds=90.0, reserved=(held,), at=now,
                problem=None if outcome == "ok" else PROBLEM,
            )
        )  # fmt: skip
    await rig.publish(Done(tenant=f"t{name}", job="done-ok", ending="succeeded", backend="a", model=f"m{name}", at=now))
    await fact(rig, backend(f"x{name}", slots=0, models=(Model(name=f"m{name}"),), at=now))
    await fact(rig, Load(backend=f"x{name}", waiting=0, running=0, loaded=(f"m{name}",), at=now))
    await fact(rig, Gpu(host=f"h{name}", index=0, at=now))
    await fact(rig, Breaker(backend=f"x{name}", model="*"))
    await fact(rig, ModelPrice(seller=f"x{name}", model=f"m{name}", withdrawn=True, at=now))
    preferred = Preference(tenant=f"t{name}", scope="tenant", allow_cloud=False, at=now)
    await fact(rig, preferred)
    await fact(rig, msgspec.structs.replace(preferred, allow_cloud=None))
    alive = ExecutorAlive(instance=f"e{name}", boot="b", number=1, at=now)
    await rig.bus.signal(alive.subject, codec.encode(alive))


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bound and every wait so small that a hundred names are many."""
    made = Bounded.__init__

    def smaller(self: Any, most: int, *more: Any) -> None:
        made(self, min(most, MOST), *more)

    monkeypatch.setattr(Bounded, "__init__", smaller)
    for name in ("IDLE_SECONDS", "NOTHING_SECONDS", "MARKER_SECONDS", "LOOK_SECONDS", "ROW_SECONDS"):
        monkeypatch.setattr(fact_retention, name, 4.0)
    monkeypatch.setattr(fact_retention, "MOST_FACTS", MOST)
    monkeypatch.setattr(fact_retention, "MOST_OF_ONE", MOST)
    monkeypatch.setattr(telemetry, "MOST_OF_ONE", MOST)
    monkeypatch.setattr(state, "TELL_EVERY_SECONDS", 0.1)
    monkeypatch.setattr("actors.roster.FORGET_SECONDS", 20.0)


def test_no_table_grows_with_names(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    settings = Settings(
        latency_targets=(LatencyTarget(name="slow", step="s", target_seconds=1.0),),
        budgets=(
            Budget(name="daily", scope="tenant", limit=1_000_000), Budget(name="minutely", scope="user", window="minute",
            limit=50, unit="requests"), Budget(name="monthly", scope="workflow", window="month", limit=10_000, unit="tokens"),
        ),
    )  # fmt: skip
    found: list[Counter[str]] = []

    async def story(rig: Rig) -> None:
        bus = await rig.server.connect("all")

        async def here(call: Any) -> Any:
            return call()

        host = Host(bus, node.build(ROOMS, bus, settings, offload=here), instance="all", boot="b1")
        await host.open()
        rig.hosts.append(host)
        await fact(rig, backend("a", slots=4))
        for part in range(2):
            for number in range(NAMES):
                await say(rig, f"{part}-{number}")
                await asyncio.sleep(0.2)
            await rig.settle(60.0)
            sizes = tables(host)
            sizes["stored facts"] = len(rig.server.log("KV_facts"))
            found.append(sizes)
        assert not [name for name in host.counts if name.endswith("crashes")]
        assert host.counts["analyzer.job_submit"] >= 4 * NAMES

    play(story)
    before, after = found
    grown = {path: (before[path], size) for path, size in after.items() if size > before[path] + SLACK}
    assert grown == {}


@pytest.mark.parametrize("found", [("Host.chain._facts", "Host.voice.revisions", "Host.rooms[].actor.states._known")])
def test_the_walk_reaches_what_the_host_and_the_rooms_hold(found: tuple[str, ...]) -> None:
    async def story(rig: Rig) -> None:
        bus = await rig.server.connect("all")
        host = Host(bus, node.build(("guardrail",), bus, Settings()), instance="all", boot="b1")
        await host.open()
        rig.hosts.append(host)
        for number in range(3):
            await fact(rig, told(f"t{number}", T0))
        await rig.settle()
        assert {path: tables(host)[path] for path in found} == dict.fromkeys(found, 3)

    play(story)


def test_a_million_tenants_wait_for_no_more_than_the_bound() -> None:
    states = state.States(Budgets((Budget(name="daily", scope="tenant", limit=100),)))
    for number in range(1_000_000):
        states.touch("daily", f"ledger.tenant.t{number}.microdollars.day-20261121", T0)
    assert len(states._touched) == state.MOST_TOUCHED
    due = states.due(T0 + 1)
    assert [place.holder for place in due] == [f"t{1_000_000 - state.MOST_TOUCHED + number}" for number in range(64)]
    assert max(tables(states).values()) == state.MOST_TOUCHED


def told(holder: str, at: float) -> BudgetState:
    return BudgetState(
        budget="daily", holder=holder, counter=f"ledger.tenant.{holder}.microdollars.total", unit="microdollars",
        window="total", spent=5, reserved=0, limit=100, at=at,
    )  # fmt: skip


async def until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


def test_thousands_of_tenants_leave_a_bounded_number_of_facts_on_a_real_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_retention, "MOST_FACTS", 200)
    tenants = 3_000

    async def main() -> tuple[int, Counter[str], Counter[str], list[str]]:
        async with NatsServer(tmp_path) as server:
            bus = await connect(server.url, name="front")
            await node.set_up(bus, Settings())
            host = Host(
                bus,
                node.build(("router", "guardrail", "telemetry"), bus, Settings()),
                instance="one",
                boot="b",
            )
            await host.open()
            for first in range(0, tenants, 100):
                names = [f"t{number}" for number in range(first, first + 100)]
                facts = [
                    *(told(name, bus.now()) for name in names),
                    *(LatencyRow(target="slow", tenant=name, backend="a", model="m", at=bus.now()) for name in names),
                ]
                await asyncio.gather(*(bus.put_fact(one.subject, codec.encode(one)) for one in facts))
            await until(
                lambda: len(host.chain._facts) == 2 * tenants + 1
            )  # And one that says how the rooms are arranged.
            full = tables(host)
            kept = fact_retention.FactRetention(Ledger(bus))
            for _ in range(2 * tenants // fact_retention.MOST_REMOVED + 1):
                await kept.clear(bus.now())
                kept = fact_retention.FactRetention(Ledger(bus))
            await until(lambda: len(host.chain._facts) == 401)
            left = [record.subject async for record in bus.read("KV_facts", "$KV.facts.budget.>")]
            stored = len([record async for record in bus.read("KV_facts", "$KV.facts.latency.>")]) + len(left)
            small = tables(host)
            await host.close()
            await bus.close()
            return stored, full, small, left

    stored, full, small, left = asyncio.run(main())
    assert full["Host.chain._facts"] == 2 * tenants + 1
    assert stored + 1 == small["Host.chain._facts"] == small["Host.voice.revisions"] == 401
    assert left == [f"$KV.facts.budget.daily.t{number}" for number in range(tenants - 200, tenants)], "the latest stay"
    assert {path: size for path, size in small.items() if size > 401} == {}
