"""What can't hold in a policy although every value has the right type. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any, cast

from actors import json_schema
from actors.router.policy_fault import Say, nearest
from actors.toml_lines import Path
from messages.policies import Change, Policy, Rule
from messages.values import Complexity

SHIPPED = ("roles", "quality", "chains", "adaptive", "default", "balancer")
"""The shipped policies by name, in the order they speak."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ROUNDING = 1e-9
_SIZES: frozenset[Complexity] = frozenset({"simple", "medium", "complex", "unknown"})
_CREATIVE: frozenset[Complexity] = frozenset({"standard", "high", "unknown"})
_Given = Callable[..., Any]


def contradictions(policy: Policy, tree: dict[str, Any], strategies: Collection[str], say: Say) -> None:
    """Say what can't hold. `policy` is what fits of `tree`; an empty name in it is one that was already refused."""
    if isinstance(name := tree.get("policy"), str) and not _NAME.match(name):
        say(("policy",), name, "use 1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first")
    if policy.strategy and policy.strategy not in strategies:
        say(
            ("strategy",),
            policy.strategy,
            f"no strategy is called {policy.strategy}. {nearest(policy.strategy, strategies)}",
        )
    for index, name in enumerate(policy.shipped or ()):
        if name and name not in SHIPPED:
            say(("shipped", index), name, f"no shipped policy is called {name}. {nearest(name, SHIPPED)}")
    _numbers(policy, say)
    names: list[str] = []
    for index, rule in enumerate(policy.rules):
        if rule.name in names:
            say(("rules", index, "name"), rule.name, f"two rules are called {rule.name}: give each a name of its own")
        names += [rule.name] if rule.name else []
        _rule(rule, ("rules", index), _given(tree, index), strategies, say)
    for index, guard in enumerate(policy.guardrails):
        if not guard.model:
            say(("guardrails", index, "model"), None, 'name the models it holds for, as in model = ["gpt-4o"]')
    for head, chain in policy.chains.items():
        if head in chain:
            at = ("chains", head, chain.index(head))
            say(at, head, f"the chain of {head} leads back to {head}: leave it out")
    _catalogue(policy, say)
    for quality, preset in policy.presets.items():
        _variants(preset, ("presets", quality), say)
        for backend, change in preset.backends.items():
            _variants(change, ("presets", quality, "backends", backend), say)


def _given(tree: dict[str, Any], index: int) -> _Given:
    """What stands in the file for one rule: `given("match", "task")`; None: nothing."""
    rules = tree.get("rules")
    rule: Any = cast("list[Any]", rules)[index] if isinstance(rules, list) else None

    def given(*keys: str) -> Any:
        found = rule
        for key in keys:
            found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
        return found

    return given


def _numbers(policy: Policy, say: Say) -> None:
    until, at = policy.saturated_until, policy.saturated_at
    if until is not None and at is not None and until >= at:
        say(("saturated_until",), until, f"{until:g} is not below saturated_at = {at:g}: a backend could never recover")
    weights, analysis = policy.weights, policy.analysis
    if weights is not None and weights.slow_seconds <= weights.fast_seconds:
        slow, fast = weights.slow_seconds, weights.fast_seconds
        say(("weights", "slow_seconds"), slow, f"{slow:g} is not above fast_seconds = {fast:g}")
    if analysis is not None and analysis.complex_above < analysis.simple_below:
        below, above = analysis.simple_below, analysis.complex_above
        say(("analysis", "complex_above"), above, f"{above:g} is below simple_below = {below:g}: a job would be both")


