"""decide(): filter, score, order, and say why. A pure function of the job, the view, the policy and the given time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from actors.router.candidates import TEMPORARY, candidates
from actors.router.strategies import STRATEGIES
from actors.router.view import View
from actors.succession import NEVER_SPENT, NOT_AGAIN, first_problem, spent
from messages import Attempt, Candidate, Decided, Exclusion, Needs, Problem, Slip

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
"""Seconds to wait when nothing may run now, but something may soon: by number of extra rounds."""


def rank(
    found: Sequence[Candidate], needs: Needs, view: View, failures: Mapping[str, int] = MappingProxyType({})
) -> list[Candidate]:
    """The permitted candidates, best first; equal scores by name. The preferred backend leads when it is permitted.

    `failures` counts how often a backend failed this job, for the last resort: who failed least often comes first.
    """
    name = needs.strategy or view.policy.strategy
    strategy = STRATEGIES.get(name, STRATEGIES["weighted_score"])
    scored: list[Candidate] = []
    for candidate in found:
        if candidate.permitted:
            score, why = strategy(candidate, needs, view.policy)
            scored.append(msgspec.structs.replace(candidate, score=round(score, 6), reason=why))
    preferred = needs.preferred_backend

    def place(c: Candidate) -> tuple[int, bool, float, str, str]:
        return failures.get(c.backend, 0), c.backend != preferred if preferred else False, -c.score, c.backend, c.model

    return sorted(scored, key=place)


def _last_resort(found: Sequence[Candidate], attempts: tuple[Attempt, ...]) -> list[Candidate]:
    """Backends that failed this job before, when nobody else is left and they can serve it at all."""
    never = {attempt.backend for attempt in attempts if attempt.outcome in NOT_AGAIN}
    back = [c for c in found if c.reason.startswith("excluded from this job") and c.backend not in never]
    return [msgspec.structs.replace(c, permitted=True) for c in back]


def _reason(ranking: Sequence[Candidate], needs: Needs) -> str:
    best = ranking[0]
    if needs.preferred_backend == best.backend:
        return f"{best.backend} is the preferred backend"
    if len(ranking) == 1:
        return f"{best.backend} is the only one that may run it ({best.reason})"
    return f"{best.backend} leads with {best.reason}; next is {ranking[1].backend} with {ranking[1].reason}"


def _nothing(others: Sequence[Candidate], view: View) -> Problem:
    """Why nobody can run the job, naming each backend's reason."""
    if not view.backends:
        return Problem(reason="no_backend", message="no backend is known; start one, or see `turnout doctor`")
    reasons = "; ".join(f"{c.backend}/{c.model} {c.reason}" for c in others[:12])
    return Problem(reason="no_backend", message=f"no backend may run this job: {reasons}")


def decide(
    slip: Slip,
    *,
    n: int,
    attempts: tuple[Attempt, ...],
    excluded: tuple[Exclusion, ...],
    view: View,
    now: float,
    cause: Problem | None = None,
) -> Decided:
    """Round `n` of a job: the ranking, or a wait, or giving up. `cause` is what ended the round before."""
    failover, needs = view.policy.failover, slip.needs
    found = candidates(slip, attempts, excluded, view, now)
    failures: Counter[str] = Counter()
    if not any(c.permitted for c in found):
        failures.update(attempt.backend for attempt in attempts if attempt.outcome not in NEVER_SPENT)
        again = _last_resort(found, attempts)
        names = {(c.backend, c.model) for c in again}
        found = again + [c for c in found if (c.backend, c.model) not in names]
    ranking = rank(found, needs, view, failures)
    others = [c for c in found if not c.permitted]
    gave_up: Problem | None = None
    wait = 0.0
    extra = n - 1 - spent(attempts)
    if spent(attempts) >= failover.max_attempts or extra > failover.max_extra_rounds or now >= slip.deadline_at:
        gave_up = first_problem(attempts) or cause or _nothing(others, view)
    elif cause is not None and cause.reason == "over_budget":
        gave_up = first_problem(attempts) or cause
    elif not ranking:
        wait = WAITS[min(max(extra, 0), len(WAITS) - 1)]
        hopeful = not found or any(c.reason.startswith(TEMPORARY) for c in others)
        if not hopeful or now + wait >= slip.deadline_at:
            gave_up = first_problem(attempts) or _nothing(others, view)
            wait = 0.0
    if gave_up:
        ranking = []
    if gave_up:
        reason = f"gave up: {gave_up.message}"
    else:
        reason = _reason(ranking, needs) if ranking else f"nothing may run now, looking again in {wait:g} s"
    return Decided(
        tenant=slip.tenant,
        job=slip.job,
        n=n,
        slip=slip,
        attempts=attempts,
        excluded=excluded,
        ranking=tuple(ranking),
        others=tuple(others),
        strategy=needs.strategy or view.policy.strategy,
        policy=f"{view.policy.policy}@{view.policy.version}",
        failover=failover,
        reason=reason,
        wait_seconds=wait,
        gave_up=gave_up,
        at=now,
    )
