"""Who waits, from end to end: until the deadline and no longer, for nothing that can't come, and no longer than it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from itertools import pairwise

import pytest

from actors.settings import BreakerRules, Budget
from messages import Due, Retry
from scenarios.backends import Call, Playwright, Script
from scenarios.invariants import Log
from scenarios.simulation import quiet
from scenarios.world import World, offer
from tests.simulation.directed import ALONE, SOON_SECONDS, Tale, play


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Generator[None, None, None]:
    with quiet():
        yield


def told(tale: Tale) -> list[str]:
    return play(tale).violations


def ended(world: World, *jobs: str, as_: str = "succeeded") -> list[str]:
    found = [(job, world.done(job)) for job in jobs]
    return [f"{job} ended as {done and done.ending}" for job, done in found if done is None or done.ending != as_]


def limited(until: float, retry_after: float) -> Callable[[], Playwright]:
    """Every call is asked to come later, until some time after the beginning."""

    def fresh() -> Playwright:
        began: list[float] = []

        def script(call: Call) -> Script:
            began.append(call.began_at)
            if call.began_at - began[0] < until:
                return Script(fate="rate_limited", seconds=0.1, retry_after_seconds=retry_after)
            return Script(seconds=0.3)

        return script

    return fresh


@pytest.mark.parametrize("retry_after", [0.0, 20.0])
def test_a_job_that_everybody_asks_to_come_later_comes_later(retry_after: float) -> None:
    async def tell(world: World) -> list[str]:
        await world.submit("j", deadline_seconds=300.0)
        await asyncio.sleep(140.0)
        calls = [call for call in world.stage.calls if call.job == "j"]
        gaps = [later.began_at - one.began_at for one, later in pairwise(calls)]
        return [*ended(world, "j"), *(f"asked again after {gap:.2f} s" for gap in gaps if gap < max(1.0, retry_after))]

    assert told(Tale(tell, ALONE, write=limited(100.0, retry_after))) == []


def test_who_waits_for_nobody_ends_at_its_deadline() -> None:
    async def tell(world: World) -> list[str]:
        world.processes["x1"].stays_down = True
        world.crash("x1", down_seconds=float("inf"))
        await asyncio.sleep(10.0)
        for seconds in (3, 90, 400):
            await world.submit(f"j{seconds}", deadline_seconds=float(seconds))
        await asyncio.sleep(410.0)
        done = {seconds: world.done(f"j{seconds}") for seconds in (3, 90, 400)}
        found = ended(world, "j3", "j90", "j400", as_="expired")
        for seconds, one in done.items():
            took = one.at - (one.submitted_at or one.at - seconds) if one is not None else 0.0
            if abs(took - seconds) > 1.5:
                found.append(f"a deadline of {seconds} s ended it after {took:.1f} s")
        rounds = len(Log(world.story()).of(Retry))
        return [*found, *([f"{rounds} rounds"] if rounds > 25 else [])]

    assert told(Tale(tell, ALONE)) == []


def test_what_only_reservations_fill_is_waited_for_and_used() -> None:
    """Thirty jobs whose worst case is many times what they use: nearly all of the limit can be spent by them."""
    budget = Budget(name="day", scope="global", limit=20_000, window="total")

    async def tell(world: World) -> list[str]:
        jobs = [f"j{number}" for number in range(30)]
        for job in jobs:
            await world.submit(job, max_output_tokens=4_000, deadline_seconds=600.0)
        await asyncio.sleep(60.0)
        return ended(world, *jobs)

    dear = ALONE | {"x1": ALONE["x1"]._replace(offers=(offer("X", slots=8, price=1_000_000),))}
    assert told(Tale(tell, dear, {"budgets": (budget,)}, write=lambda: lambda _: Script(seconds=0.5))) == []


def test_one_bad_job_takes_the_backend_from_nobody() -> None:
    async def tell(world: World) -> list[str]:
        for number in range(8):
            await world.submit(f"bad{number}", prompt="the graph with the broken node", seed=number)
        await asyncio.sleep(3.0)
        await world.submit("good")
        began = world.server.now()
        await asyncio.sleep(30.0)
        first = min((call.began_at for call in world.stage.calls if call.job == "good"), default=began + 99)
        calls = [call.job for call in world.stage.calls]
        found = [f"{job} was tried {calls.count(job)} times" for job in set(calls) if calls.count(job) > 2]
        return [*found, *ended(world, "good"), *(["the good one waited"] if first - began > 1.0 else [])]

    def write() -> Playwright:
        return lambda call: Script(fate="server_error" if call.job.startswith("bad") else "ok", seconds=0.2, status=500)

    assert told(Tale(tell, ALONE, write=write)) == []


def test_a_server_that_is_well_again_is_tried_before_its_breakers_time_and_then_all_go_on() -> None:
    rules = BreakerRules(open_seconds=120.0, jitter=0.0)

    async def tell(world: World) -> list[str]:
        world.stage.ill["X"] = "scripted illness"
        for number in range(5):
            await world.submit(f"j{number}", deadline_seconds=900.0)
        await asyncio.sleep(20.0)
        if all(world.done(f"j{number}") for number in range(5)):
            return ["nothing was in the way"]
        world.stage.ill.clear()
        back = world.server.now()
        await world.until_done([f"j{number}" for number in range(5)], 60.0)
        begun = min((call.began_at for call in world.stage.calls if call.began_at > back), default=back + 99)
        woken = [due for due, *_ in Log(world.story()).of(Due).values() if due.message.woken_by is not None]
        late = [f"the first began {begun - back:.1f} s after it was back"] if begun - back > SOON_SECONDS else []
        return [*ended(world, *(f"j{number}" for number in range(5))), *late, *([] if woken else ["nobody was woken"])]

    def write() -> Playwright:
        ill: list[float] = []

        def script(call: Call) -> Script:
            ill.append(call.began_at)
            return Script(fate="connection_error" if call.began_at - ill[0] < 15.0 else "ok", seconds=0.1)

        return script

    here = ALONE | {"x1": ALONE["x1"]._replace(offers=(offer("X"),))}  # On hardware of ours: asked every second.
    assert told(Tale(tell, here, {"breaker": rules}, write=write)) == []
