from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.decide import WAITS, decide
from actors.router.strategies import STRATEGIES
from actors.router.view import View
from bus import codec
from messages import (
    Attempt,
    Backend,
    Breaker,
    Decided,
    Exclusion,
    Failover,
    Load,
    Model,
    Policy,
    Price,
    Problem,
)
from tests.messages.samples import T0, backend, slip

OVER = Problem(reason="over_budget", message="a: over budget")
FIRST = Problem(reason="timeout", message="a: silent for 20 s")


def view_of(*backends: Backend, **policy: Any) -> View:
    view = View()
    view.backends = {one.backend: one for one in backends}
    view.policy = Policy(**policy)
    return view


def decision(view: View, *, n: int = 1, now: float = T0, cause: Problem | None = None, **job: Any) -> Decided:
    attempts, excluded = job.pop("attempts", ()), job.pop("excluded", ())
    return decide(slip(**job), n=n, attempts=attempts, excluded=excluded, view=view, now=now, cause=cause)


def failed(n: int, name: str, outcome: Any = "timeout") -> Attempt:
    return Attempt(n=n, backend=name, model="m", outcome=outcome, billed_microdollars=0, problem=FIRST)


def gone_from(*names: str) -> tuple[Exclusion, ...]:
    return tuple(Exclusion(backend=name, until=0.0, reason="timeout") for name in names)


FLEETS = st.lists(
    st.builds(
        backend,
        st.sampled_from(["a", "b", "c", "d", "e"]),
        local=st.booleans(),
        priority=st.integers(1, 4),
        slots=st.integers(0, 3),
        healthy=st.sampled_from([True, True, True, False]),
        models=st.lists(
            st.builds(
                Model,
                name=st.sampled_from(["m", "n"]),
                capabilities=st.sampled_from([("text",), ("text", "code")]),
                price=st.builds(Price, output_per_mtok=st.sampled_from([0, 0, 500_000])),
                tokens_per_second=st.sampled_from([None, 5.0, 80.0]),
                context_tokens=st.sampled_from([None, 100, 8_000]),
            ),
            min_size=1, max_size=2, unique_by=lambda model: model.name,
        ).map(tuple),
    ),
    max_size=5, unique_by=lambda one: one.backend,
)  # fmt: skip
WISHES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["", "m", "n"]),
        "capabilities": st.sampled_from([(), ("code",)]),
        "preferred_backend": st.sampled_from(["", "a", "c"]),
        "allow_cloud": st.booleans(),
        "prioritize_speed": st.booleans(),
        "max_cost_microdollars": st.sampled_from([None, 0, 40, 1_000]),
        "strategy": st.sampled_from(["", *STRATEGIES]),
    },
)


@given(FLEETS, WISHES, st.randoms())
def test_the_order_in_which_facts_came_changes_nothing(
    fleet: list[Backend], wishes: dict[str, Any], chance: Any
) -> None:
    shuffled = list(fleet)
    chance.shuffle(shuffled)
    one, other = (decision(view_of(*backends), needs=wishes) for backends in (fleet, shuffled))
    assert codec.encode(one) == codec.encode(other)


@given(FLEETS, WISHES)
def test_the_same_input_gives_the_same_bytes(fleet: list[Backend], wishes: dict[str, Any]) -> None:
    view = view_of(*fleet)
    assert codec.encode(decision(view, needs=wishes)) == codec.encode(decision(view, needs=wishes))


@given(FLEETS, WISHES, st.booleans())
def test_another_backend_moves_nobody_else(fleet: list[Backend], wishes: dict[str, Any], useful: bool) -> None:
    newcomer = backend("z", models=(Model(name="m" if useful else "other", capabilities=("text", "code")),), priority=4)
    before = decision(view_of(*fleet), needs=wishes)
    after = decision(view_of(*fleet, newcomer), needs=wishes)
    assert tuple(c for c in after.ranking if c.backend != "z") == before.ranking
    assert tuple(c for c in after.others if c.backend != "z") == before.others


