"""The demo: what it counts, what it says, and that it really loses nothing."""

import re
import subprocess
import sys

import msgspec
import pytest

from messages import (
    Attempt,
    Attempted,
    Breaker,
    Candidate,
    Decided,
    Done,
    Failover,
    Features,
    Granted,
    Needs,
    Problem,
    Skipped,
    Slip,
)
from messages.jobs import Ending
from messages.values import Outcome
from scenarios.demo import words
from scenarios.demo.story import submissions
from scenarios.demo.summary import percentile, summarize


def attempt(n, backend, outcome: Outcome = "ok"):
    return Attempt(n=n, backend=backend, model="m", outcome=outcome, billed_microdollars=10)


def attempted(job, n, backend, outcome: Outcome = "ok", billed=10):
    return Attempted(
        tenant="demo", job=job, n=n, backend=backend, model="m", task="chat", outcome=outcome,
        billed_microdollars=billed, at=2.0,
    )  # fmt: skip


def done(job, *attempts, ending: Ending = "succeeded", seconds=1.0):
    tried = attempts or (attempt(1, "local"),)
    backend = tried[-1].backend
    return Done(
        tenant="demo", job=job, ending=ending, attempts=tried, backend=backend, submitted_at=10.0, at=10.0 + seconds
    )


# ------------------------------------------------------------------------------------------------- summary


def test_all_is_well_when_every_job_has_one_end():
    summary = summarize(["a", "b"], [done("a"), done("b", ending="failed")], [])
    assert (summary.lost, summary.twice, summary.exit_code) == ((), (), 0)
    assert summary.endings == {"succeeded": 1, "failed": 1}


def test_a_job_without_an_end_is_lost():
    summary = summarize(["a", "b"], [done("a")], [])
    assert (summary.lost, summary.exit_code) == (("b",), 1)


def test_a_second_end_is_counted_even_when_it_says_the_same():
    summary = summarize(["a", "b"], [done("a"), done("b"), done("a")], [])
    assert (summary.twice, summary.lost, summary.exit_code) == (("a",), (), 1)
    assert summary.total.jobs == 2


def test_nothing_submitted_nothing_lost():
    summary = summarize([], [], [])
    assert summary.exit_code == 0
    assert summary.total.p50 is None


def test_failovers_are_moves_to_another_backend_after_a_failed_call():
    moved = done("a", attempt(1, "local", "connection_error"), attempt(2, "cloud"))
    again = done("b", attempt(1, "local", "timeout"), attempt(2, "local"))
    never_called = done("c", attempt(1, "local", "not_started"), attempt(2, "cloud"))
    twice = done("d", attempt(1, "x", "empty"), attempt(2, "y", "empty"), attempt(3, "z"))
    summary = summarize("abcd", [moved, again, never_called, twice], [])
    assert summary.failovers == 3
    assert summary.moved == ("a", "d")


def test_each_backend_has_its_calls_failures_and_costs():
    attempts = [
        attempted("a", 1, "local", "connection_error", billed=3),
        attempted("a", 2, "cloud"),
        attempted("b", 1, "local", "not_started", billed=0),
        attempted("b", 2, "local"),
    ]
    dones = [
        done("a", attempt(1, "local", "connection_error"), attempt(2, "cloud"), seconds=4.0),
        done("b", attempt(1, "local", "not_started"), attempt(2, "local")),
    ]
    summary = summarize("ab", dones, attempts, backends=["local", "cloud", "idle"])
    figures = [(row.backend, row.jobs, row.calls, row.failed, row.cost_microdollars, row.p50) for row in summary.rows]
    assert figures == [("local", 1, 2, 1, 13, 1.0), ("cloud", 1, 1, 0, 10, 4.0), ("idle", 0, 0, 0, 0, None)]
    assert (summary.total.cost_microdollars, summary.total.p95) == (23, 4.0)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 10), (0.95, 19), (1.0, 20), (0.01, 1)])
def test_percentiles_are_values_that_occurred(share, expected):
    assert percentile(range(20, 0, -1), share) == expected


# --------------------------------------------------------------------------------------------------- words


def candidate(backend, *, score=0.0, reason="", barred="", **features):
    return Candidate(
        backend=backend, model="m", barred=barred, score=score, reason=reason, features=Features(**features)
    )


def decided(*ranking, others=(), strategy="weighted_score", preferred=""):
    needs = Needs(
        task="chat", quality="draft", complexity="simple", complexity_score=1.0, input_tokens=1, max_output_tokens=1,
        preferred_backend=preferred,
    )  # fmt: skip
    slip = Slip(tenant="demo", job="a", submitted_at=0.0, deadline_at=9.0, input_seq=1, needs=needs)
    return Decided(
        tenant="demo", job="a", n=1, slip=slip, ranking=ranking, others=others, strategy=strategy, policy="demo@1",
        failover=Failover(), reason="looking again in 1 s", at=0.0,
    )  # fmt: skip


def granted(backend="local", **more):
    return Granted(tenant="demo", job="a", n=1, verdict="candidate", backend=backend, model="m", at=0.0, **more)


LOCAL, CLOUD = candidate("local", score=91.2), candidate("cloud", score=60.0)
NOT_CLOUD = candidate("cloud", reason="is a cloud backend, and the job does not allow the cloud", barred="cloud")
NO_VISION = candidate("local", reason="lacks vision", barred="capability")
OPEN = candidate("local", reason="has an open breaker for 3 s: failures", barred="breaker")
DEAR = candidate("dear", reason="could cost $1, the job has $0 left", barred="cost")


