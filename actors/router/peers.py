"""What equals have measured: the first estimate of who is not measured yet. Pure."""

from __future__ import annotations

import math

from messages import Backend, Model, Stats

Kind = tuple[object, ...]


def kind_of(backend: Backend, model: Model) -> Kind:
    """Equal where all is equal that stands about how quick a model is there."""
    return (
        model.name, backend.protocol, backend.local, backend.provider, backend.vram_total_mb, model.tokens_per_second,
        model.first_token_seconds, model.seconds_per_job,
    )  # fmt: skip


class Peers:
    """One model on equal backends, and what was measured on each."""

    __slots__ = ("_of", "at", "best", "changed", "kind", "total", "weight")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._of: dict[str, Stats | None] = {}
        self.changed = False
        """Whether it must be summed up."""
        self.weight = self.total = self.at = 0.0
        """Runs that were measured, the sum of the logarithms of their seconds, and when the last one was."""
        self.best: Stats | None = None
        """What was measured on who has most runs."""

    def note(self, backend: str, stats: Stats | None) -> None:
        """One of them, as it is measured now; None: not at all."""
        self._of[backend] = stats if stats is not None and stats.latency_seconds and stats.weight > 0 else None
        self.changed = True

    def leave(self, backend: str) -> bool:
        """It is no longer one of them; whether nobody is left."""
        self._of.pop(backend, None)
        self.changed = True
        return not self._of

    def sum_up(self) -> None:
        """Exactly, so that the order in which facts came leaves no trace."""
        found = [stats for _, stats in sorted(self._of.items()) if stats is not None]
        self.weight = math.fsum(stats.weight for stats in found)
        self.total = math.fsum(total_of(stats) for stats in found)
        self.at = max((stats.at for stats in found), default=0.0)
        self.best = max(found, key=lambda stats: stats.weight, default=None)
        self.changed = False


def total_of(stats: Stats) -> float:
    """What it adds to the sum of its equals."""
    return stats.weight * math.log(stats.latency_seconds or 1.0)
