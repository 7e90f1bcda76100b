"""What every Bus must do, said once: each case runs on the real server and on the in-memory twin.

A case gets `connect`: `await connect()` is a new connection to the same server, `await connect.server.restart()` kills
that server and starts it again on what it had stored. Whoever runs a case gives it a server without streams and closes
the connections afterwards. Cases use asyncio and the contract only, so they also run in virtual time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import msgspec
import pytest

from bus.bus import (
    Bus,
    BusClosed,
    BusUnavailable,
    Conflict,
    Delivery,
    FactEntry,
    PayloadTooLarge,
    Put,
    QueueFull,
    Record,
    Signal,
)
from bus.topology import EV, FACTS, IN, INPUTS, LEDGER, Queue, Stream, Topology


class Server(Protocol):
    async def restart(self) -> None: ...


class Connect(Protocol):
    @property
    def server(self) -> Server: ...
    async def __call__(self) -> Bus: ...


Case = Callable[[Connect], Awaitable[None]]
CASES: list[Case] = []

TINY = Stream(name="TINY", subjects=("tiny.>",), work_queue=True, max_messages=3)
WORK = Stream(name="WORK", subjects=("work.>",), work_queue=True, max_messages=1000)
SHORT = Stream(name="SHORT", subjects=("short.>",), duplicate_window_seconds=0.3)
TOPOLOGY = Topology(
    streams=(IN, EV, WORK, TINY, SHORT, LEDGER, FACTS),
    queues=(Queue(stream="EV", name="all", filters=("ev.>",), ack_wait_seconds=10.0),),
)
FACT = "$KV.facts."


def case(function: Case) -> Case:
    CASES.append(function)
    return function


async def until(check: Callable[[], object], what: str = "", *, seconds: float = 20.0) -> None:
    for _ in range(int(seconds * 100)):
        if check():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"never happened: {what or check}")


class Box:
    """Keeps what it is handed; acknowledges when told to."""

    def __init__(self, *, ack: bool = True) -> None:
        self.got: list[Delivery] = []
        self.ack = ack

    async def __call__(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        if self.ack:
            await delivery.ack()

    @property
    def subjects(self) -> list[str]:
        return [delivery.subject for delivery in self.got]


class Ear:
    """Keeps the signals it hears."""

    def __init__(self) -> None:
        self.got: list[Signal] = []

    async def __call__(self, signal: Signal) -> None:
        self.got.append(signal)


class Notes:
    """Keeps the facts it is told."""

    def __init__(self) -> None:
        self.got: list[FactEntry] = []

    async def __call__(self, entry: FactEntry) -> None:
        self.got.append(entry)

    def of(self, subject: str) -> list[FactEntry]:
        return [entry for entry in self.got if entry.subject == subject]


async def ready(connect: Connect) -> Bus:
    bus = await connect()
    await bus.set_up(TOPOLOGY)
    return bus


async def everything(bus: Bus, stream: str, pattern: str, *, from_seq: int = 1) -> list[Record]:
    return [record async for record in bus.read(stream, pattern, from_seq=from_seq)]


async def fill(bus: Bus, subjects: Iterable[str]) -> list[Put]:
    return [await bus.publish(subject, b"x", msg_id="fill:" + subject) for subject in subjects]


def val(data: bytes) -> int:
    return int(msgspec.json.decode(data, type=dict[str, str])["val"])


# Publishing


@case
async def publish_stores_and_numbers(connect: Connect) -> None:
    bus = await ready(connect)
    one = await bus.publish("ev.a.1", b"one", msg_id="1", headers={"ce-id": "c1", "traceparent": "00-ä"})
    two = await bus.publish("ev.a.2", b"", msg_id="2")
    assert (one.ours, two.ours) == (True, True)
    assert two.seq == one.seq + 1
    record = await bus.get("EV", one.seq)
    assert record is not None
    assert (record.subject, record.seq, record.data) == ("ev.a.1", one.seq, b"one")
    assert record.headers["ce-id"] == "c1"
    assert record.headers["traceparent"] == "00-ä"
    assert record.headers["Nats-Msg-Id"] == "1"
    assert abs(record.time - bus.now()) < 30
    empty = await bus.last("EV", "ev.a.2")
    assert empty is not None
    assert (empty.data, empty.seq) == (b"", two.seq)


@case
async def repeated_id_is_stored_once(connect: Connect) -> None:
    bus = await ready(connect)
    first = await bus.publish("ev.a.1", b"one", msg_id="same")
    again = await bus.publish("ev.a.1", b"one", msg_id="same")
    elsewhere = await bus.publish("ev.a.2", b"two", msg_id="same")
    assert first.seq == again.seq == elsewhere.seq
    assert first.ours
    assert again.ours
    assert len(await everything(bus, "EV", "ev.>")) == 1


@case
async def repeated_id_is_stored_again_after_the_window(connect: Connect) -> None:
    bus = await ready(connect)
    first = await bus.publish("short.a", b"1", msg_id="same")
    await asyncio.sleep(1.5)
    again = await bus.publish("short.a", b"1", msg_id="same")
    assert again.seq > first.seq


@case
async def ids_are_remembered_over_a_restart(connect: Connect) -> None:
    bus = await ready(connect)
    first = await bus.publish("ev.a.1", b"one", msg_id="same")
    await connect.server.restart()
    assert (await bus.publish("ev.a.1", b"one", msg_id="same")).seq == first.seq


@case
async def first_writer_wins_alone(connect: Connect) -> None:
    buses = [await ready(connect), await connect(), await connect()]
    puts = await asyncio.gather(
        *(
            buses[n % 3].publish(
                "ev.done.t.j", b"by %d" % n, msg_id=f"done:{n}", headers={"n": str(n)}, first_writer=True
            )
            for n in range(50)
        )
    )
    winners = [n for n, put in enumerate(puts) if put.ours]
    assert len(winners) == 1
    assert puts[winners[0]].stored is None
    for put in puts:
        if not put.ours:
            assert put.stored is not None
            assert put.seq == put.stored.seq == puts[winners[0]].seq
            assert put.stored.subject == "ev.done.t.j"
            assert put.stored.data == b"by %d" % winners[0]
            assert put.stored.headers["n"] == str(winners[0])
    assert len(await everything(buses[0], "EV", "ev.>")) == 1


@case
async def own_repetition_is_ours(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    first = await bus.publish("ev.done.t.j", b"x", msg_id="me", first_writer=True)
    again = await bus.publish("ev.done.t.j", b"x", msg_id="me", first_writer=True)
    loser = await other.publish("ev.done.t.j", b"y", msg_id="you", first_writer=True)
    assert (again.ours, again.seq) == (True, first.seq)
    assert (loser.ours, loser.seq) == (False, first.seq)


@case
async def first_writer_loses_to_a_plain_message(connect: Connect) -> None:
    bus = await ready(connect)
    await bus.publish("ev.a.1", b"old", msg_id="old")
    newest = await bus.publish("ev.a.1", b"new", msg_id="new")
    put = await bus.publish("ev.a.1", b"mine", msg_id="mine", first_writer=True)
    assert not put.ours
    assert put.stored is not None
    assert (put.stored.seq, put.stored.data) == (newest.seq, b"new")


@case
async def payload_limit(connect: Connect) -> None:
    bus = await ready(connect)
    with pytest.raises(PayloadTooLarge) as caught:
        await bus.publish("ev.a.1", b"x" * (bus.max_payload + 1), msg_id="big")
    assert caught.value.subject == "ev.a.1"
    assert caught.value.limit == bus.max_payload
    with pytest.raises(PayloadTooLarge):  # Headers count.
        await bus.publish("ev.a.1", b"x" * (bus.max_payload - 100), msg_id="big", headers={"h": "y" * 200})
    with pytest.raises(PayloadTooLarge):
        await bus.put_fact(FACT + "a", b"x" * (bus.max_payload + 1))
    assert await bus.last("EV", "ev.a.1") is None
    assert (await bus.publish("ev.a.1", b"x" * (bus.max_payload - 500), msg_id="fits")).ours


@case
async def restart_while_publishing_loses_nothing(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    stored: dict[str, Put] = {}

    async def publish(worker: int) -> None:
        for n in range(40):
            at = (bus, other)[worker % 2]
            key = f"{worker}.{n}"
            stored[key] = await at.publish(f"ev.w.{key}", key.encode(), msg_id=key, first_writer=worker % 4 < 2)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(publish(worker)) for worker in range(8)]
    for _ in range(2):
        await asyncio.sleep(0.1)
        await connect.server.restart()
    await asyncio.gather(*tasks)
    assert len(stored) == 320
    assert all(put.ours for put in stored.values())
    records = await everything(bus, "EV", "ev.w.>")
    assert sorted(record.data.decode() for record in records) == sorted(stored)
    assert {record.data.decode(): record.seq for record in records} == {key: put.seq for key, put in stored.items()}


# Work queues


@case
async def work_queue_keeps_one_per_subject(connect: Connect) -> None:
    bus = await ready(connect)
    first = await bus.publish("work.a.1", b"one", msg_id="1")
    again = await bus.publish("work.a.1", b"other", msg_id="another id")
    assert (again.ours, again.seq) == (True, first.seq)
    assert [record.data for record in await everything(bus, "WORK", "work.>")] == [b"one"]


@case
async def work_is_gone_once_acknowledged(connect: Connect) -> None:
    bus = await ready(connect)
    queue = Queue(stream="WORK", name="exec-a", filters=("work.a.>",), ack_wait_seconds=10.0)
    await bus.set_up_queue(queue)
    box = Box()
    await bus.consume(queue, box, slots=2)
    await bus.publish("work.a.1", b"one", msg_id="1")
    await until(lambda: box.got, "a delivery")
    for _ in range(500):
        if await bus.last("WORK", "work.a.1") is None:
            break
        await asyncio.sleep(0.01)
    assert await bus.last("WORK", "work.a.1") is None
    await bus.publish("work.a.1", b"late repetition", msg_id="1")
    await bus.publish("work.a.1", b"new", msg_id="2")
    await until(lambda: len(box.got) == 2, "the second delivery")
    assert [delivery.data for delivery in box.got] == [b"one", b"new"]


@case
async def full_work_queue_refuses(connect: Connect) -> None:
    bus = await ready(connect)
    puts = await fill(bus, ["tiny.1", "tiny.2", "tiny.3"])
    with pytest.raises(QueueFull):
        await bus.publish("tiny.4", b"x", msg_id="4")
    assert (await bus.publish("tiny.1", b"x", msg_id="repetition")).seq == puts[0].seq
    queue = Queue(stream="TINY", name="tiny", filters=("tiny.>",), ack_wait_seconds=10.0)
    await bus.set_up_queue(queue)
    box = Box()
    await bus.consume(queue, box, slots=1)
    await until(lambda: len(box.got) == 3, "three deliveries")
    for _ in range(500):
        try:
            put = await bus.publish("tiny.4", b"x", msg_id="4")
        except QueueFull:
            await asyncio.sleep(0.01)
        else:
            break
    else:
        pytest.fail("the queue stayed full")
    assert put.ours


# Consuming


@case
async def delivery_says_what_it_is(connect: Connect) -> None:
    bus = await ready(connect)
    box = Box()
    await bus.consume(TOPOLOGY.queues[0], box, slots=4)
    put = await bus.publish("ev.a.1", b"one", msg_id="1", headers={"ce-id": "c1"})
    await until(lambda: box.got, "a delivery")
    delivery = box.got[0]
    assert (delivery.stream, delivery.subject, delivery.data) == ("EV", "ev.a.1", b"one")
    assert (delivery.seq, delivery.deliveries) == (put.seq, 1)
    assert delivery.headers["ce-id"] == "c1"
    record = await bus.get("EV", put.seq)
    assert record is not None
    assert abs(delivery.time - record.time) < 0.001


@case
async def consumer_gets_what_was_there_before_in_order(connect: Connect) -> None:
    bus = await ready(connect)
    await fill(bus, [f"ev.a.{n}" for n in range(30)])
    await bus.publish("sched.x", b"", msg_id="not for it")
    queue = Queue(stream="EV", name="late", filters=("ev.a.*", "ev.b.>"))
    await bus.set_up_queue(queue)
    box = Box()
    await bus.consume(queue, box, slots=1)
    await fill(bus, ["ev.c.1", "ev.b.1.2"])
    await until(lambda: len(box.got) == 31, "all deliveries")
    assert box.subjects == [*(f"ev.a.{n}" for n in range(30)), "ev.b.1.2"]


@case
async def two_consumers_share(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    one, two = Box(), Box()
    await bus.consume(TOPOLOGY.queues[0], one, slots=4)
    await other.consume(TOPOLOGY.queues[0], two, slots=4)
    subjects = [f"ev.a.{n}" for n in range(60)]
    await fill(bus, subjects)
    await until(lambda: len(one.got) + len(two.got) >= 60, "all deliveries")
    assert sorted(one.subjects + two.subjects) == sorted(subjects)


@case
async def two_queues_each_get_everything(connect: Connect) -> None:
    bus = await ready(connect)
    second = Queue(stream="EV", name="second", filters=("ev.>",))
    await bus.set_up_queue(second)
    one, two = Box(), Box()
    await bus.consume(TOPOLOGY.queues[0], one, slots=4)
    await bus.consume(second, two, slots=4)
    await fill(bus, [f"ev.a.{n}" for n in range(5)])
    await until(lambda: len(one.got) == 5 and len(two.got) == 5, "all deliveries twice")


@case
async def never_more_than_the_slots(connect: Connect) -> None:
    bus = await ready(connect)
    running = most = done = 0

    async def slow(delivery: Delivery) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.03)
        running -= 1
        done += 1
        await delivery.ack()

    await fill(bus, [f"ev.a.{n}" for n in range(20)])
    await bus.consume(TOPOLOGY.queues[0], slow, slots=4)
    await until(lambda: done == 20, "all handled")
    assert most == 4


@case
async def a_pull_needs_a_slot(connect: Connect) -> None:
    bus = await ready(connect)
    for slots in (0, -1):
        with pytest.raises(ValueError, match="at least one slot"):
            await bus.consume(TOPOLOGY.queues[0], Box(), slots=slots)


@case
async def limit_in_flight_is_shared(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    queue = Queue(stream="EV", name="few", filters=("ev.a.>",), max_in_flight=3, ack_wait_seconds=30.0)
    await bus.set_up_queue(queue)
    await fill(bus, [f"ev.a.{n}" for n in range(10)])
    one, two = Box(ack=False), Box(ack=False)
    await bus.consume(queue, one, slots=5)
    await other.consume(queue, two, slots=5)
    await until(lambda: len(one.got) + len(two.got) == 3, "three in flight")
    await asyncio.sleep(0.3)
    state = await bus.queue_state(queue)
    assert state is not None
    assert (len(one.got) + len(two.got), state.running, state.waiting) == (3, 3, 7)
    assert state.deliveries == 3
    for delivery in one.got + two.got:
        await delivery.ack()
    await until(lambda: len(one.got) + len(two.got) == 6, "three more")
    await asyncio.sleep(0.3)
    assert len(one.got) + len(two.got) == 6


@case
async def a_queue_tells_how_far_it_has_come(connect: Connect) -> None:
    """What was stored before the sequence was asked for is counted in the queue's state that is asked for afterwards."""
    bus = await ready(connect)
    queue = Queue(stream="EV", name="moves", filters=("ev.a.>",), max_in_flight=2, ack_wait_seconds=30.0)
    await bus.set_up_queue(queue)
    assert await bus.last_seq("EV") == 0
    await fill(bus, [f"ev.a.{n}" for n in range(3)])
    await fill(bus, ["ev.b.1"])
    assert await bus.last_seq("EV") == 4
    state = await bus.queue_state(queue)
    assert state is not None
    assert (state.waiting, state.running, state.deliveries) == (3, 0, 0)
    box = Box(ack=False)
    await bus.consume(queue, box, slots=5)
    await until(lambda: len(box.got) == 2, "two in flight")
    await box.got[0].ack()
    await until(lambda: len(box.got) == 3, "the third")
    await box.got[1].nak()
    await until(lambda: len(box.got) == 4, "the second again")
    state = await bus.queue_state(queue)
    assert state is not None
    assert (state.waiting, state.deliveries) == (0, 4)
    assert await bus.last_seq("EV") == 4


