"""The facts, however they come; own decisions as load; saturation; resets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.in_flight import Key
from actors.router.survey import survey
from actors.router.view import View
from messages import Breaker, CatalogueEntry, Epoch, Load, Model, ModelPrice, Policy, Stats
from tests.actors.router.fleets import sent, view_of
from tests.messages.samples import T0, backend, needs


def stats(scope: str = "-", **changes: Any) -> Stats:
    given_: dict[str, Any] = {"backend": "a", "model": "m", "scope": scope, "attempts": 9, "successes": 9, "at": T0}
    return Stats(**{**given_, **changes})


def entry(view: View, name: str = "a") -> Any:
    return next(entry for entry in view.entries if entry.backend == name)


def key(number: int) -> Key:
    return "acme", f"j-{number}", 1


# --------------------------------------------------------------------------------------------------- own decisions


def test_what_is_sent_counts_until_its_work_is_in_the_load() -> None:
    view = view_of(backend("a"))
    there = entry(view).there
    for number in range(3):
        view.sent(key(number), "a", "m", T0)
    assert there.own == 3
    view.learn_load(Load(backend="a", waiting=2, running=0, through_seq=7, at=T0 + 9))
    assert there.own == 3, "however late the load was told: none of it is queued"
    view.queued(key(0), "a", 7, T0 + 9)
    view.queued(key(1), "a", 8, T0 + 9)
    assert there.own == 2, "the first is in the load already"
    view.learn_load(Load(backend="a", waiting=3, running=0, through_seq=8, at=T0 + 10))
    assert (there.own, there.ahead) == (1, 3)
    view.queued(key(2), "", 0, T0 + 10)
    assert there.own == 0, "nobody may run it"


def test_work_that_went_elsewhere_counts_where_it_is() -> None:
    view = view_of(backend("a"), backend("b"))
    view.sent(key(1), "a", "m", T0)
    view.queued(key(1), "b", 3, T0)
    assert [entry(view, name).there.own for name in ("a", "b")] == [0, 1]
    view.queued(key(2), "b", 4, T0)
    assert entry(view, "b").there.own == 2, "that of others, too"


def test_a_load_that_was_looked_at_earlier_and_told_later_is_left_out() -> None:
    late = Load(backend="a", waiting=1, running=0, through_seq=4, at=T0)
    view = view_of(backend("a"), Load(backend="a", waiting=5, running=0, through_seq=9, at=T0 + 0.1), late)
    assert entry(view).there.ahead == 5
    anew = msgspec.structs.replace(late, at=T0 + 1)
    view.learn_load(anew)
    assert entry(view).there.load == anew, "the stream has begun anew"


@given(st.lists(st.floats(0, 500), max_size=300), st.floats(400, 500))
def test_decisions_are_counted_in_a_sliding_window_and_old_ones_thrown_away(times: list[float], now: float) -> None:
    view = view_of(backend("a"), Policy(policy="p", window_seconds=20.0))
    for at in sorted(times):
        sent(view, "a", "m", at)
    if sorted(times)[-1:] and now >= max(times):
        assert entry(view).uses.since(now - 20.0) == sum(at > now - 20.0 for at in times)
    assert len(entry(view).uses.times) <= 64 + sum(at > max(times) - 41.0 for at in times)


def test_decisions_for_one_model_load_the_whole_backend() -> None:
    view = view_of(backend("a", models=(Model(name="m"), Model(name="n"))))
    sent(view, "a", "n", T0)
    assert [(one.model, one.uses.since(T0 - 1), one.there.own) for one in view.entries] == [("m", 0, 1), ("n", 1, 1)]
    view.learn_backend(backend("a", priority=2, models=(Model(name="n"),)))
    assert [(one.model, one.uses.since(T0 - 1), one.there.own) for one in view.entries] == [("n", 1, 1)]


def test_decisions_for_somebody_unknown_count_when_he_comes() -> None:
    view = view_of()
    sent(view, "a", "m", T0)
    view.learn_backend(backend("a"))
    assert entry(view).there.own == 1


# -------------------------------------------------------------------------------------------------------- facts


def test_entries_stand_by_name_and_a_model_stands_once() -> None:
    twice = (Model(name="n"), Model(name="m"), Model(name="n", quality_tier=5))
    view = view_of(backend("b"), backend("a", models=twice))
    assert [(one.backend, one.model) for one in view.entries] == [("a", "m"), ("a", "n"), ("b", "m")]


def test_what_pools_may_call_somebody() -> None:
    view = view_of(
        backend("a", models=(Model(name="m:latest"),)), Policy(policy="p", models={"id": CatalogueEntry(model="m")})
    )
    assert view.served == {"a", "m:latest", "m", "id", "a/m:latest"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_measurements_and_breakers_find_their_model_in_any_order(order: tuple[int, ...]) -> None:
    facts = (backend("a"), stats(latency_seconds=2.0), Breaker(backend="a", model="m", open_until=T0 + 1))
    view = view_of(*(facts[i] for i in order))
    assert (entry(view).stats, entry(view).breaker) == (facts[1], facts[2])
    assert entry(view).log_latency == pytest.approx(0.6931, abs=1e-4)


def test_measurements_of_a_workflow_do_not_replace_those_of_the_model() -> None:
    view = view_of(backend("a"), stats())
    assert not view.scoped
    view.learn_stats(stats("acme/site", latency_seconds=9.0))
    assert view.scoped
    assert entry(view).stats == stats()


def test_a_reset_forgets_what_was_measured_before_and_refuses_what_comes_late() -> None:
    view = view_of(backend("a"), stats(), stats("acme/site"))
    view.learn_epoch(Epoch(epoch=2, by="ada", at=T0))
    assert (entry(view).stats, view.stats, view.scoped) == (None, {}, False)
    view.learn_stats(stats(epoch=1))
    assert entry(view).stats is None
    view.learn_stats(stats(epoch=2))
    assert entry(view).stats == stats(epoch=2)
    view.learn_epoch(Epoch(epoch=1, by="ada", at=T0))
    assert view.epoch.epoch == 2


def test_shares_are_equal_after_a_reset_until_a_policy_says_otherwise() -> None:
    view = view_of(backend("a"), Policy(policy="p", applied_at=T0 - 5))
    assert not view.ruling(needs(), "acme").plan.equal_weights
    view.learn_epoch(Epoch(epoch=1, by="ada", at=T0))
    assert (view.ruling(needs(), "acme").plan.equal_weights, view.ruling(needs(), "acme").plan.epoch) == (True, 1)
    view.learn_policy(Policy(policy="p", applied_at=T0 + 5))
    assert not view.ruling(needs(), "acme").plan.equal_weights


def test_a_ruling_is_remembered_until_something_it_depends_on_changes() -> None:
    policy = Policy(policy="p", strategy="cost_first")
    view = view_of(backend("a"), policy)
    first = view.ruling(needs(), "acme")
    assert view.ruling(needs(input_tokens=99), "acme") is first
    view.learn_policy(msgspec.structs.replace(policy, strategy="direct"))
    assert view.ruling(needs(), "acme").plan.strategy == "direct"
    view.learn_policy(msgspec.structs.replace(policy, removed=True))
    assert view.ruling(needs(), "acme").plan.strategy == "expected_cost"


# --------------------------------------------------------------------------------------------------- saturation


def loaded(ahead: int) -> Load:
    return Load(backend="a", waiting=0, running=ahead, at=T0)


def test_saturation_begins_at_the_upper_mark_and_ends_under_the_lower_one() -> None:
    view = view_of(backend("a", slots=10))
    seen: list[bool] = []
    for ahead in (7, 8, 7, 6, 7, 9, 7, 0):
        view.learn_load(loaded(ahead))
        seen.append(entry(view).there.saturated)
    assert seen == [False, True, True, False, False, True, True, False]


def test_what_is_in_flight_saturates_while_it_is_and_leaves_no_trace() -> None:
    view = view_of(backend("a", slots=10), loaded(5))

    def saturated() -> bool:
        (row,) = survey(needs(), "acme", view, output_share=0.5, now=T0)
        return row.features.saturated

    seen = [saturated()]
    for number in range(3):
        view.sent(key(number), "a", "m", T0)
        seen.append(saturated())
    for number in range(3):
        view.in_flight.abandon(key(number))
        seen.append(saturated())
    assert seen == [False, False, False, True, False, False, False]


def test_nobody_without_slots_is_saturated() -> None:
    assert not entry(view_of(loaded(9), backend("a", slots=0))).there.saturated
    assert entry(view_of(loaded(9), backend("a", slots=10))).there.saturated


def test_new_marks_are_applied_at_once() -> None:
    view = view_of(backend("a", slots=10), loaded(5))
    view.learn_policy(Policy(policy="p", saturated_at=0.5, saturated_until=0.3))
    assert entry(view).there.saturated
    view.learn_policy(Policy(policy="p", saturated_at=0.6, saturated_until=0.3))
    assert not entry(view).there.saturated


# --------------------------------------------------------------------------------------------------- deleted facts


def test_what_is_deleted_leaves_no_trace_and_what_is_newer_stays() -> None:
    facts: list[Any] = [
        backend("b", slots=0), Breaker(backend="a", model="m", times_opened=1, opened_at=T0),
        Breaker(backend="b", model="*"), stats(latency_seconds=2.0), stats("task:chat"),
        ModelPrice(seller="a", model="m", withdrawn=True, at=T0),
    ]  # fmt: skip
    view = view_of(backend("a"))
    bare = {name: repr(getattr(view, name)) for name in ("backends", "breakers", "stats", "prices")}

    def tell(what: str, fact: Any) -> None:
        names = {"Backend": "backend", "Breaker": "breaker", "Stats": "stats", "ModelPrice": "price"}
        getattr(view, f"{what}_{names[type(fact).__name__]}")(fact)

    for fact in facts:
        tell("learn", fact)
    kept = entry(view)
    assert kept.breaker is not None
    assert kept.log_latency is not None
    for fact in facts:
        field = {"executors": ("other",)} if type(fact).__name__ == "Backend" else {"at": T0 - 1}
        if type(fact).__name__ != "Breaker":
            tell("forget", msgspec.structs.replace(fact, **field))
    assert len(view.backends) == len(view.stats) == 2, "something newer is known"
    for fact in facts:
        tell("forget", fact)
    assert {name: repr(getattr(view, name)) for name in bare} == bare
    assert (kept.breaker, kept.stats, kept.log_latency) == (None, None, None)
    assert [one.backend for one in view.entries] == list(view._there) == ["a"]
