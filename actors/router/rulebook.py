"""All policies as one: what they say about a job, and about a model. Built anew when a policy changes; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from actors.router.merging import EVERYBODY, merge
from messages import (
    AdaptiveRules,
    AnalysisRules,
    BackendRule,
    CatalogueEntry,
    CostRules,
    Failover,
    Match,
    Needs,
    Plan,
    Policy,
    Preset,
    Rule,
    Weights,
)
from messages.policies import Degrade, Guardrail

T = TypeVar("T")
K = TypeVar("K")

SATURATED_AT, SATURATED_UNTIL = 0.8, 0.7
WINDOW_SECONDS = 60.0
LATEST = ":latest"
OWN_WORD = "the job itself"
"""Who set a field of the plan that the job says."""
USUAL = "expected_cost"
"""The strategy where nobody says one."""
SHIPPED_ORDER = 50
"""Shipped policies have this order or more, people's and the environment's have less."""
_PLACES = ("workflow", "step", "tenant")
"""What a guardrail looks at of a job."""
_BLANK = Plan()
"""Its parts are the very objects that an event leaves out."""


class Ruling(msgspec.Struct, frozen=True):
    """What the policies say about one job."""

    plan: Plan
    failover: Failover
    policy: str
    """`name@version rule` of every rule that said something, joined by ` + `; `name@version` of the strategy's policy when
    none did."""


def in_order(policies: Iterable[Policy]) -> list[Policy]:
    """Those that hold, in the order they speak."""
    return sorted((p for p in policies if not p.removed), key=lambda p: (p.order, p.policy))


def is_shipped(policy: Policy) -> bool:
    """Whether it came with turnout and nobody has applied another under its name."""
    return policy.version == 0 and policy.order >= SHIPPED_ORDER


def silent(policies: Iterable[Policy]) -> frozenset[str]:
    """The shipped policies that say nothing about where jobs go, because somebody chose others (`Policy.shipped`)."""
    held = in_order(policies)
    chosen = next((p.shipped for p in held if p.shipped is not None), None)
    if chosen is None:
        return frozenset()
    return frozenset(p.policy for p in held if is_shipped(p) and p.policy not in chosen)


def speaking(policies: Iterable[Policy]) -> list[Policy]:
    """Those that hold, in order; a silent one keeps what it knows of models, and its numbers."""
    held = in_order(policies)
    muted = silent(held)
    return [msgspec.structs.replace(p, rules=(), strategy="", chains={}) if p.policy in muted else p for p in held]


def spellings(name: str) -> tuple[str, ...]:
    """A model's name as others may write it: with and without its `:latest`."""
    if name.endswith(LATEST):
        return (name.removesuffix(LATEST),)
    return () if ":" in name else (name + LATEST,)


