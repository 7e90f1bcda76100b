from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.rules import Rules, rules_of
from messages import AnalysisRules, CatalogueEntry, Policy, Preset


def policy(name: str, **changes: Any) -> Policy:
    return Policy(policy=name, **changes)


def test_of_no_policy_the_defaults_hold() -> None:
    assert rules_of(()) == Rules()


def test_the_first_policy_that_says_something_wins() -> None:
    early = policy("z", order=1, presets={"draft": Preset(max_output_tokens=9)})
    late = policy(
        "a", order=2, analysis=AnalysisRules(simple_below=7), presets={"draft": Preset(max_output_tokens=5), "final": Preset()},
        models={"light-1": CatalogueEntry(model="gpt-4o-mini")},
    )  # fmt: skip
    found = rules_of((late, early))
    assert found.presets == {"draft": Preset(max_output_tokens=9), "final": Preset()}
    assert found.analysis.simple_below == 7
    assert found.catalogue == {"light-1"}


def test_names_settle_what_the_order_does_not() -> None:
    two = (policy("b", analysis=AnalysisRules(long_above=2)), policy("a", analysis=AnalysisRules(long_above=1)))
    assert rules_of(two).analysis.long_above == 1


def test_a_removed_policy_says_nothing() -> None:
    gone = policy("a", removed=True, analysis=AnalysisRules(long_above=1), models={"x": CatalogueEntry()})
    assert rules_of((gone,)) == Rules()


@given(
    st.permutations(
        [policy("a", order=3), policy("b", order=1, presets={"draft": Preset(steps=4)}), policy("c", order=2)]
    )
)
def test_the_order_of_hearing_is_nothing(policies: list[Policy]) -> None:
    assert rules_of(policies).presets == {"draft": Preset(steps=4)}
