from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.telemetry.history import History, analyzed_row, attempted_row, done_row, rated_row
from messages import Analyzed, Attempt, Done, JobRow, JobsOf, Problem
from tests.messages.samples import ATTEMPTED, PROBLEM, T0, attempted, slip

PAST = (Attempt(n=1, backend="a", model="m", outcome="ok", billed_microdollars=5),)


async def in_a_thread(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(call)


async def right_here(call: Callable[[], Any]) -> Any:
    return call()


@pytest.fixture(name="file")
def database(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def submitted(job: str, at: float = T0, **needs: Any) -> Analyzed:
    job_slip = slip(job=job, submitted_at=at, needs=needs)
    return Analyzed(tenant="acme", job=job, fingerprint="f", slip=job_slip, at=at + 1)


def ended(job: str, at: float = T0 + 9, **changes: Any) -> Done:
    given: dict[str, Any] = {
        "tenant": "acme", "job": job, "ending": "succeeded", "attempts": PAST, "backend": "a", "model": "m",
        "cost_microdollars": 5, "submitted_at": T0, "at": at,
    }  # fmt: skip
    return Done(**{**given, **changes})


@pytest.mark.parametrize("offload", [in_a_thread, right_here])
def test_a_job_is_one_row_from_submission_to_end(file: Path, offload: Any) -> None:
    async def main() -> None:
        history = History(file, offload=offload)
        await history.write(analyzed_row(submitted("j-1", batch="monday")))
        running = JobRow(tenant="acme", job="j-1", ending="", task="chat", submitted_at=T0)
        assert await history.jobs(JobsOf()) == (running,)
        await history.write(done_row(ended("j-1")))
        (row,) = await history.jobs(JobsOf())
        assert row == JobRow(
            tenant="acme", job="j-1", ending="succeeded", task="chat", backend="a", model="m", attempts=1,
            cost_microdollars=5, latency_seconds=9.0, submitted_at=T0,
        )  # fmt: skip
        history.close()

    asyncio.run(main())


def test_the_file_keeps_what_was_written(file: Path) -> None:
    async def write() -> None:
        history = History(file, offload=in_a_thread)
        await asyncio.gather(*(history.write(analyzed_row(submitted(f"j-{n}", T0 + n))) for n in range(50)))
        history.close()

    async def read() -> None:
        history = History(file, offload=in_a_thread)
        rows = await history.jobs(JobsOf(limit=1000))
        assert [row.job for row in rows] == [f"j-{n}" for n in reversed(range(50))]
        history.close()

    asyncio.run(write())
    asyncio.run(read())


def test_in_whatever_order_and_however_often_events_come(file: Path) -> None:
    async def main() -> None:
        rows: list[tuple[JobRow, ...]] = []
        events = [analyzed_row(submitted("j-1", batch="b")), done_row(ended("j-1")), attempted_row(attempted())]
        for number, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 0, 1, 2, 0, 2])):
            history = History(file.with_name(f"{number}.db"), offload=right_here)
            for event in order:
                await history.write(events[event])
            rows.append(await history.jobs(JobsOf()))
            assert await history.attempts("acme", "j-1") == (attempted(),)
            history.close()
        assert rows[0] == rows[1] == rows[2]

    asyncio.run(main())


