from __future__ import annotations

from typing import Any

import pytest

from actors.router.candidates import TEMPORARY, candidates, excluded_by, features, open_breaker
from actors.router.view import View
from messages import Attempt, Backend, Breaker, Candidate, Exclusion, Load, Model, Price, Stats
from messages.fleet import workflow_key
from tests.messages.samples import T0, backend, slip

DEAR = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)


def view_of(*backends: Backend) -> View:
    view = View()
    view.backends = {one.backend: one for one in backends}
    return view


def only(view: View, *, attempts: Any = (), excluded: Any = (), now: float = T0, **changes: Any) -> Candidate:
    (found,) = candidates(slip(**changes), attempts, excluded, view, now)
    return found


def test_a_backend_that_fits_is_permitted() -> None:
    found = only(view_of(backend()))
    assert (found.permitted, found.reason, found.local) == (True, "", True)
    assert (found.worst_case_tokens, found.max_output_tokens) == (110, 100)


@pytest.mark.parametrize(
    ("fleet", "needs", "reason"),
    [
        ({}, {"model": "other"}, "serves m, not other"),
        ({}, {"capabilities": ("code", "vision")}, "lacks code, vision"),
        ({"models": (Model(name="m", context_tokens=109),)}, {}, "needs 110 tokens of context, has 109"),
        ({"local": False}, {"allow_cloud": False}, "is a cloud backend"),
        ({"models": (Model(name="m", price=DEAR),)}, {"max_cost_microdollars": 109}, "could cost $0.000110"),
        ({"slots": 0}, {}, "has no live executor"),
        ({"healthy": False, "health_reason": "on fire"}, {}, "is unhealthy: on fire"),
    ],
)
def test_why_a_backend_may_not_run_a_job(fleet: dict[str, Any], needs: dict[str, Any], reason: str) -> None:
    found = only(view_of(backend(**fleet)), needs=needs)
    assert not found.permitted
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("fleet", "needs"),
    [
        ({}, {"model": "m"}),
        ({"models": (Model(name="m", capabilities=("text", "code")),)}, {"capabilities": ("code",)}),
        ({"models": (Model(name="m", context_tokens=110),)}, {}),
        ({"models": (Model(name="m", context_tokens=60, max_output_tokens=50),)}, {}),
        ({"models": (Model(name="m", price=DEAR),)}, {"max_cost_microdollars": 110}),
        ({}, {"max_cost_microdollars": 0}),
        ({"local": False}, {}),
    ],
)
def test_limits_that_are_just_kept_permit(fleet: dict[str, Any], needs: dict[str, Any]) -> None:
    assert only(view_of(backend(**fleet)), needs=needs).permitted


def test_an_unknown_price_is_no_price_for_a_job_that_limits_its_cost() -> None:
    view = view_of(backend(models=(Model(name="m", price=Price(unknown=True)),)))
    assert only(view).permitted
    assert only(view, needs={"max_cost_microdollars": 10**9}).reason.startswith("has no known price")


def test_measurements_of_a_workflow_are_those_of_the_tenant() -> None:
    view = view_of(backend())
    for tenant, seconds in (("acme", 3.0), ("other", 9.0)):
        key = workflow_key(tenant, "site")
        view.stats["a", "m", key] = Stats(
            backend="a", model="m", workflow=key, attempts=9, successes=9, latency_seconds=seconds, at=T0
        )
    assert figures(view, workflow="site")["service_seconds"] == 3.0


def test_what_was_spent_before_counts_against_the_limit() -> None:
    view = view_of(backend(models=(Model(name="m", price=DEAR),)))
    before = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=100),)
    assert only(view, needs={"max_cost_microdollars": 210}, attempts=before).permitted
    found = only(view, needs={"max_cost_microdollars": 209}, attempts=before)
    assert "the job has $0.000109 left" in found.reason


def test_an_open_breaker_excludes_until_its_time() -> None:
    view = view_of(backend())
    view.breakers["a", "m"] = Breaker(backend="a", model="m", open_until=T0 + 30, times_opened=1, reason="3 failures")
    assert only(view).reason == "has an open breaker for 30 s: 3 failures"
    assert only(view, now=T0 + 30).permitted
    assert not open_breaker(None, T0)


