"""Waits for budgets and people cost no rounds; everything else does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.verdict import refusal
from actors.rounds import OVER_BUDGET, RESUMED, STILL_WAITING, counts, extra_rounds
from actors.router.decide import decide
from actors.router.verify import check
from messages import Attempt, Decided, Exclusion, FailoverRules, Granted, Policy, Problem, Retry, Skipped
from tests.actors.router.fleets import view_of
from tests.messages.samples import T0, backend, slip

MOST = 3
VIEW = view_of(backend("a"), Policy(policy="mine", failover=FailoverRules(max_extra_rounds=MOST, max_attempts=3)))
LONG = slip(deadline_at=T0 + 80_000)
GONE = (Exclusion(backend="a", until=T0 + 90_000, reason="elsewhere"),)


def attempt(n: int, outcome: str = "timeout") -> Attempt:
    return Attempt(n=n, backend="x", model="m", outcome=outcome, billed_microdollars=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "attempts", "extra"),
    [
        (1, (), 0),
        (5, (), 4),
        (2, (attempt(1),), 0),
        (4, (attempt(1), attempt(2)), 1),
        (31, (attempt(30),), 0),
        (2, (attempt(1, "not_started"),), 1),
        (9, (attempt(3, "not_started"), attempt(5), attempt(7, "not_started")), 3),
    ],
)
def test_rounds_count_from_the_last_attempt_on(n: int, attempts: tuple[Attempt, ...], extra: int) -> None:
    assert extra_rounds(n, attempts) == extra


def test_which_causes_count() -> None:
    reasons = (OVER_BUDGET, RESUMED, STILL_WAITING, "refused", "no_backend", "timeout", "not_started")
    assert [counts(Problem(reason=reason, message="x")) for reason in reasons] == [False] * 3 + [True] * 4
    assert counts(None)


def decision(n: int, reason: str, attempts: tuple[Attempt, ...] = (), *, gone: bool = False) -> Decided:
    made = decide(
        LONG, n=n, attempts=attempts, excluded=GONE if gone else (), view=VIEW, now=T0 + 10 * n,
        cause=Problem(reason=reason, message="x"),
    ).decided  # fmt: skip
    assert check(made) == "", "it derives from its event alone"
    return made


@pytest.mark.parametrize("reason", [OVER_BUDGET, RESUMED, STILL_WAITING])
def test_a_round_after_a_wait_is_decided_however_many_there_were(reason: str) -> None:
    assert [c.backend for c in decision(500, reason).ranking] == ["a"]
    waiting = decision(500, reason, gone=True)
    assert (waiting.gave_up, waiting.wait_seconds) == (None, 30.0)
    assert decision(501, "timeout", (attempt(500),)).gave_up is None, "nor are they held against it after an attempt"


@pytest.mark.parametrize("reason", ["refused", "no_backend", "not_started"])
def test_other_rounds_still_end_it(reason: str) -> None:
    assert decision(MOST + 1, reason).gave_up is None
    assert decision(MOST + 2, reason).gave_up == Problem(reason=reason, message="x")
    nobody = tuple(attempt(n, "not_started") for n in range(500, 500 + MOST + 1))
    assert decision(500 + MOST + 1, "not_started", nobody).gave_up is not None


@given(st.lists(st.sampled_from(("budget", "breaker", "nobody", "resume", "not_started", "fails")), max_size=60))
def test_a_job_gives_up_only_for_rounds_that_were_no_waits(walk: list[str]) -> None:
    """Played through guardrail and router, step by step. A single look that led to no wait counts as any other round."""
    n, cause, attempts, plain, waits, now = 1, None, (), 0, 0, T0
    for step in walk:
        made = decide(
            LONG, n=n, attempts=attempts, excluded=GONE if step == "nobody" else (), view=VIEW, now=now, cause=cause
        ).decided  # fmt: skip
        assert check(made) == ""
        unmade = sum(one.outcome == "not_started" for one in attempts)
        if made.gave_up is not None:
            assert plain + unmade + min(waits, 1) > MOST or len(attempts) - unmade >= 3
            return
        assert len(attempts) - unmade < 3
        skip = Skipped(backend="a", model="m", reason=step)
        verdict = Granted(tenant="acme", job="j-1", n=n, verdict="refused", skipped=(skip,), at=now)
        if step in ("not_started", "fails"):
            outcome = "timeout" if step == "fails" else step
            attempts = (*attempts, attempt(n, outcome))
            cause, plain, waits = Problem(reason=outcome, message="x"), 0, 0
        elif step == "resume":
            cause = Problem(reason=RESUMED, message="x")
            waits += 1
        else:
            if step == "budget":
                verdict = msgspec.structs.replace(verdict, when_over="wait", room_at=now + 60)
            follows = refusal(made, verdict)
            assert isinstance(follows, Retry)
            assert follows.not_before >= now + 0.5
            cause, now = follows.cause, follows.not_before
            plain += step != "budget"
            waits += step == "budget"
        n += 1
        now += 1.0
