"""decide(): fit, filter, score, order, and say why. A pure function of the job, the view and the given time.

`survey` looks at the view; `choose` does the rest from what then stands in the event, so that anybody can derive it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from actors.course import NOTHING_NOW
from actors.rounds import LAST_LOOK_SECONDS, look_again, place
from actors.router.case import Case, Row, Scored, Strategy
from actors.router.filters import TEMPORARY, UNTIL_CHANGED, excluded_by, sift
from actors.router.fit import fit
from actors.router.guarding import guarded, heed
from actors.router.order import Failures, arrange, failures_of, groups, outside
from actors.router.second import second_opinions, with_larger
from actors.router.strategies import STRATEGIES, StrategyError
from actors.router.survey import survey
from actors.router.unpriced import assume_prices
from actors.router.view import View
from actors.router.words import exhausted, reason_of
from actors.succession import NEVER_SPENT, NOT_AGAIN, answered, first_problem, needed, spent, unheard
from messages import Attempt, Awaited, Candidate, Counted, Decided, Exclusion, Failover, Plan, Problem, Room, Slip

AFTER_SECONDS = 0.05
"""So long after the end of what kept it away a job looks again."""
MOST_AWAITED = 64
"""So many names a job waits for at most."""
MOST_CANDIDATES = 16
"""So many candidates stand in the event; when there are more, all of them are kept beside it."""
_BY_POINTS = STRATEGIES["weighted_score"]
_AS_IT_IS = Candidate(backend="", model="").parameters
_LATE = Problem(reason="expired", message="the job's deadline passed before it could be decided")


class Choice(msgspec.Struct, frozen=True):
    """A decision, and every candidate it was made from."""

    decided: Decided
    ranking: list[Row]
    others: list[Row]

    def everything(self) -> tuple[Candidate, ...]:
        """All candidates, also those that the event leaves out."""
        return tuple(_candidate(row) for row in (*self.ranking, *self.others))


def decide(
    slip: Slip,
    *,
    n: int,
    attempts: tuple[Attempt, ...],
    excluded: tuple[Exclusion, ...],
    view: View,
    now: float,
    cause: Problem | None = None,
    rooms: tuple[Room, ...] = (),
    counted: tuple[Counted, ...] = (),
    strategies: Mapping[str, Strategy] = STRATEGIES,
) -> Choice:
    """Round `n` of a job: the ranking, or a wait, or giving up. `cause` is what ended the round before.

    `rooms`: what budgets had left for whom they refused then. `counted`: input tokens that are known exactly.
    """
    ruling = view.ruling(slip.needs, slip.tenant)
    plan = ruling.plan
    needs = needed(slip.needs, attempts)
    first = _first_failed(attempts)
    if first is not None:
        chain = view.rulebook.chain_of(_names_of(first, view))
        if chain:
            plan = msgspec.structs.replace(plan, chain=chain)
    rows = survey(needs, slip.tenant, view, output_share=plan.output_share, now=now, preset=plan.preset)
    return choose(
        slip, n=n, attempts=attempts, excluded=excluded, rows=rows, plan=plan, failover=ruling.failover,
        policy=ruling.policy, now=now, cause=cause, rooms=rooms, counted=counted, strategies=strategies,
    )  # fmt: skip


def _first_failed(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that the job's chain began with."""
    return next((attempt for attempt in attempts if attempt.outcome not in NEVER_SPENT), None)


def _names_of(attempt: Attempt, view: View) -> tuple[str, ...]:
    for entry in view.entries:
        if (entry.backend, entry.model) == (attempt.backend, attempt.model):
            return (attempt.model, *entry.known.names, attempt.backend)
    return (attempt.model, attempt.backend)


