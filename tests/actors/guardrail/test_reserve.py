"""Reserving against an exact sequential model: reserve, settle, release, cancel, crash, rollover, limit change, in any order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.guardrail.budgets import Budgets, limit_of
from actors.guardrail.ledger import Ledger
from actors.guardrail.limits import holds
from actors.guardrail.reserve import Reserver, Tried
from actors.guardrail.settling import settle
from actors.guardrail.state import States
from actors.guardrail.sweeper import SWEEP_AFTER_SECONDS, Sweeper
from actors.journal import Journal
from actors.settings import Budget
from bus.bus import Bus, BusUnavailable, Record
from bus.memory import Faults
from messages import Attempted, Candidate, Decided, Granted, LedgerEntry, Price, Reservation, Room
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, attempted, candidate, decided, slip

NARROW = Budget(name="narrow", scope="user", unit="microdollars", limit=60)
WIDE = Budget(name="wide", scope="global", unit="microdollars", limit=100)
CALLS = Budget(name="calls", scope="tenant", unit="requests", window="total", limit=8)
BUDGETS = (NARROW, WIDE, CALLS)


class Fragile:
    """A bus whose additions stop at a chosen one: before it is stored, or after, when only the answer is lost."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.left: int | None = None
        self.stored = False

    def now(self) -> float:
        return self._bus.now()

    async def add(self, subject: str, amount: int, *, msg_id: str, headers: Mapping[str, str] | None = None) -> int:
        fails = self.left == 0
        if self.left is not None:
            self.left -= 1
        if fails and not self.stored:
            raise BusUnavailable("before")
        total = await self._bus.add(subject, amount, msg_id=msg_id, headers=headers)
        if fails:
            raise BusUnavailable("after")
        return total

    async def read(self, stream: str, pattern: str, *, from_seq: int = 1) -> AsyncIterator[Record]:
        async for record in self._bus.read(stream, pattern, from_seq=from_seq):
            yield record


class World:
    """The real ledger beside the model: what each counter must stand at, addition by addition."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.bus = Fragile(rig.bus)
        self.ledger = Ledger(self.bus)  # type: ignore[arg-type]
        self.budgets = Budgets(BUDGETS)
        self.limits = {budget.name: budget.limit for budget in BUDGETS}
        self.open: dict[str, tuple[Decided, tuple[Reservation, ...]]] = {}
        self.crashed: dict[str, Decided] = {}
        self.used: Counter[str] = Counter()
        """The model: what is admitted and spent on each counter."""
        self.swept: set[str] = set()

    def totals(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for record in self.rig.server.log("LEDGER"):
            found[record.subject] = int(msgspec.json.decode(record.data)["val"])
        return found

    def check(self) -> None:
        """What is admitted is really held; and nothing else is, unless a crash has left it behind."""
        totals = self.totals()
        for counter in {*totals, *self.used}:
            if self.swept:
                assert totals[counter] >= self.used[counter], f"{counter}: admitted, but not held"
            else:
                assert totals[counter] == self.used[counter], counter

    def fits(self, made: Decided, chosen: Candidate) -> bool:
        """The model's own word: whether everything fits now."""
        totals = self.totals() if self.swept else self.used
        for hold in holds(self.budgets.in_force, made.slip, chosen, made.at):
            if totals[hold.reservation.subject] + hold.reservation.amount > self.limits[hold.budget.name]:
                return False
        return True

    async def reserve(self, made: Decided) -> None:
        """One try, or another after a crash; the verdict is what decides for ever."""
        again = made.job in self.crashed
        chosen = made.ranking[0]
        expected = self.fits(made, chosen)
        reserver = Reserver(self.ledger, self.budgets, States(self.budgets))
        try:
            tried = await reserver.reserve(made, chosen)
        except BusUnavailable:
            self.crashed[made.job] = made
            self.swept.add(made.job)
            self.check()
            return
        self.crashed.pop(made.job, None)
        if not again:
            assert (not tried.why) == expected
        elif not tried.why:
            for reservation in tried.held:
                assert any(
                    record.subject == reservation.subject and self._is(record, made, reservation)
                    for record in self.rig.server.log("LEDGER")
                )
        if not tried.why:
            self.open[made.job] = (made, tried.held)
            for reservation in tried.held:
                self.used[reservation.subject] += reservation.amount
                if not again:
                    assert self.used[reservation.subject] <= self.limits[reservation.budget]
        await self.rig.publish(
            Granted(
                tenant="acme", job=made.job, n=1, verdict="refused" if tried.why else "candidate",
                backend="" if tried.why else "a", model="" if tried.why else "m", reserved=tried.held, at=made.at,
            )
        )  # fmt: skip
        self.check()

    @staticmethod
    def _is(record: Record, made: Decided, reservation: Reservation) -> bool:
        entry = msgspec.json.decode(record.headers["turnout-entry"], type=LedgerEntry)
        return (entry.job, entry.hold, entry.amount) == (made.job, reservation.hold, reservation.amount)

    async def end(self, job: str, **end: Any) -> None:
        """An attempt ends: finished, failed without a bill, or cancelled with what was billed."""
        made, held = self.open.pop(job)
        done: Attempted = attempted(job=job, reserved=held, at=made.at + 1, **end)
        await self.rig.publish(done)
        self.bus.left = None
        await settle(self.ledger, done)
        await settle(self.ledger, done)
        for reservation in held:
            used = reservation.amount if reservation.unit == "requests" else done.billed_microdollars
            self.used[reservation.subject] += (0 if done.outcome == "not_started" else used) - reservation.amount
        self.check()

    def set(self, budget: Budget, limit: int) -> None:
        """A limit is changed while running."""
        self.limits[budget.name] = limit
        assert self.budgets.learn(msgspec.structs.replace(limit_of(budget), limit=limit)) == ""


