"""What stands about one model of a backend, whoever says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from actors.framing import framing_of
from actors.graph_names import GRAPH
from actors.prices import in_force
from actors.router.rulebook import Rulebook, spellings
from actors.router.tiers import tier_of
from messages import Backend, BackendRule, CatalogueEntry, Framing, Known, Model, ModelPrice, Price

ASSETS = frozenset({"text", "image", "video", "audio", "embedding"})
"""Capabilities that say what a model makes."""
CEILING = "budgeting.unknown_price_ceiling_microdollars"
"""The source of a price that nobody knows, and that counts as a ceiling by the settings."""
_FREE = Known().price
"""The default itself, so that it is left out of events."""
_USUAL = Known().framing


S = TypeVar("S", bound=msgspec.Struct)


def lean(value: S) -> S:
    """The same value with the default objects in place of their equals: only those are left out of events."""
    changes: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(value)):
        own = getattr(value, field.name)
        if type(own) is type(field.default) and own == field.default:
            changes[field.name] = field.default
        elif isinstance(own, msgspec.Struct):
            changes[field.name] = lean(own)
    return msgspec.structs.replace(value, **changes)


Prices = Mapping[tuple[str, str], ModelPrice]
"""Prices that were set while running, by seller (a backend or a provider) and model."""


def known_of(
    backend: Backend,
    model: Model,
    rulebook: Rulebook,
    prices: Prices,
    *,
    price_ceiling: int | None = None,
    input_ceiling: int | None = None,
) -> Known:
    """What stands about one model of a backend: the backend's own word, completed by the catalogue and the prices in force.

    `price_ceiling`: micro-dollars that a request at an unknown price counts as; None: it stays unknown. `input_ceiling`:
    tokens that an input counts as that nothing bounds; None: it stays unbounded.
    """
    rule = rulebook.backends.get(backend.backend, BackendRule())
    entries = rulebook.entries(backend.backend, model.name)
    names = tuple(sorted({*spellings(model.name), *(key for key, _ in entries if key != model.name)}))

    def first(own: Any, field: str) -> Any:
        if own is not None:
            return own
        return next((getattr(entry, field) for _, entry in entries if getattr(entry, field) is not None), None)

    of_backend, of_provider = prices.get((backend.backend, model.name)), prices.get((backend.provider, model.name))
    price = in_force(model.price, of_backend, of_provider)
    if price.unknown and price_ceiling is not None:
        price = Price(per_request=price_ceiling, source=CEILING)
    capabilities = _capabilities(model, [entry for _, entry in entries])
    size = first(model.parameters_billion, "parameters_billion")
    tier = next((entry.quality_tier for _, entry in entries if entry.quality_tier is not None), model.quality_tier)
    return Known(
        local=backend.local,
        provider=backend.provider,
        priority=rule.priority or backend.priority,
        slots=backend.slots,
        unfit=_unfit(backend),
        names=names,
        capabilities=capabilities,
        context_tokens=first(model.context_tokens, "context_tokens"),
        max_output_tokens=first(model.max_output_tokens, "max_output_tokens"),
        price=_FREE if price == _FREE else price,
        framing=_framing(backend, model, input_ceiling),
        quality_tier=tier_of(model.name, capabilities, size) if tier is None else tier,
        parameters_billion=size,
        roles=next((entry.roles for _, entry in entries if entry.roles), ()),
        roles_denied=tuple(sorted({role for _, entry in entries for role in entry.roles_denied})),
        loras=model.loras,
        vram_mb=first(model.vram_mb, "vram_mb") or 0,
        vram_total_mb=backend.vram_total_mb or 0,
        swap_seconds=model.swap_seconds or 0,
        multiplier=rule.multiplier,
        routing_weight=rule.routing_weight,
        chain=rulebook.chain_of((*(key for key, _ in entries), model.name, *spellings(model.name), backend.backend)),
    )


def _framing(backend: Backend, model: Model, ceiling: int | None) -> Framing:
    """What the model reads beside what it is given."""
    found = model.framing or framing_of(backend.protocol, backend.provider, model.name)
    if ceiling is not None and found.unbounded is None:
        found = msgspec.structs.replace(found, unbounded=ceiling)
    return _USUAL if found == _USUAL else found


def _capabilities(model: Model, entries: list[CatalogueEntry]) -> tuple[str, ...]:
    """What the model can do, by its backend and the catalogue; who makes nothing else makes text."""
    found = {*model.capabilities, *(name for entry in entries for name in entry.capabilities)}
    return tuple(sorted(found if found & (ASSETS | {GRAPH}) else {*found, "text"}))


def _unfit(backend: Backend) -> str:
    if backend.slots <= 0:
        return "has no live executor"
    if backend.exclusive_group and not backend.active:
        return f"is inactive: another backend of the group {backend.exclusive_group} holds its hardware"
    return "" if backend.healthy else f"is unhealthy: {backend.health_reason}"
