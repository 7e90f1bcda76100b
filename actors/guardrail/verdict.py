"""What follows from a stored verdict: the work item, the next round, or the end. Pure, so whoever continues says the same."""

from __future__ import annotations

from actors.guardrail.held import held
from actors.succession import first_problem, spent
from messages import Decided, Done, Exclusion, Granted, Held, Problem, Rerouted, Retry, Skipped, Work

PATIENCE_SECONDS = 1.0
"""Wait before the next round when every candidate was refused; doubles with each extra round."""
LONGEST_PATIENCE_SECONDS = 30.0
OVER_BUDGET = "over_budget"
"""Reason of a round in which budgets alone stood in the way."""
ROLLOVER_SECONDS = 0.25
"""So long after the beginning of a window a job looks again: clocks differ a little."""


def work_of(decided: Decided, granted: Granted) -> Work:
    """The work item of a granted candidate."""
    chosen = next(c for c in decided.ranking if c.backend == granted.backend and c.model == granted.model)
    return Work(
        tenant=decided.tenant,
        job=decided.job,
        n=decided.n,
        backend=chosen.backend,
        model=chosen.model,
        slip=decided.slip,
        attempts=decided.attempts,
        excluded=decided.excluded,
        reserved=granted.reserved,
        failover=decided.failover,
        probe=granted.probe,
        worst_case_microdollars=chosen.worst_case_microdollars,
        price=chosen.known.price,
        max_output_tokens=chosen.max_output_tokens,
        parameters=chosen.parameters,
        required_fields=decided.plan.required_fields,
    )


def rerouted(decided: Decided, granted: Granted) -> Rerouted | None:
    """What the user is told before a further attempt starts: what failed, where the job goes, what changes."""
    if not decided.attempts:
        return None
    last = decided.attempts[-1]
    chosen = next(c for c in decided.ranking if c.backend == granted.backend and c.model == granted.model)
    model = (f"model {last.model} -> {chosen.model}",) if last.model != chosen.model else ()
    return Rerouted(
        tenant=decided.tenant,
        job=decided.job,
        n=decided.n,
        from_backend=last.backend,
        to_backend=chosen.backend,
        cause=last.problem or Problem(reason=last.outcome, message=f"{last.backend}: {last.outcome}"),
        changes=(*model, *chosen.changes),
        at=granted.at,
    )


def refusal(decided: Decided, granted: Granted) -> Retry | Held | Done:
    """The next round after a refusal, or the end when the wait for it would outlast the deadline.

    No attempt was spent; who was refused for a time stays excluded for it. When budgets alone stood in the way, the job gets
    a second look after a moment, since what others are just giving back counts as held; then the verdict's `when_over` holds.
    """
    excluded = decided.excluded + tuple(
        Exclusion(backend=skip.backend, model=skip.model, until=skip.until, reason=skip.reason)
        for skip in granted.skipped
        if skip.until > granted.at
    )
    rounds = max(0, decided.n - 1 - spent(decided.attempts))
    wait = decided.wait_seconds or min(PATIENCE_SECONDS * 2**rounds, LONGEST_PATIENCE_SECONDS)
    cause = _cause(granted, decided)
    ends = False
    if granted.when_over is not None:
        second = decided.cause is not None and decided.cause.reason == OVER_BUDGET
        final = second or granted.hopeless or granted.at + PATIENCE_SECONDS >= decided.slip.deadline_at
        if final and granted.when_over == "ask":
            return held(decided, granted, cause)
        ends = final and granted.when_over == "fail"
        wait = granted.room_at + ROLLOVER_SECONDS - granted.at if final and not ends else PATIENCE_SECONDS
    if ends or granted.at + wait >= decided.slip.deadline_at:
        return Done(
            tenant=decided.tenant,
            job=decided.job,
            ending="failed",
            problem=first_problem(decided.attempts) or cause,
            attempts=decided.attempts,
            cost_microdollars=sum(attempt.billed_microdollars for attempt in decided.attempts),
            submitted_at=decided.slip.submitted_at,
            at=granted.at,
        )
    return Retry(
        tenant=decided.tenant,
        job=decided.job,
        n=decided.n + 1,
        slip=decided.slip,
        attempts=decided.attempts,
        excluded=excluded,
        not_before=granted.at + wait,
        cause=cause,
        at=granted.at,
    )


def _cause(granted: Granted, decided: Decided) -> Problem:
    skipped = granted.skipped
    if not skipped:
        return Problem(reason="no_backend", message=decided.reason)
    reason = OVER_BUDGET if granted.when_over is not None else "refused"
    return Problem(reason=reason, message="; ".join(f"{_name(skip)}: {skip.reason}" for skip in skipped))


def _name(skip: Skipped) -> str:
    return f"{skip.backend}/{skip.model}" if skip.model else skip.backend
