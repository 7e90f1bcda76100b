"""What follows a finished attempt: `done`, or `retry` with the whole history. Pure, and derived from the stored
`attempted` alone, so everybody who finishes an attempt says the same (rule 4).
"""

from __future__ import annotations

import msgspec

from actors.course import attempt_of
from messages import Attempt, Attempted, Correction, Done, Exclusion, Failover, Needs, Problem, Retry, Work

NEVER_SPENT = ("not_started",)
"""Outcomes that do not count as an attempt, and tell against nobody."""
REFUSED = "bad_request"
"""The request itself is wrong, as a backend says, or as we found before we called one. See `is_final`."""
NOT_COUNTED = (*NEVER_SPENT, "rate_limited")
"""Outcomes that do not count against `max_attempts`. Who is asked to come later has cost nobody anything, and its backend's
breaker keeps it away until then; the deadline bounds how often that may be."""
ANSWERED = ("server_error", "invalid_structure", "missing_field", "empty", "validator_hard_fail")
"""Outcomes for which the request itself may be to blame: the backend was there and answered."""
UNHEARD = ("executor_lost", "connection_error", "timeout")
"""Outcomes of calls whose end their backend did not tell: it may still be at work for them."""
AWAY = frozenset({502, 503, 504})
"""Statuses with which something before the backend says that it does not answer."""
MOST_ATTEMPTS = 24
"""So many attempts a job's history holds; of more, the oldest that neither count nor cost anything are left out."""
LEAST_WAIT_SECONDS = 1.0
"""The least wait after an attempt that does not count, but for the first that nobody made."""
MOST_WAIT_SECONDS = 30.0
NOT_AGAIN = ("account", "unknown_model", REFUSED)
"""This backend, or this model of it, can't serve the job at all, however often it is asked."""
WHOLE_BACKEND = ("connection_error", "account", "executor_lost", "interrupted", REFUSED)
"""Outcomes that tell against every model of a backend; the others tell against the one that was asked. A second opinion on a
refusal is another backend's."""


LEFT_ALONE_SECONDS = 60.0
"""So long a job stays away from a backend where somebody has interrupted it: they want that GPU now."""


def spent(attempts: tuple[Attempt, ...]) -> int:
    """How many attempts count. A refusal is none: who refuses a request has not tried it."""
    return sum(attempt.outcome not in (*NOT_COUNTED, REFUSED) for attempt in attempts)


def is_final(attempts: tuple[Attempt, ...]) -> bool:
    """Whether the last attempt shows that no backend would take the request: we found it wrong ourselves, or a second backend
    refuses it as the first did. Backends differ in what they take, so one alone is not believed (`unheard`).
    """
    last = attempts[-1] if attempts else None
    if last is None or last.outcome != REFUSED:
        return False
    ours = last.problem is not None and last.problem.status is None
    return ours or len({attempt.backend for attempt in attempts if attempt.outcome == REFUSED}) > 1


def unheard(attempts: tuple[Attempt, ...]) -> Attempt | None:
    """The refusal that waits for a second opinion; None: there is none."""
    return next((attempt for attempt in attempts if attempt.outcome == REFUSED), None)


def answered(outcome: str, problem: Problem | None) -> bool:
    """Whether the backend answered, and the request may be to blame for what came."""
    return outcome in ANSWERED and (problem is None or problem.status not in AWAY)


def history(work: Work, attempted: Attempted) -> tuple[Attempt, ...]:
    """All finished attempts of the job, this one included, so that an event can hold them: of very many, those that count, that
    cost something, and the latest.
    """
    right = {one.n: one.billed_microdollars for one in attempted.corrections}
    before = tuple(
        msgspec.structs.replace(one, billed_microdollars=right[one.n], unpriced=False) if one.n in right else one
        for one in work.attempts
    )
    return trimmed((*before, attempt_of(attempted)))


