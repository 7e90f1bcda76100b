"""Chaos on real processes: a nats-server, rooms and backends that are killed, stopped and started again under load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from bus import codec, topology
from bus.bus import BusUnavailable, Signal
from bus.jetstream import JetStreamBus, connect
from bus.server import NatsServer
from bus.topology import work_queue
from messages import (
    Analyzed,
    Attempted,
    Backend,
    Decided,
    Done,
    Due,
    FailoverRules,
    Granted,
    JobCancel,
    JobResume,
    JobSubmit,
    Message,
    Policy,
    Retry,
    Started,
    untoken,
)
from scenarios.backends import Call
from scenarios.invariants import Log, Outage, Story, broken, unfinished
from tests.chaos.checks import entry_of, more_violations, name
from tests.chaos.process import Called, Counted, Killed, World

ROOT = Path(__file__).resolve().parents[2]
TENANTS = ("acme", "b.v. & co", "x")
PATIENCE = Policy(policy="chaos", failover=FailoverRules(max_attempts=4, waits_seconds=(0.2, 1.0), stall_seconds=4.0))


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return once it is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # What it waits for happens in other processes.
            await asyncio.sleep(0.02)


def free_port() -> int:
    """One below those that systems hand out, so that it is still free when its process starts, however often: nobody else who
    asks for any port is given this one meanwhile. Test processes begin to look at different ones.
    """
    for number in itertools.count(os.getpid() * 16):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port := 20_000 + number % 10_000))
            if port not in _given:
                _given.add(port)
                return port
    raise AssertionError


_given: set[int] = set()


SLOW_JOB_SECONDS = 45.0
SLOW_FAILOVER_SECONDS = 12.0
"""Above this a failover is told step by step."""
Job = tuple[str, str]


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """A process that ended, or froze."""

    name: str
    boot: str
    code: int
    at: float
    until: float = float("inf")


class Child:
    """A process that is started again whenever it ends, under the same name with a new boot, as a supervisor would."""

    def __init__(self, field: Field, parts: str, name: str) -> None:
        self.field, self.parts, self.name = field, parts, name
        self.boots = 0
        self.process: asyncio.subprocess.Process | None = None
        self.ending = False
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeping = asyncio.create_task(self._keep())

    @property
    def boot(self) -> str:
        return f"b{self.boots}"

    async def _keep(self) -> None:
        while not self.ending:
            self.boots += 1
            with self.field.log(self.name).open("ab") as log:
                process = self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.chaos.process", self.parts, self.field.server.url, self.name,
                    self.boot, str(self.field.world_file), stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
                    cwd=ROOT,
                )  # fmt: skip
            code = await process.wait()
            self.field.deaths.append(Death(name=self.name, boot=self.boot, code=code, at=time.time()))
            if not self.ending:
                await asyncio.sleep(0.1)

    def signal(self, number: int) -> bool:
        """Send a signal; whether there was somebody to get it."""
        if self.process is None or self.process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)  # Its own `send_signal` would take the status of one that has just died.
            return True
        return False

    async def stop(self) -> int:
        """Let it end in order; its exit status."""
        self.ending = True
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(15):
                await asyncio.shield(self._keeping or asyncio.sleep(0))
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await asyncio.shield(self._keeping or asyncio.sleep(0))
        return self.process.returncode or 0 if self.process else 0


class Blow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is done to the system."""

    at: float
    """Seconds after the load began."""
    what: Literal["kill server", "freeze server", "kill", "stop", "freeze"]
    whom: str = ""
    seconds: float = 0.0
    """How long it stays frozen; a server is killed after that."""

    def __str__(self) -> str:
        return f"{self.at:5.1f} s {self.what} {self.whom}{f' for {self.seconds:g} s' if self.seconds else ''}"


def plan(
    seed: int, seconds: float, *, actors: Sequence[str], servers: int, kills: int, stops: int = 0,
    freezes: Sequence[tuple[str, float]] = (), backends: Sequence[str] = (),
) -> list[Blow]:  # fmt: skip
    """What happens when, from the seed alone."""
    rng = random.Random(seed)

    def when() -> float:
        return round(rng.uniform(0.03, 0.95) * seconds, 2)

    blows: list[Blow] = []
    for number in range(servers):
        frozen = {2: round(rng.uniform(0.5, 3.0), 1), 4: 8.0, 7: 3.0}.get(number, 0.0)
        blows.append(Blow(at=when(), what="freeze server" if frozen else "kill server", seconds=frozen))
    # Everybody's turn comes: a shuffled deck instead of draws.
    deck: list[str] = []
    while len(deck) < kills + stops:
        deck.extend(rng.sample(list(actors), len(actors)))
    blows.extend(Blow(at=when(), what="kill", whom=name) for name in deck[:kills])
    blows.extend(Blow(at=when(), what="stop", whom=name) for name in deck[kills : kills + stops])
    blows.extend(Blow(at=when() / 2, what="freeze", whom=name, seconds=frozen) for name, frozen in freezes)
    blows.extend(Blow(at=when(), what="kill", whom=name) for name in backends)
    return sorted(blows, key=lambda blow: blow.at)


