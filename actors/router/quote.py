"""What one job would cost and when it would be done. Pure.

Nothing here makes a job or changes the view: the job is decided on as always, without exploration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import msgspec

from actors.router.case import Row, Strategy
from actors.router.decide import Choice, choose
from actors.router.strategies import STRATEGIES
from actors.router.survey import survey
from actors.router.view import View
from messages import Needs, Plan, Problem, QuoteIs, QuoteOf, Range, Slip

ASSUMED_DEADLINE_SECONDS = 600.0
"""Deadline that a quote assumes, as a preview does."""
JOB = "estimate"
"""The id that such a job has."""
TENTH = NormalDist().inv_cdf(0.9)
"""Standard deviations on either side of the median that hold 80 of 100."""


def quote(question: QuoteOf, view: View, now: float, *, strategies: Mapping[str, Strategy] = STRATEGIES) -> QuoteIs:
    """What one job would cost now, when it would be done, and who would be next.

    The time is lognormal around wait + switch + service, with the measured spread, else the policy's: the range is its
    10th to its 90th percentile, `median x exp(-+1.2816 x spread)`. A price that nobody states is absent.
    """
    plan, choice = usual_choice(question.needs, question.tenant, view, now, ASSUMED_DEADLINE_SECONDS, strategies)
    if not choice.ranking:
        return QuoteIs(problem=nobody(choice))
    first = choice.ranking[0]
    quoted = QuoteIs(
        backend=first.backend,
        model=first.model,
        price_microdollars=_price(first),
        seconds=_time(first, plan),
        wait_seconds=first.features.wait_seconds,
        switch_seconds=first.features.switch_seconds,
        changes=first.changes,
    )
    if len(choice.ranking) == 1:
        return quoted
    second = choice.ranking[1]
    return msgspec.structs.replace(
        quoted,
        runner_up=f"{second.backend}/{second.model}",
        runner_up_price_microdollars=_price(second),
        runner_up_seconds=_time(second, plan),
    )


def usual_choice(
    needs: Needs, tenant: str, view: View, now: float, left: float, strategies: Mapping[str, Strategy]
) -> tuple[Plan, Choice]:
    """The decision about one such job, without exploration: that tells the exception and not the rule."""
    ruling = view.ruling(needs, tenant)
    plan = msgspec.structs.replace(
        ruling.plan,  # With nobody to be measured first, and no share for others, adaptive selection explores nothing.
        adaptive=msgspec.structs.replace(ruling.plan.adaptive, method="epsilon", epsilon=0.0, enough=0),
    )
    slip = Slip(tenant=tenant, job=JOB, submitted_at=now, deadline_at=now + left, input_seq=0, needs=needs)
    rows = survey(needs, tenant, view, output_share=plan.output_share, now=now, preset=plan.preset)
    choice = choose(
        slip, n=1, attempts=(), excluded=(), rows=rows, plan=plan, failover=ruling.failover, policy=ruling.policy, now=now,
        cause=None, strategies=strategies,
    )  # fmt: skip
    return plan, choice


def nobody(choice: Choice) -> Problem:
    """Why nobody may run it, be it for ever or just now."""
    if choice.decided.gave_up is not None:
        return choice.decided.gave_up
    if not choice.others:
        return Problem(reason="no_backend", message="no backend is known; start one, or see `turnout doctor`")
    reasons = "; ".join(f"{row.backend}/{row.model} {row.reason}" for row in choice.others[:12])
    return Problem(reason="no_backend", message=f"no backend may run this job now: {reasons}")


def _price(row: Row) -> Range | None:
    if row.known.price.unknown:
        return None
    expected = row.features.price_microdollars
    return Range(low=expected, high=max(expected, float(row.worst_case_microdollars)))


def _time(row: Row, plan: Plan) -> Range:
    f = row.features
    median = f.wait_seconds + f.switch_seconds + f.service_seconds
    factor = math.exp(TENTH * (f.spread or plan.cost.spread))
    return Range(low=median / factor, high=median * factor)
