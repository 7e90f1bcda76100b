"""Composition: which rooms, on which bus. The only module that knows the rooms."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from actors.actor import Actor, Heard
from actors.alert_settings import thresholds, webhooks_of
from actors.analyzer.actor import Analyzer
from actors.counter import BusCounter
from actors.executor import (
    adding,  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
    script,  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
    switch,  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
)
from actors.executor.actor import Executor, Served
from actors.executor.claim import Drainer, InHand
from actors.executor.discover import Discovery
from actors.executor.recipes import loading
from actors.executor.recipes.recipe import Recipe
from actors.explainer.actor import Explainer
from actors.guardrail import (
    breaker,  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
    breaker_hand,  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
)
from actors.guardrail.actor import Guardrail
from actors.guardrail.budgets import configured
from actors.guardrail.ceilings import counting
from actors.guardrail.fold import Fold
from actors.guardrail.ledger import Ledger
from actors.guardrail.monitor import Monitor
from actors.guardrail.sweeper import Sweeper
from actors.host import Host
from actors.journal import Journal
from actors.notifier.actor import Notifier
from actors.notifier.post import post
from actors.parking.actor import Parking
from actors.parking.schedules import Schedules
from actors.registry.actor import Registry
from actors.registry.aside import Aside, NoAnswer
from actors.registry.gpu import Look, Nvml
from actors.registry.sensor import GpuSensor
from actors.room import Room
from actors.roster import DEAD_AFTER_SECONDS, Roster
from actors.router import (
    policyfile,
    verify,  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
)
from actors.router.actor import Router
from actors.router.case import Strategy
from actors.router.rulebook import silent  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
from actors.router.shipped import (
    named_sets,  # noqa: F401  # pyright: ignore[reportUnusedImport]  # For the console.
    overrides_from,
    shipped_policies,
)
from actors.router.strategies import load_strategies
from actors.settings import Budget, Settings, SettingsError
from actors.telemetry.actor import Telemetry
from actors.telemetry.history import History, Offload
from actors.voice import Boundary
from bus import codec, topology
from bus.bus import Bus, Conflict, QueueState
from bus.topology import work_queue
from messages import Deployment, Policy

PARTS: Mapping[str, tuple[str, ...]] = {
    "front": ("analyzer", "router", "parking", "guardrail", "breaker", "sweeper", "monitor"),
    "analyzer": ("analyzer",),
    "router": ("router", "parking"),
    "guardrail": ("guardrail", "breaker", "sweeper", "monitor"),
    "registry": ("registry", "drainer"),
    "executor": ("executor", "sensor"),
    "telemetry": ("telemetry",),
    "explainer": ("explainer",),
    "notifier": ("notifier",),
}
"""What `turnout run <part>` starts."""
ALL_ROOMS = (
    "analyzer",
    "router",
    "parking",
    "guardrail",
    "breaker",
    "sweeper",
    "monitor",
    "registry",
    "drainer",
    "executor",
    "sensor",
    "telemetry",
    "explainer",
    "notifier",
)
HEADS = 256
"""Heads a front takes in hand at once."""


def shipped_recipes() -> tuple[Recipe, ...]:
    """The recipes that come with turnout, by name."""
    return loading.shipped()


class ServerQueues:
    """The executors' queues on the bus, for the registry."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def set_up(self, backend: str, slots: int) -> None:
        """Create or update a backend's queue."""
        await self._bus.set_up_queue(work_queue(backend, slots))

    async def states(self, backends: Sequence[str]) -> tuple[int, list[QueueState | None]]:
        """The sequence of the work queued last, and how full the queues are. That is asked for first, so the queues show it; and
        they are asked at once, so that they show little that comes after it.
        """
        seq = await self._bus.last_seq(topology.WORK.name)
        return seq, await asyncio.gather(*(self._bus.queue_state(work_queue(name, 1)) for name in backends))


def spare_collector() -> None:
    """Let the garbage collector leave alone what stays, and look seldom at what comes: events are trees, without cycles.

    For a process of its own, once it has started; saves about a fifth of the time a job takes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def here(call: Callable[[], Any]) -> Any:
    """Run a blocking call in place: for a simulation, where nothing may leave the virtual time."""
    return call()


async def beside(call: Callable[[], Any]) -> Any:
    """Run a blocking call in a thread."""
    return await asyncio.to_thread(call)


Gpus = Callable[[], Awaitable[Look]]
"""Reads the GPUs of a host; raises NoAnswer, or says in words why it can't."""


async def no_hardware() -> Look:
    """For a simulation: there is nothing to read, and nothing to say about it."""
    return Look()


def this_host() -> str:
    """The name under which executors and GPUs of this machine find each other."""
    return socket.gethostname()


def gpus_here() -> Gpus:
    """The GPUs of this machine, read in a thread of its own."""
    return Aside(Nvml(this_host()).look, what="NVML")


async def look_at_gpus() -> Look:
    """How the GPUs of this machine are, or why that can't be read."""
    try:
        return await gpus_here()()
    except NoAnswer as error:
        return Look(problem=str(error))


