"""Strategies: how permitted candidates are scored. Each is a small pure function; higher is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from messages import Candidate, Needs, Policy

Strategy = Callable[[Candidate, Needs, Policy], tuple[float, str]]
"""The score of one candidate and where it came from, in words."""


def _fraction(value: float) -> float:
    return min(1.0, max(0.0, value))


def weighted_score(candidate: Candidate, needs: Needs, policy: Policy) -> tuple[float, str]:
    """0 to 100 points: priority, cost, speed and queue, each a weight times a fraction (requirement C1 and section I).

    In speed mode the speed weighs 40 and the cost 10. The anchors are the policy's, so another backend moves nobody else.
    """
    weights, f = policy.weights, candidate.features
    cost_weight, speed_weight = (10.0, 40.0) if needs.prioritize_speed else (weights.cost, weights.speed)
    places = 3.0  # The seed's N: priorities 1..3.
    priority = weights.priority * _fraction((places + 1 - f["priority"]) / places)
    cost = cost_weight * _fraction(1 - f["price_microdollars"] / weights.dear_microdollars)
    seconds = max(1e-3, f["service_seconds"] + f["wait_seconds"])
    span = math.log(max(weights.slow_seconds / weights.fast_seconds, 1 + 1e-9))  # Equal anchors are a step.
    speed = speed_weight * _fraction(math.log(weights.slow_seconds / seconds) / span)
    queue = weights.queue * _fraction(1 - f["queue"] / weights.long_queue)
    total = priority + cost + speed + queue
    return total, f"{total:.1f} points: priority {priority:.1f}, cost {cost:.1f}, speed {speed:.1f}, queue {queue:.1f}"


def cost_first(candidate: Candidate, needs: Needs, policy: Policy) -> tuple[float, str]:
    """The cheapest; among equals the one expected to finish first."""
    f = candidate.features
    seconds = f["service_seconds"] + f["wait_seconds"]
    return -f["price_microdollars"] - seconds / 1e4, f"${f['price_microdollars'] / 1e6:.6f}, about {seconds:.1f} s"


def latency_first(candidate: Candidate, needs: Needs, policy: Policy) -> tuple[float, str]:
    """The one expected to finish first, waiting included; among equals the cheapest."""
    f = candidate.features
    seconds = f["service_seconds"] + f["wait_seconds"]
    return -seconds - f["price_microdollars"] / 1e12, f"about {seconds:.1f} s"


STRATEGIES: Mapping[str, Strategy] = {
    "weighted_score": weighted_score,
    "cost_first": cost_first,
    "latency_first": latency_first,
}
