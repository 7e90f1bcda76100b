"""What a batch would cost, when it would be done, and how it is best spread. Pure: nothing here makes a job."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping

from actors.router.case import Case, Row, Strategy
from actors.router.decide import Choice
from actors.router.order import groups
from actors.router.quote import JOB, nobody, usual_choice
from actors.router.spread import Place, spread, spread_within
from actors.router.strategies import STRATEGIES
from actors.router.view import View
from messages import EstimateIs, EstimateOf, Plan, Problem, Share

NO_DEADLINE_SECONDS = 1e9
"""A batch has none: its last jobs wait as long as they must."""
MOST_JOBS = 1_000_000_000
"""More than this is a mistake."""
MOST_PLACES = 64
"""A batch is spread over so many backends at most."""
MOST_CHANGES = 8
"""So many changes of requests are told."""


def estimate(
    question: EstimateOf, view: View, now: float, *, strategies: Mapping[str, Strategy] = STRATEGIES
) -> EstimateIs:
    """What so many jobs cost, and when the last is done: as they are split, or as `spread` splits them best.

    - The price of one is the expected one in whole micro-dollars, rounded up, as every attempt is billed.
    - A backend's jobs are done after `switch + ceil((ahead + jobs) / slots) x service` seconds: in waves, behind what is
      there. Every backend stands with the model of it that ranks first.
    - A budget is never exceeded: what it does not pay for is left over, and as little as can be. When it does not pay for all
      on those who would be tried first, everybody permitted counts, each backend with its cheapest model.

    An estimate for nobody, or with a wrong split, has a `problem` instead.
    """
    wrong = _wrong(question, view)
    if wrong is not None:
        return EstimateIs(problem=wrong)
    plan, choice = usual_choice(question.needs, question.tenant, view, now, NO_DEADLINE_SECONDS, strategies)
    if not choice.ranking:
        return EstimateIs(problem=nobody(choice))
    if question.split:
        return _as_split(question, choice)
    return _spread_best(question, plan, choice, now)


def _wrong(question: EstimateOf, view: View) -> Problem | None:
    """What is wrong with the question, or None."""
    jobs, split, budget = question.jobs, question.split, question.budget_microdollars
    if not 1 <= jobs <= MOST_JOBS:
        return _invalid("jobs", jobs, f"use 1 to {MOST_JOBS:,}.")
    if budget is not None and budget < 0:
        return _invalid("budget_microdollars", budget, "use 0 or more.")
    for name, part in split.items():
        if name not in view.backends:
            known = sorted(view.backends)
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            right = (
                f"did you mean {close[0]}?" if close else f"use some of {', '.join(known) or 'none: nobody is there'}."
            )
            return _invalid("split", name, f"that is no backend; {right}")
        if part < 0:
            return _invalid(f"split.{name}", part, "use 0 or more.")
    if split and sum(split.values()) != jobs:
        shown = ", ".join(f"{name}={part}" for name, part in split.items())
        return _invalid("split", shown, f"the parts add up to {sum(split.values()):,}, and there are {jobs:,} jobs.")
    return None


def _invalid(field: str, value: object, right: str) -> Problem:
    return Problem(
        reason="invalid", field=field, value=str(value)[:200], message=f"{field} is {str(value)[:80]}: {right}"
    )


def _place(row: Row) -> Place:
    f = row.features
    return Place(
        backend=row.backend,
        model=row.model,
        each=math.ceil(round(f.price_microdollars, 6)),  # A whole price that float arithmetic missed stays what it is.
        service=f.service_seconds,
        slots=max(1, row.known.slots),
        ahead=math.ceil(f.ahead),
        switch=f.switch_seconds,
    )


def _first_of_each(rows: Iterable[Row]) -> list[Row]:
    """The first row of every backend: its models share its slots."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.backend, row)
    return list(found.values())


