"""Words that mean nothing here are told at once."""

from __future__ import annotations

import pytest

from actors.analyzer.remarks import remarks_on
from actors.analyzer.rules import ROLES, rules_of
from messages import Match, Policy, Rule

PROVIDERS = {"gpu": "", "cloud-1": "runpod", "gemini-api": "google"}


@pytest.mark.parametrize("word", ["", "gpu", "cloud-1", "local", "cloud", "runpod", "google", "gemini"])
def test_a_name_a_kind_and_a_provider_are_known(word: str) -> None:
    assert remarks_on("", word, ROLES, PROVIDERS) == ()


@pytest.mark.parametrize(
    ("word", "meant"), [("gpuu", "gpu"), ("loacl", "local"), ("gemni", "gemini"), ("Cloud", "cloud"), ("xyzzy", "")]
)
def test_any_other_backend_is_told_with_what_was_meant(word: str, meant: str) -> None:
    (remark,) = remarks_on("", word, ROLES, PROVIDERS)
    assert remark.startswith(f"preferred_backend {word!r} is no backend")
    assert (f"was {meant!r} meant?" if meant else "`turnout backends` shows") in remark


def test_while_no_backend_is_known_nothing_is_said_of_one() -> None:
    assert remarks_on("", "gpuu", ROLES, {}) == ()


def test_a_role_that_a_policy_names_is_known() -> None:
    rules = rules_of([Policy(policy="p", rules=(Rule(name="r", match=Match(role=("accountant",))),))])
    assert remarks_on("accountant", "", rules.roles, {}) == ()
    assert len(remarks_on("accountant", "gpuu", ROLES, PROVIDERS)) == 2
