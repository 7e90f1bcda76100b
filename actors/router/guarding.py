"""Limits of single calls (seed 003): who is over one is passed over, or runs and says so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from actors.router.case import Row
from messages import Room
from messages.policies import Guardrail

CENT = 10_000
"""Micro-dollars."""


def guarded(rows: Sequence[Row], guardrails: Sequence[Guardrail]) -> tuple[Room, ...]:
    """Note for every row the guardrails that hold for it; what they leave for one call, so that it can be fitted to them."""
    rooms: list[Room] = []
    for row in rows:
        row.guards = tuple(one for one in guardrails if any(row.is_called(name) for name in one.model))
        for guard in row.guards:
            if guard.routing_weight is not None:
                row.known = msgspec.structs.replace(row.known, routing_weight=guard.routing_weight)
            for unit, limit in (("microdollars", _microdollars(guard)), ("tokens", guard.token_limit)):
                if limit is not None:
                    name = "cost_limit" if unit == "microdollars" else "token_limit"
                    rooms.append(
                        Room(backend=row.backend, model=row.model, budget=name, unit=unit, left=limit, limit=limit)
                    )
    return tuple(rooms)


def heed(rows: Sequence[Row]) -> None:
    """Bar the fitted rows that could exceed a guardrail, or note what they exceed."""
    for row in rows:
        for guard in row.guards:
            over = tuple(_over(row, guard))
            if over and guard.drop_if_over_budget and not row.barred:
                row.barred, row.reason = "guardrail", "; ".join(over)
            elif over:
                row.breaches = (*row.breaches, *(f"{text}, and is not dropped for it" for text in over))
            if (late := _late(row, guard)) and not row.barred:
                row.breaches = (*row.breaches, late)


def _microdollars(guard: Guardrail) -> int | None:
    return None if guard.cost_limit_cents is None else int(round(guard.cost_limit_cents * CENT, 3))


def _over(row: Row, guard: Guardrail) -> Iterator[str]:
    """Which limits one call could exceed, in words."""
    dollars, tokens, where = _microdollars(guard), guard.token_limit, _where(guard)
    priced = row.known.price.worst(1_000_000, 0) > row.known.price.worst(0, 0)
    if dollars is not None and row.known.price.unknown:
        yield f"has no known price, and a call may cost ${dollars / 1e6:.6f}{where} (cost_limit)"
    elif dollars is not None and row.unbounded and priced:
        yield f"has nothing that bounds {row.unbounded}, and a call may cost ${dollars / 1e6:.6f}{where} (cost_limit)"
    elif dollars is not None and row.worst_case_microdollars > dollars:
        yield f"could cost ${row.worst_case_microdollars / 1e6:.6f}, ${dollars / 1e6:.6f} a call{where} (cost_limit)"
    if tokens is not None and row.unbounded:
        yield f"has nothing that bounds {row.unbounded}, and a call may use {tokens:,} tokens{where} (token_limit)"
    elif tokens is not None and row.worst_case_tokens > tokens:
        yield f"could use {row.worst_case_tokens:,} tokens, {tokens:,} a call{where} (token_limit)"


def _late(row: Row, guard: Guardrail) -> str:
    f = row.features
    seconds = f.wait_seconds + f.switch_seconds + f.service_seconds
    if guard.latency_target_ms is None or seconds * 1_000.0 <= guard.latency_target_ms:
        return ""
    wished = f"{guard.latency_target_ms:,.0f} are wished{_where(guard)} (latency_target)"
    return f"is expected to take {seconds * 1000:,.0f} ms, {wished}"


def _where(guard: Guardrail) -> str:
    """` in step hero of workflow site`; empty: everywhere."""
    parts = [f"step {' or '.join(guard.step)}"] if guard.step else []
    parts += [f"workflow {' or '.join(guard.workflow)}"] if guard.workflow else []
    return f" in {' of '.join(parts)}" if parts else ""
