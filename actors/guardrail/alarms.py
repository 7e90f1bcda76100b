"""Alerts about budgets and breakers, in words and figures. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator

import msgspec

from actors.alert_settings import BILLING
from actors.amounts import amount
from actors.guardrail.breaker_window import MINUTE_SECONDS
from actors.guardrail.burn import Outlook, Rule, is_sure, window_seconds
from messages import Alert, Breaker, BudgetState, Burn, Held, token, untoken
from messages.alerts import NOBODY
from messages.fleet import ALL_MODELS, parted

LONGEST_CAUSE = 160
"""Characters of a cause; a longer one is cut and marked by a hash."""
LONGEST_TOKEN = 480
"""Characters of its subject token, where a character that is no letter or digit takes three to twelve."""
SHARED = ("global", "provider", "backend", "model")
"""Budgets over all tenants: they concern whoever runs turnout."""
SLOTS = 30
"""A window has so many slots; a burn that goes on is told once in each."""
HOUR_SECONDS = 3600.0
NEWS_SECONDS = HOUR_SECONDS
"""A breaker that opened longer ago is no news: facts are read again at every start."""


def cause_of(*parts: str) -> str:
    """A cause made of these parts, short enough for a subject, and another one for other parts."""
    whole = "/".join(parts)
    if len(whole) <= LONGEST_CAUSE and len(token(whole)) <= LONGEST_TOKEN:
        return whole
    mark = "#" + hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()
    begin, room = "", LONGEST_TOKEN - len(token(mark))
    for character in whole[: LONGEST_CAUSE - len(mark)]:
        room -= len(token(character))
        if room < 0:
            break
        begin += character
    return begin + mark


def tenant_of(state: BudgetState) -> str:
    """Whose budget it is, as its counter tells; `-` for what all tenants share."""
    _, scope, holder = state.counter.split(".")[:3]
    whole = untoken(holder)
    for one, part in parted(scope, whole):
        if one not in SHARED:
            return part if one == "tenant" else untoken(part.partition("/")[0])
    return NOBODY


def about(state: BudgetState) -> str:
    """The budget in words."""
    whose = "" if state.holder == "all" else f" of {untoken(state.holder)}"
    return f"Budget {state.budget}{whose}"


def of_budget(
    state: BudgetState, outlook: Outlook, left: int | None, threshold: int | None, now: float
) -> Iterator[Alert]:
    """Everything that is to be said of a budget now. What goes on is said again with the same cause, which tells it once.

    `left` is how many more jobs fit. `threshold` is for the budgets that only count for a provider's threshold.
    """
    if state.window == "minute" or 0 < state.ends_at <= now or state.limit <= 0:
        return
    if threshold is not None or state.budget.startswith(BILLING):
        if threshold is not None and state.spent >= threshold:
            yield _billing(state, threshold, now)
        return
    base = Alert(
        tenant=tenant_of(state), kind="budget_soft", cause="", severity="warning", text="", budget=state.budget,
        holder=state.holder, unit=state.unit, window=state.window, spent=state.spent, reserved=state.reserved,
        limit=state.limit, projected=round(outlook.projected) if outlook.projected is not None else None,
        hours_left=outlook.hours_left(now), jobs_left=left, at=now,
    )  # fmt: skip
    used = state.spent + state.reserved
    if used >= state.limit or left == 0:
        yield _told(base, state, "hard", kind="budget_hard", severity="alert", text=_hard(state), advice=_raise(state))
    elif state.soft:
        yield _told(base, state, "soft", text=_soft(state, left), advice=_raise(state))
    for rule, burns in outlook.burning:
        yield _burning(base, state, rule, burns, now)
    if outlook.projected is not None and outlook.projected > state.limit > used and is_sure(state, now):
        text = (
            f"{about(state)}: at the present rate {amount(outlook.projected, state.unit)} are spent by {_when(state.ends_at)}, "
            f"and the limit is {amount(state.limit, state.unit)}; it is reached in {_hours(outlook.hours_left(now))}."
        )
        yield _told(base, state, "projection", kind="projection", text=text, advice=_raise(state))


def _told(base: Alert, state: BudgetState, *cause: str, **fields: object) -> Alert:
    """The alert with a cause that names the budget's window and limit: another limit is another story."""
    window = state.counter.rpartition(".")[2]
    named = cause_of(state.budget, state.holder, untoken(window), str(state.limit), *cause)
    return msgspec.structs.replace(base, cause=named, **fields)