@case
async def limit_in_flight_can_be_raised(connect: Connect) -> None:
    bus = await ready(connect)
    queue = Queue(stream="EV", name="grows", filters=("ev.a.>",), max_in_flight=1, ack_wait_seconds=30.0)
    await bus.set_up_queue(queue)
    await fill(bus, [f"ev.a.{n}" for n in range(5)])
    box = Box(ack=False)
    await bus.consume(queue, box, slots=5)
    await until(lambda: box.got, "one in flight")
    await bus.set_up_queue(msgspec.structs.replace(queue, max_in_flight=4))
    await until(lambda: len(box.got) == 4, "four in flight")
    await asyncio.sleep(0.2)
    assert len(box.got) == 4


@case
async def nak_brings_it_back(connect: Connect) -> None:
    bus = await ready(connect)
    box = Box(ack=False)
    await bus.consume(TOPOLOGY.queues[0], box, slots=2)
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: box.got, "a delivery")
    await box.got[0].nak()
    await until(lambda: len(box.got) == 2, "a redelivery")
    assert box.got[1].deliveries == 2
    assert box.got[1].seq == box.got[0].seq
    await box.got[1].ack()
    await asyncio.sleep(0.3)
    assert len(box.got) == 2


@case
async def nak_with_delay_waits(connect: Connect) -> None:
    bus = await ready(connect)
    box = Box(ack=False)
    await bus.consume(TOPOLOGY.queues[0], box, slots=2)
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: box.got, "a delivery")
    started = asyncio.get_running_loop().time()
    await box.got[0].nak(1.0)
    await until(lambda: len(box.got) == 2, "a redelivery")
    assert asyncio.get_running_loop().time() - started >= 0.9
    await box.got[1].ack()


