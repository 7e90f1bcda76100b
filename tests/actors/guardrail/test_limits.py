from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.limits import (
    GRACE_SECONDS,
    billed,
    gpu_milliseconds,
    holds,
    longest_seconds,
    name_of,
    unpriced,
    window_name,
)
from actors.settings import Budget
from messages import Price, Reservation, Usage, untoken
from messages.fleet import NARROW_FIRST, Scope
from tests.messages.samples import T0, attempted, candidate, slip

AT = dt.datetime(2026, 11, 21, 7, 5, tzinfo=dt.UTC).timestamp()
COSTS: dict[str, Any] = {"worst_case_microdollars": 60, "worst_case_tokens": 110}


def subjects(*budgets: Budget, name: str = "a", **job: Any) -> list[str]:
    return [hold.reservation.subject for hold in holds(budgets, slip(**job), candidate(name, **COSTS), T0)]


@pytest.mark.parametrize(
    ("window", "name"),
    [("minute", "minute-20261121T0705"), ("hour", "hour-20261121T07"), ("day", "day-20261121"),
     ("month", "month-202611"), ("total", "total")],
)  # fmt: skip
def test_windows_have_names(window: Any, name: str) -> None:
    assert window_name(window, AT) == name


@pytest.mark.parametrize(
    ("scope", "subject"),
    [
        ("global", "ledger.global.all.tokens.total"),
        ("tenant", "ledger.tenant.acme.tokens.total"),
        ("backend", "ledger.backend.a.tokens.total"),
        ("user", "ledger.user.acme%2Fada.tokens.total"),
        ("workflow", "ledger.workflow.acme%2Fsite.tokens.total"),
        ("step", "ledger.step.acme%2Fsite%2Fhero.tokens.total"),
        ("job", "ledger.job.acme%2Fj-1.tokens.total"),
        ("provider", "ledger.provider.openai.tokens.total"),
        ("model", "ledger.model.m.tokens.total"),
    ],
)
def test_each_scope_has_its_counter(scope: Any, subject: str) -> None:
    budget = Budget(scope=scope, unit="tokens", window="total", limit=5)
    needs = {"user": "ada", "workflow": "site", "step": "hero"}
    made = candidate(**COSTS, known={"provider": "openai"})
    assert [hold.reservation.subject for hold in holds((budget,), slip(needs=needs), made, T0)] == [subject]


SCOPES: tuple[Scope, ...] = tuple(scope for scope in NARROW_FIRST if scope != "global")
WISHES = {"user": "ada", "workflow": "si&te", "step": "he/ro"}


def counter_of(scope: Any, only: Any = "", *, model: str = "m", **needs: str) -> str:
    """The counter of a budget for one call; empty: it does not hold."""
    budget = Budget(scope=scope, only=only, unit="tokens", window="total", limit=5)
    made = candidate("a", **COSTS, model=model, known={"provider": "openai"})
    found = [hold.reservation.subject for hold in holds((budget,), slip(needs={**WISHES, **needs}), made, T0)]
    return found[0] if found else ""


def test_each_model_within_each_step_has_its_counter() -> None:
    """Seed 003: limits per step and model."""
    assert counter_of(("step", "model"), workflow="site", step="hero") == (
        "ledger.step+model.acme%2Fsite%2Fhero%26m.tokens.total"
    )


@given(st.lists(st.sampled_from(SCOPES), min_size=1, max_size=4, unique=True), st.randoms())
def test_scopes_together_hold_where_each_does_in_whatever_order_they_are_written(
    scopes: list[Scope], chance: Any
) -> None:
    shuffled = list(scopes)
    chance.shuffle(shuffled)
    found = counter_of(tuple(scopes))
    assert found == counter_of(tuple(shuffled)) != ""
    parts = untoken(found.split(".")[2]).split("&")
    alone = [untoken(counter_of(scope).split(".")[2]) for scope in sorted(scopes, key=NARROW_FIRST.index)]
    assert [part.replace("%26", "&").replace("%25", "%") for part in parts] == alone
    if {"user", "workflow", "step"} & set(scopes):
        assert counter_of(tuple(scopes), user="", workflow="", step="") == ""


@given(
    st.text("a&%/", min_size=1, max_size=4),
    st.text("a&%/", min_size=1, max_size=4),
    st.text("a&%/", min_size=1, max_size=4),
)
def test_no_two_combinations_share_a_counter(workflow: str, other: str, model: str) -> None:
    one = counter_of(("workflow", "model"), workflow=workflow, model=model)
    two = counter_of(("workflow", "model"), workflow=other, model=model)
    assert (one == two) is (workflow == other)
    assert counter_of(("workflow", "model"), workflow=model, model=other) != one or (workflow, model) == (model, other)


@pytest.mark.parametrize(
    ("only", "counts"),
    [({}, True), ({"model": "m"}, True), ({"step": "si&te/he/ro"}, True), ({"step": "si&te/he/ro", "model": "m"}, True),
     ({"model": "other"}, False), ({"step": "si&te/other", "model": "m"}, False)],
)  # fmt: skip
def test_of_scopes_together_each_may_be_one_alone(only: dict[str, str], counts: bool) -> None:
    assert bool(counter_of(("step", "model"), only)) is counts


