"""What a ComfyUI graph in API form asks for: base models, LoRAs, node classes, size, steps, frames. Pure.

The form is `{"3": {"class_type": "KSampler", "inputs": {"steps": 20, "model": ["4", 0]}}}`: an input is a value, or a link to
another node's output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from actors.graph_names import CHECKPOINT_INPUTS
from messages.values import Asset, Media

Node = Mapping[str, Any]

_VIDEO_WORDS = frozenset({"video", "webm", "wan", "ltxv", "mochi"})
_VIDEO_PREFIXES = ("SaveAnimated", "AnimateDiff", "ADE_", "VHS_", "SVD_", "FramePack")
"""What a node class that works on moving pictures has in its name: as a whole word, or at its beginning."""
_PICTURES = ("SaveImage", "PreviewImage")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FRAMES = ("length", "num_frames", "video_frames", "frame_count")
_RATES = ("fps", "frame_rate")


class GraphAsks(msgspec.Struct, frozen=True):
    """A graph as needs."""

    asset: Asset
    """What it makes."""
    media: Media
    """What it says about it; 0 and empty where it does not say."""
    controlnets: int
    """Nodes that apply a ControlNet."""


def asks_of(graph: Mapping[str, Any]) -> GraphAsks:
    """What a graph asks for. It has been checked: every node has a `class_type`."""
    nodes = [cast("Node", node) for node in graph.values() if isinstance(node, dict)]
    classes = sorted({str(node.get("class_type", "")) for node in nodes})
    size = max(_sizes(graph, nodes), key=lambda pair: pair[0] * pair[1], default=(0, 0))
    media = Media(
        images=_most(graph, _of_words(nodes, "latent"), ("batch_size",)),
        width=size[0],
        height=size[1],
        steps=_most(graph, _of_words(nodes, "sampler", "scheduler"), ("steps",)),
        frames=_most(graph, nodes, _FRAMES),
        fps=max((_number(graph, inputs.get(key)) for inputs in _inputs(nodes) for key in _RATES), default=0.0),
        checkpoints=_names(inputs.get(key) for inputs in _inputs(nodes) for key in CHECKPOINT_INPUTS),
        loras=_loras(nodes),
        node_types=tuple(classes),
    )
    applied = sum({"control", "net", "apply"} <= words_of(str(node.get("class_type"))) for node in nodes)
    return GraphAsks(_asset(classes, media.frames), media, applied)


def words_of(name: str) -> frozenset[str]:
    """The words of a node class's name, in small letters: `PreviewAny` is `preview` and `any`, and no `wan`."""
    return frozenset(word.lower() for word in _WORDS.findall(name.replace("LoRA", "Lora")))


def _asset(classes: Iterable[str], frames: int) -> Asset:
    """What it makes, as far as names tell; a graph of nobody's classes, or that makes a text, counts as work on an image."""
    names = list(classes)
    pictures = any(name.startswith(_PICTURES) for name in names)
    moving = [name for name in names if words_of(name) & _VIDEO_WORDS or name.startswith(_VIDEO_PREFIXES)]
    if moving and not (pictures and frames == 1 and not any(name.startswith(("Save", "VHS_")) for name in moving)):
        return "video"
    return "audio" if not pictures and any("audio" in words_of(name) for name in names) else "image"


def _inputs(nodes: Iterable[Node]) -> Iterable[Mapping[str, Any]]:
    for node in nodes:
        inputs = node.get("inputs")
        if isinstance(inputs, dict):
            yield cast("Mapping[str, Any]", inputs)


def _of_words(nodes: Iterable[Node], *words: str) -> list[Node]:
    return [node for node in nodes if words_of(str(node.get("class_type"))) & {*words}]


def _number(graph: Mapping[str, Any], value: Any) -> float:
    """A positive number, given or behind one link to a node that holds a `value`; 0 when there is none."""
    if isinstance(value, list) and value:
        node: Any = graph.get(str(cast("list[Any]", value)[0]))
        inputs: Any = cast("Node", node).get("inputs") if isinstance(node, dict) else None
        value = cast("Node", inputs).get("value") if isinstance(inputs, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        return 0.0
    return float(value)


def _most(graph: Mapping[str, Any], nodes: Iterable[Node], keys: Iterable[str]) -> int:
    wanted = tuple(keys)
    return max((int(_number(graph, inputs.get(key))) for inputs in _inputs(nodes) for key in wanted), default=0)


def _sizes(graph: Mapping[str, Any], nodes: Iterable[Node]) -> Iterable[tuple[int, int]]:
    """Widths and heights of what is sampled; images that are only scaled or cropped do not count."""
    for inputs in _inputs(_of_words(nodes, "latent", "video")):
        width, height = int(_number(graph, inputs.get("width"))), int(_number(graph, inputs.get("height")))
        if width and height:
            yield width, height


def _names(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if isinstance(value, str) and value and value != "None"}))


def _loras(nodes: Iterable[Node]) -> tuple[str, ...]:
    """LoRAs of loaders: `lora_name`, `lora`, and the numbered inputs of loaders that stack several."""
    found: list[Any] = []
    for inputs in _inputs(_of_words(nodes, "lora")):
        for key, value in inputs.items():
            if not key.startswith("lora"):
                continue
            if isinstance(value, dict):  # `{"on": true, "lora": "name", "strength": 1}`
                several = cast("dict[str, Any]", value)
                found.append(several.get("lora") if several.get("on", True) else None)
            elif key in ("lora", "lora_name") or key.startswith(("lora_name_", "lora_0", "lora_1", "lora_2", "lora_3")):
                found.append(value)
    return _names(found)