@case
async def unacknowledged_comes_again_after_the_wait(connect: Connect) -> None:
    bus = await ready(connect)
    queue = Queue(stream="EV", name="short", filters=("ev.>",), ack_wait_seconds=0.6)
    await bus.set_up_queue(queue)
    box = Box(ack=False)
    await bus.consume(queue, box, slots=2)
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: len(box.got) == 2, "a redelivery")
    assert [delivery.deliveries for delivery in box.got] == [1, 2]
    await box.got[0].ack()  # Also for the delivery that is not the latest.
    await asyncio.sleep(1.5)
    assert len(box.got) == 2


@case
async def in_progress_keeps_it(connect: Connect) -> None:
    bus = await ready(connect)
    queue = Queue(stream="EV", name="short", filters=("ev.>",), ack_wait_seconds=0.8)
    await bus.set_up_queue(queue)
    box = Box(ack=False)
    await bus.consume(queue, box, slots=2)
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: box.got, "a delivery")
    for _ in range(10):
        await asyncio.sleep(0.2)
        await box.got[0].in_progress()
    assert len(box.got) == 1
    await until(lambda: len(box.got) == 2, "a redelivery once it stopped")
    await box.got[1].ack()


@case
async def failing_callback_leaves_its_message(connect: Connect) -> None:
    bus = await ready(connect)
    queue = Queue(stream="EV", name="short", filters=("ev.>",), ack_wait_seconds=0.6)
    await bus.set_up_queue(queue)
    got: list[int] = []

    async def fails_once(delivery: Delivery) -> None:
        got.append(delivery.deliveries)
        if len(got) == 1:
            raise ValueError("a bug")
        await delivery.ack()

    await bus.consume(queue, fails_once, slots=1)
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: len(got) == 2, "a redelivery")
    assert got == [1, 2]


