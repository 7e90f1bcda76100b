"""The page on routing is what the policies say now."""

from __future__ import annotations

from pathlib import Path

from actors.router import handbook
from actors.router.shipped import shipped_policies
from actors.router.strategies import STRATEGIES
from messages import Policy, Rule

PAGE = Path(__file__).parents[3] / "docs" / "routing.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == handbook.page(), (
        "run: python -m actors.router.handbook --write docs/routing.md"
    )


def test_it_names_every_strategy_rule_chain_and_model() -> None:
    text = handbook.page()
    for policy in shipped_policies():
        named = [*(rule.name for rule in policy.rules), *policy.chains, *policy.models]
        assert all(name in text for name in named), policy.policy
    assert all(f"`{name}`" in text for name in STRATEGIES)


def test_it_shows_any_policies() -> None:
    text = handbook.page(
        [Policy(policy="mine", source="us", rules=(Rule(name="vip", strategy="latency_first", strict=True),))]
    )
    assert "## Policy `mine` (order 10, us)" in text
    assert "| vip | every job | `latency_first` | all that may run it |" in text
