from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.fleet import ASSETS, NOTHING, Bounds, Fleet, Pace, pace_of
from messages import Backend, Model, Stats
from messages.values import Media, Price, Range, Rate
from tests.messages.samples import T0, backend

QUICK = Model(name="quick", tokens_per_second=100.0, first_token_seconds=0.5, price=Price(output_per_mtok=600_000))
SLOW = Model(name="slow", tokens_per_second=10.0, first_token_seconds=2.0)
PAINTER = Model(name="flux", capabilities=("image",), seconds_per_job=8.0, price=Price(per_image=40_000))


def stats(name: str = "a", model: str = "slow", **changes: Any) -> Stats:
    given: dict[str, Any] = {
        "backend": name, "model": model, "scope": "-", "attempts": 9, "successes": 9, "at": T0,
    }  # fmt: skip
    return Stats(**{**given, **changes})


def fleet(*facts: Backend | Stats) -> Fleet:
    made = Fleet()
    for fact in facts:
        made.hear_backend(fact) if isinstance(fact, Backend) else made.hear_stats(fact)
    return made


def bounds_of(paces: Iterable[Pace]) -> Bounds:
    """The same by looking at all of them."""
    known = list(paces)
    timed = [pace for pace in known if pace.timed]
    prices = [pace.price for pace in known if not pace.price.unknown]

    def ends(values: list[Any]) -> tuple[Any, Any]:
        return min(values, default=0), max(values, default=0)

    first, each = ends([pace.first for pace in timed]), ends([pace.each for pace in timed])
    figures = {
        name: (
            ends([getattr(price.level(dearest=False), name) for price in prices])[0],
            ends([getattr(price.level(dearest=True), name) for price in prices])[1],
        )
        for name in ("input_per_mtok", "output_per_mtok", "per_request", "per_image", "per_second")
    }
    return Bounds(
        timed=bool(timed), first=Range(low=first[0], high=first[1]), each=Range(low=each[0], high=each[1]),
        priced=bool(prices), cheapest=Price(**{name: low for name, (low, _) in figures.items()}),
        dearest=Price(**{name: high for name, (_, high) in figures.items()}), unpriced=len(known) - len(prices),
    )  # fmt: skip


def test_of_no_model_nothing_is_known() -> None:
    bounds = Fleet().bounds("text", "")
    assert bounds == NOTHING
    assert bounds.seconds("text", 0.0, 50, 100) is None
    assert bounds.cost(10, 50, 100, Media()) is None


def test_the_range_goes_from_the_fastest_and_cheapest_to_the_slowest_and_dearest() -> None:
    bounds = fleet(backend("a", models=(QUICK, SLOW))).bounds("text", "")
    assert bounds.seconds("text", 0.0, 50, 100) == Range(low=1.0, high=12.0)
    assert bounds.cost(10, 50, 100, Media()) == Range(low=0.0, high=60.0)


def test_a_required_model_narrows_it() -> None:
    known = fleet(backend("a", models=(QUICK, SLOW)))
    assert known.bounds("text", "quick").cost(10, 50, 100, Media()) == Range(low=30.0, high=60.0)
    assert known.bounds("text", "unheard-of") == known.bounds("text", "")


def test_images_are_timed_and_priced_by_what_is_made() -> None:
    known = fleet(backend("a", models=(QUICK, PAINTER)))
    bounds = known.bounds("image", "")
    assert bounds.seconds("image", 2.0, 0, 0) == Range(low=16.0, high=16.0)
    assert bounds.cost(10, 0, 0, Media(images=3)) == Range(low=120_000.0, high=120_000.0)
    assert known.bounds("video", "") == NOTHING


