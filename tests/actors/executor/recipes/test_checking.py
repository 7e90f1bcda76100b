from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.executor.recipes.checking import check
from actors.executor.recipes.recipe import Field, FileInput, Loras, Recipe, RecipeError

GRAPH: dict[str, dict[str, Any]] = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
}
GOOD = Recipe(
    name="r", title="R", asset="image", server="comfyui", graph=GRAPH, fields={"prompt": Field(to=("6.inputs.text",))}
)
SETTINGS = Recipe(
    name="r",
    title="R",
    asset="video",
    server="wan2gp",
    settings={"model_type": "t2v"},
    fields={"prompt": Field(to=("prompt",))},
)


def field(name: str, **more: Any) -> dict[str, Any]:
    return {"fields": {name: Field(to=("6.inputs.text",), **more)}}


def test_good_ones_pass() -> None:
    check(GOOD)
    check(SETTINGS)
    check(msgspec.structs.replace(GOOD, **field("steps", default=20, min=1, max=20, step=1)))
    check(msgspec.structs.replace(GOOD, **field("size", default="832x480")))


@pytest.mark.parametrize(
    ("base", "changes", "text"),
    [
        (GOOD, {"name": "Text to image"}, "name: 'Text to image' must be lower-case"),
        (GOOD, {"graph": {}}, "graph: missing; a recipe for comfyui needs it"),
        (GOOD, {"settings": {"a": 1}}, "settings: a recipe for comfyui has graph instead"),
        (GOOD, {"graph": {"4": {"inputs": {}}}}, "graph.4.class_type: missing; export the graph with"),
        (GOOD, {"graph": {"4": {"class_type": "A"}}}, "graph.4.inputs: missing"),
        (
            GOOD, {"graph": {"6": {"class_type": "A", "inputs": {"clip": ["4", 1]}}}},
            "graph.6.inputs.clip: it is linked to node '4', which does not exist",
        ),
        (GOOD, field("promt"), "fields.promt: jobs have no such field; did you mean 'prompt'"),
        (GOOD, field("zzz"), "fields.zzz: jobs have no such field; known: count, "),
        (GOOD, {"fields": {"prompt": Field(to=())}}, "fields.prompt.to: names no input"),
        (GOOD, {"fields": {"prompt": Field(to=("9.inputs.x",))}}, "fields.prompt.to: '9.inputs.x': the graph has no node '9'"),
        (GOOD, field("steps", default="20"), "fields.steps.default: '20' must be a whole number"),
        (GOOD, field("steps", default=2.5), "fields.steps.default: 2.5 must be a whole number"),
        (GOOD, field("steps", default=True), "fields.steps.default: True must be a whole number"),
        (GOOD, field("fps", default="x"), "fields.fps.default: 'x' must be a number"),
        (GOOD, field("prompt", default=5), "fields.prompt.default: 5 must be text"),
        (GOOD, field("size", default="big"), "fields.size.default: 'big' must be WIDTHxHEIGHT"),
        (GOOD, field("steps", min=5, max=1), "fields.steps.min: 5 is more than max, 1"),
        (GOOD, field("steps", default=9, max=5), "fields.steps.default: 9 is outside of min and max"),
        (GOOD, field("steps", step=-1), "fields.steps.step: -1 must be 0"),
        (GOOD, field("prompt", format="x"), "fields.prompt.format: 'x' must hold {}"),
        (GOOD, {"inputs": {"image": FileInput(to=("8.inputs.image",))}}, "inputs.image.to: '8.inputs.image'"),
        (GOOD, {"inputs": {"image": FileInput(to=("6.inputs.text",), nodes=("8",))}}, "inputs.image.nodes: the graph has no"),
        (GOOD, {"choose": {"8.inputs.vae_name": ("*",)}}, "choose: '8.inputs.vae_name'"),
        (SETTINGS, {"settings": {}}, "settings: missing; a recipe for wan2gp needs it"),
        (SETTINGS, {"choose": {"a": ("*",)}}, "choose: only inputs of a graph can be chosen"),
        (SETTINGS, {"fields": {"prompt": Field(to=("a..b",))}}, "fields.prompt.to: 'a..b' must be a key of settings"),
        (SETTINGS, {"loras": Loras()}, "loras.to: missing; name the key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(base: Recipe, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check(msgspec.structs.replace(base, **changes))
    assert text in str(caught.value)
