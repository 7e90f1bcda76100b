from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.explainer.explain import explain
from actors.explainer.memory import Memory
from messages import Attempt, Explained, Features, Parameters, Plan, Problem
from messages.policies import AdaptiveRules
from messages.values import Outcome
from tests.messages.samples import PROBLEM, T0, candidate, decided, slip

POINTS = ("priority", "cost", "speed", "queue")
LOCAL = candidate(
    "local", score=88.0, parts=(40.0, 30.0, 10.0, 8.0), features={"service_seconds": 8.0, "runs": 10.0},
    changes=("output capped at 64 instead of 100 tokens",),
)  # fmt: skip
CLOUD = candidate(
    "cloud", score=64.0, parts=(26.0, 28.0, 10.0, 0.0),
    features={"service_seconds": 10.0, "runs": 20.0, "price_microdollars": 7_000.0},
)  # fmt: skip
BROKEN = candidate("broken", barred="breaker", reason="has an open breaker for 30 s: 3 failures")
FAILED = Attempt(
    n=1, backend="broken", model="m", outcome="connection_error", billed_microdollars=12, latency_seconds=0.8,
    problem=PROBLEM,
)  # fmt: skip


def told(**changes: Any) -> Explained:
    return explain(decided(**changes), Memory())


def kinds(explained: Explained) -> list[str]:
    return [reason.kind for reason in explained.reasons]


def test_a_decision_says_who_and_why_with_figures() -> None:
    made = told(ranking=(LOCAL, CLOUD), others=(BROKEN,), parts=POINTS, policy="code@3 writers")
    assert (made.tenant, made.job, made.n, made.chosen) == ("acme", "j-1", 1, "local/m")
    assert made.summary == (
        "local/m runs this chat job of standard quality: it leads with 88.0 points, 24.0 more than cloud/m. "
        "Compared with cloud/m it costs nothing against $0.007 and has 20% lower latency over the last 10 runs (8.0 s against "
        "10.0 s). "
        "Rule `writers` of policy code@3 routes it by weighted_score: priority 40, cost 30, speed 10, queue 8. "
        "What changes: output capped at 64 instead of 100 tokens. "
        "1 other may not run it: broken (breaker)."
    )
    assert kinds(made) == ["score", "price", "speed", "rule", "adjusted", "need"]
    assert made.reasons[0].text == "local/m has 88.0 points: priority 40, cost 30, speed 10, queue 8"
    assert [reason.about for reason in made.alternatives] == ["cloud/m", "broken/m"]
    assert made.adjusted == ("output capped at 64 instead of 100 tokens",)
    assert made.suggestions == ("look after broken: it has an open breaker for 30 s: 3 failures",)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ranking": (LOCAL,)}, "there is no other"),
        ({"ranking": (LOCAL,), "others": (BROKEN,)}, "it is the only one that may"),
        ({"slip": slip(needs={"preferred_backend": "local"})}, "because the job prefers it"),
        ({"plan": Plan(pool=("local",))}, "; cloud/m comes after it because it is outside the pool of the rule"),
        ({"strategy": "expected_cost", "ranking": (candidate("a", score=-1.0), candidate("b", score=-900.0))},
         "it leads with an expected cost of $0.000001, and b/m has an expected cost of $0.0009"),
        ({"strategy": "latency_first", "ranking": (candidate("a", score=2.0), candidate("b", score=1.0))},
         "it and b/m both have about 2.0 s until it is done, and what comes next in latency_first speaks for it"),
        ({"ranking": (CLOUD, LOCAL), "reason": "the order is another."}, ": the order is another."),
        ({"ranking": (candidate("a"), candidate("b"))}, "it has the same score as b/m, and comes first by name"),
    ],
)  # fmt: skip
def test_what_put_the_first_one_there(changes: dict[str, Any], why: str) -> None:
    assert why in told(**{"ranking": (LOCAL, CLOUD), **changes}).summary