@case
async def consumer_may_come_later(connect: Connect) -> None:
    bus = await connect()
    queue = Queue(stream="EV", name="later", filters=("ev.>",))
    box = Box()
    await bus.consume(queue, box, slots=2)
    assert await bus.queue_state(queue) is None
    await asyncio.sleep(0.3)
    await bus.set_up(TOPOLOGY)  # Not this queue.
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await asyncio.sleep(0.3)
    assert box.got == []
    await bus.set_up_queue(queue)
    await until(lambda: box.subjects == ["ev.a.1"], "a delivery")


@case
async def consuming_survives_a_restart(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    box = Box()
    await bus.consume(TOPOLOGY.queues[0], box, slots=4)
    await other.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: box.got, "a delivery")
    await asyncio.sleep(0.3)  # A server that is killed may forget younger deliveries and acknowledgements.
    await connect.server.restart()
    await other.publish("ev.a.2", b"x", msg_id="2")
    await until(lambda: "ev.a.2" in box.subjects, "a delivery after the restart")


@case
async def held_message_comes_again_after_a_restart(connect: Connect) -> None:
    bus = await ready(connect)
    queue = Queue(stream="WORK", name="exec-a", filters=("work.a.>",), ack_wait_seconds=1.5)
    await bus.set_up_queue(queue)
    box = Box(ack=False)
    await bus.consume(queue, box, slots=2)
    await bus.publish("work.a.1", b"x", msg_id="1")
    await until(lambda: box.got, "a delivery")
    await connect.server.restart()
    await until(lambda: len(box.got) >= 2, "a redelivery")
    assert {delivery.subject for delivery in box.got} == {"work.a.1"}
    assert await bus.last("WORK", "work.a.1") is not None


@case
async def paused_asks_for_no_more(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    box, rest = Box(ack=False), Box()
    consuming = await bus.consume(TOPOLOGY.queues[0], box, slots=5)
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: box.got, "a delivery")
    await consuming.pause()
    await asyncio.sleep(0.2)
    await fill(bus, [f"ev.b.{n}" for n in range(5)])
    await asyncio.sleep(0.5)
    assert box.subjects == ["ev.a.1"]
    await other.consume(TOPOLOGY.queues[0], rest, slots=5)
    await until(lambda: len(rest.got) == 5, "the other gets them all, at once")
    await box.got[0].ack()  # What is in hand goes on.
    await asyncio.sleep(0.2)
    state = await bus.queue_state(TOPOLOGY.queues[0])
    assert state is not None
    assert (state.waiting, state.running) == (0, 0)
    await consuming.stop()


LIES = Queue(stream="EV", name="lies", filters=("ev.a.>",), ack_wait_seconds=10.0, patience_seconds=0.2)


class Batches:
    """Keeps what it is handed together; acknowledges when told to."""

    def __init__(self, *, ack: bool = True, seconds: float = 0.0) -> None:
        self.got: list[Sequence[Delivery]] = []
        self.ack, self.seconds = ack, seconds
        self.running = self.most = 0

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        self.got.append(deliveries)
        self.running += len(deliveries)
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.seconds)
        self.running -= len(deliveries)
        for delivery in deliveries if self.ack else ():
            await delivery.ack()

    @property
    def subjects(self) -> list[str]:
        return [delivery.subject for deliveries in self.got for delivery in deliveries]


@case
async def what_comes_within_the_patience_is_handed_over_together(connect: Connect) -> None:
    bus = await ready(connect)
    await bus.set_up_queue(LIES)
    box = Batches()
    subjects = [f"ev.a.{n}" for n in range(20)]
    await fill(bus, subjects)
    await bus.consume_together(LIES, box, slots=64)
    await until(lambda: len(box.subjects) == 20, "all deliveries")
    assert box.subjects == subjects
    assert len(box.got) <= 3
    await fill(bus, ["ev.a.late"])
    await until(lambda: box.subjects[-1] == "ev.a.late", "one alone")
    for _ in range(500):
        state = await bus.queue_state(LIES)
        assert state is not None
        if (state.waiting, state.running) == (0, 0):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("not everything was acknowledged")


@case
async def together_they_are_never_more_than_the_slots(connect: Connect) -> None:
    bus = await ready(connect)
    await bus.set_up_queue(LIES)
    box = Batches(seconds=0.05)
    await fill(bus, [f"ev.a.{n}" for n in range(20)])
    await bus.consume_together(LIES, box, slots=4)
    await until(lambda: len(box.subjects) == 20 and not box.running, "all handled")
    assert box.most == 4


@case
async def a_pause_hands_over_what_lies(connect: Connect) -> None:
    bus = await ready(connect)
    patient = msgspec.structs.replace(LIES, patience_seconds=60.0)
    await bus.set_up_queue(patient)
    box = Batches()
    consuming = await bus.consume_together(patient, box, slots=8)
    await fill(bus, ["ev.a.1", "ev.a.2"])
    for _ in range(500):
        state = await bus.queue_state(patient)
        if state is not None and state.running == 2:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert box.got == []
    await consuming.pause()
    await until(lambda: len(box.subjects) == 2, "both")
    assert len(box.got) == 1
    await consuming.stop()


@case
async def together_left_unacknowledged_they_come_again(connect: Connect) -> None:
    bus = await ready(connect)
    hasty = msgspec.structs.replace(LIES, patience_seconds=0.05, ack_wait_seconds=0.6)
    await bus.set_up_queue(hasty)
    box = Batches(ack=False)
    await bus.consume_together(hasty, box, slots=8)
    await fill(bus, ["ev.a.1", "ev.a.2"])
    await until(lambda: len(box.subjects) == 4, "both again")
    assert sorted(box.subjects) == ["ev.a.1", "ev.a.1", "ev.a.2", "ev.a.2"]
    assert [delivery.deliveries for batch in box.got for delivery in batch] == [1, 1, 2, 2]


@case
async def stopped_hears_no_more(connect: Connect) -> None:
    bus = await ready(connect)
    box, rest = Box(), Box()
    consuming = await bus.consume(TOPOLOGY.queues[0], box, slots=5)
    await bus.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: box.got, "a delivery")
    await consuming.stop()
    await consuming.stop()
    await bus.publish("ev.a.2", b"x", msg_id="2")
    await bus.consume(TOPOLOGY.queues[0], rest, slots=5)
    await until(lambda: rest.got, "another consumer gets it")
    assert box.subjects == ["ev.a.1"]
    assert rest.subjects == ["ev.a.2"]


@case
async def start_time_of_a_queue(connect: Connect) -> None:
    bus = await ready(connect)
    for n in range(4):
        await bus.publish(f"ev.a.{n}", b"x", msg_id=str(n))
        await asyncio.sleep(0.05)
    third = await bus.last("EV", "ev.a.2")
    assert third is not None
    queue = Queue(stream="EV", name="from", filters=("ev.>",), start_time=third.time)
    await bus.set_up_queue(queue)
    await bus.set_up_queue(msgspec.structs.replace(queue, start_time=None))  # Only heeded when it is created.
    await bus.set_up_queue(msgspec.structs.replace(queue, start_time=1.0, max_in_flight=7))
    box = Box()
    await bus.consume(queue, box, slots=1)
    await until(lambda: len(box.got) == 2, "two deliveries")
    assert box.subjects == ["ev.a.2", "ev.a.3"]


