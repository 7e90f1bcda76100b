"""Why nobody can run a job, in words that fit into an event."""

from __future__ import annotations

from typing import Any

import pytest

from actors.router.words import MOST_OF_POOL
from messages import Model, Policy, Rule
from tests.actors.router.fleets import decision, view_of
from tests.messages.samples import T0, backend


def test_a_large_exhausted_pool_is_told_in_part() -> None:
    pool = tuple(f"m-{n:03d}" for n in range(MOST_OF_POOL + 6))
    rule = Rule(name="all", pool=pool, strict=True, requires=("unheard-of",))
    served = backend("a", models=tuple(Model(name=name) for name in pool))
    made = decision(view_of(served, Policy(policy="p", rules=(rule,))))
    assert made.gave_up is not None
    message = made.gave_up.message
    assert message.count("lacks unheard-of") == MOST_OF_POOL
    assert message.endswith("; and 6 more")


def models(*names: str, context: int | None = None) -> tuple[Model, ...]:
    return tuple(Model(name=name, context_tokens=context) for name in names)


MANY = tuple(f"m-{n}" for n in range(12))
DEAF = backend("a", models=models(*MANY))
SMALL = backend(
    "b", models=tuple(Model(name=f"s-{n}", capabilities=("text", "audio"), context_tokens=10 + n) for n in range(5))
)
ILL = backend("c", models=(Model(name="i", capabilities=("text", "audio")),), healthy=False, health_reason="no answer")
ALSO_ILL = backend(
    "d", models=(Model(name="i", capabilities=("text", "audio")),), healthy=False, health_reason="HTTP 404"
)


@pytest.mark.parametrize(
    ("there", "needs", "said"),
    [
        ((DEAF,), {"capabilities": ("audio",)}, "none of 12 models can do audio"),
        ((DEAF, SMALL), {"model": "x"}, "none of 17 models is x"),
        ((backend("a", models=models("m", "n")),), {"capabilities": ("audio", "vision")},
         "a/m lacks audio, vision (both models)"),
        ((backend("a"),), {"capabilities": ("audio",)}, "a/m lacks audio"),
        ((SMALL,), {"input_tokens": 900}, "b/s-0 needs 1,000 tokens of context, has 10 (all 5 models)"),
        ((ILL, SMALL, DEAF), {"capabilities": ("audio",), "input_tokens": 900},
         ("c/i is unhealthy: no answer; b/s-0 needs 1,000 tokens of context, has 10 (5 of 18 models); "
          "a/m-0 lacks audio (12 of 18 models)")),
        ((ILL, ALSO_ILL, SMALL, DEAF), {"capabilities": ("audio",), "input_tokens": 900},
         ("c/i is unhealthy: no answer; d/i is unhealthy: HTTP 404; b/s-0 needs 1,000 tokens of context, has 10 "
          "(5 of 19 models); and 12 models for other reasons")),
        ((ILL, DEAF), {"model": "i"},  # Those who serve the model come before the many who don't.
         "c/i is unhealthy: no answer; a/m-0 serves m-0, not i (12 of 13 models)"),
    ],
)  # fmt: skip
def test_what_keeps_many_away_is_told_once_with_an_example(there: Any, needs: dict[str, Any], said: str) -> None:
    made = decision(view_of(*there), needs={"max_output_tokens": 100, **needs}, deadline_at=T0 + 0.1)
    told = (
        made.gave_up.message
        if made.gave_up
        else made.reason.removeprefix("nothing may run now, waiting for a change: ")
    )
    assert told == f"no backend may run this job: {said}"
    assert (made.gave_up is None) is ("unhealthy" in said)


@pytest.mark.parametrize(
    ("there", "wish", "said"),
    [
        (
            (backend("a"), backend("b")),
            {"strategy": "weighted_score"},
            "a leads with 100.0 points; next is b with 100.0",
        ),
        (
            (backend("a", models=models("m", "n")),),
            {"strategy": "weighted_score"},
            "a/m leads with 100.0 points; next is a/n with 100.0",
        ),
        ((backend("a", models=models("m", "n")),), {"strategy": "cost_first"}, "a/m leads by cost_first; next is a/n"),
    ],
)
def test_models_of_one_backend_are_told_apart(there: Any, wish: dict[str, Any], said: str) -> None:
    assert decision(view_of(*there), needs=wish).reason == said
