from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.graph import asks_of
from messages.values import Media


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


SDXL: dict[str, Any] = {
    "3": node("KSampler", steps=28, cfg=7, model=["10", 0], latent_image=["5", 0]),
    "4": node("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0.safetensors"),
    "5": node("EmptyLatentImage", width=1216, height=832, batch_size=2),
    "6": node("CLIPTextEncode", text="a fox", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0]),
    "10": node("LoraLoader", lora_name="ink.safetensors", strength_model=0.8, model=["4", 0]),
    "11": node("ControlNetApplyAdvanced", strength=1.0),
    "12": node("ControlNetLoader", control_net_name="depth.safetensors"),
    "13": node("ImageScale", width=9000, height=9000),
}
WAN: dict[str, Any] = {
    "1": node("UNETLoader", unet_name="wan2.1_t2v_1.3B_fp16.safetensors"),
    "2": node("EmptyHunyuanLatentVideo", width=["7", 0], height=480, length=["8", 0], batch_size=1),
    "3": node("KSampler", steps=30, latent_image=["2", 0]),
    "4": node("CreateVideo", fps=16.0),
    "7": node("PrimitiveInt", value=832),
    "8": node("INTConstant", value=81),
}


def test_an_image_graph() -> None:
    asks = asks_of(SDXL)
    assert asks.asset == "image"
    assert asks.controlnets == 1
    assert asks.media == Media(
        images=2, width=1216, height=832, steps=28, checkpoints=("sd_xl_base_1.0.safetensors",),
        loras=("ink.safetensors",), node_types=(
            "CLIPTextEncode", "CheckpointLoaderSimple", "ControlNetApplyAdvanced", "ControlNetLoader",
            "EmptyLatentImage", "ImageScale", "KSampler", "LoraLoader", "SaveImage", "VAEDecode",
        ),
    )  # fmt: skip


def test_a_video_graph_with_linked_numbers() -> None:
    asks = asks_of(WAN)
    assert asks.asset == "video"
    it = asks.media
    assert (it.width, it.height, it.frames, it.fps, it.steps) == (832, 480, 81, 16.0, 30)
    assert it.checkpoints == ("wan2.1_t2v_1.3B_fp16.safetensors",)
    assert asks.controlnets == 0


def test_a_sound_graph() -> None:
    assert asks_of({"1": node("EmptyLatentAudio", seconds=30), "2": node("SaveAudio")}).asset == "audio"


@pytest.mark.parametrize(
    ("classes", "asset"),
    [
        (("PreviewAny",), "image"), (("SwanLoader", "WanderingNode", "PreviewAny"), "image"), (("VideoLess", "Any"), "video"),
        (("LoadImage", "SaveWEBM"), "video"), (("SaveAnimatedWEBP",), "video"), (("VHS_VideoCombine",), "video"),
        (("WanImageToVideo", "SaveImage"), "video"), (("ADE_Loader", "SaveImage"), "video"), (("MyOwnNode",), "image"),
        (("LoadAudio", "PreviewImage"), "image"), (("PreviewAudio",), "audio"), (("Explorer", "Sunlit"), "image"),
    ],
)  # fmt: skip
def test_classes_are_known_by_whole_words_or_their_beginning(classes: tuple[str, ...], asset: str) -> None:
    assert asks_of({str(at): node(name) for at, name in enumerate(classes)}).asset == asset


def test_one_frame_of_a_video_model_is_a_picture() -> None:
    def graph(frames: int, save: str) -> dict[str, Any]:
        return {"1": node("EmptyHunyuanLatentVideo", length=frames), "2": node(save)}

    assert asks_of(graph(1, "SaveImage")).asset == "image"
    assert asks_of(graph(81, "SaveImage")).asset == "video"
    assert asks_of(graph(1, "SaveWEBM")).asset == "video"


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({"lora_name": "a"}, ("a",)),
        ({"lora_name": "None"}, ()),
        ({"lora": "b", "strength": 1}, ("b",)),
        ({"lora_name_1": "a", "lora_name_2": "b", "lora_wt_1": 1.0}, ("a", "b")),
        ({"lora_1": {"on": True, "lora": "a"}, "lora_2": {"on": False, "lora": "b"}}, ("a",)),
        ({"lora_count": 2, "lora_stack": ["3", 0]}, ()),
    ],
)
def test_loras_of_every_kind_of_loader(inputs: dict[str, Any], names: tuple[str, ...]) -> None:
    assert asks_of({"1": node("Power Lora Loader", **inputs)}).media.loras == names


@pytest.mark.parametrize("value", [True, -5, 0, "20", None, ["99", 0], ["2", 0], [], float("inf"), {}])
def test_what_is_no_number_is_not_said(value: Any) -> None:
    graph = {"1": node("KSampler", steps=value), "2": {"class_type": "Note"}}
    assert asks_of(graph).media.steps == 0


def test_two_samplers_count_once() -> None:
    """Both halves of a two-stage graph name all steps."""
    graph = {"1": node("KSamplerAdvanced", steps=20, end_at_step=10), "2": node("KSamplerAdvanced", steps=20)}
    assert asks_of(graph).media.steps == 20


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
KEYS: Any = st.sampled_from(
    ["steps", "width", "height", "length", "fps", "lora_name", "lora_1", "ckpt_name", "batch_size"]
)
NODES: Any = st.fixed_dictionaries(
    {"class_type": st.sampled_from(["KSampler", "EmptyLatentImage", "LoraLoader", "WanVideoSampler", "X"])},
    optional={"inputs": st.dictionaries(KEYS, VALUES, max_size=4)},
)


@given(st.dictionaries(st.sampled_from(["1", "2", "3"]), NODES, max_size=3))
def test_any_graph_gives_sound_media(graph: dict[str, Any]) -> None:
    it = asks_of(graph).media
    assert min(it.images, it.width, it.height, it.steps, it.frames, it.fps) >= 0
    assert list(it.node_types) == sorted({one["class_type"] for one in graph.values()})
    assert asks_of(dict(reversed(graph.items()))) == asks_of(graph)
