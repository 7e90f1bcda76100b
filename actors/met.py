"""Which guardrails a job met, and who was passed over for them: from a decision and its verdict. Pure."""

from __future__ import annotations

from messages import Decided, Granted, Met


def met_of(decided: Decided, granted: Granted | None = None) -> tuple[Met, ...]:
    """By the order of the candidates: those that the router and the guardrail passed over, and what the one that runs exceeds."""
    found = [
        Met(backend=c.backend, model=c.model, kind="guardrail" if c.barred == "guardrail" else "cost", text=c.reason)
        for c in decided.others
        if c.barred in ("guardrail", "cost")
    ]
    if granted is not None:
        found += [
            Met(backend=skip.backend, model=skip.model, kind="budget", budget=skip.budget, text=skip.reason)
            for skip in granted.skipped
            if skip.budget
        ]
        found += [
            Met(backend=c.backend, model=c.model, kind="guardrail", text=text, passed_over=False)
            for c in decided.ranking
            if granted.verdict == "candidate" and (c.backend, c.model) == (granted.backend, granted.model)
            for text in c.breaches
        ]
    return tuple(found)
