from __future__ import annotations

from typing import Any

import pytest

from actors.explainer.compare import against, alternatives, sentence
from messages import Plan, Price
from tests.messages.samples import candidate, decided, slip

PARTS = ("priority", "cost", "speed", "queue")


def texts(best: Any, rival: Any) -> list[str]:
    return [figure.reason.text for figure in against(decided(ranking=(best, rival)), best, rival)]


def fast(name: str, seconds: float, runs: float = 0.0, **changes: Any) -> Any:
    return candidate(name, features={"service_seconds": seconds, "runs": runs}, **changes)


@pytest.mark.parametrize(
    ("mine", "theirs", "said", "window"),
    [
        (10.0, 14.0, "has 20% lower latency than claude/m over the last 10 runs (8.0 s against 10.0 s)", 10),
        (10.0, 2.0, "has 20% lower latency than claude/m (8.0 s over its last 10 runs against a stated 10.0 s)", 10),
        (0.0, 12.0, "has 20% lower latency than claude/m (a stated 8.0 s against 10.0 s over the other's last 12 runs)", 0),
        (0.0, 0.0, "has 20% lower latency than claude/m by stated speeds (8.0 s against 10.0 s)", 0),
    ],
)  # fmt: skip
def test_latency_names_rival_and_window_and_says_what_is_only_stated(
    mine: float, theirs: float, said: str, window: int
) -> None:
    """Seed 003: "Claude selected due to 20% lower latency last 10 runs"."""
    best, rival = fast("gpu", 8.0, mine), fast("claude", 10.0, theirs)
    (figure,) = against(decided(ranking=(best, rival)), best, rival)
    reason = figure.reason
    assert reason.text == f"gpu/m {said}"
    assert (reason.kind, reason.value, reason.rival, reason.rival_value) == ("speed", 8.0, "claude/m", 10.0)
    assert reason.window_runs == window


def test_what_equals_measured_is_not_called_stated() -> None:
    given = {"service_seconds": 10.0, "equals": 4.0}
    guessed = candidate("b", features=given)
    assert texts(fast("a", 8.0, 10.0), guessed) == [
        "a/m has 20% lower latency than b/m (8.0 s over its last 10 runs against an expected 10.0 s)"
    ]
    assert texts(fast("a", 8.0), guessed) == [
        "a/m has 20% lower latency than b/m by what equal backends take (8.0 s against 10.0 s)"
    ]


def test_small_differences_are_not_told_and_large_ones_are_factors() -> None:
    assert texts(fast("a", 10.0), fast("b", 10.4)) == []
    assert texts(fast("a", 10.0), fast("b", 2.0)) == [
        "a/m has 5.0 times the latency of b/m by stated speeds (10.0 s against 2.0 s)"
    ]


def test_price_queue_and_quality_are_compared() -> None:
    best = candidate("a", features={"ahead": 1.0}, known={"quality_tier": 2})
    rival = candidate("b", features={"price_microdollars": 7_000.0, "ahead": 3.0}, known={"quality_tier": 4})
    assert texts(best, rival) == [
        "a/m costs nothing against $0.007 at b/m", "a/m has 1 job ahead against 3 at b/m",
        "a/m is of quality tier 2 against 4 of b/m",
    ]  # fmt: skip
    figures = against(decided(ranking=(best, rival)), best, rival)
    assert sentence(figures, rival) == (
        "Compared with b/m it costs nothing against $0.007 and has 1 job ahead against 3, but is of quality tier 2 against 4"
    )


def test_an_unknown_price_is_not_compared() -> None:
    assert (
        texts(
            candidate("a"), candidate("b", features={"price_microdollars": 5.0}, known={"price": Price(unknown=True)})
        )
        == []
    )


def lost(best: Any, *others: Any, **changes: Any) -> list[str]:
    return [reason.text for reason in alternatives(decided(ranking=(best, *others), **changes))]


def test_an_alternative_lost_by_points_and_the_part_that_made_them() -> None:
    best = candidate("local", score=88.0, parts=(40.0, 30.0, 10.0, 8.0))
    rival = candidate("cloud", score=64.0, parts=(26.0, 28.0, 10.0, 0.0))
    (reason,) = alternatives(decided(ranking=(best, rival), parts=PARTS))
    assert reason.text == "cloud/m has 64.0 points, 24.0 fewer than local/m, mostly by priority: 26 against 40"
    assert (reason.kind, reason.about, reason.value, reason.rival, reason.rival_value) == (
        "score", "cloud/m", 64.0, "local/m", 88.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("best", "other", "changes", "said"),
    [
        ({"score": -100.0}, {"score": -350.0}, {"strategy": "expected_cost"},
         "has an expected cost of $0.00035, $0.00025 more than a/m"),
        ({"score": 1.0}, {"score": 1.0}, {}, "has the same score as a/m, and comes later by name"),
        ({"score": 1.0}, {"score": 2.0}, {"reason": "a leads for a reason."}, "has 2.0 points, but a leads for a reason"),
        ({"score": 1.0}, {"score": 2.0}, {"explored": True, "number": 0.001}, "has 2.0 points, but a/m is tried this time"),
        ({"score": 2.0}, {"score": 1.0}, {"strategy": "latency_first"},
         "has about 2.0 s until it is done as well, and lost to a/m by what comes next in latency_first"),
        ({"score": 2.0}, {"score": 1.0, "features": {"wait_seconds": 3.0}}, {"strategy": "latency_first"},
         "has about 5.0 s until it is done against about 2.0 s until it is done of a/m"),
        ({"score": 1.0}, {"score": 2.0}, {"slip": slip(needs={"preferred_backend": "a"})}, "comes after a/m: the job prefers a"),
    ],
)  # fmt: skip
def test_an_alternative_says_why_it_lost(
    best: dict[str, Any], other: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    assert lost(candidate("a", **best), candidate("b", **other), **changes) == [f"b/m {said}"]


def test_an_excluded_one_names_what_stands_against_it() -> None:
    out = candidate("blind", barred="capability", reason="lacks vision")
    (reason,) = alternatives(decided(ranking=(), others=(out,)))
    assert (reason.kind, reason.about, reason.text) == ("filter", "blind/m", "blind/m lacks vision")


def test_hops_of_a_chain_say_how_much_smaller_each_is() -> None:
    first = candidate("a", model="big", score=3.0, known={"parameters_billion": 480.0, "chain": ("middle", "small")})
    second = candidate("b", model="middle", score=2.0, known={"parameters_billion": 57.6})
    third = candidate("c", model="small", score=1.0, known={"parameters_billion": 8.0})
    other = candidate("d", model="other", score=0.5, known={"parameters_billion": 70.0})
    said = lost(first, second, third, other)
    assert said[0].endswith("; a hop of the chain, 88% fewer parameters than the hop before (big)")
    assert said[1].endswith(
        "; a hop of the chain, 86% fewer parameters than the hop before (middle), 98% fewer parameters than the first (big)"
    )
    assert "hop" not in said[2]
    unknown = candidate("b", model="middle", score=2.0)
    assert lost(first, unknown)[0].endswith("; a hop of the chain")
    assert "hop" not in lost(candidate("a", model="big"), second, plan=Plan())[0]
