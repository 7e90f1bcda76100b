"""Scores and their parts in the words of the strategy that made them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actors.explainer import words
from actors.explainer.places import in_any, outside, place_in, seconds
from messages import Candidate, Decided

WEIGHTED = "weighted_score"
WEIGHTED_PARTS = ("priority", "cost", "speed", "queue")
"""What those outside the pool are scored by."""
POINTS = frozenset({WEIGHTED})
"""Strategies whose scores and parts are points of 100."""
MONEY = frozenset({"expected_cost"})
"""Strategies whose scores are minus a sum of micro-dollars."""
NOTHING = 0.5
"""Micro-dollars below which a part of a cost is not told."""
STAGED = 500_000.0
"""Scores above it were given by class, share or sufficient context, a million points apart; those below by other figures."""


def _first_token(candidate: Candidate) -> float:
    f = candidate.features
    return f.wait_seconds + f.switch_seconds + f.first_token_seconds


def _raw(candidate: Candidate) -> str:
    return f"a score of {candidate.score:.6g}"


def _until_done(_: Decided, candidate: Candidate) -> str:
    return f"about {words.span(seconds(candidate))} until it is done"


def _price(_: Decided, candidate: Candidate) -> str:
    f = candidate.features
    kind = "an unknown price that counts as" if f.price_assumed else "an expected price of"
    return f"{kind} {words.money(f.price_microdollars)}"


def _pool(decided: Decided, candidate: Candidate) -> str:
    pool = decided.plan.pool
    return f"place {place_in(pool, candidate) + 1} of the pool" if pool else _raw(candidate)


def _class(decided: Decided, candidate: Candidate) -> str:
    """Its place among the members of the job's class, or its share of the traffic; by the pool where neither decided."""
    plan, kind = decided.plan, decided.slip.needs.complexity
    if candidate.score < STAGED:
        return _pool(decided, candidate)
    if any(candidate.parts):
        return f"{candidate.parts[0]:.0%} of the latest jobs for a share of {candidate.parts[1]:.0%}"
    members = plan.classes.get(kind, ())
    full = " but is saturated" if candidate.features.saturated else ""
    if (place := place_in(members, candidate)) < len(members):
        return f"place {place + 1} for {kind} jobs{full}"
    if in_any(candidate, plan.overflow):
        return f"a place in the overflow of {kind} jobs{full}"
    return f"a share of the traffic{full}"


def _quality(decided: Decided, candidate: Candidate) -> str:
    tier = f"quality tier {candidate.known.quality_tier}"
    return tier if candidate.score < STAGED else _class(decided, candidate)


def _context(decided: Decided, candidate: Candidate) -> str:
    if candidate.score < STAGED:
        return f"a context of {candidate.known.context_tokens or 0:,} tokens"
    return f"context enough and {_pool(decided, candidate)}" if decided.plan.pool else "context enough"


_FIGURES: Mapping[str, Callable[[Decided, Candidate], str]] = {
    "cost_first": _price,
    "latency_first": _until_done,
    "adaptive": _until_done,
    "fastest_response": lambda _, c: f"about {words.span(_first_token(c))} to its first token",
    "least_loaded": lambda _, c: f"{words.jobs(c.features.ahead)} on {words.places(c.known.slots)}",
    "most_capacity": lambda _, c: f"a context of {c.known.context_tokens or 0:,} tokens",
    "context_based": _context,
    "quality_based": _quality,
    "complexity_based": _class,
    "adaptive_weighted": _class,
    "manual": _pool,
    "pool_order": _pool,
    "direct": _pool,
}
"""What a strategy looks at first, where its score is no figure for people."""


def strategy_of(decided: Decided, candidate: Candidate) -> str:
    """What this candidate was scored by."""
    return WEIGHTED if outside(decided, candidate) else decided.strategy


def names_of(decided: Decided, candidate: Candidate) -> Sequence[str]:
    """The names of its parts."""
    return WEIGHTED_PARTS if outside(decided, candidate) else decided.parts


def score(decided: Decided, candidate: Candidate) -> str:
    """A score with its unit: `88.0 points`, `an expected cost of $0.0031`, `about 3.0 s until it is done`."""
    strategy = strategy_of(decided, candidate)
    if strategy in POINTS:
        return f"{candidate.score:.1f} points"
    if strategy in MONEY:
        return f"an expected cost of {words.cost(-candidate.score)}"
    figure = _FIGURES.get(strategy)
    return figure(decided, candidate) if figure else _raw(candidate)


def worth_of_time(decided: Decided) -> str:
    """What the time was worth, and who says so: `an hour of waiting counts $0.60, by the policy`."""
    needs, rules = decided.slip.needs, decided.plan.cost
    hour = rules.per_hour(needs.value_per_hour_microdollars, speed=needs.prioritize_speed)
    if needs.prioritize_speed and hour == rules.speed_per_hour_microdollars:
        source = "since it prioritizes speed"
    else:
        source = "by the policy" if needs.value_per_hour_microdollars is None else "by the job's own word"
    return f"an hour of waiting counts ${hour / 1e6:,.2f}, {source}"


def made_of(decided: Decided, candidate: Candidate) -> str:
    """What a score is made of: `priority 40, cost 30, speed 10, queue 8`; empty when it has no parts to tell."""
    parts = candidate.parts
    if not any(parts):
        return ""
    strategy, names = strategy_of(decided, candidate), names_of(decided, candidate)
    told = zip(names, parts, strict=False)
    if strategy in MONEY:  # Most parts of a cost are 0 most of the time.
        told = [(part, value) for part, value in told if value >= NOTHING]
    said = ", ".join([f"{part} {amount(strategy, part, value)}" for part, value in told])
    return f"{said} (its price is unknown, and counts as dear)" if candidate.features.price_assumed else said


def amount(strategy: str, part: str, value: float) -> str:
    """One part of a score in its unit."""
    if strategy in POINTS:
        return f"{value:.1f}".removesuffix(".0")
    if strategy in MONEY:
        return words.money(value)
    if part.endswith("_share"):
        return f"{value:.0%}"
    return f"{value:.4g}"


def deciding_part(decided: Decided, best: Candidate, other: Candidate) -> str:
    """What made the difference: `mostly by cost: 12.4 against 30`; empty when the parts don't add up to the scores."""
    mine, theirs, names = best.parts, other.parts, names_of(decided, other)
    if not mine or not len(mine) == len(theirs) == len(names) or not decided.parts:
        return ""
    sign = _sign(best) or _sign(other)
    if not sign:
        return ""
    strategy = strategy_of(decided, other)
    factor, their_factor = (c.known.multiplier if strategy in POINTS else 1.0 for c in (best, other))
    if factor != their_factor and sign * (sum(mine) - sum(theirs)) <= 0:
        return f"by the policy's factor: {their_factor:g} against {factor:g}"
    gaps = [sign * (a - b) for a, b in zip(mine, theirs, strict=True)]
    place = max(range(len(gaps)), key=gaps.__getitem__)
    if gaps[place] <= 0:
        return ""
    part = names[place]
    return f"mostly by {part}: {amount(strategy, part, theirs[place])} against {amount(strategy, part, mine[place])}"


def _sign(candidate: Candidate) -> int:
    """1 when its parts add up to the score, -1 when they add up to its negative, 0 when they do neither, or are 0."""
    total, score_ = sum(candidate.parts), candidate.score
    near = 1e-6 * max(1.0, abs(score_))
    if abs(score_) <= near:
        return 0
    for factor in (1.0, candidate.known.multiplier):
        if abs(total * factor - score_) <= near:
            return 1
        if abs(total * factor + score_) <= near:
            return -1
    return 0
