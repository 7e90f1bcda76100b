"""One seed, one run: jobs, faults and chances are drawn from the seed; then everything heals and must come to a good end.

    python -m scenarios.simulation 7 20-29    run these seeds; exit status 1 when one breaks a rule
    python -m scenarios.simulation 7 -v       and print what the server stored, in order
    python -m scenarios.simulation 1-60 -q    print nothing but seeds and digests
    python -m scenarios.simulation 7 --limits the same seed with budgets in the way, waits, held jobs and people

Two phases: while things break, only safety is demanded; after healing, everything must converge, and fresh jobs must
succeed. The same seed gives the same digest in every process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any, Literal

import msgspec

from actors.guardrail.sweeper import TAKE_OVER_SECONDS
from actors.settings import BreakerRules, Budget, BudgetRules, JobSettings, Settings
from bus import simloop
from bus.memory import Faults
from scenarios.backends import Call, Fate, Script, draw, pick
from scenarios.invariants import broken, unfinished
from scenarios.limits import USERS, Limits, attend, change, limits_of
from scenarios.parked import LOOK_SECONDS, Idle
from scenarios.world import FOREVER, Moment, Process, Spec, World, offer, summary

TENANTS = ("acme", "globex")
SWEEP_SECONDS = 63.0
"""Reservations are swept when they are this old; a run goes on as long after its last fault."""
LEASE_SECONDS = 20.0
"""A probe's lease."""
BREAKER = BreakerRules(
    open_seconds=5.0, longest_open_seconds=20.0, account_seconds=60.0, lease_seconds=LEASE_SECONDS
)  # fmt: skip
CONVERGE_SECONDS = 400.0  # Longer than the longest deadline of a run with limits.
"""After healing everything must have ended within this time."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed draws: printed when a run fails."""

    seed: int
    rooms: Literal["together", "apart"]
    alone: bool
    """Everything in one process, as on a developer's machine."""
    replicas: Literal[1, 3]
    faults: Faults
    jobs: int
    registries: int
    storm_seconds: float
    """How long things break."""
    crash_share: float
    """Chance of a crash at each step boundary."""
    most_crashes: int
    bounces: int
    partitions: int
    freezes: int
    restarts: int
    """Of the server."""
    stops: int
    """Processes that end in order and come back."""
    dies: str
    """An executor that stays down for good; empty: none."""
    budgets: tuple[Budget, ...]
    limits: Limits | None = None
    """Budgets in the way, instead of the others; absent: nobody waits or asks."""
    keeping: tuple[str, ...] = ()
    """Backends that go on with a call when its caller has died."""
    fates: dict[Fate, float]
    cancels: float
    """Share of jobs that are cancelled at some time."""
    repeats: float
    """Share of submissions that come again under their id, some with another body."""
    bad: int
    """Submissions that can't be served, or not even decoded."""


