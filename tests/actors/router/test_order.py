"""Groups before scores, explicit chains, and cloud hops before the local cliff."""

from __future__ import annotations

from typing import Any

import pytest

from messages import (
    Attempt,
    Backend,
    BackendRule,
    CatalogueEntry,
    Decided,
    FailoverRules,
    Load,
    Match,
    Message,
    Model,
    Policy,
    Rule,
)
from tests.actors.router.fleets import decision, failed, gone_from, view_of
from tests.messages.samples import T0, backend


def one(
    name: str, model: str = "", *, cloud: bool = False, code: bool = False, tier: int = 1, **changes: Any
) -> Backend:
    """A backend with a model of its own name, as good as its place in the alphabet is early."""
    capabilities = ("text", "code") if code else ("text",)
    served = Model(
        name=model or name, capabilities=(*capabilities, *changes.pop("can", ())), quality_tier=tier,
        seconds_per_job=changes.pop("seconds", 1.0 + ord(name[0]) - ord("a")),
    )  # fmt: skip
    return backend(name, local=not cloud, models=(served,), **changes)


def order(*facts: Message, needs: dict[str, Any] | None = None, **given: Any) -> list[str]:
    return [c.backend for c in told(*facts, needs=needs, **given).ranking]


def told(*facts: Message, needs: dict[str, Any] | None = None, **given: Any) -> Decided:
    return decision(view_of(*facts, Policy(policy="z", order=99, strategy="latency_first")), needs=needs or {}, **given)


def reasons(decided: Decided) -> dict[str, str]:
    return {c.backend: c.reason for c in decided.ranking}


def chains(**given: tuple[str, ...]) -> Policy:
    return Policy(policy="p", chains=given)


def test_scores_decide_and_equal_ones_go_by_name() -> None:
    assert order(one("c"), one("a"), one("b")) == ["a", "b", "c"]
    assert order(one("c", seconds=2.0), one("b", seconds=2.0), one("a", seconds=2.0)) == ["a", "b", "c"]
    assert set(reasons(told(one("c"), one("a"))).values()) == {""}


# ----------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("facts", "needs", "given", "expected", "reason"),
    [
        ((one("a"), one("b")), {"preferred_backend": "b"}, {}, ["b", "a"], {"a": "is not the preferred b"}),
        ((one("a"), one("b")), {"preferred_model": "b:latest"}, {}, ["b", "a"], {"a": "is not the preferred b:latest"}),
        ((one("a"), one("b", can=("vision",)), Policy(policy="p", degrade={"vision": "drop_images"})),
         {"preferred": ("vision",)}, {}, ["b", "a"], {"a": "can serve only a part of what is preferred"}),
        ((one("a"), one("b", code=True)), {"task": "code"}, {}, ["b", "a"], {"a": "has no code flag"}),
        ((one("a", seconds=90.0), one("b", seconds=95.0, priority=3)), {"strategy": "cost_first"},
         {"deadline_at": T0 + 92}, ["a", "b"], {"b": "would probably miss the deadline"}),
        ((one("a"), one("b")), {}, {"attempts": (failed(1, "a", "connection_error", model="x"),), "n": 2}, ["b", "a"],
         {"a": "failed this job before"}),
        ((one("a"), one("b")), {}, {"attempts": (failed(1, "a", model="x"),), "n": 2}, ["b", "a"],
         {"a": "is on a backend whose other model failed this job"}),
    ],
)  # fmt: skip
def test_what_weighs_more_than_the_score(
    facts: tuple[Message, ...],
    needs: dict[str, Any],
    given: dict[str, Any],
    expected: list[str],
    reason: dict[str, str],
) -> None:
    made = told(*facts, needs=needs, **given)
    assert [c.backend for c in made.ranking] == expected
    assert {name: why for name, why in reasons(made).items() if why} == reason


def test_a_late_one_is_moved_back_and_not_excluded() -> None:
    made = told(one("a", seconds=50.0), needs={}, deadline_at=T0 + 10)
    assert reasons(made) == {"a": "would probably miss the deadline"}


