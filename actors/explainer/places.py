"""What put a candidate in its place besides its score, and how large its model is against the hop before. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from actors.explainer.words import name, span
from messages import Candidate, Decided
from messages.deciding import is_meant, meaning

NOT_FAILED = ("ok", "not_started", "aborted", "interrupted", "expired", "over_gpu_time")
"""Outcomes that say nothing against a backend."""
TOLD = 0.01
"""Smaller changes of size are not told."""


def is_called(candidate: Candidate, word: str) -> bool:
    """Whether a pool's, chain's or job's word means it: a model's name or id, a backend, or `backend/model`."""
    if word in (candidate.model, candidate.backend) or word in candidate.known.names:
        return True
    return "/" in word and word == name(candidate)


def in_any(candidate: Candidate, words: Sequence[str]) -> bool:
    """Whether one of the words means it."""
    return any(is_called(candidate, word) for word in words)


def outside(decided: Decided, candidate: Candidate) -> bool:
    """Whether it is not of the job's pool, while others are: then it is scored by points, whatever the strategy."""
    pool = decided.plan.pool
    return bool(pool) and not in_any(candidate, pool) and any(in_any(other, pool) for other in decided.ranking)


def place_in(words: Sequence[str], candidate: Candidate) -> int:
    """The first of the words that means it, from 0; as many as there are when none does."""
    return next((place for place, word in enumerate(words) if is_called(candidate, word)), len(words))


def seconds(candidate: Candidate) -> float:
    """Expected seconds until it is done: wait, loading and the call."""
    f = candidate.features
    return f.wait_seconds + f.switch_seconds + f.service_seconds


def is_preferred(decided: Decided, candidate: Candidate) -> bool:
    """Whether it is what the job prefers; False when the job prefers nothing."""
    needs = decided.slip.needs
    backend, model = needs.preferred_backend, needs.preferred_model
    if not (backend or model):
        return False
    means = meaning(backend, {one.backend for one in decided.ranking})
    if backend and not is_meant(backend, means, candidate.backend, candidate.known):
        return False
    return not model or candidate.model == model or model in candidate.known.names


def weightier(decided: Decided, best: Candidate, other: Candidate) -> str:
    """Why `best` goes before `other` whatever their scores; empty when the scores decide."""
    plan, slip = decided.plan, decided.slip
    if decided.attempts:
        mine, theirs = (
            sum(a.backend == c.backend and a.outcome not in NOT_FAILED for a in decided.attempts) for c in (best, other)
        )
        if theirs > mine:
            return "it failed this job before"
    if is_preferred(decided, best) and not is_preferred(decided, other):
        return f"the job prefers {slip.needs.preferred_backend or slip.needs.preferred_model}"
    if other.parameters.degrade and not best.parameters.degrade:
        return "the request would have to be cut down for it"
    left = slip.deadline_at - decided.at
    if seconds(other) > left >= seconds(best):
        return f"its {span(seconds(other))} would miss the deadline in {span(left)}"
    if plan.fixed:
        return "routing is switched off, and the order is fixed"
    if outside(decided, other) and not outside(decided, best):
        return "it is outside the pool of the rule"
    if slip.needs.task == "code" and "code" in best.known.capabilities and "code" not in other.known.capabilities:
        return "it is no code model"
    if plan.chain and place_in(plan.chain, best) < place_in(plan.chain, other):
        return "the chain of the model that failed says so"
    return ""


def hop(decided: Decided, candidate: Candidate, previous: Candidate | None) -> str:
    """How many parameters its model has against the hop before and against what was asked; empty when equal or unknown."""
    size, before = candidate.known.parameters_billion, previous.known.parameters_billion if previous else None
    if not size or not before or previous is None or candidate.parameters.model:
        return ""
    bases = [("the hop before", previous.model, before)]
    word, asked = _asked(decided)
    if asked is not None and asked.model != previous.model and asked.known.parameters_billion:
        bases.append((word, asked.model, asked.known.parameters_billion))
    shares = [(size / against - 1, base, model) for base, model, against in bases]
    return ", ".join(
        f"{abs(share):.0%} {'more' if share > 0 else 'fewer'} parameters than {base} ({model})"
        for share, base, model in shares
        if abs(share) >= TOLD
    )


def previous_of(decided: Decided) -> Candidate | None:
    """The candidate of the last attempt, as it looks now; None in the first round, or when it is gone."""
    if not decided.attempts:
        return None
    last = decided.attempts[-1]
    return _find(decided, last.backend, last.model)


def _asked(decided: Decided) -> tuple[str, Candidate | None]:
    """What the job asked for by name; else what it began with."""
    needs = decided.slip.needs
    if word := needs.model or needs.preferred_model:
        return "asked", next((c for c in (*decided.ranking, *decided.others) if is_called(c, word)), None)
    if decided.attempts:
        return "the first", _find(decided, decided.attempts[0].backend, decided.attempts[0].model)
    return "the first", decided.ranking[0] if decided.ranking else None


def _find(decided: Decided, backend: str, model: str) -> Candidate | None:
    return next((c for c in (*decided.ranking, *decided.others) if c.backend == backend and c.model == model), None)