@pytest.mark.parametrize("scope", ["user", "workflow", "step", "provider"])
def test_a_job_without_the_scope_is_not_limited_by_it(scope: Any) -> None:
    assert subjects(Budget(scope=scope, limit=0)) == []


@pytest.mark.parametrize(
    ("scope", "only", "name", "job", "counts"),
    [
        ("tenant", "acme", "a", {}, True),
        ("tenant", "other", "a", {}, False),
        ("tenant", "x/acme", "a", {"tenant": "x/acme"}, True),
        ("tenant", "acme", "a", {"tenant": "x/acme"}, False),
        ("backend", "org/a", "org/a", {}, True),
        ("backend", "a", "org/a", {}, False),
        ("user", "ada", "a", {"needs": {"user": "ada"}}, True),
        ("user", "ada", "a", {"needs": {"user": "bob"}}, False),
        ("workflow", "w/1", "a", {"needs": {"workflow": "w/1"}}, True),
        ("step", "w/s", "a", {"needs": {"workflow": "w", "step": "s"}}, True),
        ("step", "w/s", "a", {"needs": {"workflow": "w", "step": "t"}}, False),
        ("step", "w/s", "a", {"needs": {"workflow": "w"}}, False),
        ("model", "m", "a", {}, True),
        ("model", "n", "a", {}, False),
        ("job", "j-1", "a", {}, True),
    ],
)
def test_only_holds_for_that_one_alone(scope: Any, only: str, name: str, job: dict[str, Any], counts: bool) -> None:
    assert bool(subjects(Budget(scope=scope, only=only, limit=5), name=name, **job)) == counts


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@given(NAMES, NAMES, NAMES, NAMES)
def test_users_of_different_tenants_never_share_a_counter(tenant: str, user: str, tenant2: str, user2: str) -> None:
    budget = Budget(scope="user", limit=5)
    one = subjects(budget, tenant=tenant, needs={"user": user})
    other = subjects(budget, tenant=tenant2, needs={"user": user2})
    assert (one == other) == ((tenant, user) == (tenant2, user2))


@pytest.mark.parametrize(("unit", "amount"), [("microdollars", 60), ("tokens", 110), ("requests", 1)])
def test_the_worst_case_is_reserved(unit: Any, amount: int) -> None:
    ((budget, reservation, _),) = holds((Budget(unit=unit, limit=9),), slip(), candidate(**COSTS), T0)
    assert (reservation.amount, reservation.unit, reservation.budget) == (amount, unit, budget.name)


def test_what_costs_nothing_of_the_unit_reserves_nothing() -> None:
    """So a limit of 0, or one that is spent, never blocks a free backend."""
    free = candidate(worst_case_microdollars=0, worst_case_tokens=110)
    assert holds((Budget(unit="microdollars", limit=0),), slip(), free, T0) == []
    assert len(holds((Budget(unit="tokens", limit=0),), slip(), free, T0)) == 1


def test_everybody_takes_the_counters_in_one_order_the_narrow_ones_first() -> None:
    budgets = tuple(Budget(scope=scope, limit=5) for scope in ("tenant", "global", "backend", "user"))
    found = subjects(*budgets, needs={"user": "ada"})
    assert found == subjects(*reversed(budgets), needs={"user": "ada"})
    assert [subject.split(".")[1] for subject in found] == ["user", "tenant", "backend", "global"]


def test_a_model_is_limited_under_any_of_its_names_on_one_counter() -> None:
    budget = Budget(scope="model", only="vendor/m", unit="requests", window="total", limit=5)
    here, there = (candidate(name, model=name, known={"names": ("vendor/m",)}) for name in ("m1", "m2"))
    found = {hold.reservation.subject for made in (here, there) for hold in holds((budget,), slip(), made, T0)}
    assert found == {"ledger.model.vendor%2Fm.requests.total"}
    assert holds((budget,), slip(), candidate(model="m1"), T0) == []


def test_the_strictest_of_several_budgets_on_one_counter_stands_for_all() -> None:
    budgets = (Budget(scope="tenant", limit=9), Budget(scope="tenant", only="acme", limit=5), Budget(limit=7))
    for given_order in (budgets, budgets[::-1]):
        found = holds(given_order, slip(), candidate(**COSTS), T0)
        assert [hold.budget.limit for hold in found] == [5, 7]
    zones = (Budget(limit=9), Budget(name="b", limit=5, time_zone="Asia/Tokyo"))
    assert len(holds(zones, slip(), candidate(**COSTS), T0)) == 2, "other days, other counters"


def test_another_limit_makes_it_another_hold() -> None:
    """What was given back under the old limit must not be taken for a hold that stands."""

    def name(*budgets: Budget) -> str:
        return name_of(holds(budgets, slip(), candidate(**COSTS), T0))

    wide, narrow = Budget(limit=9), Budget(scope="tenant", limit=5)
    names = {
        name(wide), name(narrow), name(wide, narrow), name(Budget(limit=8), narrow), name(wide, Budget(scope="tenant", limit=4)),
    }  # fmt: skip
    assert len(names) == 5
    assert name(wide, narrow) == name(narrow, wide)
    assert name_of(holds((wide,), slip(), candidate(**COSTS), T0), 1) not in names


