"""The weighted score: 0 to 100 points."""

from __future__ import annotations

import math
from collections.abc import Sequence

from actors.router.case import Case, Row, Scored

WEIGHTED_PARTS = ("priority", "cost", "speed", "queue")
"""The parts of a weighted score, in points."""


def weighted_score(rows: Sequence[Row], case: Case) -> Scored:
    """0 to 100 points: priority, cost, speed and queue, each a weight times a fraction of 0 to 1 (requirements C1 and I).

    - priority `(N + 1 - p) / N`, with N = `weights.priorities`
    - cost `1 - price / dear`
    - speed `ln(slow / t) / ln(slow / fast)`, with t = switch + service in seconds
    - queue `1 - waiting / long_queue`: here alone counts who is before it

    The anchors are the policy's, so another backend moves nobody else. In speed mode (`needs.prioritize_speed`) cost and
    speed weigh `speed_mode_cost` and `speed_mode_speed`. The total is multiplied by `known.multiplier`; the parts are not.
    """
    weights = case.plan.weights
    fast = case.needs.prioritize_speed
    cost_weight = weights.speed_mode_cost if fast else weights.cost
    speed_weight = weights.speed_mode_speed if fast else weights.speed
    priority_weight, queue_weight = weights.priority, weights.queue
    # A part is linear in its figure: `weight x fraction` becomes `from - each x figure`.
    priority_each = priority_weight / weights.priorities
    priority_from = priority_weight + priority_each
    dear, long = weights.dear_microdollars, weights.long_queue
    cost_each, queue_each = cost_weight / dear, queue_weight / long
    quick, slow = weights.fast_seconds, weights.slow_seconds
    # Equal anchors are a step: then nothing lies between them, and the slope is never used.
    slope = speed_weight / math.log(slow / quick) if slow > quick else 0.0
    log = math.log
    scores: list[float] = []
    parts: list[tuple[float, ...]] = []
    add_score, add_parts = scores.append, parts.append
    for row in rows:
        known, features = row.known, row.features
        priority = priority_from - priority_each * known.priority
        if priority < 0.0:
            priority = 0.0
        elif priority > priority_weight:
            priority = priority_weight
        # Prices and queues are never negative, so these two need one bound only.
        price, waiting = features.price_microdollars, features.queue
        cost = cost_weight - cost_each * price if price < dear else 0.0
        queue = queue_weight - queue_each * waiting if waiting < long else 0.0
        seconds = features.switch_seconds + features.service_seconds
        if seconds <= quick:
            speed = speed_weight
        elif seconds >= slow:
            speed = 0.0
        else:
            speed = slope * log(slow / seconds)
        add_score((priority + cost + speed + queue) * known.multiplier)
        add_parts((priority, cost, speed, queue))
    return Scored(scores, parts)