class Client:
    """Submits jobs under its own ids and waits for their ends."""

    def __init__(self, bus: JetStreamBus) -> None:
        self.bus = bus
        self.backends: list[str] = []
        self.accepted: dict[Job, float] = {}
        self.ends: dict[Job, Done] = {}
        self.heard: Counter[Job] = Counter()
        self.seconds: dict[Job, float] = {}
        self.running: dict[Job, str] = {}
        """Who said `started` last."""

    async def open(self) -> None:
        """Hear ends before anything is submitted; after a reconnect read once what may have been missed."""
        await self.bus.subscribe("job.done.*.*", self._on_done)
        await self.bus.subscribe("job.started.>", self._on_started)
        self.bus.on_reconnect(self.look)

    async def _on_done(self, signal: Signal) -> None:
        done = codec.decode(Done, signal.data, signal.headers)
        _, _, tenant, job = signal.subject.split(".")
        assert (untoken(tenant), untoken(job)) == (done.tenant, done.job)
        self.heard[done.tenant, done.job] += 1
        self._end(done)

    async def _on_started(self, signal: Signal) -> None:
        started = codec.decode(Started, signal.data, signal.headers)
        self.running[started.tenant, started.job] = started.instance

    def _end(self, done: Done) -> None:
        key = done.tenant, done.job
        if key not in self.ends:
            self.ends[key] = done
            self.seconds[key] = time.time() - self.accepted.get(key, time.time())

    async def look(self) -> None:
        """Read the ends that were missed."""
        for tenant, job in [key for key in self.accepted if key not in self.ends]:
            record = await self.bus.last("EV", Done.channel.key_of(tenant=tenant, job=job))
            if record is not None:
                self._end(codec.decode(Done, record.data, record.headers))

    async def submit(self, tenant: str, submit: JobSubmit, again: str = "") -> None:
        """Publish until it is accepted, under one message id."""
        subject = JobSubmit.channel.key_of(tenant=tenant)
        await self._publish(subject, codec.encode(submit), f"{subject}/{submit.id}{again}")
        self.accepted.setdefault((tenant, submit.id), time.time())

    async def cancel(self, tenant: str, job: str) -> None:
        subject = JobCancel.channel.key_of(tenant=tenant, job=job)
        await self._publish(subject, b"{}", subject)

    async def resume(self, tenant: str, job: str, number: int) -> None:
        subject = JobResume.channel.key_of(tenant=tenant, job=job)
        await self._publish(subject, b"{}", f"{subject}/{number}")

    async def _publish(self, subject: str, data: bytes, msg_id: str) -> None:
        while True:
            with contextlib.suppress(BusUnavailable):
                await self.bus.publish(subject, data, msg_id=msg_id)
                return

    async def wait(self, seconds: float) -> None:
        """Return when every accepted job has ended, or the time is over."""
        with contextlib.suppress(TimeoutError):
            await until(lambda: len(self.ends) >= len(self.accepted), seconds)


