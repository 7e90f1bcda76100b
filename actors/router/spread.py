"""How a batch of equal jobs is spread over backends: by price and by the time until each is done. Pure.

Every job is charged its price and the value of the time until it is done. On one backend the next job is never done
sooner than the one before it, so the sum is convex in every backend's number of jobs, and giving each job to whoever
then charges least is optimal (Fox, "Discrete optimization via marginal analysis", 1966). So free capacity is taken first,
and work flows over to a dearer backend as soon as the queue costs more than its price. Instead of job by job the level is
searched at which all jobs have a place; that takes as long for a million jobs as for ten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

SHORTEST = 1e-3
"""Seconds; a shorter service counts as this."""
LEAST_VALUE = 1e-6
"""Micro-dollars per second of waiting; less counts as this, so that among equal prices the sooner one is taken."""
STEEPEST = 1e12
"""Prices are weighed at most so heavily to keep to a budget; then only the cheapest count."""
FINE = 1e-6
"""So exactly the weight of prices is found that a budget needs."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """One backend with one model of it, for jobs that are all alike."""

    backend: str
    model: str
    each: int
    """Micro-dollars for one job."""
    service: float
    """Seconds of one job."""
    slots: int = 1
    """Jobs at once."""
    ahead: int = 0
    """Jobs that run or wait there already."""
    switch: float = 0.0
    """Seconds to load the model first."""

    def seconds(self, jobs: int) -> float:
        """Until the last of so many is done: in waves of `slots`, behind what is there; 0 for no job."""
        if jobs <= 0:
            return 0.0
        return self.switch + -(-(self.ahead + jobs) // self.slots) * max(self.service, SHORTEST)

    def done_by(self, seconds: float, most: int) -> int:
        """How many are done by then, at most `most`."""
        waves = math.floor((seconds - self.switch) / max(self.service, SHORTEST))
        return min(most, max(0, waves * self.slots - self.ahead))


def spread(places: Sequence[Place], jobs: int, *, value: float, weight: float = 1.0) -> list[int]:
    """How many of the jobs each place gets, so that price and waiting together cost least.

    `value` is what a second costs per job, in micro-dollars; prices count `weight` times. Among equal charges the cheaper
    place is filled first, then the earlier one.
    """
    value = max(value, LEAST_VALUE)
    prices = [weight * place.each for place in places]

    def at(level: float) -> list[int]:
        return [
            place.done_by((level - price) / value, jobs) for place, price in zip(places, prices, strict=True)
        ]  # fmt: skip

    low, high = 0.0, 1.0
    while sum(upper := at(high)) < jobs:
        low, high = high, 2.0 * high
    lower = at(low)
    while low < (middle := low + (high - low) / 2.0) < high:
        counts = at(middle)
        total = sum(counts)
        if total < jobs:
            low, lower = middle, counts
        else:
            high, upper = middle, counts
            if total == jobs:
                break
    if sum(upper) == jobs:
        return upper
    rest = jobs - sum(lower)
    for i in sorted(range(len(places)), key=lambda i: places[i].each):
        more = min(rest, upper[i] - lower[i])
        lower[i] += more
        rest -= more
    return lower


def spread_within(places: Sequence[Place], jobs: int, *, value: float, budget: int) -> list[int]:
    """`spread`, with prices weighed as heavily as it takes to stay within the budget in micro-dollars.

    As many jobs as the budget can pay for get a place: all of them if the cheapest places can be paid for.
    """
    least = min(place.each for place in places)
    payable = jobs if least * jobs <= budget else budget // least

    def cost(counts: list[int]) -> int:
        return sum(place.each * n for place, n in zip(places, counts, strict=True))

    if payable == jobs:
        found = spread(places, jobs, value=value)
        if cost(found) <= budget:
            return found
        low, high = 1.0, 2.0
        while cost(found := spread(places, jobs, value=value, weight=high)) > budget and high < STEEPEST:
            low, high = high, 4.0 * high
        if cost(found) <= budget:
            while high > low * (1.0 + FINE):
                middle = math.sqrt(low * high)
                counts = spread(places, jobs, value=value, weight=middle)
                if cost(counts) <= budget:
                    high, found = middle, counts
                else:
                    low = middle
            return found
    cheapest = [i for i, place in enumerate(places) if place.each == least]
    found = [0] * len(places)
    for i, n in zip(cheapest, spread([places[i] for i in cheapest], payable, value=value), strict=True):
        found[i] = n
    return found
