"""Environment variables as a policy: models and pools per role, the catalogue, adaptive selection (seeds 001 and 003). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from actors.catalogue_backends import KEY_FIELD
from actors.router.policy_fault import Fault, PolicyError, dotted, nearest, shown
from actors.router.policy_sense import contradictions
from actors.router.policy_types import fit
from actors.toml_lines import Path
from messages.policies import CatalogueEntry, Match, Policy, Rule

ORDER = 20
"""After the policies that people apply, which have 10, and before the shipped ones."""
ROLES = ("classifier", "writer", "expander", "validator", "style_refiner")
DEFAULT = "default"
"""Key of a role's pool for the products that have none of their own."""
ADAPTIVE = "FEATURE_MODELS_ADAPTIVE"
VARIABLES = ("MODEL_POOLS", "MODEL_CATALOG", *(f"MODEL_{role.upper()}" for role in ROLES))
_ON, _OFF = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}

Pools = dict[str, dict[str, tuple[str, ...]]]
"""Role -> product or `default` -> models in order."""


def overrides(environment: Mapping[str, str], shipped: Policy) -> Policy | None:
    """The policy `environment`; None when no variable says anything.

    `MODEL_CLASSIFIER` to `MODEL_STYLE_REFINER` put one model before the role's pools, `MODEL_POOLS` replaces the pools of the
    roles it names, `MODEL_CATALOG` describes models, `FEATURE_MODELS_ADAPTIVE=1` makes `adaptive` the strategy, 0.25 for a
    quarter of the tenants. What the `shipped` rules of a role require and prefer still holds. Raises PolicyError that names
    the variable.
    """
    if not any(environment.get(name) for name in (*VARIABLES, ADAPTIVE)):
        return None
    faults: list[Fault] = []
    pools = _pools(environment.get("MODEL_POOLS", ""), faults)
    models = _catalogue(environment.get("MODEL_CATALOG", ""), faults)
    first = {role: environment.get(f"MODEL_{role.upper()}", "").strip() for role in ROLES}
    adaptive = environment.get(ADAPTIVE, "").strip().lower()
    share = _share(adaptive)
    if share is None:
        text = f"{shown(adaptive)} is neither on nor off: use 1, 0, or a share of the tenants as 0.25"
        faults.append(Fault(file=ADAPTIVE, value=shown(adaptive), message=text))
    if faults:
        raise PolicyError(faults)
    rules = tuple(rule for role in ROLES for rule in _rules(role, first[role], pools.get(role, {}), shipped))
    if not rules and not models and not share:
        return None
    return Policy(
        policy="environment",
        order=ORDER,
        source="environment variables",
        strategy="adaptive" if share else "",
        strategy_share=share if share and share < 1.0 else None,
        rules=rules,
        models=models,
    )


def _share(text: str) -> float | None:
    """The share of tenants that a switch is on for: 1, 0, or what lies between; None: it says none of these."""
    if text in _ON | _OFF:
        return float(text in _ON)
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        return None
    return share if 0.0 <= share <= 1.0 else None


def _rules(role: str, first: str, pools: Mapping[str, tuple[str, ...]], shipped: Policy) -> Iterator[Rule]:
    """The shipped rules of a role with other pools: for each product that has one of its own, then for the rest."""
    if not first and not pools:
        return
    done: set[tuple[tuple[str, ...], str]] = set()
    for rule in shipped.rules:
        if rule.match.role != (role,):
            continue
        own = tuple(product for product in pools if product != DEFAULT)
        for product in rule.match.product or (*own, ""):
            if (rule.match.mode, product) in done:
                continue
            done.add((rule.match.mode, product))
            pool = pools.get(product) or pools.get(DEFAULT) or _shipped_pool(shipped, rule.match, product) or rule.pool
            if first:
                pool = (first, *(model for model in pool if model != first))
            match = msgspec.structs.replace(rule.match, product=(product,) if product else ())
            name = "-".join(part for part in (role, *rule.match.mode, product) if part)
            yield msgspec.structs.replace(rule, name=name, match=match, pool=pool)


def _shipped_pool(shipped: Policy, match: Match, product: str) -> tuple[str, ...]:
    """The pool that the shipped rules give the same role and mode for one product."""
    for rule in shipped.rules:
        same = rule.match.role == match.role and rule.match.mode in ((), match.mode)
        if same and (not rule.match.product or product in rule.match.product):
            return rule.pool
    return ()


def _json(variable: str, text: str, faults: list[Fault]) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        value: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        faults.append(Fault(file=variable, value=shown(text), message=f"not valid JSON: {error}"))
        return {}
    if not isinstance(value, dict):
        faults.append(
            Fault(file=variable, value=shown(value), message='use a JSON object, as in {"writer": ["my-model"]}')
        )
        return {}
    return cast("dict[str, Any]", value)


def _pools(text: str, faults: list[Fault]) -> Pools:
    found: Pools = {}

    def say(path: Path, value: Any, message: str) -> None:
        faults.append(Fault(file="MODEL_POOLS", field=dotted(path), value=shown(value), message=message))

    def names(value: Any, path: Path) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            say(path, value, 'use a list of models, as in ["my-model"]')
            return ()
        models = cast("list[Any]", value)
        for index, model in enumerate(models):
            if not isinstance(model, str) or not model:
                say((*path, index), model, "use the name of a model")
            elif model in models[:index]:
                say((*path, index), model, f"{model} is in the list twice")
        return tuple(models)

    for role, value in _json("MODEL_POOLS", text, faults).items():
        if role not in ROLES:
            say((role,), role, f"{role} is no role. {nearest(role, ROLES)}")
        elif isinstance(value, dict):
            products = cast("dict[str, Any]", value)
            if "" in products:
                say((role, ""), None, f"the name is empty: give a product, or {DEFAULT}")
            found[role] = {product: names(pool, (role, product)) for product, pool in products.items()}
        else:
            found[role] = {DEFAULT: names(value, (role,))}
    return found


def _catalogue(text: str, faults: list[Fault]) -> dict[str, CatalogueEntry]:
    """Entries in the seed's shape; its `max_tokens` is the context, not the limit of an answer."""
    given = _json("MODEL_CATALOG", text, faults)
    tree: dict[str, Any] = {}
    for name, entry in given.items():
        tree[name] = entry
        if isinstance(entry, dict):
            fields = dict(cast("dict[str, Any]", entry))
            fields.pop(KEY_FIELD, None)  # It is about the entry's backend.
            tree[name] = {"context_tokens": fields.pop("max_tokens"), **fields} if "max_tokens" in fields else fields

    def say(path: Path, value: Any, message: str) -> None:
        field = dotted(path[1:])
        if field.endswith(".context_tokens") and "max_tokens" in given[str(path[1])]:
            field = field.removesuffix("context_tokens") + "max_tokens"
        faults.append(Fault(file="MODEL_CATALOG", field=field, value=shown(value), message=message))

    whole = {"policy": "environment", "models": tree}
    policy = msgspec.convert(fit(whole, Policy, say), Policy)
    contradictions(policy, whole, (), say)
    return policy.models
