from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.port import BackendError, Call, Input
from actors.executor.recipes.choosing import capabilities_of, chosen, filled, known, seed_for
from actors.executor.recipes.fitting import Fitted
from actors.executor.recipes.loading import recipes

IMAGE = Input(name="image", media_type="image/png", data=b"x")


def call(**fields: Any) -> Call:
    usual: dict[str, Any] = {"model": "m", "asset": "image", "messages": ({"role": "user", "content": "a pond"},)}
    usual["max_output_tokens"] = 1
    return Call(**{**usual, **fields})


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "flux-text-to-image"),
        ({"inputs": (IMAGE,)}, "image-to-image"),
        ({"recipe": "upscale", "inputs": (IMAGE,)}, "upscale"),
    ],
)
def test_a_call_gets_the_recipe_that_it_names_or_the_one_for_what_it_brings(fields: dict[str, Any], name: str) -> None:
    assert chosen(recipes("comfyui"), call(**fields), "here").name == name


@pytest.mark.parametrize("fields", [{"recipe": "no-such"}, {"asset": "audio"}])
def test_a_call_that_nothing_is_for_goes_elsewhere(fields: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match=r"^here: there is no recipe .* for 'm'") as caught:
        chosen(recipes("comfyui"), call(**fields), "here")
    assert caught.value.kind == "unknown_model"


def test_what_is_missing_is_wrong_everywhere_and_what_is_not_there_only_here() -> None:
    recipe = chosen(recipes("wan2gp"), call(), "here")
    for wrong, kind in (
        (call(messages=()), "bad_request"), (call(inputs=(IMAGE,)), "unknown_model"),
        (call(inputs=(IMAGE,), recipe=recipe.name), "bad_request"),
    ):  # fmt: skip
        with pytest.raises(BackendError) as caught:
            filled(Fitted(recipe=recipe), wrong, seed=1, files={})
        assert caught.value.kind == kind
    assert filled(Fitted(recipe=recipe), call(), seed=1, files={})["prompt"] == "a pond"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^options\.recipes: .*no folder"):
        known("comfyui", [str(tmp_path / "no")])


@given(st.text())
def test_a_seed_follows_from_the_attempt(key: str) -> None:
    seed = seed_for(call(key=key))
    assert 0 <= seed < 2**31
    assert seed_for(call(key=key, model="other")) == seed
    assert seed_for(call(key=key, seed=0)) == 0


def test_what_a_recipe_lets_a_server_do() -> None:
    recipe = chosen(recipes("wan2gp"), call(), "here")
    assert capabilities_of(recipe) == ("image", "recipe:text-to-image", "lora")
