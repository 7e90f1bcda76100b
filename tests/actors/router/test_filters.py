"""Who may run a job, and the words for why not."""

from __future__ import annotations

from typing import Any

import pytest

from actors.graph_names import packed
from actors.router.filters import TEMPORARY, excluded_by
from messages import (
    Attempt,
    Backend,
    Breaker,
    Candidate,
    CatalogueEntry,
    Exclusion,
    Match,
    Media,
    Message,
    Model,
    Policy,
    Price,
    Rule,
)
from tests.actors.router.fleets import Job, choice, view_of
from tests.messages.samples import T0, backend, slip

NODES = Media(checkpoints=("m",), loras=("ink",), node_types=("Mine", "SaveImage"))
DEAR = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)


def only(*facts: Message, now: float = T0, attempts: Any = (), excluded: Any = (), **changes: Any) -> Candidate:
    (found,) = choice(view_of(*facts), Job(slip(**changes), 1 + len(attempts), attempts, excluded, now)).everything()
    return found


def strict(*pool: str) -> Policy:
    rule = Rule(name="mine", match=Match(task=("chat",)), pool=pool, strict=True, requires=("text",))
    return Policy(policy="p", rules=(rule,))


STATED = {"stated": ("max_output_tokens",)}
FIGURES = (
    " (input about 10 tokens, 10 at most, output at most 100): raise max_cost_microdollars or lower max_output_tokens"
)


@pytest.mark.parametrize(
    ("fleet", "needs", "barred", "reason"),
    [
        ({}, {"model": "other"}, "model", "serves m, not other"),
        ({}, {"capabilities": ("code", "vision")}, "capability", "lacks code, vision"),
        ({"models": (Model(name="m", context_tokens=109),)}, {"stated": ("max_output_tokens",)}, "context",
         "needs 110 tokens of context, has 109"),
        ({"local": False}, {"allow_cloud": False}, "cloud", "is a cloud backend, and the job does not allow the cloud"),
        ({"models": (Model(name="m", price=DEAR),)}, {"max_cost_microdollars": 109, "stated": ("max_output_tokens",)}, "cost",
         f"could cost $0.000110, the job has $0.000109 left{FIGURES}"),
        ({"models": (Model(name="m", price=Price(unknown=True)),)}, {"max_cost_microdollars": 10**9}, "cost",
         "has no known price, and the job limits its cost"),
        ({"models": (Model(name="m", vram_mb=7_000),), "vram_total_mb": 8_000}, {"vram_mb": 1_001}, "vram",
         "needs 8,001 MB of GPU memory, has 8,000"),
        ({"models": (Model(name="m", loras=("oil",)),)}, {"media": Media(loras=("ink", "oil"))}, "lora",
         "lacks the LoRA ink"),
        ({"models": (Model(name="m", loras=("x/ink.pt", "y/ink.pt")),)}, {"media": Media(loras=("ink",))}, "lora",
         "lacks the LoRA ink"),
        ({"models": (Model(name="m", capabilities=("image",)),)}, {"media": NODES, "capabilities": ("graph",)}, "capability",
         "lacks graph"),
        ({"models": (Model(name="graph", capabilities=("graph",), has=packed(["SaveImage"], ["x.pt"], [])),)},
         {"media": NODES, "capabilities": ("graph",)}, "graph", "lacks the node class Mine, the model file m, the LoRA ink"),
        ({"models": (Model(name="graph", capabilities=("graph",)),)}, {}, "capability", "lacks text"),
        ({"models": (Model(name="m", capabilities=("text", "by_name", "recipe:r")),)}, {}, "capability",
         "takes only jobs that name one of its recipes"),
        ({"slots": 0}, {}, "executor", "has no live executor"),
        ({"exclusive_group": "g", "active": False}, {}, "inactive",
         "is inactive: another backend of the group g holds its hardware"),
        ({"healthy": False, "health_reason": "on fire"}, {}, "unhealthy", "is unhealthy: on fire"),
    ],
)  # fmt: skip
def test_why_a_backend_may_not_run_a_job(
    fleet: dict[str, Any], needs: dict[str, Any], barred: str, reason: str
) -> None:
    found = only(backend(**fleet), needs=needs)
    assert (found.barred, found.reason) == (barred, reason)
    assert not found.permitted


@pytest.mark.parametrize(
    ("fleet", "needs"),
    [
        ({}, {"model": "m"}),
        ({}, {"model": "m:latest"}),
        ({"models": (Model(name="m", capabilities=("text", "code")),)}, {"capabilities": ("code",)}),
        ({"models": (Model(name="m", context_tokens=110),)}, {}),
        ({"models": (Model(name="m", context_tokens=60, max_output_tokens=50),)}, {}),
        ({"models": (Model(name="m", price=DEAR),)}, {"max_cost_microdollars": 110}),
        ({"models": (Model(name="m", price=Price(unknown=True)),)}, {}),
        ({"models": (Model(name="m", vram_mb=7_000),), "vram_total_mb": 8_000}, {"vram_mb": 1_000}),
        ({"models": (Model(name="m", vram_mb=7_000),)}, {"vram_mb": 9_000}),
        ({"models": (Model(name="m", loras=("ink",)),)}, {"media": Media(loras=("ink",))}),
        (
            {"models": (Model(name="m", capabilities=("text", "by_name", "recipe:r")),)},
            {"recipe": "r", "capabilities": ("recipe:r",)},
        ),
        (
            {"models": (Model(name="m", loras=("ink.safetensors", "styles\\oil.pt")),)},
            {"media": Media(loras=("ink", "oil.pt"))},
        ),
        (
            {
                "models": (
                    Model(name="graph", capabilities=("graph",), has=packed(["Mine", "SaveImage"], ["m"], ["ink"])),
                )
            },
            {"media": NODES, "capabilities": ("graph",), "asset": "video"},
        ),
        ({"models": (Model(name="m", loras=None),)}, {"media": Media(loras=("ink",))}),
        ({"exclusive_group": "g"}, {}),
        ({}, {"max_cost_microdollars": 0}),
        ({"local": False}, {}),
    ],
)
def test_limits_that_are_just_kept_permit(fleet: dict[str, Any], needs: dict[str, Any]) -> None:
    assert only(backend(**fleet), needs=needs).permitted


