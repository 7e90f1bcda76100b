from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.alert_settings import BILLING_LIMIT
from actors.guardrail.alarms import (
    LONGEST_CAUSE,
    LONGEST_TOKEN,
    NEWS_SECONDS,
    amount,
    cause_of,
    of_breaker,
    of_budget,
    tenant_of,
)
from actors.guardrail.burn import RULES, Outlook
from actors.guardrail.limits import holds
from actors.settings import Budget
from messages import Alert, Breaker, BudgetState, Burn, token
from messages.fleet import Scope, Unit
from tests.messages.samples import T0, candidate, slip

DAY = 86_400.0
BEGAN = 1_767_225_600.0
NOW = BEGAN + 6 * 3600
UNKNOWN = Outlook()


def state(**changes: Any) -> BudgetState:
    given: dict[str, Any] = {
        "budget": "daily", "holder": "acme", "counter": "ledger.tenant.acme.microdollars.day-20260101",
        "unit": "microdollars", "window": "day", "spent": 1_000_000, "reserved": 0, "limit": 5_000_000,
        "began_at": BEGAN, "ends_at": BEGAN + DAY, "at": NOW,
    }  # fmt: skip
    return BudgetState(**{**given, **changes})


def said(
    where: Outlook = UNKNOWN, left: int | None = None, threshold: int | None = None, **changes: Any
) -> list[Alert]:
    return list(of_budget(state(**changes), where, left, threshold, NOW))


def kinds(alerts: list[Alert]) -> list[str]:
    return [alert.kind for alert in alerts]


def test_a_budget_with_room_says_nothing() -> None:
    assert said() == []


def test_soft_then_hard() -> None:
    (soft,) = said(spent=4_000_000, soft=True, left=20)
    assert (soft.kind, soft.severity, soft.tenant, soft.jobs_left) == ("budget_soft", "warning", "acme", 20)
    assert (
        soft.text
        == "Budget daily of acme: 80% are used, $4.00 spent and $0.00 held of $5.00; about 20 more prompts fit."
    )
    (hard,) = said(spent=4_000_000, reserved=1_000_000, soft=True)
    assert (hard.kind, hard.severity) == ("budget_hard", "alert")
    assert (
        hard.text == "Budget daily of acme is used up: $4.00 spent and $1.00 held of $5.00, until 2026-01-02 00:00 UTC."
    )
    assert "turnout budget raise daily" in hard.advice


def test_a_budget_into_which_no_average_job_fits_is_used_up() -> None:
    (hard,) = said(spent=4_900_000, soft=True, left=0)
    assert hard.kind == "budget_hard"
    assert "has no room for another average job: $4.90 spent" in hard.text


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(1, 10**7), st.booleans())
def test_used_up_is_told_whenever_nothing_more_fits(spent: int, reserved: int, limit: int, soft: bool) -> None:
    told = kinds(said(spent=spent, reserved=reserved, limit=limit, soft=soft))
    assert ("budget_hard" in told) == (spent + reserved >= limit)
    assert ("budget_soft" in told) == (soft and spent + reserved < limit)


def test_a_limit_that_was_raised_is_another_story() -> None:
    causes = {said(spent=9_000_000, limit=limit)[0].cause for limit in (5_000_000, 6_000_000)}
    assert len(causes) == 2
    assert said(spent=9_000_000)[0].cause == said(spent=9_500_000, reserved=5)[0].cause


def test_limits_per_minute_and_budgets_for_free_jobs_are_told_to_nobody() -> None:
    assert said(spent=9_000_000, window="minute") == []
    assert said(spent=0, limit=0) == []
    assert said(spent=9_000_000, ends_at=NOW) == []


def test_a_burn_rate_is_told_with_both_stretches() -> None:
    burns = (Burn(seconds=300.0, rate=20.0), Burn(seconds=60.0, rate=18.0))
    (one,) = said(Outlook(1.0, 2_000_000.0, 0.0, ((RULES[0], burns),)))
    assert (one.kind, one.severity, one.burns) == ("burn_rate", "alert", burns)
    assert "used 20.0 times too fast: over 5 min, and 18.0 times over the last 60 s" in one.text


def test_a_projection_is_told_once_a_tenth_of_the_window_is_over() -> None:
    where = Outlook(200.0, 9_000_000.0, NOW + 7200)
    (one,) = said(where)
    assert (one.kind, one.projected, one.hours_left) == ("projection", 9_000_000, 2.0)
    assert "$9.00 are spent by 2026-01-02 00:00 UTC, and the limit is $5.00; it is reached in 2.0 hours." in one.text
    early = BEGAN + 3600
    assert list(of_budget(state(), where, None, None, early)) == []
    assert kinds(said(where, spent=5_000_000)) == ["budget_hard"]


