"""Small worlds with one accident each: one job or two, two executors, a crash at a chosen boundary.

Each story passes with the rules as they are; `test_mutations` switches one rule off and demands that it no longer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from actors.settings import BreakerRules, Budget, JobSettings, Settings
from bus import simloop
from bus.memory import Faults
from bus.topology import LEDGER
from messages import Attempted, Due, Granted, Started
from scenarios.backends import Call, Playwright, Script
from scenarios.invariants import Log, broken, unfinished
from scenarios.world import FOREVER, Moment, Spec, World, offer

PATIENCE_SECONDS = 200.0
"""By then a healthy story has long come to its end, sweeps included."""

X = offer("X", price=1000)
Y = offer("Y", priority=3)
ALONE = {"front-1": Spec(("front",)), "registry-1": Spec(("registry",)), "x1": Spec(("executor",), (X,))}
TWO = ALONE | {"x2": Spec(("executor",), (X,))}
BOTH = ALONE | {"y1": Spec(("executor",), (Y,))}

Tell = Callable[[World], Awaitable[Any]]
"""What happens; what it returns, if anything, is what was expected and did not come true."""


class Tale(NamedTuple):
    tell: Tell
    fleet: dict[str, Spec] = TWO
    settings: Mapping[str, Any] = MappingProxyType({})
    faults: Faults = Faults()
    write: Callable[[], Playwright] | None = None
    """Makes what decides on the calls, fresh for each time the story is told."""
    keeping: tuple[str, ...] = ()
    """Backends that go on with a call when its caller has died."""


class Told(NamedTuple):
    violations: list[str]
    calls: int
    call_seconds: float
    events: int
    """Stored events about jobs."""
    wasted: int
    """Publishes that were refused or repeated."""
    delivered: int
    rounds: int


def play(tale: Tale) -> Told:
    """Tell a story, heal, wait for the end, and look at what is stored."""

    async def main() -> Told:
        settings = Settings(jobs=JobSettings(deadline_seconds=3600.0), **tale.settings)
        world = World(
            seed=1, settings=settings, faults=tale.faults, write=tale.write and tale.write(), keeping=tale.keeping
        )  # fmt: skip
        await world.open(tale.fleet)
        await asyncio.sleep(1.0)
        expected = await tale.tell(world)
        await world.heal()
        await world.until(lambda: not unfinished(world.story(), world.pending()), PATIENCE_SECONDS, 2.0)
        story = world.story()
        found = [*(expected or []), *world.shelf.wrong, *broken(story), *unfinished(story, world.pending())]
        log = Log(story)
        told = Told(
            violations=found,
            calls=len(story.calls),
            call_seconds=round(sum(call.seconds for call in story.calls), 3),
            events=len(story.records["EV"]),
            wasted=world.server.events["taken"] + world.server.events["duplicate"],
            delivered=world.server.events["delivered"],
            rounds=sum(s[0].message.verdict == "candidate" for s in log.of(Granted).values()),
        )
        await world.close()
        return told

    return simloop.run(main(), seed=1)


class At:
    """Does something at a moment, the first time or another; a crash of that very process unless told otherwise."""

    def __init__(self, process: str, point: str, what: str, *, time: int = 1, do: Any = None) -> None:
        self.process, self.point, self.what, self.left, self.do = process, point, what, time, do

    def __call__(self, moment: Moment) -> bool:
        same = moment.process == self.process and moment.point == self.point
        if not same or not moment.what.startswith(self.what):
            return False
        self.left -= 1
        if self.left:
            return False
        if self.do is not None:
            self.do()
            return False
        return True


def seconds(length: float, **fates: str) -> Callable[[], Playwright]:
    """Calls of one length; `X="server_error"` lets the first call of that backend fail so."""

    def fresh() -> Playwright:
        left = dict(fates)

        def write(call: Call) -> Script:
            fate: Any = left.pop(call.backend, "ok")
            return Script(fate=fate, seconds=length)

        return write

    return fresh


# ------------------------------------------------------------------------------------------------------- the stories


def crash(
    process: str, point: str, what: str, *, fleet: dict[str, Spec] = ALONE, time: int = 1, down: float = 1.0,
    length: float = 0.5, settings: dict[str, Any] | None = None,
) -> Tale:  # fmt: skip
    """One job, one crash at a chosen boundary."""

    async def tell(world: World) -> None:
        world.watch = At(process, point, what, time=time)
        world.down_seconds = lambda _: down
        await world.submit("j")
        await asyncio.sleep(20.0)

    return Tale(tell, fleet, settings or {}, write=seconds(length))


def clocks_are_set(step: float) -> Tale:
    """Somebody sets the clocks of all machines but the server's, before and after jobs come."""

    async def tell(world: World) -> list[str]:
        jobs = ["before", "after"]
        for job in jobs:
            await world.submit(job, deadline_seconds=600.0)
            for name in world.processes:
                world.set_clock(name, step)
        await world.until_done(jobs)
        ends = {job: world.done(job) for job in jobs}
        return [
            f"{job} ended {end and end.ending}" for job, end in ends.items() if not end or end.ending != "succeeded"
        ]

    return Tale(tell, ALONE, write=seconds(2.0))


