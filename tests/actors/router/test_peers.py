"""Equal backends are expected to be equal, whichever of them was measured."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.survey import survey
from messages import Backend, Features, Model, Stats
from tests.actors.router.fleets import view_of
from tests.messages.samples import T0, backend, needs

NAMES = ("a", "b", "c", "d")


def measured(name: str, seconds: float, weight: float, **changes: Any) -> Stats:
    return Stats(
        backend=name, model="m", scope="-", attempts=9, successes=9, weight=weight, latency_seconds=seconds,
        output_tokens=40.0, input_ratio=1.5, first_token_seconds=0.1, at=T0, **changes,
    )  # fmt: skip


def seen(*facts: Any, now: float = T0) -> dict[str, Features]:
    rows = survey(needs(), "acme", view_of(*facts), output_share=0.5, now=now)
    return {row.backend: row.features for row in rows}


def fleet(*names: str, **changes: Any) -> list[Backend]:
    return [backend(name, **changes) for name in names]


@given(st.floats(0.05, 500.0), st.floats(1.0, 50.0), st.integers(2, 4))
def test_who_is_not_measured_is_expected_to_take_as_long_as_its_equals(seconds: float, runs: float, size: int) -> None:
    found = seen(*fleet(*NAMES[:size]), measured("b", seconds, runs))
    one = found["b"]
    for name, other in found.items():
        assert other.service_seconds == pytest.approx(one.service_seconds)
        assert (other.input_ratio, other.first_token_seconds) == (1.5, 0.1)
        assert (other.runs, other.equals) == ((runs, 0) if name == "b" else (0, runs))


@given(st.lists(st.integers(0, 60), min_size=2, max_size=2), st.floats(0.05, 500.0))
def test_two_that_are_equally_quick_are_expected_to_be_however_often_each_was_measured(
    runs: list[int], seconds: float
) -> None:
    facts = [measured(name, seconds, float(count)) for name, count in zip(NAMES, runs, strict=False) if count]
    found = seen(*fleet("a", "b"), *facts)
    assert found["a"].service_seconds == pytest.approx(found["b"].service_seconds)


def test_who_is_measured_to_be_slower_is_expected_to_be() -> None:
    found = seen(*fleet("a", "b"), measured("a", 1.0, 30.0), measured("b", 9.0, 30.0))
    assert found["a"].service_seconds == pytest.approx(1.0, rel=0.1)
    assert found["b"].service_seconds == pytest.approx(9.0, rel=0.1)


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "vllm"},
        {"local": False, "provider": "us"},
        {"vram_total_mb": 8_000},
        {"models": (Model(name="n"),)},
        {"models": (Model(name="m", tokens_per_second=9.0),)},
        {"models": (Model(name="m", seconds_per_job=9.0),)},
    ],
)
def test_who_differs_in_what_is_stated_is_no_equal(other: dict[str, Any]) -> None:
    alone = seen(backend("b", **other))["b"]
    assert seen(backend("a"), backend("b", **other), measured("a", 77.0, 20.0))["b"] == alone


def test_what_equals_measured_long_ago_counts_less() -> None:
    facts = (*fleet("a", "b"), measured("a", 77.0, 20.0))
    fresh, old, stated = seen(*facts)["b"], seen(*facts, now=T0 + 1e6)["b"], seen(*fleet("a", "b"))["b"]
    assert old.equals < 1e-6 < fresh.equals
    assert math.isclose(old.service_seconds, stated.service_seconds, rel_tol=0.7)
    assert fresh.service_seconds > 40.0 > old.service_seconds


def test_an_equal_that_is_gone_or_forgotten_leaves_no_trace() -> None:
    stats = measured("a", 77.0, 20.0)
    view = view_of(*fleet("a", "b"), stats)

    def equals() -> float:
        rows = survey(needs(), "acme", view, output_share=0.5, now=T0)
        return next(row.features.equals for row in rows if row.backend == "b")

    assert equals() == 20.0
    view.learn_backend(backend("a", priority=3))
    assert equals() == 20.0
    view.learn_backend(backend("a", models=(Model(name="n"),)))
    assert equals() == 0
    view.learn_backend(backend("a"))
    assert equals() == 20.0
    view.forget_stats(stats)
    assert equals() == 0
    view.learn_stats(stats)
    view.forget_backend(view.backends["a"])
    assert equals() == 0