def trimmed(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts without the oldest one that tells least, if there are too many for an event."""
    if len(attempts) <= MOST_ATTEMPTS:
        return attempts
    told = first_problem(attempts)
    for at, one in enumerate(attempts[:-1]):
        if one.outcome in NOT_COUNTED and not one.billed_microdollars and (told is None or one.problem is not told):
            return (*attempts[:at], *attempts[at + 1 :])
    return attempts


def corrected(lost: Attempted, correction: Correction) -> Attempted:
    """The record of an attempt with what it turned out to have used."""
    return msgspec.structs.replace(
        lost, billed_microdollars=correction.billed_microdollars, counted_tokens=correction.counted_tokens,
        counted_gpu_milliseconds=correction.counted_gpu_milliseconds, unpriced=False,
    )  # fmt: skip


def left_behind(attempts: tuple[Attempt, ...], backend: str) -> tuple[int, ...]:
    """The rounds whose calls a backend may still have: its latest of the job, as far as it did not say how they ended."""
    found: list[int] = []
    for attempt in reversed(attempts):
        if attempt.backend != backend or attempt.outcome in NEVER_SPENT:
            continue
        if attempt.outcome not in UNHEARD:
            break
        found.append(attempt.n)
    return tuple(reversed(found))


def wait_after(attempts: tuple[Attempt, ...], failover: Failover) -> float:
    """Seconds between the last attempt and the next one.

    The policy's own wait follows every attempt that somebody made. What does not count against `max_attempts` is bounded by
    the deadline alone, so there is a least time between two of them.
    """
    if attempts[-1].outcome in NEVER_SPENT:
        idle = 0
        for attempt in reversed(attempts):
            if attempt.outcome not in NEVER_SPENT:
                break
            idle += 1
        return min(LEAST_WAIT_SECONDS * 2.0 ** (idle - 2), MOST_WAIT_SECONDS) if idle > 1 else 0.0
    if attempts[-1].outcome in ("executor_lost", REFUSED):
        return 0.0  # Nothing has to recover there: time was lost already, or another backend is asked.
    made = sum(attempt.outcome not in (*NEVER_SPENT, REFUSED) for attempt in attempts)
    wait = failover.wait_before(made + 1)
    return wait if attempts[-1].outcome not in NOT_COUNTED else max(wait, LEAST_WAIT_SECONDS)


def first_problem(attempts: tuple[Attempt, ...]) -> Problem | None:
    """The first attempt's own error: what the caller gets to see when all fail (requirement D2)."""
    return next((a.problem for a in attempts if a.problem and a.outcome not in NEVER_SPENT), None)


def needed(needs: Needs, attempts: tuple[Attempt, ...]) -> Needs:
    """What the job needs, its input as long as a backend has counted it that refused it for its length, if that is more."""
    counted = max((a.problem.input_tokens or 0 for a in attempts if a.problem), default=0)
    return needs if counted <= needs.input_tokens else msgspec.structs.replace(needs, input_tokens=counted)


def exclusion(failed: Attempt | Attempted) -> Exclusion:
    """Who the job must not be sent to again after this attempt."""
    model = "" if failed.outcome in WHOLE_BACKEND else failed.model
    until = 0.0
    if failed.outcome == "interrupted" and isinstance(failed, Attempted):
        until = failed.at + LEFT_ALONE_SECONDS
    return Exclusion(backend=failed.backend, model=model, until=until, reason=failed.outcome)


def in_force(exclusions: tuple[Exclusion, ...], now: float) -> tuple[Exclusion, ...]:
    """The exclusions that still hold, of each backend's model the longest alone: as many as there are models at most."""
    found: dict[tuple[str, str], Exclusion] = {}
    for one in exclusions:
        if one.until != 0.0 and one.until <= now:
            continue
        before = found.get((one.backend, one.model))
        if before is None or (before.until != 0.0 and (one.until == 0.0 or one.until > before.until)):
            found[one.backend, one.model] = one
    return tuple(found.values())


def cost_of(attempts: tuple[Attempt, ...]) -> int | None:
    """Micro-dollars of all attempts together; None: one ran at a price that nobody knows."""
    if any(attempt.unpriced for attempt in attempts):
        return None
    return sum(attempt.billed_microdollars for attempt in attempts)


def successor(work: Work, attempted: Attempted) -> Done | Retry | None:
    """What comes after `attempted`; None when somebody else's `done` has ended the job."""
    if attempted.outcome == "aborted":
        return None
    attempts = history(work, attempted)
    slip, failover = work.slip, work.failover
    cost = cost_of(attempts)
    if attempted.outcome == "ok":
        return Done(
            tenant=slip.tenant, job=slip.job, ending="succeeded", result=attempted.result, attempts=attempts,
            backend=attempted.backend, model=attempted.model, usage=attempted.usage, guardrails=work.met,
            cost_microdollars=cost,
            submitted_at=slip.submitted_at, at=attempted.at,
        )  # fmt: skip
    used = spent(attempts)
    wait = wait_after(attempts, failover)
    over = attempted.outcome == "expired" or attempted.at >= slip.deadline_at
    late = over or attempted.at + wait >= slip.deadline_at
    if is_final(attempts) or used >= failover.max_attempts or late:
        problem = first_problem(attempts) or attempted.problem
        if late and problem is None:
            problem = Problem(reason="expired", message="the deadline came before an attempt could be made")
        return Done(
            tenant=slip.tenant, job=slip.job, ending="expired" if over else "failed",
            problem=problem, attempts=attempts, backend=attempted.backend, model=attempted.model, guardrails=work.met,
            cost_microdollars=cost, submitted_at=slip.submitted_at, at=attempted.at,
        )  # fmt: skip
    excluded = in_force(work.excluded, attempted.at)
    if attempted.outcome not in NOT_COUNTED:
        excluded = in_force((*excluded, exclusion(attempted)), attempted.at)
    cause = attempted.problem or Problem(reason=attempted.outcome, message=f"{work.backend}: {attempted.outcome}")
    return Retry(
        tenant=slip.tenant, job=slip.job, n=work.n + 1, slip=slip, attempts=attempts, excluded=excluded,
        not_before=attempted.at + wait if wait else 0.0, cause=cause, at=attempted.at,
    )  # fmt: skip
