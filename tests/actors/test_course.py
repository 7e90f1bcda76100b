"""Where a job is, from its stored events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import course
from actors.course import OPEN, Course, attempts_of, standing
from messages import Attempted, Awaited, Due, Granted, Held, Problem, Retry, Started, Usage
from tests.messages.samples import PROBLEM, T0, decided

WHO: dict[str, Any] = {"tenant": "acme", "job": "j-1"}
SLIP = decided().slip
LATER = T0 + 60
BACKEND = Awaited(kind="backend", name="a")


def granted(n: int = 1, **changes: Any) -> Granted:
    given_: dict[str, Any] = {"verdict": "candidate", "backend": "a", "model": "m", "at": T0}
    return Granted(**WHO, n=n, **{**given_, **changes})


def started(n: int = 1, **changes: Any) -> Started:
    return Started(**WHO, n=n, backend="a", instance="x", boot="b", run="1", at=T0 + 1, **changes)


def attempted(n: int = 1, **changes: Any) -> Attempted:
    given_: dict[str, Any] = {"backend": "a", "model": "m", "task": "chat", "outcome": "timeout", "at": T0 + 2}
    return Attempted(**WHO, n=n, **{**given_, **changes})


def retry(n: int = 2, not_before: float = LATER, **changes: Any) -> Retry:
    given_: dict[str, Any] = {"slip": SLIP, "cause": PROBLEM, "awaiting": (BACKEND,), "at": T0 + 2}
    return Retry(**WHO, n=n, not_before=not_before, **{**given_, **changes})


def held(n: int = 1) -> Held:
    over = Problem(reason="over_budget", message="a/m: over budget (team)")
    return Held(**WHO, n=n, problem=over, budgets=("team",), until=LATER, at=T0 + 2)


@pytest.mark.parametrize(
    ("there", "state", "n"),
    [
        (Course(), "choosing", 1),
        (Course(granted=granted()), "queued", 1),
        (Course(granted=granted(), started=started()), "running", 1),
        (Course(granted=granted(), started=started(purpose="drain")), "queued", 1),
        (Course(granted=granted(), started=started(), attempted=(attempted(),)), "choosing", 1),
        (Course(granted=granted(verdict="refused")), "choosing", 1),
        (Course(granted=granted(verdict="refused"), retry=retry()), "waiting", 2),
        (Course(granted=granted(verdict="refused"), retry=retry(not_before=T0)), "choosing", 2),
        (Course(granted=granted(verdict="refused"), retry=retry(), due=Due(**WHO, n=2, retry=retry())), "choosing", 2),
        (Course(granted=granted(2), retry=retry()), "queued", 2),
        (Course(granted=granted(2), started=started(1), retry=retry()), "queued", 2),
        (Course(granted=granted(verdict="refused"), held=held()), "held", 1),
        (Course(granted=granted(verdict="refused"), held=held(), retry=retry(2, 0.0)), "choosing", 2),
        (Course(granted=granted(2, verdict="refused"), held=held(2), retry=retry(2)), "held", 2),
    ],
)
def test_the_latest_word_says_where_a_job_is(there: Course, state: str, n: int) -> None:
    found = standing(there, T0 + 10)
    assert (found.state, found.n) == (state, n)
    assert bool(found.waits_for) == (state in ("waiting", "held"))
    assert bool(found.backend) == (state in ("queued", "running"))


@given(
    st.builds(
        Course,
        granted=st.none() | st.builds(granted, st.integers(1, 3), verdict=st.sampled_from(["candidate", "refused"])),
        started=st.none() | st.builds(started, st.integers(1, 3)),
        retry=st.none() | st.builds(retry, st.integers(2, 4), st.sampled_from([0.0, LATER])),
        held=st.none() | st.builds(held, st.integers(1, 3)),
        attempted=st.lists(st.builds(attempted, st.integers(1, 3)), max_size=2).map(tuple),
    )
)
def test_whatever_is_stored_there_is_one_state_and_who_waits_says_for_what(there: Course) -> None:
    found = standing(there, T0 + 10)
    assert found.state in OPEN
    assert bool(found.waits_for) == (found.state in ("waiting", "held"))


@pytest.mark.parametrize(
    ("awaited", "said"),
    [
        (BACKEND, "backend a to take work"),
        (Awaited(kind="backend"), "a backend that can run it"),
        (Awaited(kind="breaker", name="a", model="*"), "the breaker of a to close (`turnout breaker list a`)"),
        (Awaited(kind="breaker", name="a", model="m"), "the breaker of a/m to close"),
        (
            Awaited(kind="budget", name="ledger.tenant.acme.microdollars.day-1", budget="team", amount=1_000),
            "room for $0.001 in budget team, in its next window or after `turnout budget raise team --limit …`",
        ),
        (
            Awaited(kind="settlement", name="ledger.tenant.acme.tokens.day-1", budget="team", amount=1_000),
            "room for 1,000 tokens in budget team",
        ),
    ],
)
def test_what_is_waited_for_is_named_with_what_helps(awaited: Awaited, said: str) -> None:
    assert said in course.wait_in_words(retry(awaiting=(awaited,)))


def test_of_much_that_is_waited_for_some_is_named() -> None:
    many = tuple(Awaited(kind="backend", name=f"b{n}") for n in range(9))
    assert course.wait_in_words(retry(awaiting=many)).endswith("and 6 more")
    assert "pause" in course.wait_in_words(retry(awaiting=()))


def test_attempts_stay_with_their_tokens_in_order() -> None:
    usage = Usage(input_tokens=3, output_tokens=5)
    first, second = attempts_of([attempted(2), attempted(1, usage=usage, billed_microdollars=7)])
    assert (first.n, first.usage, first.billed_microdollars) == (1, usage, 7)
    assert (second.n, second.usage) == (2, None)
    assert msgspec.json.decode(msgspec.json.encode(first), type=type(first)) == first
