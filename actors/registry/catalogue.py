"""From heartbeats to backends: several executors may serve one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from messages import Backend, Model, Offer


def merge(name: str, offers: Sequence[tuple[str, Offer]], at: float) -> Backend:
    """One backend from what its executors announce: slots add up, it is healthy when it is so for one of them."""
    first = offers[0][1]
    healthy = [offer for _, offer in offers if offer.healthy]
    models: dict[str, Model] = {}
    for _, offer in offers:
        for model in offer.models:
            models.setdefault(model.name, model)
    return Backend(
        backend=name,
        protocol=first.protocol,
        local=first.local,
        provider=first.provider,
        priority=first.priority,
        slots=sum(offer.slots for offer in (healthy or [offer for _, offer in offers])),
        executors=tuple(instance for instance, _ in offers),
        models=tuple(models.values()),
        healthy=bool(healthy),
        health_reason="" if healthy else first.health_reason,
        at=at,
    )


def gone(backend: Backend, at: float) -> Backend:
    """The backend when no executor serves it any more. Its models stay known."""
    return msgspec.structs.replace(
        backend, slots=0, executors=(), healthy=False, health_reason="no executor serves it", at=at
    )


def same(one: Backend, other: Backend | None) -> bool:
    """Whether nothing but the time differs."""
    return other is not None and msgspec.structs.replace(one, at=other.at) == other
