from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.port import Call, Input
from actors.executor.recipes.filling import Missing, Unfit, fill, suits
from actors.executor.recipes.fitting import Fitted, fit
from actors.executor.recipes.loading import read, recipes
from actors.executor.recipes.nodes import classes_of
from actors.executor.recipes.recipe import Field, FileInput, Loras, Recipe
from messages.values import Media
from tests.fakes.comfyui_nodes import object_info

CLASSES = classes_of(object_info())
FITTED = {recipe.name: fit(recipe, CLASSES) for recipe in recipes("comfyui")}
CALL = Call(
    model="m",
    asset="image",
    messages=({"role": "user", "content": "a lighthouse"},),
    max_output_tokens=1,
    negative_prompt="fog",
)
IMAGE = Input(name="image", media_type="image/png", data=b"")
WAN2GP = Recipe(
    name="t2v",
    title="x",
    asset="video",
    server="wan2gp",
    settings={"model_type": "t2v_1.3B", "_api": {"return_media": True}},
    fields={
        "prompt": Field(to=("prompt",), required=True),
        "size": Field(to=("resolution",), default="832x480", min=16, max=1280, step=16),
        "seconds": Field(to=("video_length",), format="{}s"),
        "seed": Field(to=("seed",)),
        "steps": Field(to=("a.b.steps",), default=30),
    },
    inputs={"image": FileInput(to=("image_start",), required=False)},
    loras=Loras(to="activated_loras", strengths_to="loras_multipliers", strength=0.8),
)


def but(**changes: Any) -> Call:
    return msgspec.structs.replace(CALL, **changes)


def test_what_the_job_says_and_what_it_does_not() -> None:
    fitted = FITTED["text-to-image"]
    before = copy.deepcopy(fitted.recipe.graph)
    filled = fill(fitted, but(media=Media(width=640, steps=9)), seed=5)
    graph = filled.body
    assert graph["6"]["inputs"]["text"] == "a lighthouse"
    assert graph["7"]["inputs"]["text"] == "fog"
    assert graph["5"]["inputs"] == {"width": 640, "height": 1024, "batch_size": 1}
    assert (graph["3"]["inputs"]["seed"], graph["3"]["inputs"]["steps"]) == (5, 9)
    assert filled.values == {
        "model": "m", "prompt": "a lighthouse", "negative_prompt": "fog", "width": 640, "height": 1024, "count": 1, "steps": 9,
        "seed": 5,
    }  # fmt: skip
    assert fitted.recipe.graph == before


SIZES = ("width", "height")


def test_a_recipes_default_comes_before_what_nobody_said_and_that_before_nothing() -> None:
    preset = but(media=Media(width=768, height=768, steps=12), unsaid=("images", "width", "height", "steps"))
    fitted = FITTED["text-to-image"]
    assert [fill(fitted, preset, seed=0).values[name] for name in SIZES] == [1024, 1024]
    fields = {name: msgspec.structs.replace(fitted.recipe.fields[name], default=None) for name in (*SIZES, "steps")}
    open_ = msgspec.structs.replace(
        fitted, recipe=msgspec.structs.replace(fitted.recipe, fields={**fitted.recipe.fields, **fields})
    )
    filled = fill(open_, preset, seed=0).values
    assert (filled["width"], filled["height"], filled["steps"]) == (768, 768, 12)
    own = msgspec.structs.replace(preset, unsaid=("height", "steps"))
    assert [fill(fitted, own, seed=0).values[name] for name in SIZES] == [768, 1024]


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(0, 4000))
def test_only_the_jobs_own_words_are_enforced(width: int, least: int, more: int) -> None:
    fitted = FITTED["text-to-image"]
    field = Field(to=("5.inputs.width",), min=8 * least, max=8 * least + more)
    fields = {**fitted.recipe.fields, "width": field}
    bounded = msgspec.structs.replace(fitted, recipe=msgspec.structs.replace(fitted.recipe, fields=fields))
    said = but(media=Media(width=width))
    found = fill(bounded, msgspec.structs.replace(said, unsaid=("width",)), seed=0).values["width"]
    assert 8 * least <= float(found) <= 8 * least + more
    if 8 * least <= width <= 8 * least + more:
        assert found == width == fill(bounded, said, seed=0).values["width"]
    else:
        with pytest.raises(Unfit, match=f"width: {width} is"):
            fill(bounded, said, seed=0)


