from __future__ import annotations

import pytest

from actors.executor.recipes.recipe import Field, Recipe, RecipeError, link_of, target

RECIPE = Recipe(
    name="r", title="R", asset="image", server="comfyui", fields={"prompt": Field(to=("57:6.inputs.text",))},
    graph={"57:6": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}}},
)  # fmt: skip


def test_targets() -> None:
    assert target(RECIPE, "57:6.inputs.text") == ("57:6", "text")
    assert target(RECIPE, "57:6.inputs.format.codec") == ("57:6", "format.codec")


@pytest.mark.parametrize("where", ["text", "57:6.text", ".inputs.text", "57:6.inputs.", "1.inputs.text"])
def test_targets_that_are_none(where: str) -> None:
    with pytest.raises(RecipeError, match=r"must be NODE\.inputs\.NAME|no node '1'; its nodes: 57:6"):
        target(RECIPE, where)


def test_links() -> None:
    assert link_of(["4", 0]) == ("4", 0)
    for value in (["4"], [4, 0], "4", ["4", "0"], {"__value__": ["4", 0]}, None):
        assert link_of(value) is None
