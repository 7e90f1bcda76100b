"""Why nobody can run a job, in words that fit into an event."""

from __future__ import annotations

from actors.router.words import MOST_OF_POOL
from messages import Model, Policy, Rule
from tests.actors.router.fleets import decision, view_of
from tests.messages.samples import backend


def test_a_large_exhausted_pool_is_told_in_part() -> None:
    pool = tuple(f"m-{n:03d}" for n in range(MOST_OF_POOL + 6))
    rule = Rule(name="all", pool=pool, strict=True, requires=("unheard-of",))
    served = backend("a", models=tuple(Model(name=name) for name in pool))
    made = decision(view_of(served, Policy(policy="p", rules=(rule,))))
    assert made.gave_up is not None
    message = made.gave_up.message
    assert message.count("lacks unheard-of") == MOST_OF_POOL
    assert message.endswith("; and 6 more")
