"""The circuit breaker: a pure fold of attempts in stream order. Numbers follow the field's practice for sparse traffic.

Two kinds exist: of one model on one backend, and of the backend's account (model `*`), which holds for all its models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

import msgspec

from actors.guardrail import breaker_window as windows
from actors.settings import BreakerRules
from actors.succession import answered
from messages import Attempted, Breaker
from messages.fleet import ALL_MODELS, BreakerCause

COUNTED = (
    "timeout", "connection_error", "server_error", "overloaded", "invalid_structure", "missing_field", "empty",
)  # fmt: skip
"""Outcomes that are the backend's fault. A wrong request, an abort, a deadline, the end of a budget's time or an unknown model is
not; nor is an executor's death, which would otherwise shut every backend it served to the others as well."""
ONLY_CHANGED = ("account", "manual")
"""Causes that somebody has to change: nothing gets through meanwhile, not even in panic."""
LEAST_LIMIT_SECONDS = 1.0
"""A backend that asks to be left alone is left alone for so long at least: jobs wait for it without an end but their deadline."""
MOST_SUSPECTS = 16
"""So many failing requests are told apart."""
State = Literal["closed", "open", "half-open", "probing"]


# ------------------------------------------------------------------------------------------------------ how it stands


def is_open(breaker: Breaker | None, now: float) -> bool:
    """Nobody gets through."""
    return breaker is not None and now < breaker.open_until


def is_half_open(breaker: Breaker | None, now: float) -> bool:
    """The time is over, but nothing has succeeded since: one probe at a time."""
    return breaker is not None and breaker.times_opened > 0 and now >= breaker.open_until


def state(breaker: Breaker, now: float) -> State:
    """How it stands, in a word."""
    if is_open(breaker, now):
        return "open"
    if not is_half_open(breaker, now):
        return "closed"
    return "probing" if lease_is_taken(breaker, now) else "half-open"


# ---------------------------------------------------------------------------------------------------------- the lease


def lease_is_taken(breaker: Breaker, now: float) -> bool:
    """Somebody has said that it probes, a short time ago."""
    return bool(breaker.probe_job) and now < breaker.probe_until


def with_lease(breaker: Breaker, rules: BreakerRules, tenant: str, job: str, n: int, now: float) -> Breaker:
    """The breaker with its probe lease bound to one attempt."""
    return msgspec.structs.replace(
        breaker, probe_tenant=tenant, probe_job=job, probe_n=n, probe_until=now + rules.lease_seconds
    )


def holds_lease(breaker: Breaker, tenant: str, job: str, n: int) -> bool:
    """Whether the lease belongs to this attempt."""
    return (breaker.probe_tenant, breaker.probe_job, breaker.probe_n) == (tenant, job, n)


def without_lease(breaker: Breaker) -> Breaker:
    """The breaker with nobody probing."""
    return msgspec.structs.replace(breaker, probe_tenant="", probe_job="", probe_n=0, probe_until=0.0)


# ----------------------------------------------------------------------------------------------------------- the fold


def timed(attempted: Attempted, stored_at: float) -> Attempted:
    """The attempt with the time at which the server stored its end, so that no clock but one opens a breaker."""
    if stored_at <= 0 or attempted.at == stored_at:
        return attempted
    return msgspec.structs.replace(attempted, at=stored_at)


def fold(breaker: Breaker | None, attempted: Attempted, seq: int, rules: BreakerRules) -> Breaker | None:
    """The breaker of a model after one more attempt; None when nothing changes.

    Events at or before `through_seq` are ignored. The end of a probe's attempt ends the lease, however it ended.
    Overlapping reasons keep the later `open_until`. What fails while it is open was on its way before: that is no further
    opening, or a queue of such calls would double the time with each of them.
    """
    if breaker is not None and seq <= breaker.through_seq:
        return None
    before = breaker or Breaker(backend=attempted.backend, model=attempted.model)
    after = _ended(before, attempted)
    if _failed(attempted, rules):
        after = _after_failure(after, attempted, rules)
    elif attempted.outcome == "ok":
        recent = windows.counted(after.recent, attempted.at, rules, failures=0)
        if _proves(before, attempted):
            after = closed(after, attempted.at)
            recent = windows.counted((), attempted.at, rules, failures=0)
        elif before.times_opened == 0:
            after = msgspec.structs.replace(after, failures_in_row=0, suspects=(), suspected_at=0.0)
        after = msgspec.structs.replace(after, recent=recent)
    elif attempted.outcome == "rate_limited":
        after = _after_limit(after, attempted, rules)
    return None if after == before else msgspec.structs.replace(after, through_seq=seq)


