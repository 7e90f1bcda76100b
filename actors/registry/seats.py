"""Which GPU a backend sits on, and so how much memory it has; and which of its executors call the same server. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from messages import ExecutorAlive, Gpu, Offer

STALE_SECONDS = 90.0
"""A GPU that is there is told every 30 s; what is older than three times that says nothing about now."""


def gpu_of(offer: Offer, host: str, gpus: Iterable[Gpu], now: float) -> Gpu | None:
    """The GPU that a backend uses, as told lately; None: unknown.

    Only what runs on its executor's host can be matched. The settings may say which GPU; without their word it is the
    only one of that host, and with several nobody guesses.
    """
    if not host or not offer.local or not (offer.here or offer.gpu is not None):
        return None
    there = [gpu for gpu in gpus if gpu.host == host and gpu.index >= 0 and now - gpu.at <= STALE_SECONDS]
    if offer.gpu is not None:
        return next((gpu for gpu in there if gpu.index == offer.gpu), None)
    return there[0] if len(there) == 1 else None


class Seated(msgspec.Struct, frozen=True):
    """What the executors offer of one backend, with the memory of the GPUs below."""

    offers: tuple[tuple[str, Offer], ...]
    """By instance; the size of the GPU's memory is filled in where none was configured."""
    free_mb: int | None
    """Free GPU memory; of several GPUs that of the fullest, for work may go to any; None: unknown."""
    servers: tuple[tuple[Offer, ...], ...]
    """The same offers, those together that are of one server."""

    @property
    def slots(self) -> int:
        """Attempts at once. Who calls the same server shares its slots; servers add up, the ill ones only where none is well."""
        well = [[offer for offer in offers if offer.healthy] for offers in self.servers]
        return sum(max(offer.slots for offer in offers) for offers in ([one for one in well if one] or self.servers))


def seat(
    offers: Sequence[tuple[str, Offer]], living: Iterable[ExecutorAlive], gpus: Sequence[Gpu], now: float
) -> Seated:
    """Find the GPUs and the servers below one backend, given all its executors' offers.

    What runs on an executor's own host is a server of that host. All else under one name is one server, whoever calls it.
    """
    hosts = {alive.instance: alive.host for alive in living}
    found: list[tuple[str, Offer]] = []
    servers: dict[str, list[Offer]] = {}
    free: list[int] = []
    for instance, offer in offers:
        gpu = gpu_of(offer, hosts.get(instance, ""), gpus, now)
        if gpu is not None and gpu.memory_free_mb is not None:
            free.append(gpu.memory_free_mb)
        total = gpu.memory_total_mb if gpu is not None and offer.vram_total_mb is None else offer.vram_total_mb
        fitted = msgspec.structs.replace(offer, vram_total_mb=total)
        found.append((instance, fitted))
        servers.setdefault(hosts.get(instance, "") if offer.here else "", []).append(fitted)
    return Seated(
        offers=tuple(found), free_mb=min(free, default=None), servers=tuple(tuple(one) for one in servers.values())
    )  # fmt: skip
