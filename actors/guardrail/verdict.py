"""What follows from a stored verdict: the work item, the next round, or the end. Pure, so whoever continues says the same."""

from __future__ import annotations

import hashlib

import msgspec

from actors.guardrail.held import held
from actors.guardrail.limits import longest_seconds
from actors.rounds import OVER_BUDGET, STILL_WAITING, counts, extra_rounds
from actors.succession import first_problem
from messages import (
    Attempt,
    Candidate,
    Decided,
    Done,
    Exclusion,
    Granted,
    Held,
    Problem,
    Rerouted,
    Retry,
    Room,
    Skipped,
    Work,
)

PATIENCE_SECONDS = 1.0
"""Wait before the next round when every candidate was refused; doubles with each extra round."""
LONGEST_PATIENCE_SECONDS = 30.0
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
        longest_seconds=longest_seconds(granted.reserved),
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
    """The next round after a refusal, or the end when the wait for it would outlast the deadline.

    No attempt was spent; who was refused for a time stays excluded for it. When budgets alone stood in the way, the job gets
    a second look after a moment, since what others are just giving back counts as held; and one more when less may be asked for
    by then, so that it fits (`softens`). Then the verdict's `when_over` holds.
    Who waited for a window and is refused again waits for the next one.
    """
    excluded = decided.excluded + tuple(
        Exclusion(backend=skip.backend, model=skip.model, until=skip.until, reason=skip.reason)
        for skip in granted.skipped
        if skip.until > granted.at
    )
    wait = decided.wait_seconds or _patience(decided)
    cause = _cause(granted, decided)
    ends = False
    if granted.when_over is not None:
        second = decided.cause is not None and decided.cause.reason == OVER_BUDGET
        final = second or granted.hopeless or granted.at + PATIENCE_SECONDS >= decided.slip.deadline_at
        final = final and not granted.softens
        if final and granted.when_over == "ask":
            return held(decided, granted, cause)
        ends = final and granted.when_over == "fail"
        wait = _until_room(decided, granted) if final and not ends else PATIENCE_SECONDS
        if granted.softens and granted.hopeless:
            wait = 0.0  # What is asked for becomes less: nobody has to give anything back for that.
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
    waited = not counts(decided.cause) and extra_rounds(decided.n, decided.attempts) > 1  # More than a second look.
    if waited and counts(cause):
        cause = msgspec.structs.replace(cause, reason=STILL_WAITING)
    return Retry(
        tenant=decided.tenant,
        job=decided.job,
        n=decided.n + 1,
        slip=decided.slip,
        attempts=decided.attempts,
        excluded=excluded,
        not_before=granted.at + wait,
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


def _patience(decided: Decided) -> float:
    """Seconds until the next look when something other than budgets stands in the way."""
    rounds = min(extra_rounds(decided.n, decided.attempts), 10)
    return min(PATIENCE_SECONDS * 2.0**rounds, LONGEST_PATIENCE_SECONDS)


def _until_room(decided: Decided, granted: Granted) -> float:
    """Seconds until a job looks again because a window begins.

    All who wait would wake at one instant. So each has its own place, by a hash, in a part of the new window that is never
    more than a tenth of it nor `MOST_SPREAD_SECONDS`, and leaves half of what remains until the deadline.
    """
    begins = granted.room_at + ROLLOVER_SECONDS
    part = min(max((granted.room_at - granted.at) / 10, LEAST_SPREAD_SECONDS), MOST_SPREAD_SECONDS)
    part = max(0.0, min(part, (decided.slip.deadline_at - begins) / 2))
    told = f"{decided.tenant}\0{decided.job}\0{decided.n}".encode()
    place = int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") / 2**64
    return max(begins + part * place - granted.at, PATIENCE_SECONDS)


def _cause(granted: Granted, decided: Decided) -> Problem:
    skipped = granted.skipped
    if not skipped:
        return Problem(reason="no_backend", message=decided.reason)
    reason = OVER_BUDGET if granted.when_over is not None else "refused"
    return Problem(reason=reason, message="; ".join(f"{_name(skip)}: {skip.reason}" for skip in skipped))


def _name(skip: Skipped) -> str:
    return f"{skip.backend}/{skip.model}" if skip.model else skip.backend
