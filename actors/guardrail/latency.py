"""The latency guard: a pure fold of attempts, in stream order, into breaches in a row per target, backend and model."""

from __future__ import annotations

from typing import Literal

import msgspec

from actors.alert_settings import LatencyTarget
from actors.guardrail.alarms import cause_of
from actors.guardrail.breaker_window import minute_of
from messages import Alert, Attempted, LatencyRow
from messages.alerts import NOBODY

MOST_WARNINGS, MOST_ALERTS = 6, 2
"""So many of one row are told per minute, or a flood of slow calls would be a flood of events."""
AGAIN_SECONDS = 600.0
"""A row that goes on is told as an alert again after this."""
SAYS_NOTHING = ("not_started", "interrupted", "bad_request")
"""Outcomes of calls whose time says nothing: nobody was called, somebody stopped it, or the request was wrong."""
Verdict = Literal["met", "missed", ""]


def fits(target: LatencyTarget, attempted: Attempted) -> bool:
    """Whether the target is about this attempt."""
    fields = ("tenant", "workflow", "step", "backend", "model")
    return all(getattr(target, field) in ("", getattr(attempted, field)) for field in fields)


def judged(target: LatencyTarget, attempted: Attempted) -> tuple[Verdict, float]:
    """Whether an attempt met its target, and what it took; empty when that is not known.

    A call that was cut short took at least its time: it can miss a target and never meet one. So did one that an earlier
    attempt had begun. Nor can a call without a first token meet a target for it.
    """
    whole, first = attempted.latency_seconds, attempted.first_token_seconds
    if attempted.outcome in SAYS_NOTHING or whole is None:
        return "", 0.0
    ended = attempted.outcome == "ok" and not attempted.took_up
    if target.of == "first_token":
        if first is not None and not attempted.took_up:
            return ("missed" if first > target.target_seconds else "met"), first
        cut_short = not ended and whole > target.target_seconds
        return ("missed", whole) if cut_short else ("", 0.0)
    if whole > target.target_seconds:
        return "missed", whole
    return ("met", whole) if ended else ("", 0.0)


def row_of(target: LatencyTarget, attempted: Attempted) -> LatencyRow:
    """The empty row an attempt belongs to. Workflows belong to tenants, so each tenant has rows of its own for them."""
    own = target.tenant or target.workflow or target.step
    return LatencyRow(
        target=target.name, tenant=attempted.tenant if own else NOBODY, backend=attempted.backend, model=attempted.model,
        of=target.of, target_seconds=target.target_seconds,
    )  # fmt: skip


def fold(row: LatencyRow, target: LatencyTarget, attempted: Attempted, seq: int) -> LatencyRow:
    """The row after one more attempt; the same one when it is an old event or says nothing.

    Each breach is a warning, and with more than `alert_after` in a row an alert, told again only after AGAIN_SECONDS. In
    one minute at most MOST_WARNINGS and MOST_ALERTS are told, and the rest is counted.
    """
    if seq <= row.through_seq:
        return row
    verdict, measured = judged(target, attempted)
    left_out = 0 if row.telling else row.left_out + bool(row.in_row)
    if verdict == "met" and row.in_row:
        return msgspec.structs.replace(row, through_seq=seq, in_row=0, telling="", alerted_at=0.0, left_out=left_out)
    if verdict != "missed":
        return row
    at, in_row = attempted.at, row.in_row + 1
    minute = max(minute_of(at), row.minute)
    warnings, alerts = (row.warnings, row.alerts) if minute == row.minute else (0, 0)
    telling: Literal["", "warning", "alert"] = ""
    if in_row > target.alert_after:
        if alerts < MOST_ALERTS and (not row.alerted_at or at - row.alerted_at >= AGAIN_SECONDS):
            telling = "alert"
    elif warnings < MOST_WARNINGS:
        telling = "warning"
    return msgspec.structs.replace(
        row, through_seq=seq, in_row=in_row, telling=telling,
        alerted_at=at if telling == "alert" else row.alerted_at, minute=minute,
        warnings=warnings + (telling == "warning"), alerts=alerts + (telling == "alert"),
        left_out=left_out, job_tenant=attempted.tenant, job=attempted.job, n=attempted.n, workflow=attempted.workflow,
        step=attempted.step, of=target.of, target_seconds=target.target_seconds, measured_seconds=measured, at=at,
    )  # fmt: skip


def worth_storing(stored: LatencyRow, after: LatencyRow) -> bool:
    """Whether others must know: something is told, or a row that is stored has ended. What is not told can wait, so that
    even calls that are slow every other time write few facts.
    """
    return bool(after.telling) or (not after.in_row and stored.in_row > 0)


def alert_of(row: LatencyRow) -> Alert | None:
    """What a stored row tells; None when it tells nothing. Derived from the row alone, so everybody says the same."""
    if not row.telling:
        return None
    what = "to the first token" if row.of == "first_token" else "in all"
    where = f"{row.model} on {row.backend}"
    took = f"took {row.measured_seconds:.3g} s {what}, and the target {row.target} is {row.target_seconds:g} s"
    text = f"{where} {took}"
    if row.in_row > 1:
        text += f"; that is {row.in_row} in a row"
    loud = row.telling == "alert"
    return Alert(
        tenant=row.tenant, kind="latency_alert" if loud else "latency_warning",
        cause=cause_of(row.target, row.backend, row.model, str(row.through_seq)), severity="alert" if loud else "warning",
        text=f"{text}.",
        advice="`turnout backends` shows how it does; route this work elsewhere, or give the target more time" if loud else "",
        target=row.target, backend=row.backend, model=row.model, workflow=row.workflow, step=row.step,
        job=row.job, of=row.of, target_seconds=row.target_seconds,
        measured_seconds=row.measured_seconds, in_row=row.in_row, left_out=row.left_out, at=row.at,
    )  # fmt: skip