class Report(msgspec.Struct, kw_only=True):
    """What a run came to."""

    seed: int
    rooms: str
    jobs: int = 0
    endings: dict[str, int] = {}
    outcomes: dict[str, int] = {}
    blows: dict[str, int] = {}
    boundary_kills: dict[str, int] = {}
    restarts: int = 0
    calls: int = 0
    holds: int = 0
    """Reservations that were made."""
    lost: int = 0
    double_ends: int = 0
    double_calls: int = 0
    failover: list[Failover] = []
    """Seconds from an executor's death to the next `started` of each job it ran."""
    frozen_failover: list[Failover] = []
    latency: list[float] = []
    slow_jobs: list[str] = []
    settling: list[float] = []
    """Seconds from the last end until nothing was under way any more, and until all had ended in order."""
    wrong: list[str] = []

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}, rooms {self.rooms}: {self.jobs} jobs, ended {self.endings}",
            f"blows {self.blows}, restarts {self.restarts}",
            f"kills at a boundary {sum(self.boundary_kills.values())} {self.boundary_kills}",
            f"attempts {self.outcomes}, backend calls {self.calls}, reservations {self.holds}",
            f"lost {self.lost}, double ends {self.double_ends}, double calls {self.double_calls}",
            f"failover after a kill: {spread([one.seconds for one in self.failover])}",
            f"... with nothing else meanwhile: {spread([one.seconds for one in self.failover if not one.again])}",
            f"failover after a freeze: {spread([one.seconds for one in self.frozen_failover])}",
            f"submit to done: {spread(self.latency)}",
            f"settled after {' + '.join(f'{seconds:.1f} s' for seconds in self.settling)}",
        ]
        slow = [one for one in self.failover + self.frozen_failover if one.seconds > SLOW_FAILOVER_SECONDS]
        lines.extend(f"slow, {one.seconds:.2f} s: {one.steps}" for one in slow[:10])
        lines.extend(f"slow job, {line}" for line in self.slow_jobs)
        return "\n".join([*lines, *(f"WRONG {wrong}" for wrong in self.wrong)])


def spread(values: Sequence[float]) -> str:
    """Percentiles in words."""
    if not values:
        return "none"
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    return f"n {len(ordered)}, p50 {at(0.5):.2f} s, p99 {at(0.99):.2f} s, max {ordered[-1]:.2f} s"


