"""Latency targets that stand in policies' guardrails (seed 003), beside those of the settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from actors.alert_settings import LatencyTarget
from messages import Guardrail, Policy


def targets_of(policies: Iterable[Policy], beside: Iterable[LatencyTarget] = ()) -> tuple[LatencyTarget, ...]:
    """One target for each model, workflow, step and tenant of each guardrail that wishes one; of a name that `beside` has, none.

    A guardrail's word means a model by its name or its stable id, or a backend.
    """
    held = [policy for policy in policies if not policy.removed]
    names = {id_: entry.model for policy in held for id_, entry in policy.models.items() if entry.model}
    found: dict[str, LatencyTarget] = {}
    for policy in held:
        for guard in policy.guardrails:
            for target in _of(guard, names):
                found.setdefault(target.name, target)
    taken = {target.name for target in beside}
    return tuple(target for name, target in found.items() if name not in taken)


def _of(guard: Guardrail, names: dict[str, str]) -> Iterator[LatencyTarget]:
    if guard.latency_target_ms is None:
        return
    seconds = guard.latency_target_ms / 1_000
    for word, workflow, step, tenant in product(
        guard.model, guard.workflow or ("",), guard.step or ("",), guard.tenant or ("",)
    ):
        for model, backend in ((names.get(word, word), ""), ("", word)):
            yield LatencyTarget(
                workflow=workflow, step=step, tenant=tenant, model=model, backend=backend, target_seconds=seconds
            )
