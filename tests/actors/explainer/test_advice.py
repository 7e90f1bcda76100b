from __future__ import annotations

from typing import Any

import pytest

from actors.explainer.advice import suggest
from actors.explainer.memory import Memory
from messages import Attempt, Exclusion, Price, Problem
from messages.values import Quality
from tests.actors.explainer.test_memory import fill
from tests.messages.samples import PROBLEM, T0, candidate, decided, slip

NOBODY = Problem(reason="no_backend", message="nobody")
LIMIT = slip(needs={"max_cost_microdollars": 100})


def advice(memory: Memory | None = None, **changes: Any) -> tuple[str, ...]:
    return suggest(decided(**changes), memory or Memory())


def out(name: str = "x", barred: str = "cost", reason: str = "could cost $0.00011", **changes: Any) -> Any:
    return candidate(name, barred=barred, reason=reason, **changes)


def test_nothing_to_say_says_nothing() -> None:
    assert advice() == ()
    assert advice(others=(out(barred="capability", reason="lacks vision"),)) == ()
    assert advice(others=(out(barred="cloud", reason="is a cloud backend"),)) == ()


@pytest.mark.parametrize(
    ("barred", "reason"),
    [("unhealthy", "is unhealthy: on fire"), ("breaker", "has an open breaker for 30 s: 3 failures")],
)
def test_a_backend_that_is_not_well_wants_looking_after(barred: str, reason: str) -> None:
    assert advice(others=(out(barred=barred, reason=reason),)) == (f"look after x: it {reason}",)


def test_a_backend_that_often_fails_wants_looking_after() -> None:
    said = advice(ranking=(candidate(features={"failure_rate": 0.35, "runs": 9.0}),))
    assert said == ("look after a/m: 35% of its latest attempts failed",)
    assert advice(ranking=(candidate(features={"failure_rate": 0.35, "runs": 1.0}),)) == ()
    assert advice(ranking=(candidate(features={"failure_rate": 0.1, "runs": 9.0}),)) == ()


def test_an_account_that_was_refused_is_named() -> None:
    refused = Attempt(n=1, backend="cloud", model="m", outcome="account", billed_microdollars=0, problem=PROBLEM)
    assert advice(n=2, attempts=(refused,)) == (f"check the key and the account of cloud: {PROBLEM.message}",)


# ------------------------------------------------------------------------------------------------ cost limits


def test_a_higher_limit_is_proposed_with_the_sum_that_is_enough() -> None:
    spent = Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=40)
    barred = out(worst_case_microdollars=110)
    assert advice(ranking=(), others=(barred,), slip=LIMIT, attempts=(spent,), gave_up=NOBODY) == (
        "a max_cost of $0.00015 would admit x/m",
    )


@pytest.mark.parametrize(
    ("changes", "better"),
    [
        ({"known": {"quality_tier": 4}}, ", of quality tier 4 instead of 1"),
        ({"features": {"service_seconds": 0.5}}, ", done in about 500 ms instead of 2.0 s"),
    ],
)
def test_beside_a_chosen_one_more_money_must_buy_something(changes: dict[str, Any], better: str) -> None:
    said = advice(others=(out(worst_case_microdollars=110, **changes),), slip=LIMIT)
    assert said == (f"a max_cost of $0.00011 would admit x/m{better}",)
    assert advice(others=(out(worst_case_microdollars=110),), slip=LIMIT) == ()


def test_a_draft_needs_no_better_model() -> None:
    draft = slip(needs={"quality": "draft", "max_cost_microdollars": 100})
    assert advice(others=(out(worst_case_microdollars=110, known={"quality_tier": 4}),), slip=draft) == ()


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({"known": {"unfit": "is unhealthy: on fire"}}, {}),
        ({"known": {"slots": 0}}, {}),
        ({"known": {"vram_mb": 9_000, "vram_total_mb": 8_000}}, {}),
        ({"features": {"open_until": T0 + 5}}, {}),
        ({}, {"excluded": (Exclusion(backend="x", until=0.0, reason="failed"),)}),
        ({}, {"excluded": (Exclusion(backend="x", model="m", until=T0 + 5, reason="over budget"),)}),
    ],
)
def test_money_is_not_asked_for_what_something_else_bars_as_well(
    changes: dict[str, Any], event: dict[str, Any]
) -> None:
    barred = out(worst_case_microdollars=110, **changes)
    assert advice(ranking=(), others=(barred,), slip=LIMIT, gave_up=NOBODY, **event) == ()


def test_an_exclusion_that_is_over_or_of_another_model_bars_nothing() -> None:
    over = (
        Exclusion(backend="x", until=T0 - 1, reason="over"),
        Exclusion(backend="x", model="other", until=0.0, reason="r"),
    )
    barred = out(worst_case_microdollars=110)
    assert len(advice(ranking=(), others=(barred,), slip=LIMIT, gave_up=NOBODY, excluded=over)) == 1


def test_an_unknown_price_wants_writing_down_where_a_limit_needs_it() -> None:
    unknown = out(reason="has no known price", known={"price": Price(unknown=True)})
    assert advice(others=(unknown,), slip=LIMIT) == (
        "the price of x/m is unknown: write it down, or jobs with a cost limit can't use it",
    )
    assert advice(ranking=(candidate(known={"price": Price(unknown=True)}),)) == ()


# ----------------------------------------------------------------------------------------------------- queues


