"""What becomes of a request at each backend, and that all of it is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.framing import DEFAULT
from actors.router.verify import check
from actors.router.view import View
from messages import (
    Bound,
    Candidate,
    Change,
    Counted,
    Framing,
    Match,
    Media,
    Message,
    Model,
    Parameters,
    Policy,
    Preset,
    Price,
    Rate,
    Room,
    Rule,
    Stats,
)
from tests.actors.router.fleets import Job, choice, facts, jobs, view_of
from tests.messages.samples import T0, backend, slip


def only(*known: Message, **needs: Any) -> Candidate:
    (found,) = choice(view_of(*known), Job(slip(needs=needs))).everything()
    return found


def model(**changes: Any) -> Message:
    return backend("a", models=(Model(name="m", **changes),))


def test_nothing_changes_where_nothing_must() -> None:
    found = only(model())
    assert (found.parameters, found.changes, found.max_output_tokens, found.worst_case_tokens) == (
        Parameters(),
        (),
        100,
        110,
    )


def test_a_models_own_cap_is_told() -> None:
    found = only(model(max_output_tokens=60))
    assert (found.max_output_tokens, found.worst_case_tokens) == (60, 70)
    assert found.changes == ("output capped at 60 instead of 100 tokens",)
    assert only(model(max_output_tokens=100)).changes == ()


def test_the_worst_case_is_the_price_of_all_that_may_be_written() -> None:
    price = Price(input_per_mtok=3_000_000, output_per_mtok=1_500_001, per_request=5)
    assert only(model(price=price)).worst_case_microdollars == 10 * 3 + 151 + 5
    assert only(model(price=price, max_output_tokens=20)).worst_case_microdollars == 10 * 3 + 31 + 5


@pytest.mark.parametrize(("ratio", "tokens"), [(0.5, 10), (1.0, 10), (1.25, 13)])
def test_a_model_that_counts_more_tokens_has_a_higher_worst_case(ratio: float, tokens: int) -> None:
    measured = Stats(backend="a", model="m", scope="-", attempts=1, successes=1, weight=1.0, input_ratio=ratio, at=T0)
    found = only(model(price=Price(input_per_mtok=1_000_000)), measured)
    assert (found.worst_case_tokens, found.worst_case_microdollars) == (tokens + 100, tokens)


def test_images_and_seconds_are_in_the_worst_case() -> None:
    price = Price(per_image=40, per_second=7, per_request=1)
    media = Media(images=2, seconds=3.0)
    found = only(model(price=price), asset="image", media=media, max_output_tokens=0, input_tokens=0)
    assert found.worst_case_microdollars == 2 * 40 + 3 * 7 + 1
    assert only(model(price=price), media=media).worst_case_microdollars == 1


RATES = tuple(
    Rate(up_to_pixels=1024 * 1024, quality=word, microdollars=each) for word, each in (("low", 6), ("medium", 53), ("high", 211))
)  # fmt: skip


@pytest.mark.parametrize(("quality", "each"), [("draft", 6), ("standard", 53), ("final", 211)])
def test_pictures_are_reserved_and_expected_at_the_rate_of_their_quality(quality: str, each: int) -> None:
    price = Price(image_rates=RATES, per_image=401)
    media = Media(images=2, width=1024, height=1024)
    job = Job(slip(needs={"asset": "image", "quality": quality, "media": media, "max_output_tokens": 0}))
    made = choice(view_of(model(price=price, capabilities=("image",))), job)
    (found,) = made.everything()
    assert (found.worst_case_microdollars, found.features.price_microdollars) == (2 * each, 2 * each)
    assert check(made.decided) == ""
    assert made.ranking
    plain = model(price=Price(image_rates=(Rate(up_to_pixels=2048 * 2048, microdollars=134),), per_image=240))
    found = only(plain, asset="image", quality=quality, media=media, max_output_tokens=0)
    assert found.worst_case_microdollars == 2 * 134


@given(st.sampled_from(["draft", "standard", "final"]), st.sampled_from(["", "high", "xhigh"]))
def test_a_quality_that_the_price_list_does_not_have_is_of_the_dearest_kind(quality: str, listed: str) -> None:
    rates = (Rate(quality=listed, microdollars=7), Rate(quality="max", microdollars=9))
    found = only(
        model(price=Price(image_rates=rates)), asset="image", quality=quality, media=Media(images=1), max_output_tokens=0
    )  # fmt: skip
    assert found.worst_case_microdollars == (7 if (quality, listed) == ("final", "high") else 9)


# ---------------------------------------------------------------------------------------------------- presets

DRAFT = Preset(
    steps=12, width=512, height=512, frames=33, variants={"m": "m-turbo"},
    backends={"a": Change(steps=8, max_output_tokens=40)},
)  # fmt: skip
POLICY = Policy(policy="p", presets={"draft": DRAFT})


def test_a_quality_level_changes_the_parameters_and_says_so() -> None:
    media = Media(images=1, width=1024, steps=30)
    found = only(model(), POLICY, quality="draft", asset="image", media=media)
    assert found.parameters == Parameters(steps=8, width=512, height=512)
    assert found.changes == (
        "draft: 40 output tokens instead of 100",
        "draft: steps 8 instead of 30",
        "draft: width 512 instead of 1024",
        "draft: height 512",
    )


def test_the_size_that_the_quality_level_gives_is_expected_as_it_is_reserved() -> None:
    price = Price(image_rates=(*RATES, Rate(up_to_pixels=512 * 512, quality="low", microdollars=2)), per_image=401)
    found = only(
        model(price=price), POLICY, quality="draft", asset="image", media=Media(images=3), max_output_tokens=0,
        stated=("max_output_tokens",),
    )  # fmt: skip
    assert (found.worst_case_microdollars, found.features.price_microdollars) == (6, 6)


def test_the_next_backend_gets_its_own() -> None:
    media = Media(images=1, steps=30)
    found = only(
        backend("b", models=(Model(name="m"),)), POLICY, quality="draft", asset="image", media=media,
    )  # fmt: skip
    assert (found.parameters.steps, found.max_output_tokens) == (12, 100)


def test_what_the_job_named_itself_is_left_alone() -> None:
    media = Media(images=1, width=1024, steps=30)
    stated = ("steps", "width", "height", "max_output_tokens")
    found = only(model(), POLICY, quality="draft", asset="image", media=media, stated=stated)
    assert (found.parameters, found.changes, found.max_output_tokens) == (Parameters(), (), 100)


def test_a_graph_has_its_own_sizes_and_loads_what_it_names() -> None:
    served = backend("a", models=tuple(Model(name=name, capabilities=("graph",)) for name in ("m", "m-turbo")))
    media = Media(checkpoints=("m", "m-turbo"), node_types=("SaveImage",))
    wants = slip(needs={"quality": "draft", "asset": "image", "media": media, "capabilities": ("graph",)})
    (found,) = choice(view_of(served, POLICY), Job(wants)).ranking
    assert (found.model, found.parameters) == ("m", None)
    assert not [change for change in found.changes if "width" in change or "variant" in change]


def test_where_recipes_are_the_size_of_the_level_is_told_with_their_right() -> None:
    found = only(
        model(capabilities=("image", "recipe:r")), POLICY, quality="draft", asset="image", media=Media(images=1)
    )
    assert "draft: width 512, unless the recipe has its own" in found.changes


def test_frames_are_a_matter_of_video() -> None:
    assert only(model(), POLICY, quality="draft", asset="image").parameters.frames == 0
    assert only(model(), POLICY, quality="draft", asset="video").parameters.frames == 33


def test_a_variant_runs_where_the_backend_serves_both() -> None:
    both = backend("a", models=(Model(name="m"), Model(name="m-turbo")))
    found = {c.model: c for c in choice(view_of(both, POLICY), Job(slip(needs={"quality": "draft"}))).everything()}
    assert found["m"].parameters.model == "m-turbo"
    assert "draft: variant m-turbo instead of m" in found["m"].changes
    assert found["m-turbo"].parameters.model == ""
    assert only(model(), POLICY, quality="draft").parameters.model == ""


def test_variants_of_variants_are_followed_to_their_end() -> None:
    prices = {"m": 9_000_000, "n": 5_000_000, "o": 1_000_000}
    served = tuple(Model(name=name, price=Price(output_per_mtok=each)) for name, each in prices.items())
    policy = Policy(policy="p", presets={"draft": Preset(variants={"m": "n", "n": "o"})})
    made = choice(view_of(backend("a", models=served), policy), Job(slip(needs={"quality": "draft"})))
    found = {c.model: c for c in made.everything()}
    assert [found[name].parameters.model for name in prices] == ["o", "o", ""]
    assert {c.known.price.output_per_mtok for c in found.values()} == {1_000_000}
    assert check(made.decided) == ""


def test_models_that_stand_in_for_each_other_stay_themselves() -> None:
    served = (Model(name="m", price=Price(per_request=9)), Model(name="n", price=Price(per_request=1)))
    policy = Policy(policy="p", presets={"draft": Preset(variants={"m": "n", "n": "m"})})
    made = choice(view_of(backend("a", models=served), policy), Job(slip(needs={"quality": "draft"})))
    assert {c.model: (c.parameters.model, c.known.price.per_request) for c in made.everything()} == {
        "m": ("", 9),
        "n": ("", 1),
    }
    assert check(made.decided) == ""


# ----------------------------------------------------------------------------------------------------- wishes


def test_a_wish_that_is_met_changes_nothing() -> None:
    found = only(model(capabilities=("text", "vision")), preferred=("vision",))
    assert (found.permitted, found.parameters, found.changes) == (True, Parameters(), ())


def test_a_wish_that_is_not_met_is_replaced_by_its_step_and_told() -> None:
    policy = Policy(policy="p", degrade={"vision": "drop_images", "tools": "drop_tools"})
    found = only(model(), policy, preferred=("tools", "vision"))
    assert found.parameters.degrade == ("drop_tools", "drop_images")
    assert found.changes == ("no tools here: tools are left out", "no vision here: images are left out")


def test_a_wish_without_a_step_is_a_must() -> None:
    found = only(model(), preferred=("vision",))
    assert (found.barred, found.reason) == (
        "capability",
        "lacks vision, which is preferred, and no policy says what to do without",
    )


def test_a_rule_may_wish_for_something_too() -> None:
    policy = Policy(
        policy="p", degrade={"json": "plain_text"}, rules=(Rule(name="r", match=Match(), prefers=("json",)),)
    )
    assert only(model(), policy).parameters.degrade == ("plain_text",)
    assert only(model(), policy, capabilities=("json",)).reason == "lacks json"


def test_a_general_model_for_code_is_told() -> None:
    assert only(model(), task="code").changes == ("a general model, not one for code",)
    assert only(model(capabilities=("text", "code")), task="code").changes == ()


@given(facts(), jobs())
def test_every_changed_parameter_is_told(given_facts: list[Message], job: Job) -> None:
    for candidate in choice(view_of(*given_facts), job).everything():
        changed = candidate.parameters
        words = " ".join(candidate.changes)
        assert not changed.model or f"variant {changed.model} instead of {candidate.model}" in words
        for name in ("steps", "width", "height", "frames"):
            value = getattr(changed, name)
            assert not value or f"{name} {value}" in words
        assert words.count("no ") >= len(changed.degrade)
        if candidate.max_output_tokens != job.slip.needs.max_output_tokens:
            assert f"{candidate.max_output_tokens} " in words


TIGHT = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)
"""A micro-dollar for a token."""
BYTES = Bound(tokens=400, messages=1)
READ_AT_MOST = 400 + DEFAULT.template + DEFAULT.message


def test_what_is_held_goes_by_the_bytes_and_what_is_chosen_by_the_estimate() -> None:
    found = only(model(price=TIGHT), bound=BYTES)
    assert (found.worst_case_input_tokens, found.worst_case_tokens) == (READ_AT_MOST, READ_AT_MOST + 100)
    assert found.worst_case_microdollars == READ_AT_MOST + 100
    assert found.features.price_microdollars == 10 + 50


def test_the_context_limit_is_a_bound_too() -> None:
    assert only(model(context_tokens=500), bound=BYTES).worst_case_input_tokens == 500
    endless = Bound(tokens=400, unbounded="a video")
    assert only(model(context_tokens=5_000), bound=endless).worst_case_input_tokens == 5_000


def test_a_model_may_state_its_own_framing() -> None:
    framing = Framing(template=7, message=5, image=100)
    assert only(model(framing=framing), bound=Bound(tokens=400, messages=2, images=3)).worst_case_input_tokens == 717


def test_what_nothing_bounds_is_told_and_refused_where_dollars_are_limited() -> None:
    endless = {"bound": Bound(tokens=400, unbounded="a video")}
    found = only(model(price=TIGHT), **endless)
    assert (found.unbounded, found.permitted) == ("a video", True)
    barred = only(model(price=TIGHT), max_cost_microdollars=10**9, **endless)
    assert barred.barred == "cost"
    assert "nothing bounds a video" in barred.reason
    assert "unbounded_input_tokens" in barred.reason
    assert only(model(), max_cost_microdollars=0, **endless).permitted, "what is free stays free"


def test_what_nothing_bounds_counts_as_the_settings_say() -> None:
    view = View(input_ceiling=9_000)
    view.learn_backend(model(price=TIGHT))  # type: ignore[arg-type]
    (found,) = choice(view, Job(slip(needs={"bound": Bound(unbounded="a video")}))).everything()
    assert (found.unbounded, found.worst_case_input_tokens) == ("", 9_000)


def test_what_makes_pictures_of_a_prompt_counts_no_images() -> None:
    known = model(capabilities=("image",), price=Price(per_image=40))
    found = only(known, asset="image", max_output_tokens=0, bound=Bound(tokens=30, messages=1, images=1))
    assert (found.unbounded, found.worst_case_input_tokens, found.worst_case_microdollars) == ("", 30, 0)


def test_an_answer_that_nobody_gave_a_length_is_made_to_fit_the_context() -> None:
    found = only(model(context_tokens=1_024), input_tokens=7, max_output_tokens=1_024)
    assert (found.permitted, found.max_output_tokens) == (True, 1_024 - 9 - 16)
    assert found.changes == ("output capped at 999 instead of 1024 tokens: the context holds 1,024",)
    stated = only(model(context_tokens=1_024), input_tokens=7, max_output_tokens=1_024, stated=("max_output_tokens",))
    assert (stated.barred, stated.max_output_tokens) == ("context", 1_024)
    tight = only(model(context_tokens=1_024), input_tokens=700, max_output_tokens=1_024)
    assert (tight.barred, tight.max_output_tokens, tight.changes) == ("context", 1_024, ())


def test_an_answer_that_nobody_gave_a_length_is_made_to_fit_the_jobs_limit() -> None:
    limit = {"max_cost_microdollars": READ_AT_MOST + 400, "max_output_tokens": 1_000, "bound": BYTES}
    found = only(model(price=TIGHT), **limit)
    assert (found.permitted, found.max_output_tokens, found.worst_case_microdollars) == (True, 400, READ_AT_MOST + 400)
    assert found.changes == ("output capped at 400 instead of 1000 tokens: the job's cost limit allows no more",)
    stated = only(model(price=TIGHT), stated=("max_output_tokens",), **limit)
    assert (stated.barred, stated.max_output_tokens) == ("cost", 1_000)
    limit["max_cost_microdollars"] = READ_AT_MOST + 249
    least = only(model(price=TIGHT), **limit)
    assert (least.barred, least.max_output_tokens, least.changes) == ("cost", 1_000, ()), "a quarter at least"


def room(left: int, unit: str = "tokens", **changes: Any) -> Room:
    given: dict[str, Any] = {"backend": "a", "model": "m", "budget": "team", **changes}
    return Room(unit=unit, left=left, limit=10**6, **given)


@pytest.mark.parametrize("unit", ["tokens", "microdollars"])
def test_an_answer_that_nobody_gave_a_length_is_made_to_fit_what_a_budget_leaves(unit: str) -> None:
    job = Job(slip(needs={"max_output_tokens": 1_000, "bound": BYTES}))
    view = view_of(model(price=TIGHT))

    def cap(*rooms: Room) -> tuple[int, tuple[str, ...]]:
        (found,) = choice(view, msgspec.structs.replace(job, rooms=rooms)).everything()
        return found.max_output_tokens, found.changes

    told = ("output capped at 300 instead of 1000 tokens: the budget team has no room for more",)
    assert cap(room(READ_AT_MOST + 300, unit)) == (300, told)
    assert cap(room(READ_AT_MOST + 300, unit), room(READ_AT_MOST + 900, unit, budget="x"))[0] == 300
    assert cap(room(READ_AT_MOST + 249, unit)) == (1_000, ()), "no answer is cut where that does not help"
    assert cap(room(READ_AT_MOST + 300, unit, ends_at=T0)) == (1_000, ()), "a new window has its whole limit"
    assert cap(room(READ_AT_MOST + 300, unit, backend="b")) == (1_000, ()), "another's room"


def test_what_was_counted_comes_before_the_bytes() -> None:
    job = Job(slip(needs={"bound": BYTES}), counted=(Counted(backend="a", model="m", tokens=23),))
    (found,) = choice(view_of(model(price=TIGHT)), job).everything()
    assert (found.worst_case_input_tokens, found.worst_case_microdollars) == (23, 123)
    other = msgspec.structs.replace(job, counted=(Counted(backend="a", model="n", tokens=23),))
    (found,) = choice(view_of(model(price=TIGHT)), other).everything()
    assert found.worst_case_input_tokens == READ_AT_MOST, "another model has another tokenizer"
    assert check(choice(view_of(model(price=TIGHT)), job).decided) == ""