def _hard(state: BudgetState) -> str:
    rest = f", until {_when(state.ends_at)}" if state.ends_at else ""
    full = "is used up" if state.spent + state.reserved >= state.limit else "has no room for another average job"
    return (
        f"{about(state)} {full}: {amount(state.spent, state.unit)} spent and {amount(state.reserved, state.unit)} held of "
        f"{amount(state.limit, state.unit)}{rest}."
    )


def _soft(state: BudgetState, left: int | None) -> str:
    used = state.spent + state.reserved
    more = f"; about {left:,} more prompts fit" if left is not None else ""
    return (
        f"{about(state)}: {used / state.limit:.0%} are used, {amount(state.spent, state.unit)} spent and "
        f"{amount(state.reserved, state.unit)} held of {amount(state.limit, state.unit)}{more}."
    )


def _burning(base: Alert, state: BudgetState, rule: Rule, burns: tuple[Burn, Burn], now: float) -> Alert:
    long, short = burns
    slot = int((now - state.began_at) / (window_seconds(state) / SLOTS))
    text = (
        f"{about(state)} is used {long.rate:.1f} times too fast: over {_span(long.seconds)}, and {short.rate:.1f} times over "
        f"the last {_span(short.seconds)}; {amount(state.spent, state.unit)} of {amount(state.limit, state.unit)} are spent."
    )
    return _told(
        base, state, rule.name, str(slot), kind="burn_rate", severity=rule.severity, text=text, burns=burns,
        advice="`turnout jobs` shows who sends so much",
    )  # fmt: skip


def _billing(state: BudgetState, threshold: int, now: float) -> Alert:
    provider = state.budget.removeprefix(BILLING)
    cost, most = amount(state.spent, state.unit), amount(threshold, state.unit)
    text = f"{provider} has cost {cost} this {state.window}; the threshold is {most}."
    told = Alert(
        kind="billing", cause="", severity="alert", text=text, budget=state.budget, holder=state.holder, unit=state.unit,
        window=state.window, spent=state.spent, reserved=state.reserved, limit=threshold, at=now,
        advice=f"`turnout budget set {provider} --scope provider --only {provider} --window month --limit …` stops there",
    )  # fmt: skip
    return msgspec.structs.replace(
        told, cause=cause_of(state.budget, untoken(state.counter.rpartition(".")[2]), str(threshold))
    )


def of_breaker(breaker: Breaker, now: float) -> Alert | None:
    """That a backend is left alone; None when it is not, when that is no news, or when a person has done it."""
    news = breaker.opened_at > now - NEWS_SECONDS
    if not breaker.times_opened or breaker.open_until <= now or not news or breaker.cause in ("manual", "rate_limited"):
        return None
    what = breaker.backend if breaker.model == ALL_MODELS else f"{breaker.model} on {breaker.backend}"
    return Alert(
        kind="breaker_open", severity="alert", backend=breaker.backend,
        # Openings since it closed last are one story.
        cause=cause_of(breaker.backend, breaker.model, f"{breaker.quiet_since:.0f}", breaker.cause),
        model="" if breaker.model == ALL_MODELS else breaker.model,
        text=f"{what} is left alone: {breaker.reason}.", at=now,
        advice="`turnout breaker list` shows until when; `turnout breaker close` ends it by hand",
    )  # fmt: skip


def of_held(held: Held) -> Alert:
    """That jobs wait for a person. Those of one tenant that one hour holds for the same budgets are one story."""
    budgets = ", ".join(held.budgets) or "a budget"
    whose = f" --tenant {held.tenant}" if held.tenant != "default" else ""
    return Alert(
        tenant=held.tenant, kind="job_held", severity="alert", job=held.job, budget=held.budgets[0] if held.budgets else "",
        cause=cause_of(*held.budgets, f"{held.at // HOUR_SECONDS:.0f}"), at=held.at,
        text=f"Job {held.job} is held for a person, over budget ({budgets}): {held.problem.message}",
        advice=f"`turnout jobs --state held` lists all of them; `turnout budget resume {held.job}{whose}` lets it try again",
    )  # fmt: skip


def _raise(state: BudgetState) -> str:
    return f"`turnout budget raise {state.budget} --limit …`, or wait for the next {state.window}" if state.ends_at else (
        f"`turnout budget raise {state.budget} --limit …`"
    )  # fmt: skip


def _when(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _hours(hours: float | None) -> str:
    if hours is None:
        return "no time that is known"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"


def _span(seconds: float) -> str:
    if seconds < 2 * MINUTE_SECONDS:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