@pytest.mark.parametrize(
    ("decision", "verdict", "words_wanted"),
    [
        (decided(LOCAL, CLOUD), granted(), "91 points; cloud 60"),
        (decided(LOCAL, CLOUD, preferred="local"), granted(), "the job prefers it"),
        (decided(LOCAL, CLOUD), granted(probe=True), "trial call: its breaker was open"),
        (decided(LOCAL), granted(), "there is no other"),
        (decided(LOCAL, others=(NOT_CLOUD,)), granted(), "the job must stay local"),
        (decided(CLOUD, others=(NO_VISION,)), granted("cloud"), "the only one with vision"),
        (decided(CLOUD, others=(DEAR, OPEN)), granted("cloud"), "dear: too dear; local: breaker open"),
        (
            decided(LOCAL, CLOUD),
            granted("cloud", skipped=(Skipped(backend="local", reason="its breaker is half-open and another job"),)),
            "local: trial call under way",
        ),
        (
            decided(
                candidate("local", price_microdollars=0.0),
                candidate("cloud", price_microdollars=4200.0),
                strategy="cost_first",
            ),
            granted(),
            "cheapest: free; cloud $0.0042",
        ),
        (
            decided(candidate("local", service_seconds=1.0, wait_seconds=0.5), CLOUD, strategy="latency_first"),
            granted(),
            "fastest: 1.5 s; cloud 0.0 s",
        ),
        (
            decided(candidate("local", score=-4_200.0), candidate("cloud", score=-7.0), strategy="expected_cost"),
            granted(),
            "least cost: $0.0042; cloud $0.000007",
        ),
        (decided(LOCAL, CLOUD, strategy="most_capacity"), granted(), "first by most capacity; next cloud"),
    ],
)
def test_every_decision_has_its_reason_in_a_few_words(decision, verdict, words_wanted):
    assert words.because(decision, verdict) == words_wanted


def test_a_wait_names_what_will_pass_and_not_what_never_will():
    assert words.waits_for(decided(others=(NOT_CLOUD, OPEN))) == "local: breaker open"
    assert words.waits_for(decided(others=(NOT_CLOUD,))) == "looking again in 1 s"


def test_failures_are_told_apart():
    refused = attempted("a", 1, "local", "connection_error")
    assert words.failure(refused) == "the connection broke"
    assert words.failure(msgspec.structs.replace(refused, first_token_seconds=0.1)).endswith("in mid-answer")
    assert words.failure(attempted("a", 1, "local", "rate_limited")) == "rate limited"


@pytest.mark.parametrize(("amount", "said"), [(0, "free"), (4200, "$0.0042"), (1e6, "$1.00"), (1_254_000, "$1.25")])
def test_money_in_a_few_characters(amount, said):
    assert words.money(amount) == said


def test_a_refusal_names_every_backend_that_was_passed_over():
    skipped = (
        Skipped(backend="local", reason="its breaker is open for 3 s"),
        Skipped(backend="cloud", reason="over budget"),
    )
    assert words.refused(granted("", skipped=skipped)) == "local: breaker open; cloud: over budget"
    assert words.refused(granted("")) == "nobody may take it now"


def test_an_opening_tells_for_how_long_and_whether_again():
    breaker = Breaker(
        backend="local", model="m", through_seq=1, times_opened=1, open_until=13.0,
        reason="3 failures in a row, last: timeout",
    )  # fmt: skip
    assert words.opening(breaker, 10.0) == "breaker of local opens for 3 s: 3 failures in a row"
    again = msgspec.structs.replace(breaker, times_opened=2)
    assert words.opening(again, 10.0) == "breaker of local opens again for 3 s: 3 failures in a row"


def test_long_kinds_of_work_have_short_names():
    assert words.task(decided(LOCAL)) == "chat"
    needs = msgspec.structs.replace(decided(LOCAL).slip.needs, task="large_context")
    slip = msgspec.structs.replace(decided(LOCAL).slip, needs=needs)
    assert words.task(msgspec.structs.replace(decided(LOCAL), slip=slip)) == "long text"


def test_a_backend_that_cannot_be_reached_is_told_apart():
    problem = Problem(reason="connection_error", message="local: cannot connect to 127.0.0.1")
    failed = msgspec.structs.replace(attempted("a", 1, "local", "connection_error"), problem=problem)
    assert words.failure(failed) == "can't be reached"


# ----------------------------------------------------------------------------------------------- the whole


def test_jobs_beyond_the_file_begin_again_under_new_ids():
    jobs = submissions(61)
    assert jobs[60] == msgspec.structs.replace(jobs[0], id="m-061")


def test_the_demo_survives_its_backends_death():
    command = [sys.executable, "-m", "scenarios.demo", "--jobs", "9", "--pace", "0.1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not ran.stderr
    lines = ran.stdout.splitlines()
    assert [line for line in lines if "** local is killed in the middle of" in line]
    assert [line for line in lines if "** local is started again" in line]
    assert [line for line in lines if " => " in line]
    assert "9 jobs submitted: 9 succeeded." in lines
    assert "0 lost, 0 ended twice, by the stream's records." in lines
    assert re.search(r"^[1-9]\d* failovers: [1-9]", ran.stdout, re.MULTILINE)
    assert re.search(r"^Why did m-\d+ go to ", ran.stdout, re.MULTILINE)
    assert "Simulated: the backends" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert all(line == line.rstrip() for line in lines)


def test_nonsense_is_refused():
    ran = subprocess.run(
        [sys.executable, "-m", "scenarios.demo", "--jobs", "0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "jobs is 0" in ran.stderr
