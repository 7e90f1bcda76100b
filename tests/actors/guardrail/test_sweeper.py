"""The sweeper follows the ledger's tail: what leaks is returned, whoever dies, and what ends by itself costs nothing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.guardrail import sweeper as sweepers
from actors.guardrail.ledger import Ledger, entry_of
from actors.guardrail.sweeper import MARK, SWEEP_AFTER_SECONDS, TAKE_OVER_SECONDS, Following, Mark, Sweeper
from actors.journal import Journal
from bus.memory import Faults, MemoryBus
from messages import Granted, LedgerEntry, Reservation
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, attempted

COUNTER = "ledger.tenant.acme.requests.total"


class Watched(Journal):
    """Counts how often it is asked."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.bus = bus
        """The one connection of its sweeper."""
        self.asked: Counter[str] = Counter()

    async def granted(self, tenant: str, job: str, n: int) -> Granted | None:
        self.asked[job] += 1
        return await super().granted(tenant, job, n)


async def start(rig: Rig, name: str = "one", boot: str = "b1") -> Watched:
    bus = await rig.server.connect(name)
    journal = Watched(bus)
    await rig.host(room_of(lambda: Sweeper(journal=journal, ledger=Ledger(bus))), instance=name, boot=boot)
    return journal


def hold(job: str, counter: str = COUNTER, amount: int = 1) -> tuple[Reservation, LedgerEntry]:
    reservation = Reservation(budget="b", subject=counter, amount=amount, unit="requests", hold="h")
    return reservation, entry_of(reservation, tenant="acme", job=job, n=1, backend="a", model="m", at=T0)


async def verdict(rig: Rig, job: str, *held: Reservation) -> None:
    await rig.publish(
        Granted(
            tenant="acme", job=job, n=1, verdict="candidate" if held else "void", backend="a" if held else "",
            model="m" if held else "", reserved=held, at=T0,
        )
    )  # fmt: skip


def total(rig: Rig, counter: str = COUNTER) -> int:
    log = [record for record in rig.server.log("LEDGER") if record.subject == counter]
    return int(msgspec.json.decode(log[-1].data)["val"]) if log else 0


def test_what_ends_by_itself_is_never_compared() -> None:
    async def story(rig: Rig) -> None:
        journal = await start(rig)
        ledger = Ledger(rig.bus)
        for number in range(300):
            await ledger.reserve(*hold(f"j-{number}"), limit=1000)
            await (ledger.settle(hold(f"j-{number}")[1], 1) if number % 2 else ledger.release(hold(f"j-{number}")[1]))
        await ledger.reserve(*hold("leaked"), limit=1000)
        await verdict(rig, "leaked")
        await rig.settle(3 * SWEEP_AFTER_SECONDS)
        assert total(rig) == 150
        assert set(journal.asked) == {"leaked"}
        assert journal.asked["leaked"] == 1

    play(story)


def test_long_running_work_does_not_keep_it_from_what_leaked_behind_it() -> None:
    """More open holds than any consumer would have in flight: each is looked at once a minute, and no more."""

    async def story(rig: Rig) -> None:
        journal = await start(rig)
        ledger = Ledger(rig.bus)

        async def long(number: int) -> None:
            held, entry = hold(f"j-{number}")
            await ledger.reserve(held, entry, 100_000)
            await verdict(rig, f"j-{number}", held)

        await asyncio.gather(*(long(number) for number in range(6000)))
        await ledger.reserve(*hold("leaked"), limit=100_000)
        await verdict(rig, "leaked")
        await rig.settle(SWEEP_AFTER_SECONDS + 10.0)
        assert total(rig) == 6000
        assert max(journal.asked.values()) == 1
        await rig.settle(SWEEP_AFTER_SECONDS)
        assert max(journal.asked.values()) == 2

    play(story)


def test_another_takes_over_where_the_first_one_died_and_only_then() -> None:
    async def story(rig: Rig) -> None:
        first = await start(rig, "first")
        await rig.settle(1.0)
        second = await start(rig, "second")
        ledger = Ledger(rig.bus)
        held, entry = hold("long")
        await ledger.reserve(held, entry, 100)
        await verdict(rig, "long", held)
        await rig.settle(SWEEP_AFTER_SECONDS + 10.0)
        for number in range(50):
            await ledger.reserve(*hold(f"j-{number}"), limit=100)
            await ledger.settle(hold(f"j-{number}")[1], 1)
        await ledger.reserve(*hold("leaked"), limit=100)
        await verdict(rig, "leaked")
        await rig.settle(10.0)
        assert (set(first.asked), set(second.asked)) == ({"long"}, set())
        mark = await ledger.mark(MARK, Mark)
        assert mark is not None
        assert mark.by == "first b1"
        assert len(mark.old) == 1
        assert mark.from_seq == rig.server.log("LEDGER")[-1].seq, "what has ended is not read again"
        first.bus.crash()
        await rig.settle(SWEEP_AFTER_SECONDS + TAKE_OVER_SECONDS + 15.0)
        assert set(second.asked) == {"long", "leaked"}
        assert total(rig) == 51
        await rig.publish(attempted(job="long", reserved=(held,), outcome="not_started"))
        await rig.settle(2 * SWEEP_AFTER_SECONDS)
        assert total(rig) == 50

    play(story)


