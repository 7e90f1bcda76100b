"""How a candidate looks at the moment: expected price and times, load, measurements and their age."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.graph_names import packed
from actors.router.survey import DEFAULT_JOB_SECONDS, FRESH_SECONDS, PRIOR_RUNS, remembered, survey
from actors.router.view import DEFAULT_FIRST_TOKEN_SECONDS, DEFAULT_TOKENS_PER_SECOND, View
from messages import Breaker, Features, Load, Media, Message, Model, Price, Stats
from messages.fleet import task_key, workflow_key
from tests.actors.router.fleets import WISHES, facts, sent, view_of
from tests.messages.samples import T0, backend, needs

SPEEDY = Model(name="m", tokens_per_second=50.0, first_token_seconds=0.4)


def stats(scope: str = "-", **changes: Any) -> Stats:
    given_: dict[str, Any] = {
        "backend": "a",
        "model": "m",
        "scope": scope,
        "attempts": 9,
        "successes": 9,
        "weight": 9.0,
        "at": T0,
    }
    return Stats(**{**given_, **changes})


_STEP: dict[str, Any] = {"workflow": "site", "step": "hero"}


def seen(*given_: Message, view: View | None = None, now: float = T0, **wishes: Any) -> Features:
    (row,) = survey(needs(**wishes), "acme", view or view_of(*given_), output_share=0.5, now=now)
    return row.features


def test_rows_stand_in_the_order_of_their_names() -> None:
    view = view_of(backend("b"), backend("a", models=(Model(name="n"), Model(name="m"))))
    rows = survey(needs(), "acme", view, output_share=0.5, now=T0)
    assert [(row.backend, row.model) for row in rows] == [("a", "m"), ("a", "n"), ("b", "m")]


@pytest.mark.parametrize(
    ("checkpoints", "model", "named"),
    [
        ((), "", [("comfy", "graph"), ("llm", "m")]),
        (("none.pt",), "", [("comfy", "graph"), ("llm", "m")]),
        (("sdxl.pt",), "", [("comfy", "sdxl.pt"), ("llm", "m")]),
        (("none.pt", "sdxl.pt"), "", [("comfy", "sdxl.pt"), ("llm", "m")]),
        (("sd15.pt", "sdxl.pt"), "", [("comfy", "sd15.pt"), ("llm", "m")]),
        (("sdxl.pt",), "sd15.pt", [("comfy", "sdxl.pt"), ("llm", "m")]),
        (("none.pt",), "sd15.pt", [("comfy", "sd15.pt"), ("llm", "m")]),
    ],
)
def test_a_model_that_a_graph_does_not_load_is_no_candidate(
    checkpoints: tuple[str, ...], model: str, named: list[tuple[str, str]]
) -> None:
    drawn = [Model(name=name, capabilities=("graph", "image")) for name in ("sd15.pt", "sdxl.pt")]
    there = backend("comfy", models=(Model(name="graph", capabilities=("graph",)), *drawn))
    view = view_of(there, backend("llm"))
    wants = needs(media=Media(checkpoints=checkpoints, node_types=("SaveImage",)), model=model, asset="image")
    assert [(row.backend, row.model) for row in survey(wants, "acme", view, output_share=0.5, now=T0)] == named


def test_what_a_servers_nodes_and_files_lack_is_seen_at_each_of_its_models() -> None:
    has = packed(["SaveImage"], ["sdxl.pt"], ["ink.pt"])
    drawn = Model(name="sdxl.pt", capabilities=("graph", "image"))
    view = view_of(backend("comfy", models=(Model(name="graph", capabilities=("graph",), has=has), drawn)))

    def lacks(**media: Any) -> tuple[str, ...]:
        wants = needs(media=Media(checkpoints=("sdxl.pt",), **media), asset="image")
        (row,) = survey(wants, "acme", view, output_share=0.5, now=T0)
        return row.known.lacks

    assert lacks(node_types=("SaveImage",), loras=("ink.pt",)) == ()
    assert lacks(node_types=("Mine", "SaveImage"), loras=("oil.pt",)) == ("the node class Mine", "the LoRA oil.pt")


# ----------------------------------------------------------------------------------------------------- service


@pytest.mark.parametrize(
    ("model", "wishes", "seconds"),
    [
        (SPEEDY, {"max_output_tokens": 200}, 0.4 + 100 / 50),
        (SPEEDY, {"max_output_tokens": 200, "output_tokens": 30}, 0.4 + 30 / 50),
        (Model(name="m", tokens_per_second=50.0, first_token_seconds=0.4, max_output_tokens=20), {}, 0.4 + 20 / 50),
        (Model(name="m"), {}, DEFAULT_FIRST_TOKEN_SECONDS + 50 / DEFAULT_TOKENS_PER_SECOND),
        (Model(name="m", seconds_per_job=7.0), {}, 7.0),
        (Model(name="m"), {"asset": "image", "media": Media(images=3)}, 3 * DEFAULT_JOB_SECONDS["image"]),
        (Model(name="m"), {"asset": "video"}, DEFAULT_JOB_SECONDS["video"]),
        (Model(name="m", seconds_per_job=7.0), {"asset": "video"}, 7.0),
    ],
)
def test_the_stated_time_of_a_call(model: Model, wishes: dict[str, Any], seconds: float) -> None:
    assert seen(backend("a", models=(model,)), **wishes).service_seconds == pytest.approx(seconds)


def test_measured_times_count_by_their_runs_against_one_stated_run() -> None:
    there = backend("a", models=(Model(name="m", seconds_per_job=8.0),))
    share = 3.0 / (3.0 + PRIOR_RUNS)
    found = seen(there, stats(weight=3.0, latency_seconds=2.0, latency_spread=0.4))
    assert found.service_seconds == pytest.approx(math.exp(share * math.log(2.0) + (1 - share) * math.log(8.0)))
    assert (found.runs, found.spread, found.measured_at) == (3.0, 0.4, T0)


def test_measurements_fade_without_traffic() -> None:
    old = stats(weight=8.0)
    assert remembered(old, T0 + FRESH_SECONDS, 1_800.0) == 8.0
    assert remembered(old, T0 + 1_800.0, 1_800.0) == 4.0
    assert remembered(old, T0 + 3_600.0, 1_800.0) == 2.0
    there = backend("a", models=(Model(name="m", seconds_per_job=8.0),))
    fresh, stale = (seen(there, stats(latency_seconds=2.0), now=T0 + age).service_seconds for age in (0.0, 1e6))
    assert fresh < 3.0
    assert stale == pytest.approx(8.0)


def test_the_nearest_measurement_of_a_workflow_counts() -> None:
    there, step = backend("a", models=(SPEEDY,)), _STEP
    measured = [
        stats(latency_seconds=1.0, weight=1e9),
        stats(workflow_key("acme", "site"), latency_seconds=3.0, weight=1e9),
        stats(workflow_key("acme", "site", "hero"), latency_seconds=5.0, weight=1e9),
        stats(workflow_key("other", "site", "hero"), latency_seconds=7.0, weight=1e9),
    ]
    assert seen(there, *measured, **step).service_seconds == pytest.approx(5.0)
    assert seen(there, *measured, workflow="site").service_seconds == pytest.approx(3.0)
    assert seen(there, *measured).service_seconds == pytest.approx(1.0)
    empty = stats(workflow_key("acme", "site", "hero"), latency_seconds=5.0, weight=0.0)
    assert seen(there, *measured[:2], empty, **step).service_seconds == pytest.approx(3.0)


def test_ratings_are_those_of_the_kind_of_work() -> None:
    there = backend("a")
    rated = stats(task_key("chat"), rating=4.5, ratings=12)
    assert (seen(there, rated).rating, seen(there, rated).ratings) == (4.5, 12)
    assert seen(there, rated, task="code").rating == 0
    assert seen(there, stats(rating=2.0, ratings=3)).rating == 0


# ------------------------------------------------------------------------------------------------------- price


def test_the_expected_price_uses_what_was_measured_of_tokens() -> None:
    price = Price(input_per_mtok=2_000_000, output_per_mtok=10_000_000, per_request=3)
    there = backend("a", models=(Model(name="m", price=price),))
    assert seen(there, input_tokens=100, output_tokens=40).price_microdollars == 100 * 2 + 40 * 10 + 3
    measured = stats(output_tokens=10.0, input_ratio=1.5)
    found = seen(there, measured, input_tokens=100, output_tokens=40)
    assert (found.price_microdollars, found.input_ratio) == (150 * 2 + 10 * 10 + 3, 1.5)
    assert seen(there, stats(output_tokens=900.0), output_tokens=40).price_microdollars == 10 * 2 + 40 * 10 + 3


def test_images_and_seconds_have_their_price() -> None:
    there = backend("a", models=(Model(name="m", price=Price(per_image=40, per_second=7)),))
    media = Media(images=2, seconds=3.0)
    assert seen(there, asset="video", media=media, max_output_tokens=0).price_microdollars == 2 * 40 + 3 * 7
    assert seen(there, media=media).price_microdollars == 0


# -------------------------------------------------------------------------------------------------- load, switch


@pytest.mark.parametrize(
    ("waiting", "running", "queue", "before"), [(0, 0, 0, 0), (0, 1, 0, 0), (0, 2, 0, 1), (3, 2, 3, 4)]
)  # fmt: skip
def test_who_waits_before_a_job(waiting: int, running: int, queue: int, before: int) -> None:
    """Who runs is waited for too, and does not wait itself."""
    there = backend("a", slots=2, models=(Model(name="m", seconds_per_job=6.0),))
    found = seen(there, Load(backend="a", waiting=waiting, running=running, at=T0))
    assert (found.ahead, found.queue, found.wait_seconds) == (waiting + running, queue, before * 6.0 / 2)


def test_own_decisions_are_ahead_too() -> None:
    view = view_of(backend("a", slots=1, models=(Model(name="m", seconds_per_job=6.0),)))
    sent(view, "a", "m", T0)
    found = seen(view=view, now=T0 + 0.5)
    assert (found.ahead, found.own, found.used, found.queue, found.wait_seconds) == (1, 1, 1, 0, 6.0)


@pytest.mark.parametrize(
    ("loaded", "measured", "seconds"),
    [
        (None, None, 0),
        ((), None, 12.0),
        (("m",), None, 0),
        (("n",), None, 12.0),
        (("n",), 3.0, 3.0),
        (("n", "m"), 3.0, 0),
    ],
)
def test_what_it_takes_to_load_the_model(
    loaded: tuple[str, ...] | None, measured: float | None, seconds: float
) -> None:
    there = backend("a", models=(Model(name="m", swap_seconds=12.0),))
    load = Load(backend="a", waiting=0, running=0, loaded=loaded, vram_free_mb=700, at=T0)
    found = seen(there, load, stats(swap_seconds=measured))
    assert (found.switch_seconds, found.loaded, found.vram_free_mb) == (seconds, "m" in (loaded or ()), 700)


def test_an_open_breaker_shows_until_its_time() -> None:
    facts_ = (backend("a"), Breaker(backend="a", model="m", open_until=T0 + 30, reason="3 failures"))
    assert (seen(*facts_).open_until, seen(*facts_).open_reason) == (T0 + 30, "3 failures")
    assert (seen(*facts_, now=T0 + 30).open_until, seen(*facts_, now=T0 + 30).open_reason) == (0, "")
    other = Breaker(backend="a", model="other", open_until=T0 + 30)
    assert seen(backend("a"), other).open_until == 0


@given(facts(), WISHES, st.floats(-10, 1e5))
def test_figures_are_never_negative_and_never_absurd(
    given_facts: list[Message], wishes: dict[str, Any], later: float
) -> None:
    rows = survey(needs(**wishes), "acme", view_of(*given_facts), output_share=0.5, now=T0 + later)
    for row in rows:
        f = row.features
        figures = (
            f.price_microdollars,
            f.service_seconds,
            f.first_token_seconds,
            f.wait_seconds,
            f.switch_seconds,
            f.runs,
        )
        assert all(math.isfinite(figure) and figure >= 0 for figure in figures)
        assert 0 <= f.failure_rate <= 1
        assert f.queue <= f.ahead + 1