def crash_and_cancel(point: str, *, settings: dict[str, Any] | None = None) -> Tale:
    """The front crashes around the verdict, and the client cancels before it is back."""

    async def tell(world: World) -> None:
        world.watch = At("front-1", point, "granted")
        world.down_seconds = lambda _: 3.0
        await world.submit("j")
        await asyncio.sleep(1.0)
        world.watch = lambda _: False
        await world.start("router-2", Spec(("front",)))
        await world.cancel("j")
        await world.until_done(["j"])

    return Tale(tell, ALONE, settings or {})


def cancel(when: float, *, length: float = 5.0, write: Callable[[], Playwright] | None = None) -> Tale:
    """The client cancels a job some time after it was submitted."""

    async def tell(world: World) -> None:
        await world.submit("j")
        await asyncio.sleep(when)
        await world.cancel("j")
        await asyncio.sleep(10.0)

    return Tale(tell, ALONE, write=write or seconds(length))


def unfinished_call(fate: str, *, cancel: float = 0.0) -> Tale:
    """A backend that counts takes a request and does not come to its end, under a budget in tokens."""

    async def tell(world: World) -> None:
        await world.submit("j")
        if cancel:
            await asyncio.sleep(cancel)
            await world.cancel("j")
        await asyncio.sleep(30.0)

    fleet = ALONE | {"x1": Spec(("executor",), (offer("X", price=1_000_000),))}
    return Tale(tell, fleet, budget("tokens", 100_000), write=seconds(5.0, X=fate))


def cancel_in_queue() -> Tale:
    """One slot: the second job is cancelled while it waits for the first one's end."""

    async def tell(world: World) -> None:
        await world.submit("j")
        await world.submit("k")
        await asyncio.sleep(2.0)
        await world.cancel("k")
        await asyncio.sleep(10.0)

    fleet = ALONE | {"x1": Spec(("executor",), (offer("X", slots=1),))}
    return Tale(tell, fleet, write=seconds(5.0))


def frozen(*, fleet: dict[str, Spec] = TWO, length: float = 10.0, freeze: float = 14.0) -> Tale:
    """The executor that runs the attempt stands still for so long that it is taken for dead; then it goes on."""

    async def tell(world: World) -> None:
        await world.submit("j", preferred_backend="X")
        await asyncio.sleep(1.0)
        world.freeze(owner(world), freeze)
        await asyncio.sleep(freeze + 16.0)

    return Tale(tell, fleet, write=seconds(length))


def partitioned() -> Tale:
    """The executor is cut off and given up by the registry, which dies before it says what follows; then it is back."""

    async def tell(world: World) -> None:
        world.watch = At("registry-1", "after publish", "attempted")
        world.down_seconds = lambda _: 20.0
        await world.submit("j", preferred_backend="X")
        await asyncio.sleep(1.0)
        world.partition("x1", 14.0)
        await asyncio.sleep(50.0)

    return Tale(tell, BOTH, write=seconds(10.0))