def _rule(rule: Rule, path: Path, given: _Given, strategies: Collection[str], say: Say) -> None:
    if given("name") == "":
        say((*path, "name"), None, "the name is empty: give the rule one")
    if rule.strategy and rule.strategy not in strategies:
        say(
            (*path, "strategy"),
            rule.strategy,
            f"no strategy is called {rule.strategy}. {nearest(rule.strategy, strategies)}",
        )
    _match(rule, path, given, say)
    if given("pool") is None and rule.strict:
        say((*path, "strict"), None, "strict needs a pool: without one everything is permitted")
    if rule.pool:
        _members(rule, path, say)
    total = math.fsum(rule.shares.values())
    if total > 1 + _ROUNDING:
        say((*path, "shares"), f"{total:g}", f"the shares add up to {total:g}: use at most 1")
    for capability in rule.prefers:
        if capability and capability in rule.requires:
            at = (*path, "prefers", rule.prefers.index(capability))
            say(at, capability, f"{capability} is required already: a rule either requires or prefers it")
    _checks(rule, path, say)
    # The default of fallbacks contradicts nobody, only a number that somebody wrote.
    attempts, fallbacks = rule.max_attempts, rule.fallbacks
    if attempts is not None and given("fallbacks") is not None and attempts < 1 + fallbacks:
        text = f"{attempts} attempts leave no room for {fallbacks} fallbacks: use {1 + fallbacks} or more, or fewer fallbacks"
        say((*path, "max_attempts"), attempts, text)


def _checks(rule: Rule, path: Path, say: Say) -> None:
    checks, at = rule.checks, (*path, "checks")
    for key, patterns in (("must_match", checks.must_match), ("must_not_match", checks.must_not_match)):
        for index, pattern in enumerate(patterns):
            try:
                json_schema.has("", pattern)
            except json_schema.NoPattern as error:
                say((*at, key, index), pattern, str(error))
    if 0 < checks.max_characters < checks.min_characters:
        text = f"at most {checks.max_characters} characters are fewer than min_characters, {checks.min_characters}"
        say((*at, "max_characters"), checks.max_characters, text)
    if checks.soft_below < checks.hard_below:
        text = f"{checks.soft_below:g} is under hard_below, {checks.hard_below:g}: nothing would be told and used"
        say((*at, "soft_below"), f"{checks.soft_below:g}", text)


def _members(rule: Rule, path: Path, say: Say) -> None:
    """Whoever is named in a rule stands in its pool."""

    def check(name: str, at: Path) -> None:
        if name and name not in rule.pool:
            say(at, name, f"{name} is not in the pool of the rule. {nearest(name, filter(None, rule.pool))}")

    for name in rule.shares:
        check(name, (*path, "shares", name))
    for size, members in rule.classes.items():
        for index, name in enumerate(members):
            check(name, (*path, "classes", size, index))
    for index, name in enumerate(rule.overflow):
        check(name, (*path, "overflow", index))


def _match(rule: Rule, path: Path, given: _Given, say: Say) -> None:
    """Say which values no job can have together with the others."""
    match, at = rule.match, (*path, "match")
    possible: set[Complexity] = set()
    for task in match.task:
        possible |= _CREATIVE if task == "creative" else _SIZES
    if match.task:
        tasks = " or ".join(match.task)
        for size in match.complexity:
            if size not in possible:
                index = given("match", "complexity").index(size)
                text = f"never matches: {tasks} work is never {size}. Use {', '.join(sorted(possible))}"
                say((*at, "complexity", index), size, text)
        for size in rule.classes:
            if size not in possible:
                say((*path, "classes", size), size, f"never matches: {tasks} work is never {size}")
    if match.task == ("creative",) and match.quality == ("final",) and match.complexity == ("standard",):
        say((*at, "complexity"), "standard", "never matches: creative work of quality final is always high")
    if match.node_type and match.asset and set(match.asset) <= {"text", "embedding"}:
        text = f"never matches: {' or '.join(match.asset)} is not made by a ComfyUI graph"
        say((*at, "node_type"), ", ".join(match.node_type), text)


def _catalogue(policy: Policy, say: Say) -> None:
    for name, entry in policy.models.items():
        for role in entry.roles:
            if role and role in entry.roles_denied:
                at = ("models", name, "roles_denied", entry.roles_denied.index(role))
                say(at, role, f"{role} is both in roles and in roles_denied: keep one")
        context, output = entry.context_tokens, entry.max_output_tokens
        if context is not None and output is not None and output > context:
            text = f"{output} is more than context_tokens = {context}: the context holds prompt and answer together"
            say(("models", name, "max_output_tokens"), output, text)


def _variants(change: Change, path: Path, say: Say) -> None:
    for model, variant in change.variants.items():
        if model == variant:
            say((*path, "variants", model), variant, f"{model} is its own variant: name another model")
