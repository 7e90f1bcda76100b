"""The rules that match a job as one: each field from the nearest rule that says it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from messages import Needs, Rule

EVERYBODY = ("*",)
"""As a pool: no pool, whatever a farther rule says."""
BY_POOL = frozenset({
    "manual", "pool_order", "direct", "context_based", "usage_based", "complexity_based", "adaptive_weighted", "quality_based",
})  # fmt: skip
"""Strategies that choose by a rule's pool, classes or shares; the others would be confined by it."""
_OF_POOL = ("pool", "strict", "fallbacks", "classes", "shares", "overflow")
"""They speak of a pool's members, so they come from the rule that gives the pool."""
_BY_THEMSELVES = ("requires", "prefers", "required_fields", "checks")
_OPEN = Rule(name="")


def said(rule: Rule) -> frozenset[str]:
    """The fields that a rule says; `pool` with all that belongs to it."""
    fields = ("strategy", "pool", "max_attempts", *_BY_THEMSELVES)
    return frozenset(field for field in fields if getattr(rule, field) != getattr(_OPEN, field))


class Merged(msgspec.Struct, frozen=True):
    """What all rules say about one job."""

    rule: Rule
    """Their fields; its name and match say nothing."""
    set_by: Mapping[str, str]
    """Field -> `policy@version rule` that said it."""
    nearest: str
    """`policy@version rule` of the first that matches; empty: none does."""


def merge(matching: Iterable[tuple[str, Rule]], needs: Needs) -> Merged:
    """One rule of those that match, which come in the order they speak: per field the first that says it.

    What belongs to a pool comes with the pool. The job's own strategy, or speed first, may outvote a pool; then it and the
    strategy of its rule are left to the next.
    """
    given: dict[str, Any] = {}
    set_by: dict[str, str] = {}

    def take(rule: Rule, who: str, *fields: str) -> None:
        spoken = said(rule)
        for field in fields:
            if field in spoken and field not in set_by:
                given[field], set_by[field] = getattr(rule, field), who

    nearest = ""
    for policy, rule in matching:
        who = f"{policy} {rule.name}"
        nearest = nearest or who
        outvoted = _outvoted(rule, needs)
        if not outvoted:
            take(rule, who, "strategy")
        if "pool" not in set_by:
            take(rule, who, "max_attempts")  # A nearer pool says by its fallbacks how often it is tried.
            if rule.pool and not outvoted:
                given |= {field: getattr(rule, field) for field in _OF_POOL}
                set_by["pool"] = who
        take(rule, who, *_BY_THEMSELVES)
    if given.get("pool") == EVERYBODY:
        given["pool"] = ()
    needed = given.get("requires", ())
    given["prefers"] = tuple(one for one in given.get("prefers", ()) if one not in needed)
    return Merged(Rule(name="", **given), set_by, nearest)


def _outvoted(rule: Rule, needs: Needs) -> bool:
    """Whether the job's own word (a strategy that chooses by figures, or speed first) weighs more than the rule's pool."""
    if not rule.pool or rule.strict or rule.pool == EVERYBODY:
        return False
    return needs.strategy not in BY_POOL if needs.strategy else needs.prioritize_speed