def plan_of(seed: int, *, limits: bool = False) -> Plan:
    """Draw everything from the seed; with `limits` its budgets are in the way."""
    rng = random.Random(seed)
    rough = rng.random()
    faults = Faults(
        delay_seconds=(0.0, rng.choice((0.0, 0.001, 0.01, 0.05))),
        answer_lost=rng.choice((0.0, 0.02, 0.05)) * rough,
        ack_lost=rng.choice((0.0, 0.05, 0.2)) * rough,
        delivered_twice=rng.choice((0.0, 0.05, 0.3)) * rough,
        reordered=rng.choice((0.0, 0.1)) * rough,
        signal_lost=rng.choice((0.0, 0.02, 0.1)) * rough,
    )
    budgets: list[Budget] = []
    if rng.random() < 0.7:
        budgets.append(Budget(scope="global", unit="microdollars", window="total", limit=rng.randint(0, 60) * 1000))
    if rng.random() < 0.5:
        budgets.append(Budget(scope="tenant", unit="requests", window="total", limit=rng.randint(2, 50)))
    if rng.random() < 0.3:
        budgets.append(Budget(scope="backend", unit="tokens", window="minute", limit=rng.randint(1, 30) * 1000))
    rooms: Literal["together", "apart"] = rng.choice(("together", "together", "apart"))
    alone = rooms == "together" and rng.random() < 0.2
    bad = rng.random()
    fates: dict[Fate, float] = {
        "server_error": 0.15 * bad, "connection_error": 0.05 * bad, "timeout": 0.05 * bad, "overloaded": 0.05 * bad,
        "rate_limited": 0.05 * bad, "bad_request": 0.03 * bad, "account": 0.01 * bad, "unknown_model": 0.02 * bad,
        "empty": 0.03 * bad, "cut": 0.05 * bad, "hang": 0.06 * bad, "slow": 0.15 * bad, "raise": 0.02 * bad,
        "crash": 0.03 * bad,
    }  # fmt: skip
    limited = limits_of(seed) if limits else None
    return Plan(
        seed=seed,
        rooms=rooms,
        alone=alone,
        replicas=rng.choice((1, 1, 3)),
        faults=faults,
        jobs=rng.randint(10, 30),
        registries=rng.choice((1, 2)),
        storm_seconds=rng.choice((10.0, 25.0, 40.0)),
        crash_share=rng.choice((0.0, 0.003, 0.01, 0.03)),
        most_crashes=rng.randint(0, 8),
        bounces=rng.choice((0, 0, 1, 2)),
        partitions=rng.choice((0, 0, 1, 2)),
        freezes=rng.choice((0, 0, 1, 2)),
        restarts=rng.choice((0, 0, 1, 2)),
        stops=rng.choice((0, 1)),
        dies=rng.choice(("", "", "", "x1", "y1")) if not alone else "",
        budgets=limited.budgets if limited is not None else tuple(budgets),
        limits=limited,
        keeping=keeping_of(seed),
        fates=fates,
        cancels=rng.choice((0.0, 0.1, 0.4)),
        repeats=rng.choice((0.0, 0.1, 0.3)),
        bad=rng.choice((0, 1, 3)),
    )


def keeping_of(seed: int) -> tuple[str, ...]:
    """Draw who keeps calls, by itself: the other draws of a seed stay what they are."""
    rng = random.Random(f"{seed} keeping")
    return tuple(name for name in "XYZ" if rng.random() < 0.4)


def deadline_of(plan: Plan) -> float:
    """Seconds that a job has which says nothing else. Who waits for an executor that is gone for good waits until then."""
    if plan.limits is not None:
        return plan.limits.deadline_seconds
    return 200.0 if plan.dies else 3600.0


def fleet(plan: Plan) -> dict[str, Spec]:
    """The processes: as in production, only smaller."""
    x = offer("X", slots=2, price=1_000_000, models=("big", "small"))
    y = offer("Y", slots=1, priority=2)
    z = offer("Z", slots=2, price=200_000, priority=3)
    if plan.alone:
        parts = ("front", "registry", "executor", "telemetry", "explainer")
        return {"node": Spec(parts, (x, y, z))}
    found = {f"registry-{number}": Spec(("registry",)) for number in range(1, plan.registries + 1)}
    parts = ("front",) if plan.rooms == "together" else ("analyzer", "router", "guardrail")
    found |= {f"{part}-{number}": Spec((part,)) for part in parts for number in (1, 2)}
    found |= {
        "x1": Spec(("executor",), (x,)),
        "x2": Spec(("executor",), (x,)),
        "y1": Spec(("executor",), (y, z)),
        "telemetry": Spec(("telemetry", "explainer")),
    }
    return found