def test_who_failed_least_often_comes_first_whatever_else() -> None:
    past = (failed(1, "a", "executor_lost"), failed(2, "b", "connection_error"))
    made = told(one("a"), one("b"), one("c"), Policy(policy="p", failover=None), needs={"preferred_backend": "a"},
                attempts=past, n=3)  # fmt: skip
    assert [c.backend for c in made.ranking] == ["c", "a", "b"]
    assert reasons(made)["b"] == "failed this job before, is not the preferred a"


def pool(*names: str, strategy: str = "latency_first") -> Policy:
    return Policy(policy="p", rules=(Rule(name="mine", match=Match(), pool=names, strategy=strategy),))


def test_the_pool_comes_before_the_rest_which_goes_by_points() -> None:
    made = told(one("a"), one("b", priority=3), one("c"), one("d", priority=3), pool("c", "d"))
    assert [c.backend for c in made.ranking] == ["c", "d", "a", "b"]
    assert reasons(made) == {
        "c": "",
        "d": "",
        "a": "is not in the pool of p@0 mine",
        "b": "is not in the pool of p@0 mine",
    }


# ----------------------------------------------------------------------------------------------------- chains


def test_an_explicit_chain_comes_after_its_head_in_its_order() -> None:
    fleet = [one(name) for name in "abcd"]
    made = told(*fleet, chains(a=("d", "nobody", "c")))
    assert [c.backend for c in made.ranking] == ["a", "d", "c", "b"]
    assert reasons(made)["d"] == "d is the next hop of an explicit chain"


def test_the_chain_goes_on_when_its_head_has_failed() -> None:
    fleet = [one(name) for name in "abcd"]
    past: dict[str, Any] = {"attempts": (failed(1, "a", model="a"),), "excluded": gone_from("a", model="a"), "n": 2}
    made = told(*fleet, chains(a=("d", "c"), d=("b",)), **past)
    assert [c.backend for c in made.ranking] == ["d", "c", "b"]
    assert made.plan.chain == ("d", "c")
    assert made.reason == "d is next in the chain of the model that failed"


def test_what_never_started_begins_no_chain() -> None:
    fleet = [one(name) for name in "abc"]
    past: dict[str, Any] = {"attempts": (failed(1, "a", "not_started", model="a"),), "n": 2}
    assert order(*fleet, chains(a=("c",)), **past) == ["a", "c", "b"]
    past = {"attempts": (failed(1, "b", "not_started", model="b"), failed(2, "a", model="a")), "n": 3}
    made = told(*fleet, chains(a=("c",), b=("a",)), excluded=gone_from("a", model="a"), **past)
    assert [c.backend for c in made.ranking] == ["c", "b"]


def test_a_chain_may_name_models_ids_and_backends() -> None:
    catalogue = Policy(policy="q", models={"id-d": CatalogueEntry(model="d")})
    fleet = [one(name) for name in "abcd"]
    assert order(*fleet, catalogue, chains(a=("id-d", "c/c"))) == ["a", "d", "c", "b"]


@pytest.mark.parametrize(
    ("outcome", "expected"), [("server_error", ["b2", "c", "a"]), ("connection_error", ["c", "a", "b2"])]
)
def test_a_hop_goes_back_when_its_backend_failed_and_not_for_another_model(outcome: str, expected: list[str]) -> None:
    shared = backend("b", models=(Model(name="b", seconds_per_job=2.0), Model(name="b2", seconds_per_job=2.5)))
    past: dict[str, Any] = {
        "attempts": (failed(1, "b", outcome, model="b"),), "excluded": gone_from("b", model="b"), "n": 2,
    }  # fmt: skip
    made = told(one("a"), shared, one("c"), chains(b=("b2", "c")), **past)
    assert [c.model for c in made.ranking] == expected


def test_the_preferred_one_outweighs_the_chain_of_what_failed() -> None:
    fleet = [one(name) for name in "abc"]
    past: dict[str, Any] = {"attempts": (failed(1, "a", model="a"),), "excluded": gone_from("a", model="a"), "n": 2}
    assert order(*fleet, chains(a=("c",)), needs={"preferred_backend": "b"}, **past) == ["b", "c"]


# ------------------------------------------------------------------------------------------------- cloud hops


def premium(name: str, **changes: Any) -> Backend:
    return one(name, cloud=True, tier=5, **changes)


