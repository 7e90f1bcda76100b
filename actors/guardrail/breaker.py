"""The circuit breaker: a pure fold of attempts in stream order. Numbers follow the field's practice for sparse traffic."""

from __future__ import annotations

import hashlib

import msgspec

from actors.settings import BreakerRules
from messages import Attempted, Breaker

COUNTED = ("timeout", "connection_error", "server_error", "overloaded", "invalid_structure", "empty")
"""Outcomes that are the backend's fault. A wrong request, an abort or an unknown model is not; nor is an executor's death,
which would otherwise shut every backend it served to the others as well."""


def is_open(breaker: Breaker | None, now: float) -> bool:
    """Nobody gets through."""
    return breaker is not None and now < breaker.open_until


def is_half_open(breaker: Breaker | None, now: float) -> bool:
    """The time is over, but nothing has succeeded since: one probe at a time."""
    return breaker is not None and breaker.times_opened > 0 and now >= breaker.open_until


def lease_is_taken(breaker: Breaker, now: float) -> bool:
    """Somebody's probe is under way."""
    return bool(breaker.probe_job) and now < breaker.probe_until


def with_lease(breaker: Breaker, rules: BreakerRules, tenant: str, job: str, n: int, now: float) -> Breaker:
    """The breaker with its probe lease bound to one attempt."""
    return msgspec.structs.replace(
        breaker, probe_tenant=tenant, probe_job=job, probe_n=n, probe_until=now + rules.lease_seconds
    )


def holds_lease(breaker: Breaker, tenant: str, job: str, n: int) -> bool:
    """Whether the lease belongs to this attempt."""
    return (breaker.probe_tenant, breaker.probe_job, breaker.probe_n) == (tenant, job, n)


def _open_time(rules: BreakerRules, times: int, salt: str) -> float:
    base = min(rules.open_seconds * 2**times, rules.longest_open_seconds)
    share = int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=4).digest(), "big") / 2**32
    return base * (1 + rules.jitter * (share - 0.5))


def fold(breaker: Breaker | None, attempted: Attempted, seq: int, rules: BreakerRules) -> Breaker | None:
    """The breaker after one more attempt; None when nothing changes.

    Events at or before `through_seq` are ignored. The end of a probe's attempt ends the lease, however it ended.
    Overlapping reasons keep the later `open_until`. What fails while it is open was on its way before: that is no further
    opening, or a queue of such calls would double the time with each of them.
    """
    if breaker is not None and seq <= breaker.through_seq:
        return None
    before = breaker or Breaker(backend=attempted.backend, model=attempted.model)
    after = msgspec.structs.replace(before, through_seq=seq)
    if holds_lease(before, attempted.tenant, attempted.job, attempted.n):
        after = msgspec.structs.replace(after, probe_tenant="", probe_job="", probe_n=0, probe_until=0.0)
    outcome, problem = attempted.outcome, attempted.problem
    was_open = is_open(before, attempted.at)
    times = before.times_opened - was_open
    salt = f"{attempted.tenant}/{attempted.job}/{attempted.n}"
    if outcome == "ok" and was_open and (attempted.started_at or attempted.at) < before.opened_at:
        pass  # It began before the breaker opened: no news of the backend since.
    elif outcome == "ok":
        after = msgspec.structs.replace(
            after, failures_in_row=0, times_opened=0, open_until=0.0, opened_at=0.0, reason=""
        )
    elif outcome == "rate_limited":
        asked = problem.retry_after_seconds if problem else None
        wait = asked if asked is not None else _open_time(rules, times, salt)
        after = _opened(after, attempted.at + min(wait, rules.account_seconds), "rate limited", attempted.at, times)
    elif outcome == "account":
        why = problem.message if problem else "account unusable"
        after = _opened(after, attempted.at + rules.account_seconds, why, attempted.at, times)
    elif outcome in COUNTED and not (problem and problem.reason == "expired"):  # A short deadline is the job's.
        after = msgspec.structs.replace(after, failures_in_row=before.failures_in_row + 1)
        was_probe = before.times_opened > 0
        if not was_open and (was_probe or after.failures_in_row >= rules.failures_in_row):
            until = attempted.at + _open_time(rules, times, salt)
            reason = f"{after.failures_in_row} failures in a row, last: {outcome}"
            after = _opened(after, until, reason, attempted.at, times)
    same = msgspec.structs.replace(after, through_seq=before.through_seq) == before
    return None if same else after


def _opened(breaker: Breaker, until: float, reason: str, now: float, times: int) -> Breaker:
    longest = max(until, breaker.open_until)
    return msgspec.structs.replace(
        breaker, open_until=longest, opened_at=now, times_opened=times + 1, reason=reason[:200]
    )
