"""Settling: every reservation of an attempt becomes what it used."""

from __future__ import annotations

from actors.guardrail.ledger import Ledger, entry_of
from actors.guardrail.limits import billed
from messages import Attempted


async def settle(ledger: Ledger, attempted: Attempted) -> None:
    """Replace every reservation of an attempt by what it used. Raises the bus's errors; repeating it is harmless."""
    for reservation in attempted.reserved:
        entry = entry_of(
            reservation, tenant=attempted.tenant, job=attempted.job, n=attempted.n, backend=attempted.backend,
            model=attempted.model, at=attempted.at,
        )  # fmt: skip
        await ledger.settle(entry, billed(reservation, attempted))