def fold_account(
    breaker: Breaker | None, attempted: Attempted, seq: int, rules: BreakerRules, executors: Sequence[str] = ()
) -> Breaker | None:
    """The breaker of a backend's account after one more attempt; None when nothing changes.

    `executors` are those that serve the backend now: whoever comes later may have another key. Without a change one trial
    call looks again after `account_seconds`. A call that began before it closed last says nothing about what holds now.
    """
    if breaker is not None and seq <= breaker.through_seq:
        return None
    if breaker is None and attempted.outcome != "account":
        return None
    before = breaker or Breaker(backend=attempted.backend, model=ALL_MODELS)
    after = _ended(before, attempted)
    if attempted.outcome == "account" and _began(attempted) >= before.quiet_since and before.cause != "manual":
        suspected = _suspected(before, attempted, rules)
        if suspected is not None and not is_open(before, attempted.at):
            return msgspec.structs.replace(suspected, through_seq=seq)
        why = attempted.problem.message if attempted.problem else "account unusable"
        there = before.executors if is_open(before, attempted.at) else tuple(executors)
        after = _opened(after, "account", attempted.at + rules.account_seconds, why, attempted.at, before.strikes)
        after = msgspec.structs.replace(after, executors=there, suspects=(), suspected_at=0.0)
    elif attempted.outcome == "ok" and _proves(before, attempted):
        after = closed(after, attempted.at)
    elif attempted.outcome == "ok" and before.suspects:
        after = msgspec.structs.replace(after, suspects=(), suspected_at=0.0)  # So it was not the account.
    return None if after == before else msgspec.structs.replace(after, through_seq=seq)


def _suspected(before: Breaker, attempted: Attempted, rules: BreakerRules) -> Breaker | None:
    """The account's breaker with one more request that was refused in words that may be about what it held; None: the account it
    is, since the status says so, or since another request was refused like that a moment ago.

    Anybody's prompt, tool or picture may make a server speak of a key or of money.
    """
    status = attempted.problem.status if attempted.problem else None
    if status is None or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED):
        return None
    known = before.suspects if attempted.at - before.suspected_at <= rules.account_seconds else ()
    request = _request(attempted)
    if any(one != request for one in known):
        return None
    return msgspec.structs.replace(before, suspects=(request,), suspected_at=attempted.at)


def _request(attempted: Attempted) -> str:
    """What tells its request from others."""
    return attempted.request or f"{attempted.tenant}/{attempted.job}"


def only_counted(before: Breaker, after: Breaker) -> bool:
    """Whether nothing but the number of calls has changed."""
    return msgspec.structs.replace(after, recent=before.recent, through_seq=before.through_seq) == before


def _failed(attempted: Attempted, rules: BreakerRules) -> bool:
    """Whether it counts as a failure of the backend."""
    if attempted.outcome == "ok":
        return bool(rules.slow_seconds) and (attempted.latency_seconds or 0.0) >= rules.slow_seconds
    return attempted.outcome in COUNTED


def _began(attempted: Attempted) -> float:
    return attempted.at if attempted.started_at is None else attempted.started_at


def _ended(breaker: Breaker, attempted: Attempted) -> Breaker:
    """Without the lease, when it was this attempt's."""
    mine = bool(breaker.probe_job) and holds_lease(breaker, attempted.tenant, attempted.job, attempted.n)
    return without_lease(breaker) if mine else breaker


def _proves(breaker: Breaker, attempted: Attempted) -> bool:
    """Whether a success closes it: not one that began before it opened, and not what a hand has opened."""
    return breaker.times_opened > 0 and breaker.cause != "manual" and _began(attempted) >= breaker.opened_at


