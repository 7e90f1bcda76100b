"""The ledger: budget counters in the server. Add the worst case, look at the total, take it back if it is too much."""

from __future__ import annotations

import msgspec

from actors.guardrail.state import Booked
from bus import codec
from bus.bus import Bus
from bus.topology import LEDGER
from messages import LedgerEntry, Reservation, token

Step = str

REMEMBERED_SECONDS = LEDGER.duplicate_window_seconds / 2
"""The server may have forgotten the id of what was caused longer ago, and would count it again: after a long outage."""


class Ledger:
    """Counts on the bus. Every increment is known by its cause, so repeating a step is harmless. Raises the bus's errors."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def reserve(self, reservation: Reservation, entry: LedgerEntry, limit: int) -> bool:
        """Hold an amount; False (and nothing held) when the counter would exceed `limit`."""
        return await self.room(reservation, entry, limit) is None

    async def room(self, reservation: Reservation, entry: LedgerEntry, limit: int) -> int | None:
        """Hold an amount, and None; or hold nothing, and what was left of the limit once it was given back.

        What another who asked for too much has not yet given back counts as held meanwhile. So when enough was left after
        all, it is worth another try, as another hold.
        """
        entry = msgspec.structs.replace(entry, limit=limit)
        total = await self._add(reservation.amount, entry)
        if total <= limit:
            return None
        return limit - await self.release(entry)

    async def release(self, entry: LedgerEntry) -> int:
        """Give a reservation back whole; the total it leaves."""
        return await self._add(-entry.amount, _as(entry, "release"))

    async def settle(self, entry: LedgerEntry, used: int) -> None:
        """Replace a reservation by what was used."""
        await self._add(used - entry.amount, _as(entry, "settle"))

    def now(self) -> float:
        """The server's clock, in seconds since the epoch."""
        return self._bus.now()

    async def booked(self, counter: str, after: int) -> list[Booked]:
        """The entries of a counter behind a sequence, in order."""
        found: list[Booked] = []
        async for record in self._bus.read(LEDGER.name, counter, from_seq=after + 1):
            data, headers = codec.body_of(record.data, record.headers)
            entry = codec.decode(LedgerEntry, data, headers)
            found.append(Booked(record.seq, entry, int(msgspec.json.decode(record.data)["val"])))
        return found

    async def has_ended(self, entry: LedgerEntry, seq: int) -> bool:
        """Whether the reservation stored at `seq` was released or settled, as far back as the stream goes."""
        same = _identity(entry)[1:]
        async for record in self._bus.read(LEDGER.name, entry.counter, from_seq=seq + 1):
            data, headers = codec.body_of(record.data, record.headers)
            later = codec.decode(LedgerEntry, data, headers)
            if later.step != "reserve" and _identity(later)[1:] == same:
                return True
        return False

    async def _stored(self, entry: LedgerEntry) -> int | None:
        """The counter's total when this step was counted before, as far back as the stream goes."""
        async for record in self._bus.read(LEDGER.name, entry.counter):
            data, headers = codec.body_of(record.data, record.headers)
            before = codec.decode(LedgerEntry, data, headers)
            if _identity(before) == _identity(entry):
                return int(msgspec.json.decode(record.data)["val"])
        return None

    async def _add(self, amount: int, entry: LedgerEntry) -> int:
        if self._bus.now() - entry.at > REMEMBERED_SECONDS:
            before = await self._stored(entry)
            if before is not None:
                return before
        # A release and a settlement end a reservation; sharing one id makes them exclude each other. A hold that was given
        # back before the verdict must never be taken for one that still stands, so another limit makes it another hold.
        step = "hold" if entry.step == "reserve" else "end"
        candidate = f"{token(entry.backend)}/{token(entry.model or '-')}"
        msg_id = f"{step}/{token(entry.tenant)}/{token(entry.job)}/{entry.n}/{candidate}/{entry.counter}/{entry.hold}"
        return await self._bus.add(
            entry.counter, amount, msg_id=msg_id, headers={codec.LEDGER_HEADER: codec.encode(entry).decode()}
        )


def _identity(entry: LedgerEntry) -> tuple[object, ...]:
    return entry.step == "reserve", entry.tenant, entry.job, entry.n, entry.backend, entry.model, entry.hold


def _as(entry: LedgerEntry, step: str) -> LedgerEntry:
    return msgspec.structs.replace(entry, step=step, limit=0)


def entry_of(
    reservation: Reservation, *, tenant: str, job: str, n: int, backend: str, model: str, at: float
) -> LedgerEntry:
    """The ledger entry of a reservation; `at` is when it was caused, the same however often the step is repeated."""
    return LedgerEntry(
        step="reserve", budget=reservation.budget, counter=reservation.subject, amount=reservation.amount,
        unit=reservation.unit, hold=reservation.hold, tenant=tenant, job=job, n=n, backend=backend, model=model, at=at,
    )  # fmt: skip
