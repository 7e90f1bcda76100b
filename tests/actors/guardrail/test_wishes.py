"""Latency targets of policies' guardrails."""

from __future__ import annotations

from actors.alert_settings import LatencyTarget
from actors.guardrail.latency import fits
from actors.guardrail.wishes import targets_of
from messages import CatalogueEntry, Guardrail, Policy
from tests.messages.samples import attempted


def test_a_word_means_a_model_by_name_or_id_or_a_backend() -> None:
    guard = Guardrail(model=("stable-1", "gpu"), workflow=("site",), step=("hero",), latency_target_ms=1_500.0)
    policy = Policy(policy="p", models={"stable-1": CatalogueEntry(model="gpt-4o")}, guardrails=(guard,))
    targets = targets_of([policy])
    assert {target.target_seconds for target in targets} == {1.5}

    def counts(**call: str) -> bool:
        return any(fits(target, attempted(**{"workflow": "site", "step": "hero", **call})) for target in targets)

    assert counts(model="gpt-4o")
    assert counts(backend="gpu")
    assert not counts(model="gpt-4o", step="footer")
    assert not counts(model="other")


def test_the_settings_come_first_and_a_removed_policy_wishes_nothing() -> None:
    guard = Guardrail(model=("m",), latency_target_ms=10.0)
    own = (LatencyTarget(model="m", target_seconds=9.0),)
    assert [target.backend for target in targets_of([Policy(policy="p", guardrails=(guard,))], own)] == ["m"]
    assert targets_of([Policy(policy="p", guardrails=(guard,), removed=True)]) == ()
    assert targets_of([Policy(policy="p", guardrails=(Guardrail(model=("m",)),))]) == ()
