from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.registry.catalogue import foreign, gone, loaded, merge, running_models, same, vram_free_mb
from messages import ExecutorAlive, Model, Offer, Running
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
        exclusive_group=st.sampled_from(["", "gpu"]), active=st.booleans(),
        vram_total_mb=st.none() | st.integers(1, 99_999),
    ),
    min_size=1, max_size=5,
).map(lambda offers: [(f"e{n}", one) for n, one in enumerate(offers)])  # fmt: skip


@given(OFFERS)
def test_a_backend_is_what_its_executors_offer_together(offers: list[tuple[str, Offer]]) -> None:
    made = merge("a", offers, T0, slots=3)
    healthy = [one for _, one in offers if one.healthy]
    assert made.healthy == bool(healthy)
    assert made.slots == 3
    assert made.executors == tuple(instance for instance, _ in offers)
    names = [model.name for model in made.models]
    assert len(names) == len(set(names))
    assert set(names) == {model.name for _, one in offers for model in one.models}
    assert made.active == any(one.active for _, one in offers)
    assert bool(made.exclusive_group) == any(one.exclusive_group for _, one in offers)
    sizes = [one.vram_total_mb for _, one in offers if one.vram_total_mb is not None]
    assert made.vram_total_mb == (min(sizes) if sizes else None)


def test_why_it_is_unhealthy_is_told_only_while_it_is() -> None:
    sick = offer(healthy=False, health_reason="on fire")
    assert merge("a", [("e0", sick)], T0, slots=1).health_reason == "on fire"
    assert merge("a", [("e0", sick), ("e1", offer())], T0, slots=1).health_reason == ""


def test_a_backend_nobody_serves_keeps_its_models() -> None:
    left = gone(backend(), T0 + 9)
    assert (left.slots, left.executors, left.healthy, left.at) == (0, (), False, T0 + 9)
    assert left.models == backend().models
    assert left.health_reason


def test_the_time_alone_is_no_change() -> None:
    assert same(backend(), msgspec.structs.replace(backend(), at=T0 + 99))
    assert not same(backend(), backend(slots=5))
    assert not same(backend(), None)


def test_what_runs_is_gathered_from_all_executors_once_and_sorted() -> None:
    def alive(instance: str, *pairs: tuple[str, str]) -> ExecutorAlive:
        running = tuple(
            Running(tenant="acme", job=f"j-{n}", n=1, run=str(n), backend=backend, model=model)
            for n, (backend, model) in enumerate(pairs)
        )
        return ExecutorAlive(instance=instance, boot="b", number=1, running=running, at=T0)

    living = [alive("e1", ("a", "n"), ("b", "m"), ("a", "n")), alive("e2", ("a", "m"), ("", "x"), ("c", ""))]
    assert running_models(living) == {"a": ("m", "n"), "b": ("m",)}
    assert running_models([]) == {}


def of(*offers: Offer) -> list[tuple[str, Offer]]:
    return [(f"e{number}", one) for number, one in enumerate(offers)]


def test_the_jobs_of_others_count_once_however_many_look() -> None:
    assert foreign(of(offer(foreign=3), offer(foreign=5), offer())) == 5
    assert foreign([]) == 0


def test_what_the_backend_says_is_loaded_comes_before_what_ran_last() -> None:
    assert loaded(of(offer()), ("m",)) == ("m",)
    assert loaded(of(offer(loaded=("n", "a")), offer(loaded=("n",))), ("m",)) == ("a", "n")
    assert loaded(of(offer(loaded=("n",), healthy=False)), ("m",)) == ("m",), "that was before it fell ill"
    assert loaded([], ("m",)) == ("m",)


def test_an_empty_memory_and_a_worker_that_sleeps_have_nothing_loaded() -> None:
    assert loaded(of(offer(loaded=())), ("m",)) == ()
    assert loaded(of(offer(cold=True, loaded=("m",))), ("m",)) == ()
    assert loaded(of(offer(cold=True), offer()), ("m",)) == ("m",), "one is warm"


def test_free_memory_is_measured_or_told() -> None:
    told = of(offer(vram_free_mb=9), offer(vram_free_mb=5), offer())
    assert vram_free_mb(told, 7) == 7
    assert vram_free_mb(told, None) == 5
    assert vram_free_mb(of(offer()), None) is None
