"""Quality tiers of models that nobody ranks: by family, else by size."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.tiers import billions_in, plain, table, tier_of
from messages import CatalogueEntry, Model, Policy
from tests.actors.router.seeds.fleet import decision, view_of
from tests.messages.samples import backend

# Names as ComfyUI, Wan2GP, Ollama, vLLM and hosted lists have them, worst first: whoever comes later is better.
IMAGES = (
    ("v1-5-pruned-emaonly.safetensors", "sd15/dreamshaper_8.safetensors", "SD1.5\\realisticVisionV60B1_v51VAE.safetensors",
     "dall-e-2", "sd_turbo.safetensors", "sd_xl_turbo_1.0_fp16.safetensors"),
    ("sd_xl_base_1.0.safetensors", "juggernautXL_v9Rundiffusionphoto2.safetensors", "ponyDiffusionV6XL_v6.safetensors",
     "stable-diffusion-3.5-medium"),
    ("flux1-schnell.safetensors", "FLUX.1-schnell", "black-forest-labs/FLUX.1-schnell", "sd3.5_large.safetensors", "dall-e-3"),
    ("flux1-dev-fp8.safetensors", "flux1-dev-Q4_K_S.gguf", "black-forest-labs/flux-1.1-pro", "qwen_image_fp8_e4m3fn.safetensors",
     "imagen-4.0-generate-001", "gpt-image-1"),
    ("flux2-dev.safetensors", "gpt-image-2", "gemini-3-pro-image-preview"),
)  # fmt: skip
VIDEOS = (
    ("svd_xt.safetensors", "animatediff_lightning_4step"),
    ("wan2.1_t2v_1.3B_fp16.safetensors", "ltx-video-2b-v0.9.5.safetensors"),
    ("wan2.2_ti2v_5B_fp16.safetensors", "CogVideoX-5b", "mochi_preview_bf16.safetensors"),
    ("wan2.1_t2v_14B_bf16.safetensors", "Wan2_2-T2V-A14B_HIGH", "hunyuan_video_t2v_720p_bf16.safetensors",
     "veo-2.0-generate-001"),
    ("veo-3.1-generate-001", "sora-2"),
)  # fmt: skip
TEXTS = (
    ("qwen2.5:0.5b", "SmolLM2-1.7B-Instruct"),
    ("llama3.1:8b", "Qwen2.5-Coder-7B-AWQ", "mythomax-l2-13b", "gpt-4o-mini"),
    ("gpt-oss:20b-cloud", "Qwen3-30B-A3B", "mixtral-8x7b", "gemini-2.5-flash"),
    ("llama3.3:70b", "gpt-oss:120b-cloud", "qwen3-coder:480b-cloud", "claude-sonnet-4-5", "gpt-4.1"),
    ("deepseek-v3.1:671b-cloud", "kimi-k2:1t-cloud", "claude-opus-4-1", "gemini-2.5-pro"),
)
LADDERS = [("image", IMAGES), ("video", VIDEOS), ("text", TEXTS)]


@pytest.mark.parametrize(
    ("asset", "name", "tier"),
    [(asset, name, tier) for asset, ladder in LADDERS for tier, names in enumerate(ladder, 1) for name in names],
)
def test_the_tier_of_names_as_servers_have_them(asset: str, name: str, tier: int) -> None:
    assert tier_of(name, (asset,), None) == tier


@pytest.mark.parametrize("name", ["my-own-mix.safetensors", "taiwan.safetensors", "xyz", "", "unknown-model-v3"])
@pytest.mark.parametrize("asset", ["image", "video", "text"])
def test_of_whom_nothing_is_known_the_lowest(asset: str, name: str) -> None:
    assert tier_of(name, (asset,), None) == 1


@pytest.mark.parametrize(("billions", "tier"), [(1.0, 1), (8.0, 2), (20.0, 3), (120.0, 4), (480.0, 4), (671.0, 5)])
def test_size_makes_the_tier_of_a_text_model_as_the_seed_has_it(billions: float, tier: int) -> None:
    assert tier_of("anything", ("text",), billions) == tier
    assert tier_of("claude-haiku", ("text",), billions) == tier  # A known size says more than a name.


@given(st.sampled_from(["text", "image", "video"]), st.floats(0.01, 2_000), st.floats(0.01, 2_000))
def test_a_larger_one_is_never_ranked_lower(asset: str, one: float, other: float) -> None:
    low, high = (tier_of("nobody-knows-it", (asset,), size) for size in sorted((one, other)))
    assert 1 <= low <= high <= 5


@given(st.text(max_size=40))
def test_any_name_has_a_tier(name: str) -> None:
    assert all(1 <= tier_of(name, (asset,), None) <= 5 for asset in ("text", "image", "video"))
    assert re.fullmatch(r"[a-z0-9]*(-[a-z0-9]+)*", plain(name))


@pytest.mark.parametrize(
    ("name", "billions"),
    [("llama3.1:8b", 8.0), ("Qwen3-30B-A3B", 30.0), ("mixtral-8x22b", 176.0), ("kimi-k2:1t", 1_000.0), ("x-4bit", None),
     ("gpt-4o", None), ("Qwen2.5-0.5B-Instruct-Q4_K_M.gguf", 0.5)],
)  # fmt: skip
def test_sizes_in_names(name: str, billions: float | None) -> None:
    assert billions_in(name) == billions


def test_every_entry_has_a_tier_a_source_and_a_pattern_that_compiles() -> None:
    for families in (table().image, table().video, table().text):
        for one in families:
            assert 1 <= one.tier <= 5
            assert set(one.source.split(", ")) <= {"arena", "vbench", "makers"}
            re.compile(one.match)
    assert all(list(sizes) == sorted(sizes) for sizes in table().from_billions.values())


def test_a_final_picture_goes_to_flux_before_stable_diffusion_1_5() -> None:
    names = ("v1-5-pruned-emaonly.safetensors", "flux1-dev.safetensors", "sd_xl_base_1.0.safetensors")
    models = tuple(Model(name=name, capabilities=("image",), seconds_per_job=10.0) for name in names)
    made = decision(view_of([backend("comfy", models=models)]), {"asset": "image", "quality": "final"})
    assert [c.model for c in made.ranking] == ["flux1-dev.safetensors", "sd_xl_base_1.0.safetensors", names[0]]
    assert [c.known.quality_tier for c in made.ranking] == [4, 2, 1]


def test_what_somebody_says_comes_first() -> None:
    model = Model(name="flux1-dev", capabilities=("image",), quality_tier=1)
    (said,) = decision(view_of([backend("a", models=(model,))]), {"asset": "image"}).ranking
    assert said.known.quality_tier == 1
    mine = Policy(policy="mine", models={"flux1-dev": CatalogueEntry(quality_tier=5)})
    (said,) = decision(view_of([backend("a", models=(model,))], mine), {"asset": "image"}).ranking
    assert said.known.quality_tier == 5
