"""Where a job is, from its stored events: its state, what it waits for, and what it has been through. Pure.

| state | the job |
|---|---|
| `choosing` | is accepted, and a round of it is being decided |
| `queued` | has a backend and waits for a slot there |
| `running` | is being worked on |
| `waiting` | can't run now, and goes on by itself: with what it waits for, or when a pause is over |
| `held` | waits for a person, because everybody who could run it is over budget |
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from actors.amounts import amount
from messages import Analyzed, Attempt, Attempted, Awaited, Due, Granted, Held, Retry, Started, Usage
from messages.fleet import ALL_MODELS

OPEN = ("choosing", "queued", "running", "waiting", "held")
"""The states of a job that has not ended, in the order in which it comes to them."""
_NOTHING = Usage()
NOTHING_NOW = "nothing may run now, waiting for a change: "
"""How the reason of a decision begins that ranks nobody for now."""
MOST_NAMED = 3
"""Of more things that a job waits for only so many are named."""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a job that has not ended: the latest of each kind, and every finished attempt."""

    analyzed: Analyzed | None = None
    granted: Granted | None = None
    started: Started | None = None
    attempted: tuple[Attempted, ...] = ()
    retry: Retry | None = None
    due: Due | None = None
    held: Held | None = None

    @property
    def holds(self) -> Held | None:
        """The hold that the job is in."""
        held = self.held
        return held if held is not None and (self.retry is None or self.retry.n <= held.n) else None

    def waits(self, now: float) -> Retry | None:
        """The wait that the job is in."""
        retry = self.retry
        if retry is None or retry.not_before <= now or (self.held is not None and self.held.n >= retry.n):
            return None
        begun = self.granted is not None and self.granted.n >= retry.n
        woken = self.due is not None and self.due.n >= retry.n
        return None if begun or woken else retry


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job is."""

    state: str
    n: int = 0
    """The round it is in."""
    backend: str = ""
    model: str = ""
    since: float | None = None
    waits_for: str = ""
    """In words; empty unless it is waiting or held."""


def standing(course: Course, now: float) -> Standing:
    """Where a job is that has not ended."""
    held, retry, granted = course.holds, course.waits(now), course.granted
    if held is not None:
        return Standing(state="held", n=held.n, since=held.at, waits_for=hold_in_words(held))
    if retry is not None:
        return Standing(state="waiting", n=retry.n, since=retry.at, waits_for=wait_in_words(retry))
    if granted is not None and granted.verdict == "candidate" and not any(a.n >= granted.n for a in course.attempted):
        started = course.started
        runs = started is not None and started.n == granted.n and started.purpose == "run"
        return Standing(
            state="running" if runs else "queued", n=granted.n, backend=granted.backend, model=granted.model,
            since=started.at if runs and started is not None else granted.at,
        )  # fmt: skip
    n = max((e.n for e in (granted, course.retry) if e is not None), default=1)
    return Standing(state="choosing", n=n, since=course.analyzed.at if course.analyzed is not None and n == 1 else None)


def attempts_of(attempted: Iterable[Attempted]) -> tuple[Attempt, ...]:
    """The finished attempts of a job as its end tells them, in order."""
    told = sorted(attempted, key=lambda one: one.n)
    right = {found.n: found.billed_microdollars for one in told for found in one.corrections}
    attempts = (attempt_of(one) for one in told)
    return tuple(
        msgspec.structs.replace(one, billed_microdollars=right[one.n], unpriced=False) if one.n in right else one
        for one in attempts
    )


def attempt_of(attempted: Attempted) -> Attempt:
    """A finished attempt as it stands in a job's history."""
    return Attempt(
        n=attempted.n, backend=attempted.backend, model=attempted.model, outcome=attempted.outcome,
        billed_microdollars=attempted.billed_microdollars, unpriced=attempted.unpriced,
        latency_seconds=attempted.latency_seconds, problem=attempted.problem,
        usage=attempted.usage if attempted.usage != _NOTHING else None,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ in words


def hold_in_words(held: Held) -> str:
    """What frees a held job: `a person, budget team: turnout budget raise team, then turnout budget resume j-1`."""
    budgets = ", ".join(held.budgets) or "a budget"
    raised = f"`turnout budget raise {held.budgets[0]} --limit …`, then " if held.budgets else ""
    whose = f" --tenant {held.tenant}" if held.tenant != "default" else ""
    return f"a person, over budget ({budgets}): {raised}`turnout budget resume {held.job}{whose}`"


def wait_in_words(retry: Retry) -> str:
    """What a job waits for, and what would let it go on earlier."""
    if not retry.awaiting:
        return f"the pause before its next attempt to be over: {retry.cause.message}"
    names = list(dict.fromkeys(awaited_in_words(one) for one in retry.awaiting))
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + more


def cause_in_words(retry: Retry) -> str:
    """What ended the round before a wait, without saying once more that it waits."""
    return retry.cause.message.removeprefix(NOTHING_NOW)


def awaited_in_words(awaited: Awaited) -> str:
    """One thing that a job waits for."""
    match awaited.kind:
        case "settlement":
            room = amount(awaited.amount, _unit(awaited))
            return f"room for {room} in budget {awaited.budget}, once what other jobs hold of it is settled"
        case "budget":
            room = amount(awaited.amount, _unit(awaited))
            raised = f"`turnout budget raise {awaited.budget} --limit …`"
            return f"room for {room} in budget {awaited.budget}, in its next window or after {raised}"
        case "breaker":
            what = awaited.name if awaited.model in ("", ALL_MODELS) else f"{awaited.name}/{awaited.model}"
            return f"the breaker of {what} to close (`turnout breaker list {awaited.name}`)"
        case _:
            return f"backend {awaited.name} to take work" if awaited.name else "a backend that can run it"


def _unit(awaited: Awaited) -> str:
    """The unit of a counter: `ledger.<scope>.<holder>.<unit>.<window>`."""
    parts = awaited.name.split(".")
    return parts[-2] if len(parts) > 2 else ""
