"""The ledger: budget counters in the server. Add the worst case, look at the total, take it back if it is too much."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple, TypeVar

import msgspec

from actors.guardrail.state import Booked
from bus import codec
from bus.bus import Bus, Conflict, Record
from bus.topology import FACTS, LEDGER
from messages import BudgetState, LedgerEntry, Reservation, token

M = TypeVar("M", bound=msgspec.Struct)
Key = bytes
"""Names one hold: the same for its reservation and its end."""
EVERYTHING = LEDGER.subjects[0]
_PARTS: Final = {"reserve": "hold", "release": "end", "settle": "end", "correct": "correction"}
"""Of each of these a hold has one at most."""
REMEMBERED_SECONDS = LEDGER.duplicate_window_seconds / 2
"""The server may have forgotten the id of what was caused longer ago, and would count it again: after a long outage."""


class Line(NamedTuple):
    """One entry, as far as those who follow the ledger must know it."""

    seq: int
    stored_at: float
    key: Key
    begins: bool
    """It is a reservation; otherwise the end of one."""
    counter: str
    at: float
    """When it was caused."""


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

    async def correct(self, entry: LedgerEntry, change: int) -> None:
        """Add what turned out to be used beside what was settled; negative: less was used."""
        await self._add(change, _as(entry, "correct"))

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

    async def lines(self, after: int) -> AsyncIterator[Line]:
        """All entries behind a sequence, in order, up to what is there now."""
        async for record in self._bus.read(LEDGER.name, EVERYTHING, from_seq=after + 1):
            yield _line(record)[0]

    async def line(self, seq: int) -> tuple[Line, LedgerEntry] | None:
        """One entry; None when it is not there any more."""
        record = await self._bus.get(LEDGER.name, seq)
        return _line(record) if record is not None else None

    async def last_seq(self, counter: str) -> int:
        """The sequence of a counter's latest entry; 0: it has none."""
        record = await self._bus.last(LEDGER.name, counter)
        return record.seq if record is not None else 0

    async def clear(self, counter: str, before_seq: int = 0) -> None:
        """Forget a counter, or (`before_seq`) what happened to it before; its total stays as long as an entry does."""
        await self._bus.purge(LEDGER.name, counter, before_seq=before_seq)

    async def drop(self, state: BudgetState) -> None:
        """Remove what was told of a budget's window, unless another window's was told since."""
        record = await self._bus.last(FACTS.name, state.subject)
        if record is None:
            return
        if not record.data or codec.decode(BudgetState, record.data, record.headers).counter == state.counter:
            await self.forget(record)

    def facts(self) -> AsyncIterator[Record]:
        """All facts as they are stored, those written longest ago first; one without a value is about to be removed."""
        return self._bus.read(FACTS.name, FACTS.subjects[0])

    async def forget(self, record: Record) -> None:
        """Remove a fact as it was read; nothing happens when it was written to since.

        An empty value goes before, since nobody is told of a removal.
        """
        seq = record.seq
        if record.data:
            try:
                seq = await self._bus.put_fact(record.subject, b"", expected_revision=seq)
            except Conflict:
                return
        await self._bus.purge(FACTS.name, record.subject, before_seq=seq + 1)

    async def mark(self, key: str, kind: type[M]) -> M | None:
        """What was left under a key; None when nothing was, or nothing of this kind."""
        data = await self._bus.get_object(key)
        try:
            return msgspec.json.decode(data, type=kind) if data is not None else None
        except msgspec.DecodeError:
            return None

    async def leave(self, key: str, mark: msgspec.Struct) -> None:
        """Leave something for others, or for a later start."""
        await self._bus.put_object(key, msgspec.json.encode(mark))

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
        step, candidate = _PARTS[entry.step], f"{token(entry.backend)}/{token(entry.model or '-')}"
        msg_id = f"{step}/{token(entry.tenant)}/{token(entry.job)}/{entry.n}/{candidate}/{entry.counter}/{entry.hold}"
        return await self._bus.add(
            entry.counter, amount, msg_id=msg_id, headers={codec.LEDGER_HEADER: codec.encode(entry).decode()}
        )


def key_of(entry: LedgerEntry) -> Key:
    """Which hold an entry is about."""
    told = "\0".join((entry.counter, entry.tenant, entry.job, str(entry.n), entry.backend, entry.model, entry.hold))
    return hashlib.blake2b(told.encode(), digest_size=16).digest()


def _line(record: Record) -> tuple[Line, LedgerEntry]:
    data, headers = codec.body_of(record.data, record.headers)
    entry = codec.decode(LedgerEntry, data, headers)
    return Line(record.seq, record.time, key_of(entry), entry.step == "reserve", record.subject, entry.at), entry


def _identity(entry: LedgerEntry) -> tuple[object, ...]:
    return _PARTS[entry.step], entry.tenant, entry.job, entry.n, entry.backend, entry.model, entry.hold


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