def test_a_threshold_tells_and_its_counting_budget_says_nothing_else() -> None:
    counting: dict[str, Any] = {
        "budget": "billing-openai", "holder": "openai", "counter": "ledger.provider.openai.microdollars.month-202601",
        "window": "month", "limit": BILLING_LIMIT, "soft": True,
    }  # fmt: skip
    assert said(threshold=100_000_000, spent=99_999_999, **counting) == []
    (one,) = said(threshold=100_000_000, spent=100_000_000, **counting)
    assert (one.kind, one.severity, one.limit, one.tenant) == ("billing", "alert", 100_000_000, "-")
    assert one.text == "openai has cost $100.00 this month; the threshold is $100.00."
    assert said(spent=10**15, **counting) == []


# Whose it is.


@pytest.mark.parametrize("scope", get_args(Scope))
def test_whose_budget_it_is(scope: Scope) -> None:
    """A tenant hears of its own budgets and of nobody else's."""
    tenant = "a/b c"
    holder = {"tenant": tenant}.get(scope, f"{token(tenant)}/{token('x/y')}")
    made = state(holder=holder, counter=f"ledger.{scope}.{token(holder)}.microdollars.day-20260101")
    shared = scope in ("global", "provider", "backend", "model")
    assert tenant_of(made) == ("-" if shared else tenant)


def test_every_default_name_makes_a_cause() -> None:
    name = Budget(scope="user", unit="requests", limit=1).name
    (one,) = said(budget=name, spent=9_000_000)
    assert one.cause.startswith("user/requests/day/acme/day-20260101/5000000/")
    assert one.subject.startswith("ev.alert.acme.budget_hard.user%2Frequests")


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=4))
def test_causes_are_short_and_different_ones_stay_different(parts: list[str]) -> None:
    one, other = cause_of(*parts), cause_of(*parts, "x")
    assert len(one) <= LONGEST_CAUSE
    assert len(token(one)) <= LONGEST_TOKEN
    assert one != other
    assert one == cause_of(*parts)
    assert Alert(kind="test", cause=one, severity="alert", text="", at=0.0).subject.count(".") == 4


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4_500_000, "microdollars", "$4.50"), (1_234_567_890_000, "microdollars", "$1,234,567.89"),
        (12_000, "tokens", "12,000 tokens"), (3, "requests", "3 requests"), (36_000, "gpu_milliseconds", "36 GPU-seconds"),
    ],
)  # fmt: skip
def test_amounts(value: float, unit: Unit, text: str) -> None:
    assert amount(value, unit) == text


# Breakers.

OPEN = Breaker(
    backend="gpu-1", model="m", opened_at=NOW - 5, times_opened=1, open_until=NOW + 25, cause="failures",
    reason="3 failures in a row, last: timeout", quiet_since=BEGAN,
)  # fmt: skip


def test_a_breaker_that_opens_is_told() -> None:
    one = of_breaker(OPEN, NOW)
    assert one is not None
    assert (one.kind, one.severity, one.tenant) == ("breaker_open", "alert", "-")
    assert one.text == "m on gpu-1 is left alone: 3 failures in a row, last: timeout."
    account = of_breaker(msgspec.structs.replace(OPEN, model="*", cause="account"), NOW)
    assert account is not None
    assert account.text.startswith("gpu-1 is left alone")


def test_its_next_openings_are_the_same_story_until_it_has_closed() -> None:
    first = of_breaker(OPEN, NOW)
    again = of_breaker(msgspec.structs.replace(OPEN, times_opened=3, opened_at=NOW - 1), NOW)
    later = of_breaker(msgspec.structs.replace(OPEN, quiet_since=NOW - 60), NOW)
    assert first is not None
    assert again is not None
    assert later is not None
    assert first.cause == again.cause != later.cause


@pytest.mark.parametrize(
    "changes",
    [
        {"times_opened": 0}, {"open_until": NOW}, {"opened_at": NOW - NEWS_SECONDS}, {"cause": "manual"},
        {"cause": "rate_limited"},
    ],
)  # fmt: skip
def test_what_is_no_news_of_a_breaker(changes: dict[str, Any]) -> None:
    assert of_breaker(msgspec.structs.replace(OPEN, **changes), NOW) is None


@pytest.mark.parametrize("tenant", ["acme", "R&D", "a/b%", "x&y/z"])
@pytest.mark.parametrize("scope", ["tenant", "user", ("model", "tenant"), ("provider", "user"), ("step", "model")])
def test_whose_budget_it_is_can_be_told_from_its_counter(scope: Any, tenant: str) -> None:
    budget = Budget(scope=scope, unit="tokens", window="total", limit=5)
    wishes = {"user": "a&a", "workflow": "w/w", "step": "s"}
    made = candidate("a", worst_case_tokens=1, known={"provider": "openai"})
    (hold,) = holds((budget,), slip(tenant=tenant, needs=wishes), made, T0)
    state = BudgetState(
        budget="b", holder="-", counter=hold.reservation.subject, unit="tokens", window="total", spent=0, reserved=0,
        limit=5, at=T0,
    )  # fmt: skip
    assert tenant_of(state) == tenant