def test_the_breaker_of_another_model_is_no_concern() -> None:
    view = view_of(backend())
    view.breakers["a", "other"] = Breaker(backend="a", model="other", open_until=T0 + 30)
    assert only(view).permitted


@pytest.mark.parametrize(
    ("until", "reason"), [(0.0, "excluded from this job: timeout"), (T0 + 9, "excluded for 9 s: timeout")]
)
def test_exclusions(until: float, reason: str) -> None:
    exclusion = Exclusion(backend="a", until=until, reason="timeout")
    assert only(view_of(backend()), excluded=(exclusion,)).reason == reason
    assert excluded_by((exclusion,), "b", T0) is None


def test_a_past_exclusion_is_over_and_the_longest_one_counts() -> None:
    short, long, over, whole = (
        Exclusion(backend="a", until=until, reason=reason)
        for until, reason in ((T0 + 5, "short"), (T0 + 50, "long"), (T0 - 1, "over"), (0.0, "whole"))
    )
    assert excluded_by((over,), "a", T0) is None
    assert excluded_by((short, long, over), "a", T0) is long
    assert excluded_by((long, whole, short), "a", T0) is whole


def test_temporary_reasons_are_recognised() -> None:
    broken = view_of(backend())
    broken.breakers["a", "m"] = Breaker(backend="a", model="m", open_until=T0 + 30)
    away = Exclusion(backend="a", until=T0 + 9, reason="refused")
    reasons = [
        only(view_of(backend(slots=0))).reason,
        only(view_of(backend(healthy=False))).reason,
        only(broken).reason,
        only(view_of(backend()), excluded=(away,)).reason,
    ]
    assert all(reason.startswith(TEMPORARY) for reason in reasons)
    assert not only(view_of(backend()), needs={"model": "x"}).reason.startswith(TEMPORARY)


def figures(view: View, now: float = T0, **wishes: Any) -> dict[str, float]:
    return features(slip(needs=wishes), view.backends["a"], view.backends["a"].models[0], view, now)


def test_speed_is_the_stated_one_until_enough_is_measured() -> None:
    view = view_of(backend(models=(Model(name="m", tokens_per_second=10.0, first_token_seconds=1.0),)))
    assert figures(view)["service_seconds"] == 6.0
    two, three = (
        Stats(backend="a", model="m", workflow="-", attempts=9, successes=n, latency_seconds=2.5, at=T0) for n in (2, 3)
    )
    view.stats["a", "m", "-"] = two
    assert figures(view)["service_seconds"] == 6.0
    view.stats["a", "m", "-"] = three
    assert (figures(view)["service_seconds"], figures(view)["measured_runs"]) == (2.5, 3.0)


def test_the_queue_is_what_finds_no_free_slot() -> None:
    view = view_of(backend(slots=4))
    view.loads["a"] = Load(backend="a", waiting=0, running=3, at=T0)
    assert (figures(view)["ahead"], figures(view)["queue"], figures(view)["wait_seconds"]) == (3.0, 0.0, 0.0)
    view.sent("a", T0 + 0.1)
    view.sent("a", T0 + 0.1)
    later = figures(view, T0 + 0.2)
    assert (later["ahead"], later["own_decisions"], later["queue"]) == (5.0, 2.0, 2.0)
    assert later["wait_seconds"] == pytest.approx(2 * later["service_seconds"] / 4)


def test_the_output_cap_is_at_most_the_models_own() -> None:
    found = only(view_of(backend(models=(Model(name="m", max_output_tokens=40, price=DEAR),))))
    assert (found.max_output_tokens, found.worst_case_tokens, found.worst_case_microdollars) == (40, 50, 50)
    assert found.changes == ("output capped at 40 instead of 100 tokens",)


def test_candidates_come_in_order_of_names() -> None:
    view = view_of(backend("b"), backend("a", models=(Model(name="z"), Model(name="m"))), backend("c", models=()))
    found = candidates(slip(), (), (), view, T0)
    assert [(one.backend, one.model) for one in found] == [("a", "m"), ("a", "z"), ("b", "m")]
