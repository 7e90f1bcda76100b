from __future__ import annotations

import pytest

from actors.analyzer.problem import invalid, nearest


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
