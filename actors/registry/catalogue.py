"""From heartbeats to backends: several executors may serve one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from messages import Backend, ExecutorAlive, Model, Offer


def merge(name: str, offers: Sequence[tuple[str, Offer]], at: float, *, slots: int) -> Backend:
    """One backend from what its executors announce: it is healthy when it is so for one of them, and has so many `slots`.

    It is active when it is so for one of them; of several sizes of GPU memory the smallest counts, for work may go to any.
    """
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
        slots=slots,
        executors=tuple(instance for instance, _ in offers),
        models=tuple(models.values()),
        exclusive_group=next((offer.exclusive_group for _, offer in offers if offer.exclusive_group), ""),
        active=any(offer.active for _, offer in offers),
        vram_total_mb=min(
            (offer.vram_total_mb for _, offer in offers if offer.vram_total_mb is not None), default=None
        ),
        healthy=bool(healthy),
        health_reason="" if healthy else first.health_reason,
        version=next((offer.version for _, offer in offers if offer.version), ""),
        cold=all(offer.cold for _, offer in offers),
        switchable=any(offer.switchable for _, offer in offers),
        notes=tuple(dict.fromkeys(note for _, offer in offers for note in offer.notes)),
        at=at,
    )


def foreign(offers: Sequence[tuple[str, Offer]]) -> int:
    """Requests of others before a backend. Its executors all see the same server, so the most that one has seen counts."""
    return max((offer.foreign for _, offer in offers), default=0)


def loaded(offers: Sequence[tuple[str, Offer]], ran: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Models in memory: as the backend says, or else those that run there or `ran` last; None: unknown. A worker that must be
    started first has none.
    """
    if offers and all(offer.cold for _, offer in offers):
        return ()
    told = [offer.loaded for _, offer in offers if offer.loaded is not None and offer.healthy]
    return tuple(sorted({name for names in told for name in names})) if told else ran


def vram_free_mb(offers: Sequence[tuple[str, Offer]], measured: int | None) -> int | None:
    """Free GPU memory in MiB: as measured on the host, or else the least that an executor was told; None: unknown."""
    if measured is not None:
        return measured
    return min((offer.vram_free_mb for _, offer in offers if offer.vram_free_mb is not None), default=None)


def gone(backend: Backend, at: float) -> Backend:
    """The backend when no executor serves it any more. Its models stay known."""
    return msgspec.structs.replace(
        backend, slots=0, executors=(), healthy=False, health_reason="no executor serves it", at=at
    )


def same(one: Backend, other: Backend | None) -> bool:
    """Whether nothing but the time differs."""
    return other is not None and msgspec.structs.replace(one, at=other.at) == other


def running_models(living: Iterable[ExecutorAlive]) -> dict[str, tuple[str, ...]]:
    """The models that run at this moment, sorted, by backend; backends that run nothing are left out."""
    found: dict[str, set[str]] = {}
    for alive in living:
        for running in alive.running:
            if running.backend and running.model:
                found.setdefault(running.backend, set()).add(running.model)
    return {backend: tuple(sorted(models)) for backend, models in found.items()}