def test_a_trial_says_so_with_its_number() -> None:
    explored: dict[str, Any] = {"ranking": (CLOUD, LOCAL), "explored": True, "number": 0.00423, "strategy": "adaptive"}
    made = told(**explored)
    assert "as a trial (its number is 0.0042): 1% of the jobs go to another one" in made.summary
    assert (made.reasons[0].kind, made.reasons[0].value) == ("explored", 0.00423)
    fresh = (candidate("new"), LOCAL)
    assert "fewer than 3 of its runs count so far" in told(**{**explored, "ranking": fresh}).summary
    thompson = Plan(adaptive=AdaptiveRules(method="thompson"))
    assert "a draw from what is known of each" in told(**explored, plan=thompson).summary


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({}, "Policy default@1 routes it by weighted_score"),
        ({"plan": Plan(fixed=True)}, "Routing is switched off by policy default@1, which leaves a fixed order"),
        ({"slip": slip(needs={"strategy": "weighted_score"})},
         "The job itself asks for strategy weighted_score (policy default@1)"),
    ],
)  # fmt: skip
def test_who_chose_the_strategy(changes: dict[str, Any], who: str) -> None:
    assert who in told(**changes).summary


def test_a_retry_tells_what_each_attempt_cost_and_took() -> None:
    second = msgspec.structs.replace(FAILED, n=2, backend="cloud", outcome="empty", latency_seconds=None, problem=None)
    made = told(n=3, attempts=(FAILED, second), ranking=(LOCAL,))
    assert made.summary.startswith("Round 2 on cloud/m failed (empty) and cost $0.000012. local/m runs ")
    assert [(r.kind, r.about, r.value, r.text) for r in made.reasons[:2]] == [
        ("attempt", "cloud/m", 12, "Round 2 on cloud/m failed (empty) and cost $0.000012"),
        ("attempt", "broken/m", 12,
         f"Round 1 on broken/m failed after 800 ms (connection error) and cost $0.000012: {PROBLEM.message}"),
    ]  # fmt: skip


def test_a_hop_tells_how_much_smaller_the_model_is() -> None:
    big = candidate("broken", barred="failed", reason="is excluded", known={"parameters_billion": 100.0})
    small = candidate("local", model="s", known={"parameters_billion": 12.0})
    made = told(n=2, attempts=(FAILED,), ranking=(small,), others=(big,))
    assert made.adjusted == ("88% fewer parameters than the hop before (m)",)
    assert made.adjusted[0] in made.summary


def test_when_nothing_may_run_it_says_so() -> None:
    waiting = told(ranking=(), wait_seconds=0.5, others=(BROKEN,), slip=slip(needs={
        "capabilities": ("vision",), "allow_cloud": False, "max_cost_microdollars": 0, "model": "x",
    }))  # fmt: skip
    assert waiting.chosen == ""
    assert waiting.summary == (
        "Nobody may run this job now; it is looked at again in 500 ms. "
        "Not permitted: broken/m has an open breaker for 30 s: 3 failures. "
        "It is a chat job of standard quality that needs vision, must use x, stays off the cloud and may cost nothing."
    )
    assert kinds(waiting) == ["rule", "need"]


def test_when_it_is_given_up_it_says_what_was_tried() -> None:
    over = Problem(reason="no_backend", message="no backend may run this job: broken/m has an open breaker.")
    made = told(n=2, ranking=(), gave_up=over, attempts=(FAILED,), others=(BROKEN,))
    assert made.summary == (
        "The job is given up: no backend may run this job: broken/m has an open breaker. "
        "1 attempt was made, of 3 at most, and cost $0.000012 in all. It is a chat job of standard quality."
    )
    timeout = Problem(reason="timeout", message="silent")
    assert "Not permitted: broken/m has" in told(ranking=(), gave_up=timeout, others=(BROKEN,)).summary
    again = told(n=3, ranking=(), gave_up=timeout, attempts=(FAILED, FAILED)).summary
    assert "2 attempts were made, of 3 at most, and cost $0.000024 in all" in again