class Field:
    """A server, its processes, and a client."""

    def __init__(self, folder: Path, world: World, processes: dict[str, str]) -> None:
        self.folder, self.world = folder, world
        self.server = NatsServer(folder / "nats", port=free_port())
        self.world_file = folder / "world.json"
        self.world_file.write_bytes(msgspec.json.encode(world))
        self.children = {name: Child(self, parts, name) for name, parts in processes.items()}
        self.deaths: list[Death] = []
        self.frozen: list[Death] = []
        self.away: list[tuple[float, float]] = []
        """When the server did not answer."""
        self.done: Counter[str] = Counter()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Client]:
        """Start everything; yields a client once all backends are known."""
        await self.server.start()
        bus = await connect(self.server.url, name="client")
        try:
            for child in self.children.values():
                child.start()
            client = Client(bus)
            client.backends = [place.name for place in self.world.places]
            await client.open()
            await self._ready(bus)
            await bus.put_fact(PATIENCE.subject, codec.encode(PATIENCE))
            yield client
        finally:
            self.world.calm.touch()
            for child in self.children.values():
                child.ending = True
                child.signal(signal.SIGCONT)
                child.signal(signal.SIGKILL)
            await asyncio.gather(*(child.stop() for child in self.children.values()))
            await bus.close()
            await self.server.stop()

    async def _ready(self, bus: JetStreamBus) -> None:
        async with asyncio.timeout(60):
            for place in self.world.places:
                subject = Backend.channel.key_of(backend=place.name)
                executors = set(place.served_by) or {n for n, c in self.children.items() if c.parts == "executor"}
                while True:
                    with contextlib.suppress(Exception):  # The streams may not be there yet.
                        record = await bus.last("KV_facts", subject)
                        if record and executors <= set(codec.decode(Backend, record.data).executors):
                            break
                    await asyncio.sleep(0.1)

    async def strike(self, blows: Sequence[Blow]) -> None:
        """Carry out a plan."""
        began = time.monotonic()
        thaws: list[asyncio.Task[None]] = []
        for blow in blows:
            await asyncio.sleep(max(0.0, began + blow.at - time.monotonic()))
            if blow.what in ("kill server", "freeze server"):
                await self.server.ready()
                since = time.time()
                if blow.seconds:
                    self.server.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(blow.seconds)
                await self.server.restart()
                self.away.append((since, time.time()))
                self.done[blow.what] += 1
            elif blow.what == "freeze":
                thaws.append(asyncio.create_task(self._freeze(self.children[blow.whom], blow.seconds)))
            else:
                number = signal.SIGKILL if blow.what == "kill" else signal.SIGTERM
                child = self.children[blow.whom]
                await until(lambda c=child, n=number: c.signal(n))  # While it is being started: its turn comes.
                self.done[f"{blow.what} {child.parts}"] += 1
        for thaw in thaws:
            await thaw

    async def _freeze(self, child: Child, seconds: float) -> None:
        await until(lambda: child.signal(signal.SIGSTOP))
        now = time.time()
        self.frozen.append(Death(name=child.name, boot=child.boot, code=0, at=now, until=now + seconds))
        self.done[f"freeze {child.parts}"] += 1
        await asyncio.sleep(seconds)
        child.signal(signal.SIGCONT)

    async def settle(self, client: Client, seconds: float) -> Report:
        """Wait until nothing is under way any more, then judge. The world must be calm."""
        began = time.monotonic()
        await client.look()
        report = await self._judge(client)
        while report.wrong and time.monotonic() < began + seconds:
            await asyncio.sleep(0.5)
            report = await self._judge(client)
        settled = time.monotonic()
        codes = await asyncio.gather(*(child.stop() for child in self.children.values()))
        report.settling = [settled - began, time.monotonic() - settled]
        for child, code in zip(self.children, codes, strict=True):
            if code not in (0, -signal.SIGTERM):
                report.wrong.append(f"{child} ended with {code} on SIGTERM")
        report.wrong.extend(self._said_in_logs())
        return report

    async def _judge(self, client: Client) -> Report:
        bus = client.bus
        patterns = {"IN": "job.>", "EV": "ev.>", "LEDGER": "ledger.>", "WORK": "work.>", "KV_facts": "$KV.facts.>"}
        records = {stream: [r async for r in bus.read(stream, pattern)] for stream, pattern in patterns.items()}
        called = lines(self.world.calls, Called)
        deaths = {(death.name, death.boot): death.at for death in self.deaths}
        calls = calls_of(called, deaths, lines(self.world.counts, Counted))
        story = Story(
            records=records, calls=calls, budgets=self.world.budgets, now=bus.now(),
            outages=[Outage(d.name, d.boot, d.at, d.until) for d in (*self.deaths, *self.frozen)],
        )  # fmt: skip
        log = Log(story)
        kills = lines(self.world.kills, Killed)
        executors = {child.name for child in self.children.values() if child.parts == "executor"}
        hits = [(death.at, death.at) for death in self.deaths if death.name in executors]
        hits += [(frozen.at, frozen.until) for frozen in self.frozen] + self.away
        report = Report(
            seed=self.world.seed, rooms=self.world.rooms, jobs=len(client.accepted), calls=len(calls),
            endings=dict(Counter(done.ending for done in client.ends.values())),
            outcomes=dict(Counter(found[0].message.outcome for found in log.of(Attempted).values())),
            blows=dict(self.done), boundary_kills=dict(Counter(kill.point for kill in kills)),
            restarts=sum(child.boots - 1 for child in self.children.values()),
            holds=sum(entry_of(record).step == "reserve" for record in records["LEDGER"]),
            lost=sum(key not in log.of(Done) for key in client.accepted),
            double_ends=sum(len(found) > 1 for found in log.of(Done).values()),
            double_calls=sum(n > 1 for n in Counter((c.tenant, c.job, c.n) for c in calls).values()),
            failover=failovers(log, deaths, hits),
            frozen_failover=failovers(log, {(death.name, death.boot): death.at for death in self.frozen}, hits),
            latency=list(client.seconds.values()),
            slow_jobs=slow_jobs(log, client.seconds),
        )  # fmt: skip
        pending = {queue: count async for queue, count in self._pending(bus)}
        begun = [call for call in called if call.what == "call"]
        report.wrong = [*broken(story), *unfinished(story, pending), *more_violations(story, begun, client.accepted)]
        report.wrong += [f"the client heard no end of {name(*key)}" for key in client.accepted.keys() - client.ends]
        return report

    async def _pending(self, bus: JetStreamBus) -> AsyncIterator[tuple[str, int]]:
        """Consumers with messages that wait or are not acknowledged. Rooms that no process has don't count."""
        parts = {part for child in self.children.values() for part in child.parts.split(",")}
        absent = tuple(part for part in ("telemetry", "explainer", "notifier") if part not in parts)
        queues = [*topology.QUEUES, *(topology.APART if self.world.rooms == "apart" else ())]
        queues = [queue for queue in queues if not queue.name.startswith(absent)]
        for queue in [*queues, *(work_queue(place.name, 1) for place in self.world.places)]:
            state = await bus.queue_state(queue)
            if state is not None and state.waiting + state.running:
                yield queue.name, state.waiting + state.running

    def _said_in_logs(self) -> list[str]:
        """Crashes of rooms, and processes that ended by themselves."""
        found = [
            f"{death.name}/{death.boot} ended by itself with {death.code}"
            for death in self.deaths
            if death.code not in (0, -signal.SIGKILL, -signal.SIGTERM)  # SIGTERM: before it could listen to it.
        ]
        for child in self.children:
            with contextlib.suppress(FileNotFoundError):
                text = self.log(child).read_text(errors="replace").splitlines()
                bad = [line for line in text if " ERROR " in line or line.startswith("Traceback")]
                found.extend(f"{child} said: {line}" for line in bad[:5])
        return found


