from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from actors.executor.recipes.fitting import Fitted, chosen, fit, matches
from actors.executor.recipes.loading import recipes, shipped
from actors.executor.recipes.nodes import classes_of
from actors.executor.recipes.recipe import Field, Recipe
from tests.fakes.comfyui_nodes import object_info

INFO = object_info()
RECIPES = {recipe.name: recipe for recipe in shipped() if recipe.server == "comfyui"}


def fitted(recipe: Recipe, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Fitted:
    info = copy.deepcopy(INFO)
    change(info)
    return fit(recipe, classes_of(info))


@pytest.mark.parametrize("recipe", recipes("comfyui"), ids=lambda recipe: recipe.name)
def test_the_shipped_ones_run_on_a_server_that_has_all(recipe: Recipe) -> None:
    found = fitted(recipe)
    assert found.problems == ()
    assert bool(found.models) == found.names_model


def test_models_by_their_names() -> None:
    assert fitted(RECIPES["text-to-image"]).models == ("sd_xl_base_1.0.safetensors", "SD1.5/dreamshaper_8.safetensors")
    assert fitted(RECIPES["flux-text-to-image"]).models == ("flux1-dev.safetensors",)
    assert fitted(RECIPES["text-to-video"]).models == ("wan2.2_ti2v_5B_fp16.safetensors",)
    assert fitted(RECIPES["upscale"]).models == ()
    assert fitted(RECIPES["upscale"]).loras == ()
    assert fitted(RECIPES["text-to-image"]).loras == ("ink.safetensors", "styles/film.safetensors")


def test_files_are_chosen_by_their_names() -> None:
    def elsewhere(info: dict[str, Any]) -> None:
        info["VAELoader"]["input"]["required"]["vae_name"] = [
            "COMBO",
            {"options": ["x.pt", "Wan\\Wan2.2_VAE_bf16.safetensors"]},
        ]

    found = fitted(RECIPES["text-to-video"], elsewhere)
    assert found.problems == ()
    assert found.recipe.graph["39"]["inputs"]["vae_name"] == "Wan\\Wan2.2_VAE_bf16.safetensors"
    assert RECIPES["text-to-video"].graph["39"]["inputs"]["vae_name"] == "wan2.2_vae.safetensors"
    assert chosen(["b1", "a1", "a2"], ["A*", "*"]) == "a1"
    assert chosen([5, "b1"], ["a*", "*"]) == "b1"
    assert chosen(["b"], ["a"]) is None
    assert matches("SDXL/base.safetensors", ["base*"])
    assert matches("SDXL/base.safetensors", ["sdxl/*"])
    assert not matches("SDXL/base.safetensors", ["sdxl"])


def drop(*path: str) -> Callable[[dict[str, Any]], object]:
    def change(info: dict[str, Any]) -> None:
        *before, last = path
        for key in before:
            info = info[key]
        del info[last]

    return change


def put(value: Any, *path: str) -> Callable[[dict[str, Any]], object]:
    def change(info: dict[str, Any]) -> None:
        *before, last = path
        for key in before:
            info = info[key]
        info[last] = value

    return change


def required(node: str, name: str) -> tuple[str, ...]:
    return (node, "input", "required", name)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("controlnet", drop("ControlNetLoader"), "node 17: this server has no node class ControlNetLoader; a newer ComfyUI"),
        ("text-to-video", drop("SaveVideo"), "node 58: this server has no node class SaveVideo"),
        ("flux-text-to-image", drop("EmptySD3LatentImage"), "EmptySD3LatentImage; it has EmptyLatentImage"),
        (
            "text-to-image", put(["STRING"], *required("SaveImage", "metadata")),
            "node 9 (SaveImage): the input 'metadata' is missing, which this server requires",
        ),
        (
            "text-to-image", put([["euler"]], *required("KSampler", "sampler_name")),
            "node 3 (KSampler): sampler_name: 'dpmpp_2m' is not on this server, which has 'euler'",
        ),
        (
            "text-to-image", put(["FLOAT", {"max": 2.0}], *required("KSampler", "cfg")),
            "node 3 (KSampler): cfg: 7.0 is more than 2",
        ),
        (
            "text-to-image", put(["VIDEO"], *required("SaveImage", "images")),
            "node 9 (SaveImage): images: it takes VIDEO, but is linked to IMAGE of node 8 (VAEDecode)",
        ),
        (
            "text-to-image", put(["MODEL"], "CheckpointLoaderSimple", "output"),
            "node 6 (CLIPTextEncode): clip: node 4 (CheckpointLoaderSimple) has no output 1, only 1",
        ),
        (
            "text-to-image", drop(*required("CLIPTextEncode", "text")),
            "node 6 (CLIPTextEncode): it has no input 'text', where prompt goes",
        ),
        (
            "text-to-image", put([["flux1.safetensors"]], *required("CheckpointLoaderSimple", "ckpt_name")),
            "no model like *, but not like *flux*, ",
        ),
        (
            "flux-text-to-image", put([["sd.safetensors"]], *required("VAELoader", "vae_name")),
            "node 10 (VAELoader): vae_name: no file like ae.*, *flux*ae*, *flux*vae* on this server, which has sd.safetensors",
        ),
        (
            "text-to-image", put(["INT", {"min": 1, "max": 10}], *required("KSampler", "steps")),
            "fields.steps.default: 25 is more than this server's 10",
        ),
        (
            "text-to-image", put(["INT", {"min": 50}], *required("KSampler", "steps")),
            "fields.steps.default: 25 is less than this server's 50",
        ),
    ],
)  # fmt: skip
def test_why_it_can_not_run(name: str, change: Callable[[dict[str, Any]], object], text: str) -> None:
    problems = fitted(RECIPES[name], change).problems
    assert any(text in problem for problem in problems), problems
    assert len(set(problems)) == len(problems)


def test_the_servers_limits_hold_as_well() -> None:
    recipe = fitted(
        RECIPES["text-to-image"], put(["INT", {"min": 1, "max": 30}], *required("KSampler", "steps"))
    ).recipe
    assert (recipe.fields["steps"].min, recipe.fields["steps"].max) == (1, 30)
    assert recipe.fields["width"].max == 4096


def test_an_unknown_input_and_an_unlisted_choice_are_left_alone() -> None:
    graph = copy.deepcopy(RECIPES["upscale"].graph)
    graph["9"]["inputs"]["format.codec"] = "auto"
    recipe = msgspec.structs.replace(
        RECIPES["upscale"], graph=graph, fields={"prompt": Field(to=("9.inputs.filename_prefix",))}
    )
    found = fitted(recipe, put(["COMBO"], *required("UpscaleModelLoader", "model_name")))
    assert found.problems == ()
    assert found.recipe.graph["2"]["inputs"]["model_name"] == "4x-UltraSharp.pth"