def test_a_long_queue_wants_another_backend() -> None:
    busy = {"queue": 7.0, "ahead": 10.0, "wait_seconds": 21.0, "service_seconds": 3.0}
    assert advice(ranking=(candidate(features=busy),)) == ("a has 7 jobs waiting, about 21.0 s: start another one",)
    cloud = candidate(features=busy, known={"local": False})
    assert advice(ranking=(cloud,)) == ("a has 7 jobs waiting, about 21.0 s: allow it more at once",)
    full = candidate(features={"saturated": True, "ahead": 4.0})
    assert advice(ranking=(full,)) == ("a is saturated, with 4 jobs on 4 places: start another one",)
    assert advice(ranking=(candidate(features={"queue": 7.0, "wait_seconds": 0.1}),)) == ()


# -------------------------------------------------------------------------------------------------- preferences


@pytest.mark.parametrize("wanted", [{"preferred_backend": "x"}, {"preferred_model": "m"}])
def test_a_preference_that_was_not_met_says_why(wanted: dict[str, str]) -> None:
    kind, name = next(iter(wanted.items()))
    barred = out(barred="capability", reason="lacks vision")
    best = candidate("a", model="other")
    said = advice(ranking=(best,), others=(barred,), slip=slip(needs=wanted))
    assert said == (f"the preferred {kind.removeprefix('preferred_')} {name} was not permitted: it lacks vision",)
    assert advice(ranking=(candidate("x"),), slip=slip(needs=wanted)) == ()


def test_a_preference_that_nobody_knows_is_named_when_all_candidates_are_there() -> None:
    wanted = slip(needs={"preferred_backend": "typo"})
    assert advice(slip=wanted) == ("nobody knows the preferred backend typo: `turnout backends` shows what there is",)
    assert advice(slip=wanted, omitted=84) == ()


# ------------------------------------------------------------------------------------------------------- nobody


def nobody(*others: Any, **changes: Any) -> tuple[str, ...]:
    return advice(ranking=(), others=others, **changes)


def test_without_any_backend_one_is_to_be_started() -> None:
    assert nobody() == ("start a backend; `turnout doctor` says what is missing",)
    tried = Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=0)
    assert nobody(attempts=(tried,), gave_up=NOBODY) == ()


def test_a_capability_that_nobody_has_is_named() -> None:
    needs = slip(needs={"capabilities": ("tools", "vision")})
    blind = out(barred="capability", reason="lacks vision", known={"capabilities": ("text", "tools")})
    assert nobody(blind, slip=needs) == ("no backend has vision: start one that has",)
    deaf = out("y", barred="capability", reason="lacks tools", known={"capabilities": ("text", "vision")})
    assert nobody(blind, deaf, slip=needs) == ()
    assert nobody(blind, slip=needs, omitted=3) == ()


def test_a_model_that_nobody_serves_is_named() -> None:
    other = out(barred="model", reason="serves m, not gpt-9")
    assert nobody(other, slip=slip(needs={"model": "gpt-9"})) == (
        "nobody serves gpt-9: `turnout backends` shows the models there are",
    )


def test_the_cloud_is_proposed_when_it_alone_could_run_it() -> None:
    cloud = out("sky", barred="cloud", reason="is a cloud backend", known={"local": False})
    sick = out("gpu", barred="unhealthy", reason="is unhealthy: on fire")
    local_only = slip(needs={"allow_cloud": False})
    assert nobody(cloud, sick, slip=local_only) == (
        "the job is kept off the cloud; allow_cloud would admit sky/m", "look after gpu: it is unhealthy: on fire",
    )  # fmt: skip
    dear = slip(needs={"allow_cloud": False, "max_cost_microdollars": 5})
    costly = out("sky", barred="cloud", reason="is a cloud backend", worst_case_microdollars=6)
    assert nobody(costly, slip=dear) == ()


# ---------------------------------------------------------------------------------------------------- evidence


def remembered(final_cost: int, standard_cost: int, *, finals: int = 5, standards: int = 20, failed: int = 0) -> Memory:
    memory = Memory()
    fill(memory, finals, cost=final_cost, quality="final")
    fill(memory, standards, cost=standard_cost, quality="standard", failed=failed)
    return memory


FINAL = slip(needs={"quality": "final"})


def test_a_cheaper_quality_is_proposed_when_it_never_failed() -> None:
    assert advice(remembered(1_100, 100), slip=FINAL) == (
        "`final` costs 11x `standard` here, and your last 20 `standard` jobs of this kind all succeeded",
    )
    assert advice(remembered(1_100, 0), slip=FINAL) == (
        "`final` costs $0.0011 a job here and `standard` nothing, and your last 20 `standard` jobs of this kind all succeeded",
    )


@pytest.mark.parametrize(
    "memory",
    [
        remembered(1_100, 100, failed=1), remembered(1_100, 100, standards=19), remembered(1_100, 100, finals=4),
        remembered(150, 100), remembered(0, 100), Memory(),
    ],
)  # fmt: skip
def test_without_the_evidence_no_cheaper_quality_is_proposed(memory: Memory) -> None:
    assert advice(memory, slip=FINAL) == ()


def test_evidence_of_other_tenants_qualities_and_kinds_counts_for_nothing() -> None:
    memory = remembered(1_100, 100)
    qualities: tuple[Quality, ...] = ("standard", "draft")
    assert not any(advice(memory, slip=slip(needs={"quality": quality})) for quality in qualities)
    assert advice(memory, slip=slip(needs={"quality": "final", "task": "code"})) == ()
    assert suggest(decided(tenant="other", slip=FINAL), memory) == ()


def test_there_are_at_most_four_and_none_twice() -> None:
    others = tuple(out(f"x{n}", "unhealthy", "is unhealthy: x") for n in range(9))
    assert len(advice(others=others)) == 4
    assert len(advice(others=(others[0], candidate("x0", model="n", barred="unhealthy", reason=others[0].reason)))) == 1