def test_measurements_take_the_place_of_what_is_stated() -> None:
    known = fleet(backend("a", models=(SLOW,)))
    assert known.bounds("text", "").seconds("text", 0.0, 100, 100) == Range(low=12.0, high=12.0)
    known.hear_stats(stats(tokens_per_second=50.0, first_token_seconds=1.0))
    assert known.bounds("text", "").seconds("text", 0.0, 100, 100) == Range(low=3.0, high=3.0)
    known.hear_stats(stats(scope="task:code", tokens_per_second=1.0))
    assert known.bounds("text", "").seconds("text", 0.0, 100, 100) == Range(low=3.0, high=3.0)


def test_measurements_may_come_first() -> None:
    known = fleet(stats(tokens_per_second=50.0, first_token_seconds=1.0), backend("a", models=(SLOW,)))
    assert known.bounds("text", "").seconds("text", 0.0, 100, 100) == Range(low=3.0, high=3.0)


def test_a_whole_jobs_time_serves_where_no_rate_is_known() -> None:
    pace = pace_of(Model(name="m", seconds_per_job=9.0), None)
    assert (pace.timed, pace.first, pace.each) == (True, 9.0, 0.0)
    assert not pace_of(Model(name="m"), None).timed
    assert pace_of(Model(name="m"), stats(latency_seconds=4.0)).first == 4.0


def test_unknown_prices_stand_apart() -> None:
    odd = Model(name="odd", tokens_per_second=20.0, price=Price(unknown=True))
    bounds = fleet(backend("a", models=(QUICK, odd))).bounds("text", "")
    assert bounds.unpriced == 1
    assert bounds.cost(0, 100, 100, Media()) == Range(low=60.0, high=60.0)
    assert fleet(backend("a", models=(odd,))).bounds("text", "").cost(0, 100, 100, Media()) is None


def test_a_backend_that_nobody_runs_keeps_its_names_only() -> None:
    known = fleet(backend("a", models=(QUICK,)))
    known.hear_backend(backend("a", models=(QUICK,), slots=0))
    assert known.bounds("text", "") == NOTHING
    assert known.models == {"quick"}
    known.hear_backend(backend("a", models=(QUICK,)))
    assert known.bounds("text", "").timed
    known.hear_backend(backend("a", models=(SLOW,)))
    assert known.models == {"slow"}


def test_what_a_model_makes() -> None:
    known = fleet(
        backend("a", models=(QUICK, PAINTER)), backend("b", models=(Model(name="flux", capabilities=("lora",)),))
    )
    assert known.made_by("flux") == {"image", "lora"}
    assert known.made_by("unheard-of") == frozenset()
    known.hear_backend(backend("b", models=()))
    assert known.made_by("flux") == {"image"}


def test_what_those_make_that_know_a_recipe() -> None:
    runs = Model(name="wan", capabilities=("video", "recipe:animate"))
    known = fleet(backend("a", models=(QUICK, PAINTER)), backend("b", models=(runs,)))
    assert known.can_with("animate") == {"video", "recipe:animate"}
    assert known.can_with("upscale") == frozenset()
    known.hear_backend(backend("a", models=(Model(name="x", capabilities=("image", "recipe:upscale")),)))
    assert known.can_with("upscale") == {"image", "recipe:upscale"}


def test_a_recipe_makes_what_all_models_that_know_it_make() -> None:
    both = Model(name="wan", capabilities=("image", "video", "lora", "recipe:animate", "recipe:still"))
    known = fleet(backend("a", models=(QUICK, PAINTER, both)))
    assert known.recipes == {"animate": {"image", "video"}, "still": {"image", "video"}}
    known.hear_backend(backend("b", models=(Model(name="x", capabilities=("video", "recipe:animate")),)))
    assert known.recipes == {"animate": {"video"}, "still": {"image", "video"}}
    known.hear_backend(backend("a", models=()))
    assert known.recipes == {"animate": {"video"}}