@pytest.mark.parametrize(
    ("entry", "permitted"),
    [
        ({"roles": ("writer", "judge")}, True),
        ({"roles": ("judge",)}, False),
        ({"roles_denied": ("writer",)}, False),
        ({"roles_denied": ("judge",)}, True),
    ],
)
def test_roles_that_a_model_may_take(entry: dict[str, Any], permitted: bool) -> None:
    policy = Policy(policy="p", models={"m": CatalogueEntry(**entry)})
    found = only(backend(), policy, needs={"role": "writer"})
    assert found.permitted == permitted
    assert found.reason == ("" if permitted else "is not for the role writer")


@pytest.mark.parametrize("pool", [("m",), ("a",), ("a/m",), ("m:latest",), ("x", "m")])
def test_a_strict_pool_takes_models_and_backends(pool: tuple[str, ...]) -> None:
    assert only(backend(), strict(*pool)).permitted


def test_nobody_outside_a_strict_pool_runs_it() -> None:
    both = backend(models=(Model(name="m"), Model(name="n")))
    made = choice(view_of(both, strict("n")), Job(slip()))
    assert [(c.model, c.barred) for c in made.everything()] == [("n", ""), ("m", "pool")]
    assert made.others[0].reason == "is not in the pool of p@0 mine"


def test_what_a_rule_requires_is_required() -> None:
    rule = Rule(name="r", requires=("json",))
    assert only(backend(), Policy(policy="p", rules=(rule,))).reason == "lacks json"


def test_what_was_spent_before_counts_against_the_limit() -> None:
    there = backend(models=(Model(name="m", price=DEAR),))
    before = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=100),)
    assert only(there, needs={**STATED, "max_cost_microdollars": 210}, attempts=before).permitted
    found = only(there, needs={**STATED, "max_cost_microdollars": 209}, attempts=before)
    assert found.reason == f"could cost $0.000110, the job has $0.000109 left{FIGURES}"


def test_an_open_breaker_excludes_until_its_time() -> None:
    facts = (backend(), Breaker(backend="a", model="m", open_until=T0 + 30, reason="3 failures"))
    found = only(*facts)
    assert (found.barred, found.reason) == ("breaker", "has an open breaker for 30 s: 3 failures")
    assert only(*facts, now=T0 + 30).permitted


@pytest.mark.parametrize(
    ("until", "barred", "reason"),
    [(0.0, "failed", "is excluded from this job: timeout"), (T0 + 9, "excluded", "is excluded for 9 s: timeout")],
)
@pytest.mark.parametrize("model", ["", "m"])
def test_exclusions(until: float, barred: str, reason: str, model: str) -> None:
    exclusion = Exclusion(backend="a", model=model, until=until, reason="timeout")
    found = only(backend(), excluded=(exclusion,))
    assert (found.barred, found.reason) == (barred, reason)


@pytest.mark.parametrize(
    "exclusion",
    [
        Exclusion(backend="b", until=0.0, reason="timeout"),
        Exclusion(backend="a", model="n", until=0.0, reason="timeout"),
        Exclusion(backend="a", until=T0, reason="timeout"),
    ],
)
def test_exclusions_of_others_and_of_the_past_do_not_count(exclusion: Exclusion) -> None:
    assert only(backend(), excluded=(exclusion,)).permitted


def test_the_longest_exclusion_counts() -> None:
    short, long, over, whole = (
        Exclusion(backend="a", until=until, reason=reason)
        for until, reason in ((T0 + 5, "short"), (T0 + 50, "long"), (T0 - 1, "over"), (0.0, "whole"))
    )
    assert excluded_by((over,), "a", "m", T0) is None
    assert excluded_by((short, long, over), "a", "m", T0) is long
    assert excluded_by((short, whole, long), "a", "m", T0) is whole


def test_a_lasting_reason_is_told_before_a_passing_one() -> None:
    found = only(
        backend(healthy=False), needs={"model": "x"}, excluded=(Exclusion(backend="a", until=T0 + 9, reason="r"),)
    )
    assert found.barred == "model"
    assert found.barred not in TEMPORARY


def test_fleets_are_filtered_one_by_one() -> None:
    fleet: list[Backend] = [backend("a"), backend("b", slots=0), backend("c", local=False), backend("d")]
    made = choice(view_of(*fleet), Job(slip(needs={"allow_cloud": False})))
    assert [c.backend for c in made.decided.ranking] == ["a", "d"]
    assert [(c.backend, c.barred) for c in made.decided.others] == [("b", "executor"), ("c", "cloud")]
