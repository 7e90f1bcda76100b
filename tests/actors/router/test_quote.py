from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.decide import decide
from actors.router.quote import TENTH, quote
from actors.router.view import View
from messages import AdaptiveRules, CostRules, Load, Model, Policy, Price, QuoteIs, QuoteOf, Stats
from tests.actors.router.fleet002 import NOBODY, of_002, view_of
from tests.messages.samples import T0, backend, needs, slip

CENT = 10_000


def quoted(view: View, **wishes: Any) -> QuoteIs:
    return quote(QuoteOf(tenant="acme", needs=needs(**wishes)), view, T0)


def test_a_quote_names_the_first_and_the_next() -> None:
    answer = quoted(view_of(*of_002()))
    assert (answer.backend, answer.model, answer.runner_up) == ("local", "sdxl", "cloud/sdxl")
    assert answer.problem is None
    assert answer.price_microdollars is not None
    assert (answer.price_microdollars.low, answer.price_microdollars.high) == (0.0, 0.0)
    assert answer.runner_up_price_microdollars is not None
    assert answer.runner_up_price_microdollars.high == 7_000.0
    assert answer.seconds is not None
    assert answer.runner_up_seconds is not None
    assert math.sqrt(answer.runner_up_seconds.low * answer.runner_up_seconds.high) == pytest.approx(20.0)


def test_a_quote_counts_the_queue_the_loading_and_the_measured_spread() -> None:
    view = view_of(
        backend("a", slots=1, models=(Model(name="m", seconds_per_job=4.0, swap_seconds=30.0),)),
        policies=(Policy(policy="p", cost=CostRules(spread=0.3)),),
    )
    view.learn_load(Load(backend="a", waiting=1, running=1, loaded=("other",), at=T0))
    answer = quoted(view)
    assert (answer.wait_seconds, answer.switch_seconds, answer.runner_up) == (8.0, 30.0, "")
    assert answer.seconds is not None
    assert answer.seconds.low == pytest.approx(42.0 * math.exp(-TENTH * 0.3))
    assert answer.seconds.high == pytest.approx(42.0 * math.exp(TENTH * 0.3))
    view.learn_stats(
        Stats(
            backend="a", model="m", scope="-", attempts=9, successes=9, weight=9.0, latency_seconds=4.0, latency_spread=0.1,
            swap_seconds=30.0, at=T0,
        )
    )  # fmt: skip
    measured = quoted(view).seconds
    assert measured is not None
    assert measured.high == pytest.approx(42.0 * math.exp(TENTH * 0.1))


def test_a_quote_goes_from_the_expected_price_to_the_worst_case() -> None:
    price = Price(input_per_mtok=150_000, output_per_mtok=600_000)
    view = view_of(backend("a", local=False, models=(Model(name="m", price=price, max_output_tokens=80),)))
    answer = quoted(view, output_tokens=40)
    assert answer.price_microdollars is not None
    assert (answer.price_microdollars.low, answer.price_microdollars.high) == (1.5 + 24.0, 50.0)
    assert answer.changes == ("output capped at 80 instead of 100 tokens",)
    unknown = quoted(view_of(backend("a", local=False, models=(Model(name="m", price=Price(unknown=True)),))))
    assert unknown.price_microdollars is None
    assert unknown.seconds is not None


@given(
    wishes=st.fixed_dictionaries(
        {},
        optional={
            "preferred_backend": st.sampled_from(["", "cloud", "gemini"]),
            "allow_cloud": st.booleans(),
            "prioritize_speed": st.booleans(),
            "strategy": st.sampled_from(["expected_cost", "cost_first", "latency_first", "weighted_score"]),
            "max_cost_microdollars": st.sampled_from([None, 0, CENT]),
        },
    ),
    waiting=st.integers(0, 40),
)
def test_a_quote_is_for_whom_the_job_would_go_to(wishes: dict[str, Any], waiting: int) -> None:
    view = view_of(*of_002())
    view.learn_load(Load(backend="local", waiting=waiting, running=1, at=T0))
    answer = quoted(view, **wishes)
    choice = decide(slip(needs=wishes), n=1, attempts=(), excluded=(), view=view, now=T0)
    named = [f"{row.backend}/{row.model}" for row in choice.ranking[:2]]
    assert [name for name in (f"{answer.backend}/{answer.model}", answer.runner_up) if name] == named


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
def test_quotes_explore_nobody(method: Any) -> None:
    rules = AdaptiveRules(method=method, epsilon=1.0, enough=100)
    view = view_of(*of_002(), policies=(Policy(policy="p", strategy="adaptive", adaptive=rules),))
    assert quoted(view).backend == "gemini"


def test_nobody_is_a_problem_that_says_why() -> None:
    for view, wishes, said in NOBODY:
        problem = quoted(view(), **wishes).problem
        assert problem is not None
        assert problem.reason == "no_backend"
        assert said in problem.message