def test_a_lost_or_foreign_mark_begins_anew() -> None:
    async def story(rig: Rig) -> None:
        await Ledger(rig.bus).reserve(*hold("leaked"), limit=100)
        await verdict(rig, "leaked")
        await rig.bus.put_object(MARK, b"\xff not a mark")
        await start(rig)
        await rig.settle(2 * SWEEP_AFTER_SECONDS)
        assert total(rig) == 0

    play(story)


def test_it_reads_on_in_turns_and_compares_only_once_it_has_read_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweepers, "MOST_READ", 20)

    async def story(rig: Rig) -> None:
        ledger = Ledger(rig.bus)
        for number in range(95):
            await ledger.reserve(*hold(f"j-{number}"), limit=1000)
        for number in range(94):
            await ledger.settle(hold(f"j-{number}")[1], 1)
        await rig.settle(SWEEP_AFTER_SECONDS)
        await verdict(rig, "j-94")
        journal = await start(rig)
        await rig.settle(60.0)
        assert set(journal.asked) == {"j-94"}
        assert total(rig) == 94

    play(story)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_dies_nothing_leaks_and_nothing_is_returned_that_runs(seed: int) -> None:
    """Three sweepers that die and freeze, on a rough network, while holds come and end."""

    async def story(rig: Rig) -> None:
        chance = random.Random(seed)
        journals = [await start(rig, f"s{number}") for number in range(3)]
        ledger, runs, leaks, over = Ledger(rig.bus), dict[str, Reservation](), 0, 0
        for number in range(60):
            job = f"j-{number}"
            held, entry = hold(job)
            await ledger.reserve(held, entry, 1000)
            fate = chance.choice(("ends", "leaks", "runs", "unsettled"))
            await verdict(rig, job, *(() if fate == "leaks" else (held,)))
            if fate == "ends":
                await ledger.settle(entry, 1)
                over += 1
            elif fate == "runs":
                runs[job] = held
            elif fate == "unsettled":
                await rig.publish(attempted(job=job, reserved=(held,)))
                over += 1
            leaks += fate == "leaks"
            await rig.settle(chance.random() * 6)
            if chance.random() < 0.1:
                victim = chance.randrange(3)
                journals[victim].bus.crash()
                journals[victim] = await start(rig, f"s{victim}", f"b{number + 2}")
            elif chance.random() < 0.1:
                journals[chance.randrange(3)].bus.cut(30.0)
        rig.server.faults = Faults()
        await rig.settle(3 * SWEEP_AFTER_SECONDS)
        assert total(rig) == over + len(runs)

    play(story, seed=seed, faults=Faults(delay_seconds=(0.0, 0.02), answer_lost=0.05))


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=60), st.data())
def test_one_that_follows_a_mark_knows_what_the_first_one_knew(walk: list[tuple[int, bool]], data: Any) -> None:
    """However far the first one was, and whatever it had compared, when it left its mark."""
    lines: list[sweepers.Line] = []
    held: dict[int, bytes] = {}
    for step, (which, ends) in enumerate(walk):
        if ends and which in held:
            key, begins = held.pop(which), False
        elif not ends and which not in held:
            key = held[which] = f"{which}-{step}".encode()
            begins = True
        else:
            continue
        lines.append(sweepers.Line(len(lines) + 1, float(len(lines)), key, begins, COUNTER, T0))
    first = Following()
    cut = data.draw(st.integers(0, len(lines)))
    for line in lines[:cut]:
        first.read(line)
    now = data.draw(st.floats(0, 130))
    for key, _ in first.due(now):
        first.compared(key, now, ended=False)
    mark = first.mark("first", now)
    second = Following(mark.from_seq)
    for seq in mark.old:
        second.old[lines[seq - 1].key] = seq, 0.0
    for line in lines:
        if line.seq > cut:
            first.read(line)
        if line.seq >= mark.from_seq:
            second.read(line)
    assert {*first.young, *first.old} == {*second.young, *second.old} == set(held.values())