def build(
    names: Sequence[str],
    bus: Bus,
    settings: Settings,
    *,
    served: Mapping[str, Served] | None = None,
    history: Path | str = ":memory:",
    offload: Offload[Any] = beside,
    dead_after_seconds: float = DEAD_AFTER_SECONDS,
    environment: Mapping[str, str] = MappingProxyType({}),
    gpus: Gpus | None = None,
) -> list[Room]:
    """The rooms of one process, ready for a host. `served` are the executor's backends by name; `gpus` reads the GPUs of
    this machine (absent: no hardware is looked at).

    Raises SettingsError for an environment variable of routing that is wrong, or a strategy of the user's that can't be
    loaded.
    """
    apart = settings.rooms == "apart"
    journal, ledger = Journal(bus), Ledger(bus)
    in_hand, drained = InHand(), InHand()
    known: Mapping[str, Served] = served if served is not None else {}

    def roster() -> Roster:
        return Roster(since=bus.now(), dead_after_seconds=dead_after_seconds)

    rosters = {name: roster() for name in ("registry", "drainer", "executor")}

    async def listen_anew() -> None:
        for heard in rosters.values():
            heard.listen_anew(bus.now())

    bus.on_reconnect(listen_anew)
    schedules = Schedules(bus)
    if "parking" in names:
        bus.on_reconnect(schedules.missed)

    policies, strategies = routing(environment)

    billing = alert_thresholds(environment)

    def router() -> Router:
        rules = settings.budgeting
        return Router(
            keeper=journal, counter=BusCounter(bus), policies=policies, strategies=strategies,
            input_ceiling=rules.unbounded_input_tokens,
            price_ceiling=rules.unknown_price_ceiling_microdollars,
        )  # fmt: skip

    def analyzer() -> Analyzer:
        return Analyzer(
            policies=policies,
            default_deadline_seconds=settings.jobs.deadline_seconds,
            longest_deadline_seconds=settings.jobs.longest_deadline_seconds,
            strategies=tuple(strategies),
        )

    def guardrail() -> Guardrail:
        return Guardrail(
            journal=journal,
            ledger=ledger,
            budgets=(*settings.budgets, *counting(billing, settings.budgets)),
            rules=settings.breaker,
            budgeting=settings.budgeting,
        )

    def executor() -> Executor:
        return Executor(
            journal=journal, roster=rosters["executor"], in_hand=in_hand, clock=bus.now, served=known,
            host=this_host() if gpus is not None else "", health_seconds=settings.health_interval_seconds,
            groups=settings.groups, grouping=settings.grouping,
        )  # fmt: skip

    def drainer() -> Drainer:
        return Drainer(journal=journal, roster=rosters["drainer"], in_hand=drained, clock=bus.now)

    def telemetry() -> Callable[[], Telemetry]:
        # Survives the restart of its actor.
        kept = History(history, offload=offload, keep_days=settings.history_days, max_mb=settings.history_mb)
        return lambda: Telemetry(history=kept, journal=journal)

    router_queues = [(topology.ROUTER_CANCEL, HEADS), (topology.ROUTER, HEADS)]
    guardrail_queues = [(topology.SETTLE, HEADS), (topology.RESUME, HEADS)]
    if apart:
        router_queues.append((topology.ROUTER_ANALYZED, HEADS))
        guardrail_queues.append((topology.GUARDRAIL_DECIDED, HEADS))
    makers: dict[str, Callable[[], Room]] = {
        "analyzer": lambda: Room(analyzer, queues=[(topology.ANALYZER, HEADS)]),
        "router": lambda: Room(router, queues=router_queues),
        "parking": lambda: Room(lambda: Parking(schedules=schedules, journal=journal)),
        "guardrail": lambda: Room(guardrail, queues=guardrail_queues),
        "breaker": lambda: Room(lambda: Fold(rules=settings.breaker), queues=[(topology.FOLD, HEADS)]),
        "sweeper": lambda: Room(lambda: Sweeper(journal=journal, ledger=ledger)),
        "monitor": lambda: Room(
            lambda: Monitor(targets=settings.latency_targets, thresholds=billing, policies=policies),
            queues=[(topology.MONITOR, HEADS)],
        ),
        "registry": lambda: Room(
            lambda: Registry(queues=ServerQueues(bus), roster=rosters["registry"], ahead=settings.grouping.ahead)
        ),
        "drainer": lambda: Room(drainer),
        "executor": lambda: Room(executor),
        "sensor": lambda: Room(
            lambda: GpuSensor(host=this_host() if gpus is not None else "", look=gpus or no_hardware)
        ),
        "telemetry": lambda: Room(
            telemetry(), queues=[(topology.TELEMETRY, 4 * HEADS), (topology.TELEMETRY_RATE, HEADS)]
        ),
        "explainer": lambda: Room(Explainer, queues=[(topology.EXPLAINER, HEADS)]),
        "notifier": lambda: Room(
            lambda: Notifier(
                webhooks=webhooks_of(settings.webhooks, environment),
                environment=environment,
                journal=journal,
                post=post,
            ),
            queues=[(topology.NOTIFIER, HEADS)],
        ),
    }
    return [makers[name]() for name in names]