steps = st.one_of(
    st.tuples(st.just("reserve"), st.integers(0, 45), st.booleans(), st.booleans()),
    st.tuples(st.just("crash"), st.integers(0, 45), st.integers(0, 6), st.booleans()),
    st.tuples(st.just("raise"), st.integers(0, 45), st.integers(0, 6), st.booleans()),
    st.tuples(st.just("again"), st.integers(0, 9)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.floats(0, 1)),
    st.tuples(st.just("release"), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 9), st.floats(0, 1)),
    st.tuples(st.just("limit"), st.sampled_from(BUDGETS), st.sampled_from((0, 8, 60, 100, 10_000))),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=1, max_size=40))
def test_the_ledger_is_what_an_exact_sequential_model_says(walk: list[Any]) -> None:
    async def story(rig: Rig) -> None:
        world = World(rig)
        for number, (what, *given_with) in enumerate(walk):
            world.bus.left = None
            if what in ("reserve", "crash", "raise"):
                amount, place, rolled = given_with
                if what != "reserve":
                    world.bus.left, world.bus.stored = place, rolled
                    rolled = bool(number % 2)
                at = T0 + (86_400 if rolled else -1)
                job = f"j-{number}"
                chosen = candidate(worst_case_microdollars=amount)
                needs = {"user": ("ada", "bob", "")[number % 3]}
                made = decided(job=job, at=at, ranking=(chosen,), slip=slip(job=job, needs=needs))
                await world.reserve(made)
                if what == "raise" and made.job in world.crashed:  # Between the crash and the repetition.
                    before = world.limits["wide"]
                    world.set(WIDE, 10_000)
                    world.bus.left = None
                    await world.reserve(made)
                    world.set(WIDE, before)
            elif what == "again" and world.crashed:
                await world.reserve(list(world.crashed.values())[given_with[0] % len(world.crashed)])
            elif what in ("settle", "release", "cancel") and world.open:
                job = list(world.open)[given_with[0] % len(world.open)]
                _, held = world.open[job]
                most = max((one.amount for one in held if one.unit == "microdollars"), default=0)
                if what == "release":
                    await world.end(job, outcome="not_started")
                else:
                    outcome = "ok" if what == "settle" else "aborted"
                    await world.end(job, outcome=outcome, billed_microdollars=int(most * given_with[1]))
            elif what == "limit":
                world.set(*given_with)
        world.bus.left = None
        for made in list(world.crashed.values()):
            await world.reserve(made)
        for job in list(world.open):
            await world.end(job, outcome="ok", billed_microdollars=0)
        await rig.host(room_of(lambda: Sweeper(journal=Journal(rig.bus), ledger=Ledger(rig.bus))))
        await rig.settle(3 * SWEEP_AFTER_SECONDS)
        assert world.totals() == +world.used or +world.totals() == +world.used, "nothing has leaked"

    play(story)


def test_what_was_given_back_before_a_limit_was_raised_is_not_taken_for_held() -> None:
    """The trap: the server answers a repeated hold with the total of then, which fits the new limit."""

    async def story(rig: Rig) -> None:
        world = World(rig)
        made = decided(ranking=(candidate(worst_case_microdollars=70),), slip=slip(needs={"user": "ada"}))
        world.set(NARROW, 80)
        world.set(WIDE, 75)
        filler = decided(job="f", ranking=(candidate(worst_case_microdollars=50),), slip=slip(job="f"))
        await world.reserve(filler)
        await world.reserve(made)
        assert world.open.keys() == {"f"}
        world.set(WIDE, 130)
        tried = await Reserver(world.ledger, world.budgets, States(world.budgets)).reserve(made, made.ranking[0])
        assert not tried.why
        assert world.totals()["ledger.global.all.microdollars.day-20260101"] == 120

    play(story)


def test_room_that_is_found_after_giving_back_is_used() -> None:
    """While somebody's far too large hold is being returned, a small one is refused; and then it fits after all."""

    async def story(rig: Rig) -> None:
        world = World(rig)
        large = decided(job="large", ranking=(candidate(worst_case_microdollars=60),), slip=slip(job="large"))
        small = decided(job="small", ranking=(candidate(worst_case_microdollars=30),), slip=slip(job="small"))
        filler = decided(job="f", ranking=(candidate(worst_case_microdollars=50),), slip=slip(job="f"))
        await world.reserve(filler)
        both = [Reserver(Ledger(rig.bus), world.budgets, States(world.budgets)).reserve(made, made.ranking[0])
                for made in (large, small)]  # fmt: skip
        dear, cheap = await asyncio.gather(*both)
        assert (dear.why.partition(":")[0], cheap.why) == ("over budget (wide)", "")
        totals = world.totals()
        assert totals["ledger.global.all.microdollars.day-20260101"] == 80

    play(story, faults=Faults(delay_seconds=(0.001, 0.001)))


