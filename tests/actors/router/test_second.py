"""Who is asked after a backend refused a job as wrong, or as too large for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router import verify
from messages import Attempt, Backend, Decided, Model, Price, Problem
from messages.values import Outcome
from tests.actors.router.fleets import decision, gone_from, view_of
from tests.messages.samples import backend

REFUSAL = Problem(reason="bad_request", message="a: HTTP 400: temperature must be below 2", status=400)


def refused(name: str, outcome: Outcome = "bad_request", problem: Problem = REFUSAL) -> Attempt:
    return Attempt(n=1, backend=name, model="m", outcome=outcome, billed_microdollars=0, problem=problem)


def cloud(name: str, price: int | None = 1_000_000, **changes: Any) -> Backend:
    known = Price(unknown=True) if price is None else Price(output_per_mtok=price)
    return backend(name, local=False, models=(Model(name="m", price=known, **changes),))


def after(*there: Backend, first: str = "a", **given_: Any) -> Decided:
    """The round after `first` refused."""
    made = decision(view_of(*there), n=2, attempts=(refused(first),), excluded=gone_from(first, model=""), **given_)
    assert verify.check(made) == "", "it can be derived from what it says was seen"
    return made


def barred(made: Decided) -> dict[str, str]:
    return {other.backend: other.barred for other in made.others}


def test_another_backend_gives_its_opinion_at_once() -> None:
    made = after(backend("a"), backend("b"), backend("c", priority=3))
    assert [one.backend for one in made.ranking] == ["b", "c"]
    assert (made.wait_seconds, made.gave_up) == (0.0, None)


def test_it_never_goes_from_a_backend_of_ours_to_a_cloud() -> None:
    made = after(backend("a"), cloud("b", 0))
    assert made.gave_up == REFUSAL, "it ends at once, with the first error"
    assert (barred(made)["b"], made.wait_seconds) == ("opinion", 0.0)
    assert [one.backend for one in after(cloud("a"), backend("b")).ranking] == ["b"], "the other way is no harm"


@pytest.mark.parametrize(("price", "asked"), [(1_000_000, True), (999_999, True), (1_000_001, False), (None, False)])
def test_it_costs_no_more(price: int | None, *, asked: bool) -> None:
    made = after(cloud("a"), cloud("b", price))
    assert [one.backend for one in made.ranking] == (["b"] if asked else [])
    assert (made.gave_up is None) is asked


def test_one_whose_price_nobody_knows_is_asked_for_nothing() -> None:
    assert after(cloud("a", None), cloud("b", 1)).gave_up == REFUSAL
    assert [one.backend for one in after(cloud("a", None), backend("b")).ranking] == ["b"], "what costs nothing may"


@pytest.mark.parametrize("change", [{"healthy": False}, {"slots": 0}, {"models": (Model(name="n"),)}])
def test_nobody_waits_for_an_opinion(change: dict[str, Any]) -> None:
    made = after(backend("a"), backend("b", **change), needs={"model": "m"})
    assert (made.gave_up, made.wait_seconds) == (REFUSAL, 0.0)


def test_the_same_backend_gives_no_second_one_with_another_model() -> None:
    both = (Model(name="m"), Model(name="n"))
    assert after(backend("a", models=both)).gave_up == REFUSAL


def test_what_follows_a_failed_opinion_keeps_to_its_rules() -> None:
    second = Attempt(n=2, backend="b", model="m", outcome="server_error", billed_microdollars=0)
    there = view_of(backend("a"), backend("b"), backend("c"), cloud("d", 0))
    gone = (*gone_from("a", model=""), *gone_from("b"))
    made = decision(there, n=3, attempts=(refused("a"), second), excluded=gone)
    assert [one.backend for one in made.ranking] == ["c"]


# ------------------------------------------------------------------------------------------------------ too large


def sized(name: str, tokens: int | None) -> Backend:
    return backend(name, models=(Model(name="m", context_tokens=tokens),))


def too_large(**told: Any) -> Attempt:
    return refused("a", "unknown_model", Problem(reason="too_large", message="too long", status=400, **told))


def larger(attempt: Attempt, *there: Backend) -> list[str]:
    made = decision(view_of(*there), n=2, attempts=(attempt,), excluded=gone_from("a"), needs={"input_tokens": 3_000})
    assert verify.check(made) == ""
    return sorted(one.backend for one in made.ranking)


def test_case_14_the_tokens_that_were_counted_decide_where_it_fits() -> None:
    there = (sized("a", 8_192), sized("same", 8_192), sized("large", 16_384), sized("unknown", None))
    assert larger(too_large(input_tokens=9_000, limit_tokens=8_192), *there) == ["large", "unknown"]
    assert larger(too_large(input_tokens=17_000, limit_tokens=8_192), *there) == ["unknown"]


@pytest.mark.parametrize("told", [{"limit_tokens": 8_192}, {}])
def test_where_nobody_counted_a_larger_context_is_wanted(told: dict[str, int]) -> None:
    there = (
        sized("a", 8_192),
        sized("same", 8_192),
        sized("less", 6_000),
        sized("large", 8_193),
        sized("unknown", None),
    )
    assert larger(too_large(**told), *there) == ["large", "unknown"]


@given(st.integers(3_000, 100_000))
def test_what_was_counted_is_what_may_cost(counted: int) -> None:
    priced = backend("b", local=False, models=(Model(name="m", price=Price(input_per_mtok=1_000_000)),))
    made = decision(
        view_of(sized("a", 2_048), priced), n=2, attempts=(too_large(input_tokens=counted),), excluded=gone_from("a"),
        needs={"input_tokens": 3_000},
    )  # fmt: skip
    assert made.ranking[0].worst_case_microdollars >= counted
