"""The floor: what nats-py alone needs for the same exchanges with the server as a job, without any of our code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import nats
from nats.js.errors import NotFoundError

from bus.bus import Record

connect: Any = cast("Any", nats).connect  # nats-py's options are untyped.
FIRST = {"Nats-Expected-Last-Subject-Sequence": "0"}
FAR = "@at 2099-01-01T00:00:00Z"
STAGES = ("submit", "analyzed", "decided", "granted", "work", "started", "attempted", "done", "expired")


class Floor:
    """Streams and consumers of its own, shaped like ours, on the same server. Bodies are those of a real job."""

    def __init__(self, url: str, bodies: dict[str, bytes]) -> None:
        self.url, self.bodies = url, bodies
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect (the actors' connection and the client's) and create the streams."""
        self.nc: Any = await connect(self.url)
        self.client: Any = await connect(self.url)
        self.js, self.client_js = self.nc.jetstream(), self.client.jetstream()
        for stream in (
            {"name": "FIN", "subjects": ["f.submit.*"]},
            {"name": "FEV", "subjects": ["fev.>", "fsched.>"], "allow_msg_schedules": True,
             "republish": {"src": "fev.>", "dest": "fjob.>"}},
            {"name": "FWORK", "subjects": ["fwork.>"], "retention": "workqueue"},
        ):  # fmt: skip
            config = {"storage": "file", "allow_direct": True, "num_replicas": 1, **stream}
            await self.api(f"STREAM.CREATE.{stream['name']}", config)
        await self.consumer("FIN", "submit")
        await self.consumer("FWORK", "work")
        await self.client.subscribe("fjob.done.*", cb=self._ended)
        await self.client.subscribe("fjob.plain.*", cb=self._ended)
        await self.pull("FIN", "submit", self.front)
        await self.pull("FWORK", "work", self.execute)
        await asyncio.sleep(0.2)

    async def api(self, what: str, body: dict[str, Any]) -> None:
        """One administrative request. Raises RuntimeError when the server refuses."""
        answer = await self.nc.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=5)
        problem = json.loads(answer.data).get("error")
        if problem:
            raise RuntimeError(f"{what}: {problem}")

    async def consumer(self, stream: str, name: str) -> None:
        """A durable pull consumer over all of a stream."""
        config = {"durable_name": name, "ack_policy": "explicit", "max_ack_pending": 1000}
        await self.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})

    async def pull(self, stream: str, name: str, handle: Any) -> None:
        """Ask for messages and start a task for each; ask again in time."""
        inbox = self.nc.new_inbox()
        left = 0

        async def more() -> None:
            nonlocal left
            left += 256
            request = json.dumps({"batch": 256, "expires": 60_000_000_000}).encode()
            await self.nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", request, reply=inbox)

        async def one(message: Any) -> None:
            nonlocal left
            if not message.reply:
                return
            left -= 1
            if left <= 128:
                await more()
            task = asyncio.ensure_future(handle(message))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        await self.nc.subscribe(inbox, cb=one)
        await more()

    async def put(self, subject: str, stage: str, **headers: str) -> None:
        """One acknowledged publish, with a message id as ours."""
        await self.js.publish(subject, self.bodies[stage], headers={"Nats-Msg-Id": subject, **headers})

    async def look(self, subject: str) -> None:
        """Read what is not there: a job that has not ended."""
        try:
            await self.js.get_last_msg("FEV", subject, direct=True)
        except NotFoundError:
            return

    async def front(self, message: Any) -> None:
        """Analyzed; the deadline's schedule beside decided, the look for done, granted; the work item; acknowledge."""
        job = message.subject.rsplit(".", 1)[1]
        await self.put(f"fev.analyzed.{job}", "analyzed", **FIRST)
        schedule = {"Nats-Schedule": FAR, "Nats-Schedule-Target": f"fev.expired.{job}"}
        beside = asyncio.ensure_future(self.put(f"fsched.{job}", "expired", **schedule))
        await self.put(f"fev.decided.{job}", "decided", **FIRST)
        await self.look(f"fev.done.{job}")
        await self.put(f"fev.granted.{job}", "granted", **FIRST)
        await self.put(f"fwork.{job}", "work")
        await beside
        await message.ack()

    async def execute(self, message: Any) -> None:
        """Claim, look for done, attempted, done, acknowledge."""
        job = message.subject.rsplit(".", 1)[1]
        await self.put(f"fev.started.{job}", "started", **FIRST)
        await self.look(f"fev.done.{job}")
        await self.put(f"fev.attempted.{job}", "attempted", **FIRST)
        await self.put(f"fev.done.{job}", "done", **FIRST)
        await message.ack()

    async def _ended(self, message: Any) -> None:
        waiter = self.waiting.pop(message.subject.rsplit(".", 1)[1], None)
        if waiter and not waiter.done():
            waiter.set_result(None)

    def _wait(self, name: str) -> asyncio.Future[None]:
        self.waiting[name] = waiter = asyncio.get_running_loop().create_future()
        return waiter

    async def chain(self, number: int) -> None:
        """The same hops as a job: from the client's submission to its notice of the end."""
        waiter = self._wait(f"c{number}")
        headers = {"Nats-Msg-Id": f"c{number}"}
        await self.client_js.publish(f"f.submit.c{number}", self.bodies["submit"], headers=headers)
        await asyncio.wait_for(waiter, 30)

    async def publish_ack(self, number: int) -> None:
        """One acknowledged publish."""
        await self.put(f"fev.one.{number}", "started")

    async def four_writes(self, number: int) -> None:
        """Four acknowledged first-writer publishes, one after the other."""
        for step in range(4):
            await self.put(f"fev.four.{number}.{step}", "started", **FIRST)

    async def publish_deliver(self, number: int) -> None:
        """From a publish to its republished copy at a core subscriber."""
        waiter = self._wait(f"p{number}")
        await self.put(f"fev.plain.p{number}", "started")
        await asyncio.wait_for(waiter, 30)

    async def close(self) -> None:
        """Close both connections and delete the streams."""
        for stream in ("FIN", "FEV", "FWORK"):
            await self.api(f"STREAM.DELETE.{stream}", {})
        await self.nc.close()
        await self.client.close()


def bodies_of(records: Sequence[Record], submit: bytes) -> dict[str, bytes]:
    """The bodies of one real job by stage. Raises ValueError when a stage is missing.

    The work item is gone once it is done; it is as large as the decision it was made from.
    """
    found = {record.subject.split(".")[1]: record.data for record in records} | {"submit": submit}
    found["work"] = found.get("decided", b"")
    missing = [stage for stage in STAGES if not found.get(stage)]
    if missing:
        raise ValueError(f"no example of {', '.join(missing)}")
    return found