def owner(world: World) -> str:
    """Who claimed the first attempt."""
    claims = Log(world.story()).of(Started)
    return next(iter(claims.values()))[0].message.instance


def delivered_twice() -> Tale:
    """The server delivers work again while its executor lives and holds it."""

    async def tell(world: World) -> None:
        for number in range(6):
            await world.submit(f"j{number}")
            await asyncio.sleep(0.3)
        await asyncio.sleep(12.0)

    fleet = TWO | {name: Spec(("executor",), (offer("X", slots=12, price=1000),)) for name in ("x1", "x2")}
    return Tale(tell, fleet, faults=Faults(delivered_twice=1.0), write=seconds(9.0))


def crash_in_call(*, fleet: dict[str, Spec] = TWO, down: float = FOREVER) -> Tale:
    """The executor dies in the middle of a call."""

    async def tell(world: World) -> None:
        world.down_seconds = lambda _: down
        await world.submit("j", preferred_backend="X")
        await asyncio.sleep(1.0)
        world.processes[owner(world)].stays_down = down == FOREVER
        world.crash(owner(world))
        await asyncio.sleep(30.0)

    return Tale(tell, fleet, write=seconds(5.0))


def server_gone() -> Tale:
    """The server is away for longer than a heartbeat may be late; when it is back, everybody has heard nobody for a while."""

    async def tell(world: World) -> None:
        await world.submit("j")
        await asyncio.sleep(1.0)
        await world.restart_server(9.0)
        await asyncio.sleep(30.0)

    return Tale(tell, TWO, write=seconds(19.0))


def long_outage(point: str, what: str, *, time: int = 1) -> Tale:
    """The only front is away for longer than the server remembers the ids of increments."""
    away = LEDGER.duplicate_window_seconds + 120.0

    async def tell(world: World) -> None:
        world.watch = At("front-1", point, what, time=time)
        world.down_seconds = lambda _: away
        await world.submit("j", deadline_seconds=80_000.0)
        await asyncio.sleep(away + 80.0)

    return Tale(tell, ALONE, budget("microdollars", 1_000_000))


def run_raises() -> Tale:
    """One run dies of a bug; its process lives on."""

    async def tell(world: World) -> None:
        await world.submit("j")
        await asyncio.sleep(15.0)

    return Tale(tell, ALONE, write=seconds(0.5, X="raise"))


def no_fault(*, length: float = 0.5, jobs: int = 1) -> Tale:
    """Nothing goes wrong."""

    async def tell(world: World) -> None:
        await asyncio.sleep(8.0)
        for number in range(jobs):
            await world.submit(f"j{number}")
        await asyncio.sleep(30.0)

    return Tale(tell, TWO, write=seconds(length))


def two_bodies(*, bad: bool = False) -> Tale:
    """The same id comes again with another body, while the job runs."""

    async def tell(world: World) -> None:
        await world.submit("j")
        await asyncio.sleep(1.0)
        if bad:
            await world.put("job.submit.acme", b'{"type":"turnout.job_submit","id":"j","prompt":7}')
        else:
            await world.submit("j", prompt="something else")
        await asyncio.sleep(10.0)

    return Tale(tell, ALONE, write=seconds(5.0))


def cancel_after_end() -> Tale:
    """The cancel comes when the job has long ended."""

    async def tell(world: World) -> None:
        await world.submit("j")
        await world.until_done(["j"])
        await world.cancel("j")
        await asyncio.sleep(2.0)

    return Tale(tell, ALONE)


def queue_before_backend() -> Tale:
    """The only executor dies for ever between the verdict and the work: nobody but the registry can have made the queue."""

    async def tell(world: World) -> None:
        def die() -> None:
            world.processes["x1"].stays_down = True
            world.crash("x1", down_seconds=FOREVER)

        world.watch = At("front-1", "after publish", "granted", do=die)
        await world.submit("j", preferred_backend="X")
        await asyncio.sleep(30.0)

    return Tale(tell, BOTH)


