"""A backend is killed in the middle of a call: the job goes on at another one, whatever protocol they speak."""

from __future__ import annotations

from typing import Any

import pytest

from actors.executor.backends import kinds
from messages import Attempted, Chunk, Done, Retry, Started
from tests.e2e.case import Case, Folder
from tests.e2e.cases import CASES
from tests.e2e.system import WAIT_SECONDS, System
from tests.fakes.base import FakeServer


def test_every_protocol_is_here() -> None:
    assert {case.kind for case in CASES} == set(kinds.names())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_job_survives_its_backends_death(case: Case, system: System) -> None:
    system.do(survives(case, system))


async def survives(case: Case, system: System) -> None:
    job, names = f"killed-{case.name}", (f"{case.name}-1", f"{case.name}-2")
    async with case.fake() as first, case.fake() as second:
        for fake in (first, second):
            case.prepare(fake)
        case.hold(first)
        backends = (case.settings(names[0], first.url, 1), case.settings(names[1], second.url, 2))
        async with system.serving(*backends):
            await system.submit(case.submission(job))
            await system.until(
                lambda: case.is_in_the_middle(first, system, job) or system.told(Done, job), "the middle of the call"
            )
            assert not system.told(Done, job)
            killed_at = system.bus.now()
            await kill(first)
            done = await system.done(job)
        assert called(second) == 1, done

    assert (done.ending, done.backend) == ("succeeded", names[1]), done.problem
    assert [attempt.backend for attempt in done.attempts] == list(names)
    died, ended = system.told(Attempted, job)
    assert died.outcome in ("connection_error", "server_error"), died.problem
    assert ended.outcome == "ok"
    [retry] = system.told(Retry, job)
    assert (retry.n, retry.cause) == (2, died.problem)
    assert retry.not_before == pytest.approx(retry.at + WAIT_SECONDS, abs=0.001)
    began, again = system.told(Started, job)
    assert began.at < killed_at < died.at <= retry.at < retry.not_before <= again.at < ended.at <= done.at
    assert len(system.told(Done, job)) == 1
    if case.middle == "chunk":
        assert died.partial
        assert case.text.startswith(died.partial)
        assert "".join(chunk.text for chunk in system.told(Chunk, job) if chunk.n == 2) == case.text

    noticed, moved = died.at - killed_at, again.at - killed_at - WAIT_SECONDS
    print(
        f"\n{case.name:20} noticed after {noticed:5.3f} s, goes on after {moved:5.3f} s and {WAIT_SECONDS:g} s of wait"
    )


async def kill(fake: Any) -> None:
    """End it as a process ends that is killed: its connections break, and nobody listens any more."""
    if isinstance(fake, Folder):
        fake.kill()
        return
    assert isinstance(fake, FakeServer)
    assert fake._runner is not None
    server = fake._runner.server
    assert server is not None
    for connection in server.connections:
        if connection.transport is not None:
            connection.transport.abort()
    await fake.__aexit__()


def called(fake: Any) -> int:
    return fake.calls() if isinstance(fake, Folder) else fake.calls