@given(FLEETS, WISHES)
def test_nobody_is_ranked_who_may_not_run_it(fleet: list[Backend], wishes: dict[str, Any]) -> None:
    made = decision(view_of(*fleet), needs=wishes)
    by_name = {one.backend: one for one in fleet}
    for candidate in made.ranking:
        there = by_name[candidate.backend]
        model = next(model for model in there.models if model.name == candidate.model)
        assert candidate.permitted
        assert there.slots > 0
        assert there.healthy
        assert wishes.get("model", "") in {"", model.name}
        assert set(wishes.get("capabilities", ())) <= set(model.capabilities)
        assert wishes.get("allow_cloud", True) or there.local
        limit = wishes.get("max_cost_microdollars")
        assert limit is None or candidate.worst_case_microdollars <= limit
        assert model.context_tokens is None or candidate.worst_case_tokens <= model.context_tokens


@given(FLEETS, WISHES)
def test_every_candidate_is_told_with_a_reason(fleet: list[Backend], wishes: dict[str, Any]) -> None:
    made = decision(view_of(*fleet), needs=wishes)
    told = sorted((c.backend, c.model) for c in (*made.ranking, *made.others))
    if not made.gave_up:
        assert told == sorted((one.backend, model.name) for one in fleet for model in one.models)
    assert all(c.reason for c in (*made.ranking, *made.others))
    assert made.reason
    assert bool(made.ranking) + bool(made.gave_up) + bool(made.wait_seconds) == 1


@given(FLEETS, WISHES)
def test_scores_fall_and_the_preferred_backend_leads(fleet: list[Backend], wishes: dict[str, Any]) -> None:
    ranking = decision(view_of(*fleet), needs=wishes).ranking
    preferred = wishes.get("preferred_backend", "")
    rest = [c for c in ranking if c.backend != preferred]
    assert [c.backend for c in ranking[: len(ranking) - len(rest)]] == [preferred] * (len(ranking) - len(rest))
    assert [c.score for c in rest] == sorted((c.score for c in rest), reverse=True)


@pytest.mark.parametrize(
    ("broken", "leads"),
    [({}, "slow"), ({"healthy": False}, "fast"), ({"slots": 0}, "fast"), ({"models": (Model(name="n"),)}, "fast")],
)
def test_the_preferred_backend_wins_unless_it_may_not_run_it(broken: dict[str, Any], leads: str) -> None:
    slow = backend("slow", **{"priority": 3, "models": (Model(name="m", tokens_per_second=1.0),), **broken})
    made = decision(view_of(backend("fast"), slow), needs={"preferred_backend": "slow", "model": "m"})
    assert made.ranking[0].backend == leads
    assert (made.reason == "slow is the preferred backend") == (leads == "slow")


def test_equal_scores_are_ordered_by_name() -> None:
    made = decision(view_of(backend("b"), backend("c"), backend("a")))
    assert [c.backend for c in made.ranking] == ["a", "b", "c"]


def test_own_decisions_keep_routers_from_herding() -> None:
    view = view_of(backend("a", slots=1), backend("b", slots=1))
    chosen: list[str] = []
    for step in range(4):
        now = T0 + step / 100
        chosen.append(decision(view, now=now).ranking[0].backend)
        view.sent(chosen[-1], now)
    assert sorted(chosen) == ["a", "a", "b", "b"]


def test_the_strategy_is_the_jobs_or_the_policys() -> None:
    free = backend("free", models=(Model(name="m", tokens_per_second=2.0),))
    quick = backend(
        "quick", local=False, models=(Model(name="m", price=Price(output_per_mtok=1), tokens_per_second=900),)
    )
    view = view_of(free, quick, policy="thrifty", version=7, strategy="cost_first")
    assert decision(view).ranking[0].backend == "free"
    assert (decision(view).strategy, decision(view).policy) == ("cost_first", "thrifty@7")
    asked = decision(view, needs={"strategy": "latency_first"})
    assert (asked.ranking[0].backend, asked.strategy) == ("quick", "latency_first")


# Giving up and waiting.


def test_without_any_backend_a_job_waits_and_then_gives_up() -> None:
    view = view_of()
    waits = [decision(view, n=n).wait_seconds for n in range(1, 10)]
    assert waits == [*WAITS, WAITS[-1]]
    last = decision(view, n=10)
    assert last.gave_up is not None
    assert (last.gave_up.reason, last.wait_seconds) == ("no_backend", 0.0)


