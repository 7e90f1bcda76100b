from __future__ import annotations

import pytest

from actors.problem import invalid, nearest, unreadable
from messages import JobRate


def test_long_values_are_cut() -> None:
    problem = invalid("prompt", "x" * 5000, "be brief.")
    assert len(problem.value) == 200
    assert len(problem.message) < 120


def test_the_field_its_value_and_what_is_right() -> None:
    problem = invalid("steps", -3, "use 1 or more.")
    assert (problem.reason, problem.field, problem.value) == ("invalid", "steps", "-3")
    assert problem.message == "steps is -3: use 1 or more."
    assert invalid("tools", (), "x").message == "tools is (): x"


@pytest.mark.parametrize(("word", "hint"), [("cost_firts", " Did you mean 'cost_first'?"), ("zzz", "")])
def test_nearest(word: str, hint: str) -> None:
    assert nearest(word, ("weighted_score", "cost_first")) == hint


@pytest.mark.parametrize(
    ("reason", "field", "words"),
    [
        ("Object contains unknown field `scoer`", "scoer", "scoer is not a field of a rating. Did you mean 'score'?"),
        ("Object missing required field `score`", "score", "score: Object missing required field `score`"),
        ("Expected `float`, got `str` - at `$.score`", "score", "score: Expected `float`, got `str` - at `$.score`"),
        ("JSON is malformed", "", "the body is not a rating in JSON: JSON is malformed"),
    ],
)
def test_what_can_not_be_read_names_the_field(reason: str, field: str, words: str) -> None:
    problem = unreadable(JobRate, "rating", reason)
    assert (problem.field, problem.reason) == (field, "invalid" if field else "undecodable")
    assert problem.message.startswith(words)


def test_a_reason_that_repeats_a_large_value_keeps_its_ends() -> None:
    problem = unreadable(JobRate, "rating", f"Invalid {'x' * 5000} - at `$.score`")
    assert problem.field == "score"
    assert len(problem.message) < 1100
    assert problem.message.endswith("- at `$.score`")
