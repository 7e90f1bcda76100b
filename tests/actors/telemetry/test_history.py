from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.telemetry.history import MOST_RATINGS, History
from actors.telemetry.rows import Row, analyzed_row, attempted_row, done_row, placed_row, rated_row
from messages import Analyzed, Attempt, Done, JobRow, JobsOf, Problem, Result
from tests.messages.samples import ATTEMPTED, PROBLEM, T0, attempted, slip

PAST = (Attempt(n=1, backend="a", model="m", outcome="ok", billed_microdollars=5),)


async def in_a_thread(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(call)


async def right_here(call: Callable[[], Any]) -> Any:
    return call()


async def write(history: History, *rows: Row) -> bool:
    losses = history.losses
    history.put(*rows)
    return await history.kept(losses)


@pytest.fixture(name="file")
def database(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


async def jobs_in(history: History, question: JobsOf) -> tuple[JobRow, ...]:
    return tuple(row for row, _ in await history.listed(question, question.after, question.limit))


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
        await write(history, analyzed_row(submitted("j-1", batch="monday")))
        running = JobRow(
            tenant="acme", job="j-1", ending="", task="chat", submitted_at=T0, cost_microdollars=0, batch="monday"
        )
        assert await jobs_in(history, JobsOf()) == (running,)
        await write(history, done_row(ended("j-1")))
        (row,) = await jobs_in(history, JobsOf())
        assert row == JobRow(
            tenant="acme", job="j-1", ending="succeeded", task="chat", backend="a", model="m", attempts=1,
            cost_microdollars=5, latency_seconds=9.0, submitted_at=T0, batch="monday", state="succeeded",
        )  # fmt: skip
        history.close()

    asyncio.run(main())


def test_the_file_keeps_what_was_written(file: Path) -> None:
    async def begin() -> None:
        history = History(file, offload=in_a_thread)
        await asyncio.gather(*(write(history, analyzed_row(submitted(f"j-{n}", T0 + n))) for n in range(50)))
        history.close()

    async def read() -> None:
        history = History(file, offload=in_a_thread)
        rows = await jobs_in(history, JobsOf(limit=1000))
        assert [row.job for row in rows] == [f"j-{n}" for n in reversed(range(50))]
        history.close()

    asyncio.run(begin())
    asyncio.run(read())


def test_in_whatever_order_and_however_often_events_come(file: Path) -> None:
    async def main() -> None:
        rows: list[tuple[JobRow, ...]] = []
        events = [analyzed_row(submitted("j-1", batch="b")), done_row(ended("j-1")), attempted_row(attempted())]
        for number, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 0, 1, 2, 0, 2])):
            history = History(file.with_name(f"{number}.db"), offload=right_here)
            for event in order:
                await write(history, events[event])
            rows.append(await jobs_in(history, JobsOf()))
            assert await history.attempts("acme", "j-1") == (attempted(),)
            history.close()
        assert rows[0] == rows[1] == rows[2]

    asyncio.run(main())