def _after_failure(before: Breaker, attempted: Attempted, rules: BreakerRules) -> Breaker:
    at = attempted.at
    remembered = windows.kept(before.recent, windows.minute_of(at), rules)
    if not any(one.failures for one in remembered):
        before = msgspec.structs.replace(before, failures_in_row=0)
    more, before = _counted(before, attempted, rules)
    if not more:
        return before
    in_row = before.failures_in_row + more
    recent = windows.counted(remembered, at, rules, failures=more)
    after = msgspec.structs.replace(before, failures_in_row=in_row, recent=recent)
    if is_open(before, at):
        return after
    if before.times_opened > 0:  # Half-open: one that began before it opened is no news.
        opens = _began(attempted) >= before.opened_at
    else:
        opens = in_row >= rules.failures_in_row or windows.too_many(recent, rules)
    if not opens:
        return after
    what = "slow" if attempted.outcome == "ok" else attempted.outcome
    reason = f"{in_row} failures in a row, last: {what}"
    if in_row < rules.failures_in_row and before.times_opened == 0:
        calls, failures = windows.totals(recent)
        reason = f"{failures} failures in {calls} calls, last: {what}"
    strikes = remembered_strikes(before, at, rules)
    until = at + open_time(rules, strikes, _salt(attempted))
    return _opened(after, "failures", until, reason, at, strikes + 1)


def _counted(before: Breaker, attempted: Attempted, rules: BreakerRules) -> tuple[int, Breaker]:
    """How many failures one more adds, and the breaker that knows which requests have failed.

    Where the backend did not answer it is to blame, and each failure counts. Where it answered, the request may be: each
    distinct request counts once, and none as long as it is the only one that fails. With the second one both count.
    """
    at = attempted.at
    known = before.suspects if at - before.suspected_at <= rules.window_seconds else ()
    request = _request(attempted)
    after = msgspec.structs.replace(
        before, suspects=(*(one for one in known if one != request), request)[-MOST_SUSPECTS:], suspected_at=at
    )
    held_back = len(known) == 1 and known[0] != request and before.failures_in_row == 0
    if not answered(attempted.outcome, attempted.problem):
        return 1 + held_back, after
    return (0, after) if request in known or not known else (1 + held_back, after)


def _after_limit(before: Breaker, attempted: Attempted, rules: BreakerRules) -> Breaker:
    """It asked to be left alone. Only where it did not say for how long is it an opening that doubles the next one."""
    if before.cause == "manual":
        return before
    at = attempted.at
    asked = attempted.problem.retry_after_seconds if attempted.problem else None
    if asked is not None:
        wait, strikes = min(max(asked, LEAST_LIMIT_SECONDS), rules.longest_wait_seconds), before.strikes
    elif is_open(before, at):
        wait, strikes = open_time(rules, max(0, before.strikes - 1), _salt(attempted)), before.strikes
    else:
        known = remembered_strikes(before, at, rules)
        wait, strikes = open_time(rules, known, _salt(attempted)), known + 1
    return _opened(before, "rate_limited", at + wait, "rate limited", at, strikes)


def _opened(before: Breaker, cause: BreakerCause, until: float, reason: str, at: float, strikes: int) -> Breaker:
    """Open, for the longest of all reasons that hold; while it is open already, one more reason is no further opening."""
    again = is_open(before, at)
    if again and until <= before.open_until:
        cause, reason = before.cause, before.reason
    return msgspec.structs.replace(
        before, open_until=max(until, before.open_until), opened_at=max(at, before.opened_at), strikes=strikes,
        times_opened=max(1, before.times_opened + (not again)), cause=cause, reason=reason[:200],
    )  # fmt: skip


def open_time(rules: BreakerRules, strikes: int, salt: str) -> float:
    """For how many seconds it opens: doubled by each strike up to a longest time, with jitter from a hash of the event."""
    base = min(rules.open_seconds * 2 ** min(strikes, 32), rules.longest_open_seconds)
    share = int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=4).digest(), "big") / 2**32
    return base * (1 + rules.jitter * (share - 0.5))


def remembered_strikes(breaker: Breaker, at: float, rules: BreakerRules) -> int:
    """Earlier openings that still count: one less for every quiet stretch since it closed, or since its time was over."""
    quiet = at - max(breaker.quiet_since, breaker.open_until)
    return max(0, breaker.strikes - int(max(0.0, quiet) // rules.forget_seconds))


def _salt(attempted: Attempted) -> str:
    return f"{attempted.tenant}/{attempted.job}/{attempted.n}"


def closed(breaker: Breaker, at: float) -> Breaker:
    """Closed from this time on. Its strikes are kept for a while; its failures and its lease are not."""
    return Breaker(
        backend=breaker.backend, model=breaker.model, through_seq=breaker.through_seq, strikes=breaker.strikes,
        quiet_since=max(at, breaker.quiet_since), by=breaker.by,
    )  # fmt: skip
