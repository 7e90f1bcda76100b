from __future__ import annotations

from typing import Any

import pytest

from actors.explainer.scores import deciding_part, made_of, score, strategy_of, worth_of_time
from messages import Plan
from tests.messages.samples import candidate, decided, needs, slip

POINTS = ("priority", "cost", "speed", "queue")
SHARES = ("used_share", "target_share")
MONEY = ("time", "switch", "price", "risk", "queue")
LOCAL = candidate("local", score=88.0, parts=(40.0, 30.0, 10.0, 8.0))
CLOUD = candidate("cloud", score=64.04, parts=(26.67, 27.38, 9.99, 0.0))


@pytest.mark.parametrize(
    ("strategy", "changes", "said"),
    [
        ("weighted_score", {"score": 88.04}, "88.0 points"),
        ("expected_cost", {"score": -3_100.0}, "an expected cost of $0.0031"),
        ("cost_first", {"features": {"price_microdollars": 7_000.0}}, "an expected price of $0.007"),
        ("cost_first", {}, "an expected price of $0"),
        (
            "cost_first", {"features": {"price_microdollars": 80_000.0, "price_assumed": True}},
            "an unknown price that counts as $0.08",
        ),
        ("latency_first", {"features": {"wait_seconds": 1.5}}, "about 3.5 s until it is done"),
        ("adaptive", {}, "about 2.0 s until it is done"),
        ("fastest_response", {"features": {"first_token_seconds": 0.25}}, "about 250 ms to its first token"),
        ("least_loaded", {"features": {"ahead": 1.0}}, "1 job on 4 places"),
        ("most_capacity", {"known": {"context_tokens": 128_000}}, "a context of 128,000 tokens"),
        ("context_based", {"score": 8_192.0, "known": {"context_tokens": 8_192}}, "a context of 8,192 tokens"),
        ("context_based", {"score": 1e9}, "context enough and place 2 of the pool"),
        ("manual", {}, "place 2 of the pool"),
        ("quality_based", {"score": 3_300.0, "known": {"quality_tier": 3}}, "quality tier 3"),
        ("quality_based", {"score": 3e6}, "place 1 for simple jobs"),
        ("complexity_based", {"score": 1e6, "features": {"saturated": True}}, "place 1 for simple jobs but is saturated"),
        ("complexity_based", {"score": 2e6, "backend": "spare"}, "a place in the overflow of simple jobs"),
        ("complexity_based", {"score": -1_000.0}, "place 2 of the pool"),
        ("adaptive_weighted", {"score": 2e6, "parts": (0.2, 0.3)}, "20% of the latest jobs for a share of 30%"),
        ("adaptive_weighted", {"score": 1e6, "backend": "x", "model": "y"}, "a share of the traffic"),
        ("own_strategy", {"score": 12.3456789}, "a score of 12.3457"),
    ],
)  # fmt: skip
def test_a_score_is_told_by_what_its_strategy_looks_at(strategy: str, changes: dict[str, Any], said: str) -> None:
    plan = Plan(pool=("p", "m", "spare", "x"), classes={"simple": ("a",)}, overflow=("spare",))
    one = candidate(**{"model": "m", **{key: value for key, value in changes.items() if key != "backend"}},
                    name=changes.get("backend", "a"))  # fmt: skip
    assert score(decided(ranking=(one,), strategy=strategy, plan=plan, slip=slip(needs=needs())), one) == said


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({}, "an hour of waiting counts $0.60, by the policy"),
        ({"value_per_hour_microdollars": 7_200_000}, "an hour of waiting counts $7.20, by the job's own word"),
        ({"prioritize_speed": True}, "an hour of waiting counts $24.00, since it prioritizes speed"),
    ],
)
def test_what_the_time_was_worth(wishes: dict[str, Any], said: str) -> None:
    assert worth_of_time(decided(slip=slip(needs=needs(**{"value_per_hour_microdollars": None, **wishes})))) == said


def test_an_assumed_price_is_told() -> None:
    dear = candidate(parts=(2_000.0, 0.0, 80_000.0, 0.0, 0.0), features={"price_assumed": True})
    assert made_of(decided(parts=MONEY, strategy="expected_cost"), dear) == (
        "time $0.002, price $0.08 (its price is unknown, and counts as dear)"
    )


def test_parts_are_told_in_their_unit() -> None:
    assert made_of(decided(parts=POINTS), LOCAL) == "priority 40, cost 30, speed 10, queue 8"
    dear = candidate(parts=(2_000.0, 0.0, 100.0, 4.6, 0.0))
    assert made_of(decided(parts=MONEY, strategy="expected_cost"), dear) == (
        "time $0.002, price $0.0001, risk $0.000005"
    )
    shared = candidate(parts=(0.25, 0.3))
    assert made_of(decided(parts=SHARES, strategy="usage_based"), shared) == "used_share 25%, target_share 30%"
    assert made_of(decided(parts=SHARES), candidate(parts=(0.0, 0.0))) == made_of(decided(), candidate()) == ""
    own = candidate(parts=(0.123456,))
    assert made_of(decided(parts=("luck",), strategy="own"), own) == "luck 0.1235"


def test_outside_the_pool_points_count() -> None:
    event = decided(ranking=(candidate("a"), CLOUD), plan=Plan(pool=("a",)), strategy="usage_based", parts=SHARES)
    assert strategy_of(event, CLOUD) == "weighted_score"
    assert made_of(event, CLOUD) == "priority 26.7, cost 27.4, speed 10, queue 0"


def test_the_part_that_made_the_difference() -> None:
    event = decided(ranking=(LOCAL, CLOUD), parts=POINTS)
    assert deciding_part(event, LOCAL, CLOUD) == "mostly by priority: 26.7 against 40"
    cheap = candidate(score=-100.0, parts=(90.0, 0.0, 10.0, 0.0, 0.0))
    dear = candidate("b", score=-350.0, parts=(50.0, 0.0, 300.0, 0.0, 0.0))
    event = decided(ranking=(cheap, dear), parts=MONEY, strategy="expected_cost")
    assert deciding_part(event, cheap, dear) == "mostly by price: $0.0003 against $0.00001"


def test_a_factor_of_the_policy_is_named_when_it_made_the_difference() -> None:
    favoured = candidate(score=80.0, parts=(10.0, 10.0, 10.0, 10.0), known={"multiplier": 2.0})
    other = candidate("b", score=60.0, parts=(30.0, 10.0, 10.0, 10.0))
    event = decided(ranking=(favoured, other), parts=POINTS)
    assert deciding_part(event, favoured, other) == "by the policy's factor: 1 against 2"


def test_parts_that_do_not_add_up_to_the_score_decide_nothing() -> None:
    one, other = candidate(score=2e6, parts=(0.1, 0.3)), candidate("b", score=1e6, parts=(0.9, 0.3))
    assert deciding_part(decided(ranking=(one, other), parts=SHARES, strategy="usage_based"), one, other) == ""
    assert deciding_part(decided(ranking=(LOCAL, CLOUD)), LOCAL, CLOUD) == ""
    same = candidate("b", score=88.0, parts=LOCAL.parts)
    assert deciding_part(decided(ranking=(LOCAL, same), parts=POINTS), LOCAL, same) == ""
