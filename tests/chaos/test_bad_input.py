"""Bad input, end to end on a real server: each is answered at its place, and the next good job runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import node
from actors.executor.actor import Served
from actors.executor.backends import open_backend
from actors.settings import Settings
from actors.simbackend import SimServer, SimSettings
from bus import codec
from bus.bus import BusError, FactEntry, PayloadTooLarge, Signal
from bus.jetstream import JetStreamBus, connect
from bus.server import NatsServer
from bus.topology import QUEUES
from messages import Backend, DeadLetter, Done, JobSubmit, Message, Model, Refused, token, untoken
from scenarios.invariants import Story, broken, unfinished
from tests.chaos.harness import until
from tests.chaos.process import MODEL, Place

MSGPACK = {"ce-datacontenttype": "application/msgpack"}


class Door:
    """Everything in one process on a real server, and a client before it."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(folder)
        self.backend = SimServer(SimSettings(models=(MODEL,), context_tokens=1_000_000))
        self.heard: dict[tuple[type[Message], str, str], Any] = {}
        self.number = 0

    async def open(self) -> None:
        await self.server.start()
        self.inside = await connect(self.server.url, name="node")
        settings = Settings()
        await node.set_up(self.inside, settings)
        await self.backend.start()
        place = Place(name="one", port=self.backend.port)
        adapter = open_backend("openai", place.url, api_key=None, now=time.time)
        able = Model(name=MODEL, capabilities=("text", "json", "code", "tools", "vision"))
        offer = msgspec.structs.replace(place.offer(), models=(able,))
        served = {place.name: Served(offer=offer, adapter=adapter)}
        rooms = node.build(node.ALL_ROOMS, self.inside, settings, served=served)
        self.host = node.host(self.inside, rooms, settings, instance="node", boot="b1")
        await self.host.open()
        self.bus: JetStreamBus = await connect(self.server.url, name="client")
        for kind in (Done, Refused, DeadLetter):
            await self.bus.subscribe(kind.channel.public, self._on_event)
        known: list[str] = []

        async def on_fact(entry: FactEntry) -> None:
            known.append(entry.subject)

        await self.bus.watch_facts(on_fact)
        await until(lambda: Backend.channel.key_of(backend="one") in known)

    async def _on_event(self, signal: Signal) -> None:
        kind = codec.type_at(signal.subject)
        assert kind is not None
        _, _, tenant, job = signal.subject.split(".")
        self.heard[kind, untoken(tenant), untoken(job)] = codec.decode(kind, signal.data, signal.headers)

    async def close(self) -> None:
        await self.host.close()
        await self.bus.close()
        await self.inside.close()
        await self.backend.stop()
        await self.server.stop()

    async def send(self, body: bytes, headers: dict[str, str] | None = None, subject: str = "job.submit.acme") -> int:
        """Publish like any client; the sequence it got."""
        self.number += 1
        put = await self.bus.publish(subject, body, msg_id=f"test-{self.number}", headers=headers)
        return put.seq

    async def hear(self, kind: type[Message], job: str, tenant: str = "acme") -> Any:
        await until(lambda: (kind, tenant, job) in self.heard, 10.0)
        return self.heard[kind, tenant, job]

    async def good(self) -> None:
        """The stream is not blocked: a good job goes through."""
        seq = await self.send(b'{"prompt": "hello"}')
        done: Done = await self.hear(Done, f"in-{seq}")
        assert done.ending == "succeeded", done.problem

    async def rejected(self, body: bytes, headers: dict[str, str] | None = None, job: str = "") -> Done:
        seq = await self.send(body, headers)
        done: Done = await self.hear(Done, job or f"in-{seq}")
        assert done.ending == "rejected"
        await self.good()
        return done