def test_two_cloud_hops_follow_a_premium_model_before_the_local_cliff() -> None:
    fleet = (premium("a"), one("b"), one("c"), one("d", cloud=True), one("e", cloud=True), one("f", cloud=True))
    made = told(*fleet)
    assert [c.backend for c in made.ranking] == ["a", "d", "e", "b", "c", "f"]
    assert reasons(made)["d"] == "is a hop in the cloud before the local ones"
    assert reasons(made)["b"] == ""


@pytest.mark.parametrize(
    "head", [one("a", cloud=True, tier=4), one("a", tier=5)], ids=["not premium", "not in the cloud"]
)
def test_other_heads_have_no_such_rule(head: Backend) -> None:
    assert order(head, one("b"), one("c", cloud=True)) == ["a", "b", "c"]


def test_the_rule_holds_over_the_attempts_of_a_job() -> None:
    fleet = (premium("a"), one("b"), one("d", cloud=True), one("e", cloud=True), one("f", cloud=True))
    failures = [failed(n, name, model=name) for n, name in enumerate("ade", 1)]
    gone = [gone_from(name, model=name)[0] for name in "ade"]
    many = Policy(policy="p", failover=None)
    for count, expected in ((1, ["d", "e", "b", "f"]), (2, ["e", "b", "f"])):
        made = told(*fleet, many, attempts=tuple(failures[:count]), excluded=tuple(gone[:count]), n=count + 1)
        assert [c.backend for c in made.ranking][: len(expected)] == expected
    more = Policy(policy="p", failover=FailoverRules(max_attempts=9))
    assert order(*fleet, more, attempts=tuple(failures), excluded=tuple(gone), n=4) == ["b", "f"]


def test_for_code_only_code_models_are_early_hops() -> None:
    fleet = (premium("a", code=True), one("b", code=True), one("c", cloud=True), one("d", cloud=True, code=True))
    assert order(*fleet, needs={"task": "code"}) == ["a", "d", "b", "c"]


def test_an_explicit_chain_wins_over_the_cloud_rule() -> None:
    fleet = (premium("a"), one("b"), one("c", cloud=True), one("d", cloud=True))
    assert order(*fleet, chains(a=("b",))) == ["a", "b", "c", "d"]


def test_the_preferred_and_the_pool_stay_before_early_hops() -> None:
    fleet = (premium("a", model="x"), one("b", model="x"), one("c", cloud=True), one("d", cloud=True))
    assert order(*fleet, needs={"preferred_model": "x"}) == ["a", "b", "c", "d"]
    assert order(*fleet, pool("a", "b")) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("strategy", ["pool_order", "direct", "manual"])
def test_a_pool_that_is_followed_as_written_is_an_explicit_chain(strategy: str) -> None:
    fleet = (premium("a"), one("b"), one("c", cloud=True), one("d", cloud=True))
    assert order(*fleet, pool("a", "b", "c", "d", strategy=strategy), needs={"strategy": ""}) == ["a", "b", "c", "d"]


# ------------------------------------------------------------------------------------------------ switched off


def test_routing_switched_off_is_the_fixed_order_and_then_priority() -> None:
    off = Policy(policy="off", enabled=False, fixed_order=("d", "c"), chains={"d": ("a",)})
    fleet = (
        one("a", priority=3, code=True),
        one("b", priority=2),
        one("c", seconds=900.0),
        premium("d"),
        one("e", cloud=True),
    )
    assert order(*fleet, off, needs={"task": "code"}) == ["d", "c", "e", "b", "a"]
    assert order(*fleet, off, needs={"preferred_backend": "b"}) == ["b", "d", "c", "e", "a"]


def test_an_attempt_is_not_needed_in_the_fleet_any_more() -> None:
    past = (Attempt(n=1, backend="gone", model="x", outcome="timeout", billed_microdollars=0),)
    assert order(one("a"), one("b"), attempts=past, n=2) == ["a", "b"]


def test_prior_shares_hold_although_an_emptier_one_has_the_same_score() -> None:
    shares = {"a": BackendRule(routing_weight=9), "b": BackendRule(routing_weight=1)}
    policy = Policy(policy="p", strategy="adaptive", backends=shares)
    view = view_of(backend("a"), backend("b"), Load(backend="a", waiting=0, running=1, at=T0), policy)
    led = [decision(view, job=f"j-{number}").ranking[0].backend for number in range(200)]
    assert 160 <= led.count("a") < 200
