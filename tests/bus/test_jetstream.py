"""The Bus contract, and what only the real thing can do, on a real nats-server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
import tracemalloc
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus import timekeeper
from bus.bus import Bus, BusError, BusUnavailable, Conflict, Delivery, FactEntry
from bus.jetstream import JetStreamBus, connect
from bus.jetstream_api import Answer, ApiError, StreamNames, epoch, matches, rfc3339
from bus.jetstream_setup import check_server
from bus.link import Credentials, Link, NoAnswer
from bus.server import NatsServer, find_binary
from bus.topology import FACTS, QUEUES, STREAMS, Queue, topology
from bus.wire import decode_headers, encode_headers
from tests.bus.contract import CASES, FACT, TOPOLOGY, Box, Case, Ear, until


class Connect:
    """New connections to one server, all closed in the end."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.made: list[JetStreamBus] = []

    async def __call__(self) -> JetStreamBus:
        bus = await connect(self.server.url, name=f"test-{len(self.made)}")
        self.made.append(bus)
        return bus

    async def close(self) -> None:
        for bus in self.made:
            await bus.close()


class Lab:
    """One event loop and one server for all cases of this module; every case starts without streams."""

    def __init__(self, data_dir: Path) -> None:
        self.runner = asyncio.Runner()
        self.server = NatsServer(data_dir)
        self.runner.run(self.server.start())

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.runner.run(coroutine)

    @asynccontextmanager
    async def case(self) -> AsyncGenerator[Connect]:
        self.server._deaths.clear()  # Each case may kill as often as it likes.
        bus = await connect(self.server.url, name="cleaner")
        for name in (await bus._api.call("STREAM.NAMES", None, StreamNames)).streams or []:
            await bus._api.call(f"STREAM.DELETE.{name}", None, Answer)
        await bus.close()
        made = Connect(self.server)
        try:
            async with asyncio.timeout(60):
                yield made
        finally:
            await made.close()

    def close(self) -> None:
        self.runner.run(self.server.stop())
        self.runner.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("nats"))
    yield lab
    lab.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_contract(lab: Lab, case: Case) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            await case(connect)

    lab.run(run())


