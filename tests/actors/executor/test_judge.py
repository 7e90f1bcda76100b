"""A validator's job in a whole deployment: it judges, it is never judged, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.executor import validator
from actors.executor.backends import port
from bus import codec, simloop
from messages import AnswerChecks, Attempted, Done, JobSubmit, Policy
from messages.policies import Rule
from scenarios.world import World, offer
from tests.actors.executor.desk import Adapter
from tests.actors.executor.test_fleet import attempts, executor_of, opened

CRITERION = "Is it any good?"
POLICY = Policy(policy="judged", order=1, rules=(Rule(name="all", checks=AnswerChecks(validator=CRITERION)),))
"""Every answer is to be judged; that of a validator too, if it could be."""


def backend(*, score: float, bad: str = "") -> Adapter:
    """Answers any job, and judges: the answers of `bad` get 1."""

    async def run(call: port.Call) -> AsyncIterator[port.Item]:
        prompt = port.prompt_of(call)
        text = f"{call.model} wrote this"
        if CRITERION in prompt:
            given = 1.0 if bad and f"{bad} wrote this" in prompt else score
            text = msgspec.json.encode({"score": given, "verdict": "pass", "reason": "so"}).decode()
        await asyncio.sleep(0.5)
        yield port.Chunk(text=text)
        yield port.Answer(text=text, finish_reason="stop", model=call.model, usage=port.Usage(output_tokens=5))

    return Adapter(run)


async def judged_world(bad: str = "", **offers: Any) -> World:
    world = World(seed=3)
    await opened(world, **offers)
    for name, offered in offers.items():
        executor_of(world, name).served[offered.backend].adapter = backend(score=4.0, bad=bad)
    await world.fact(POLICY)
    await asyncio.sleep(3.0)
    return world


def the_end(world: World, job: str) -> Done:
    ends = [codec.decode(Done, record.data) for record in world.log("EV") if record.subject.startswith("ev.done.")]
    return next(end for end in ends if end.job == job)


def asked(world: World) -> list[JobSubmit]:
    found = [codec.decode(JobSubmit, record.data) for record in world.log("IN") if ".submit." in record.subject]
    return [job for job in found if job.role == validator.ROLE]


def attempts_of(world: World, job: str) -> list[Attempted]:
    return [attempted for attempted in attempts(world) if attempted.job == job]


def test_a_second_backend_judges_and_its_verdict_is_told() -> None:
    async def story() -> None:
        world = await judged_world(x=offer("X", slots=1), y=offer("Y", slots=1))
        await world.submit("j", deadline_seconds=300.0)
        assert await world.until_done(["j"], 60.0)
        end = the_end(world, "j")
        assert end.result is not None
        [check] = end.result.checks
        assert (check.verdict, check.score, check.message) == ("pass", 4.0, "so")
        [job] = asked(world)
        assert check.name == job.id
        verdict = the_end(world, job.id)
        assert verdict.result is not None
        assert verdict.result.checks == ()  # Nobody judges the judge.
        await world.close()

    simloop.run(story(), seed=3)


def test_who_scores_too_low_is_followed_by_another() -> None:
    async def story() -> None:
        first, second = offer("X", slots=2, models=("mx",)), offer("Y", slots=2, models=("my",), priority=3)
        world = await judged_world(bad="mx", x=first, y=second)
        await world.submit("j", deadline_seconds=300.0)
        assert await world.until_done(["j"], 120.0)
        end = the_end(world, "j")
        assert [(attempt.model, attempt.outcome) for attempt in end.attempts] == [
            ("mx", "validator_hard_fail"), ("my", "ok"),
        ]  # fmt: skip
        assert end.ending == "succeeded"
        assert len({job.id for job in asked(world)}) == 2
        await world.close()

    simloop.run(story(), seed=3)


@pytest.mark.parametrize("slots", [1, 2])
def test_a_single_slot_never_waits_for_itself_for_long(slots: int) -> None:
    async def story() -> None:
        world = await judged_world(x=offer("X", slots=slots))
        jobs = [f"j{number}" for number in range(slots)]
        assert world.client is not None
        began = world.client.now()
        for job in jobs:
            await world.submit(job, deadline_seconds=300.0)
        assert await world.until_done(jobs, 120.0)
        for job in jobs:
            [attempt] = attempts_of(world, job)
            assert (attempt.outcome, attempt.latency_seconds) == ("ok", pytest.approx(0.5, abs=0.1))
            assert attempt.result is not None
            [check] = attempt.result.checks
            assert check.message.startswith("no verdict: ")
            assert attempt.at - began < 2 * validator.START_SECONDS
        await asyncio.sleep(80.0)
        ends = {job.id: the_end(world, job.id).ending for job in asked(world)}
        assert set(ends.values()) <= {"cancelled", "expired", "succeeded"}
        assert len(ends) == slots
        await world.close()

    simloop.run(story(), seed=3)
