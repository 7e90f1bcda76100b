from __future__ import annotations

from typing import Any

import pytest

from actors.explainer.places import hop, is_called, is_preferred, outside, place_in, previous_of, seconds, weightier
from messages import Attempt, Parameters, Plan
from tests.messages.samples import T0, candidate, decided, slip

A, B = candidate("a"), candidate("b")
FAILED = Attempt(n=1, backend="b", model="m", outcome="timeout", billed_microdollars=0)
UNSTARTED = Attempt(n=1, backend="b", model="m", outcome="not_started", billed_microdollars=0)


def sized(name: str, billions: float | None, **changes: Any) -> Any:
    return candidate(name, model=f"{name}-model", known={"parameters_billion": billions}, **changes)


def test_a_word_may_mean_a_model_its_id_a_backend_or_both() -> None:
    one = candidate("gpu", model="llama3.1:8b", known={"names": ("llama", "llama3.1")})
    assert all(is_called(one, word) for word in ("gpu", "llama3.1:8b", "llama", "llama3.1", "gpu/llama3.1:8b"))
    assert not is_called(one, "gpt")
    assert [place_in(("x", "llama", "gpu"), one), place_in(("x",), one)] == [1, 1]


def test_expected_seconds_are_wait_loading_and_call() -> None:
    assert seconds(candidate(features={"wait_seconds": 1.0, "switch_seconds": 4.0, "service_seconds": 2.0})) == 7.0


def test_outside_the_pool_means_while_others_are_inside() -> None:
    plan = Plan(pool=("a",))
    assert [outside(decided(ranking=(A, B), plan=plan), one) for one in (A, B)] == [False, True]
    assert not outside(decided(ranking=(B,), plan=plan), B)
    assert not outside(decided(ranking=(A, B)), B)


def test_the_preferred_is_backend_and_model() -> None:
    def prefers(**needs: Any) -> bool:
        return is_preferred(decided(slip=slip(needs=needs)), A)

    assert prefers(preferred_backend="a")
    assert prefers(preferred_model="m")
    assert not prefers()
    assert not prefers(preferred_backend="b")
    assert not prefers(preferred_backend="a", preferred_model="other")


LATE = candidate("b", features={"service_seconds": 700.0})
CODE = candidate("a", known={"capabilities": ("code", "text")})
DEGRADED = candidate("b", parameters=Parameters(degrade=("drop_images",)))


@pytest.mark.parametrize(
    ("best", "other", "changes", "why"),
    [
        (A, B, {}, ""),
        (A, B, {"attempts": (FAILED,)}, "it failed this job before"),
        (A, B, {"attempts": (UNSTARTED,)}, ""),
        (A, B, {"slip": slip(needs={"preferred_backend": "a"})}, "the job prefers a"),
        (A, DEGRADED, {}, "the request would have to be cut down for it"),
        (A, LATE, {}, "its 11 min 40 s would miss the deadline in 10 min 0 s"),
        (A, B, {"plan": Plan(pool=("a",))}, "it is outside the pool of the rule"),
        (CODE, B, {"slip": slip(needs={"task": "code"})}, "it is no code model"),
        (CODE, B, {}, ""),
        (A, B, {"plan": Plan(fixed=True)}, "routing is switched off, and the order is fixed"),
        (A, B, {"plan": Plan(chain=("a", "b"))}, "the chain of the model that failed says so"),
        (A, B, {"plan": Plan(chain=("b", "a"))}, ""),
    ],
)  # fmt: skip
def test_what_weighs_more_than_a_score(best: Any, other: Any, changes: dict[str, Any], why: str) -> None:
    assert weightier(decided(ranking=(best, other), at=T0, **changes), best, other) == why


def test_a_hop_tells_the_change_of_parameters_against_both_bases() -> None:
    big, middle, small = sized("big", 357.0), sized("middle", 480.0), sized("small", 32.0)
    past = tuple(
        Attempt(n=n, backend=name, model=f"{name}-model", outcome="timeout", billed_microdollars=0)
        for n, name in enumerate(("big", "middle"), 1)
    )
    third = decided(n=3, ranking=(small,), others=(big, middle), attempts=past)
    assert previous_of(third) == middle
    assert hop(third, small, middle) == (
        "93% fewer parameters than the hop before (middle-model), 91% fewer parameters than the first (big-model)"
    )
    asked = decided(n=2, ranking=(small,), others=(big, middle), attempts=past[1:],
                    slip=slip(needs={"preferred_model": "big-model"}))  # fmt: skip
    assert hop(asked, small, middle).endswith("91% fewer parameters than asked (big-model)")
    assert hop(third, middle, big) == "34% more parameters than the hop before (big-model)"
    assert hop(third, sized("x", 480.0), middle) == "34% more parameters than the first (big-model)"
    assert hop(third, sized("x", 357.0), big) == ""


def test_an_unknown_size_is_not_guessed() -> None:
    first, second = sized("first", None), sized("second", 8.0)
    event = decided(ranking=(second, first))
    assert hop(event, second, first) == hop(event, first, second) == hop(event, second, None) == ""
    assert hop(event, sized("v", 8.0, parameters=Parameters(model="v-small")), second) == ""
    assert previous_of(event) is None
    assert previous_of(decided(attempts=(FAILED,))) is None