def test_omitted_candidates_are_counted() -> None:
    assert "; 84 more are not listed" in told(others=(BROKEN,), omitted=84).summary
    assert told(omitted=84).summary.endswith(" 84 more are not listed.")


def test_models_that_the_same_thing_stands_against_are_counted() -> None:
    deaf = tuple(candidate("comfyui", model=f"m-{n}", barred="capability", reason="lacks audio") for n in range(12))
    assert told(others=(*deaf, BROKEN)).summary.endswith(
        "13 others may not run it: comfyui (capability, 12 models), broken (breaker)."
    )
    assert (
        "Not permitted: comfyui/m-0 lacks audio (12 models); broken/m has an open breaker for 30 s: 3 failures."
        in told(ranking=(), others=(*deaf, BROKEN)).summary
    )


FIGURES = st.floats(0, 1e6)
CANDIDATES = st.builds(
    lambda name, score, parts, features, changes, model: candidate(
        name, score=score, parts=parts, features=features, changes=changes, parameters=Parameters(model=model)
    ),
    st.sampled_from("abc"),
    st.floats(-1e9, 1e9),
    st.sampled_from([(), (1.0, 2.0, 3.0, 4.0), (0.0, 0.0)]),
    st.fixed_dictionaries(
        {"service_seconds": FIGURES, "wait_seconds": FIGURES, "price_microdollars": FIGURES, "runs": FIGURES,
         "ahead": FIGURES, "queue": FIGURES, "saturated": st.booleans(), "failure_rate": st.floats(0, 1)}
    ),
    st.sampled_from([(), ("one change",)]),
    st.sampled_from(["", "variant"]),
)  # fmt: skip
ATTEMPTS = st.builds(
    lambda outcome, billed, seconds: Attempt(
        n=1, backend="a", model="m", outcome=outcome, billed_microdollars=billed, latency_seconds=seconds
    ),
    st.sampled_from(get_args(Outcome)),
    st.integers(0, 10**9),
    st.none() | st.floats(0, 1e5),
)
STRATEGIES = (
    "weighted_score", "expected_cost", "cost_first", "latency_first", "fastest_response", "least_loaded", "most_capacity",
    "context_based", "manual", "pool_order", "direct", "usage_based", "complexity_based", "adaptive_weighted",
    "quality_based", "adaptive", "somebodys_own",
)  # fmt: skip


@given(
    st.lists(CANDIDATES, max_size=4), st.lists(CANDIDATES, max_size=3), st.lists(ATTEMPTS, max_size=3),
    st.sampled_from(STRATEGIES), st.booleans(), st.sampled_from([(), ("a",), ("zzz",)]),
)  # fmt: skip
def test_any_decision_is_told_in_one_paragraph(
    ranking: Any, barred: Any, attempts: Any, strategy: str, explored: bool, pool: Any
) -> None:
    others = tuple(msgspec.structs.replace(one, barred="cost", reason="could cost $1") for one in barred)
    event = decided(
        ranking=tuple(ranking), others=others, attempts=tuple(attempts), strategy=strategy, parts=POINTS, at=T0,
        explored=explored and bool(ranking), number=0.5, plan=Plan(pool=pool, chain=pool),
    )  # fmt: skip
    made = explain(event, Memory())
    sentences = re.split(r"\. (?=\S)", made.summary)
    assert 2 <= len(sentences) <= 5
    assert made.summary.endswith(".")
    assert "\n" not in made.summary
    assert made == explain(event, Memory())
    assert (made.chosen == "") == (not ranking)
    assert len(made.alternatives) == max(0, len(ranking) - 1) + len(others)
    assert {"rule", "need"} <= set(kinds(made))
    assert all(reason.text for reason in (*made.reasons, *made.alternatives))
    assert len(made.suggestions) <= 4


def test_features_default_to_a_stated_speed() -> None:
    assert Features().runs == 0
    assert (
        "by stated speeds"
        in told(ranking=(candidate(score=1.0), candidate("b", features={"service_seconds": 9.0}))).summary
    )
