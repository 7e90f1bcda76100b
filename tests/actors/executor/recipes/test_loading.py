from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.executor.recipes.loading import collected, read, read_file, recipes, shipped
from actors.executor.recipes.recipe import FIELDS, Field, FileInput, RecipeError

RECIPE = """
name = "caption"
title = "Says what it is told"
asset = "image"
server = "comfyui"

[choose]
"1.inputs.source" = "*"

[inputs]
image = "1.inputs.source"

[fields]
prompt = "1.inputs.source"
steps = { to = ["1.inputs.source"], default = 4 }

[graph.1]
class_type = "PreviewAny"
inputs = { source = "" }
"""
GRAPH = {"1": {"class_type": "PreviewAny", "inputs": {"source": ""}}}


def test_the_shipped_ones_are_whole() -> None:
    names = {recipe.name for recipe in recipes("comfyui")}
    assert names == {
        "text-to-image", "flux-text-to-image", "image-to-image", "inpaint", "upscale", "controlnet", "text-to-video",
        "image-to-video", "wan21-text-to-video", "sd15-text-to-image",
    }  # fmt: skip
    assert recipes("wan2gp")
    assert all(recipe.source == f"shipped/{recipe.source.removeprefix('shipped/')}" for recipe in shipped())
    orders = [recipe.order for recipe in recipes("comfyui")]
    assert orders == sorted(orders)


def test_short_forms() -> None:
    recipe = read(RECIPE, "x.toml")
    assert recipe.fields["prompt"] == Field(to=("1.inputs.source",))
    assert recipe.fields["steps"].default == 4
    assert recipe.inputs["image"] == FileInput(to=("1.inputs.source",))
    assert recipe.choose == {"1.inputs.source": ("*",)}
    assert recipe.source == "x.toml"


def test_json_is_as_good() -> None:
    table = {"name": "caption", "title": "x", "asset": "image", "server": "comfyui", "fields": {}, "graph": GRAPH}
    assert read(json.dumps(table), "x.json").graph == GRAPH


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[fields]", "[fields", "x.toml: it is no TOML: "),
        ('name = "caption"', "name = 5", "x.toml: name: Expected `str`, got `int`"),
        ('name = "caption"', "", "x.toml: recipe: Object missing required field `name`"),
        ('asset = "image"', 'asset = "picture"', "x.toml: asset: Invalid enum value 'picture'"),
        ('title = "', 'titel = "', "x.toml: titel: no such key; did you mean 'title'?"),
        ("default = 4", "defualt = 4", "x.toml: fields.steps.defualt: no such key; did you mean 'default'?"),
        ("default = 4", "qqqqqq = 4", "x.toml: fields.steps.qqqqqq: no such key; known: to, required, "),
        ('to = ["1.inputs.source"], ', "", "x.toml: fields.steps: Object missing required field `to`"),
        ("default = 4", "min = 'a'", "x.toml: fields.steps.min: Expected `float | null`, got `str`"),
        ('prompt = "1.inputs.source"', "prompt = 5", "x.toml: fields.prompt: it must be a table, not 5"),
        (
            "[choose]",
            "[loras]\nstrenght = 1\n[choose]",
            "x.toml: loras.strenght: no such key; did you mean 'strength'?",
        ),
        ('class_type = "PreviewAny"', "", "x.toml: graph.1.class_type: missing"),
        ("prompt = ", "promt = ", "x.toml: fields.promt: jobs have no such field; did you mean 'prompt'?"),
    ],
)
def test_what_is_wrong_is_told(old: str, new: str, text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(RECIPE.replace(old, new), "x.toml")
    assert text in str(caught.value)


def test_a_graph_may_stand_beside_it(tmp_path: Path) -> None:
    head = RECIPE.partition("[graph.1]")[0]
    text = head.replace('server = "comfyui"', 'server = "comfyui"\ngraph = "caption.json"')
    (tmp_path / "caption.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"graph: 'caption\.json' can't be read"):
        read_file(tmp_path / "caption.toml")
    (tmp_path / "caption.json").write_text('{"nodes": []}', encoding="utf-8")
    with pytest.raises(RecipeError, match="no graph in API form; export it"):
        read_file(tmp_path / "caption.toml")
    (tmp_path / "caption.json").write_text(json.dumps(GRAPH), encoding="utf-8")
    found = read_file(tmp_path / "caption.toml")
    assert found is not None
    assert found.graph == GRAPH
    assert read_file(tmp_path / "caption.json") is None
    assert len(collected("comfyui", [tmp_path]).recipes) == len(recipes("comfyui")) + 1
    with pytest.raises(RecipeError, match="must be the name of a JSON file beside"):
        read(text.replace("caption.json", "../caption.json"), "x.toml", beside=tmp_path)
    with pytest.raises(RecipeError, match="must be the name of a JSON file beside"):
        read(text, "x.toml")


def test_the_guides_example_is_a_recipe(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[4] / "docs" / "guides" / "recipes.md").read_text(encoding="utf-8")
    example = guide.partition("```text\n")[2].partition("```")[0]
    nodes = {key: {"class_type": "A", "inputs": {}} for key in ("3", "4", "5", "6", "7", "10", "13", "39")}
    (tmp_path / "poster.json").write_text(json.dumps(nodes), encoding="utf-8")
    recipe = read(example, "poster.toml", beside=tmp_path)
    assert (recipe.name, recipe.fields["width"].default) == ("poster", 832)
    for ours in recipes("comfyui"):
        assert f"`{ours.name}`" in guide
    for name in FIELDS:
        assert f"`{name}`" in guide


def test_users_replace_ours(tmp_path: Path) -> None:
    mine = RECIPE.replace('"caption"', '"upscale"')
    (tmp_path / "b.toml").write_text(mine, encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no recipe", encoding="utf-8")
    found = {recipe.name: recipe for recipe in collected("comfyui", [tmp_path]).recipes}
    assert found["upscale"].title == "Says what it is told"
    assert len(found) == len(recipes("comfyui"))
    (tmp_path / "c.toml").write_text(mine, encoding="utf-8")
    with pytest.raises(RecipeError, match="there is no folder"):
        collected("comfyui", [tmp_path / "none"])


def test_a_wrong_recipe_takes_no_other_with_it(tmp_path: Path) -> None:
    texts = {"a": "name = 5", "b": RECIPE, "c": RECIPE, "d": RECIPE.replace('"caption"', '"other"'), "e": "[fields"}
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    found = collected("comfyui", [tmp_path])
    assert {one.name for one in found.recipes} - {one.name for one in recipes("comfyui")} == {"caption", "other"}
    assert next(one for one in found.recipes if one.name == "caption").source.endswith("b.toml")
    said = ("a.toml: name: Expected `str`", "c.toml: name: 'caption' is the name of", "e.toml: it is no TOML")
    assert len(found.faults) == len(said)
    assert all(text in fault for text, fault in zip(said, found.faults, strict=True))


def test_a_title_may_be_left_out() -> None:
    assert read(RECIPE.replace('title = "Says what it is told"', ""), "x.toml").title == ""


def test_files_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(RecipeError, match="it can't be read"):
        read_file(tmp_path / "x.toml")
    monkeypatch.setattr("actors.executor.recipes.loading.FILE_BYTES", 0)
    with pytest.raises(RecipeError, match="larger than"):
        read_file(tmp_path / "x.toml")