def in_force(settings: Settings) -> tuple[Budget, ...]:
    """The budgets that hold from the start, shipped ceilings included; what was set on the bus comes before them."""
    return configured(settings.budgets, settings.budgeting)


def alert_thresholds(environment: Mapping[str, str]) -> dict[str, int]:
    """What providers may cost per month before somebody is told, from the environment. Raises SettingsError."""
    try:
        return thresholds(environment)
    except ValueError as error:
        raise SettingsError(str(error)) from error


@functools.cache
def installed_strategies() -> Mapping[str, Strategy]:
    """All strategies, the user's included: looked for once, since it reads what is installed. Raises ValueError."""
    return load_strategies()


def routing(environment: Mapping[str, str]) -> tuple[tuple[Policy, ...], Mapping[str, Strategy]]:
    """The policies that hold from the start, and all strategies, the user's included. Raises SettingsError."""
    try:
        override = overrides_from(environment)
        strategies = installed_strategies()
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return (*shipped_policies(), *((override,) if override is not None else ())), strategies


def read_policy(path: Path, environment: Mapping[str, str]) -> Policy:
    """A user's policy, checked as the router understands policies. Raises `policyfile.PolicyError`, or SettingsError."""
    return policyfile.read_policy(path, strategies=routing(environment)[1])


async def set_up(bus: Bus, settings: Settings, *, rearrange: bool = False) -> None:
    """The admin step: streams, consumers, and the one arrangement of this deployment.

    `rearrange` changes it, which is only safe while no other process runs. Raises SettingsError when this process is
    arranged otherwise than the deployment.
    """
    await bus.set_up(topology.topology("together"))
    wanted = Deployment(rooms=settings.rooms)
    record = await bus.last(Deployment.channel.stream, wanted.subject)
    if record is None:
        try:
            await bus.put_fact(wanted.subject, codec.encode(wanted), expected_revision=0)
        except Conflict:
            record = await bus.last(Deployment.channel.stream, wanted.subject)
    if record is not None:
        there = codec.decode(Deployment, record.data)
        if there.rooms != wanted.rooms and not rearrange:
            text = (
                f"rooms is {wanted.rooms!r}, but this deployment runs them {there.rooms!r}. Use --rooms {there.rooms}, or "
                f"stop all its processes and run `turnout setup --rooms {wanted.rooms}`"
            )
            raise SettingsError(text)
        if there.rooms != wanted.rooms:
            await bus.put_fact(wanted.subject, codec.encode(wanted))
    if settings.rooms == "apart":
        # No job lives longer than this, so every unacknowledged head is younger.
        oldest = bus.now() - settings.jobs.longest_deadline_seconds
        await bus.set_up(topology.topology("apart", apart_from=oldest))


def actor_classes() -> tuple[type[Actor], ...]:
    """The actor of every room, in the order of a job's way through them."""
    return (
        Analyzer, Router, Parking, Guardrail, Fold, Sweeper, Monitor, Registry, Drainer, Executor, GpuSensor, Telemetry,
        Explainer, Notifier,
    )  # fmt: skip


def check_parts(parts: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """The rooms of these parts. Raises SettingsError for an unknown part, or one that can't run alone."""
    rooms: list[str] = []
    for part in parts:
        if part not in PARTS:
            text = f"part {part!r}: use one of {', '.join(PARTS)}"
            raise SettingsError(text)
        if settings.rooms == "together" and part in ("analyzer", "router", "guardrail"):
            text = f"part {part!r} runs alone only with rooms = 'apart'; use `front`, or --rooms apart"
            raise SettingsError(text)
        rooms.extend(room for room in PARTS[part] if room not in rooms)
    return tuple(room for room in ALL_ROOMS if room in rooms)


def host(
    bus: Bus, rooms: Sequence[Room], settings: Settings, *, instance: str, boot: str, boundary: Boundary | None = None
) -> Host:
    """A host for these rooms."""
    return Host(
        bus, rooms, instance=instance, boot=boot, hand_on=settings.rooms == "together", boundary=boundary
    )  # fmt: skip


def discovery(
    settings: Settings, bus_now: Callable[[], float], *, environment: Mapping[str, str], own_ports: Sequence[int] = ()
) -> Discovery:
    """Looks for backends to serve; `own_ports` are ours, and not looked at."""
    return Discovery(settings, environment=environment, now=bus_now, own_ports=own_ports)


async def leave(host: Host) -> None:
    """Let the executors here say that they take no more work: the first step of a clean stop."""
    for room in host.rooms:
        if isinstance(room.actor, Executor):
            heard = Heard(now=host.bus.now(), instance=host.instance, boot=host.boot, run="leave")
            await host.voice.say(room.actor.leave(heard), heard)
