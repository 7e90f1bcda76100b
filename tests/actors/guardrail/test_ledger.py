from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.guardrail.ledger import Ledger, entry_of
from bus import codec
from bus.memory import ROUGH
from bus.topology import LEDGER
from messages import LedgerEntry, Reservation
from tests.actors.rig import Rig, play
from tests.messages.samples import T0

COUNTER = "ledger.tenant.acme.microdollars.total"


def held(amount: int, **changes: Any) -> tuple[Reservation, LedgerEntry]:
    reservation = Reservation(budget="b", subject=COUNTER, amount=amount, unit="microdollars")
    given: dict[str, Any] = {"tenant": "acme", "job": "j-1", "n": 1, "backend": "a", "model": "m", "at": T0}
    return reservation, entry_of(reservation, **{**given, **changes})


def total(rig: Rig) -> int:
    log = [record for record in rig.server.log("LEDGER") if record.subject == COUNTER]
    return int(msgspec.json.decode(log[-1].data)["val"]) if log else 0


def test_a_reservation_fits_or_holds_nothing() -> None:
    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        assert await ledger.reserve(*held(60), limit=100)
        assert not await ledger.reserve(*held(41, n=2), limit=100)
        assert total(rig) == 60
        assert await ledger.reserve(*held(40, n=3), limit=100)
        assert total(rig) == 100

    play(story)


def test_repeating_any_step_is_harmless() -> None:
    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        for _ in range(3):
            assert await ledger.reserve(*held(60), limit=100)
            assert not await ledger.reserve(*held(50, n=2), limit=100)
        assert total(rig) == 60
        for _ in range(3):
            await ledger.settle(held(60)[1], 25)
        assert total(rig) == 25

    play(story)


@pytest.mark.parametrize("first", ["release", "settle"])
def test_a_reservation_ends_once(first: str) -> None:
    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        reservation, entry = held(60)
        await ledger.reserve(reservation, entry, limit=100)
        for step in (first, "release", "settle"):
            await (ledger.release(entry) if step == "release" else ledger.settle(entry, 25))
        assert total(rig) == (0 if first == "release" else 25)

    play(story)


@pytest.mark.parametrize(
    "other", [{"tenant": "other"}, {"job": "j-2"}, {"n": 2}, {"backend": "b"}, {"model": "n"}], ids=str
)
def test_reservations_of_different_attempts_are_different(other: dict[str, Any]) -> None:
    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        await ledger.reserve(*held(60), limit=1000)
        await ledger.reserve(*held(30, **other), limit=1000)
        assert total(rig) == 90
        await ledger.release(held(60)[1])
        assert total(rig) == 30

    play(story)


def test_a_step_is_known_even_when_the_server_has_forgotten_its_id() -> None:
    """After a long outage everything is handled again, and nothing is counted twice."""

    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        reservation, entry = held(60)
        assert await ledger.reserve(reservation, entry, limit=100)
        await ledger.reserve(*held(30, n=2), limit=100)
        await rig.settle(LEDGER.duplicate_window_seconds + 60)
        assert await ledger.reserve(reservation, entry, limit=100)
        assert total(rig) == 90
        await ledger.settle(entry, 25)
        await rig.settle(LEDGER.duplicate_window_seconds + 60)
        await ledger.settle(entry, 25)
        await ledger.release(entry)
        assert total(rig) == 55

    play(story)


def test_names_with_slashes_do_not_meet() -> None:
    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        await ledger.reserve(*held(60, tenant="a/b", job="c"), limit=1000)
        await ledger.reserve(*held(30, tenant="a", job="b/c"), limit=1000)
        assert total(rig) == 90

    play(story)


def test_every_step_carries_its_entry() -> None:
    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        reservation, entry = held(60)
        await ledger.reserve(reservation, entry, limit=100)
        await ledger.settle(entry, 25)
        entries = [
            codec.decode(LedgerEntry, *codec.body_of(record.data, record.headers))
            for record in rig.server.log("LEDGER")
        ]
        assert [one.step for one in entries] == ["reserve", "settle"]
        assert entries[0] == msgspec.structs.replace(entry, limit=100)
        assert entries[1] == msgspec.structs.replace(entry, step="settle")

    play(story)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_a_limit_is_never_exceeded_under_any_concurrency(seed: int, amounts: list[int]) -> None:
    """Several guardrails at once, on a rough network: what is held and kept never exceeds the limit."""

    async def story(rig: Rig) -> None:
        kept: list[int] = []
        chance = random.Random(seed)

        async def one(number: int, amount: int) -> None:
            ledger = Ledger(await rig.server.connect(f"guardrail-{number}"))
            await asyncio.sleep(chance.random() / 50)
            if await ledger.reserve(*held(amount, job=f"j-{number}"), limit=100):
                kept.append(amount)

        await asyncio.gather(*(one(number, amount) for number, amount in enumerate(amounts)))
        assert sum(kept) <= 100
        assert total(rig) == sum(kept)

    play(story, seed=seed, faults=ROUGH)
