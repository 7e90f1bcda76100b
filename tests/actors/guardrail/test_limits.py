from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.limits import billed, reservations, unpriced, window_name
from actors.settings import Budget
from messages import Price, Reservation, Usage
from tests.messages.samples import T0, attempted, candidate, slip

AT = dt.datetime(2026, 11, 21, 7, 5, tzinfo=dt.UTC).timestamp()
COSTS: dict[str, Any] = {"worst_case_microdollars": 60, "worst_case_tokens": 110}


def subjects(*budgets: Budget, name: str = "a", **job: Any) -> list[str]:
    found = reservations(budgets, slip(**job), candidate(name, **COSTS), T0)
    return [reservation.subject for _, reservation in found]


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
    ],
)
def test_each_scope_has_its_counter(scope: Any, subject: str) -> None:
    budget = Budget(scope=scope, unit="tokens", window="total", limit=5)
    assert subjects(budget, needs={"user": "ada", "workflow": "site"}) == [subject]


@pytest.mark.parametrize("scope", ["user", "workflow"])
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
    ((budget, reservation),) = reservations((Budget(unit=unit, limit=9),), slip(), candidate(**COSTS), T0)
    assert (reservation.amount, reservation.unit, reservation.budget) == (amount, unit, budget.name)


def test_what_costs_nothing_of_the_unit_reserves_nothing() -> None:
    """So a limit of 0, or one that is spent, never blocks a free backend."""
    free = candidate(worst_case_microdollars=0, worst_case_tokens=110)
    assert reservations((Budget(unit="microdollars", limit=0),), slip(), free, T0) == []
    assert len(reservations((Budget(unit="tokens", limit=0),), slip(), free, T0)) == 1


def test_everybody_takes_the_counters_in_one_order() -> None:
    budgets = tuple(Budget(scope=scope, limit=5) for scope in ("tenant", "global", "backend"))
    assert subjects(*budgets) == subjects(*reversed(budgets)) == sorted(subjects(*budgets))


@pytest.mark.parametrize(
    ("budgets", "blind"),
    [
        ((), None),
        ((Budget(unit="tokens", limit=5),), None),
        ((Budget(scope="tenant", only="other", limit=5),), None),
        ((Budget(scope="user", limit=5),), None),
        ((Budget(unit="tokens", limit=5), Budget(scope="tenant", limit=5)), "tenant: 5 microdollars per day"),
    ],
)
def test_what_has_no_known_price_can_be_held_by_no_budget_in_dollars(
    budgets: tuple[Budget, ...], blind: str | None
) -> None:
    found = unpriced(budgets, slip(), candidate(price=Price(unknown=True)))
    assert (found.name if found else None) == blind
    assert unpriced(budgets, slip(), candidate()) is None


def held(unit: str, amount: int = 100) -> Reservation:
    return Reservation(budget="b", subject="ledger.global.all.x.total", amount=amount, unit=unit)


@pytest.mark.parametrize(
    ("unit", "changes", "used"),
    [
        ("microdollars", {"billed_microdollars": 42}, 42),
        ("microdollars", {"outcome": "not_started", "billed_microdollars": 42}, 0),
        ("microdollars", {"outcome": "executor_lost", "billed_microdollars": 60}, 60),
        ("requests", {"outcome": "timeout"}, 100),
        ("requests", {"outcome": "not_started"}, 0),
        ("tokens", {"usage": Usage(input_tokens=10, output_tokens=5)}, 15),
        ("tokens", {"usage": Usage(input_tokens=10)}, 10),
        ("tokens", {}, 100),
        ("tokens", {"outcome": "executor_lost"}, 100),
        ("tokens", {"outcome": "connection_error"}, 0),
        ("tokens", {"outcome": "not_started", "usage": Usage(input_tokens=10)}, 0),
    ],
)
def test_what_is_billed_of_a_reservation(unit: str, changes: dict[str, Any], used: int) -> None:
    assert billed(held(unit), attempted(**changes)) == used
