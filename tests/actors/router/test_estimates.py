"""Estimates and quotes; the cost cases of seed 002 (`002_be4394d5e206ede2.txt`) on its own fleet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.estimates import MOST_JOBS, MOST_PLACES, estimate
from actors.router.shipped import shipped_policies
from actors.router.view import View
from messages import (
    AdaptiveRules,
    EstimateIs,
    EstimateOf,
    Load,
    Model,
    Policy,
    Price,
    Rule,
    Stats,
)
from tests.actors.router.fleet002 import NOBODY, of_002, view_of
from tests.messages.samples import T0, backend, needs

CENT = 10_000


def estimated(view: View, *, now: float = T0, needs_: Mapping[str, Any] | None = None, **question: Any) -> EstimateIs:
    return estimate(EstimateOf(tenant="acme", needs=needs(**(needs_ or {})), **question), view, now)


def counts(answer: EstimateIs) -> dict[str, int]:
    return {share.backend: share.jobs for share in answer.shares}


# Seed 002: `Savings Example`, the table of `Cost Optimization`, and its curl calls.


@pytest.mark.parametrize(
    ("split", "cost", "saving"),
    [
        ({"local": 850, "cloud": 150}, 1_050_000, "98.7 % less than all on gemini/sdxl ($80.00, 5,000 s)"),
        ({"local": 985, "cloud": 15}, 105_000, "99.9 % less than all on gemini/sdxl ($80.00, 5,000 s)"),
        ({"local": 1000}, 0, "100.0 % less than all on gemini/sdxl ($80.00, 5,000 s)"),
    ],
)
@pytest.mark.parametrize("policies", [(), shipped_policies()], ids=["none", "shipped"])
def test_the_savings_of_002(split: dict[str, int], cost: int, saving: str, policies: tuple[Policy, ...]) -> None:
    answer = estimated(view_of(*of_002(), policies=policies), jobs=1000, split=split)
    assert answer.problem is None
    assert counts(answer) == split
    assert answer.cost_microdollars == cost
    assert answer.notes[0] == saving
    assert answer.left_over == 0


def test_all_of_002_on_gemini_costs_80_dollars() -> None:
    answer = estimated(view_of(*of_002()), jobs=1000, split={"gemini": 1000})
    assert (answer.cost_microdollars, answer.seconds) == (80_000_000, 5_000.0)
    assert answer.dearest == answer.shares[0]
    assert not any("less" in note for note in answer.notes)


def test_the_recommendations_of_002_for_100_jobs_with_a_dollar() -> None:
    """`GET /api/loadbalancer/recommendations?jobCount=100&maxBudget=1.00`."""
    view = view_of(*of_002())
    answer = estimated(view, jobs=100, budget_microdollars=100 * CENT)
    shares = counts(answer)
    assert sum(shares.values()) == 100
    assert answer.left_over == 0
    assert 92 * CENT < answer.cost_microdollars == 7_000 * shares["cloud"] + 80_000 * shares["gemini"] <= 100 * CENT
    assert (shares, answer.cost_microdollars) == ({"local": 62, "cloud": 28, "gemini": 10}, 996_000)
    assert answer.seconds < estimated(view, jobs=100, split={"local": 100}).seconds
    assert answer.seconds < estimated(view, jobs=100, budget_microdollars=0).seconds == 1_000.0


def test_the_estimate_of_002_for_1000_jobs_on_auto() -> None:
    """`POST /api/loadbalancer/estimate {"jobCount": 1000, "backend": "auto"}`."""
    view = view_of(*of_002())
    answer = estimated(view, jobs=1000, needs_={"value_per_hour_microdollars": 3_600_000})
    assert sum(counts(answer).values()) == 1000
    assert counts(answer) == {"gemini": 565, "local": 290, "cloud": 145}
    assert (answer.cost_microdollars, answer.seconds) == (46_215_000, 2_900.0)
    assert answer.dearest is not None
    assert answer.dearest.cost_microdollars == 80_000_000
    assert answer.cost_microdollars < 80_000_000
    assert "an hour of waiting counts $3.60 per job: work flows over when its queue costs more" in answer.notes
    usual = estimated(view, jobs=1000)
    assert "an hour of waiting counts $0.60 per job: work flows over when its queue costs more" in usual.notes
    assert usual.cost_microdollars < answer.cost_microdollars
    patient = estimated(view, jobs=1000, needs_={"value_per_hour_microdollars": 0})
    assert (counts(patient), patient.cost_microdollars) == ({"local": 1000}, 0)


# The batch.


def test_the_time_of_a_batch_counts_what_waits_and_the_loading() -> None:
    view = view_of(backend("a", slots=2, models=(Model(name="m", seconds_per_job=3.0, swap_seconds=20.0),)))
    assert estimated(view, jobs=5).seconds == 9.0
    view.learn_load(Load(backend="a", waiting=1, running=2, at=T0))
    assert estimated(view, jobs=5).seconds == 12.0
    view.learn_load(Load(backend="a", waiting=1, running=2, loaded=("other",), at=T0))
    assert estimated(view, jobs=5).seconds == 32.0


def test_tokens_are_billed_for_each_job_and_rounded_up() -> None:
    price = Price(input_per_mtok=150_000, output_per_mtok=600_000)
    view = view_of(backend("a", local=False, models=(Model(name="m", price=price),)))
    answer = estimated(view, jobs=1000)  # 10 tokens in, 50 of 100 out: 1.5 + 30 micro-dollars.
    assert answer.cost_microdollars == 32 * 1000
    assert "expected prices; $0.062 if every answer is as long as it may be" in answer.notes


@given(
    jobs=st.integers(1, 3_000),
    budget=st.none() | st.integers(0, 300_000_000),
    slots=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    cheapest=st.integers(0, 90_000),
)
def test_a_recommendation_adds_up_and_keeps_to_its_budget(
    jobs: int, budget: int | None, slots: tuple[int, int, int], cheapest: int
) -> None:
    prices = (cheapest, 7_000, 80_000)
    fleet = [
        backend(
            name, slots=n, local=False,
            models=(Model(name="m", price=Price(per_request=price, source="a list"), seconds_per_job=10.0),),
        )
        for name, n, price in zip("abc", slots, prices, strict=True)
    ]  # fmt: skip
    answer = estimated(view_of(*fleet), jobs=jobs, budget_microdollars=budget)
    placed = sum(counts(answer).values())
    assert placed + answer.left_over == jobs
    assert answer.cost_microdollars == sum(
        dict(zip("abc", prices, strict=True))[s.backend] * s.jobs for s in answer.shares
    )
    assert [s.jobs for s in answer.shares] == sorted((s.jobs for s in answer.shares), reverse=True)
    assert answer.seconds == max((s.seconds for s in answer.shares), default=0.0)
    if budget is None:
        assert answer.left_over == 0
    else:
        assert answer.cost_microdollars <= budget
        assert answer.left_over == 0 or answer.cost_microdollars + min(prices) > budget


def test_what_the_budget_does_not_pay_for_is_left_over() -> None:
    cloud = of_002()[1]
    answer = estimated(view_of(cloud), jobs=200, budget_microdollars=100 * CENT)
    assert (counts(answer), answer.left_over, answer.cost_microdollars) == ({"cloud": 142}, 58, 994_000)
    assert answer.notes[0] == "$1.00 pays for 142 of 200 jobs"
    assert answer.dearest is not None
    assert answer.dearest.jobs == 142
    nothing = estimated(view_of(cloud), jobs=200, budget_microdollars=0)
    assert (nothing.shares, nothing.left_over, nothing.cost_microdollars, nothing.dearest) == ((), 200, 0, None)


def test_a_split_over_its_budget_leaves_out_the_dearest() -> None:
    split = {"gemini": 10, "cloud": 10, "local": 10}
    answer = estimated(view_of(*of_002()), jobs=30, split=split, budget_microdollars=240_000)
    assert counts(answer) == {"local": 10, "cloud": 10, "gemini": 2}
    assert (answer.left_over, answer.cost_microdollars) == (8, 230_000)


def test_a_budget_may_take_a_cheaper_model_of_the_same_backend() -> None:
    dear, small = Price(per_request=CENT), Price(per_request=100)
    both = backend("cloud", local=False, models=(Model(name="large", price=dear), Model(name="small", price=small)))
    view = view_of(both, policies=(Policy(policy="p", rules=(Rule(name="best", pool=("large",)),)),))
    assert {share.model for share in estimated(view, jobs=100).shares} == {"large"}
    answer = estimated(view, jobs=100, budget_microdollars=50 * CENT)
    assert [(share.model, share.jobs) for share in answer.shares] == [("small", 100)]
    assert any(note.startswith("the budget is too small for those who would be tried first") for note in answer.notes)
    assert not any("budget" in note for note in estimated(view, jobs=10, budget_microdollars=50 * CENT).notes)


def test_the_preferred_backend_takes_all() -> None:
    answer = estimated(view_of(*of_002()), jobs=50, needs_={"preferred_backend": "cloud"})
    assert counts(answer) == {"cloud": 50}


def test_the_pool_comes_before_the_rest() -> None:
    view = view_of(*of_002(), policies=(Policy(policy="p", rules=(Rule(name="r", pool=("cloud", "gemini")),)),))
    assert set(counts(estimated(view, jobs=500))) == {"cloud", "gemini"}


def test_a_job_limit_keeps_the_dear_ones_out() -> None:
    answer = estimated(view_of(*of_002()), jobs=500, needs_={"max_cost_microdollars": CENT})
    assert set(counts(answer)) == {"local", "cloud"}
    assert answer.dearest is not None
    assert answer.dearest.backend == "cloud"


def test_an_unknown_price_is_left_out_unless_nobody_else_is_there() -> None:
    odd = backend("odd", local=False, models=(Model(name="m", price=Price(unknown=True)),))
    answer = estimated(view_of(*of_002(), odd), jobs=500)
    assert "odd" not in counts(answer)
    assert "left out, because nobody said what they cost: odd/m" in answer.notes
    alone = estimated(view_of(odd), jobs=5)
    assert (counts(alone), alone.cost_microdollars, alone.dearest) == ({"odd": 5}, 5 * 80_000, None)
    assert "the price of odd/m is not known: $0.08 a job is assumed" in alone.notes
    limited = estimated(view_of(odd), jobs=5, budget_microdollars=CENT)
    assert limited.problem is not None
    assert "has a known price, and they have a budget" in limited.problem.message


def test_what_is_measured_is_not_called_stated() -> None:
    view = view_of(backend("a"), backend("b", priority=3))
    assert any(note.startswith("not measured yet") for note in estimated(view, jobs=1).notes)
    for name in ("a", "b"):
        view.learn_stats(
            Stats(backend=name, model="m", scope="-", attempts=9, successes=9, weight=9.0, latency_seconds=2.0, at=T0)
        )
    assert not any(note.startswith("not measured yet") for note in estimated(view, jobs=1).notes)


def test_changes_of_the_request_are_told() -> None:
    view = view_of(backend("a", models=(Model(name="m", max_output_tokens=50),)))
    assert estimated(view, jobs=3).notes[-1] == "a: output capped at 50 instead of 100 tokens"


def test_a_large_fleet_is_cut_but_keeps_its_cheapest() -> None:
    fleet = [
        backend(
            f"b{n:03}", local=False, slots=1,
            models=(Model(name="m", price=Price(per_request=100), seconds_per_job=1.0 + n / 1000),),
        )
        for n in range(MOST_PLACES + 20)
    ]  # fmt: skip
    slow = backend("slow", slots=1, models=(Model(name="m", seconds_per_job=1_000.0),))
    view = view_of(*fleet, slow)
    answer = estimated(view, jobs=MOST_PLACES * 10)
    assert len(answer.shares) <= MOST_PLACES + 1
    free = estimated(view, jobs=MOST_PLACES * 10, budget_microdollars=0)
    assert (counts(free), free.left_over) == ({"slow": MOST_PLACES * 10}, 0)


@pytest.mark.parametrize(
    ("question", "field", "said"),
    [
        ({"jobs": 0}, "jobs", "jobs is 0: use 1 to 1,000,000,000."),
        ({"jobs": MOST_JOBS + 1}, "jobs", "use 1 to 1,000,000,000."),
        ({"jobs": 5, "budget_microdollars": -1}, "budget_microdollars", "use 0 or more"),
        ({"jobs": 5, "split": {"locl": 5}}, "split", "did you mean local?"),
        ({"jobs": 5, "split": {"xyz": 5}}, "split", "use some of cloud, gemini, local."),
        ({"jobs": 5, "split": {"local": 7, "cloud": -2}}, "split.cloud", "use 0 or more"),
        ({"jobs": 5, "split": {"local": 3, "cloud": 1}}, "split", "the parts add up to 4, and there are 5 jobs."),
    ],
)
def test_a_wrong_question_is_named(question: dict[str, Any], field: str, said: str) -> None:
    problem = estimated(view_of(*of_002()), **question).problem
    assert problem is not None
    assert (problem.reason, problem.field) == ("invalid", field)
    assert said in problem.message


def test_a_split_to_a_backend_that_may_not_run_it_says_why() -> None:
    answer = estimated(view_of(*of_002()), jobs=5, split={"local": 4, "gemini": 1}, needs_={"allow_cloud": False})
    assert answer.problem is not None
    assert answer.problem.message.startswith("gemini may not run these jobs: sdxl is a cloud backend")
    assert estimated(
        view_of(*of_002()), jobs=5, split={"local": 5, "gemini": 0}, needs_={"allow_cloud": False}
    ).problem is None  # fmt: skip


# Nobody.


def test_nobody_is_a_problem_that_says_why() -> None:
    for view, wishes, said in NOBODY:
        problem = estimated(view(), jobs=5, needs_=wishes).problem
        assert problem is not None
        assert problem.reason == "no_backend"
        assert said in problem.message


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
def test_nobody_is_explored(method: Any) -> None:
    rules = AdaptiveRules(method=method, epsilon=1.0, enough=100)
    models = tuple(Model(name=f"m{n}", seconds_per_job=10.0 - n / 100) for n in range(8))
    view = view_of(backend("a", models=models), policies=(Policy(policy="p", strategy="adaptive", adaptive=rules),))
    assert [share.model for share in estimated(view, jobs=10).shares] == ["m7"]
