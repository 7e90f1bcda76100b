from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.actor import Heard
from actors.explainer.actor import Explainer
from actors.explainer.words import dollars, explain
from messages import Attempt, Problem
from tests.messages.samples import PROBLEM, T0, candidate, decided, slip


@pytest.mark.parametrize(
    ("microdollars", "text"),
    [(0, "free"), (1, "$0.000001"), (7_000, "$0.007"), (80_000, "$0.08"), (1_000_000, "$1"), (10_500_000, "$10.5"),
     (10_000_000, "$10")],
)  # fmt: skip
def test_money_as_people_read_it(microdollars: int, text: str) -> None:
    assert dollars(microdollars) == text


@given(st.integers(1, 10**12))
def test_money_says_the_whole_amount(microdollars: int) -> None:
    assert round(float(dollars(microdollars).removeprefix("$")) * 1e6) == microdollars


def test_a_decision_says_who_and_why_with_figures() -> None:
    best = candidate("local", reason="88.0 points", features={"service_seconds": 8.0, "measured_runs": 10.0})
    rival = candidate(
        "cloud", reason="64.0 points", features={"service_seconds": 10.0, "price_microdollars": 7_000.0, "ahead": 2.0}
    )
    out = candidate("broken", permitted=False, reason="has an open breaker for 30 s: 3 failures")
    made = explain(decided(ranking=(best, rival), others=(out,), slip=slip(needs={"why": ("about 10 input tokens",)})))
    assert (made.tenant, made.job, made.n, made.chosen) == ("acme", "j-1", 1, "local/m")
    assert made.why == (
        "strategy weighted_score of policy default@1: 88.0 points",
        "20% faster than cloud (8.0 s against 10.0 s) over its last 10 runs",
        "costs free against $0.007 at cloud",
        "0 jobs ahead against 2 at cloud",
        "about 10 input tokens",
    )
    assert made.alternatives == (
        "cloud/m: 64.0 points", "broken/m: not possible, has an open breaker for 30 s: 3 failures",
    )  # fmt: skip
    assert made.suggestions == ("look after broken: it has an open breaker for 30 s: 3 failures",)


def test_stated_speed_is_called_so_and_small_differences_are_not_told() -> None:
    speeds = (("a", 10), ("b", 10.4), ("c", 8), ("d", 2))
    best, near, far, farthest = (candidate(name, features={"service_seconds": s}) for name, s in speeds)
    assert not any("faster" in line or "slower" in line for line in explain(decided(ranking=(best, near))).why)
    words = "25% slower than c (10.0 s against 8.0 s) by its stated speed"
    assert words in explain(decided(ranking=(best, far))).why
    words = "5.0 times slower than d (10.0 s against 2.0 s) by its stated speed"
    assert words in explain(decided(ranking=(best, farthest))).why


def test_a_retry_tells_what_failed_before() -> None:
    past = (Attempt(n=1, backend="b", model="m", outcome="timeout", billed_microdollars=0, problem=PROBLEM),)
    assert f"attempt 1 on b ended with timeout: {PROBLEM.message}" in explain(decided(n=2, attempts=past)).why
    bare = (Attempt(n=1, backend="b", model="m", outcome="empty", billed_microdollars=0),)
    assert "attempt 1 on b ended with empty: empty" in explain(decided(n=2, attempts=bare)).why


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("is unhealthy: on fire", "look after x: it is unhealthy: on fire"),
        ("could cost $0.000110, the job has $0.000100 left", "a higher max_cost would admit x"),
    ],
)
def test_suggestions(reason: str, hint: str) -> None:
    out = candidate("x", permitted=False, reason=reason)
    assert explain(decided(others=(out,))).suggestions == (hint,)


def test_when_nothing_may_run_it_says_what_to_do() -> None:
    waiting = explain(decided(ranking=(), wait_seconds=0.5, reason="nothing may run now, looking again in 0.5 s"))
    assert waiting.chosen == ""
    assert "start a backend" in waiting.suggestions[0]
    over = Problem(reason="no_backend", message="no backend is known")
    gave_up = explain(decided(ranking=(), gave_up=over, reason=f"gave up: {over.message}"))
    assert gave_up.suggestions == ()
    assert gave_up.summary == "gave up: no backend is known"


def test_there_are_at_most_four_suggestions() -> None:
    others = tuple(candidate(f"x{n}", permitted=False, reason="is unhealthy: x") for n in range(9))
    assert len(explain(decided(others=others)).suggestions) == 4


def test_the_room_says_one_explanation_for_a_decision() -> None:
    assert Explainer().decided(decided(), Heard(now=T0)) == [explain(decided())]