def _as_split(question: EstimateOf, choice: Choice) -> EstimateIs:
    """The jobs as the question splits them; when the budget is too small, the dearest are left out."""
    firsts = {row.backend: row for row in _first_of_each(choice.ranking)}
    for name, part in question.split.items():
        if part and name not in firsts:
            reasons = "; ".join(f"{row.model} {row.reason}" for row in choice.others if row.backend == name)
            message = f"{name} may not run these jobs: {reasons or 'it serves no model'}"
            return EstimateIs(problem=Problem(reason="no_backend", field="split", value=name, message=message))
    parts = {name: part for name, part in question.split.items() if part}
    rows = sorted((firsts[name] for name in parts), key=lambda row: row.features.price_microdollars)
    places = [_place(row) for row in rows]
    left, counts = question.budget_microdollars, list[int]()
    for place in places:
        jobs = parts[place.backend]
        if left is not None:
            jobs = min(jobs, left // place.each) if place.each else jobs
            left -= jobs * place.each
        counts.append(jobs)
    return _answer(question, choice, rows, counts, [])


def _spread_best(question: EstimateOf, plan: Plan, choice: Choice, now: float) -> EstimateIs:
    """The jobs where they cost least, time counted, among those that would be tried first; a budget may take it further."""
    needs = question.needs
    hour = plan.cost.per_hour(needs.value_per_hour_microdollars, speed=needs.prioritize_speed)
    value, budget, notes = hour / 3600.0, question.budget_microdollars, list[str]()
    priced = [row for row in choice.ranking if not row.known.price.unknown]
    if not priced and budget is not None:
        message = "nobody who may run these jobs has a known price, and they have a budget"
        return EstimateIs(problem=Problem(reason="no_backend", message=message))
    rows = _first_of_each(_leading(priced or choice.ranking, question, plan, choice, now))
    if budget is None:
        rows = _few(rows, value)
        counts = spread([_place(row) for row in rows], question.jobs, value=value)
    else:
        if min(_place(row).each for row in rows) * question.jobs > budget:
            cheapest = _first_of_each(sorted(priced, key=lambda row: row.features.price_microdollars))
            if cheapest != rows:
                rows = cheapest
                notes.append("the budget is too small for those who would be tried first: the cheapest count")
        rows = _few(rows, value)
        counts = spread_within([_place(row) for row in rows], question.jobs, value=value, budget=budget)
    if len(rows) > 1:
        notes.append(f"an hour of waiting counts {_dollars(hour)} per job: work flows over when its queue costs more")
    if len(priced) < len(choice.ranking) and priced:
        unpriced = [f"{row.backend}/{row.model}" for row in choice.ranking if row.known.price.unknown]
        notes.append(f"left out, because nobody said what they cost: {', '.join(unpriced[:12])}")
    return _answer(question, choice, rows, counts, notes)


def _leading(rows: list[Row], question: EstimateOf, plan: Plan, choice: Choice, now: float) -> list[Row]:
    """Those of the first group: the preferred one, else the pool, else everybody."""
    case = Case(
        needs=question.needs, plan=plan, tenant=question.tenant, job=JOB, n=1, attempts=(), now=now,
        deadline_at=now + NO_DEADLINE_SECONDS, policy=choice.decided.policy,
    )  # fmt: skip
    group_of = groups(rows, case, {})
    return [row for row, group in zip(rows, group_of, strict=True) if group == min(group_of)]


def _few(rows: list[Row], value: float) -> list[Row]:
    """At most `MOST_PLACES` of them and the cheapest: those that charge least for one job, time counted."""
    if len(rows) <= MOST_PLACES:
        return rows
    places = {row.backend: _place(row) for row in rows}

    def charge(row: Row) -> float:
        place = places[row.backend]
        return place.each + value * place.seconds(1)

    cheapest = min(rows, key=lambda row: places[row.backend].each)
    kept = {row.backend for row in (*sorted(rows, key=charge)[:MOST_PLACES], cheapest)}
    return [row for row in rows if row.backend in kept]


def _answer(question: EstimateOf, choice: Choice, rows: list[Row], counts: list[int], notes: list[str]) -> EstimateIs:
    used = [(row, jobs) for row, jobs in zip(rows, counts, strict=True) if jobs]
    shares = sorted((_share(_place(row), jobs) for row, jobs in used), key=lambda share: -share.jobs)
    placed, cost = sum(counts), sum(share.cost_microdollars for share in shares)
    left_over = question.jobs - placed
    told: list[str] = []
    if left_over:
        told.append(f"{_dollars(question.budget_microdollars or 0)} pays for {placed:,} of {question.jobs:,} jobs")
    places = [_place(row) for row in choice.ranking if not row.known.price.unknown]
    dearest = max(places, key=lambda place: place.each, default=None)
    compared = _share(dearest, placed) if dearest is not None and dearest.each and placed else None
    if compared is not None and cost < compared.cost_microdollars:
        less = 100.0 * (1.0 - cost / compared.cost_microdollars)
        whole = f"{_dollars(compared.cost_microdollars)}, {compared.seconds:,.0f} s"
        told.append(f"{less:.1f} % less than all on {compared.backend}/{compared.model} ({whole})")
    told += notes
    at_most = sum(max(_place(row).each, row.worst_case_microdollars) * jobs for row, jobs in used)
    if at_most > cost:
        told.append(f"expected prices; {_dollars(at_most)} if every answer is as long as it may be")
    told += [
        f"the price of {row.backend}/{row.model} is not known: {_dollars(row.features.price_microdollars)} a job is assumed"
        for row, _ in used
        if row.known.price.unknown
    ]
    stated = [f"{row.backend}/{row.model}" for row, _ in used if not row.features.runs]
    if stated:
        told.append(f"not measured yet, so its speed is what is stated or usual: {', '.join(stated[:12])}")
    told += [f"{row.backend}: {change}" for row, _ in used for change in row.changes][:MOST_CHANGES]
    return EstimateIs(
        shares=tuple(shares),
        cost_microdollars=cost,
        seconds=max((share.seconds for share in shares), default=0.0),
        dearest=compared,
        left_over=left_over,
        notes=tuple(told),
    )


def _share(place: Place, jobs: int) -> Share:
    return Share(
        backend=place.backend, model=place.model, jobs=jobs, cost_microdollars=jobs * place.each, seconds=place.seconds(jobs)
    )  # fmt: skip


def _dollars(microdollars: float) -> str:
    """`$80.00`, `$0.105`: two digits, and more when there are more."""
    text = f"{microdollars / 1e6:,.6f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part:0<2}"
