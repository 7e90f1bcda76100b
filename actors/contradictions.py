"""What can't hold in the settings although every value has the right type. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from actors import price_check
from actors.alert_settings import of_targets, of_webhooks
from actors.windows import zone_of
from bus import topology
from messages import Limit, Model
from messages.fleet import only_of, scopes_of

if TYPE_CHECKING:
    from actors.settings import BackendSettings, BreakerRules, Budget, Settings

LONGEST_WINDOW_SECONDS = 3600.0
"""So long a breaker remembers calls at most: it keeps a number for each minute."""
LONGEST_NAME = 128
"""So many characters a budget's name has at most."""


def contradictions(settings: Settings) -> Iterator[str]:
    """Each contradiction as one sentence that names the key, the value and what would be right."""
    longest, kept = settings.jobs.longest_deadline_seconds, topology.IN.max_age_seconds / 2
    if not 0 < longest <= kept:
        yield f"jobs.longest_deadline_seconds is {longest:g}: use more than 0 and at most {kept:g}, half of what jobs are kept"
    if not 0 < settings.jobs.deadline_seconds <= longest:
        yield f"jobs.deadline_seconds is {settings.jobs.deadline_seconds:g}: use more than 0 and at most {longest:g}"
    yield from (f"budgeting.{problem}" for problem in _of_zone(settings.budgeting.time_zone))
    names = [budget.name for budget in settings.budgets]
    for number, budget in enumerate(settings.budgets):
        yield from (f"budgets[{number}].{problem}" for problem in of_budget(budget))
        if budget.name in names[:number]:
            yield f"budgets[{number}].name is {budget.name!r}: another budget has it; give every budget a name of its own"
    yield from (f"breaker.{problem}" for problem in _of_breaker(settings.breaker))
    yield from of_targets(settings.latency_targets)
    yield from of_webhooks(settings.webhooks)
    yield from _of_backends(settings.backends)
    yield from _of_groups(settings)


def of_budget(budget: Budget | Limit) -> Iterator[str]:
    """What can't be meant in one budget, each as `field is value: what would be right`."""
    if budget.limit < 0:
        yield f"limit is {budget.limit}: use 0 (only what is free) or more"
    yield from _of_scope(budget)
    if not 0 < len(budget.name) <= LONGEST_NAME or not budget.name.isprintable():
        yield f"name is {budget.name!r}: use 1 to {LONGEST_NAME} printable characters"
    if wild := sorted(set("*>") & set(budget.name)):
        yield f"name is {budget.name!r}: leave out {' and '.join(wild)}, a budget has one name and no pattern"
    if "job" in scopes_of(budget.scope) and budget.window != "total":
        yield f"window is {budget.window!r}: a job's budget is for the whole job; use total"
    if not 0 <= budget.soft_share <= 1:
        yield f"soft_share is {budget.soft_share:g}: use 0 to 1"
    yield from _of_zone(budget.time_zone)


def _of_scope(budget: Budget | Limit) -> Iterator[str]:
    """Whom it holds for: which scopes go together, and which one of each."""
    scopes, only = scopes_of(budget.scope), budget.only
    if not scopes or len(set(scopes)) < len(scopes):
        yield f"scope is {list(scopes)}: name one, or several different ones"
    if "global" in scopes and len(scopes) > 1:
        yield f"scope is {list(scopes)}: global is for all, and has no parts; leave it out"
    if isinstance(only, str) and only and len(scopes) > 1:
        yield f"only is {only!r}: of several scopes say which, as in {{ {scopes[0]} = {only!r} }}"
        return
    if isinstance(only, dict):
        for scope in only:
            if scope not in scopes:
                yield f"only names {scope!r}: the scopes are {', '.join(scopes)}"
    for scope in scopes:
        one = only_of(scope, only)
        if one and scope == "global":
            yield f"only is {one!r}: a global budget is for all; choose another scope or leave it out"
        if one and scope == "step" and not all(one.partition("/")):
            yield f"only is {one!r}: name a step as <workflow>/<step>"
        if set("*>") & set(one):
            yield f"only is {one!r}: name one {scope}, it is no pattern; left out, each {scope} has the limit for itself"


def _of_zone(name: str) -> Iterator[str]:
    if name:
        try:
            zone_of(name)
        except ValueError as error:
            yield f"time_zone is {error}"


