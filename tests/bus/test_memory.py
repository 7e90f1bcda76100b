from __future__ import annotations

import asyncio
import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from bus import simloop
from bus.bus import BusClosed, BusError, BusUnavailable, Delivery, FactEntry, QueueState, Signal
from bus.memory import Faults, MemoryBus, MemoryServer
from bus.memory_stream import Patterns, overlap
from bus.topology import EV, IN, LEDGER, Queue, Stream, Topology, topology

WORK = Stream(name="WORK", subjects=("work.>",), work_queue=True, max_messages=1000)
ALL = Queue(stream="EV", name="all", filters=("ev.>",), ack_wait_seconds=5.0)
TOPOLOGY = Topology(streams=(EV, IN, WORK, LEDGER), queues=(ALL,))


def load_contract() -> Any:
    path = Path(__file__).with_name("contract.py")
    spec = importlib.util.spec_from_file_location("bus_contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = load_contract().CASES


class Connect:
    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.buses: list[MemoryBus] = []
        self._numbers = itertools.count(1)

    async def __call__(self) -> MemoryBus:
        bus = await self.server.connect(f"c{next(self._numbers)}")
        self.buses.append(bus)
        return bus


@pytest.mark.parametrize("delay", [0.0, 0.002], ids=["at-once", "delayed"])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_contract(case: Any, replicas: Any, delay: float) -> None:
    async def main() -> None:
        faults = Faults(delay_seconds=(delay / 10, delay))
        connect = Connect(MemoryServer(seed=7, faults=faults, replicas=replicas))
        try:
            await case(connect)
        finally:
            for bus in connect.buses:
                await bus.close()

    simloop.run(main(), seed=1)


async def ready(**options: Any) -> tuple[MemoryServer, MemoryBus, MemoryBus]:
    server = MemoryServer(**options)
    one, two = await server.connect("one"), await server.connect("two")
    await one.set_up(TOPOLOGY)
    return server, one, two


class Hands:
    """Keeps deliveries and when they came."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self.times: list[float] = []

    async def __call__(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        self.times.append(asyncio.get_running_loop().time())

    @property
    def counts(self) -> list[int]:
        return [delivery.deliveries for delivery in self.got]


@pytest.mark.parametrize(("replicas", "word"), [(1, "taken"), (3, "duplicate")])
def test_order_of_condition_and_duplicate(replicas: Any, word: str):
    async def main() -> None:
        server, bus, _ = await ready(replicas=replicas)
        first = await bus.publish("ev.a", b"x", msg_id="me", first_writer=True)
        again = await bus.publish("ev.a", b"x", msg_id="me", first_writer=True)
        assert (again.ours, again.seq) == (True, first.seq)
        assert server.events[word] == 1

    simloop.run(main())


def test_a_lost_answer_is_repeated():
    async def main() -> None:
        server, bus, _ = await ready(faults=Faults(answer_lost=0.3), seed=1)
        puts = [await bus.publish(f"ev.{n}", b"x", msg_id=str(n)) for n in range(20)]
        assert [put.seq for put in puts] == list(range(1, 21))
        assert server.events["answer lost"] > 2
        assert [await bus.add("ledger.a", 1, msg_id=str(n)) for n in range(10)] == list(range(1, 11))

    simloop.run(main())


def test_patience_ends():
    async def main() -> None:
        server, bus, _ = await ready()
        with pytest.raises(BusUnavailable):
            await bus.publish("nowhere.a", b"x", msg_id="1")
        server.kill()
        started = asyncio.get_running_loop().time()
        with pytest.raises(BusUnavailable):
            await bus.publish("ev.a", b"x", msg_id="1")
        with pytest.raises(BusUnavailable):
            await server.connect("late", patience_seconds=3)
        assert asyncio.get_running_loop().time() - started == pytest.approx(33, abs=0.2)
        with pytest.raises(BusUnavailable):
            await bus.last("EV", "ev.a")
        assert asyncio.get_running_loop().time() - started == pytest.approx(43, abs=0.3)
        await bus.signal("progress.a", b"dropped")
        server.start()
        assert (await bus.publish("ev.a", b"x", msg_id="1")).ours
        assert (await server.connect("late")).connected

    simloop.run(main())


@pytest.mark.parametrize("held_seconds", [0.05, 0.5])
def test_a_killed_server_forgets_young_deliveries(held_seconds: float):
    async def main() -> None:
        server, bus, other = await ready()
        hands = Hands()
        await bus.consume(ALL, hands, slots=5)
        await other.publish("ev.a", b"x", msg_id="1")
        await asyncio.sleep(held_seconds)
        await server.restart(1.0)
        await asyncio.sleep(10)
        if held_seconds < 0.1:  # Forgotten: comes again at once, as if for the first time.
            assert hands.counts[:2] == [1, 1]
            assert hands.times[1] < 1.2
        else:
            assert hands.counts[:2] == [1, 2]
            assert hands.times[1] == pytest.approx(5.0, abs=0.01)
        await hands.got[0].ack()
        await asyncio.sleep(20)
        state = await bus.queue_state(ALL)
        assert state is not None
        assert (state.waiting, state.running) == (0, 0)

    simloop.run(main())


def test_a_killed_server_forgets_young_acknowledgements():
    async def main() -> None:
        server, bus, other = await ready()
        hands = Hands()
        await bus.consume(ALL, hands, slots=5)
        await other.publish("ev.a", b"x", msg_id="1")
        await asyncio.sleep(0.5)
        await hands.got[0].ack()
        await asyncio.sleep(0.05)
        await server.restart()
        await asyncio.sleep(0.1)
        assert hands.counts == [1, 2]

    simloop.run(main())


def test_an_acknowledgement_of_a_forgotten_delivery_counts():
    async def main() -> None:
        server, bus, other = await ready()
        hands = Hands()
        consuming = await bus.consume(ALL, hands, slots=1)
        await other.publish("ev.a", b"x", msg_id="1")
        await asyncio.sleep(0.01)
        await consuming.pause()
        await server.restart()
        await asyncio.sleep(1)
        assert await bus.queue_state(ALL) == QueueState(waiting=1, running=0)
        await hands.got[0].ack()
        assert await bus.queue_state(ALL) == QueueState(waiting=0, running=0)

    simloop.run(main())


def test_a_crash_leaves_messages_to_the_acknowledgement_wait():
    async def main() -> None:
        _, bus, other = await ready()
        ended: list[str] = []
        hands = Hands()

        async def hold(delivery: Delivery) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append(delivery.subject)

        await bus.consume(ALL, hold, slots=5)
        await other.publish("ev.a", b"x", msg_id="1")
        await asyncio.sleep(1)
        pending = asyncio.create_task(bus.publish("ev.b", b"x", msg_id="2"))
        await asyncio.sleep(0)
        bus.crash()
        bus.crash()
        await other.consume(ALL, hands, slots=5)
        with pytest.raises(BusClosed):
            await pending
        for call in (bus.last("EV", "ev.a"), bus.signal("x", b""), bus.consume(ALL, hands, slots=1)):
            with pytest.raises(BusClosed):
                await call
        assert ended == ["ev.a"]
        await asyncio.sleep(10)
        again = [at for at, delivery in zip(hands.times, hands.got, strict=True) if delivery.subject == "ev.a"]
        assert again[0] == pytest.approx(5.0, abs=0.01)
        await bus.close()

    simloop.run(main())


def test_a_cut_concerns_one_client():
    async def main() -> None:
        server, bus, other = await ready()
        called: list[float] = []
        heard: list[Signal] = []

        async def call() -> None:
            called.append(asyncio.get_running_loop().time())

        async def hear(signal: Signal) -> None:
            heard.append(signal)

        bus.on_reconnect(call)
        await bus.subscribe("job.>", hear)
        bus.cut(2.0)
        await other.publish("ev.a", b"x", msg_id="1")
        await server.restart(0.1)  # Coming back does not heal the cut.
        put = await bus.publish("ev.b", b"x", msg_id="2")
        await asyncio.sleep(0.1)
        assert put.seq == 2
        assert called == [2.0]
        assert [signal.subject for signal in heard] == ["job.b"]

    simloop.run(main())


def test_core_subscribers_of_stored_subjects_hear_refused_writes():
    async def main() -> None:
        _, bus, other = await ready()
        heard: list[bytes] = []

        async def hear(signal: Signal) -> None:
            heard.append(signal.data)

        await other.subscribe("ev.done.*", hear)
        await bus.publish("ev.done.a", b"1", msg_id="1", first_writer=True)
        await bus.publish("ev.done.a", b"REFUSED", msg_id="2", first_writer=True)
        await asyncio.sleep(0)
        assert heard == [b"1", b"REFUSED"]

    simloop.run(main())


def test_a_signal_on_a_streams_subject_is_stored():
    async def main() -> None:
        server, bus, _ = await ready()
        await bus.signal("job.submit.t", b"{}", headers={"h": "1"})
        await bus.signal("ledger.a", b"")  # No increment: dropped.
        await asyncio.sleep(0.1)
        assert [(record.subject, record.headers) for record in server.log("IN")] == [("job.submit.t", {"h": "1"})]

    simloop.run(main())


def test_what_the_server_refuses():
    async def main() -> None:
        _, bus, _ = await ready()
        await bus.set_up_queue(Queue(stream="WORK", name="a", filters=("work.a.>",)))
        with pytest.raises(BusError, match="same messages"):
            await bus.set_up_queue(Queue(stream="WORK", name="b", filters=("work.*.x",)))
        with pytest.raises(BusError, match="schedule"):
            await bus.schedule("sched.a", b"", at=0, target="work.a")
        with pytest.raises(BusError, match="schedule"):
            await bus.schedule("work.a", b"", at=0, target="work.b")
        with pytest.raises(BusError, match="increments"):
            await bus.publish("ledger.a", b"7", msg_id="1")
        with pytest.raises(BusError, match="counters"):
            await bus.add("ev.a", 7, msg_id="1")
        with pytest.raises(BusError, match="no stream"):
            await bus.set_up_queue(Queue(stream="NONE", name="a", filters=(">",)))
        with pytest.raises(BusError, match="subject"):
            await bus.publish("ev.a b", b"", msg_id="1")
        with pytest.raises(BusError, match="header"):
            await bus.publish("ev.a", b"", msg_id="1", headers={"a b": "1"})

    simloop.run(main())


def test_schedules_fire_late_and_after_an_outage():
    async def main() -> None:
        server, bus, _ = await ready(seed=5)
        for n in range(40):
            at = bus.now() + n
            await bus.schedule(
                f"sched.{n}", b"", at=at, target=f"ev.due.{n}", headers={"at": repr(at), "nats-msg-id": "x"}
            )
        await asyncio.sleep(9.5)
        server.kill()
        await asyncio.sleep(10)
        server.start()
        await asyncio.sleep(60)
        late = [record.time - float(record.headers["at"]) for record in server.log("EV")]
        assert len(late) == 40
        assert min(late) >= 0
        assert sorted(late)[29] <= 0.25
        assert len(set(late)) > 20
        assert 0 < max(late) - 9.5 < 0.75
        assert all("nats-msg-id" not in record.headers for record in server.log("EV"))

    simloop.run(main())


def test_new_filters_count_for_what_comes():
    async def main() -> None:
        _, bus, _ = await ready()
        hands = Hands()
        await bus.set_up_queue(Queue(stream="EV", name="q", filters=("ev.a.*",)))
        await bus.set_up_queue(Queue(stream="EV", name="q", filters=("ev.a.*", "ev.b.*")))
        for n, letter in enumerate("abc"):
            await bus.publish(f"ev.{letter}.1", b"", msg_id=str(n))
        await bus.consume(Queue(stream="EV", name="q", filters=()), hands, slots=9)
        await asyncio.sleep(0.1)
        assert [delivery.subject for delivery in hands.got] == ["ev.a.1", "ev.b.1"]

    simloop.run(main())


def test_a_failed_callback_is_counted(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        server, bus, other = await ready()

        async def fail(signal: Signal) -> None:
            raise ValueError(signal.subject)

        await other.subscribe("progress.*", fail)
        await bus.signal("progress.1", b"")
        await bus.signal("progress.2", b"")
        await asyncio.sleep(0.1)
        assert server.events["callback failed"] == 2

    simloop.run(main())
    assert "progress.2" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a", False),
        ("a.>", "a.b.c", True),
        ("*.b.>", "a.b.c", True),
        ("*.b.>", "a.c.c", False),
        (">", "a", True),
        ("*.*", "a.b", True),
    ],
)
def test_patterns(pattern: str, subject: str, fits: bool):
    filed: Patterns[int] = Patterns()
    filed.add(pattern, 1)
    filed.add("other.*.>", 2)
    filed.add("other.x", 3)
    assert filed.match(subject) == ([1] if fits else [])
    assert overlap(pattern, subject) is fits
    assert overlap(subject, pattern) is fits
    for value in (1, 1):
        filed.remove(pattern, value)
    assert filed.match(subject) == []
    filed.remove("other.*.>", 2)
    filed.remove("other.x", 3)
    assert filed.count == 0
    assert not filed._root.tokens
    assert filed._root.any is None


def test_patterns_overlap():
    assert overlap("work.a.>", "work.*.x")
    assert overlap("a.*.c", "a.b.*")
    assert not overlap("work.a.>", "work.b.>")
    assert not overlap("a.*", "a.b.c")
    assert not overlap("a.>", "a")


def test_a_fact_that_was_removed_unheard_is_told_as_removed_after_a_reconnect() -> None:
    async def main() -> None:
        server = MemoryServer(seed=1)
        bus, other = await server.connect("one"), await server.connect("two")
        await bus.set_up(topology("together"))
        told: list[tuple[str, bytes | None]] = []

        async def note(entry: FactEntry) -> None:
            told.append((entry.subject.removeprefix("$KV.facts."), entry.data))

        watch: Any = await other.watch_facts(note)
        for name in "abc":
            await bus.put_fact(f"$KV.facts.{name}", b"1")
        await asyncio.sleep(1.0)
        await bus.purge("KV_facts", "$KV.facts.a")  # Of which nobody is told.
        await bus.put_fact("$KV.facts.c", b"")
        await asyncio.sleep(1.0)
        assert set(watch._seen) == {"$KV.facts.a", "$KV.facts.b"}
        await watch.again()
        assert told[-1] == ("a", None)
        assert set(watch._seen) == {"$KV.facts.b"}
        await bus.put_fact("$KV.facts.a", b"2")
        await asyncio.sleep(1.0)
        assert told[-1] == ("a", b"2")
        await bus.close()
        await other.close()

    simloop.run(main(), seed=1)
