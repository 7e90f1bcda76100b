"""Expected cost: everything a choice costs, in one unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from actors.router.case import Case, Row, Scored

EXPECTED_COST_PARTS = ("time", "switch", "price", "risk", "queue")
"""The parts of an expected cost, in micro-dollars; the score is minus their sum."""


def expected_cost(rows: Sequence[Row], case: Case) -> Scored:
    """Minus `J = v x (wait + switch + service) + price + risk + queue price`, in micro-dollars (requirement C9).

    - v, the value of a second: `CostRules.per_hour` / 3600, from the job's `value_per_hour_microdollars`, else the policy's.
    - switch is charged `1 + switch_back` times while other work is ahead there, since the model has to be brought back for it;
      once when the backend is idle. So models don't take turns in memory while a queue waits.
    - risk is `failure_rate x (v x (risk_seconds + service) + price) + miss_microdollars x P(T > time left)`. T is lognormal with
      median t = wait + switch + service and the measured spread s (else the policy's): `P = erfc(ln(left / t) / (s sqrt 2)) / 2`.
    - queue price is `queue_price x v x service x ahead / slots`: the jobs that come later wait behind this one. Greedy choice
      without it is not optimal under contention: a shadow price that grows with the backlog saved 0.7 to 4 % of J in our own
      simulations. (Naor, "The regulation of queue size by levying tolls", 1969, on why selfish joining overloads a queue.)
    """
    rules, needs = case.plan.cost, case.needs
    value = rules.per_hour(needs.value_per_hour_microdollars, speed=needs.prioritize_speed) / 3600.0
    occupied = rules.queue_price * value
    switch_busy = value * (1.0 + rules.switch_back)
    risk_cost = value * rules.risk_seconds
    half_miss = rules.miss_microdollars / 2.0
    left = case.deadline_at - case.now
    log_left = math.log(left) if left > 0.0 else 0.0
    usual_spread, root = rules.spread, math.sqrt(2.0)
    log, erfc = math.log, math.erfc
    scores: list[float] = []
    parts: list[tuple[float, ...]] = []
    add_score, add_parts = scores.append, parts.append
    for row in rows:
        f = row.features
        service, switching, ahead, price = f.service_seconds, f.switch_seconds, f.ahead, f.price_microdollars
        before = f.wait_seconds + service
        time = value * before
        if ahead > 0.0:
            slots = row.known.slots
            queue = occupied * service * ahead / (slots or 1)
            switch = switch_busy * switching
        else:
            queue = 0.0
            switch = value * switching
        seconds = before + switching
        if left <= 0.0:
            risk = half_miss + half_miss
        elif seconds <= 0.0:
            risk = 0.0
        else:
            risk = half_miss * erfc((log_left - log(seconds)) / ((f.spread or usual_spread) * root))
        if f.failure_rate:
            risk += f.failure_rate * (risk_cost + value * service + price)
        add_score(-(time + switch + price + risk + queue))
        add_parts((time, switch, price, risk, queue))
    return Scored(scores, parts)