def test_an_attempt_ends_within_the_gpu_time_that_is_held_for_it() -> None:
    mine = candidate(known={"local": True})
    budgets = (
        Budget(name="all", unit="gpu_milliseconds", limit=10**9),
        Budget(name="user", scope="tenant", unit="gpu_milliseconds", limit=10**9),
        Budget(name="calls", unit="requests", limit=10**9),
    )

    def longest(longest_gpu_seconds: float) -> float:
        wanted = holds(budgets, slip(), mine, T0, longest_gpu_seconds=longest_gpu_seconds)
        return longest_seconds([hold.reservation for hold in wanted])

    assert longest(30.0) == 30.0
    assert longest(0.0) == longest(10_000.0) == 600.0, "until the deadline"
    late = [hold.reservation for hold in holds(budgets, slip(), mine, T0 + 700)]
    assert 0.0 < longest_seconds(late) < 0.01, "0 would mean that nothing bounds it"
    elsewhere = holds(budgets, slip(), candidate(known={"local": False}), T0, longest_gpu_seconds=30.0)
    assert longest_seconds([hold.reservation for hold in elsewhere]) == 0.0


def test_gpu_time_is_held_until_the_deadline_on_hardware_of_ours() -> None:
    budget = Budget(unit="gpu_milliseconds", limit=5)
    mine, cloud = candidate(), candidate(known={"local": False})
    whole = int((600 + GRACE_SECONDS) * 1000)
    assert [hold.reservation.amount for hold in holds((budget,), slip(), mine, T0)] == [whole]
    assert holds((budget,), slip(), cloud, T0) == []
    assert gpu_milliseconds(slip(), mine, T0, 30.0) == 30_000 + GRACE_SECONDS * 1000
    assert gpu_milliseconds(slip(), mine, T0 + 700) == GRACE_SECONDS * 1000


@pytest.mark.parametrize(
    ("budgets", "blind"),
    [
        ((), None),
        ((Budget(unit="tokens", limit=5),), None),
        ((Budget(scope="tenant", only="other", limit=5),), None),
        ((Budget(scope="user", limit=5),), None),
        ((Budget(unit="tokens", limit=5), Budget(scope="tenant", limit=5)), "tenant/microdollars/day"),
    ],
)
def test_what_has_no_known_price_can_be_held_by_no_budget_in_dollars(
    budgets: tuple[Budget, ...], blind: str | None
) -> None:
    found = unpriced(budgets, slip(), candidate(known={"price": Price(unknown=True)}))
    assert (found.name if found else None) == blind
    assert unpriced(budgets, slip(), candidate()) is None


def held(unit: str, amount: int = 100) -> Reservation:
    return Reservation(budget="b", subject="ledger.global.all.x.total", amount=amount, unit=unit)


@pytest.mark.parametrize(
    ("unit", "changes", "used"),
    [
        ("microdollars", {"billed_microdollars": 42}, 42),
        ("microdollars", {"billed_microdollars": 420}, 420),
        ("microdollars", {"outcome": "not_started", "billed_microdollars": 42}, 0),
        ("microdollars", {"outcome": "connection_error", "begun": False, "billed_microdollars": 42}, 0),
        ("microdollars", {"outcome": "executor_lost", "billed_microdollars": 60}, 60),
        ("requests", {"outcome": "timeout"}, 100),
        ("requests", {"outcome": "not_started"}, 0),
        ("requests", {"outcome": "connection_error", "begun": False}, 0),
        ("tokens", {"counted_tokens": 15}, 15),
        ("tokens", {"counted_tokens": 0}, 0),
        ("tokens", {"counted_tokens": 150}, 150),
        ("tokens", {}, 100),
        ("tokens", {"usage": Usage(input_tokens=10, output_tokens=5, estimated=True)}, 100),
        ("tokens", {"outcome": "executor_lost"}, 100),
        ("tokens", {"outcome": "connection_error"}, 100),
        ("tokens", {"outcome": "connection_error", "begun": False, "counted_tokens": 9}, 0),
        ("tokens", {"outcome": "not_started", "usage": Usage(input_tokens=10)}, 0),
        ("gpu_milliseconds", {"counted_gpu_milliseconds": 1235}, 1235),
        ("gpu_milliseconds", {"latency_seconds": 1.0, "outcome": "timeout"}, 100),
        ("gpu_milliseconds", {"outcome": "executor_lost"}, 100),
        ("gpu_milliseconds", {"outcome": "connection_error", "begun": False}, 0),
        ("gpu_milliseconds", {"outcome": "not_started", "latency_seconds": 1.0}, 0),
    ],
)
def test_what_is_billed_of_a_reservation(unit: str, changes: dict[str, Any], used: int) -> None:
    assert billed(held(unit), attempted(**changes)) == used
