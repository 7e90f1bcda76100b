"""Safety under faults, then liveness once they are healed, over many seeds."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest

from bus import simloop
from bus.bus import BusClosed, BusUnavailable, Conflict, Delivery, FactEntry, Put, Record, Signal
from bus.memory import Faults, MemoryBus, MemoryServer
from bus.topology import EV, FACTS, LEDGER, Queue, Stream, Topology

WORK = Stream(name="WORK", subjects=("work.>",), work_queue=True, max_messages=1000)
EVENTS = Queue(stream="EV", name="events", filters=("ev.>",), ack_wait_seconds=2.0, max_in_flight=20)
JOBS = Queue(stream="WORK", name="jobs", filters=("work.>",), ack_wait_seconds=2.0, max_in_flight=3)
TOPOLOGY = Topology(streams=(EV, WORK, LEDGER, FACTS), queues=(EVENTS, JOBS))
FACT = "$KV.facts.load.a"


class Story:
    """Four processes publish, race, count and consume while things go wrong; then everything heals."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        self.faults = Faults(
            delay_seconds=(0.0, rng.choice([0.0, 0.001, 0.02, 0.3])),
            answer_lost=rng.choice([0.0, 0.05, 0.3]),
            ack_lost=rng.choice([0.0, 0.05, 0.3]),
            delivered_twice=rng.choice([0.0, 0.05, 0.3]),
            reordered=rng.choice([0.0, 0.1, 0.5]),
            signal_lost=rng.choice([0.0, 0.1, 0.5]),
        )
        self.server = MemoryServer(seed=seed, faults=self.faults, replicas=rng.choice([1, 3]))
        self.buses: list[MemoryBus] = []
        self.stored: dict[str, Put] = {}
        self.wins: dict[str, list[str]] = {}
        self.unknown: set[str] = set()
        self.added: list[tuple[int, int]] = []
        self.heard: Counter[tuple[str, int]] = Counter()
        self.published: dict[str, bytes] = {}
        self.facts: dict[int, list[FactEntry]] = {}
        self.signals: list[Signal] = []

    async def process(self, number: int) -> MemoryBus:
        bus = await self.server.connect(f"p{number}", patience_seconds=60)
        self.buses.append(bus)
        facts = self.facts[len(self.buses)] = []

        async def handle(delivery: Delivery) -> None:
            await asyncio.sleep(self.rng.random() * 0.2)
            if self.rng.random() < 0.1:
                await delivery.nak(self.rng.choice([0.0, 0.5]))
            elif self.rng.random() < 0.9:
                self.heard[delivery.stream, delivery.seq] += 1
                await delivery.ack()

        async def on_fact(entry: FactEntry) -> None:
            facts.append(entry)

        async def on_signal(signal: Signal) -> None:
            self.signals.append(signal)

        await bus.consume(EVENTS, handle, slots=5)
        await bus.consume(JOBS, handle, slots=2)
        await bus.watch_facts(on_fact)
        await bus.subscribe("job.race.*", on_signal)
        return bus

    async def write(self, number: int) -> None:
        bus = self.buses[number]
        for n in range(12):
            key = f"{number}.{n}"
            try:
                self.published[f"work.{key}"] = b""
                self.stored[f"ev.w.{key}"] = await bus.publish(f"ev.w.{key}", b"", msg_id=key)
                self.stored[f"work.{key}"] = await bus.publish(f"work.{key}", b"", msg_id=f"w{key}")
                put = await bus.publish(f"ev.race.{n}", key.encode(), msg_id=f"race {key}", first_writer=True)
                if put.ours:
                    self.wins.setdefault(f"ev.race.{n}", []).append(key)
                else:
                    assert put.stored is not None
                    assert put.stored.data != key.encode()
                    self.stored[f"ev.race.{n}"] = put
                self.added.append((await bus.add("ledger.a", 1 + number, msg_id=f"a{key}"), 1 + number))
                await bus.put_fact(FACT, key.encode())
            except (BusClosed, BusUnavailable):
                self.unknown.add(key)
                return

    async def trouble(self) -> None:
        for _ in range(self.rng.randrange(5)):
            await asyncio.sleep(self.rng.random() * 2)
            match self.rng.randrange(3):
                case 0:
                    await self.server.restart(self.rng.random())
                case 1:
                    self.buses[self.rng.randrange(1, 4)].cut(self.rng.random() * 3)
                case _:
                    self.buses[self.rng.randrange(1, 4)].crash()

    async def play(self) -> str:
        admin = await self.server.connect("admin", patience_seconds=60)
        await admin.set_up(TOPOLOGY)
        for number in range(4):
            await self.process(number)
        writers = [asyncio.create_task(self.write(number)) for number in range(4)]
        await self.trouble()
        await asyncio.gather(*writers)
        self.check_safety()
        self.server.faults = Faults()
        await asyncio.sleep(30)
        await self.check_liveness(admin)
        return self.server.digest()

    def check_safety(self) -> None:
        log = self.server.log("EV")
        holds: dict[str, list[Record]] = {}
        for record in log:
            holds.setdefault(record.subject, []).append(record)
        for subject, put in self.stored.items():
            if subject.startswith("ev."):
                assert put.seq in [record.seq for record in holds[subject]], subject
        assert max(Counter(record.headers["Nats-Msg-Id"] for record in log).values()) == 1
        for subject, records in holds.items():
            assert len(records) == 1, subject
        for subject, winners in self.wins.items():
            assert winners == [holds[subject][0].data.decode()]
        totals = sorted(self.added)
        assert len({total for total, _ in totals}) == len(totals)
        ledger = self.server.log("LEDGER")
        assert len({record.headers["Nats-Msg-Id"] for record in ledger}) == len(ledger)

    async def check_liveness(self, admin: MemoryBus) -> None:
        for record in self.server.log("EV"):
            assert self.heard["EV", record.seq] >= 1, record.subject
        assert self.server.log("WORK") == []
        for subject, put in self.stored.items():
            if subject.startswith("work."):
                assert self.heard["WORK", put.seq] >= 1, subject
        for queue in (EVENTS, JOBS):
            state = await admin.queue_state(queue)
            assert state is not None
            assert (state.waiting, state.running) == (0, 0)
        latest = await admin.last("KV_facts", FACT)
        for bus, facts in zip(self.buses, self.facts.values(), strict=True):
            revisions = [entry.revision for entry in facts]
            assert revisions == sorted(revisions)
            if not bus.closed and latest is not None:
                assert revisions[-1] == latest.seq
        won = {record.subject: record.data for record in self.server.log("EV") if record.subject.startswith("ev.race.")}
        assert all(won["ev" + signal.subject[3:]] == signal.data for signal in self.signals)