def choose(
    slip: Slip,
    *,
    n: int,
    attempts: tuple[Attempt, ...],
    excluded: tuple[Exclusion, ...],
    rows: list[Row],
    plan: Plan,
    failover: Failover,
    policy: str,
    now: float,
    cause: Problem | None,
    rooms: tuple[Room, ...] = (),
    counted: tuple[Counted, ...] = (),
    strategies: Mapping[str, Strategy] = STRATEGIES,
) -> Choice:
    """Decide from rows that were surveyed. Everything it uses stands in the event it makes."""
    needs = needed(slip.needs, attempts)
    case = Case(needs, plan, slip.tenant, slip.job, n, attempts, now, slip.deadline_at, policy)
    left_of_budgets = rooms
    billed = sum(attempt.billed_microdollars for attempt in attempts)
    limit = needs.max_cost_microdollars
    if plan.guardrails:
        rooms = (*rooms, *guarded(rows, plan.guardrails))
    fit(rows, case, left=None if limit is None else limit - billed, rooms=rooms, counted=counted)
    if plan.guardrails:
        heed(rows)
    permitted = sift(rows, case, excluded, spent_microdollars=billed)
    failures: Failures = MappingProxyType({})
    refusal = unheard(attempts)
    if attempts:
        failures = failures_of(attempts)
        permitted = with_larger(permitted, rows, attempts)
        if refusal is not None:
            permitted = second_opinions(permitted, rows, refusal)
        elif not permitted:
            permitted = _last_resort(rows, attempts)
    used = spent(attempts)
    strategy, complaint = strategies.get(plan.strategy), ""
    if strategy is None:
        strategy, complaint = _BY_POINTS, f"the strategy {plan.strategy} is not known here, so points decide: "
    ranking: list[Row] = []
    scored: Scored | None = None
    gave_up: Problem | None = None
    wait = 0.0
    why = ""
    if now >= slip.deadline_at:
        gave_up = first_problem(attempts) or cause or _LATE
    elif used >= failover.max_attempts:
        gave_up = first_problem(attempts) or cause or exhausted(rows, plan, needs)
    elif refusal is not None and not permitted:
        nobody = exhausted(rows, plan, needs)
        gave_up, why = first_problem(attempts) or nobody, "no other backend may be asked whether the request is wrong"
    else:
        if not permitted:
            wait = _wait(rows, case, excluded)
            if not wait or slip.deadline_at - now <= LAST_LOOK_SECONDS:
                permitted = _in_panic(rows, case)
        if permitted:
            wait, began = 0.0, _row_of(rows, _first_failed(attempts))
            try:
                ranking, scored = _rank(permitted, case, failures, strategy, began)
            except StrategyError as error:  # A user's; a job must not wait for its mending.
                strategy, complaint = _BY_POINTS, f"{error}, so points decide: "
                ranking, scored = _rank(permitted, case, failures, strategy, began)
        else:
            nobody = exhausted(rows, plan, needs)
            why = nobody.message
            if not wait:
                gave_up = first_problem(attempts) or nobody
    if gave_up:
        for row in permitted:
            row.reason = "may run it, but the job is given up"
        others = rows
        reason = f"gave up: {why or gave_up.message}"
    elif ranking:
        others = [row for row in rows if row.barred]
        explored = scored is not None and scored.explored is not None
        reason = complaint + reason_of(ranking, strategy, case, explored=explored)
    else:
        others = rows
        reason = f"{NOTHING_NOW}{why}"
    shown = ranking[:MOST_CANDIDATES]
    beside = others[: MOST_CANDIDATES - len(shown)]
    decided = Decided(
        tenant=slip.tenant,
        job=slip.job,
        n=n,
        slip=slip,
        attempts=attempts,
        excluded=excluded,
        cause=cause,
        rooms=left_of_budgets,
        counted=counted,
        ranking=tuple([_candidate(row) for row in shown]),
        others=tuple([_candidate(row) for row in beside]),
        omitted=len(ranking) + len(others) - len(shown) - len(beside),
        strategy=strategy.name,
        parts=strategy.parts if ranking else (),
        plan=plan,
        policy=policy,
        number=scored.number if scored is not None else None,
        explored=scored is not None and scored.explored is not None,
        failover=failover,
        reason=reason,
        wait_seconds=wait,
        awaiting=() if gave_up else _awaiting(rows),
        gave_up=gave_up,
        at=now,
    )
    return Choice(decided, ranking, others)


def _may_pass(row: Row) -> bool:
    """Whether what keeps the row away is waited for: it may end by itself, or a person who began it can end it."""
    return row.barred in TEMPORARY and row.features.open_cause != "account"


def _wait(rows: Sequence[Row], case: Case, excluded: tuple[Exclusion, ...]) -> float:
    """Seconds until the job looks again by itself; 0: nothing that keeps it waiting can end before its deadline.

    Who is kept away by hand is waited for like one that is absent: nobody knows for how long.
    """
    may_pass = [row for row in rows if _may_pass(row)]
    if rows and not may_pass:
        return 0.0
    now, deadline_at = case.now, case.deadline_at
    ends = [_ends_at(row, excluded, now) for row in may_pass]
    if ends and all(end > 0.0 and end + AFTER_SECONDS >= deadline_at for end in ends):
        return 0.0
    known = [end for end in ends if end]
    at = place(case.tenant, case.job, case.n)
    wait = look_again(now, deadline_at, at, ends_at=min(known) if known and len(known) == len(ends) else 0.0)
    times = [
        end for row, end in zip(may_pass, ends, strict=True) if row.barred == "excluded"
    ]  # Nobody wakes for these.
    return max(AFTER_SECONDS, min([wait, *(end - now + AFTER_SECONDS for end in times)]))


