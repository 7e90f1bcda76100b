from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.preferences import FIELDS, Preferences, Wishes
from messages import JobSubmit, Preference

JOB: dict[str, Any] = {"prompt": "hi", "user": "ada", "product": "card", "workflow": "site", "step": "hero"}
SCOPES = ("step:site/hero", "workflow:site", "product:card", "user:ada", "tenant")
VALUES: dict[str, Any] = {
    "quality": "draft", "strategy": "cost_first", "preferred_backend": "gpu-1", "preferred_model": "m", "allow_cloud": False,
    "prioritize_speed": True, "max_cost_microdollars": 0, "value_per_hour_microdollars": 7,
}  # fmt: skip

OWN: dict[str, Any] = {
    "quality": "final", "strategy": "latency_first", "preferred_backend": "x", "preferred_model": "y", "allow_cloud": True,
    "prioritize_speed": False, "max_cost_microdollars": 9, "value_per_hour_microdollars": 0,
}  # fmt: skip


def known(*given: Preference) -> Preferences:
    made = Preferences(("cost_first", "latency_first"))
    for one in given:
        made.hear(one)
    return made


def prefers(scope: str = "tenant", tenant: str = "acme", **fields: Any) -> Preference:
    return Preference(tenant=tenant, scope=scope, **fields)


def wishes(preferences: Preferences, tenant: str = "acme", **fields: Any) -> Wishes:
    return preferences.wishes(tenant, JobSubmit(**{**JOB, **fields}))


def test_without_preferences_the_job_speaks_alone() -> None:
    assert wishes(known()) == Wishes()
    found = wishes(known(), **{name: value for name, value in VALUES.items() if name in JobSubmit.__struct_fields__})
    assert {name: getattr(found, name) for name in FIELDS} == VALUES
    assert found.why == ()


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_can_be_preferred_and_the_job_comes_first(name: str) -> None:
    preferences = known(prefers(**{name: VALUES[name]}))
    found = wishes(preferences)
    assert getattr(found, name) == VALUES[name]
    assert found.why == (f"{name} {VALUES[name]} preferred by tenant",)
    mine = wishes(preferences, **{name: OWN[name]})
    assert getattr(mine, name) == OWN[name]
    assert mine.why == ()


@given(st.sets(st.sampled_from(SCOPES), min_size=1))
def test_the_nearest_scope_wins_field_by_field(scopes: set[str]) -> None:
    preferences = known(
        *(prefers(scope, preferred_model=scope) for scope in scopes), prefers("user:bob", quality="final")
    )
    nearest = next(scope for scope in SCOPES if scope in scopes)
    assert wishes(preferences).preferred_model == nearest
    assert wishes(preferences).quality is None, "of another user"


def test_fields_come_from_different_scopes() -> None:
    found = wishes(known(prefers(quality="draft", allow_cloud=False), prefers("user:ada", allow_cloud=True)))
    assert (found.quality, found.allow_cloud) == ("draft", True)
    assert found.why == ("quality draft preferred by tenant", "allow_cloud True preferred by user:ada")


def test_a_step_is_one_of_its_workflow() -> None:
    preferences = known(prefers("step:site/hero", quality="final"))
    assert wishes(preferences, workflow="other").quality is None
    assert wishes(preferences, workflow="").quality is None
    assert wishes(preferences, step="").quality is None


def test_tenants_do_not_see_each_others() -> None:
    preferences = known(*(prefers(scope, **VALUES) for scope in SCOPES))
    assert wishes(preferences, tenant="other") == Wishes()
    assert wishes(preferences, tenant="") == Wishes()


@pytest.mark.parametrize("name", ["preferred_backend", "preferred_model"])
def test_auto_means_none(name: str) -> None:
    preferences = known(prefers(**{name: "gpu-1"}), prefers("user:ada", **{name: "auto"}))
    assert getattr(wishes(preferences), name) == ""
    assert getattr(wishes(preferences, user="bob"), name) == "gpu-1"
    assert getattr(wishes(preferences, user="bob", **{name: "auto"}), name) == ""


def test_a_strategy_that_is_not_known_is_passed_over() -> None:
    found = wishes(known(prefers(strategy="cost_first"), prefers("user:ada", strategy="cost_frist")))
    assert found.strategy == "cost_first"
    assert any("'cost_frist' preferred by user:ada is not known" in line for line in found.why)


def test_a_later_fact_takes_the_place_of_an_earlier_one() -> None:
    preferences = known(prefers(quality="draft"), prefers(allow_cloud=False))
    assert (wishes(preferences).quality, wishes(preferences).allow_cloud) == (None, False)
    preferences.hear(prefers())
    assert wishes(preferences) == Wishes()
    assert preferences.nearest("acme", JobSubmit(**JOB)) == []
