"""A preferred backend is a name, a kind or a provider; the share of tenants that a strategy is usual for."""

from __future__ import annotations

import pytest

from actors.explainer.explain import explain
from actors.explainer.memory import Memory
from actors.router.rulebook import Rulebook
from actors.router.shipped import overrides_from
from messages import Backend, Model, Price
from tests.actors.router.seeds.fleet import decision, policy, view_of
from tests.messages.samples import backend, needs


def fleet() -> list[Backend]:
    def one(name: str, price: int, **more: object) -> Backend:
        model = Model(name="m", price=Price(per_request=price, source="x"), tokens_per_second=50.0)
        return backend(name, models=(model,), **more)

    return [
        one("gpu", 0), one("rented", 7_000, local=False, provider="runpod"),
        one("api", 80_000, local=False, provider="google"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "leader"),
    [("gpu", "gpu"), ("rented", "rented"), ("api", "api"), ("local", "gpu"), ("cloud", "rented"), ("runpod", "rented"),
     ("google", "api"), ("gemini", "api"), ("nobody", "gpu"), ("", "gpu")],
)  # fmt: skip
def test_a_name_a_kind_or_a_provider_leads(word: str, leader: str) -> None:
    """Seed 002: `preferredBackend`: 'auto', 'local', 'cloud', 'gemini'."""
    made = decision(view_of(fleet()), {"preferred_backend": word})
    assert made.ranking[0].backend == leader
    if word not in ("", "nobody"):
        said = explain(made, Memory()).summary
        assert "because the job prefers it" in said or "the only one" in said


def test_a_name_comes_before_a_kind() -> None:
    named = backend("cloud", models=(Model(name="m"),))
    assert decision(view_of([*fleet(), named]), {"preferred_backend": "cloud"}).ranking[0].backend == "cloud"


def test_who_is_preferred_and_ill_gives_way_to_the_next_permitted() -> None:
    ill = [*fleet()[:1], backend("api", local=False, provider="google", healthy=False, health_reason="x")]
    assert decision(view_of(ill), {"preferred_backend": "gemini"}).ranking[0].backend == "gpu"


@pytest.mark.parametrize(("value", "least", "most"), [("0.25", 0.2, 0.3), ("25%", 0.2, 0.3), ("0.5", 0.44, 0.56)])
def test_a_share_of_the_tenants_is_adaptive(value: str, least: float, most: float) -> None:
    """Seed 003, feature flag `models.adaptiveRouting` "for gradual rollout"."""
    override = overrides_from({"FEATURE_MODELS_ADAPTIVE": value})
    assert override is not None
    book = Rulebook([override, policy('policy = "rest"\norder = 70\nstrategy = "cost_first"')])
    tenants = [f"t{n}" for n in range(1_000)]
    found = {tenant: book.ruling(needs(), tenant, frozenset()).plan.strategy for tenant in tenants}
    assert set(found.values()) == {"adaptive", "cost_first"}
    assert least <= sum(one == "adaptive" for one in found.values()) / len(tenants) <= most
    assert book.key(needs(), tenants[0]) != book.key(needs(), next(t for t in tenants if found[t] != found[tenants[0]]))
    more = overrides_from({"FEATURE_MODELS_ADAPTIVE": "0.75"})
    assert more is not None
    wider = Rulebook([more])
    assert all(
        wider.ruling(needs(), tenant, frozenset()).plan.strategy == "adaptive"
        for tenant, one in found.items()
        if one == "adaptive"
    )


@pytest.mark.parametrize("value", ["1.5", "-0.1", "maybe", "nan"])
def test_what_is_no_share_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"use 1, 0, or a share of the tenants as 0\.25"):
        overrides_from({"FEATURE_MODELS_ADAPTIVE": value})