def failed_and_heard_again() -> Tale:
    """Every acknowledgement is lost for a while, so every event is heard several times."""

    async def tell(world: World) -> None:
        await world.submit("j", preferred_backend="X")
        await asyncio.sleep(40.0)

    return Tale(tell, BOTH, faults=Faults(ack_lost=1.0), write=seconds(0.5, X="server_error"))


def forgotten_probe() -> Tale:
    """A guardrail takes the probe lease and dies; its job is cancelled before the verdict. The next one must get through."""
    rules = BreakerRules(failures_in_row=1, open_seconds=1.0, lease_seconds=5.0, jitter=0.0)

    async def tell(world: World) -> list[str]:
        await world.submit("bad")
        await world.until(lambda: bool(Log(world.story()).of(Attempted)), 10.0, 0.1)
        await world.cancel("bad")
        await asyncio.sleep(3.0)
        world.watch = At("front-1", "after publish", "breaker")
        world.down_seconds = lambda _: FOREVER
        await world.submit("j")
        await asyncio.sleep(1.0)
        world.watch = lambda _: False
        await world.cancel("j")
        await world.start("front-2", Spec(("front",)))
        await world.submit("k")
        await world.until_done(["j", "k"], 300.0)
        done = world.done("k")
        return [] if done and done.ending == "succeeded" else ["the next job never got to probe the breaker"]

    return Tale(tell, ALONE, {"breaker": rules}, write=seconds(0.5, X="server_error"))


def crash_over_budget() -> Tale:
    """The front crashes after it had to refuse a job, because the one before it used up the budget."""

    async def tell(world: World) -> None:
        await world.submit("j")
        await world.until_done(["j"])
        world.watch = At("front-1", "before publish", "granted")
        await world.submit("k")
        await asyncio.sleep(20.0)

    return Tale(tell, ALONE, budget("requests", 1))


def view_changes() -> Tale:
    """The front dies after the verdict; when it is back, the job has become too expensive for its only backend."""

    async def tell(world: World) -> None:
        world.watch = At("front-1", "after publish", "granted")
        world.down_seconds = lambda _: 6.0
        await world.submit("j", max_cost_microdollars=3000)
        await asyncio.sleep(1.0)
        world.watch = lambda _: False
        await world.bounce("x1", 0.5, spec=Spec(("executor",), (offer("X", price=1_000_000_000),)))
        await asyncio.sleep(20.0)

    return Tale(tell, ALONE)


def drainer_dies() -> Tale:
    """The registry wins a claim to drain, and dies; the attempt was never called and must not be billed."""

    async def tell(world: World) -> None:
        world.watch = At("front-1", "after publish", "granted", do=lambda: world.crash("x1", down_seconds=FOREVER))
        await world.submit("j", preferred_backend="X")
        await asyncio.sleep(1.0)
        world.processes["x1"].stays_down = True
        world.watch = At("registry-1", "after publish", "started")
        await asyncio.sleep(40.0)

    return Tale(tell, BOTH)


def work_heard_again(*, fate: str = "server_error") -> Tale:
    """The executor dies just before it acknowledges, so another one finishes what is finished."""

    async def tell(world: World) -> None:
        world.watch = both(At("x1", "before acknowledge", "work."), At("x2", "before acknowledge", "work."))
        await world.submit("j")
        await asyncio.sleep(30.0)

    return Tale(tell, TWO, write=seconds(0.5, X=fate))


def both(*watchers: Callable[[Moment], bool]) -> Callable[[Moment], bool]:
    """Crashes once, at whatever comes first."""
    done: list[bool] = []

    def watch(moment: Moment) -> bool:
        if not done and any(watcher(moment) for watcher in watchers):
            done.append(True)
            return True
        return False

    return watch


def cancel_in_wait() -> Tale:
    """The first attempt fails, and the job is cancelled while it waits for the next round."""
    return cancel(1.0, write=seconds(0.4, X="server_error"))