class Stage:
    """The door, and the loop it lives in."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.door = Door(folder)
        self.runner.run(self.door.open())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)


@pytest.fixture(scope="module", name="stage")
def open_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("nats"))
    yield stage
    stage.run(stage.door.close())
    stage.runner.close()


WRONG: dict[str, tuple[Any, str, str]] = {
    "unknown field": ({"promt": "hi"}, "promt", "'prompt'"),
    "wrong type": ({"prompt": 5}, "prompt", "Expected `str`"),
    "wrong type inside": ({"messages": [5]}, "messages[0]", "Expected `object`"),
    "no list": ({"messages": "hello"}, "messages", "Expected `array`"),
    "float for int": ({"prompt": "hi", "max_output_tokens": 1.5}, "max_output_tokens", "Expected `int"),
    "unknown task": ({"prompt": "hi", "task": "dance"}, "task", "dance"),
    "empty prompt": ({"prompt": ""}, "prompt", "write what should be generated"),
    "blank prompt": ({"prompt": " \n "}, "prompt", "write what should be generated"),
    "nothing": ({}, "prompt", "write what should be generated"),
    "unknown role": ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role", "use one of"),
    "negative deadline": ({"prompt": "hi", "deadline_seconds": -1}, "deadline_seconds", "more than 0"),
    "endless deadline": ({"prompt": "hi", "deadline_seconds": 1e300}, "deadline_seconds", "at most"),
    "no output": ({"prompt": "hi", "max_output_tokens": 0}, "max_output_tokens", "use 1"),
    "negative cost": ({"prompt": "hi", "max_cost_microdollars": -1}, "max_cost_microdollars", "use 0"),
    "unknown model": ({"prompt": "hi", "model": "sim-smal"}, "model", f"Did you mean '{MODEL}'?"),
    "unknown strategy": ({"prompt": "hi", "strategy": "best"}, "strategy", "use one of"),
    "another tenant": ({"prompt": "hi", "tenant": "other"}, "tenant", "'acme'"),
    "long id": ({"prompt": "hi", "id": "x" * 129}, "id", "at most 128"),
    "control character in the id": ({"prompt": "hi", "id": "a\nb"}, "id", "no control characters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named(stage: Stage, case: str) -> None:
    body, field, hint = WRONG[case]
    done = stage.run(stage.door.rejected(json.dumps(body).encode()))
    assert done.problem.reason == "invalid"
    assert done.problem.field == field
    assert hint in done.problem.message
    assert done.cost_microdollars == 0


UNREADABLE: dict[str, tuple[bytes, dict[str, str] | None]] = {
    "cut off": (b'{"prompt": "he', None),
    "no json": (b"hello", None),
    "empty": (b"", None),
    "no object": (b"[1, 2]", None),
    "no text": (b'{"prompt": "\xff\xfe"}', None),
    "half a character": (b'{"prompt": "\\ud800"}', None),
    "too deep": (b'{"messages": ' + b"[" * 100_000, None),
    "messagepack without a header": (msgspec.msgpack.encode({"prompt": "hi"}), None),
    "json with messagepack's header": (b'{"prompt": "hi"}', MSGPACK),
    "broken messagepack": (b"\x81\xa6prompt\xa5he", MSGPACK),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_rejected_and_kept_as_a_dead_letter(stage: Stage, case: str) -> None:
    body, headers = UNREADABLE[case]

    async def run() -> None:
        done = await stage.door.rejected(body, headers)
        assert done.problem is not None
        assert done.problem.reason in ("undecodable", "invalid")
        assert done.problem.message
        letter: DeadLetter = await stage.door.hear(DeadLetter, done.job)
        assert letter.head == body[:200].decode("utf-8", "replace")

    stage.run(run())


def test_a_wrong_field_is_answered_under_the_id_that_was_given(stage: Stage) -> None:
    body = json.dumps({"id": "mine.1 *", "prompt": "hi", "max_output_tokens": "many"}).encode()
    done = stage.run(stage.door.rejected(body, job="mine.1 *"))
    assert done.problem.field == "max_output_tokens"


def test_too_large_is_an_error_at_the_publisher_that_names_size_and_limit(stage: Stage) -> None:
    async def run() -> None:
        submit = JobSubmit(id="large", prompt="x" * 2_000_000)
        with pytest.raises(PayloadTooLarge, match=r"2,000,\d\d\d bytes exceed the limit of 1,048,576 bytes"):
            await stage.door.send(codec.encode(submit))
        await stage.door.good()

    stage.run(run())


def test_a_large_job_below_the_limit_runs(stage: Stage) -> None:
    async def run() -> None:
        submit = JobSubmit(id="below", prompt="x " * 3_000, max_output_tokens=10)
        await stage.door.send(codec.encode(submit))
        assert (await stage.door.hear(Done, "below")).ending == "succeeded"
        submit = JobSubmit(id="by-reference", prompt="x " * 400_000, max_output_tokens=10)
        await stage.door.send(codec.encode(submit))
        assert (await stage.door.hear(Done, "by-reference")).ending == "succeeded"

    stage.run(run())


@pytest.mark.parametrize("tenant", ["a b", "a\tb", "", "a..b", "*", ">", "x" * 5000])
def test_a_tenant_that_is_no_token_is_an_error_at_the_publisher(stage: Stage, tenant: str) -> None:
    async def run() -> None:
        with pytest.raises(BusError):
            await stage.door.send(b'{"prompt": "hi"}', subject=f"job.submit.{tenant}")
        await stage.door.good()

    stage.run(run())


def test_an_empty_tenant_has_no_address() -> None:
    with pytest.raises(ValueError, match="can't be empty"):
        JobSubmit(prompt="hi").subject  # noqa: B018


@pytest.mark.parametrize("tenant", ["b.v. & co", "ünï", "*", ">", "a%41"])
def test_any_tenant_can_be_encoded(stage: Stage, tenant: str) -> None:
    async def run() -> None:
        submit = JobSubmit(tenant=tenant, id="j", prompt="hi")
        await stage.door.send(codec.encode(submit), subject=submit.subject)
        assert (await stage.door.hear(Done, "j", tenant)).ending == "succeeded"

    stage.run(run())


@pytest.mark.parametrize("written", ["a%zz", "ü", "%", "%41"])
def test_a_tenant_that_is_encoded_wrongly_is_rejected(stage: Stage, written: str) -> None:
    async def run() -> None:
        await stage.door.send(b'{"id": "astray", "prompt": "hi"}', subject=f"job.submit.{written}")
        done: Done = await stage.door.hear(Done, "astray", untoken(written))
        assert done.ending == "rejected"
        assert done.problem
        assert done.problem.field == "tenant"
        assert token(untoken(written)) in done.problem.message
        await stage.door.good()

    stage.run(run())


@pytest.mark.parametrize("job", ["a b", "a.b", "*", ">", "%", "ö" * 128, "😀" * 128, "/" * 128])
def test_any_id_can_be_encoded(stage: Stage, job: str) -> None:
    async def run() -> None:
        await stage.door.send(codec.encode(JobSubmit(id=job, prompt="hi")))
        assert (await stage.door.hear(Done, job)).ending == "succeeded"

    stage.run(run())


def test_messagepack_with_its_header_runs(stage: Stage) -> None:
    async def run() -> None:
        body = msgspec.msgpack.encode({"id": "packed", "prompt": "hi", "messages": []})
        await stage.door.send(body, MSGPACK)
        assert (await stage.door.hear(Done, "packed")).ending == "succeeded"

    stage.run(run())


def test_the_same_id_with_another_body_is_refused_and_the_first_one_runs(stage: Stage) -> None:
    async def run() -> None:
        door = stage.door
        await door.send(codec.encode(JobSubmit(id="twice", prompt="one")))
        await door.send(codec.encode(JobSubmit(id="twice", prompt="two")))
        refused: Refused = await door.hear(Refused, "twice")
        assert refused.problem.field == "id"
        assert "another body" in refused.problem.message
        assert (await door.hear(Done, "twice")).ending == "succeeded"
        await door.send(codec.encode(JobSubmit(id="twice", prompt="one")))  # Joins the job; nothing runs again.
        await door.send(b'{"id": "twice", "prompt": 5}')
        await door.good()
        events = [record async for record in door.bus.read("EV", "ev.*.acme.twice.>")]
        ran = {record.subject.split(".")[1] for record in events} - {"explained"}  # Which comes when there is time.
        assert ran == {"attempted", "decided", "granted", "started"}
        assert len(events) - len(ran) <= 1, "nothing ran twice"

    stage.run(run())


STRANGE: dict[str, dict[str, Any]] = {
    "a number no backend can read": {"prompt": "hi", "seed": 10**30},
    "such a number inside": {"prompt": "hi", "tools": [{"type": "function", "function": {"name": "f", "x": 10**400}}]},
    "parts that are none": {"messages": [{"role": "user", "content": [5, None, {"type": 7}, {"type": "image_url"}]}]},
    "calls that are none": {"messages": [{"role": "assistant", "content": None, "tool_calls": 5},
                                         {"role": "user", "content": "hi"}]},
    "a name that is none": {"messages": [{"role": "user", "content": "hi", "name": {"a": []}}]},
    "stops that are many": {"prompt": "hi", "stop": ["x"] * 500},
    "a format that is none": {"prompt": "hi", "response_format": {"type": 5}},
    "a schema that is none": {"prompt": "hi", "response_format": {"type": "json_schema", "json_schema": []}},
    "capabilities that are none": {"prompt": "hi", "capabilities": ["", "x" * 3000]},
    "labels that are long": {"prompt": "hi", "product": "x" * 100_000, "role": "y" * 3000},
    "a workflow with odd characters": {"prompt": "hi", "workflow": "a.b *>/%", "step": "ö", "user": " "},
    "a preferred backend that is none": {"prompt": "hi", "preferred_backend": "*.>"},
    "a prompt of nulls": {"prompt": "\x00" * 100},
}  # fmt: skip


@pytest.mark.parametrize("case", STRANGE)
def test_what_looks_right_but_is_strange_ends_as_well(stage: Stage, case: str) -> None:
    async def run() -> None:
        seq = await stage.door.send(json.dumps({"deadline_seconds": 20, **STRANGE[case]}).encode())
        done: Done = await stage.door.hear(Done, f"in-{seq}")
        assert done.ending in ("succeeded", "rejected", "failed")
        assert done.ending == "succeeded" or (done.problem and done.problem.message)
        await stage.door.good()
        print(done.ending, done.problem)

    stage.run(run())


def test_garbage_on_the_other_doors_blocks_nobody(stage: Stage) -> None:
    async def run() -> None:
        for subject in ("job.cancel.acme.ghost", "job.rate.acme.ghost"):
            for body in (b"", b"hello", b'{"score": "many"}', b"{}"):
                await stage.door.send(body, subject=subject)
        await stage.door.good()

    stage.run(run())


def test_after_all_that_nothing_is_open(stage: Stage) -> None:
    async def look() -> list[str]:
        bus = stage.door.bus
        patterns = {"IN": "job.>", "EV": "ev.>", "LEDGER": "ledger.>", "WORK": "work.>", "KV_facts": "$KV.facts.>"}
        records = {stream: [r async for r in bus.read(stream, pattern)] for stream, pattern in patterns.items()}
        states = {queue.name: await bus.queue_state(queue) for queue in QUEUES}
        pending = {name: s.waiting + s.running for name, s in states.items() if s and s.waiting + s.running}
        story = Story(records=records, now=bus.now())
        return [*broken(story), *unfinished(story, pending)]

    async def run() -> None:
        wrong: list[str] = []
        for _ in range(50):
            wrong = await look()
            if not wrong:
                break
            await asyncio.sleep(0.2)
        assert not wrong
        assert not [name for name in stage.door.host.counts if name.endswith("crashes")]

    stage.run(run())