@case
async def queue_state_counts(connect: Connect) -> None:
    bus = await ready(connect)
    queue = TOPOLOGY.queues[0]
    await fill(bus, [f"ev.a.{n}" for n in range(5)])
    state = await bus.queue_state(queue)
    assert state is not None
    assert (state.waiting, state.running) == (5, 0)
    assert await bus.queue_state(Queue(stream="EV", name="nobody", filters=("ev.>",))) is None
    assert await bus.queue_state(Queue(stream="NONE", name="nobody", filters=("ev.>",))) is None


# Setting up


@case
async def set_up_may_be_repeated_and_raced(connect: Connect) -> None:
    buses = [await connect() for _ in range(4)]
    await asyncio.gather(*(bus.set_up(TOPOLOGY) for bus in buses))
    await buses[0].publish("ev.a.1", b"x", msg_id="1")
    await asyncio.gather(*(bus.set_up(TOPOLOGY) for bus in buses))
    assert len(await everything(buses[1], "EV", "ev.>")) == 1
    state = await buses[2].queue_state(TOPOLOGY.queues[0])
    assert state is not None
    assert state.waiting == 1


@case
async def set_up_changes_what_differs(connect: Connect) -> None:
    bus = await ready(connect)
    wider = msgspec.structs.replace(TINY, max_messages=4)
    await fill(bus, ["tiny.1", "tiny.2", "tiny.3"])
    await bus.set_up(Topology(streams=(wider,), queues=()))
    assert (await bus.publish("tiny.4", b"x", msg_id="4")).ours
    with pytest.raises(QueueFull):
        await bus.publish("tiny.5", b"x", msg_id="5")


# Schedules


@case
async def schedule_fires_once(connect: Connect) -> None:
    bus = await ready(connect)
    box, ear = Box(), Ear()
    await bus.consume(TOPOLOGY.queues[0], box, slots=4)
    await bus.subscribe("job.>", ear)
    due = bus.now() + 0.6
    await bus.schedule("sched.t.j.1", b"body", at=due, target="ev.due.t.j.1", headers={"ce-id": "c1"})
    assert box.got == []
    await until(lambda: box.got, "the schedule fires")
    assert box.got[0].subject == "ev.due.t.j.1"
    assert box.got[0].data == b"body"
    assert box.got[0].headers["ce-id"] == "c1"
    assert box.got[0].time >= due - 0.1
    await asyncio.sleep(1.0)
    assert box.subjects == ["ev.due.t.j.1"]
    assert [signal.subject for signal in ear.got] == ["job.due.t.j.1"]
    assert await bus.last("EV", "sched.t.j.1") is None


@case
async def schedule_is_replaced_by_the_next(connect: Connect) -> None:
    bus = await ready(connect)
    box = Box()
    await bus.consume(TOPOLOGY.queues[0], box, slots=4)
    await bus.schedule("sched.a", b"old", at=bus.now() + 0.5, target="ev.due.a")
    await bus.schedule("sched.a", b"new", at=bus.now() + 1.0, target="ev.due.a")
    await until(lambda: box.got, "the schedule fires")
    await asyncio.sleep(1.0)
    assert [delivery.data for delivery in box.got] == [b"new"]


@case
async def schedule_in_the_past_fires_soon(connect: Connect) -> None:
    bus = await ready(connect)
    box = Box()
    await bus.consume(TOPOLOGY.queues[0], box, slots=4)
    await bus.schedule("sched.a", b"x", at=bus.now() - 5, target="ev.due.a")
    await until(lambda: box.got, "the schedule fires")
    assert box.subjects == ["ev.due.a"]


@case
async def schedule_survives_a_restart(connect: Connect) -> None:
    bus = await ready(connect)
    box = Box()
    await bus.consume(TOPOLOGY.queues[0], box, slots=4)
    await bus.schedule("sched.a", b"x", at=bus.now() + 1.2, target="ev.due.a")
    await bus.schedule("sched.b", b"x", at=bus.now() + 0.01, target="ev.due.b")
    await connect.server.restart()
    await until(lambda: {"ev.due.a", "ev.due.b"} <= set(box.subjects), "both schedules fire")
    await asyncio.sleep(0.5)
    assert len(await everything(bus, "EV", "ev.due.>")) == 2


@case
async def firing_is_unconditional(connect: Connect) -> None:
    bus = await ready(connect)
    before = await bus.publish("ev.due.a", b"first", msg_id="1", first_writer=True)
    await bus.schedule("sched.a", b"second", at=bus.now() + 0.3, target="ev.due.a")
    await bus.schedule("sched.b", b"second", at=bus.now() + 0.3, target="ev.due.a")
    box = Box()
    await bus.consume(TOPOLOGY.queues[0], box, slots=4)
    await until(lambda: len(box.got) == 3, "both fire")
    records = await everything(bus, "EV", "ev.due.a")
    assert [record.data for record in records] == [b"first", b"second", b"second"]
    assert records[0].seq == before.seq
    assert all("Nats-Msg-Id" not in record.headers for record in records[1:])
    loser = await bus.publish("ev.due.a", b"x", msg_id="2", first_writer=True)
    assert not loser.ours


# Signals


