"""The end of a job that comes from outside."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.course import Course
from actors.router.ending import ended
from messages import Analyzed, Attempted, Awaited, Granted, Held, Problem, Retry, Started, Usage
from tests.messages.samples import T0, slip

WHO: dict[str, Any] = {"tenant": "acme", "job": "j-1"}
ACCEPTED = Analyzed(**WHO, fingerprint="f", slip=slip(), at=T0)
ERROR = Problem(reason="server_error", message="a: it broke", status=500, body='{"error": "whole"}')


def attempted(n: int, **changes: Any) -> Attempted:
    fields: dict[str, Any] = {
        **WHO, "n": n, "backend": "a", "model": "m", "task": "chat", "outcome": "server_error", "problem": ERROR,
        "billed_microdollars": 5, "usage": Usage(input_tokens=3), "at": T0 + n,
    }  # fmt: skip
    return Attempted(**{**fields, **changes})


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_attempts_the_first_error_and_the_cost_stay(ending: Any) -> None:
    second = attempted(2, problem=Problem(reason="timeout", message="b: late"), outcome="timeout", backend="b")
    done = ended("acme", "j-1", ending, "by me", Course(analyzed=ACCEPTED, attempted=(second, attempted(1))), T0 + 9)
    assert [one.n for one in done.attempts] == [1, 2]
    assert (done.cost_microdollars, done.backend, done.submitted_at) == (10, "b", slip().submitted_at)
    assert done.attempts[0].usage == Usage(input_tokens=3)
    assert done.problem is not None
    assert (done.problem.reason, done.problem.status, done.problem.body) == (ending, 500, ERROR.body)
    assert "a: it broke" in done.problem.message
    assert ("by me" in done.problem.message) == (ending == "cancelled")


def test_a_price_that_nobody_knows_is_no_cost() -> None:
    done = ended("acme", "j-1", "expired", "", Course(analyzed=ACCEPTED, attempted=(attempted(1, unpriced=True),)), T0)
    assert done.cost_microdollars is None


def test_a_job_nobody_has_heard_of_ends_too() -> None:
    done = ended("acme", "j-1", "cancelled", "by me", Course(), T0)
    assert (done.problem, done.submitted_at) == (Problem(reason="cancelled", message="by me"), None)


OVER = Problem(reason="over_budget", message="a/m: over budget (team): may cost $0.01, $0.001 of $0.001 left")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"held": Held(**WHO, n=1, problem=OVER, budgets=("team",), until=T0, at=T0)}, OVER.message),
        ({"held": Held(**WHO, n=1, problem=OVER, budgets=("team",), until=T0, at=T0)}, "turnout budget raise team"),
        (
            {
                "retry": Retry(
                    **WHO, n=2, slip=slip(), cause=OVER, at=T0, not_before=T0,
                    awaiting=(Awaited(kind="budget", name="ledger.a.b.microdollars.d", budget="team", amount=10_000),),
                )
            },
            "it waited for room for $0.01 in budget team",
        ),
        (
            {"retry": Retry(**WHO, n=2, slip=slip(), cause=OVER, at=T0, not_before=T0 + 9, awaiting=())},
            "it was to be tried again",
        ),
        ({"granted": Granted(**WHO, n=1, verdict="candidate", backend="a", model="m", at=T0)}, "a slot of a/m"),
        (
            {
                "granted": Granted(**WHO, n=1, verdict="candidate", backend="a", model="m", at=T0),
                "started": Started(**WHO, n=1, backend="a", instance="x", boot="b", run="1", at=T0),
            },
            "a/m was at work on it",
        ),
    ],
)  # fmt: skip
def test_the_end_names_what_the_job_waited_for(more: dict[str, Any], said: str) -> None:
    done = ended("acme", "j-1", "expired", "", Course(analyzed=ACCEPTED, **more), T0 + 1)
    assert done.problem is not None
    assert done.problem.message.startswith("the job's deadline passed; ")
    assert said in done.problem.message


def test_of_very_many_attempts_an_end_holds_some_and_the_cost_of_all() -> None:
    many = tuple(
        msgspec.structs.replace(attempted(n, outcome="rate_limited", billed_microdollars=n == 1), problem=None)
        for n in range(1, 60)
    )
    done = ended("acme", "j-1", "expired", "", Course(analyzed=ACCEPTED, attempted=many), T0)
    assert 1 < len(done.attempts) <= 24
    numbers = [one.n for one in done.attempts]
    assert (numbers[0], numbers[-1], done.cost_microdollars) == (1, 59, 1)