def test_a_wait_that_cannot_end_in_time_gives_up_at_once() -> None:
    made = decision(view_of(backend(healthy=False)), deadline_at=T0 + 0.4)
    assert made.gave_up is not None


def test_what_will_not_pass_is_not_waited_for() -> None:
    made = decision(view_of(backend("a"), backend("b")), needs={"model": "x"})
    assert made.gave_up is not None
    assert "a/m serves m, not x; b/m serves m, not x" in made.gave_up.message
    assert made.ranking == ()


def test_what_may_pass_is_waited_for() -> None:
    view = view_of(backend("a"), backend("b", models=(Model(name="x"),)))
    view.breakers["a", "m"] = Breaker(backend="a", model="m", open_until=T0 + 5)
    made = decision(view, needs={"model": "m"})
    assert (made.gave_up, made.wait_seconds) == (None, WAITS[0])
    assert "looking again in 0.5 s" in made.reason


def test_the_deadline_ends_it() -> None:
    made = decision(view_of(backend()), now=T0 + 600)
    assert made.gave_up is not None
    assert made.ranking == ()


def test_spent_attempts_end_it_with_the_first_error() -> None:
    view = view_of(backend(), failover=Failover(max_attempts=2))
    past = (failed(1, "a"), failed(2, "b", "server_error"))
    assert decision(view, n=3, attempts=past).gave_up == FIRST
    assert decision(view, n=2, attempts=past[:1]).gave_up is None


def test_what_never_started_is_not_spent() -> None:
    view = view_of(backend(), failover=Failover(max_attempts=1, max_extra_rounds=3))
    rounds = tuple(failed(n, "a", "not_started") for n in range(1, 4))
    assert decision(view, n=4, attempts=rounds).gave_up is None
    assert decision(view, n=5, attempts=rounds).gave_up is not None


def test_over_budget_everywhere_ends_it() -> None:
    assert decision(view_of(backend()), n=2, cause=OVER).gave_up == OVER


# The last resort.


def test_a_failed_backend_comes_back_only_when_nobody_else_is_left() -> None:
    view = view_of(backend("a"), backend("b", priority=3))
    one = decision(view, n=2, attempts=(failed(1, "a"),), excluded=gone_from("a"))
    assert [c.backend for c in one.ranking] == ["b"]
    both = decision(view, n=3, attempts=(failed(1, "a"), failed(2, "b")), excluded=gone_from("a", "b"))
    assert [c.backend for c in both.ranking] == ["a", "b"]
    assert all(c.permitted for c in both.ranking)


def test_the_last_resort_takes_who_failed_least_often() -> None:
    view = view_of(backend("a"), backend("b", priority=3), failover=Failover(max_attempts=5))
    past = (failed(1, "a"), failed(2, "b"), failed(3, "a"))
    made = decision(view, n=4, attempts=past, excluded=gone_from("a", "b", "a"))
    assert [c.backend for c in made.ranking] == ["b", "a"]


@pytest.mark.parametrize("outcome", ["account", "unknown_model"])
def test_who_cannot_serve_it_at_all_is_no_last_resort(outcome: str) -> None:
    made = decision(view_of(backend("a")), n=2, attempts=(failed(1, "a", outcome),), excluded=gone_from("a"))
    assert made.ranking == ()
    assert made.gave_up == FIRST


def test_the_last_resort_keeps_all_other_limits() -> None:
    view = view_of(backend("a", healthy=False))
    made = decision(view, n=2, attempts=(failed(1, "a"),), excluded=gone_from("a"))
    assert made.ranking == ()
    assert made.wait_seconds > 0.0


def test_a_decision_can_be_derived_again_from_what_it_tells() -> None:
    view = view_of(backend("a", slots=1), backend("b"))
    view.loads["a"] = Load(backend="a", waiting=3, running=1, at=T0)
    made = decision(view)
    for candidate in made.ranking:
        score, words = STRATEGIES[made.strategy](candidate, made.slip.needs, view.policy)
        assert (round(score, 6), words) == (candidate.score, candidate.reason)
    assert msgspec.json.decode(codec.encode(made), type=Decided) == made