MODELS: Any = st.builds(
    Model, name=st.sampled_from(["m", "n"]), capabilities=st.sampled_from([("text",), ("image",), ("text", "vision")]),
    tokens_per_second=st.none() | st.sampled_from([1.0, 5.0, 9.0]), seconds_per_job=st.none() | st.sampled_from([2.0, 4.0]),
    price=st.builds(
        Price, output_per_mtok=st.sampled_from([0, 5, 9]), long_output_per_mtok=st.sampled_from([0, 12]), unknown=st.booleans()
    ),
)  # fmt: skip
FACTS: Any = st.one_of(
    st.builds(
        backend, st.sampled_from("abc"), models=st.lists(MODELS, max_size=2, unique_by=lambda m: m.name).map(tuple),
        slots=st.sampled_from([0, 2]),
    ),
    st.builds(
        stats, st.sampled_from("abc"), st.sampled_from("mn"), tokens_per_second=st.none() | st.sampled_from([1.0, 3.0, 7.0]),
        latency_seconds=st.none() | st.sampled_from([1.0, 3.0]), scope=st.sampled_from(["-", "task:code"]),
    ),
)  # fmt: skip


@given(st.lists(FACTS, max_size=12))
def test_bounds_kept_are_bounds_made_anew(facts: list[Any]) -> None:
    """Asking between facts, so that something is kept, changes nothing."""
    known, served, measured = Fleet(), {}, {}
    for fact in facts:
        if isinstance(fact, Backend):
            known.hear_backend(fact)
            served[fact.backend] = fact
        else:
            known.hear_stats(fact)
            if fact.scope == "-":
                measured[fact.backend, fact.model] = fact
        paces = {
            (one.backend, model.name): pace_of(model, measured.get((one.backend, model.name)))
            for one in served.values() if one.slots for model in one.models
        }  # fmt: skip
        for asset in ASSETS:
            assert known.bounds(asset, "") == bounds_of(pace for pace in paces.values() if asset in pace.made)
        for name in ("m", "n"):
            if name in known.models:
                assert known.bounds("text", name) == bounds_of(pace for key, pace in paces.items() if key[1] == name)


@pytest.mark.parametrize("output", [0, 10, 1000])
def test_the_most_is_never_under_the_least(output: int) -> None:
    span = fleet(backend("a", models=(QUICK, SLOW))).bounds("text", "").seconds("text", 0.0, output, 2 * output)
    assert span is not None
    assert span.low <= span.high


def test_the_most_counts_long_requests_and_large_pictures() -> None:
    price = Price(
        input_per_mtok=1_000_000, long_above_tokens=5, long_input_per_mtok=3_000_000,
        image_rates=(Rate(up_to_pixels=100, microdollars=10), Rate(up_to_pixels=400, microdollars=70)),
    )  # fmt: skip
    bounds = fleet(backend("a", models=(Model(name="odd", capabilities=("image",), price=price),))).bounds("image", "")
    assert bounds.cost(1, 0, 0, Media(images=2)) == Range(low=21.0, high=143.0)


def test_a_backend_and_its_figures_leave_no_trace_once_they_are_deleted() -> None:
    gone = backend("b", slots=0, models=(QUICK, PAINTER))
    made = fleet(backend("a", models=(SLOW,)), backend("b", models=(QUICK, PAINTER)), stats("b", "quick"), gone)
    assert made.models == {"slow", "quick", "flux"}
    made.forget_backend(backend("a", models=(SLOW,)))
    assert "slow" in made.models, "somebody runs it"
    made.forget_stats(stats("b", "quick", attempts=1))
    assert made._stats, "newer figures are known"
    made.forget_stats(stats("b", "quick"))
    made.forget_backend(gone)
    assert made.models == {"slow"}
    assert (set(made._names), made._stats, made._idle) == ({"slow"}, {}, set())
    assert made.bounds("text", "") == fleet(backend("a", models=(SLOW,))).bounds("text", "")


def test_what_clients_call_a_recipe_is_not_remembered() -> None:
    made = fleet(backend("a", models=(Model(name="m", capabilities=("image", "recipe:upscale")),)))
    for number in range(100):
        assert made.can_with(f"no-{number}") == frozenset()
    assert made.can_with("upscale") == {"image", "recipe:upscale"}
    assert set(made._with) == {"recipe:upscale"}