def play(seed: int) -> str:
    try:
        return simloop.run(Story(seed).play(), seed)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        print(f"failed with seed {seed}")
        raise


def test_nothing_is_lost():
    for seed in range(250):
        play(seed)


def test_same_seed_same_story():
    digests = [play(seed) for seed in range(1000, 1010)]
    assert digests == [play(seed) for seed in range(1000, 1010)]
    assert len(set(digests)) == 10


@pytest.mark.soak
def test_nothing_is_lost_over_many_seeds():
    first = int(os.environ.get("SEED", "10000"))
    for seed in range(first, first + int(os.environ.get("SEEDS", "5000"))):
        play(seed)


def test_compared_facts_under_faults():
    async def main(seed: int) -> None:
        server = MemoryServer(seed=seed, faults=Faults(delay_seconds=(0.0, 0.05), answer_lost=0.2))
        buses = [await server.connect(f"p{n}") for n in range(3)]
        await buses[0].set_up(TOPOLOGY)
        written: list[int] = []

        async def count(bus: MemoryBus) -> None:
            for _ in range(10):
                last = await bus.last("KV_facts", FACT)
                value = int(last.data) if last else 0
                try:
                    await bus.put_fact(FACT, str(value + 1).encode(), expected_revision=last.seq if last else 0)
                except Conflict:
                    continue
                written.append(value + 1)

        await asyncio.gather(*(count(bus) for bus in buses))
        assert len(set(written)) == len(written), written
        last = await buses[0].last("KV_facts", FACT)
        assert last is not None
        assert int(last.data) >= len(written)

    for seed in range(30):
        simloop.run(main(seed), seed)