def test_it_is_a_bus(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus: Bus = await connect()
            assert bus.max_payload == 1024 * 1024

    lab.run(run())


def test_the_real_topology_is_accepted(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(topology("together"))
            await bus.set_up(topology("apart", apart_from=bus.now() - 5))
            for queue in QUEUES:
                assert await bus.queue_state(queue) is not None
            info = await bus._link.ask("$JS.API.STREAM.NAMES", b"", timeout=5)
            names = msgspec.json.decode(info.data)["streams"]
            assert sorted(names) == sorted([stream.name for stream in STREAMS] + ["OBJ_RESULTS", "OBJ_INPUTS"])

    lab.run(run())


def test_facts_are_a_bucket_that_key_value_clients_can_read(lab: Lab) -> None:
    import nats

    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            await bus.put_fact(FACT + "a", b"1")
            client = await nats.connect(lab.server.url)
            bucket = await client.jetstream().key_value("facts")
            assert (await bucket.get("a")).value == b"1"
            await bucket.put("b", b"2")
            told: list[tuple[str, bytes | None]] = []

            async def on_fact(entry: Any) -> None:
                told.append((entry.subject, entry.data))

            await bus.watch_facts(on_fact)
            assert told == [(FACT + "a", b"1"), (FACT + "b", b"2")]
            await bucket.delete("a")
            await until(lambda: len(told) == 3)
            assert told[2] == (FACT + "a", None)
            await client.close()

    lab.run(run())


def test_objects_are_a_store_that_nats_clients_can_read(lab: Lab) -> None:
    import nats

    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            data = bytes(range(256)) * 2000
            await bus.put_object("t/j", b"old" * 100_000)
            await bus.put_object("t/j", data)
            client = await nats.connect(lab.server.url)
            store = await client.jetstream().object_store("RESULTS")
            assert (await store.get("t/j")).data == data
            await client.close()
            chunks = [record async for record in bus.read("OBJ_RESULTS", "$O.RESULTS.C.>")]
            assert len(chunks) == 4  # Those of the replaced one are gone.

    lab.run(run())


def test_damaged_object_is_not_handed_out(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            await bus.put_object("k", b"x" * 300_000)
            record = [record async for record in bus.read("OBJ_RESULTS", "$O.RESULTS.C.>")][1]
            await bus.purge("OBJ_RESULTS", record.subject)
            with pytest.raises(BusError, match="damaged"):
                await bus.get_object("k")

    lab.run(run())


def test_what_breaks_off_or_is_removed_leaves_no_chunks(lab: Lab) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"x" * 500_000
        raise OSError("cut")

    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            with pytest.raises(OSError, match="cut"):
                await bus.put_object("t/a", broken(), bucket="INPUTS")
            assert [record async for record in bus.read("OBJ_INPUTS", "$O.INPUTS.>")] == []
            await bus.put_object("t/a", b"y" * 500_000)
            found = await bus.open_object("t/a")
            assert found is not None
            await bus.remove_object("t/a")
            left = [record.subject async for record in bus.read("OBJ_RESULTS", "$O.RESULTS.>")]
            assert [subject.split(".")[2] for subject in left] == ["M"]
            with pytest.raises(BusError, match="damaged"):  # Gone while it was read.
                _ = [piece async for piece in found.pieces]

    lab.run(run())


def test_memory_does_not_grow_with_an_object(lab: Lab) -> None:
    size, piece = 48 * 1024 * 1024, bytes(range(256)) * 1024
    tracemalloc.start()

    async def coming() -> AsyncGenerator[bytes]:
        for _ in range(size // len(piece)):
            yield piece

    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            tracemalloc.reset_peak()
            kept = await bus.put_object("t/big", coming())
            found = await bus.open_object("t/big")
            assert found is not None
            assert sum([len(part) async for part in found.pieces]) == size == kept.size_bytes

    try:
        lab.run(run())
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()


def set_wall_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Somebody sets this machine's clock; the server, and what runs already, keep theirs but for what they read anew."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


@pytest.mark.parametrize("step", [-3600.0, -1200.0, 1200.0, 3600.0])
def test_who_sets_the_clock_of_this_machine_moves_no_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: float
) -> None:
    """A job would expire, or another window be spent: before and after the next look at the server, and a reconnect."""

    async def run() -> None:
        async with lab.case() as connect:
            running = await connect()
            await running.set_up(TOPOLOGY)
            set_wall_clock(monkeypatch, step)
            fresh = await connect()
            put = await fresh.publish("ev.a", b"x", msg_id="1")
            record = await fresh.get("EV", put.seq)
            assert record is not None
            for _ in range(3):
                for bus in (running, fresh):
                    assert abs(bus.now() - record.time) < 60.0
                await running.measure_clock()
            await connect.server.restart()
            await until(lambda: running._link.is_up and fresh._link.is_up)
            for bus in (running, fresh):
                assert abs(bus.now() - record.time) < 60.0
            told = [text for text in caplog.messages if "this machine's clock was set" in text]
            assert len(told) == 1, "who was connected then has seen it, and says it once"

    lab.run(run())


def test_a_step_of_the_server_s_clock_is_followed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            there = bus._time_there
            ahead = 1200.0

            async def stepped() -> float | None:
                seen = await there()
                return seen and seen + ahead

            monkeypatch.setattr(bus._timekeeper, "_look", stepped)
            monkeypatch.setattr(timekeeper, "LOOK_SECONDS", 0.0)
            began = bus.now()
            await until(lambda: abs(bus.now() - began - ahead) < 60.0, "the timekeeper looks by itself")
            ahead = 0.0
            await until(lambda: abs(bus.now() - began) < 60.0, "and follows it back")

    lab.run(run())


def test_lost_answer_to_a_compared_fact_is_no_conflict(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            first = await bus.put_fact(FACT + "a", b"1")
            ask, lost = Link.ask, 0

            def lossy(self: Link, subject: str, *args: Any, **more: Any) -> Any:
                nonlocal lost
                answer = ask(self, subject, *args, **more)
                if lost < 2 and not subject.startswith("$JS"):
                    lost += 1
                    return _never(answer)
                return answer

            monkeypatch.setattr(Link, "ask", lossy)
            second = await bus.put_fact(FACT + "a", b"2", expected_revision=first)
            assert (second, lost) == (first + 1, 2)
            lost = 0
            put = await bus.publish("ev.a", b"x", msg_id="1", first_writer=True)
            assert (put.ours, lost) == (True, 2)
            lost = 0
            assert await bus.add("ledger.a", 5, msg_id="1") == 5
            assert await bus.add("ledger.a", 5, msg_id="2") == 10
            with pytest.raises(Conflict):
                await bus.put_fact(FACT + "a", b"3", expected_revision=first)

    lab.run(run())


async def _never(answer: asyncio.Future[Any]) -> Any:
    await answer
    raise NoAnswer


def test_frozen_server_is_a_delay(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            box = Box()
            await bus.consume(TOPOLOGY.queues[0], box, slots=2)
            await asyncio.sleep(0.1)
            lab.server.send_signal(signal.SIGSTOP)
            publishing = asyncio.create_task(bus.publish("ev.a", b"x", msg_id="1", first_writer=True))
            await until(lambda: not bus._link.is_up, "the silence is noticed")
            lab.server.send_signal(signal.SIGCONT)
            put = await publishing
            assert put.ours
            await until(lambda: box.subjects == ["ev.a"], "a delivery")
            assert len([record async for record in bus.read("EV", "ev.>")]) == 1

    lab.run(run())


def test_acknowledgement_while_disconnected_is_kept(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            queue = Queue(stream="WORK", name="w", filters=("work.>",), ack_wait_seconds=30.0)
            await bus.set_up_queue(queue)
            box = Box(ack=False)
            await bus.consume(queue, box, slots=2)
            await bus.publish("work.1", b"x", msg_id="1")
            await until(lambda: box.got)
            await asyncio.sleep(0.3)  # So that the server remembers the delivery.
            lab.server._ready.clear()
            lab.server.kill()
            await until(lambda: not bus._link.is_up)
            await box.got[0].ack()
            await lab.server.ready()
            for _ in range(500):
                if await bus.last("WORK", "work.1") is None:
                    break
                await asyncio.sleep(0.01)
            assert await bus.last("WORK", "work.1") is None
            assert len(box.got) == 1

    lab.run(run())


def test_consumer_that_is_deleted_and_made_again(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            queue = TOPOLOGY.queues[0]
            box = Box()
            await bus.consume(queue, box, slots=3)
            await asyncio.sleep(0.1)
            await bus._api.call(f"CONSUMER.DELETE.{queue.stream}.{queue.name}", None, Answer)
            await bus.publish("ev.a", b"x", msg_id="1")
            await asyncio.sleep(0.3)
            assert box.got == []
            await bus.set_up_queue(queue)
            await until(lambda: box.subjects == ["ev.a"])

    lab.run(run())


def test_stopping_gives_back_what_was_under_way(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus, other = await connect(), await connect()
            await bus.set_up(TOPOLOGY)
            for n in range(300):
                await bus.publish(f"ev.{n}", b"x", msg_id=str(n))
            rest, handled = Box(), set[str]()

            async def handle(delivery: Delivery) -> None:
                handled.add(delivery.subject)
                await delivery.ack()

            consuming = await bus.consume(TOPOLOGY.queues[0], handle, slots=100)
            await until(lambda: handled)
            await consuming.stop()
            before = len(handled)
            await other.consume(TOPOLOGY.queues[0], rest, slots=100)
            await until(lambda: len(handled) + len(set(rest.subjects)) == 300, "the rest, without the wait", seconds=5)
            assert len(handled) == before

    lab.run(run())


def test_subscription_may_end_itself(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            steps: list[str] = []

            async def once(_: object) -> None:
                steps.append("heard")
                await subscription.stop()
                await asyncio.sleep(0)
                steps.append("went on")

            subscription = await bus.subscribe("progress.>", once)
            ear = Ear()
            await bus.subscribe("progress.>", ear)
            await bus.signal("progress.a", b"")
            await bus.signal("progress.b", b"")
            await until(lambda: len(ear.got) == 2)
            await asyncio.sleep(0.05)
            assert steps == ["heard", "went on"]

    lab.run(run())


def test_what_the_server_refuses_is_said(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus = await connect()
            await bus.set_up(TOPOLOGY)
            first = Queue(stream="WORK", name="a", filters=("work.>",))
            await bus.set_up_queue(first)
            with pytest.raises(ApiError, match="10100"):
                await bus.set_up_queue(Queue(stream="WORK", name="b", filters=("work.a.>",)))
            with pytest.raises(ApiError):
                await bus.schedule("sched.a", b"", at=bus.now() + 1, target="elsewhere.a")
            for subject in ("", "ev.a b", "ev.a\r\nPING", "ev." + "x" * 5000):
                with pytest.raises(BusError):
                    await bus.publish(subject, b"", msg_id="1")
            with pytest.raises(BusError, match="header"):
                await bus.publish("ev.a", b"", msg_id="1", headers={"a b": "x"})
            put = await bus.publish("ev.a", b"", msg_id="1", headers={"x": "a\r\nEvil: 1", "y": " z "})
            record = await bus.get("EV", put.seq)
            assert record is not None
            assert "Evil" not in record.headers
            assert record.headers["x"] == "a Evil: 1"
            assert record.headers["y"] == "z"

    lab.run(run())


def test_nobody_there() -> None:
    async def run() -> None:
        with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1\b"):
            await connect("nats://user:secret@127.0.0.1:1", name="x", connect_timeout_seconds=0.3)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_server_may_come_later(tmp_path: Path) -> None:
    async def run() -> None:
        async with NatsServer(tmp_path) as server:
            url, port = server.url, server.port
        connecting = asyncio.create_task(connect(url, name="early", connect_timeout_seconds=30))
        await asyncio.sleep(0.2)
        async with NatsServer(tmp_path, port):
            bus = await connecting
            await bus.set_up(TOPOLOGY)
            assert (await bus.publish("ev.a", b"", msg_id="1")).ours
            await bus.close()

    asyncio.run(run())


@asynccontextmanager
async def plain_server(*arguments: str) -> AsyncGenerator[str]:
    """A nats-server as somebody else runs it."""
    from bus.server import _free_port

    port = _free_port("127.0.0.1")
    with subprocess.Popen(  # noqa: ASYNC220
        [find_binary(), "-a", "127.0.0.1", "-p", str(port), *arguments], stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def test_login(tmp_path: Path) -> None:
    async def run() -> None:
        async with plain_server("-js", "-sd", str(tmp_path), "--user", "u", "--pass", "p") as address:
            with pytest.raises(BusError, match="refuses 'x'") as caught:
                await connect(f"nats://{address}", name="x")
            assert not isinstance(caught.value, BusUnavailable)
            with pytest.raises(BusError, match="refuses"):
                await connect(f"nats://u:wrong@{address}", name="x")
            await (await connect(f"nats://u:p@{address}", name="x")).close()
            credentials = Credentials(user="u", password="p")
            await (await connect(f"nats://{address}", name="x", credentials=credentials)).close()

    asyncio.run(run())


def test_missing_permission_is_said_at_once(tmp_path: Path) -> None:
    config = tmp_path / "conf"
    config.write_text(
        f"""jetstream {{ store_dir: "{tmp_path}/js" }}
        authorization {{ users: [
          {{ user: admin, password: p }},
          {{ user: room, password: p, permissions: {{ publish: ["ev.mine.>"], subscribe: ["_INBOX_room.>"] }} }}
        ] }}"""
    )

    async def run() -> None:
        async with plain_server("-c", str(config)) as address:
            admin = await connect(f"nats://admin:p@{address}", name="admin")
            await admin.set_up(TOPOLOGY)
            room = await connect(f"nats://room:p@{address}", name="room", inbox_prefix="_INBOX_room")
            assert (await room.publish("ev.mine.a", b"", msg_id="1")).ours
            with pytest.raises(BusError, match=r"ev\.Theirs"):
                await room.publish("ev.Theirs", b"", msg_id="2")
            with pytest.raises(BusError, match=r"JS\.API"):
                await room.last("EV", "ev.mine.a")
            assert (await room.publish("ev.mine.b", b"", msg_id="3")).ours
            await room.close()
            await admin.close()

    asyncio.run(run())


def test_jetstream_is_off() -> None:
    async def run() -> None:
        async with plain_server() as address:
            with pytest.raises(BusError, match="JetStream is off"):
                await connect(f"nats://{address}", name="x")

    asyncio.run(run())


@pytest.mark.parametrize(("version", "fits"), [("2.11.9", False), ("2.12.0", True), ("2.15.1-beta", True), ("3", True)])
def test_version(version: str, fits: bool) -> None:
    info = {"version": version, "jetstream": True}
    if fits:
        check_server(info)
    else:
        with pytest.raises(BusError, match=r"version 2\.11\.9; turnout needs 2\.12 or newer"):
            check_server(info)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_parser_does_not_care_how_bytes_are_cut(size: int) -> None:
    wire = (
        b"PING\r\nMSG a.b 1 5\r\nhello\r\n+OK\r\nMSG a.b 1 re.ply 0\r\n\r\n"
        b"HMSG a.c 2 16 21\r\nNATS/1.0\r\nx: y\r\n\r\nMSG \r\r\n"
        b"HMSG a.c 2 _I.1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nPONG\r\n"
    ).replace(b"2 16 21", b"2 18 23")

    async def run() -> None:
        link = Link()
        got: list[tuple[bytes, bytes, bytes, bytes]] = []
        for sid in (1, 2):
            link._listeners[sid] = lambda frame: got.append((frame.subject, frame.reply, frame.data, frame.status))
        parser = link._ps
        for start in range(0, len(wire), size):
            await parser.parse(wire[start : start + size])
        assert got == [
            (b"a.b", b"", b"hello", b""),
            (b"a.b", b"re.ply", b"", b""),
            (b"a.c", b"", b"MSG \r", b""),
            (b"a.c", b"_I.1", b"", b"503"),
        ]

    asyncio.run(run())


def test_headers_come_back() -> None:
    headers = {"ce-id": "1", "traceparent": "00-ä", "empty": "", "colon": "a: b"}
    assert decode_headers(encode_headers(headers)) == headers
    assert decode_headers(b"") == {}
    assert decode_headers(b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n") == {
        "Nats-Pending-Messages": "3"
    }


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("ev.>", "ev.a", True),
        ("ev.>", "ev", False),
        ("ev.>", "ev.a.b", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.c.d", False),
        ("a.*", "a", False),
        (FACTS.subjects[0], FACT + "x", True),
    ],
)
def test_patterns(pattern: str, subject: str, fits: bool) -> None:
    assert matches(pattern, subject) is fits


def test_times() -> None:
    assert epoch("2026-11-21T02:40:00.123456789Z") == pytest.approx(1795228800.123456789, abs=1e-6)
    assert epoch("2026-11-21T02:40:00Z") == 1795228800.0
    assert epoch("2026-11-21T02:40:00.5Z") == 1795228800.5
    assert rfc3339(1795228800.25) == "2026-11-21T02:40:00.250000Z"


def test_a_fact_that_was_removed_unheard_is_told_as_removed_once_all_are_read_again(lab: Lab) -> None:
    async def run() -> None:
        async with lab.case() as connect:
            bus, other = await connect(), await connect()
            await bus.set_up(TOPOLOGY)
            told: list[tuple[str, bytes | None]] = []

            async def note(entry: FactEntry) -> None:
                told.append((entry.subject.removeprefix(FACT), entry.data))

            watch: Any = await other.watch_facts(note)
            for name in "abc":
                await bus.put_fact(FACT + name, b"1")
            await until(lambda: len(told) == 3)
            await bus.purge("KV_facts", FACT + "a")  # Of which nobody is told.
            await bus.put_fact(FACT + "c", b"")
            await until(lambda: told[-1] == ("c", b""))
            assert set(watch._revisions) == {FACT + "a", FACT + "b"}, "what has no value may never come again"
            watch._on_up()
            await until(lambda: told[-1] == ("a", None))
            assert watch._revisions == {FACT + "b": 2}
            await bus.put_fact(FACT + "a", b"2")
            await until(lambda: told[-1] == ("a", b"2"))

    lab.run(run())
