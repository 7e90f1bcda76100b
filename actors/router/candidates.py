"""Who may run a job, and what is known about each: filters with reasons, features for the strategies. Pure."""

from __future__ import annotations

from actors.router.view import View
from messages import Attempt, Backend, Breaker, Candidate, Exclusion, Model, Slip
from messages.fleet import workflow_key

ENOUGH_MEASUREMENTS = 3
"""From so many successful attempts on, the measured latency replaces the stated speed."""
DEFAULT_TOKENS_PER_SECOND = 30.0
DEFAULT_FIRST_TOKEN_SECONDS = 0.5
TYPICAL_OUTPUT_SHARE = 0.5
"""Answers use about half of their cap: the expected output for speed and price."""


def open_breaker(breaker: Breaker | None, now: float) -> bool:
    """Whether a breaker lets nobody through at the moment."""
    return breaker is not None and now < breaker.open_until


def why_not(
    slip: Slip, backend: Backend, model: Model, view: View, *, now: float, spent_microdollars: int, worst: int
) -> str:
    """The first reason for which this backend and model may not run the job; empty when it may."""
    needs = slip.needs
    if needs.model and model.name != needs.model:
        return f"serves {model.name}, not {needs.model}"
    missing = sorted(set(needs.capabilities) - set(model.capabilities))
    if missing:
        return f"lacks {', '.join(missing)}"
    context = needs.input_tokens + min(needs.max_output_tokens, model.max_output_tokens or needs.max_output_tokens)
    if model.context_tokens is not None and context > model.context_tokens:
        return f"needs {context:,} tokens of context, has {model.context_tokens:,}"
    if not needs.allow_cloud and not backend.local:
        return "is a cloud backend, and the job does not allow the cloud"
    limit = needs.max_cost_microdollars
    if limit is not None and model.price.unknown:
        return "has no known price, and the job limits its cost"
    if limit is not None and spent_microdollars + worst > limit:
        return f"could cost ${worst / 1e6:.6f}, the job has ${max(0, limit - spent_microdollars) / 1e6:.6f} left"
    if backend.slots <= 0:
        return "has no live executor"
    if not backend.healthy:
        return f"is unhealthy: {backend.health_reason}"
    breaker = view.breakers.get((backend.backend, model.name))
    if open_breaker(breaker, now):
        assert breaker is not None
        return f"has an open breaker for {breaker.open_until - now:.0f} s: {breaker.reason}"
    return ""


TEMPORARY = ("has no live executor", "is unhealthy", "has an open breaker", "excluded for")
"""Beginnings of reasons that may pass by themselves."""


def features(slip: Slip, backend: Backend, model: Model, view: View, now: float) -> dict[str, float]:
    """The figures a strategy may use for one candidate."""
    needs = slip.needs
    cap = min(needs.max_output_tokens, model.max_output_tokens or needs.max_output_tokens)
    typical = max(1, int(cap * TYPICAL_OUTPUT_SHARE))
    stats = view.measured(backend.backend, model.name, workflow_key(slip.tenant, needs.workflow))
    if stats and stats.successes >= ENOUGH_MEASUREMENTS and stats.latency_seconds is not None:
        service, measured = stats.latency_seconds, float(stats.successes)
    else:
        speed = model.tokens_per_second or DEFAULT_TOKENS_PER_SECOND
        first = DEFAULT_FIRST_TOKEN_SECONDS if model.first_token_seconds is None else model.first_token_seconds
        service, measured = first + typical / speed, 0.0
    load = view.loads.get(backend.backend)
    own = view.own_since_load(backend.backend, now)
    ahead = (load.waiting + load.running if load else 0) + own
    slots = max(1, backend.slots)
    waiting = max(0.0, ahead - slots + 1)
    return {
        "priority": float(backend.priority),
        "price_microdollars": float(model.price.cost(needs.input_tokens, typical)),
        "service_seconds": round(service, 6),
        "measured_runs": measured,
        "ahead": float(ahead),
        "own_decisions": float(own),
        "slots": float(slots),
        "queue": waiting,
        "wait_seconds": round(waiting * service / slots, 6),
        "quality_tier": float(model.quality_tier),
        "max_output_tokens": float(cap),
        "has_code": float("code" in model.capabilities),
    }


def excluded_by(exclusions: tuple[Exclusion, ...], backend: str, now: float) -> Exclusion | None:
    """The exclusion in force for a backend, the longest one first."""
    found = [e for e in exclusions if e.backend == backend and (e.until == 0.0 or e.until > now)]
    return min(found, key=lambda e: (e.until != 0.0, -e.until), default=None)


def candidates(
    slip: Slip, attempts: tuple[Attempt, ...], exclusions: tuple[Exclusion, ...], view: View, now: float
) -> list[Candidate]:
    """Every backend and model, permitted or not, with reason and features; in order of names."""
    found: list[Candidate] = []
    spent = sum(attempt.billed_microdollars for attempt in attempts)
    for name in sorted(view.backends):
        backend = view.backends[name]
        for model in sorted(backend.models, key=lambda m: m.name):
            figures = features(slip, backend, model, view, now)
            cap = int(figures["max_output_tokens"])
            worst = model.price.cost(slip.needs.input_tokens, cap)
            reason = why_not(slip, backend, model, view, now=now, spent_microdollars=spent, worst=worst)
            exclusion = excluded_by(exclusions, name, now)
            if not reason and exclusion is not None:
                until = f"for {exclusion.until - now:.0f} s" if exclusion.until else "from this job"
                reason = f"excluded {until}: {exclusion.reason}"
            changes = (f"output capped at {cap} instead of {slip.needs.max_output_tokens} tokens",)
            found.append(
                Candidate(
                    backend=name,
                    model=model.name,
                    permitted=not reason,
                    reason=reason,
                    features=figures,
                    worst_case_microdollars=worst,
                    worst_case_tokens=slip.needs.input_tokens + cap,
                    max_output_tokens=cap,
                    price=model.price,
                    local=backend.local,
                    changes=changes if cap < slip.needs.max_output_tokens else (),
                )
            )
    return found
