"""A decision as its verdict left it: who was passed over may not run, who runs leads. Pure."""

from __future__ import annotations

import msgspec

from messages import Decided, Granted


def as_granted(decided: Decided, granted: Granted) -> Decided:
    """The decision without those that the guardrail passed over; they stand among the others, with its reasons."""
    reasons = {(skip.backend, skip.model): (skip.budget, skip.reason) for skip in granted.skipped}
    runs = [c for c in decided.ranking if (c.backend, c.model) == (granted.backend, granted.model)]
    rest = [c for c in decided.ranking if c not in runs and (c.backend, c.model) not in reasons]
    passed = [
        msgspec.structs.replace(c, barred="budget" if budget else "breaker", reason=f"was passed over: {why}")
        for c in decided.ranking
        if (found := reasons.get((c.backend, c.model))) is not None
        for budget, why in (found,)
    ]
    names = ", ".join(f"{c.backend}/{c.model}" for c in passed)
    return msgspec.structs.replace(
        decided, ranking=(*runs, *rest), others=(*passed, *decided.others), explored=False,
        reason=f"{granted.backend} runs it, since {names} was passed over",
    )  # fmt: skip
