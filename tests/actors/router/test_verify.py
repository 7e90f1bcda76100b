"""Decisions derived again from their events: identical when untouched, noticed when tampered with (requirement C8)."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from actors.router.case import Scored, Strategy
from actors.router.decide import decide
from actors.router.strategies import STRATEGIES
from actors.router.verify import Underivable, check, derive, difference
from bus import codec
from messages import Candidate, Decided, Message, Problem
from tests.actors.router.fleets import EASY, WISHES, Job, choice, decision, facts, jobs, view_of
from tests.messages.samples import T0, backend, slip

CAUSES = st.sampled_from(
    [None, Problem(reason="over_budget", message="a: over budget"), Problem(reason="refused", message="a: busy")]
)
KNOWN = (
    "score",
    "parts",
    "barred",
    "reason",
    "worst_case_microdollars",
    "worst_case_tokens",
    "max_output_tokens",
    "changes",
)
"""What stands in a candidate and is derived; the rest is what was seen."""


def again(decided: Decided) -> Decided:
    return codec.decode(Decided, codec.encode(decided))


def read(stored: dict[str, Any]) -> Decided:
    return codec.decode(Decided, json.dumps(stored).encode())


def candidates(data: bytes) -> tuple[Candidate, ...]:
    return msgspec.json.decode(data, type=tuple[Candidate, ...])


@given(facts(), jobs(), CAUSES)
def test_every_decision_derives_from_its_event_alone(
    given_facts: list[Message], job: Job, cause: Problem | None
) -> None:
    made = choice(view_of(*given_facts), job, cause=cause)
    beside = candidates(msgspec.json.encode(made.everything())) if made.decided.omitted else ()
    stored = again(made.decided)
    assert check(stored, beside) == ""
    assert codec.encode(derive(stored, beside)) == codec.encode(stored)


# ------------------------------------------------------------------------------------------------- tampering


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all numbers, words and switches."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [found for key, inner in enumerate(value) for found in leaves(inner, (*path, key))]
    return [path]


def tampered(stored: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """A copy in which one leaf has another value."""
    copied = copy.deepcopy(stored)
    place: Any = copied
    for step in path[:-1]:
        place = place[step]
    value = place[path[-1]]
    if isinstance(value, bool):
        place[path[-1]] = not value
    elif isinstance(value, int | float):
        place[path[-1]] = value + 1
    elif isinstance(value, str):
        place[path[-1]] = value + "x"
    else:
        place[path[-1]] = 1
    return copied


def written(path: tuple[Any, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def is_outcome(path: tuple[Any, ...]) -> bool:
    """Whether a leaf is what was decided, and not what it was decided from."""
    if path[0] in ("ranking", "others"):
        return path[2] in KNOWN or (path[2] == "parameters" and "degrade" not in path)
    return path[0] in ("reason", "number", "explored", "wait_seconds", "gave_up", "parts", "omitted")


@given(facts(), jobs(), st.data())
def test_a_tampered_outcome_is_noticed_at_its_place(given_facts: list[Message], job: Job, data: Any) -> None:
    made = choice(view_of(*given_facts), job)
    beside = made.everything() if made.decided.omitted else ()
    stored = json.loads(codec.encode(made.decided))
    path = data.draw(st.sampled_from([path for path in leaves(stored) if is_outcome(path) and path[0] != "omitted"]))
    forged = read(tampered(stored, path))
    found = check(forged, beside)
    assert found.startswith(f"{written(path)}: stored ")


COSTLY = WISHES.map(
    lambda wishes: {
        **wishes, **EASY, "strategy": "expected_cost", "value_per_hour_microdollars": None, "prioritize_speed": False
    }
)  # fmt: skip
BY_POINTS = {"strategy": "weighted_score"}
WEIGHS = ("service_seconds", "wait_seconds", "switch_seconds", "price_microdollars", "failure_rate", "ahead")


@given(facts(policies=st.just([])), jobs(COSTLY, fresh=True), st.sampled_from(WEIGHS), st.data())
def test_a_tampered_figure_that_counts_is_noticed(given_facts: list[Message], job: Job, name: str, data: Any) -> None:
    made = choice(view_of(*given_facts), job)
    assume(made.ranking and not made.decided.omitted)
    place = data.draw(st.integers(0, len(made.ranking) - 1))
    stored = json.loads(codec.encode(made.decided))
    features = stored["ranking"][place].setdefault("features", {})
    features[name] = features.get(name, 0.0) + 1.0
    assert check(read(stored))


@given(facts(policies=st.just([])), jobs(COSTLY, fresh=True))
def test_a_tampered_number_of_the_plan_is_noticed(given_facts: list[Message], job: Job) -> None:
    made = choice(view_of(*given_facts), job)
    assume(made.ranking)
    stored = json.loads(codec.encode(made.decided))
    stored["plan"].setdefault("cost", {})["value_per_hour_microdollars"] = 77.0
    assert "ranking[" in check(read(stored), made.everything() if made.decided.omitted else ())


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("ranking", 0, "score"), 99.5, "ranking[0].score: stored 99.5, derived "),
        (("ranking", 1, "parts", 0), 1.0, "ranking[1].parts[0]: stored 1.0, derived "),
        (("ranking", 0, "features", "service_seconds"), 11.0, "ranking[0].score: stored "),
        (("ranking", 1, "features", "queue"), 9, "ranking[1].score: stored "),
        (("strategy",), "cost_first", "strategy: stored 'cost_first', derived 'weighted_score'"),
        (("plan", "strategy"), "cost_first", "ranking[0].score: stored "),
        (("plan", "weights"), {"priority": 5.0}, "ranking[0].score: stored "),
        (("reason",), "because", "reason: stored 'because', derived "),
        (("wait_seconds",), 3.0, "wait_seconds: stored 3.0, derived "),
    ],
)
def test_where_a_decision_was_tampered_with(path: tuple[Any, ...], value: Any, place: str) -> None:
    made = decision(view_of(backend("a"), backend("b", priority=2)), needs=BY_POINTS)
    stored = json.loads(codec.encode(made))
    inner: Any = stored
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert check(read(stored)).startswith(place)


def test_a_swapped_order_and_a_dropped_candidate_are_noticed() -> None:
    made = decision(view_of(backend("a"), backend("b", priority=2), backend("c", priority=3)), needs=BY_POINTS)
    first, second, third = made.ranking
    swapped = msgspec.structs.replace(made, ranking=(second, first, third))
    assert check(swapped) == "ranking[0].backend: stored 'b', derived 'a'"
    dropped = msgspec.structs.replace(made, ranking=(second, third))
    assert check(dropped).startswith("reason: stored 'a leads with 100.0 points")
    moved = msgspec.structs.replace(made, ranking=(first, second), others=(third,))
    assert check(moved) == "ranking: stored 2 entries, derived 3"


# ------------------------------------------------------------------------------------------ more than 16 candidates


def many() -> tuple[Decided, tuple[Candidate, ...]]:
    made = choice(view_of(*(backend(f"b{i:02}", priority=1 + i % 3) for i in range(30))), Job(slip(needs=BY_POINTS)))
    return made.decided, candidates(msgspec.json.encode(made.everything()))


def test_of_a_large_fleet_everything_is_needed() -> None:
    decided, beside = many()
    assert (len(decided.ranking), decided.omitted, len(beside)) == (16, 14, 30)
    assert check(decided, beside) == ""
    with pytest.raises(Underivable, match="14 candidates are kept beside the event"):
        check(decided)


def test_a_tampered_candidate_beside_the_event_is_noticed() -> None:
    decided, beside = many()
    forged = (*beside[:20], msgspec.structs.replace(beside[20], score=100.0), *beside[21:])
    assert check(decided, forged) == f"everything[20].score: stored 100.0, derived {beside[20].score!r}"
    better = msgspec.structs.replace(beside[20], known=msgspec.structs.replace(beside[20].known, priority=1))
    assert check(decided, (*beside[:20], better, *beside[21:])) != ""
    assert check(decided, beside[:-1]).startswith("omitted: stored 14, derived 13")


# --------------------------------------------------------------------------------------------------- strategies


def test_a_strategy_that_is_not_here_is_named() -> None:
    own = Strategy(name="by_letter", score=lambda rows, case: Scored([float(ord(row.backend)) for row in rows]))
    mine = {**STRATEGIES, "by_letter": own}
    made = decide(
        slip(needs={"strategy": "by_letter"}), n=1, attempts=(), excluded=(), now=T0, strategies=mine,
        view=view_of(backend("a"), backend("b")),
    ).decided  # fmt: skip
    assert (made.strategy, [c.backend for c in made.ranking]) == ("by_letter", ["b", "a"])
    assert check(made, strategies=mine) == ""
    with pytest.raises(Underivable, match="the strategy 'by_letter' is not installed here"):
        check(made)


def test_who_decided_without_the_strategy_said_so() -> None:
    made = decision(view_of(backend("a")), needs={"strategy": "by_letter"})
    assert (made.strategy, made.plan.strategy) == ("weighted_score", "by_letter")
    assert check(made) == ""


# ----------------------------------------------------------------------------------------------------- differences


def test_differences_are_told_with_their_path() -> None:
    made = decision(view_of(backend("a")))
    assert difference(made, made) == ""
    assert difference(made, msgspec.structs.replace(made, number=0.5)) == "number: stored nothing, derived 0.5"
    shorter = msgspec.structs.replace(made, ranking=())
    assert difference(made, shorter).startswith("ranking: stored [{'backend': 'a', ")
    assert difference(made, shorter).endswith(", derived nothing")