def budget(unit: Any, limit: int) -> dict[str, Any]:
    """Settings with one budget."""
    return {"budgets": (Budget(scope="global", unit=unit, window="total", limit=limit),)}


# ------------------------------------------------------------------------------------------------------ who waits

SOON_SECONDS = 5.0


def late(world: World, jobs: Sequence[str], seconds: float, since: float) -> list[str]:
    """Those who had not begun so many seconds after something was there for them."""
    begun = {call.job: call.began_at for call in world.stage.calls}
    return [f"{job} did not go on" for job in jobs if begun.get(job, since + 1e9) - since > seconds]


def comes_back(jobs: int = 1, *, away: float = 300.0) -> Tale:
    """The only backend is away for long, and jobs wait for it with nothing but their deadline to end that."""

    async def tell(world: World) -> list[str]:
        world.processes["x1"].stays_down = True
        world.crash("x1", down_seconds=FOREVER)
        await asyncio.sleep(10.0)
        names = [f"j{number}" for number in range(jobs)]
        for name in names:
            await world.submit(name)
        await asyncio.sleep(away)
        if any(world.done(name) for name in names):
            return ["a job ended while its only backend was away"]
        world.processes["x1"].stays_down = False
        back = world.server.now()
        await world.again("x1")
        await asyncio.sleep(40.0)
        return late(world, names[:1], SOON_SECONDS, back) + late(world, names, 40.0, back)

    return Tale(tell, ALONE | {"x1": Spec(("executor",), (offer("X", slots=1),))}, write=seconds(0.4))


def one_tries() -> Tale:
    """A breaker opens, several jobs wait for it, and the trial call takes long: nobody is woken beside it."""
    rules = BreakerRules(failures_in_row=1, open_seconds=6.0, lease_seconds=60.0, jitter=0.0)

    async def tell(world: World) -> list[str]:
        await world.submit("bad")
        await world.until(lambda: bool(Log(world.story()).of(Attempted)), 10.0, 0.1)
        for number in range(6):
            await world.submit(f"j{number}")
        await asyncio.sleep(9.0)
        woken = [due for due, *_ in Log(world.story()).of(Due).values() if due.message.woken_by is not None]
        return [f"{len(woken)} were woken beside a trial call"] if len(woken) != 1 else []

    def write() -> Playwright:
        def script(call: Call) -> Script:
            if call.job == "bad" and call.n == 1:
                return Script(fate="connection_error", seconds=0.3)
            return Script(seconds=20.0)

        return script

    return Tale(tell, ALONE, {"breaker": rules}, write=write)


def left_at_work(*, again: str = "X", cancel: bool = False) -> Tale:
    """An executor dies in the middle of a long call, with which its backend goes on. The job comes back, moves, or ends."""
    back = again == "X" and not cancel

    async def tell(world: World) -> list[str]:
        began = world.server.time()
        await world.submit("j", preferred_backend="X")
        await asyncio.sleep(10.0)
        world.crash("x1", down_seconds=1.0 if back else 20.0)
        await asyncio.sleep(12.0)
        if cancel:
            await world.cancel("j")
        await world.until_done(["j"], 200.0)
        took = world.server.time() - began
        await asyncio.sleep(20.0)
        runs = [key for key, one in world.shelf.kept.items() if world.shelf.runs(one)]
        found = [f"still at work for what nobody wants: {key}" for key in runs]
        done = world.done("j")
        if done is None or done.ending != ("cancelled" if cancel else "succeeded"):
            found.append(f"it ended as {done and done.ending}")
        elif back and (took > 63.0 or len(world.shelf.kept) > 1):
            found.append(f"what was left there was not gone on with: it took {took:.0f} s")
        return found

    def write() -> Playwright:
        lengths = {"X": 60.0 if back else 600.0, "Y": 30.0}
        return lambda call: Script(seconds=lengths[call.backend])

    fleet = BOTH if again == "Y" else ALONE
    return Tale(tell, fleet, budget("tokens", 10**7), write=write, keeping=("X", "Y"))
