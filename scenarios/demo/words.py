"""Decisions and failures in a few words, so that each fits on one line of 80 columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from messages import Attempted, Breaker, Candidate, Decided, Granted

TASKS = {
    "analytical": "analysis",
    "high_throughput": "bulk",
    "low_latency": "instant",
    "large_context": "long text",
}  # fmt: skip
"""Kinds of work whose own names are too long for a column."""

_OUTCOMES = {
    "timeout": "silent for too long",
    "connection_error": "the connection broke",
    "executor_lost": "its executor died",
    "not_started": "was not called",
    "aborted": "stopped: the job had ended",
    "expired": "stopped: the job's deadline had come",
    "over_gpu_time": "stopped: no more GPU time was reserved",
    "interrupted": "somebody stopped it there",
    "invalid_structure": "answered no valid JSON",
    "missing_field": "its answer lacks a field",
    "empty": "answered nothing",
}
_SHORT = (
    ("is a cloud backend", "is cloud"),
    ("has an open breaker", "breaker open"),
    ("is unhealthy", "unhealthy"),
    ("is excluded", "failed it before"),
    ("could cost", "too dear"),
    ("has no live executor", "no executor"),
    ("its breaker is half-open", "trial call under way"),
    ("its breaker is open", "breaker open"),
)
_PASSING = ("breaker open", "unhealthy", "no executor")


def money(microdollars: float) -> str:
    """`free`, `$0.0042`, `$1.25`."""
    if not microdollars:
        return "free"
    return f"${microdollars / 1e6:.2f}" if microdollars >= 1e6 else f"${microdollars / 1e6:.4f}"


def task(decided: Decided) -> str:
    """The kind of work in one short word."""
    name = decided.slip.needs.task
    return TASKS.get(name, name)


def failure(attempted: Attempted) -> str:
    """Why an attempt failed."""
    if attempted.outcome == "connection_error" and attempted.first_token_seconds is not None:
        return "the connection broke in mid-answer"
    if attempted.problem and "cannot connect" in attempted.problem.message:
        return "can't be reached"
    return _OUTCOMES.get(attempted.outcome, attempted.outcome.replace("_", " "))


def because(decided: Decided, granted: Granted) -> str:
    """Why the attempt goes where the verdict lets it go."""
    place = next((i for i, c in enumerate(decided.ranking) if c.backend == granted.backend), 0)
    chosen, rivals = decided.ranking[place], decided.ranking[place + 1 :]
    if granted.probe:
        return "trial call: its breaker was open"
    if granted.skipped:
        return f"{granted.skipped[0].backend}: {_short(granted.skipped[0].reason)}"
    if decided.slip.needs.preferred_backend == chosen.backend:
        return "the job prefers it"
    if not rivals:
        return only_one(decided.others)
    if decided.strategy == "cost_first":
        return f"cheapest: {_price(chosen)}; {rivals[0].backend} {_price(rivals[0])}"
    if decided.strategy == "latency_first":
        return f"fastest: {_seconds(chosen)}; {rivals[0].backend} {_seconds(rivals[0])}"
    if decided.strategy == "expected_cost":
        return f"least cost: {_cost(chosen)}; {rivals[0].backend} {_cost(rivals[0])}"
    if decided.strategy != "weighted_score":
        return f"first by {decided.strategy.replace('_', ' ')}; next {rivals[0].backend}"
    points = ", ".join(f"{rival.backend} {rival.score:.0f}" for rival in rivals[:2])
    return f"{chosen.score:.0f} points; {points}"


def _cost(candidate: Candidate) -> str:
    """Time and price together."""
    return money(-candidate.score) if candidate.score <= -50 else f"${-candidate.score / 1e6:.6f}"


def only_one(others: Sequence[Candidate]) -> str:
    """Why nobody else may run it."""
    reasons = {other.backend: _short(other.reason) for other in others}
    different = set(reasons.values())
    if not different:
        return "there is no other"
    if different == {"is cloud"}:
        return "the job must stay local"
    only = next(iter(different))
    if len(different) == 1 and only.startswith("lacks "):
        return f"the only one with {only.removeprefix('lacks ')}"
    return "; ".join(f"{backend}: {reason}" for backend, reason in reasons.items())


def refused(granted: Granted) -> str:
    """Why nobody got it, although somebody could have."""
    return "; ".join(f"{skip.backend}: {_short(skip.reason)}" for skip in granted.skipped) or "nobody may take it now"


def opening(breaker: Breaker, now: float) -> str:
    """For how long a breaker opens, and why."""
    again = " again" if breaker.times_opened > 1 else ""
    why = breaker.reason.partition(", last:")[0]
    return f"breaker of {breaker.backend} opens{again} for {breaker.open_until - now:.0f} s: {why}"


def waits_for(decided: Decided) -> str:
    """Why nobody may run it now."""
    for other in decided.others:
        if _short(other.reason) in _PASSING:
            return f"{other.backend}: {_short(other.reason)}"
    return decided.reason


def _short(reason: str) -> str:
    return next((short for beginning, short in _SHORT if reason.startswith(beginning)), reason)


def _price(candidate: Candidate) -> str:
    return money(candidate.features.price_microdollars)


def _seconds(candidate: Candidate) -> str:
    f = candidate.features
    return f"{f.wait_seconds + f.switch_seconds + f.service_seconds:.1f} s"
