"""Seed 000_7788fc7fca059720.txt: quality against speed, and failover with adjusted parameters."""

from __future__ import annotations

from typing import Any

import pytest

from messages import Model, Price
from messages.policies import Preset
from tests.actors.router.seeds.fleet import decision, shipped, view_of
from tests.messages.samples import backend

FLEET = [
    backend("fast", models=(Model(name="small", quality_tier=2, tokens_per_second=200.0),)),
    backend("good", local=False, models=(Model(name="large", quality_tier=5, tokens_per_second=20.0),)),
    backend(
        "usual", models=(Model(name="middling", quality_tier=3, tokens_per_second=60.0, price=Price(per_request=1)),)
    ),
]


def test_draft_goes_to_the_fastest_and_final_to_the_best() -> None:
    """Seed 000, story 3: "draft": route to the fastest backend; "final": route to the highest quality backend."""
    rules = {rule.match.quality: rule.strategy for rule in shipped("quality").rules}
    assert rules == {("draft",): "latency_first", ("final",): "quality_based"}
    view = view_of(FLEET)
    draft, final = (decision(view, {"quality": quality}) for quality in ("draft", "final"))
    assert (draft.ranking[0].backend, draft.strategy) == ("fast", "latency_first")
    assert (final.ranking[0].backend, final.strategy) == ("good", "quality_based")
    assert draft.policy == "quality@0 draft"


def test_tokens_of_the_levels() -> None:
    """Seed 000, story 3, "reduce parameters": 512, 1024 and 2048 tokens, and smaller pictures for drafts."""
    presets = shipped("quality").presets
    assert {name: preset.max_output_tokens for name, preset in presets.items()} == {
        "draft": 512, "standard": 1_024, "final": 2_048,
    }  # fmt: skip


@pytest.mark.parametrize("field", ["max_output_tokens", "steps", "width", "height", "frames"])
def test_a_lower_level_asks_for_less(field: str) -> None:
    """Seed 000, story 3: drafts reduce parameters."""
    presets = shipped("quality").presets
    draft, standard, final = (getattr(presets[level], field) for level in ("draft", "standard", "final"))  # pyright: ignore[reportArgumentType]
    assert 0 < draft < standard < final


def test_sizes_suit_the_models() -> None:
    """Sides of latent images are multiples of 64, and video models take 4n + 1 frames."""
    for preset in shipped("quality").presets.values():
        assert preset.width is not None
        assert preset.height is not None
        assert preset.frames is not None
        assert preset.width % 64 == preset.height % 64 == 0
        assert preset.frames % 4 == 1


def test_drafts_use_optimized_models_where_they_are_served() -> None:
    """Seed 000, story 3, "use optimized models": the variant runs where the backend has it, and the change is told."""
    flux = (Model(name="flux1-dev.safetensors", capabilities=("image",)),)
    schnell = (*flux, Model(name="flux1-schnell.safetensors", capabilities=("image",)))
    wanted: dict[str, Any] = {"asset": "image", "capabilities": ("image",), "preferred_model": "flux1-dev.safetensors"}
    view = view_of([backend("both", models=schnell), backend("one", models=flux)])
    draft = {c.backend: c for c in decision(view, {**wanted, "quality": "draft"}).ranking if "dev" in c.model}
    assert draft["both"].parameters.model == "flux1-schnell.safetensors"
    assert draft["one"].parameters.model == ""
    assert draft["one"].parameters.steps == 12
    assert any("flux1-schnell" in change for change in draft["both"].changes)
    standard = decision(view, {**wanted, "quality": "standard"}).ranking
    assert all(c.parameters.model == "" for c in standard)


def test_what_the_job_states_is_left_alone() -> None:
    view = view_of([backend("a", models=(Model(name="sdxl", capabilities=("image",)),))])
    wanted: dict[str, Any] = {"asset": "image", "quality": "draft", "stated": ("steps", "width")}
    parameters = decision(view, wanted).ranking[0].parameters
    assert (parameters.steps, parameters.width, parameters.height) == (0, 0, 512)


def test_final_has_no_variants() -> None:
    assert shipped("quality").presets["final"] == Preset(
        max_output_tokens=2_048, steps=40, width=1_024, height=1_024, frames=81
    )