@pytest.mark.parametrize("unit", ["microdollars", "tokens", "requests", "gpu_milliseconds"])
@pytest.mark.parametrize("limit", [0, 1])
def test_nothing_admits_what_costs_nothing_alone(unit: Any, limit: int) -> None:
    async def story(rig: Rig) -> None:
        budgets = Budgets((Budget(unit=unit, limit=limit),))
        reserver = Reserver(Ledger(rig.bus), budgets, States(budgets))
        free = candidate(known={"local": unit != "gpu_milliseconds"})
        dear = candidate(worst_case_microdollars=2, worst_case_tokens=2)
        first = await reserver.reserve(decided(ranking=(free,)), free)
        assert bool(first.why) == (unit == "requests" and limit == 0)
        tried = await reserver.reserve(decided(n=2, ranking=(dear,)), dear)
        assert tried.why
        assert tried.over is not None
        assert tried.over.hopeless == (unit != "requests" or limit == 0)
        if tried.over.hopeless:
            assert rig.server.log("LEDGER") == [], "what can never fit is refused without touching a counter"

    play(story)


def test_an_unknown_price_is_no_price() -> None:
    async def story(rig: Rig) -> None:
        budgets = Budgets((Budget(limit=5),))
        chosen = candidate(known={"price": Price(unknown=True)})
        tried = await Reserver(Ledger(rig.bus), budgets, States(budgets)).reserve(decided(ranking=(chosen,)), chosen)
        assert tried == Tried(
            why="its price is unknown, and a budget limits dollars (global/microdollars/day)",
            budget="global/microdollars/day",
        )

    play(story)


PRICED: dict[str, Any] = {
    "known": {"price": Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)}, "max_output_tokens": 1_000,
    "worst_case_input_tokens": 500, "worst_case_tokens": 1_500, "worst_case_microdollars": 1_500,
}  # fmt: skip
"""About 10 tokens of input, 500 at most: 260 are the least that a shorter answer and a count make of it."""


@pytest.mark.parametrize("unit", ["tokens", "microdollars"])
@pytest.mark.parametrize(
    ("limit", "rooms", "softens"),
    [(1_499, (), True), (260, (), True), (259, (), False), (1_499, (1_499,), False), (1_499, (259,), True)],
)
def test_what_a_budget_leaves_is_told_and_whether_less_may_fit(
    unit: Any, limit: int, rooms: tuple[int, ...], softens: bool
) -> None:
    async def story(rig: Rig) -> None:
        budgets = Budgets((Budget(name="all", unit=unit, limit=limit, window="day"),))
        chosen = candidate(**PRICED)
        before = tuple(Room(backend="a", model="m", budget="all", unit=unit, left=left, limit=limit) for left in rooms)
        made = decided(ranking=(chosen,), rooms=before)
        tried = await Reserver(Ledger(rig.bus), budgets, States(budgets)).reserve(made, chosen)
        assert tried.over is not None
        assert (tried.over.hopeless, tried.over.softens) == (True, softens)
        (room,) = tried.rooms
        assert (room.backend, room.model, room.budget, room.unit) == ("a", "m", "all", unit)
        assert (room.left, room.limit, room.ends_at) == (limit, limit, T0 + 86_400)

    play(story)


def test_every_limit_that_is_too_small_is_told_at_once() -> None:
    async def story(rig: Rig) -> None:
        budgets = Budgets((
            Budget(name="dollars", limit=900, window="total"), Budget(name="tokens", unit="tokens", limit=800, window="total"),
            Budget(name="requests", unit="requests", limit=0, window="total"),
        ))  # fmt: skip
        chosen = candidate(**PRICED)
        tried = await Reserver(Ledger(rig.bus), budgets, States(budgets)).reserve(decided(ranking=(chosen,)), chosen)
        assert {(room.budget, room.left) for room in tried.rooms} == {("dollars", 900), ("tokens", 800)}

    play(story)


@pytest.mark.parametrize(("unit", "price", "refused"), [
    ("tokens", Price(), True), ("microdollars", Price(), False), ("microdollars", Price(per_request=5), False),
    ("microdollars", Price(input_per_mtok=5), True), ("requests", Price(input_per_mtok=5), False),
])  # fmt: skip
def test_what_nothing_bounds_is_refused_where_it_counts(unit: Any, price: Price, refused: bool) -> None:
    async def story(rig: Rig) -> None:
        budgets = Budgets((Budget(name="all", unit=unit, limit=10**9),))
        chosen = candidate(known={"price": price}, unbounded="a video")
        tried = await Reserver(Ledger(rig.bus), budgets, States(budgets)).reserve(decided(ranking=(chosen,)), chosen)
        assert ("nothing bounds a video" in tried.why) == refused

    play(story)