@case
async def signals_are_heard(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    ear, wild = Ear(), Ear()
    await bus.subscribe("progress.*.j", ear)
    await bus.subscribe("progress.>", wild)
    await other.signal("progress.t.j", b"1", headers={"n": "1"})
    await other.signal("progress.t.k", b"2")
    await until(lambda: len(wild.got) == 2, "both signals")
    assert [(signal.subject, signal.data) for signal in wild.got] == [("progress.t.j", b"1"), ("progress.t.k", b"2")]
    assert wild.got[0].headers["n"] == "1"
    assert [signal.subject for signal in ear.got] == ["progress.t.j"]
    assert [record async for record in bus.read("EV", "ev.>")] == []


@case
async def callbacks_run_one_after_the_other(connect: Connect) -> None:
    bus = await ready(connect)
    running = most = 0
    seen: list[bytes] = []

    async def slow(signal: Signal) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        seen.append(signal.data)
        if signal.data == b"2":
            raise ValueError("a bug")

    await bus.subscribe("progress.>", slow)
    for n in range(6):
        await bus.signal("progress.a", str(n).encode())
    await until(lambda: len(seen) == 6, "all signals, the one behind the bug too")
    assert most == 1
    assert seen == [b"0", b"1", b"2", b"3", b"4", b"5"]


@case
async def stopped_subscription_is_silent(connect: Connect) -> None:
    bus = await ready(connect)
    ear, other = Ear(), Ear()
    subscription = await bus.subscribe("progress.>", ear)
    await bus.subscribe("progress.>", other)
    await bus.signal("progress.a", b"1")
    await until(lambda: ear.got, "a signal")
    await subscription.stop()
    await subscription.stop()
    await bus.signal("progress.a", b"2")
    await until(lambda: len(other.got) == 2, "the other hears it")
    assert len(ear.got) == 1


@case
async def subscribing_is_complete_when_it_returns(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    for n in range(30):
        ear = Ear()
        subscription = await bus.subscribe(f"progress.{n}", ear)
        await other.signal(f"progress.{n}", b"x")
        await until(lambda ear=ear: ear.got, "a signal right after subscribing")
        await subscription.stop()


@case
async def subscriptions_survive_a_restart(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    ear, again = Ear(), [0]
    called: list[str] = []

    async def one() -> None:
        called.append("one")

    async def two() -> None:
        called.append("two")
        raise ValueError("a bug")

    async def back() -> None:
        again[0] += 1

    bus.on_reconnect(one)
    bus.on_reconnect(two)
    other.on_reconnect(back)
    await bus.subscribe("job.>", ear)
    await connect.server.restart()
    await until(lambda: len(called) >= 2 and again[0], "reconnects")
    assert set(called) == {"one", "two"}
    await other.publish("ev.a.1", b"x", msg_id="1")
    await until(lambda: ear.got, "an event after the restart")
    await connect.server.restart()
    await until(lambda: len(called) >= 4, "the second reconnect")


@case
async def committed_events_are_republished(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    ear = Ear()
    await other.subscribe("job.>", ear)
    await bus.publish("ev.done.t.j", b"one", msg_id="1", headers={"ce-id": "c1"}, first_writer=True)
    refused = await bus.publish("ev.done.t.j", b"REFUSED", msg_id="2", first_writer=True)
    await bus.publish("ev.done.t.j", b"one", msg_id="1")
    last = await bus.publish("ev.done.t.k", b"two", msg_id="3")
    assert not refused.ours
    await until(lambda: len(ear.got) == 2, "two events")
    await asyncio.sleep(0.1)
    assert [(signal.subject, signal.data) for signal in ear.got] == [("job.done.t.j", b"one"), ("job.done.t.k", b"two")]
    assert ear.got[0].headers["ce-id"] == "c1"
    assert ear.got[1].headers["Nats-Sequence"] == str(last.seq)
    assert ear.got[1].headers["Nats-Subject"] == "ev.done.t.k"


@case
async def questions_are_answered(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()

    async def answer(signal: Signal) -> None:
        if signal.data != b"silence":
            await bus.signal(signal.reply, b"re: " + signal.data)

    await bus.subscribe("ask.router.*", answer)
    assert await other.ask("ask.router.story", b"j1", timeout_seconds=5) == b"re: j1"
    both = await asyncio.gather(*(other.ask("ask.router.x", str(n).encode(), timeout_seconds=5) for n in range(10)))
    assert both == [b"re: %d" % n for n in range(10)]
    with pytest.raises(BusUnavailable):
        await other.ask("ask.router.x", b"silence", timeout_seconds=0.2)
    with pytest.raises(BusUnavailable):
        await other.ask("ask.nobody", b"", timeout_seconds=5)


# Reading


@case
async def reading_in_order(connect: Connect) -> None:
    bus = await ready(connect)
    await asyncio.gather(
        *(bus.publish(f"ev.{'ab'[n % 2]}.t{n % 3}.{n}", str(n).encode(), msg_id=str(n)) for n in range(700))
    )
    records = await everything(bus, "EV", "ev.>")
    assert len(records) == 700
    assert [record.seq for record in records] == sorted(record.seq for record in records)
    assert sorted(int(record.data) for record in records) == list(range(700))
    some = await everything(bus, "EV", "ev.a.*.*")
    assert [record.seq for record in some] == [record.seq for record in records if record.subject.startswith("ev.a.")]
    tail = await everything(bus, "EV", "ev.*.t1.>", from_seq=350)
    assert [record.seq for record in tail] == [r.seq for r in records if ".t1." in r.subject and r.seq >= 350]
    assert await everything(bus, "EV", "ev.none.>") == []
    assert await everything(bus, "EV", "ev.>", from_seq=701) == []
    assert len(await everything(bus, "EV", records[5].subject)) == 1


@case
async def reading_ends_although_more_comes(connect: Connect) -> None:
    bus = await ready(connect)
    await fill(bus, [f"ev.a.{n}" for n in range(10)])
    count = 0
    async for record in bus.read("EV", "ev.>"):
        count += 1
        assert count < 100
        await bus.publish(f"ev.b.{count}", b"x", msg_id=f"more {record.seq}")
    assert count >= 10


@case
async def reading_may_be_broken_off(connect: Connect) -> None:
    bus = await ready(connect)
    await fill(bus, [f"ev.a.{n}" for n in range(10)])
    async for record in bus.read("EV", "ev.>"):
        assert record.subject == "ev.a.0"
        break
    assert len(await everything(bus, "EV", "ev.>")) == 10


@case
async def what_is_not_there_is_none(connect: Connect) -> None:
    bus = await ready(connect)
    assert await bus.last("EV", "ev.none") is None
    assert await bus.get("EV", 1) is None
    await bus.publish("ev.a.1", b"1", msg_id="1")
    newest = await bus.publish("ev.a.1", b"2", msg_id="2")
    record = await bus.last("EV", "ev.a.1")
    assert record is not None
    assert (record.seq, record.data) == (newest.seq, b"2")
    assert await bus.get("EV", newest.seq + 1) is None


# Facts


@case
async def facts_are_told_now_and_on_change(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    first = await bus.put_fact(FACT + "backend.a", b"1")
    second = await bus.put_fact(FACT + "backend.a", b"2")
    await bus.put_fact(FACT + "load.b", b"3")
    assert second > first
    notes = Notes()
    await other.watch_facts(notes)
    assert {(entry.subject, entry.data) for entry in notes.got} == {
        (FACT + "backend.a", b"2"),
        (FACT + "load.b", b"3"),
    }
    assert notes.of(FACT + "backend.a")[0].revision == second
    third = await bus.put_fact(FACT + "backend.a", b"4")
    await until(lambda: notes.got[-1].data == b"4", "the change")
    assert notes.got[-1] == FactEntry(subject=FACT + "backend.a", revision=third, data=b"4")
    assert [record.data for record in await everything(bus, "KV_facts", FACT + ">")] == [b"3", b"4"]


@case
async def facts_come_in_order_of_revision(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    for n in range(20):
        await bus.put_fact(f"{FACT}a.{n}", b"0")
    notes = Notes()

    async def write() -> None:
        for n in range(100):
            await bus.put_fact(f"{FACT}a.{n % 20}", str(n).encode())

    writing = asyncio.create_task(write())
    await other.watch_facts(notes)
    await writing
    await until(lambda: notes.of(FACT + "a.19")[-1:] and notes.of(FACT + "a.19")[-1].data == b"99", "the last value")
    for n in range(20):
        revisions = [entry.revision for entry in notes.of(f"{FACT}a.{n}")]
        assert revisions == sorted(revisions)
        assert notes.of(f"{FACT}a.{n}")[-1].data == str(80 + n).encode()


@case
async def compared_facts_conflict(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    notes = Notes()
    await other.watch_facts(notes)
    assert notes.got == []
    first = await bus.put_fact(FACT + "a", b"1", expected_revision=0)
    with pytest.raises(Conflict):
        await bus.put_fact(FACT + "a", b"REFUSED", expected_revision=0)
    second = await other.put_fact(FACT + "a", b"2", expected_revision=first)
    with pytest.raises(Conflict):
        await bus.put_fact(FACT + "a", b"REFUSED", expected_revision=first)
    with pytest.raises(Conflict):
        await bus.put_fact(FACT + "b", b"REFUSED", expected_revision=second)
    third = await bus.put_fact(FACT + "a", b"3", expected_revision=second)
    await until(lambda: notes.got[-1:] and notes.got[-1].revision == third, "the last value")
    assert [entry.data for entry in notes.got] == [b"1", b"2", b"3"]  # Never a refused one.


@case
async def compared_facts_have_one_winner(connect: Connect) -> None:
    buses = [await ready(connect), await connect()]
    revision = await buses[0].put_fact(FACT + "a", b"0")
    results = await asyncio.gather(
        *(buses[n % 2].put_fact(FACT + "a", str(n).encode(), expected_revision=revision) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert all(isinstance(result, int | Conflict) for result in results)


@case
async def facts_are_told_again_after_a_restart(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    await bus.put_fact(FACT + "a", b"1")
    await bus.put_fact(FACT + "b", b"1")
    notes = Notes()
    await other.watch_facts(notes)
    assert len(notes.got) == 2
    await connect.server.restart()
    await bus.put_fact(FACT + "a", b"2")
    await until(lambda: notes.of(FACT + "a")[-1].data == b"2", "the change after the restart")
    await until(lambda: len(notes.of(FACT + "b")) == 2, "everything once more")
    revisions = [entry.revision for entry in notes.of(FACT + "a")]
    assert revisions == sorted(revisions)


@case
async def stopped_watch_is_silent(connect: Connect) -> None:
    bus = await ready(connect)
    notes, other = Notes(), Notes()
    watch = await bus.watch_facts(notes)
    await bus.watch_facts(other)
    await watch.stop()
    await watch.stop()
    await bus.put_fact(FACT + "a", b"1")
    await until(lambda: other.got, "the other watch hears it")
    assert notes.got == []


# Counters


@case
async def counters_add_up(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    assert await bus.add("ledger.t.usd.d1", 7, msg_id="1", headers={"x-job": "j1"}) == 7
    assert await other.add("ledger.t.usd.d1", 5, msg_id="2") == 12
    assert await bus.add("ledger.t.usd.d1", -4, msg_id="3") == 8
    assert await bus.add("ledger.t.usd.d2", 1, msg_id="4") == 1
    record = await bus.last("LEDGER", "ledger.t.usd.d1")
    assert record is not None
    assert val(record.data) == 8
    records = await everything(bus, "LEDGER", "ledger.t.usd.d1")
    assert [val(record.data) for record in records] == [7, 12, 8]
    assert [int(record.headers["Nats-Incr"]) for record in records] == [7, 5, -4]
    assert records[0].headers["x-job"] == "j1"


@case
async def repeated_addition_counts_once(connect: Connect) -> None:
    bus = await ready(connect)
    assert await bus.add("ledger.a", 7, msg_id="1") == 7
    assert await bus.add("ledger.a", 3, msg_id="2") == 10
    assert await bus.add("ledger.a", 7, msg_id="1") == 7  # The total of then.
    await connect.server.restart()
    assert await bus.add("ledger.a", 3, msg_id="2") == 10
    assert await bus.add("ledger.a", 1, msg_id="3") == 11


@case
async def concurrent_additions_have_distinct_totals(connect: Connect) -> None:
    buses = [await ready(connect), await connect()]
    totals = await asyncio.gather(*(buses[n % 2].add("ledger.a", 2, msg_id=str(n)) for n in range(40)))
    assert sorted(totals) == list(range(2, 82, 2))


@case
async def additions_may_be_consumed(connect: Connect) -> None:
    bus = await ready(connect)
    queue = Queue(stream="LEDGER", name="sweeper", filters=("ledger.>",))
    await bus.set_up_queue(queue)
    box = Box()
    await bus.consume(queue, box, slots=1)
    await bus.add("ledger.a", 7, msg_id="1", headers={"x-job": "j1"})
    await bus.add("ledger.a", -2, msg_id="2")
    await until(lambda: len(box.got) == 2, "both additions")
    assert [int(delivery.headers["Nats-Incr"]) for delivery in box.got] == [7, -2]
    assert box.got[0].headers["x-job"] == "j1"


@case
async def old_additions_may_be_purged(connect: Connect) -> None:
    """Up to a sequence the total stays; when all are gone the counter begins anew. Other subjects are left alone."""
    bus = await ready(connect)
    for number in range(4):
        await bus.add("ledger.a", 10, msg_id=f"a{number}")
        await bus.add("ledger.b", 1, msg_id=f"b{number}")
    kept = (await bus.last("LEDGER", "ledger.a")).seq  # type: ignore[union-attr]
    await bus.purge("LEDGER", "ledger.a", before_seq=kept)
    assert [record.seq async for record in bus.read("LEDGER", "ledger.a")] == [kept]
    assert await bus.add("ledger.a", 1, msg_id="c") == 41
    await connect.server.restart()
    assert await bus.add("ledger.a", 1, msg_id="d") == 42
    await bus.purge("LEDGER", "ledger.a")
    assert await bus.last("LEDGER", "ledger.a") is None
    assert await bus.add("ledger.a", 5, msg_id="e") == 5
    assert await bus.add("ledger.b", 1, msg_id="f") == 5


# Objects


@case
async def objects_may_be_large(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    large = bytes(range(256)) * (bus.max_payload * 5 // 2 // 256)
    await bus.put_object("t/j/1", large)
    assert await other.get_object("t/j/1") == large
    await bus.put_object("t/j/1", b"replaced")
    assert await other.get_object("t/j/1") == b"replaced"
    await bus.put_object("t/j.2 ü", b"")
    assert await other.get_object("t/j.2 ü") == b""
    assert await bus.get_object("t/j/2") is None


@case
async def objects_named_by_their_content_may_come_twice(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    small, large = b"x" * 7_000, b"y" * 300_000
    for data in (small, small, large, b""):
        kept = await bus.put_object(f"t/j/{len(data)}", data, once=True)
        assert (kept.size_bytes, kept.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert await other.get_object(f"t/j/{len(data)}") == data
    await asyncio.gather(*(bus.put_object(f"many/{n}", bytes([n]) * 100, once=True) for n in range(1, 30)))
    assert [await other.get_object(f"many/{n}") for n in range(1, 30)] == [bytes([n]) * 100 for n in range(1, 30)]


@case
async def objects_come_and_go_in_pieces(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    pieces = [bytes([n % 251]) * size for n, size in enumerate((1, 0, 300_000, 7, 128 * 1024, 1_500_000, 2))]
    whole = b"".join(pieces)

    async def coming() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    kept = await bus.put_object("t/j/1/0", coming())
    assert (kept.size_bytes, kept.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    found = await other.open_object("t/j/1/0")
    assert found is not None
    assert (found.size_bytes, found.sha256) == (kept.size_bytes, kept.sha256)
    read = [piece async for piece in found.pieces]
    assert b"".join(read) == whole
    assert max(map(len, read)) <= 256 * 1024
    assert (await bus.put_object("t/j/1/0", iter([b"ano", b"ther"]))).size_bytes == 7
    assert await other.get_object("t/j/1/0") == b"another"
    assert await other.open_object("t/j/1/1") is None


@case
async def buckets_are_apart(connect: Connect) -> None:
    bus = await ready(connect)
    await bus.put_object("t/a", b"in", bucket=INPUTS)
    assert await bus.get_object("t/a") is None
    await bus.put_object("t/a", b"out")
    assert await bus.get_object("t/a", bucket=INPUTS) == b"in"
    await bus.remove_object("t/a", bucket=INPUTS)
    assert await bus.get_object("t/a", bucket=INPUTS) is None
    assert await bus.get_object("t/a") == b"out"


@case
async def what_is_removed_is_gone_until_it_is_put_again(connect: Connect) -> None:
    bus = await ready(connect)
    await bus.remove_object("t/a")
    await bus.put_object("t/a", b"x" * 300_000)
    await bus.remove_object("t/a")
    await bus.remove_object("t/a")
    assert await bus.open_object("t/a") is None
    await bus.put_object("t/a", b"again")
    assert await bus.get_object("t/a") == b"again"


@case
async def an_object_that_breaks_off_is_not_there(connect: Connect) -> None:
    bus = await ready(connect)
    await bus.put_object("t/a", b"before")

    async def coming() -> AsyncIterator[bytes]:
        yield b"x" * 500_000
        raise OSError("the line was cut")

    with pytest.raises(OSError, match="the line was cut"):
        await bus.put_object("t/a", coming())
    assert await bus.get_object("t/a") == b"before"


@case
async def objects_survive_a_restart(connect: Connect) -> None:
    bus = await ready(connect)
    large = bytes(range(256)) * 3000
    await bus.put_object("a", large)
    await connect.server.restart()
    assert await bus.get_object("a") == large
    storing = [asyncio.create_task(bus.put_object(f"b{n}", large)) for n in range(3)]
    await connect.server.restart()
    await asyncio.gather(*storing)
    assert [await bus.get_object(f"b{n}") for n in range(3)] == [large] * 3


# The connection


@case
async def the_clock_is_near_the_servers(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    before = bus.now()
    put = await other.publish("ev.a.1", b"x", msg_id="1")
    record = await other.get("EV", put.seq)
    assert record is not None
    assert before - 1.0 <= record.time <= other.now() + 1.0


@case
async def closed_is_closed(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    box, ear = Box(), Ear()
    consuming = await bus.consume(TOPOLOGY.queues[0], box, slots=2)
    subscription = await bus.subscribe("job.>", ear)
    await bus.close()
    await bus.close()
    await consuming.stop()
    await subscription.stop()
    await other.publish("ev.a.1", b"x", msg_id="1")
    await asyncio.sleep(0.2)
    assert (box.got, ear.got) == ([], [])
    with pytest.raises(BusClosed):
        await bus.publish("ev.a.2", b"x", msg_id="2")
    with pytest.raises(BusClosed):
        await bus.last("EV", "ev.a.1")
    with pytest.raises(BusClosed):
        await bus.put_fact(FACT + "a", b"x")
    with pytest.raises(BusClosed):
        await bus.add("ledger.a", 1, msg_id="3")
    with pytest.raises(BusClosed):
        await bus.consume(TOPOLOGY.queues[0], box, slots=2)
    with pytest.raises(BusClosed):
        await bus.subscribe("job.>", ear)
    assert await other.last("EV", "ev.a.2") is None


@case
async def closing_ends_what_is_pending(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()

    async def silence(signal: Signal) -> None:
        pass

    await other.subscribe("ask.router.*", silence)
    pending = asyncio.create_task(bus.ask("ask.router.x", b"", timeout_seconds=600))
    await asyncio.sleep(0.1)
    await bus.close()
    with pytest.raises(BusClosed):
        await pending


@case
async def closing_during_a_restart(connect: Connect) -> None:
    bus, other = await ready(connect), await connect()
    await other.publish("ev.warm", b"x", msg_id="warm")
    restarting = asyncio.create_task(connect.server.restart())
    publishing = [asyncio.create_task(bus.publish(f"ev.a.{n}", b"x", msg_id=str(n))) for n in range(5)]
    await asyncio.sleep(0)
    await bus.close()
    results = await asyncio.gather(*publishing, return_exceptions=True)
    assert all(isinstance(result, Put | BusClosed) for result in results)
    await restarting
    stored = {record.subject for record in await everything(other, "EV", "ev.a.>")}
    assert {f"ev.a.{n}" for n, result in enumerate(results) if isinstance(result, Put)} <= stored


@case
async def closing_leaves_no_task(connect: Connect) -> None:
    bus = await ready(connect)
    await bus.publish("ev.warm", b"x", msg_id="warm")
    before = asyncio.all_tasks()
    other = await connect()

    async def forever(delivery: Delivery) -> None:
        await asyncio.Event().wait()

    consuming = await other.consume(TOPOLOGY.queues[0], forever, slots=3)
    await other.subscribe("job.>", Ear())
    await other.watch_facts(Notes())
    await other.publish("ev.a.1", b"x", msg_id="1")
    await asyncio.sleep(0.3)
    assert asyncio.all_tasks() - before
    await consuming.pause()
    await other.close()
    for _ in range(50):
        await asyncio.sleep(0.01)
        if asyncio.all_tasks() <= before:
            break
    assert asyncio.all_tasks() - before == set()
