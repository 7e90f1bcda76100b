"""The demo's fleet: three simulated backends whose strengths differ, and the policy that weighs them."""

from __future__ import annotations

import msgspec

from actors.settings import BreakerRules, JobSettings, Settings
from actors.simbackend import SimSettings
from messages import FailoverRules, Model, Offer, Policy, Price, Weights

ANSWER_TOKENS = 300


class Member(msgspec.Struct, frozen=True):
    """One simulated backend: how it behaves, and what is announced of it."""

    sim: SimSettings
    offer: Offer


def member(
    name: str,
    *,
    model: Model,
    priority: int,
    slots: int,
    local: bool = False,
) -> Member:
    """A backend that behaves exactly as its model states."""
    sim = SimSettings(
        name=name,
        models=(model.name,),
        first_token_seconds=model.first_token_seconds or 0.0,
        tokens_per_second=model.tokens_per_second or 0.0,
        answer_tokens=ANSWER_TOKENS,
        context_tokens=model.context_tokens or 8192,
        price_input_microdollars=model.price.input_per_mtok,
        price_output_microdollars=model.price.output_per_mtok,
        slots=slots,
    )
    offer = Offer(
        backend=name,
        protocol="openai",
        local=local,
        provider="simulated",
        priority=priority,
        slots=slots,
        models=(model,),
    )
    return Member(sim, offer)


LOCAL = member(
    "local",
    model=Model(
        name="sim-local-8b",
        capabilities=("text", "json", "code"),
        context_tokens=8192,
        quality_tier=2,
        tokens_per_second=120.0,
        first_token_seconds=0.2,
    ),
    priority=1,
    slots=3,
    local=True,
)
CHEAP = member(
    "cheap-cloud",
    model=Model(
        name="sim-mini",
        capabilities=("text", "json", "code"),
        context_tokens=32_768,
        price=Price(input_per_mtok=150_000, output_per_mtok=600_000),
        quality_tier=3,
        tokens_per_second=200.0,
        first_token_seconds=0.4,
    ),
    priority=2,
    slots=4,
)
FAST = member(
    "fast-cloud",
    model=Model(
        name="sim-large",
        capabilities=("text", "json", "code", "tools", "vision"),
        context_tokens=131_072,
        price=Price(input_per_mtok=3_000_000, output_per_mtok=15_000_000),
        quality_tier=5,
        tokens_per_second=600.0,
        first_token_seconds=0.15,
    ),
    priority=3,
    slots=8,
)
FLEET = (LOCAL, CHEAP, FAST)

POLICY = Policy(
    policy="demo",
    order=5,
    source="demo",
    failover=FailoverRules(max_attempts=4, waits_seconds=(0.5, 1.0, 2.0)),
    weights=Weights(fast_seconds=1.0, slow_seconds=10.0, dear_microdollars=12_000.0, long_queue=6.0),
)
"""Anchors that suit answers of a few seconds; the shipped ones expect longer answers."""

SETTINGS = Settings(
    jobs=JobSettings(deadline_seconds=120.0),
    breaker=BreakerRules(open_seconds=3.0, jitter=0.0),
)
"""A breaker that opens for seconds, not for the shipped half minute, so that the whole story fits into one sitting."""
