"""The simulated world: a server in memory, processes as in production, backends that act, and verbs that break things.

A process can crash, bounce, be partitioned, freeze and heal; it crashes at any step boundary one asks for. Use it inside
`bus.simloop.run`: time is virtual, and the same seed takes the same steps.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from actors import node
from actors.executor.actor import Executor, Served
from actors.host import Host
from actors.parking.actor import Parking
from actors.room import Room
from actors.settings import Settings
from bus import codec
from bus.bus import BusClosed, BusUnavailable, Record
from bus.memory import Faults, MemoryBus, MemoryServer
from bus.topology import STREAMS
from messages import Done, JobCancel, JobResume, JobSubmit, Limit, Message, Model, Offer, Price, Work
from scenarios.backends import MAKING, Acted, Call, Playwright, Script, Stage
from scenarios.invariants import Life, Outage, Story
from scenarios.keeping import Keeping, Shelf

LOAD_SECONDS = 1.0
"""The registry looks at the queues this often: its 200 ms would fill a simulation with nothing else."""
LOOK_SECONDS = 0.5
"""And the parking at who waits, for the same reason."""
FOREVER = float("inf")


def offer(backend: str, *, slots: int = 2, price: int = 0, models: Sequence[str] = ("m",), priority: int = 1) -> Offer:
    """What an executor announces for a backend; `price` in micro-dollars per million tokens."""
    made = [
        Model(
            name=name,
            capabilities=("text", "json", "code"),
            price=Price(input_per_mtok=price, output_per_mtok=price),
            tokens_per_second=100.0,
        )
        for name in models
    ]
    return Offer(
        backend=backend, protocol="inprocess", local=not price, slots=slots, models=tuple(made), priority=priority
    )  # fmt: skip


class Spec(NamedTuple):
    """What a process runs."""

    parts: tuple[str, ...]
    offers: tuple[Offer, ...] = ()


class Moment(NamedTuple):
    """One step boundary of a process."""

    process: str
    point: str
    """`before publish`, `after publish` or `before acknowledge`."""
    what: str
    """The event's name without `turnout.`, `schedule`, or the subject to be acknowledged."""


Watcher = Callable[[Moment], bool]
"""Asked at every step boundary; true crashes the process right there."""


class Valve:
    """Holds back what a process sends and hears while it is frozen."""

    def __init__(self, bus: MemoryBus) -> None:
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._frozen = False
        for link in (bus.up, bus.down):
            self._fit(link)

    def _fit(self, link: Any) -> None:
        send, cut = link.send, link.cut

        def held_send(call: Callable[..., None], *args: Any) -> None:
            if self._frozen:
                self._held.append((send, (call, *args)))
            else:
                send(call, *args)

        def held_cut(arrive: int = 0) -> None:
            self._held.clear()
            cut(arrive)

        link.send, link.cut = held_send, held_cut

    def freeze(self) -> None:
        """Let nothing through."""
        self._frozen = True

    def thaw(self) -> None:
        """Let everything through that was held back, in order."""
        self._frozen = False
        held, self._held = self._held, []
        for send, args in held:
            send(*args)


class Process:
    """One process of the deployment, through all its lives."""

    def __init__(self, name: str, spec: Spec) -> None:
        self.name, self.spec = name, spec
        self.boots = 0
        self.host: Host | None = None
        self.bus: MemoryBus | None = None
        self.valve: Valve | None = None
        self.starting: asyncio.Task[None] | None = None
        self.stays_down = False

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.bus is not None and not self.bus.closed

    @property
    def boot(self) -> str:
        """The present or latest boot."""
        return f"b{self.boots}"


