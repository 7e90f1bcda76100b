from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.registry.catalogue import gone, merge, same
from messages import Model, Offer
from tests.messages.samples import T0, backend


def offer(**changes: Any) -> Offer:
    given: dict[str, Any] = {"backend": "a", "protocol": "ollama", "local": True, "models": (Model(name="m"),)}
    return Offer(**{**given, **changes})


OFFERS = st.lists(
    st.builds(
        offer, slots=st.integers(1, 8), healthy=st.booleans(),
        models=st.lists(st.sampled_from("mnop"), max_size=3, unique=True).map(
            lambda names: tuple(Model(name=name) for name in names)
        ),
    ),
    min_size=1, max_size=5,
).map(lambda offers: [(f"e{n}", one) for n, one in enumerate(offers)])  # fmt: skip


@given(OFFERS)
def test_a_backend_is_what_its_executors_offer_together(offers: list[tuple[str, Offer]]) -> None:
    made = merge("a", offers, T0)
    healthy = [one for _, one in offers if one.healthy]
    assert made.healthy == bool(healthy)
    assert made.slots == sum(one.slots for one in healthy or [one for _, one in offers])
    assert made.executors == tuple(instance for instance, _ in offers)
    names = [model.name for model in made.models]
    assert len(names) == len(set(names))
    assert set(names) == {model.name for _, one in offers for model in one.models}


def test_why_it_is_unhealthy_is_told_only_while_it_is() -> None:
    sick = offer(healthy=False, health_reason="on fire")
    assert merge("a", [("e0", sick)], T0).health_reason == "on fire"
    assert merge("a", [("e0", sick), ("e1", offer())], T0).health_reason == ""


def test_a_backend_nobody_serves_keeps_its_models() -> None:
    left = gone(backend(), T0 + 9)
    assert (left.slots, left.executors, left.healthy, left.at) == (0, (), False, T0 + 9)
    assert left.models == backend().models
    assert left.health_reason


def test_the_time_alone_is_no_change() -> None:
    assert same(backend(), msgspec.structs.replace(backend(), at=T0 + 99))
    assert not same(backend(), backend(slots=5))
    assert not same(backend(), None)
