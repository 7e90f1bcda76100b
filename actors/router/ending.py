"""The end of a job that comes from outside, by a cancel or its deadline: with all that it has been through until then. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from actors.course import Course, attempts_of, cause_in_words, hold_in_words, standing, wait_in_words
from actors.succession import cost_of, first_problem, trimmed
from messages import Done, Problem

MOST_CHARACTERS = 2_000
"""Of the sentence that says why it ended."""


def ended(
    tenant: str, job: str, ending: Literal["expired", "cancelled"], reason: str, course: Course, now: float
) -> Done:
    """How a job ends that was not done; `reason` is what who cancelled it says.

    Its attempts, their cost and the first error stay: what a backend said itself is kept whole.
    """
    attempts = attempts_of(course.attempted)
    first, slip = first_problem(attempts), course.analyzed.slip if course.analyzed is not None else None
    said = reason if ending == "cancelled" else "the job's deadline passed"
    text = f"{said}; {_meanwhile(course, now)}" if course.analyzed is not None else said
    if first is not None:
        text = f"{text}; its first error: {first.message}"
    problem = msgspec.structs.replace(
        first or Problem(reason=ending, message=""), reason=ending, message=text[:MOST_CHARACTERS]
    )  # fmt: skip
    last = attempts[-1] if attempts else None
    kept = attempts
    while (less := trimmed(kept)) != kept:
        kept = less
    return Done(
        tenant=tenant, job=job, ending=ending, problem=problem, attempts=kept, backend=last.backend if last else "",
        model=last.model if last else "", cost_microdollars=cost_of(attempts),
        submitted_at=slip.submitted_at if slip is not None else None, at=now,
    )  # fmt: skip


def _meanwhile(course: Course, now: float) -> str:
    """Where the job was at that moment, and what it waited for."""
    held, there = course.holds, standing(course, now)
    if held is not None:
        return f"it was held for {hold_in_words(held)}: {held.problem.message}"
    retry = course.retry
    if there.state in ("waiting", "choosing") and retry is not None:
        if retry.awaiting:
            return f"it waited for {wait_in_words(retry)}: {cause_in_words(retry)}"
        return (
            f"it was to be tried again after: {retry.cause.message}"
            if not course.attempted
            else "it was to be tried again"
        )
    if there.state == "running":
        return f"{there.backend}/{there.model} was at work on it"
    if there.state == "queued":
        return f"it waited for a slot of {there.backend}/{there.model}"
    return "nobody had decided yet where it runs"
