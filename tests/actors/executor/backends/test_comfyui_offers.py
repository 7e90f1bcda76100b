from __future__ import annotations

import pytest

from actors.executor.backends.comfyui_offers import choice, device_of, mb, offer_of, with_files
from actors.executor.backends.port import BackendError, Call, Input
from actors.executor.recipes.fitting import Fitted, fit
from actors.executor.recipes.loading import recipes
from actors.executor.recipes.nodes import classes_of
from messages.values import Asset
from tests.fakes.comfyui_nodes import object_info

MODEL, WAN = "sd_xl_base_1.0.safetensors", "wan2.2_ti2v_5B_fp16.safetensors"
FITTED = tuple(fit(recipe, classes_of(object_info())) for recipe in recipes("comfyui"))


def call(model: str, asset: Asset, *inputs: str, recipe: str = "") -> Call:
    files = tuple(Input(name=name, media_type="image/png", data=b"") for name in inputs)
    return Call(model=model, asset=asset, messages=(), max_output_tokens=1, inputs=files, recipe=recipe)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (call(MODEL, "image"), "text-to-image"),
        (call(MODEL, "image", "image"), "image-to-image"),
        (call(MODEL, "image", "image", "mask"), "inpaint"),
        (call(MODEL, "image", "control_image"), "controlnet"),
        (call(MODEL, "image", "image", recipe="upscale"), "upscale"),
        (call("flux1-dev.safetensors", "image"), "flux-text-to-image"),
        (call(WAN, "video"), "text-to-video"),
        (call(WAN, "video", "image"), "image-to-video"),
        (call("wan2.1_t2v_1.3B_fp16.safetensors", "video"), "wan21-text-to-video"),
    ],
)
def test_the_recipe_for_a_call(wanted: Call, name: str) -> None:
    assert choice(FITTED, wanted).recipe.name == name


@pytest.mark.parametrize(
    "wanted", [call(WAN, "image"), call(MODEL, "video"), call("wan2.1_t2v_1.3B_fp16.safetensors", "video", "image")]
)
def test_there_may_be_none(wanted: Call) -> None:
    with pytest.raises(BackendError) as caught:
        choice(FITTED, wanted)
    assert caught.value.retry == "elsewhere"


def test_a_recipe_that_can_not_run_says_why() -> None:
    broken = (Fitted(recipe=FITTED[0].recipe, problems=("node 1: no such class",)),)
    with pytest.raises(BackendError, match="can't run here: node 1: no such class"):
        choice(broken, call(MODEL, "image", recipe=FITTED[0].recipe.name))


def test_offers_know_what_is_loaded() -> None:
    assert offer_of(MODEL, FITTED, None).loaded is None
    assert offer_of(MODEL, FITTED, (MODEL,)).loaded is True
    assert offer_of(MODEL, FITTED, ()).loaded is False


def test_only_loaders_get_files() -> None:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "mask", "other": ["2", 0]}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "mask"}},
        "_note": "kept",
    }
    found = with_files(graph, {"mask": "turnout/1.png"})
    assert found == {**graph, "1": {"class_type": "LoadImage", "inputs": {"image": "turnout/1.png", "other": ["2", 0]}}}
    assert with_files(graph, {}) == graph


def test_figures_of_the_gpu() -> None:
    gpu = {"type": "cuda", "vram_total": 8 << 30}
    assert device_of({"devices": [{"type": "cpu", "vram_total": 1}, gpu]}) == gpu
    assert device_of({"devices": None}) == {}
    assert (mb(8 << 30), mb(None), mb(True)) == (8192, None, None)
