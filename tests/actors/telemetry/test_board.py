"""The list of jobs, each with where it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.course import Course
from actors.telemetry import board as module
from actors.telemetry.board import Board
from actors.telemetry.history import History
from actors.telemetry.listing import BadPlace
from actors.telemetry.rows import analyzed_row, attempted_row, done_row
from messages import Analyzed, Attempted, Done, Granted, Held, JobRow, JobsOf, Problem, Progress, Started, Usage
from tests.messages.samples import T0, slip


async def right_here(call: Any) -> Any:
    return call()


class Stream:
    """Where each job is, by its name: `h-…` is held, `r-…` runs, others are being decided."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def course(self, tenant: str, job: str) -> Course:
        self.asked.append(job)
        who: dict[str, Any] = {"tenant": tenant, "job": job, "n": 1, "at": T0}
        granted = Granted(**who, verdict="candidate", backend="gpu", model="m")
        if job.startswith("h"):
            over = Problem(reason="over_budget", message="over")
            return Course(held=Held(**who, problem=over, budgets=("team",), until=T0))
        if job.startswith("r"):
            return Course(granted=granted, started=Started(**who, backend="gpu", instance="x", boot="b", run="1"))
        return Course()


def history() -> History:
    return History(":memory:", offload=right_here)


async def filled(*names: str) -> tuple[Board, Stream, History]:
    kept = history()
    for at, name in enumerate(names):
        accepted = Analyzed(tenant="t", job=name, fingerprint="f", slip=slip(job=name, submitted_at=T0 + at), at=T0)
        kept.put(analyzed_row(accepted))
        if name.startswith("d"):
            kept.put(done_row(Done(tenant="t", job=name, ending="failed", submitted_at=T0 + at, at=T0 + at + 1)))
    await kept.kept(0)
    stream = Stream()
    return Board(kept, stream), stream, kept


def ask(question: JobsOf, *names: str) -> tuple[list[tuple[str, str]], str]:
    async def main() -> tuple[list[tuple[str, str]], str]:
        board, _, kept = await filled(*names)
        answer = await board.jobs(question, T0 + 99)
        kept.close()
        return [(row.job, row.state) for row in answer.jobs], answer.more

    return asyncio.run(main())


def test_open_jobs_say_where_they_are_and_ended_ones_how() -> None:
    found, more = ask(JobsOf(), "d-1", "h-1", "r-1", "c-1")
    assert found == [("c-1", "choosing"), ("r-1", "running"), ("h-1", "held"), ("d-1", "failed")]
    assert more == ""


@pytest.mark.parametrize(
    ("question", "jobs"),
    [
        (JobsOf(states=("held",)), ["h-2", "h-1"]),
        (JobsOf(states=("failed",)), ["d-1"]),
        (JobsOf(states=("held", "failed")), ["h-2", "d-1", "h-1"]),
        (JobsOf(states=("succeeded",)), []),
        (JobsOf(backend="gpu"), ["r-1"]),
        (JobsOf(backend="gpu", states=("held",)), []),
    ],
)
def test_jobs_are_chosen_by_state_and_backend(question: JobsOf, jobs: list[str]) -> None:
    assert [job for job, _ in ask(question, "h-1", "d-1", "r-1", "h-2")[0]] == jobs


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("looked_up", [1, 2, 5, 400])
def test_whoever_goes_on_behind_each_answer_sees_every_match_once(
    limit: int, looked_up: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LOOKED_UP", looked_up)
    names = [f"{'hrdc'[n % 4]}-{n:02}" for n in range(23)]

    async def main() -> list[str]:
        board, stream, kept = await filled(*names)
        seen: list[str] = []
        after = ""
        for _ in range(200):
            before = len(stream.asked)
            answer = await board.jobs(JobsOf(states=("held", "failed"), limit=limit, after=after), T0)
            assert len(answer.jobs) <= limit
            assert len(stream.asked) - before <= looked_up, "one answer is bounded"
            seen += [row.job for row in answer.jobs]
            after = answer.more
            if not after:
                break
        kept.close()
        return seen

    assert asyncio.run(main()) == [name for name in reversed(names) if name[0] in "hd"]


def test_a_place_that_no_answer_told_is_refused() -> None:
    with pytest.raises(BadPlace, match="use what an answer told"):
        ask(JobsOf(after="yesterday"), "h-1")


def test_how_far_a_running_job_is_comes_from_its_latest_step() -> None:
    async def main() -> JobRow:
        board, _, kept = await filled("r-1")
        for number, share in ((2, 0.5), (1, 0.25)):
            step = Progress(
                tenant="t",
                job="r-1",
                n=1,
                number=number,
                stage="working",
                backend="gpu",
                share=share,
                text=f"at {share}",
            )
            board.learn(step)
        (row,) = (await board.jobs(JobsOf(), T0)).jobs
        board.forget("t", "r-1")
        assert (await board.jobs(JobsOf(), T0)).jobs[0].share is None
        kept.close()
        return row

    row = asyncio.run(main())
    assert (row.share, row.step, row.backend, row.model) == (0.5, "at 0.5", "gpu", "m")


def test_what_was_billed_after_the_end_counts_and_totals_are_kept_by_backend() -> None:
    async def main() -> None:
        board, _, kept = await filled("d-1")
        fields: dict[str, Any] = {"tenant": "t", "job": "d-1", "model": "m", "task": "chat", "at": T0 + 5}
        usage = Usage(input_tokens=3, output_tokens=4)
        late = Attempted(**fields, n=1, backend="a", outcome="aborted", billed_microdollars=70, usage=usage)
        kept.put(attempted_row(late), attempted_row(late))
        await kept.kept(0)
        (row,) = (await board.jobs(JobsOf(), T0)).jobs
        assert (row.attempts, row.cost_microdollars) == (1, 70)
        unknown = Attempted(**fields, n=2, backend="b", outcome="ok", unpriced=True)
        kept.put(attempted_row(unknown))
        await kept.kept(0)
        assert (await board.jobs(JobsOf(), T0)).jobs[0].cost_microdollars is None
        totals, since = await kept.totals()
        assert [(one.backend, one.attempts, one.succeeded, one.billed_microdollars, one.unpriced) for one in totals] == [
            ("a", 1, 0, 70, 0), ("b", 1, 1, 0, 1),
        ]  # fmt: skip
        assert (totals[0].input_tokens, totals[0].output_tokens, since) == (3, 4, T0 + 5)
        assert [one.backend for one in (await kept.totals("b"))[0]] == ["b"]
        kept.close()

    asyncio.run(main())
