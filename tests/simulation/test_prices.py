"""Prices change while jobs run, and every micro-dollar is right: what is held keeps its price, what comes after uses the new one.

Events, attempts and the ledger are compared with sums that are made here, by hand, from tokens and prices.
"""

from __future__ import annotations

import asyncio
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

import pytest

from actors.settings import Budget, BudgetRules, JobSettings, Settings
from bus import codec, simloop
from messages import Attempted, Decided, Done, Granted, LedgerEntry, ModelPrice, Price, Work
from scenarios.backends import Call, Script
from scenarios.world import Spec, World, offer

OLD = Price(input_per_mtok=1_000_001, output_per_mtok=3_333_333, per_request=7)
NEW = Price(input_per_mtok=2_500_003, output_per_mtok=9_999_999, per_request=11)
LATER = Price(input_per_mtok=1, output_per_mtok=2)
JOBS = 60
READ, WRITTEN = 5, 4
"""Tokens that a scripted backend says it used."""
COUNTER = "ledger.tenant.acme.microdollars.total"


def exactly(price: Price, read: int, written: int) -> int:
    """The price of a call by exact arithmetic, rounded up once."""
    sums = Fraction(read * price.input_per_mtok + written * price.output_per_mtok, 1_000_000)
    return ceil(sums) + price.per_request


class Told:
    """What a run left behind."""

    def __init__(self, world: World) -> None:
        self.world = world

    def all(self, kind: Any) -> dict[Any, Any]:
        found = [(r, codec.type_at(r.subject)) for r in self.world.log(kind.channel.stream)]
        messages = [codec.decode(kind, r.data, r.headers) for r, of in found if of is kind]
        return {(m.job, getattr(m, "n", 0)): m for m in messages}

    def entries(self) -> list[tuple[LedgerEntry, int, float]]:
        return [
            (codec.decode(LedgerEntry, *codec.body_of(r.data, r.headers)), int(r.headers["Nats-Incr"]), r.time)
            for r in self.world.log("LEDGER")
            if r.subject == COUNTER
        ]


def write(call: Call) -> Script:
    """Some take so long that the price has changed when they end; some fail first, and are tried again later."""
    number = int(call.job[1:])
    if number % 7 == 0 and call.n == 1:
        return Script(fate="cut", seconds=6.0)
    return Script(seconds=9.0 if number % 3 else 1.0)


async def story(world: World, works: dict[Any, Work]) -> None:
    offered = offer("X", slots=20, price=1)
    await world.open({"front-1": Spec(("front",)), "front-2": Spec(("front",)), "registry-1": Spec(("registry",)),
                      "x1": Spec(("executor",), (offered,))})  # fmt: skip
    await world.client.subscribe("work.>", lambda signal: keep(works, signal))  # type: ignore[union-attr]
    await world.fact(ModelPrice(seller="X", model="m", price=OLD, at=1.0))
    await asyncio.sleep(2.0)
    for number in range(JOBS):
        await world.submit(f"j{number}", max_output_tokens=100)
        await asyncio.sleep(0.4)
        if number == JOBS // 3:
            await world.fact(ModelPrice(seller="X", model="m", price=NEW, at=2.0))
        elif number == 2 * JOBS // 3:
            await world.fact(ModelPrice(seller="X", model="m", price=LATER, at=3.0))
    assert await world.until_done([f"j{number}" for number in range(JOBS)], 200.0)
    await asyncio.sleep(5.0)


async def keep(works: dict[Any, Work], signal: Any) -> None:
    work = codec.decode(Work, signal.data, signal.headers)
    works[work.job, work.n] = work


@pytest.fixture(scope="module", name="played")
def _played() -> tuple[Told, dict[Any, Work]]:
    works: dict[Any, Work] = {}

    async def main() -> World:
        settings = Settings(
            jobs=JobSettings(deadline_seconds=600.0), budgeting=BudgetRules(ceilings=False),
            budgets=(Budget(name="acme", scope="tenant", window="total", limit=10**9),),
        )  # fmt: skip
        world = World(seed=1, settings=settings, write=write)
        await story(world, works)
        await world.close()
        return world

    return Told(simloop.run(main(), seed=1)), works


def test_what_is_held_keeps_its_price_and_what_comes_after_uses_the_new_one(played: Any) -> None:
    told, works = played
    attempts, granted, decided = told.all(Attempted), told.all(Granted), told.all(Decided)
    assert set(attempts) == set(works)
    prices = [works[key].price for key in sorted(works, key=lambda key: granted[key].at)]
    changes = [price for price, after in pairwise(prices) if price != after]
    assert [price.per_request for price in dict.fromkeys(prices)] == [7, 11, 0], "each price once, in order"
    assert len(changes) == 2, "nobody goes back to an older price"
    for key, work in works.items():
        # The worst case of the decision is what is held, at the price that the work carries on.
        (held,) = granted[key].reserved
        chosen = decided[key].ranking[0]
        assert chosen.worst_case_input_tokens > work.slip.needs.input_tokens
        most = exactly(work.price, chosen.worst_case_input_tokens, work.max_output_tokens)
        assert held.amount == work.worst_case_microdollars == most
        assert attempts[key].reserved == granted[key].reserved


def test_attempts_that_ran_over_a_change_are_billed_at_their_own_price(played: Any) -> None:
    told, works = played
    spanning = 0
    changed = [told.all(Granted)[key].at for key, work in works.items() if work.price.per_request != 7]
    for key, attempted in told.all(Attempted).items():
        price = works[key].price
        spanning += price.per_request == 7 and attempted.at > min(changed)
        if attempted.outcome == "ok":
            assert attempted.billed_microdollars == exactly(price, READ, WRITTEN)
        else:
            # Nobody knows what it went on to make: all that was held for it counts.
            assert attempted.billed_microdollars == works[key].worst_case_microdollars
    assert spanning > 5


def test_a_retry_is_decided_at_the_price_of_its_own_time(played: Any) -> None:
    told, works = played
    moved = [job for job, n in works if n == 2 and works[job, 1].price != works[job, 2].price]
    assert moved, "some failed before a change and were tried again after it"
    for job in moved:
        done = told.all(Done)[job, 0]
        assert [one.billed_microdollars for one in done.attempts] == [
            told.all(Attempted)[job, n].billed_microdollars for n in (1, 2)
        ]


def test_the_ledger_the_attempts_and_the_ends_come_to_the_same_sum(played: Any) -> None:
    told, works = played
    attempts = told.all(Attempted)
    billed = sum(one.billed_microdollars for one in attempts.values())
    by_hand = 0
    for key, attempted in attempts.items():
        whole = attempted.outcome == "ok"
        by_hand += exactly(works[key].price, READ, WRITTEN) if whole else works[key].worst_case_microdollars
    assert billed == by_hand
    assert sum(done.cost_microdollars for done in told.all(Done).values()) == billed
    assert sum(amount for _, amount, _ in told.entries()) == billed
    held = {}
    for entry, amount, _ in told.entries():
        if entry.step == "reserve":
            held[entry.job, entry.n] = amount
        else:
            assert amount == attempts[entry.job, entry.n].billed_microdollars - held.pop((entry.job, entry.n))
    assert held == {}