def _of_breaker(rules: BreakerRules) -> Iterator[str]:
    """Numbers of the breakers that can't be meant; none may keep a backend away for ever."""
    for name in ("failures_in_row", "window_calls"):
        if not getattr(rules, name) >= 1:
            yield f"{name} is {getattr(rules, name)}: use 1 or more"
    if not rules.repeat_floor >= 0:
        yield f"repeat_floor is {rules.repeat_floor}: use 0 or more"
    if not 60 <= rules.window_seconds <= LONGEST_WINDOW_SECONDS:
        yield f"window_seconds is {rules.window_seconds:g}: use 60 to {LONGEST_WINDOW_SECONDS:g}"
    for name in ("slow_seconds", "longest_wait_seconds"):
        if not 0 <= getattr(rules, name) < math.inf:
            yield f"{name} is {getattr(rules, name):g}: use 0 or more"
    for name in ("open_seconds", "forget_seconds", "account_seconds", "lease_seconds", "repeat_seconds"):
        if not 0 < getattr(rules, name) < math.inf:
            yield f"{name} is {getattr(rules, name):g}: use more than 0"
    if not rules.open_seconds <= rules.longest_open_seconds < math.inf:
        yield f"longest_open_seconds is {rules.longest_open_seconds:g}: use at least open_seconds, {rules.open_seconds:g}"
    if not 0 < rules.failure_share <= 1:
        yield f"failure_share is {rules.failure_share:g}: use more than 0, at most 1"
    for name in ("jitter", "repeat_share"):
        if not 0 <= getattr(rules, name) <= 1:
            yield f"{name} is {getattr(rules, name):g}: use 0 to 1"


def _of_backends(backends: tuple[BackendSettings, ...]) -> Iterator[str]:
    names = [backend.name for backend in backends]
    for name in names:
        if names.count(name) > 1 or not name:
            yield f"backends.name is {name!r}: give every backend a name of its own"
    active: dict[str, str] = {}
    for number, backend in enumerate(backends):
        at = f"backends[{number}]"
        if not backend.connect_timeout_seconds > 0:
            yield f"{at}.connect_timeout_seconds is {backend.connect_timeout_seconds:g}: use more than 0"
        if not backend.active and not backend.exclusive_group:
            yield f"{at}.active is false without an exclusive_group: name the group of {backend.name!r}, or leave it out"
        if backend.active and backend.exclusive_group:
            other = active.setdefault(backend.exclusive_group, backend.name)
            if other != backend.name:
                yield (
                    f"{at}.active: {other!r} and {backend.name!r} are both active in the exclusive group "
                    f"{backend.exclusive_group!r}; one can be, so set active = false for the other"
                )
        known: set[str] = set()
        for place, model in enumerate(backend.models):
            if model.name in known or not model.name:
                yield f"{at}.models[{place}].name is {model.name!r}: give every model of a backend a name of its own"
            known.add(model.name)
            yield from (f"{at}.models[{place}].{problem}" for problem in _problems_of(model))


def _of_groups(settings: Settings) -> Iterator[str]:
    """Groups that nobody is in, and programs that can't know whom they are run for."""
    used = sorted({backend.exclusive_group for backend in settings.backends if backend.exclusive_group})
    names = [group.name for group in settings.groups]
    for number, group in enumerate(settings.groups):
        at = f"groups[{number}]"
        if group.name not in used:
            there = f"use one of {', '.join(used)}" if used else "no backend has an exclusive_group"
            yield f"{at}.name is {group.name!r}: no backend is in that group; {there}"
        if names.count(group.name) > 1:
            yield f"{at}.name is {group.name!r}: describe a group once"
        if not group.switch or not group.switch[0]:
            yield f"{at}.switch is empty: name the program and its arguments"
        elif not any("{backend}" in part or "{model}" in part for part in group.switch):
            yield f"{at}.switch has no {{backend}} and no {{model}}: the program must know who is to become active"


def _problems_of(model: Model) -> Iterator[str]:
    """Numbers of a model that can't be meant."""
    for field, wrong, right in price_check.faults(model.price):
        yield f"price.{field} is {wrong}: {right}"
    for name in ("context_tokens", "max_output_tokens", "tokens_per_second", "parameters_billion", "vram_mb"):
        value = getattr(model, name)
        if value is not None and not value > 0:
            yield f"{name} is {value}: use more than 0, or leave it out"
    for name in ("first_token_seconds", "seconds_per_job", "swap_seconds"):
        value = getattr(model, name)
        if value is not None and not value >= 0:
            yield f"{name} is {value}: use 0 or more, or leave it out"
    if model.quality_tier is not None and not 1 <= model.quality_tier <= 5:
        yield f"quality_tier is {model.quality_tier}: use 1 (small) to 5 (best)"
