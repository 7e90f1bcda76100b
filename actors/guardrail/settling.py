"""Settling: every reservation of an attempt becomes what it used, and later perhaps what turned out to be right."""

from __future__ import annotations

from actors.guardrail.ledger import Ledger, entry_of
from actors.guardrail.limits import billed
from actors.journal import Journal
from actors.succession import corrected
from messages import Attempted, LedgerEntry, Reservation


async def settle(ledger: Ledger, attempted: Attempted) -> None:
    """Replace every reservation of an attempt by what it used. Raises the bus's errors; repeating it is harmless."""
    for reservation in attempted.reserved:
        await ledger.settle(_entry(reservation, attempted), billed(reservation, attempted))


async def correct(ledger: Ledger, journal: Journal, attempted: Attempted) -> list[Reservation]:
    """Replace what earlier attempts were settled at by what this one tells of them; the reservations that this is about.

    Follows from stored records alone, and each correction is known by the hold that it is about: repeating it is harmless. It
    comes after the settlement of who tells it, so that no counter falls below what was used in between. Raises the bus's errors.
    """
    touched: list[Reservation] = []
    for one in attempted.corrections:
        lost = await journal.attempted(attempted.tenant, attempted.job, one.n)
        for reservation in lost.reserved if lost is not None else ():
            assert lost is not None
            change = billed(reservation, corrected(lost, one)) - billed(reservation, lost)
            if change:
                await ledger.correct(_entry(reservation, lost), change)
                touched.append(reservation)
    return touched


def _entry(reservation: Reservation, attempted: Attempted) -> LedgerEntry:
    return entry_of(
        reservation, tenant=attempted.tenant, job=attempted.job, n=attempted.n, backend=attempted.backend,
        model=attempted.model, at=attempted.at,
    )  # fmt: skip