@pytest.mark.parametrize(
    ("media", "unsaid", "resolution"),
    [
        (Media(width=640, height=352), ("width", "height"), "832x480"),
        (Media(width=640, height=352), ("height",), "640x480"),
        (Media(width=640, height=352), (), "640x352"),
    ],
)
def test_one_side_that_is_said_keeps_the_recipes_other_one(
    media: Media, unsaid: tuple[str, ...], resolution: str
) -> None:
    filled = fill(Fitted(recipe=WAN2GP), but(asset="video", media=media, unsaid=unsaid), seed=0)
    assert filled.body["resolution"] == resolution


def test_a_length_that_was_only_reckoned_is_no_wish() -> None:
    video, unsaid = FITTED["text-to-video"], ("frames", "fps", "seconds")
    assert fill(video, but(asset="video", media=Media(seconds=5.0), unsaid=unsaid), seed=0).values["frames"] == 121
    settings = Fitted(recipe=WAN2GP)
    assert "seconds" not in fill(settings, but(asset="video", media=Media(seconds=5.0), unsaid=unsaid), seed=0).values
    preset = but(asset="video", media=Media(frames=48, seconds=3.0), unsaid=unsaid)
    assert fill(settings, preset, seed=0).values["seconds"] == 3.0
    said = but(asset="video", media=Media(frames=40, seconds=2.0), unsaid=("frames", "fps"))
    assert fill(video, said, seed=0).values["frames"] == 49  # At the recipe's rate.


@given(st.integers(64, 4096))
def test_sizes_come_in_steps_within_the_limits(width: int) -> None:
    found = fill(FITTED["text-to-image"], but(media=Media(width=width)), seed=0).values["width"]
    assert isinstance(found, int)
    assert found % 8 == 0
    assert abs(found - width) <= 4
    assert 64 <= found <= 4096


@given(st.integers(1, 257))
def test_frames_are_4_n_and_1(frames: int) -> None:
    call = but(asset="video", media=Media(frames=frames))
    found = fill(FITTED["text-to-video"], call, seed=0).values["frames"]
    assert isinstance(found, int)
    assert found % 4 == 1
    assert 1 <= found <= 257


def test_length_and_rate_follow_from_each_other() -> None:
    video = FITTED["text-to-video"]
    assert fill(video, but(asset="video", media=Media(seconds=3.0)), seed=0).values["frames"] == 73  # At 24 a second.
    assert fill(video, but(asset="video", media=Media(seconds=3.0, fps=8.0)), seed=0).values["frames"] == 25
    assert fill(video, but(asset="video"), seed=0).values["frames"] == 121
    settings = Fitted(recipe=WAN2GP)
    filled = fill(settings, but(asset="video", media=Media(frames=48, fps=16.0)), seed=0)
    assert filled.body["video_length"] == "3s"
    assert "seconds" not in fill(settings, but(asset="video", media=Media(frames=48)), seed=0).values


def test_settings_have_tables_in_tables() -> None:
    call = but(asset="video", media=Media(width=650, height=480, loras=("ink", "film")), inputs=(IMAGE,))
    filled = fill(
        Fitted(recipe=WAN2GP, loras=("ink.safetensors", "film.pt")), call, seed=7, files={"image": "gallery-1"}
    )
    assert filled.body == {
        "model_type": "t2v_1.3B",
        "_api": {"return_media": True},
        "prompt": "a lighthouse",
        "resolution": "656x480",
        "seed": 7,
        "a": {"b": {"steps": 30}},
        "image_start": "gallery-1",
        "activated_loras": ["ink.safetensors", "film.pt"],
        "loras_multipliers": "0.8 0.8",
    }
    assert "image_start" not in fill(Fitted(recipe=WAN2GP), but(asset="video"), seed=7).body
    assert WAN2GP.settings == {"model_type": "t2v_1.3B", "_api": {"return_media": True}}


def test_files_go_to_their_nodes() -> None:
    filled = fill(FITTED["image-to-image"], but(inputs=(IMAGE,)), seed=0, files={"image": "turnout/1.png"})
    assert filled.body["10"]["inputs"]["image"] == "turnout/1.png"


def test_an_optional_file_takes_its_nodes_along() -> None:
    recipe = FITTED["image-to-video"].recipe
    place = msgspec.structs.replace(recipe.inputs["image"], required=False)
    optional = msgspec.structs.replace(recipe, inputs={"image": place})
    graph = fill(Fitted(recipe=optional), but(asset="video"), seed=0).body
    assert "56" not in graph
    assert "start_image" not in graph["55"]["inputs"]
    assert graph["55"]["inputs"]["vae"] == ["39", 0]


