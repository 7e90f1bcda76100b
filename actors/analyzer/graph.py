"""What a ComfyUI graph in API form asks for: base models, LoRAs, node classes, size, steps, frames. Pure.

The form is `{"3": {"class_type": "KSampler", "inputs": {"steps": 20, "model": ["4", 0]}}}`: an input is a value, or a link to
another node's output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from messages.values import Asset, Media

Node = Mapping[str, Any]

_VIDEO = (
    "video", "vhs_", "animatediff", "img2vid", "svd_", "ltxv", "mochi", "cosmos", "wan", "saveanimated", "savewebm",
    "framepack",
)  # fmt: skip
_AUDIO = ("saveaudio", "latentaudio", "audiosampler")
_FRAMES = ("length", "num_frames", "video_frames", "frame_count")
_RATES = ("fps", "frame_rate")
_CHECKPOINTS = ("ckpt_name", "unet_name", "gguf_name")


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
    lowered = [name.lower() for name in classes]
    size = max(_sizes(graph, nodes), key=lambda pair: pair[0] * pair[1], default=(0, 0))
    media = Media(
        images=_most(graph, _of_class(nodes, "latent"), ("batch_size",)),
        width=size[0],
        height=size[1],
        steps=_most(graph, _of_class(nodes, "sampler", "scheduler"), ("steps",)),
        frames=_most(graph, nodes, _FRAMES),
        fps=max((_number(graph, inputs.get(key)) for inputs in _inputs(nodes) for key in _RATES), default=0.0),
        checkpoints=_names(inputs.get(key) for inputs in _inputs(nodes) for key in _CHECKPOINTS),
        loras=_loras(nodes),
        node_types=tuple(classes),
    )
    return GraphAsks(_asset(lowered), media, sum("controlnetapply" in str(n.get("class_type")).lower() for n in nodes))


def _asset(classes: Iterable[str]) -> Asset:
    names = list(classes)
    if any(mark in name for name in names for mark in _VIDEO):
        return "video"
    return "audio" if any(mark in name for name in names for mark in _AUDIO) else "image"


def _inputs(nodes: Iterable[Node]) -> Iterable[Mapping[str, Any]]:
    for node in nodes:
        inputs = node.get("inputs")
        if isinstance(inputs, dict):
            yield cast("Mapping[str, Any]", inputs)


def _of_class(nodes: Iterable[Node], *marks: str) -> list[Node]:
    return [node for node in nodes if any(mark in str(node.get("class_type")).lower() for mark in marks)]


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
    for inputs in _inputs(_of_class(nodes, "latent", "video")):
        width, height = int(_number(graph, inputs.get("width"))), int(_number(graph, inputs.get("height")))
        if width and height:
            yield width, height


def _names(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if isinstance(value, str) and value and value != "None"}))


def _loras(nodes: Iterable[Node]) -> tuple[str, ...]:
    """LoRAs of loaders: `lora_name`, `lora`, and the numbered inputs of loaders that stack several."""
    found: list[Any] = []
    for inputs in _inputs(_of_class(nodes, "lora")):
        for key, value in inputs.items():
            if not key.startswith("lora"):
                continue
            if isinstance(value, dict):  # `{"on": true, "lora": "name", "strength": 1}`
                several = cast("dict[str, Any]", value)
                found.append(several.get("lora") if several.get("on", True) else None)
            elif key in ("lora", "lora_name") or key.startswith(("lora_name_", "lora_0", "lora_1", "lora_2", "lora_3")):
                found.append(value)
    return _names(found)