class Rulebook:
    """The policies together: the first to say something about a matter decides it."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self.held = tuple(in_order(policies))
        """As they were applied."""
        self.policies = tuple(speaking(self.held))
        """As they speak."""
        self.enabled = self._first("enabled", default=True)
        self.strategy, self._strategy_of = self._default_strategy("")
        self._shared = any(p.strategy and p.strategy_share is not None for p in self.policies)
        """Whether the usual strategy is not the same for all tenants."""
        self.weights: Weights = self._first("weights", default=_BLANK.weights)
        self.adaptive: AdaptiveRules = self._first("adaptive", default=_BLANK.adaptive)
        self.cost: CostRules = self._first("cost", default=_BLANK.cost)
        self.analysis: AnalysisRules = self._first("analysis", default=AnalysisRules())
        self.saturated_at = self._first("saturated_at", default=SATURATED_AT)
        self.saturated_until = self._first("saturated_until", default=SATURATED_UNTIL)
        self.window_seconds = self._first("window_seconds", default=WINDOW_SECONDS)
        self.failover = self._failover()
        self.rules: tuple[tuple[str, Rule], ...] = tuple(
            (f"{p.policy}@{p.version}", rule) for p in self.policies for rule in p.rules
        )
        self.guardrails = tuple(guard for p in self.policies for guard in p.guardrails)
        self.chains: Mapping[str, tuple[str, ...]] = _merged(p.chains for p in self.policies)
        self.models: Mapping[str, CatalogueEntry] = _merged(p.models for p in self.policies)
        self.backends: Mapping[str, BackendRule] = _merged(p.backends for p in self.policies)
        self.presets: Mapping[Any, Preset] = _merged(p.presets for p in self.policies)
        self.degrade: Mapping[str, Degrade] = _merged(p.degrade for p in self.policies)
        self.matched = frozenset(
            field for _, rule in self.rules for field in Match.__struct_fields__ if getattr(rule.match, field)
        ).union(field for guard in self.guardrails for field in _PLACES if getattr(guard, field))
        """Fields of a job that any rule looks at."""
        self.weights_at = max((p.applied_at for p in self.policies), default=0.0)
        """When a policy was applied last."""

    def _first(self, field: str, *, default: Any) -> Any:
        return next((getattr(p, field) for p in self.policies if getattr(p, field) is not None), default)

    def _default_strategy(self, tenant: str) -> tuple[str, str]:
        """The strategy where no rule says one, and whose word that is; of a tenant "" as for those outside every share."""
        if not self.enabled:
            return "manual", next(f"{p.policy}@{p.version}" for p in self.policies if p.enabled is False)
        for p in self.policies:
            if p.strategy and (p.strategy_share is None or (tenant and _share_of(p.policy, tenant) < p.strategy_share)):
                return p.strategy, f"{p.policy}@{p.version}"
        return USUAL, "built-in@0"

    def _failover(self) -> Failover:
        given: dict[str, Any] = {}
        for field in Failover.__struct_fields__:
            said = (getattr(p.failover, field) for p in self.policies if p.failover is not None)
            value = next((value for value in said if value is not None), None)
            if value is not None:
                given[field] = value
        return Failover(**given)

    # ------------------------------------------------------------------------------------------------ models

    def entries(self, backend: str, model: str) -> list[tuple[str, CatalogueEntry]]:
        """The catalogue's words about one backend's model, by stable id; those for this backend alone come first."""
        names = {model, *spellings(model)}
        found = [
            (key, entry)
            for key, entry in self.models.items()
            if (entry.model or key) in names and entry.backend in ("", backend)
        ]
        return sorted(found, key=lambda pair: (pair[1].backend == "", pair[0]))

    def chain_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """The explicit chain of a model under any of its names; empty: there is none."""
        return next((self.chains[name] for name in names if name in self.chains), ())

    # -------------------------------------------------------------------------------------------------- jobs

    def key(self, needs: Needs, tenant: str) -> tuple[Any, ...]:
        """What a ruling depends on: jobs with the same key get the same."""
        found: list[Any] = [needs.quality, needs.asset, needs.strategy, needs.prioritize_speed, needs.preferred]
        found.extend(_value(needs, tenant, field) for field in self.matched)
        if self._shared:
            found.append(self._default_strategy(tenant))
        return tuple(found)

    def ruling(self, needs: Needs, tenant: str, served: AbstractSet[str]) -> Ruling:
        """What holds for a job, while the models and backends named in `served` are known."""
        if not self.enabled:
            return Ruling(self._fixed(needs), self.failover, self._strategy_of)
        merged = merge(self._matching(needs, tenant, served), needs)
        rule, set_by = merged.rule, dict(merged.set_by)
        rules = tuple(dict.fromkeys(set_by.values())) or ((merged.nearest,) if merged.nearest else ())
        failover = self.failover
        attempts = rule.max_attempts or (1 + rule.fallbacks if rule.pool else None)
        if attempts is not None:
            failover = msgspec.structs.replace(failover, max_attempts=attempts)
        usual, said_by = self._default_strategy(tenant) if self._shared else (self.strategy, self._strategy_of)
        if needs.strategy:
            set_by["strategy"] = OWN_WORD
        elif not rule.strategy:
            set_by["strategy"] = said_by
        prefers = {*rule.prefers, *needs.preferred}
        plan = Plan(
            strategy=needs.strategy or rule.strategy or usual,
            rule=set_by.get("pool") or merged.nearest,
            set_by=set_by,
            guardrails=tuple(guard for guard in self.guardrails if _fits(guard, needs, tenant)),
            pool=rule.pool,
            strict=rule.strict,
            fallbacks=rule.fallbacks,
            classes=rule.classes,
            shares=rule.shares,
            overflow=rule.overflow,
            requires=rule.requires,
            prefers=rule.prefers,
            degrade={name: step for name, step in self.degrade.items() if name in prefers},
            required_fields=rule.required_fields,
            checks=rule.checks,
            preset=self._preset(needs),
            output_share=self.analysis.output_share,
            weights=self.weights,
            adaptive=self.adaptive,
            cost=self.cost,
        )
        return Ruling(plan, failover, " + ".join(rules) or said_by)

    def _fixed(self, needs: Needs) -> Plan:
        """Routing is switched off."""
        return Plan(
            strategy="manual",
            fixed=True,
            pool=next((p.fixed_order for p in self.policies if p.fixed_order), ()),
            degrade={name: step for name, step in self.degrade.items() if name in needs.preferred},
            preset=self._preset(needs),
            output_share=self.analysis.output_share,
            weights=self.weights,
            adaptive=self.adaptive,
            cost=self.cost,
        )

    def _matching(self, needs: Needs, tenant: str, served: AbstractSet[str]) -> Iterator[tuple[str, Rule]]:
        for policy, rule in self.rules:
            if rule.pool and rule.pool != EVERYBODY and served.isdisjoint(rule.pool):
                continue
            if all(_holds(rule.match, field, needs, tenant) for field in Match.__struct_fields__):
                yield policy, rule

    def _preset(self, needs: Needs) -> Preset:
        """What of the quality's preset can still change something: tokens stand in the needs already."""
        preset = self.presets.get(needs.quality, Preset())
        if needs.asset != "text":
            return preset
        backends = {
            name: change for name, change in preset.backends.items() if change.max_output_tokens or change.variants
        }
        return Preset(variants=preset.variants, backends=backends) if preset.variants or backends else _BLANK.preset


def _share_of(policy: str, tenant: str) -> float:
    """Where a tenant stands in a policy's share: a number of [0, 1) that anybody can derive."""
    digest = blake2b(f"share|{policy}|{tenant}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _fits(guard: Guardrail, needs: Needs, tenant: str) -> bool:
    """Whether it holds for a job's models."""
    return all(not getattr(guard, field) or _value(needs, tenant, field) in getattr(guard, field) for field in _PLACES)


def _merged(tables: Iterable[Mapping[K, T]]) -> dict[K, T]:
    found: dict[K, T] = {}
    for table in tables:
        for key, value in table.items():
            found.setdefault(key, value)
    return found


def _value(needs: Needs, tenant: str, field: str) -> Any:
    if field == "tenant":
        return tenant
    if field == "capability":
        return needs.capabilities
    return needs.media.node_types if field == "node_type" else getattr(needs, field)


def _holds(match: Match, field: str, needs: Needs, tenant: str) -> bool:
    wanted: Sequence[Any] = getattr(match, field)
    if not wanted:
        return True
    value = _value(needs, tenant, field)
    if isinstance(value, tuple):
        return not set(wanted).isdisjoint(value)  # pyright: ignore[reportUnknownArgumentType]
    return value in wanted