def _ends_at(row: Row, excluded: tuple[Exclusion, ...], now: float) -> float:
    """When what keeps the row away ends by itself; 0: nobody knows."""
    if row.barred == "breaker":
        return row.features.open_until if row.features.open_cause != "manual" else 0.0
    if row.barred == "excluded":
        found = excluded_by(excluded, row.backend, row.model, now)
        return found.until if found is not None else 0.0
    return 0.0


def _awaiting(rows: Sequence[Row]) -> tuple[Awaited, ...]:
    """What keeps rows away for a time, by name, each once; without any row, any backend. What only a person can change is
    among it.
    """
    found: dict[Awaited, None] = {} if rows else {Awaited(kind="backend"): None}
    for row in rows:
        if row.barred not in TEMPORARY or row.barred == "excluded":
            continue
        if row.barred == "breaker":
            found[Awaited(kind="breaker", name=row.backend, model=row.model)] = None
        else:
            found[Awaited(kind="backend", name=row.backend)] = None
    return tuple(found)[:MOST_AWAITED]


def _in_panic(rows: Sequence[Row], case: Case) -> list[Row]:
    """The least bad of those that only an open breaker keeps away: it is used rather than that the job fails unheard.

    Not one whose time ends before the deadline, nor one that has told this very job to come later.
    """
    told = {(a.backend, a.model) for a in case.attempts if a.outcome == "rate_limited"}
    shut = [
        row
        for row in rows
        if row.barred == "breaker"
        and row.features.open_cause not in UNTIL_CHANGED
        and row.features.open_until + AFTER_SECONDS >= case.deadline_at
        and (row.backend, row.model) not in told
    ]
    if not shut:
        return []
    least = min(shut, key=lambda row: row.features.open_until)
    least.barred, least.panic = "", True
    least.reason = "is the least bad, since all who could run it have open breakers"
    return [least]


def _row_of(rows: Sequence[Row], attempt: Attempt | None) -> Row | None:
    if attempt is None:
        return None
    return next((row for row in rows if (row.backend, row.model) == (attempt.backend, attempt.model)), None)


def _rank(
    permitted: list[Row], case: Case, failures: Failures, strategy: Strategy, began: Row | None
) -> tuple[list[Row], Scored]:
    """Score the pool by the strategy and what lies outside it by points, and put all in order."""
    assume_prices(permitted, case.plan)
    group_of = groups(permitted, case, failures)
    within = list(range(len(permitted)))
    if case.plan.pool and not case.plan.fixed:
        within = [i for i in within if not outside(group_of[i])] or within
    inside = permitted if len(within) == len(permitted) else [permitted[i] for i in within]
    scored = strategy.score(inside, case)
    _note(inside, scored)
    if len(inside) < len(permitted):
        beyond = [row for row, group in zip(permitted, group_of, strict=True) if outside(group)]
        _note(beyond, _BY_POINTS.score(beyond, case))
    explored = None if scored.explored is None else within[scored.explored]
    ranking = arrange(permitted, group_of, case, explored=explored, began=began)
    if explored is not None and ranking[0] is not permitted[explored]:
        scored = Scored(scored.scores, scored.parts, scored.number, None)  # Something weightier kept it from the lead.
    return ranking, scored


def _note(rows: Sequence[Row], scored: Scored) -> None:
    if scored.parts:
        for row, score, parts in zip(rows, scored.scores, scored.parts, strict=True):
            row.score, row.parts = score, parts
    else:
        for row, score in zip(rows, scored.scores, strict=True):
            row.score = score


def _last_resort(rows: list[Row], attempts: tuple[Attempt, ...]) -> list[Row]:
    """Those that failed this job before, when nobody else is left and they can serve it at all.

    What answered it with the same failure twice is not asked a third time: it is the request's fault.
    """
    never = {(a.backend, "" if a.outcome == "account" else a.model) for a in attempts if a.outcome in NOT_AGAIN}
    same = Counter((a.backend, a.model, a.outcome) for a in attempts if answered(a.outcome, a.problem))
    never |= {(backend, model) for (backend, model, _), times in same.items() if times > 1}
    again: list[Row] = []
    for row in rows:
        if row.barred == "failed" and not never & {(row.backend, ""), (row.backend, row.model)}:
            row.barred = row.reason = ""
            again.append(row)
    return again


def _candidate(row: Row) -> Candidate:
    return Candidate(
        backend=row.backend,
        model=row.model,
        barred=row.barred,
        reason=row.reason,
        score=row.score,
        parts=row.parts,
        known=row.known,
        features=row.features,
        worst_case_microdollars=row.worst_case_microdollars,
        worst_case_tokens=row.worst_case_tokens,
        worst_case_input_tokens=row.worst_case_input_tokens,
        unbounded=row.unbounded,
        max_output_tokens=row.max_output_tokens,
        parameters=_AS_IT_IS if row.parameters is None else row.parameters,
        changes=row.changes,
        breaches=row.breaches,
        panic=row.panic,
    )