def test_a_job_cancelled_before_it_was_understood_has_its_latency_later(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        await write(history, analyzed_row(submitted("j-1")))
        cancelled = ended("j-1", ending="cancelled", submitted_at=None, problem=PROBLEM, attempts=(), backend="")
        await write(history, done_row(cancelled))
        (row,) = await jobs_in(history, JobsOf())
        assert (row.ending, row.latency_seconds, row.submitted_at) == ("cancelled", 9.0, T0)
        assert row.problem == PROBLEM.message
        history.close()

    asyncio.run(main())


def test_a_rejected_job_is_listed_too(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        problem = Problem(reason="invalid", message="prompt is empty")
        await write(
            history, analyzed_row(Analyzed(tenant="acme", job="j-1", fingerprint="f", rejected=problem, at=T0 + 1))
        )
        await write(history, done_row(Done(tenant="acme", job="j-1", ending="rejected", problem=problem, at=T0 + 1)))
        (row,) = await jobs_in(history, JobsOf(ending="rejected"))
        assert (row.problem, row.task, row.submitted_at) == ("prompt is empty", "", T0 + 1)
        history.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("question", "jobs"),
    [
        (JobsOf(), ["j-3", "j-2", "j-1", "j-0"]),
        (JobsOf(limit=2), ["j-3", "j-2"]),
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
            await write(history, analyzed_row(submitted(f"j-{number}", T0 + number, batch=batch)))
        await write(history, done_row(ended("j-2", ending="failed")))
        assert [row.job for row in await jobs_in(history, question)] == jobs
        history.close()

    asyncio.run(main())


def test_attempts_come_back_whole_and_in_order(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        third, second = attempted(n=3, outcome="timeout", problem=PROBLEM), ATTEMPTED
        for event in (third, second, attempted(job="other")):
            await write(history, attempted_row(event))
        assert await history.attempts("acme", "j-1") == (second, third)
        assert await history.attempts("other", "j-1") == ()
        history.close()

    asyncio.run(main())


def rated(job: str = "j-1", rater: str = "ada", score: float = 4.5, seq: int = 5, at: float = T0) -> Any:
    return rated_row("acme", job, rater=rater, score=score, seq=seq, at=at)


PLACED = placed_row("acme", "j-1")
SUCCEEDED = (analyzed_row(submitted("j-1")), done_row(ended("j-1")))


def test_the_last_word_of_each_rater_counts(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=in_a_thread)
        await write(history, *SUCCEEDED, rated(score=1.0), rated(rater="bob", score=3.0, seq=6))
        await write(history, rated(score=5.0, seq=9), rated(score=2.0, seq=7), PLACED)
        assert await history.scores("a", "m") == [3.0, 5.0]
        history.close()

    asyncio.run(main())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_rating_finds_what_made_the_result_in_whatever_order(file: Path, order: tuple[int, ...]) -> None:
    events = [*SUCCEEDED, rated()]

    async def main() -> None:
        history = History(file, offload=right_here)
        for place in order:
            assert await history.scores("a", "m") == []
            assert history.fresh == set()
            await write(history, events[place], PLACED)
        assert history.fresh == {("a", "m", "chat")}
        assert await history.scores("a", "m", "chat") == await history.scores("a", "m") == [4.5]
        assert await history.scores("a", "m", "code") == await history.scores("b", "m") == []
        history.close()

    asyncio.run(main())


def test_a_rating_waits_for_its_job_across_a_restart(file: Path) -> None:
    async def before() -> None:
        history = History(file, offload=right_here)
        await write(history, rated(), PLACED)
        assert await history.rated() == []
        history.close()

    async def later() -> None:
        history = History(file, offload=right_here)
        await write(history, *SUCCEEDED, PLACED)
        assert await history.rated() == [("a", "m", "chat")]
        history.close()

    asyncio.run(before())
    asyncio.run(later())


@pytest.mark.parametrize("ending", ["failed", "cancelled", "expired"])
def test_a_job_without_a_result_has_nothing_that_could_be_rated(file: Path, ending: str) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        await write(history, analyzed_row(submitted("j-1")), rated(), done_row(ended("j-1", ending=ending)), PLACED)
        assert await history.rated() == []
        assert history.fresh == set()
        history.close()

    asyncio.run(main())


def test_scores_come_in_order_since_a_time_and_not_without_end(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        rows = [rated(rater=f"r{n}", score=float(n), seq=n, at=T0 + n) for n in (3, 1, 2)]
        await write(history, *SUCCEEDED, *rows, PLACED)
        assert await history.scores("a", "m") == [1.0, 2.0, 3.0]
        assert await history.scores("a", "m", "chat", since=T0 + 2) == [2.0, 3.0]
        many = [rated(rater=f"x{n}", score=4.0, seq=100 + n) for n in range(MOST_RATINGS)]
        await write(history, *many, PLACED)
        assert await history.scores("a", "m") == [4.0] * MOST_RATINGS
        history.close()

    asyncio.run(main())


def test_ratings_go_with_their_jobs_and_those_of_no_job_by_their_age(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=in_a_thread)
        await write(
            history,
            analyzed_row(submitted("old")), done_row(ended("old", T0)), rated("old", at=T0 + 99),
            analyzed_row(submitted("new")), done_row(ended("new", T0 + 100)), rated("new", at=T0),
            rated("nobody's", at=T0), rated("late", at=T0 + 99),
        )  # fmt: skip
        await history.forget(T0 + 50)
        history.close()

    asyncio.run(main())
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT job FROM ratings ORDER BY job").fetchall() == [("late",), ("new",)]


def test_what_never_ended_is_forgotten_by_its_submission(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        await write(history, analyzed_row(submitted("lost", T0)), analyzed_row(submitted("new", T0 + 60)))
        await history.forget(T0 + 50)
        assert [row.job for row in await jobs_in(history, JobsOf())] == ["new"]
        history.close()

    asyncio.run(main())


def test_the_oldest_goes_when_there_is_no_room(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=in_a_thread, max_mb=0.5)
        big = Result(text="x" * 10_000)
        for number in range(100):
            job, at = f"j-{number:03}", T0 + number
            event = attempted(job=job, result=big, at=at)
            await write(history, analyzed_row(submitted(job, at)), attempted_row(event), done_row(ended(job, at)))
        await history.shrink()
        left = [row.job for row in reversed(await jobs_in(history, JobsOf(limit=1000)))]
        assert 10 <= len(left) < 50
        assert left == [f"j-{number:03}" for number in range(100 - len(left), 100)]
        assert len(await history.attempts("acme", left[0])) == 1
        assert await history.attempts("acme", "j-000") == ()
        history.close()

    asyncio.run(main())
    assert file.stat().st_size < 1_000_000, "the room is given back to the disk"


def test_room_that_the_tables_themselves_need_is_no_endless_search(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here, max_mb=0.0)
        await write(history, *SUCCEEDED, attempted_row(attempted()), attempted_row(attempted(job="of-no-job")), rated())
        await history.shrink()
        assert await jobs_in(history, JobsOf()) == ()
        assert await history.attempts("acme", "of-no-job") == ()
        history.close()

    asyncio.run(main())


def test_the_quality_of_a_job_is_kept(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        await write(history, done_row(ended("j-1")), analyzed_row(submitted("j-1", quality="final")))
        history.close()

    asyncio.run(main())
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT quality FROM jobs").fetchall() == [("final",)]


def test_a_file_of_another_version_is_refused_and_stays_as_it_is(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE jobs (job TEXT)")
        database.commit()
    before = file.read_bytes()
    with pytest.raises(sqlite3.DatabaseError, match=r"history\.db .* written by another version .* move it away"):
        History(file, offload=right_here)
    assert file.read_bytes() == before


def test_a_file_that_can_t_be_opened_is_named_with_the_room_beside_it(file: Path) -> None:
    file.write_text("no database, but someone's notes " * 100)
    with pytest.raises(sqlite3.DatabaseError, match=rf"{file} can't be used: .* MB are free there\. Free some space"):
        History(file, offload=right_here)


def test_what_ended_long_ago_is_forgotten(file: Path) -> None:
    async def main() -> None:
        history = History(file, offload=in_a_thread)
        for job, at in (("old", T0), ("new", T0 + 100)):
            await write(history, analyzed_row(submitted(job)))
            await write(history, attempted_row(attempted(job=job, at=at)))
            await write(history, done_row(ended(job, at)))
        await write(history, analyzed_row(submitted("running", T0 + 60)))
        await asyncio.gather(history.forget(T0 + 50), write(history, analyzed_row(submitted("late", T0 + 60))))
        assert sorted(row.job for row in await jobs_in(history, JobsOf())) == ["late", "new", "running"]
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
        writing = [write(history, analyzed_row(submitted(f"j-{n}"))) for n in range(3)]
        asking = [jobs_in(history, JobsOf()) for _ in range(100)]
        await asyncio.gather(*writing, *asking, *(history.forget(T0 - 1) for _ in range(5)))
        history.close()

    asyncio.run(main())


# A file that can't be written.


def fill_up(history: History) -> None:
    """The file may not grow any more, as on a full disk."""
    pages = history._db.execute("PRAGMA page_count").fetchone()[0]
    history._db.execute(f"PRAGMA max_page_count = {pages}")


def make_room(history: History) -> None:
    history._db.execute("PRAGMA max_page_count = 1000000")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_what_a_full_disk_does_not_take_is_let_go_and_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        history = History(file, offload=in_a_thread)
        fill_up(history)
        jobs = [f"j-{n}-{'x' * 100}" for n in range(200)]
        rows = {job: analyzed_row(submitted(job, T0 + number)) for number, job in enumerate(jobs)}
        kept = {job for job, row in rows.items() if await write(history, row)}
        assert 0 < len(kept) < 200
        assert "full" in history.trouble
        assert {row.job for row in await jobs_in(history, JobsOf(limit=1000))} == kept
        assert len(errors(caplog)) == 1
        assert f"{file} can't be written" in errors(caplog)[0]
        make_room(history)
        for job, row in rows.items():
            assert await write(history, row), job
        assert history.trouble == ""
        assert {row.job for row in await jobs_in(history, JobsOf(limit=1000))} == set(jobs)
        history.close()

    asyncio.run(main())


def test_who_waits_behind_a_write_that_fails_is_told_of_it_too(file: Path) -> None:
    """Rows go together: the one who finds nothing left to do must not take that for done."""

    async def main() -> None:
        history = History(file, offload=in_a_thread)
        history._db.execute("PRAGMA query_only = 1")
        first, second = asyncio.create_task(write(history, PLACED)), asyncio.create_task(write(history, *SUCCEEDED))
        assert await asyncio.gather(first, second) == [False, False]
        before = history.losses
        history.put(*SUCCEEDED)
        assert not await history.kept(before)
        assert not await history.kept(before), "what was lost since then stays lost"
        history._db.execute("PRAGMA query_only = 0")
        assert not await history.kept(before)
        assert await write(history, *SUCCEEDED)
        history.close()

    asyncio.run(main())


def test_whatever_went_wrong_nobody_is_told_that_it_was_kept(file: Path) -> None:
    async def main() -> None:
        broken = [True]

        async def offload(call: Callable[[], Any]) -> Any:
            await asyncio.sleep(0)
            if broken:
                broken.clear()
                raise RuntimeError("cannot schedule new futures")
            return call()

        history = History(file, offload=offload)
        history.put(analyzed_row(submitted("j-1")))
        ends = await asyncio.gather(history.kept(0), history.kept(0), return_exceptions=True)
        assert [type(end) for end in ends] == [RuntimeError, bool]
        assert ends[1] is False
        assert await jobs_in(history, JobsOf()) == ()
        history.close()

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [2**70, "\ud800"])
def test_a_row_that_can_t_be_written_does_not_keep_the_others(file: Path, wrong: Any) -> None:
    async def main() -> None:
        history = History(file, offload=right_here)
        odd = ("INSERT INTO jobs (tenant, job, attempts) VALUES ('acme', 'odd', ?)", (wrong,))
        nobody = ("INSERT INTO jobs (tenant, job) VALUES ('acme', ?)", (None,))
        await write(history, analyzed_row(submitted("j-1")), odd, nobody, analyzed_row(submitted("j-2")))
        assert sorted(row.job for row in await jobs_in(history, JobsOf())) == ["j-1", "j-2"]
        assert history.trouble == ""
        history.close()

    asyncio.run(main())


def test_retention_on_a_file_that_can_t_be_written_raises_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        history = History(file, offload=right_here, max_mb=0.0)
        await write(history, analyzed_row(submitted("j-1")))
        history._db.execute("PRAGMA query_only = 1")
        await history.forget(T0 + 1)
        await history.shrink()
        assert len(errors(caplog)) == 1
        history._db.execute("PRAGMA query_only = 0")
        await history.forget(T0 + 1)
        assert await jobs_in(history, JobsOf()) == ()
        history.close()

    asyncio.run(main())


def test_a_long_problem_is_cut() -> None:
    problem = Problem(reason="failed", message="x" * 5_000)
    (_, values) = done_row(ended("j-1", ending="failed", problem=problem))
    assert values[-1] == "x" * 999 + "…"