class World:
    """A deployment on one simulated server."""

    def __init__(
        self,
        *,
        seed: int = 0,
        settings: Settings | None = None,
        faults: Faults | None = None,
        write: Playwright | None = None,
        replicas: Any = 1,
        dead_after_seconds: float = 6.0,
        keeping: Iterable[str] = (),
    ) -> None:
        """`keeping`: backends that go on with a call when its caller has died."""
        self.settings = settings or Settings()
        self.server = MemoryServer(seed=seed, faults=faults or Faults(), replicas=replicas)
        self.stage = Stage(
            write or (lambda _: Script()), self.server.now, lambda call: self._crash_in_call(call.instance)
        )
        self.keeping, self.shelf = frozenset(keeping), Shelf(self.server.now, self._is_dead)
        self.processes: dict[str, Process] = {}
        self.outages: list[Outage] = []
        """When which process could not be heard, and was alive or not."""
        self.lives: list[Life] = []
        self.changed: list[str] = []
        """Budgets whose limits were changed."""
        self.signals_arrive = self.server.faults.signal_lost == 0.0
        self.watch: Watcher = lambda _: False
        self.down_seconds: Callable[[Process], float] = lambda _: 1.0
        """How long a crashed process stays down; infinite: for ever."""
        self.ended: dict[tuple[str, str], asyncio.Event] = {}
        self.healed_at = 0.0
        self.client: MemoryBus | None = None
        self._dead_after_seconds = dead_after_seconds
        self._background: set[asyncio.Task[Any]] = set()
        self._submissions = 0

    # ----------------------------------------------------------------------------------------------- building

    async def open(self, processes: Mapping[str, Spec]) -> None:
        """Set the streams up and start all processes, in order."""
        self.client = await self.server.connect("client", patience_seconds=60.0)
        await node.set_up(self.client, self.settings)
        await self.client.subscribe(Done.channel.public, self._on_done)
        for name, spec in processes.items():
            await self.start(name, spec)

    async def start(self, name: str, spec: Spec | None = None) -> None:
        """Start a process, or start it again; it gets a new boot."""
        process = self.processes.get(name)
        if process is None:
            assert spec is not None
            process = self.processes[name] = Process(name, spec)
        if spec is not None:
            process.spec = spec
        process.boots += 1
        bus = await self.server.connect(f"{name}/{process.boot}")
        process.bus, process.valve = bus, Valve(bus)
        rooms = self._rooms(process, bus)

        async def boundary(point: str, what: str) -> None:
            if self.watch(Moment(name, point, what.removeprefix("turnout."))):
                self.server.note("crash at", name, point, what)
                self.crash(name)
                raise BusClosed(f"{name} crashed {point} {what}")

        process.host = node.host(
            bus, rooms, self.settings, instance=name, boot=process.boot, boundary=boundary
        )  # fmt: skip
        if process.spec.offers:
            backends = tuple(o.backend for o in process.spec.offers)
            self.lives.append(Life(name, process.boot, backends, self.server.now()))
        await process.host.open()

    def _rooms(self, process: Process, bus: MemoryBus) -> list[Room]:
        names = node.check_parts(process.spec.parts, self.settings)
        served = {o.backend: Served(offer=o, adapter=self._adapter(o.backend)) for o in process.spec.offers}
        rooms = node.build(
            names, bus, self.settings, served=served, offload=node.here, dead_after_seconds=self._dead_after_seconds
        )  # fmt: skip
        for room in rooms:
            self._fit(room, process)
        return rooms

    def _adapter(self, backend: str) -> Acted:
        return Keeping(self.stage, backend, self.shelf) if backend in self.keeping else Acted(self.stage, backend)

    def _is_dead(self, call: Call) -> bool:
        """Whether the process that made a call has died since."""
        process = self.processes[call.instance]
        return process.boot != call.boot or not process.up

    def _fit(self, room: Room, process: Process) -> None:
        """Slow the registry's and the parking's looks down, and let the stage know which attempt a call belongs to."""
        if room.name not in ("registry", "executor", "parking"):
            return
        factory, boot = room.factory, process.boot

        def fitted() -> Any:
            actor: Any = factory()
            if isinstance(actor, Executor):
                run = actor.run

                def known_run(work: Work, heard: Any) -> Any:
                    making = Call.of(work, process.name, boot)
                    MAKING.set(making)
                    return _failing(run(work, heard), making)

                actor.run = known_run
            elif isinstance(actor, Parking):
                actor.busy_seconds = LOOK_SECONDS
            else:
                actor.load_seconds = LOAD_SECONDS
            return actor

        room.factory = fitted
        room.actor = fitted()

    async def _on_done(self, signal: Any) -> None:
        _, _, tenant, job = signal.subject.split(".")
        event = self.ended.get((tenant, job))
        if event is not None:
            event.set()

    # -------------------------------------------------------------------------------------------------- verbs

    def _crash_in_call(self, name: str) -> None:
        self.crash(name)

    def crash(self, name: str, *, down_seconds: float | None = None) -> None:
        """A process dies at once. It comes back after a while, unless it shall stay down."""
        process = self.processes[name]
        bus, host = process.bus, process.host
        if bus is None or bus.closed or host is None:
            return
        self.outages.append(Outage(name, process.boot, self.server.now(), FOREVER))
        bus.crash()
        self.spawn(host.close())
        seconds = self.down_seconds(process) if down_seconds is None else down_seconds
        if seconds < FOREVER:
            process.starting = self.spawn(self.again(name, seconds))

    async def again(self, name: str, seconds: float = 0.0) -> None:
        """Start a process that is down, after a while; as a supervisor would, try until it is up."""
        process = self.processes[name]
        while True:
            await asyncio.sleep(seconds)
            if process.stays_down or process.up:
                return
            try:
                await self.start(name)
            except (BusClosed, BusUnavailable):
                self.crash(name, down_seconds=FOREVER)
                seconds = 1.0

    async def bounce(self, name: str, down_seconds: float = 1.0, *, spec: Spec | None = None) -> None:
        """Crash a process and start it again, perhaps as another one."""
        self.crash(name, down_seconds=FOREVER)
        await asyncio.sleep(down_seconds)
        await self.start(name, spec)

    async def stop(self, name: str, patience_seconds: float = 30.0) -> None:
        """End a process in order: it takes nothing new, finishes what it has, and leaves."""
        process = self.processes[name]
        if process.host is None or process.bus is None or process.bus.closed:
            return
        host, bus = process.host, process.bus
        self.outages.append(Outage(name, process.boot, self.server.now(), FOREVER))
        with contextlib.suppress(BusClosed, BusUnavailable):
            await node.leave(host)
            await host.drain(patience_seconds)
            await host.close()
            await bus.close()

    def partition(self, name: str, seconds: float) -> None:
        """Cut a process off from the server; it lives on and comes back after a while."""
        process = self.processes[name]
        if process.bus is None or process.bus.closed:
            return
        now = self.server.now()
        self.outages.append(Outage(name, process.boot, now, now + seconds))
        process.bus.cut(seconds)

    def freeze(self, name: str, seconds: float) -> None:
        """Stop a process in its tracks (SIGSTOP) as far as others can tell, and let it go on after a while."""
        process = self.processes[name]
        valve = process.valve
        if valve is None or not process.up:
            return
        now = self.server.now()
        self.outages.append(Outage(name, process.boot, now, now + seconds))
        self.server.note("frozen", name, seconds)
        valve.freeze()
        asyncio.get_running_loop().call_later(seconds, valve.thaw)

    def set_clock(self, name: str, seconds: float) -> None:
        """Somebody sets the wall clock of a process's machine, forward or back."""
        process = self.processes[name]
        if process.up and process.bus is not None:
            process.bus.wall_ahead += seconds
            self.server.note("wall clock set", name, seconds)

    async def restart_server(self, down_seconds: float = 0.3) -> None:
        """Kill the server and start it again; meanwhile nobody can be heard."""
        now = self.server.now()
        for process in self.processes.values():
            if process.up:
                self.outages.append(Outage(process.name, process.boot, now, now + down_seconds + 0.2))
        await self.server.restart(down_seconds)

    async def heal(self) -> None:
        """No more faults; whoever is down and shall come back is started."""
        self.server.faults = Faults(delay_seconds=self.server.faults.delay_seconds)
        self.watch = lambda _: False
        self.stage.ill.clear()
        self.server.start()
        self.healed_at = self.server.now()
        for process in self.processes.values():
            if process.valve is not None:
                process.valve.thaw()
            if not process.up and not process.stays_down and (process.starting is None or process.starting.done()):
                await self.again(process.name)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run something beside the story."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # ------------------------------------------------------------------------------------------------- client

    async def say(self, message: Message, subject: str = "", *, msg_id: str = "") -> None:
        """Publish as a client would."""
        await self.put(subject or message.subject, codec.encode(message), msg_id=msg_id)

    async def put(self, subject: str, data: bytes, *, msg_id: str = "") -> None:
        """Publish any bytes as a client would."""
        assert self.client is not None
        self._submissions += 1
        await self.client.publish(subject, data, msg_id=msg_id or f"client-{self._submissions}")

    async def submit(self, job: str, *, tenant: str = "acme", prompt: str = "", **more: Any) -> None:
        """Submit a job."""
        self.ended.setdefault((tenant, job), asyncio.Event())
        await self.say(JobSubmit(id=job, prompt=prompt or f"write about {job}", **more), f"job.submit.{tenant}")

    async def resume(self, job: str, tenant: str = "acme") -> None:
        """Let a held job try again."""
        await self.say(JobResume(tenant=tenant, job=job, by="ada"))

    async def fact(self, message: Message) -> None:
        """Say a fact as a person would, whatever was said before."""
        assert self.client is not None
        if isinstance(message, Limit):
            self.changed.append(message.name)
        await self.client.put_fact(message.subject, codec.encode(message))

    async def cancel(self, job: str, tenant: str = "acme") -> None:
        """Cancel a job."""
        await self.say(JobCancel(tenant=tenant, job=job))

    def done(self, job: str, tenant: str = "acme") -> Done | None:
        """The end of a job, if it has one."""
        record = self.server.last("EV", Done.channel.key_of(tenant=tenant, job=job))
        return codec.decode(Done, record.data) if record else None

    async def until(self, condition: Callable[[], bool], patience_seconds: float, step_seconds: float = 0.5) -> bool:
        """Wait for a condition; false when it did not come true in time."""
        give_up = self.server.time() + patience_seconds
        while not condition():
            if self.server.time() >= give_up:
                return False
            await asyncio.sleep(step_seconds)
        return True

    async def until_done(self, jobs: Iterable[str], patience_seconds: float = 100.0, tenant: str = "acme") -> bool:
        """Wait until these jobs have ended."""
        wanted = list(jobs)
        return await self.until(lambda: all(self.done(job, tenant) for job in wanted), patience_seconds)

    # ------------------------------------------------------------------------------------------------ evidence

    def log(self, stream: str) -> list[Record]:
        """What a stream holds."""
        return self.server.log(stream)

    def story(self) -> Story:
        """Everything the invariants look at."""
        return Story(
            records={stream.name: self.log(stream.name) for stream in STREAMS},
            calls=list(self.stage.calls),
            outages=list(self.outages),
            lives=list(self.lives),
            signals_arrive=self.signals_arrive,
            budgets=self.settings.budgets,
            changed=tuple(self.changed),
            slots=self._slots(),
            healed_at=self.healed_at,
            now=self.server.now(),
        )

    def _slots(self) -> dict[str, int]:
        """Attempts at once of each backend: the processes that ever served it share them."""
        found: dict[str, int] = {}
        for process in self.processes.values():
            for offer in process.spec.offers:
                found[offer.backend] = max(offer.slots, found.get(offer.backend, 0))
        return found

    def pending(self) -> dict[str, int]:
        """Consumers that are not empty, with how many messages wait or are held. Rooms that no process has don't count."""
        parts = {part for process in self.processes.values() for part in process.spec.parts}
        absent = tuple(part for part in ("telemetry", "explainer", "notifier") if part not in parts)
        found: dict[str, int] = {}
        for stream in STREAMS:
            for name, durable in self.server.stream(stream.name).durables.items():
                if name.startswith(absent):
                    continue
                state = durable.state()
                if state.waiting or state.running:
                    found[name] = state.waiting + state.running
        return found

    async def close(self) -> None:
        """End everything."""
        for process in self.processes.values():
            process.stays_down = True
            if process.host is not None and process.bus is not None and not process.bus.closed:
                try:
                    await process.host.close()
                    await process.bus.close()
                except (BusClosed, BusUnavailable):
                    continue
        if self.client is not None:
            await self.client.close()
        for task in list(self._background):
            task.cancel()


def summary(record: Record) -> str:
    """One stored message as a line."""
    kind = codec.type_at(record.subject)
    try:
        body, headers = codec.body_of(record.data, record.headers)
        message: Any = codec.decode(kind, body, headers) if kind else None
    except codec.Undecodable:
        message = None
    shown = ""
    if message is not None:
        fields = (
            "ending",
            "verdict",
            "backend",
            "outcome",
            "instance",
            "boot",
            "run",
            "purpose",
            "billed_microdollars",
        )
        shown = " ".join(f"{f}={getattr(message, f)}" for f in fields if getattr(message, f, ""))
    extra = record.headers.get("Nats-Incr", "")
    return f"{record.time:17.3f} {record.seq:5} {record.subject} {shown} {extra}".rstrip()


async def _failing(run: AsyncGenerator[Any, None], making: Call) -> AsyncGenerator[Any, None]:
    """What a run says, until its call makes it fail."""
    async with aclosing(run) as said:
        async for one in said:
            if making.fails:
                raise RuntimeError("scripted bug")
            yield one