@pytest.mark.parametrize(
    ("name", "changes", "wrong", "text"),
    [
        ("text-to-image", {"messages": ()}, Missing, "prompt: the recipe 'text-to-image' needs it"),
        ("image-to-image", {}, Missing, "inputs: the recipe 'image-to-image' needs a file 'image'"),
        (
            "image-to-image", {"inputs": (Input(name="image", media_type="audio/wav", data=b""),)}, Missing,
            "'image' is audio/wav, but 'image-to-image' needs image",
        ),
        ("text-to-image", {"inputs": (IMAGE,)}, Unfit, "takes no file 'image' (it takes: none)"),
        ("inpaint", {"inputs": (Input(name="x", media_type="image/png", data=b""),)}, Unfit, "(it takes: image, mask)"),
        (
            "text-to-image", {"inputs": (IMAGE,), "recipe": "text-to-image"}, Missing,
            "inputs: the recipe 'text-to-image' takes no file 'image' (it takes: none)",
        ),
        ("text-to-image", {"media": Media(width=8), "recipe": "text-to-image"}, Unfit, "width: 8 is less than"),
        ("text-to-image", {"media": Media(width=8)}, Unfit, "width: 8 is less than"),
        ("text-to-image", {"media": Media(steps=999)}, Unfit, "steps: 999 is more than the recipe 'text-to-image' can do here"),
        ("text-to-image", {"media": Media(loras=("nobody",))}, Unfit, "loras: 'nobody' is not on this server"),
        ("upscale", {"media": Media(loras=("ink",)), "inputs": (IMAGE,)}, Unfit, "loras: the recipe 'upscale' takes none"),
        ("upscale", {"media": Media(images=2), "inputs": (IMAGE,)}, Unfit, "count: the recipe 'upscale' makes one at a time"),
    ],
)  # fmt: skip
def test_what_does_not_fit(name: str, changes: dict[str, Any], wrong: type[ValueError], text: str) -> None:
    files = {"image": "x"} if changes.get("inputs") else {}
    with pytest.raises(wrong) as caught:
        fill(FITTED[name], but(**changes), seed=0, files=files)
    assert text in str(caught.value)


def test_a_last_step_does_not_lead_over_the_edge() -> None:
    text = """
        name = "r"
        title = "R"
        asset = "image"
        server = "wan2gp"
        settings = { model_type = "x" }
        fields = { width = { to = "w", min = 10, max = 20, step = 8 }, size = { to = "s", min = 10, max = 20, step = 8 } }
    """
    fitted = Fitted(recipe=read(text, "x.toml"))
    assert fill(fitted, but(media=Media(width=19, height=11)), seed=0).body == {
        "model_type": "x",
        "w": 18,
        "s": "18x10",
    }
    assert fill(fitted, but(media=Media(width=20)), seed=0).values == {"width": 18}


@pytest.mark.parametrize(
    ("name", "asset", "files", "right"),
    [
        ("text-to-image", "image", (), True),
        ("text-to-image", "image", ("image",), False),
        ("text-to-image", "video", (), False),
        ("image-to-image", "image", ("image",), True),
        ("image-to-image", "image", (), False),
        ("upscale", "image", ("image",), False),
    ],
)
def test_which_job_gets_it_unasked(name: str, asset: Any, files: tuple[str, ...], right: bool) -> None:
    inputs = tuple(Input(name=each, media_type="image/png", data=b"") for each in files)
    assert suits(FITTED[name].recipe, but(asset=asset, inputs=inputs)) is right


@pytest.mark.parametrize("name", ["text-to-video", "image-to-video"])
@pytest.mark.parametrize(
    ("media", "said"),
    [
        (Media(fps=24.0, frames=48), {"force_fps": "24", "video_length": 49}),
        (Media(fps=23.976, seconds=2.0), {"force_fps": "24", "video_length": 49}),
        (Media(seconds=5.0), {"video_length": "5s"}),
        (Media(seconds=2.5), {"video_length": "2.5s"}),
        (Media(frames=81), {"video_length": 81}),
        (Media(), {}),
    ],
)
def test_wan2gp_gets_lengths_as_it_reads_them(name: str, media: Media, said: dict[str, Any]) -> None:
    (recipe,) = (one for one in recipes("wan2gp") if one.name == name)
    inputs = (IMAGE,) if recipe.inputs else ()
    call = but(asset="video", media=media, inputs=inputs)
    body = fill(Fitted(recipe=recipe), call, seed=0, files={one.name: "media-0" for one in inputs}).body
    assert {key: body[key] for key in ("force_fps", "video_length") if key in body} == said