def test_a_job_cancelled_before_it_was_understood_has_its_latency_later(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        await history.write(analyzed_row(submitted("j-1")))
        cancelled = ended("j-1", ending="cancelled", submitted_at=None, problem=PROBLEM, attempts=(), backend="")
        await history.write(done_row(cancelled))
        (row,) = await history.jobs(JobsOf())
        assert (row.ending, row.latency_seconds, row.submitted_at) == ("cancelled", 9.0, T0)
        assert row.problem == PROBLEM.message
        history.close()

    asyncio.run(main())


def test_a_rejected_job_is_listed_too(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        problem = Problem(reason="invalid", message="prompt is empty")
        await history.write(
            analyzed_row(Analyzed(tenant="acme", job="j-1", fingerprint="f", rejected=problem, at=T0 + 1))
        )
        await history.write(done_row(Done(tenant="acme", job="j-1", ending="rejected", problem=problem, at=T0 + 1)))
        (row,) = await history.jobs(JobsOf(ending="rejected"))
        assert (row.problem, row.task, row.submitted_at) == ("prompt is empty", "", T0 + 1)
        history.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("question", "jobs"),
    [
        (JobsOf(), ["j-3", "j-2", "j-1", "j-0"]),
        (JobsOf(limit=2), ["j-3", "j-2"]),
        (JobsOf(limit=-5), ["j-3"]),
        (JobsOf(batch="odd"), ["j-3", "j-1"]),
        (JobsOf(ending="failed"), ["j-2"]),
        (JobsOf(tenant="acme", batch="even", ending="failed"), ["j-2"]),
        (JobsOf(tenant="other"), []),
        (JobsOf(tenant="' OR 1=1 --"), []),
    ],
)
def test_questions(file: Path, question: JobsOf, jobs: list[str]) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        for number in range(4):
            batch = "odd" if number % 2 else "even"
            await history.write(analyzed_row(submitted(f"j-{number}", T0 + number, batch=batch)))
        await history.write(done_row(ended("j-2", ending="failed")))
        assert [row.job for row in await history.jobs(question)] == jobs
        history.close()

    asyncio.run(main())


def test_attempts_come_back_whole_and_in_order(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        third, second = attempted(n=3, outcome="timeout", problem=PROBLEM), ATTEMPTED
        for event in (third, second, attempted(job="other")):
            await history.write(attempted_row(event))
        assert await history.attempts("acme", "j-1") == (second, third)
        assert await history.attempts("other", "j-1") == ()
        history.close()

    asyncio.run(main())


def test_ratings_are_kept_once(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        for seq in (5, 5, 6):
            await history.write(rated_row("acme", "j-1", seq, 4.5, "ada"))
        history.close()

    asyncio.run(main())
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT seq, score, rater FROM ratings ORDER BY seq").fetchall() == [
            (5, 4.5, "ada"),
            (6, 4.5, "ada"),
        ]
    database.close()


def test_what_ended_long_ago_is_forgotten(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=in_a_thread)
        for job, at in (("old", T0), ("new", T0 + 100)):
            await history.write(analyzed_row(submitted(job)))
            await history.write(attempted_row(attempted(job=job, at=at)))
            await history.write(done_row(ended(job, at)))
        await history.write(analyzed_row(submitted("running")))
        await asyncio.gather(history.forget(T0 + 50), history.write(analyzed_row(submitted("late"))))
        assert sorted(row.job for row in await history.jobs(JobsOf())) == ["late", "new", "running"]
        assert await history.attempts("acme", "old") == ()
        assert len(await history.attempts("acme", "new")) == 1
        history.close()

    asyncio.run(main())


def test_one_thing_at_a_time_reaches_the_file(file: Path) -> None:
    """Two threads in one transaction would undo each other's work."""
    inside = 0

    async def alone(call: Callable[[], Any]) -> Any:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.001)
        inside -= 1
        return call()

    async def main() -> None:
        history = History(file, offload=alone)
        writing = [history.write(analyzed_row(submitted(f"j-{n}"))) for n in range(3)]
        asking = [history.jobs(JobsOf()) for _ in range(100)]
        await asyncio.gather(*writing, *asking, *(history.forget(T0 - 1) for _ in range(5)))
        history.close()

    asyncio.run(main())


def test_who_writes_hears_of_a_failure_and_the_next_write_goes_on(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        wrong = ("INSERT INTO nowhere VALUES (?)", (1,))
        results = await asyncio.gather(
            history.write(wrong), history.write(analyzed_row(submitted("j-1"))), return_exceptions=True
        )
        assert all(isinstance(result, sqlite3.Error) for result in results)
        await history.write(analyzed_row(submitted("j-1")))
        assert len(await history.jobs(JobsOf())) == 1
        history.close()

    asyncio.run(main())
