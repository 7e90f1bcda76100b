"""What follows from a stored verdict: the work item, the next round, or the end. Pure, so whoever continues says the same."""

from __future__ import annotations

from actors.guardrail.held import held
from actors.guardrail.limits import longest_seconds
from actors.met import met_of
from actors.rounds import OVER_BUDGET, PACE_SECONDS, look_again, place
from actors.succession import cost_of, first_problem, in_force
from messages import (
    Attempt,
    Awaited,
    Candidate,
    Decided,
    Done,
    Exclusion,
    Granted,
    Held,
    Problem,
    Queued,
    Rerouted,
    Retry,
    Room,
    Skipped,
    Work,
)

ROLLOVER_SECONDS = 0.25
"""So long after the beginning of a window a job looks again at the earliest: clocks differ a little."""
LEAST_SPREAD_SECONDS = 6.0
"""Those who wait for a window look again spread over this time: a tenth of the shortest window, a minute."""
MOST_SPREAD_SECONDS = 60.0
"""The spread grows with the time that was waited, up to this."""


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
        checks=decided.plan.checks,
        met=met_of(decided, granted),
        longest_seconds=longest_seconds(granted.reserved),
    )


def queued(decided: Decided, backend: str = "", seq: int = 0) -> Queued:
    """Where the work of the round lies; nowhere: nobody may run it, or the job had ended."""
    return Queued(tenant=decided.tenant, job=decided.job, n=decided.n, backend=backend, seq=seq)


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
        changes=(*model, *_differences(decided, last, chosen)),
        at=granted.at,
    )


def _differences(decided: Decided, last: Attempt, chosen: Candidate) -> tuple[str, ...]:
    """What is changed for `chosen` and was not for the last attempt, and what was changed for that one alone."""
    everybody = (*decided.ranking, *decided.others)
    before = next((c.changes for c in everybody if (c.backend, c.model) == (last.backend, last.model)), ())
    undone = tuple(f"no longer: {change}" for change in before if change not in chosen.changes)
    return (*(change for change in chosen.changes if change not in before), *undone)


def refusal(decided: Decided, granted: Granted) -> Retry | Held | Done:
    """The next round after a refusal, or the end when nothing that is in the way can change before the deadline.

    No attempt was spent. The job is parked: the round begins when something changes that it waits for, and at `not_before` if
    nobody notices any. When budgets alone stand in the way, the verdict's `when_over` holds, unless room will come once what
    others hold is settled, or less may be asked for in another round, so that it fits (`softens`). Who waited for a window and is
    refused again waits for the next one.
    """
    deadline_at = decided.slip.deadline_at
    cause = _cause(granted, decided)
    settled = granted.when_over is not None and not (granted.settling or granted.softens)
    if settled and granted.when_over == "ask":
        return held(decided, granted, cause)
    awaiting = _awaiting(decided, granted)
    begins = None if settled and granted.when_over == "fail" else _begins(decided, granted, awaiting)
    if begins is None or (begins >= deadline_at and not awaiting):
        return Done(
            tenant=decided.tenant,
            job=decided.job,
            ending="failed",
            problem=first_problem(decided.attempts) or cause,
            attempts=decided.attempts,
            guardrails=met_of(decided, granted),
            cost_microdollars=cost_of(decided.attempts),
            submitted_at=decided.slip.submitted_at,
            at=granted.at,
        )
    excluded = tuple(
        Exclusion(backend=skip.backend, model=skip.model, until=skip.until, reason=skip.reason)
        for skip in granted.skipped
        if skip.until > granted.at and skip.awaits is None
    )
    return Retry(
        tenant=decided.tenant,
        job=decided.job,
        n=decided.n + 1,
        slip=decided.slip,
        attempts=decided.attempts,
        excluded=in_force((*decided.excluded, *excluded), granted.at),
        not_before=min(begins, deadline_at),
        awaiting=awaiting,
        cause=cause,
        rooms=_rooms(decided, granted),
        counted=decided.counted,
        at=granted.at,
    )


def _rooms(decided: Decided, granted: Granted) -> tuple[Room, ...]:
    """What budgets leave, as far as it is known and holds: what is new takes the place of what was."""
    found = {(room.backend, room.model, room.budget): room for room in decided.rooms}
    found |= {(room.backend, room.model, room.budget): room for skip in granted.skipped for room in skip.rooms}
    return tuple(found.values())


def _awaiting(decided: Decided, granted: Granted) -> tuple[Awaited, ...]:
    """What the job waits for: all that kept candidates away for a time, in the decision or in the verdict."""
    found = dict.fromkeys(decided.awaiting)
    found.update(dict.fromkeys(skip.awaits for skip in granted.skipped if skip.awaits is not None))
    return tuple(found)


def _begins(decided: Decided, granted: Granted, awaiting: tuple[Awaited, ...]) -> float | None:
    """When the next round begins at the latest; None: nothing that is in the way ever ends."""
    now = granted.at
    if not decided.ranking:
        return now + decided.wait_seconds
    times = [skip.until for skip in granted.skipped if skip.awaits is None and skip.until > now]
    if granted.room_at:
        times.append(now + _until_room(decided, granted))
    if (
        granted.softens
    ):  # What is asked for becomes less: where that alone is in the way, nobody has to give anything back.
        times.append(now if granted.hopeless else now + PACE_SECONDS)
    if awaiting and (granted.when_over != "wait" or granted.settling):
        at = place(decided.tenant, decided.job, decided.n)
        times.append(now + look_again(now, decided.slip.deadline_at, at))
    return min(times, default=None)


def _until_room(decided: Decided, granted: Granted) -> float:
    """Seconds until a job looks again because a window begins.

    All who wait would wake at one instant. So each has its own place, by a hash, in a part of the new window that is never
    more than a tenth of it nor `MOST_SPREAD_SECONDS`, and leaves half of what remains until the deadline.
    """
    begins = granted.room_at + ROLLOVER_SECONDS
    part = min(max((granted.room_at - granted.at) / 10, LEAST_SPREAD_SECONDS), MOST_SPREAD_SECONDS)
    part = max(0.0, min(part, (decided.slip.deadline_at - begins) / 2))
    at = place(decided.tenant, decided.job, decided.n)
    return max(begins + part * at - granted.at, PACE_SECONDS)


def _cause(granted: Granted, decided: Decided) -> Problem:
    skipped = granted.skipped
    if not skipped:
        return Problem(reason="no_backend", message=decided.reason)
    reason = OVER_BUDGET if granted.when_over is not None else "refused"
    return Problem(reason=reason, message="; ".join(f"{_name(skip)}: {skip.reason}" for skip in skipped))


def _name(skip: Skipped) -> str:
    return f"{skip.backend}/{skip.model}" if skip.model else skip.backend