def calls_of(
    called: Sequence[Called], deaths: Mapping[tuple[str, str], float], counts: Sequence[Counted]
) -> list[Call]:
    """The log's calls, each with its end and what its backend counted; the death of its process ended a call as well."""
    used = {(c.tenant, c.job, c.n): c for c in counts if c.n}
    none = Counted(tenant="", job="", backend="", read_tokens=0, made_tokens=0)
    ends = {(c.tenant, c.job, c.n, c.boot, c.run): c.at for c in called if c.what == "end"}
    return [
        Call(
            tenant=c.tenant, job=c.job, n=c.n, backend=c.backend, instance=c.instance, boot=c.boot, prompt=c.prompt,
            began_at=c.at, ended_at=ends.get((c.tenant, c.job, c.n, c.boot, c.run), deaths.get((c.instance, c.boot))),
            read_tokens=used.get((c.tenant, c.job, c.n), none).read_tokens,
            made_tokens=used.get((c.tenant, c.job, c.n), none).made_tokens,
        )
        for c in called
        if c.what == "call"
    ]  # fmt: skip


def detail(message: Message) -> str:
    """What matters of an event, in brackets."""
    match message:
        case Decided():
            return f" ({message.reason[:300]})"
        case Granted():
            return f" ({message.backend or message.verdict} {'; '.join(skip.reason for skip in message.skipped)[:300]})"
        case Attempted():
            return f" ({message.outcome} on {message.backend})"
        case _:
            return ""


def steps_of(log: Log, key: Job) -> list[tuple[float, str, int, str]]:
    """When what was stored about a job."""
    kinds = (Analyzed, Attempted, Retry, Due, Decided, Granted, Started, Done)
    return sorted(
        (told.time, type(told.message).__name__, getattr(told.message, "n", 0), detail(told.message))
        for kind in kinds
        for other, found in log.of(kind).items()
        if other[:2] == key
        for told in found
    )


def slow_jobs(log: Log, seconds: Mapping[Job, float]) -> list[str]:
    """The steps of the slowest jobs, if they are slow."""
    found: list[str] = []
    for key in sorted(seconds, key=lambda key: -seconds[key])[:3]:
        steps = steps_of(log, key)
        if seconds[key] > SLOW_JOB_SECONDS and steps:
            told = ", ".join(f"{what} {n} {at - steps[0][0]:+.2f}{more}" for at, what, n, more in steps)
            found.append(f"{seconds[key]:.1f} s, {name(*key)}: {told}")
    return found


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was lost with its executor, and when the job started again."""

    seconds: float
    """From the death to the next `started`."""
    again: bool
    """Meanwhile the server was away, or another executor died or froze, perhaps with the next try."""
    steps: str
    """When each event after the death came, in seconds."""


def failovers(log: Log, deaths: Mapping[tuple[str, str], float], hits: Sequence[tuple[float, float]]) -> list[Failover]:
    """One for every attempt that was lost with one of these processes and followed by another."""
    found: list[Failover] = []
    for key, (attempted, *_) in log.of(Attempted).items():
        claim = log.first(Started, *key)
        if attempted.message.outcome != "executor_lost" or claim is None:
            continue
        died = deaths.get((claim.message.instance, claim.message.boot))
        later = [step for step in steps_of(log, key[:2]) if step[2] >= key[2]]
        starts = [at for at, what, n, _ in later if what == "Started" and n > key[2]]
        if died is None or claim.time > died or not starts:
            continue
        steps = ", ".join(f"{what} {n} {at - died:+.2f}{more}" for at, what, n, more in later)
        steps = f"{name(*key)} on {attempted.message.backend}: {steps}"
        again = any(since < min(starts) and until > died and since != died for since, until in hits)
        found.append(Failover(seconds=min(starts) - died, again=again, steps=steps))
    return found


T = TypeVar("T")


def lines(path: Path, kind: type[T]) -> list[T]:
    """A log of JSON lines; none when nobody wrote."""
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]


def environment_seed(default: int) -> int:
    """SEED from the environment, to play a run again."""
    return int(os.environ.get("SEED", default))