class Run:
    """One run of one seed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(f"{plan.seed} storm")
        self.world = World(
            seed=plan.seed,
            settings=Settings(
                rooms=plan.rooms,
                jobs=JobSettings(deadline_seconds=deadline_of(plan)),
                budgets=plan.budgets,
                budgeting=plan.limits.rules if plan.limits else BudgetRules(),
                breaker=BREAKER,
            ),
            faults=plan.faults,
            write=self.script,
            replicas=plan.replicas,
            keeping=plan.keeping,
        )  # fmt: skip
        self.stormy = True
        self.crashes = 0
        self.jobs: list[tuple[str, str]] = []
        self.violations: list[str] = []
        self.person: asyncio.Task[None] | None = None

    def script(self, call: Call) -> Script:
        """What happens to a call: drawn from who calls for what."""
        at = draw(self.plan.seed, call.job, call.n, call.backend)
        length = draw(self.plan.seed, "length", call.job, call.n)
        if not self.stormy:
            return Script(seconds=0.2 + length)
        fate = pick(self.plan.fates, at)
        return Script(
            fate=fate,
            seconds=5.0 + 20.0 * length if fate == "slow" else 3.0 * length**2,
            retry_after_seconds=1.0 + 5.0 * length if fate == "rate_limited" else None,
        )

    def watch(self, moment: Moment) -> bool:
        """Whether a process crashes at this boundary."""
        del moment
        if self.crashes >= self.plan.most_crashes or self.rng.random() >= self.plan.crash_share:
            return False
        self.crashes += 1
        return True

    def down(self, process: Process) -> float:
        """How long a crashed process stays away."""
        if process.name == self.plan.dies:
            process.stays_down = True
            return FOREVER
        return self.rng.choice((0.2, 1.0, 3.0, 9.0))

    async def play(self) -> None:
        """The whole run: storm, then heal and converge."""
        world, plan = self.world, self.plan
        await world.open(fleet(plan))
        await asyncio.sleep(1.0)
        world.watch, world.down_seconds = self.watch, self.down
        clients = world.spawn(self.submit_all())
        if plan.limits is not None:
            world.spawn(change(world, plan.limits))
            self.person = world.spawn(attend(world, plan, plan.limits))
        for verb, times in (
            (self.bounce, plan.bounces), (self.partition, plan.partitions), (self.freeze, plan.freezes),
            (self.restart, plan.restarts), (self.stop, plan.stops), (self.die, 1 if plan.dies else 0), (self.sicken, 1),
        ):  # fmt: skip
            for _ in range(times):
                world.spawn(self.sometime(verb))
        world.spawn(self.set_clocks())
        await asyncio.sleep(plan.storm_seconds)
        await clients
        self.violations.extend(f"in the storm: {text}" for text in broken(world.story()))
        self.stormy = False
        await world.heal()
        await self.converge()

    async def set_clocks(self) -> None:
        """Somebody sets the wall clocks of some machines, drawn by itself: it changes nothing that happens."""
        rng = random.Random(f"{self.plan.seed} clocks")
        for _ in range(rng.choice((0, 1, 3))):
            await asyncio.sleep(self.plan.storm_seconds * 0.3 * rng.random())
            self.world.set_clock(rng.choice(list(self.world.processes)), rng.choice((-3600.0, -1200.0, 1200.0, 3600.0)))

    async def sometime(self, verb: Any) -> None:
        """Do something at some time of the storm."""
        await asyncio.sleep(self.plan.storm_seconds * 0.8 * self.rng.random())
        if self.stormy:
            await verb()

    def some(self) -> str:
        """Some process."""
        return self.rng.choice(list(self.world.processes))

    async def bounce(self) -> None:
        """A process crashes and comes back."""
        self.world.crash(self.some())

    async def partition(self) -> None:
        """A process loses its connection for a while."""
        self.world.partition(self.some(), self.rng.choice((1.0, 7.0, 12.0)))

    async def freeze(self) -> None:
        """A process, mostly an executor, stands still for a while."""
        name = self.rng.choice(("x1", "x2", "y1", self.some()))
        self.world.freeze(name if name in self.world.processes else self.some(), self.rng.choice((3.0, 9.0, 15.0)))

    async def restart(self) -> None:
        """The server is killed."""
        await self.world.restart_server(self.rng.choice((0.1, 1.0, 4.0)))

    async def stop(self) -> None:
        """A process ends in order and is started again."""
        name = self.some()
        await self.world.stop(name, 5.0)
        if not self.world.processes[name].stays_down:
            await asyncio.sleep(2.0)
            await self.world.again(name)

    async def die(self) -> None:
        """An executor goes for good."""
        self.world.processes[self.plan.dies].stays_down = True
        self.world.crash(self.plan.dies, down_seconds=FOREVER)

    async def sicken(self) -> None:
        """A backend fails its health checks until things heal."""
        if self.rng.random() < 0.3:
            self.world.stage.ill["X"] = "scripted illness"

    async def submit_all(self) -> None:
        """All submissions of the storm, with repetitions, cancels and nonsense among them."""
        plan, rng, world = self.plan, self.rng, self.world
        pause = plan.storm_seconds * 0.7 / max(1, plan.jobs)
        for number in range(plan.jobs):
            tenant, job = rng.choice(TENANTS), f"j{number}"
            more: dict[str, Any] = {}
            if rng.random() < 0.15:
                more["deadline_seconds"] = rng.choice((0.5, 3.0, 10.0))
            if rng.random() < 0.2:
                more["max_cost_microdollars"] = rng.choice((0, 300, 2000))
            if rng.random() < 0.3:
                more["model"] = rng.choice(("big", "small", "m"))
            if plan.limits is not None:
                more["user"] = USERS[number % len(USERS)]
            self.jobs.append((tenant, job))
            await world.submit(job, tenant=tenant, **more)
            if rng.random() < plan.cancels:
                world.spawn(self.cancel_later(tenant, job, rng.choice((0.0, 0.1, 2.0, 8.0))))
            if rng.random() < plan.repeats:
                again = f"write about {job}" if rng.random() < 0.5 else "something else"
                world.spawn(self.submit_later(tenant, job, again, rng.choice((0.0, 0.5, 5.0)), more))
            if number < plan.bad:
                await self.nonsense(number, tenant, job)
            await asyncio.sleep(pause * 2 * rng.random())

    async def cancel_later(self, tenant: str, job: str, seconds: float) -> None:
        """Cancel a job after a while."""
        await asyncio.sleep(seconds)
        await self.world.cancel(job, tenant)

    async def submit_later(self, tenant: str, job: str, prompt: str, seconds: float, more: dict[str, Any]) -> None:
        """Submit a job again after a while."""
        await asyncio.sleep(seconds)
        await self.world.submit(job, tenant=tenant, prompt=prompt, **more)

    async def nonsense(self, number: int, tenant: str, job: str) -> None:
        """Something that can't be served."""
        kind = self.rng.choice(("bytes", "field", "used", "value", "cancel"))
        subject = f"job.submit.{tenant}"
        if kind == "bytes":
            await self.world.put(subject, b"\xff\x00 not json")
        elif kind == "field":
            await self.world.put(subject, b'{"type":"turnout.job_submit","prompt":"x","promt":"y"}')
        elif kind == "used":
            await self.world.put(subject, b'{"type":"turnout.job_submit","id":"%s","prompt":7}' % job.encode())
        elif kind == "value":
            await self.world.submit(f"bad{number}", tenant=tenant, temperature=9.0)
        else:
            await self.world.put(f"job.cancel.{tenant}.{job}", b"[]")

    async def watch_idle(self) -> None:
        """Nobody may wait while there is something for them."""
        idle = Idle(self.world)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.violations.extend(idle.look())

    async def converge(self) -> None:
        """After healing everything must come to a good end, and fresh jobs must succeed."""
        world = self.world
        healed_at = world.server.time()
        idle = world.spawn(self.watch_idle())
        quiet = await world.until(lambda: all(world.done(job, tenant) for tenant, job in self.jobs), CONVERGE_SECONDS)
        idle.cancel()
        if not quiet:
            self.violations.append(f"not all jobs ended within {CONVERGE_SECONDS:g} s after healing")
        if self.person is not None:
            self.person.cancel()
        await asyncio.sleep(max(0.0, healed_at + 21.0 - world.server.time()))  # Waits and leases of the storm are over.
        fresh = [f"fresh{number}" for number in range(2)]
        if not self.plan.budgets:
            for job in fresh:
                await world.submit(job)
            await world.until_done(fresh, 60.0)
            for job in fresh:
                done = world.done(job)
                if done is None or done.ending != "succeeded":
                    self.violations.append(f"a fresh job did not succeed after healing: {job} {done and done.problem}")
        await asyncio.sleep(2.0)
        await world.until(lambda: not world.pending(), SWEEP_SECONDS, 1.0)
        # Leases end, another sweeper takes over, and compares what is left; or there is nothing to wait for.
        await world.until(
            lambda: not unfinished(world.story()), LEASE_SECONDS + TAKE_OVER_SECONDS + 2 * SWEEP_SECONDS, 5.0
        )
        story = world.story()
        self.violations.extend(broken(story))
        self.violations.extend(unfinished(story, world.pending()))
        self.violations.extend(world.shelf.wrong)


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a seed."""

    seed: int
    limits: bool = False
    violations: list[str]
    digest: str
    events: Counter[str]
    virtual_seconds: float
    seconds: float
    log: list[str]
    endings: Counter[str]

    @property
    def stored(self) -> int:
        """Messages that the server stored."""
        return self.events["stored"]


def simulate(seed: int, *, log: bool = False, limits: bool = False) -> Outcome:
    """Run one seed."""
    began = time.perf_counter()
    run = Run(plan_of(seed, limits=limits))
    virtual = 0.0

    async def main() -> None:
        nonlocal virtual
        try:
            await run.play()
        finally:
            virtual = run.world.server.time()
            await run.world.close()

    simloop.run(main(), seed=seed)
    world = run.world
    lines = (
        [summary(record) for stream in ("IN", "EV", "LEDGER", "WORK") for record in world.log(stream)] if log else []
    )
    endings: Counter[str] = Counter()
    for tenant, job in run.jobs:
        done = world.done(job, tenant)
        endings[done.ending if done else "open"] += 1
    return Outcome(
        seed=seed, limits=limits, violations=list(dict.fromkeys(run.violations)), digest=world.server.digest(),
        events=world.server.events, virtual_seconds=virtual, seconds=time.perf_counter() - began, log=sorted(lines),
        endings=endings,
    )  # fmt: skip


def replay_command(seed: int, *, limits: bool = False) -> str:
    """How to see a seed again."""
    return f"python -m scenarios.simulation {seed}{' --limits' if limits else ''} -v"


def report(outcome: Outcome) -> str:
    """A failed run in words, with its plan and how to replay it."""
    plan = msgspec.json.format(msgspec.json.encode(plan_of(outcome.seed, limits=outcome.limits)), indent=1).decode()
    lines = "\n".join(f"  - {text}" for text in outcome.violations)
    replay = replay_command(outcome.seed, limits=outcome.limits)
    return f"seed {outcome.seed} broke rules:\n{lines}\nreplay: {replay}\nplan: {plan}"


@contextlib.contextmanager
def quiet() -> Generator[None, None, None]:
    """Crashes and lost connections are the point here: no log lines for each."""
    logs = [logging.getLogger(name) for name in ("turnout", "turnout.host", "bus.memory", "bus.simloop")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def seeds_of(words: Iterable[str]) -> list[int]:
    """Seeds as people write them: `7`, `20-29`."""
    found: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def events_per_second(seeds: int = 20, repetitions: int = 3) -> float:
    """How many stored events a simulation gets through in a second of real time: the best of some repetitions."""
    with quiet():
        return max(_rate(seeds) for _ in range(repetitions))


def _rate(seeds: int) -> float:
    outcomes = [simulate(seed) for seed in range(1, seeds + 1)]
    return sum(outcome.stored for outcome in outcomes) / sum(outcome.seconds for outcome in outcomes)


def main(arguments: list[str]) -> int:
    """The command line."""
    verbose, terse, limits = "-v" in arguments, "-q" in arguments, "--limits" in arguments
    seeds = seeds_of(argument for argument in arguments if not argument.startswith("-"))
    if not seeds:
        print(__doc__)
        return 2
    failed = 0
    with contextlib.nullcontext() if verbose else quiet():
        for seed in seeds:
            outcome = simulate(seed, log=verbose, limits=limits)
            for line in outcome.log:
                print(line)
            if outcome.violations:
                failed += 1
                print(report(outcome))
            if terse:
                print(seed, outcome.digest)
                continue
            print(
                f"seed {seed}: {'FAILED' if outcome.violations else 'ok'}, digest {outcome.digest}, "
                f"{outcome.stored} events in {outcome.seconds:.2f} s ({outcome.virtual_seconds:.0f} s of virtual time), "
                f"{dict(sorted(outcome.endings.items()))}"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
