from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.recipes.loading import recipes
from actors.executor.recipes.loras import Sources, sources_of, with_loras
from actors.executor.recipes.nodes import classes_of
from actors.executor.recipes.recipe import Recipe, link_of
from tests.fakes.comfyui_nodes import faults_of, object_info

INFO = object_info()
CLASSES = classes_of(INFO)
RECIPES = {recipe.name: recipe for recipe in recipes("comfyui")}
NAMES = ["ink.safetensors", "styles/film.safetensors"]


def chain_before(graph: dict[str, Any], key: str, name: str) -> list[str]:
    """LoRAs between an input and its source, the first applied first."""
    found: list[str] = []
    while (link := link_of(graph[key]["inputs"][name])) is not None:
        key = link[0]
        if "lora_name" not in graph[key]["inputs"]:
            break
        found.append(graph[key]["inputs"]["lora_name"])
        name = "model" if link[1] == 0 else "clip"
    return found[::-1]


def test_a_checkpoint_and_its_encoder_go_together() -> None:
    graph = RECIPES["text-to-image"].graph
    before = copy.deepcopy(graph)
    sources = sources_of(graph, CLASSES)
    assert sources == Sources((("4", 0),), (("4", 1),))
    found = with_loras(graph, sources, NAMES, strength=0.7, clip=True)
    assert chain_before(found, "3", "model") == NAMES
    assert chain_before(found, "6", "clip") == chain_before(found, "7", "clip") == NAMES
    assert found["8"]["inputs"]["vae"] == ["4", 2]
    added = found.keys() - graph.keys()
    assert {found[key]["inputs"]["strength_clip"] for key in added} == {0.7}
    assert graph == before


def test_models_alone() -> None:
    graph = RECIPES["text-to-video"].graph
    found = with_loras(graph, sources_of(graph, CLASSES), NAMES, strength=1.0, clip=False)
    assert chain_before(found, "48", "model") == NAMES
    assert found["3"]["inputs"]["model"] == ["48", 0]
    assert found["6"]["inputs"]["clip"] == ["38", 0]
    assert {found[key]["class_type"] for key in found.keys() - graph.keys()} == {"LoraLoaderModelOnly"}


def test_each_of_two_models_has_its_own_chain_behind_what_is_there() -> None:
    graph: dict[str, dict[str, Any]] = {
        "high": {"class_type": "UNETLoader", "inputs": {"unet_name": "h", "weight_dtype": "default"}},
        "low": {"class_type": "UNETLoader", "inputs": {"unet_name": "l", "weight_dtype": "default"}},
        "old": {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["high", 0], "lora_name": "old", "strength_model": 1},
        },
        "1": {"class_type": "KSampler", "inputs": {"model": ["old", 0]}},
        "2": {"class_type": "KSampler", "inputs": {"model": ["low", 0]}},
        "3": {"class_type": "Unknown", "inputs": {"x": ["low", 0]}},
    }
    found = with_loras(graph, sources_of(graph, CLASSES), ["new"], strength=1.0, clip=True)
    assert chain_before(found, "1", "model") == ["new", "old"]
    assert chain_before(found, "2", "model") == chain_before(found, "3", "x") == ["new"]


@pytest.mark.parametrize(
    "recipe", [recipe for recipe in RECIPES.values() if recipe.loras], ids=lambda recipe: recipe.name
)
@given(names=st.lists(st.sampled_from(NAMES), max_size=4))
def test_the_graph_stays_one_that_the_server_takes(recipe: Recipe, names: list[str]) -> None:
    assert recipe.loras is not None
    graph = copy.deepcopy(recipe.graph)
    found = with_loras(graph, sources_of(graph, CLASSES), names, strength=1.0, clip=recipe.loras.clip)
    assert len(found) == len(graph) + len(names)
    files = {"image.png", "mask.png"}
    faults: dict[str, list[dict[str, Any]]] = {}
    for key in found:
        faults_of(found, key, INFO, files, faults)
    listed = {fault["extra_info"]["input_name"] for several in faults.values() for fault in several}
    assert listed <= {"ckpt_name", "control_net_name"}  # Found at discovery.
    assert chain_before(found, "48" if "48" in found else "3", "model") == names
