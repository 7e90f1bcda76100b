"""Budgets as configuration, and which counters an attempt touches. Pure."""

from __future__ import annotations

import datetime as dt

from actors.settings import Budget, Window
from messages import Attempted, Candidate, Reservation, Slip, token

FORMATS: dict[Window, str] = {
    "minute": "%Y%m%dT%H%M", "hour": "%Y%m%dT%H", "day": "%Y%m%d", "month": "%Y%m", "total": "total",
}  # fmt: skip


def window_name(window: Window, at: float) -> str:
    """The window a time lies in, in UTC: `day-20261121`."""
    text = dt.datetime.fromtimestamp(at, dt.UTC).strftime(FORMATS[window])
    return text if window == "total" else f"{window}-{text}"


def _holder(budget: Budget, slip: Slip, candidate: Candidate) -> tuple[str, str]:
    """Its name as `only` has it, and its place among all counters of the scope; users belong to a tenant."""
    name = {
        "global": "all",
        "tenant": slip.tenant,
        "backend": candidate.backend,
        "user": slip.needs.user,
        "workflow": slip.needs.workflow,
    }[budget.scope]
    inner = name and budget.scope in ("user", "workflow")
    return name, f"{token(slip.tenant)}/{token(name)}" if inner else name


def _amount(budget: Budget, candidate: Candidate) -> int:
    if budget.unit == "microdollars":
        return candidate.worst_case_microdollars
    return candidate.worst_case_tokens if budget.unit == "tokens" else 1


def unpriced(budgets: tuple[Budget, ...], slip: Slip, candidate: Candidate) -> Budget | None:
    """The first budget in dollars that can't hold because nobody knows what the candidate costs."""
    if not candidate.price.unknown:
        return None
    for budget in budgets:
        name, _ = _holder(budget, slip, candidate)
        if budget.unit == "microdollars" and name and budget.only in ("", name):
            return budget
    return None


def reservations(
    budgets: tuple[Budget, ...], slip: Slip, candidate: Candidate, at: float
) -> list[tuple[Budget, Reservation]]:
    """What must be held for one attempt, in the order of the counters' names (every guardrail takes them in this order)."""
    found: list[tuple[Budget, Reservation]] = []
    for budget in budgets:
        name, holder = _holder(budget, slip, candidate)
        if not name or (budget.only and name != budget.only):
            continue
        amount = _amount(budget, candidate)
        if amount == 0:
            continue
        subject = f"ledger.{budget.scope}.{token(holder)}.{budget.unit}.{window_name(budget.window, at)}"
        reservation = Reservation(budget=budget.name, subject=subject, amount=amount, unit=budget.unit)
        found.append((budget, reservation))
    return sorted(found, key=lambda pair: pair[1].subject)


def billed(reservation: Reservation, attempted: Attempted) -> int:
    """What the attempt really used of a reservation's unit; unknown use counts as all that was reserved."""
    if attempted.outcome == "not_started":
        return 0
    if reservation.unit == "microdollars":
        return attempted.billed_microdollars
    if reservation.unit == "requests":
        return reservation.amount
    usage = attempted.usage
    if usage.input_tokens is None and usage.output_tokens is None:
        return reservation.amount if attempted.outcome in ("ok", "executor_lost") else 0
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)
