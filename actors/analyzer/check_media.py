"""What is wrong with the part of a submission that asks for images, video or sound. Pure."""

from __future__ import annotations

from typing import Any, cast

from actors.analyzer.graph import asks_of
from actors.problem import invalid
from messages import JobSubmit, Problem
from messages.values import Asset

MOST_LORAS = 32
MOST_NODES = 5_000
MOST_NAME = 256
MOST_NAMES = 32_768
"""Characters of all names in a graph together: they travel with every event of the job."""
MOST: dict[str, int] = {
    "count": 1_000, "width": 16_384, "height": 16_384, "steps": 10_000, "frames": 100_000, "fps": 240, "seconds": 86_400,
}  # fmt: skip
"""Beyond it a number is a mistake."""
VIDEO: tuple[Asset, ...] = ("video",)
PICTURE: tuple[Asset, ...] = ("image", "video")
MEDIA: tuple[Asset, ...] = ("image", "video", "audio")
MAKES: dict[str, tuple[Asset, ...]] = {
    "frames": VIDEO, "fps": VIDEO, "seconds": ("video", "audio"), "count": PICTURE, "width": PICTURE, "height": PICTURE,
    "steps": ("image", "video", "audio"), "loras": ("image", "video", "audio", "text"), "graph": MEDIA,
    "negative_prompt": MEDIA, "recipe": MEDIA, "inputs": ("image", "video", "audio", "text"), "texts": ("embedding",),
    "dimensions": ("embedding",),
}  # fmt: skip
"""Which assets a field can be about."""
_WHOLE = ("count", "width", "height", "steps", "frames")


def check_media(submit: JobSubmit) -> Problem | None:
    """The first problem, or None."""
    for field, most in MOST.items():
        value: float | None = getattr(submit, field)
        if value is None:
            continue
        if field in _WHOLE and not 1 <= value <= most:
            return invalid(field, value, f"use 1 to {most:,}, or leave it out.")
        if not 0 < value <= most:
            return invalid(field, value, f"use more than 0 and at most {most:,}, or leave it out.")
    return _check_asset(submit) or _check_time(submit) or _check_loras(submit) or _check_graph(submit)


def _check_asset(submit: JobSubmit) -> Problem | None:
    asset = submit.asset
    if asset:
        for field, assets in MAKES.items():
            value: Any = getattr(submit, field)
            if value in (None, (), "") or asset in assets:
                continue
            right = f"asset {asset} has no {field}; leave it out, or ask for {' or '.join(assets)}."
            return invalid(field, _shown(field, value), right)
    tools = "tools" if submit.tools else "response_format" if submit.response_format else ""
    if submit.recipe and submit.graph:
        return invalid("recipe", submit.recipe, "a graph is a workflow of its own; leave one of them out.")
    if asset and asset != "text" and tools:
        return invalid(tools, "given", f"only text is made with {tools}; leave it out, or ask for text.")
    return None


def _shown(field: str, value: Any) -> Any:
    """A value as a message may repeat it."""
    if field in ("graph", "inputs", "texts"):
        return "a graph" if field == "graph" else f"{len(value)} {field}"
    return value


def _check_time(submit: JobSubmit) -> Problem | None:
    """Frames, frames per second and seconds say the same thing twice."""
    if submit.frames is None or submit.fps is None or submit.seconds is None:
        return None
    if abs(submit.frames - submit.fps * submit.seconds) <= max(1.0, submit.fps):
        return None
    right = (
        f"{submit.seconds:g} s at {submit.fps:g} frames per second are {submit.fps * submit.seconds:g}; leave one out."
    )
    return invalid("frames", submit.frames, right)


def _check_loras(submit: JobSubmit) -> Problem | None:
    if len(submit.loras) > MOST_LORAS:
        return invalid("loras", f"{len(submit.loras)} names", f"use at most {MOST_LORAS}.")
    for place, name in enumerate(submit.loras):
        if not name.strip() or len(name) > MOST_NAME or not name.isprintable():
            return invalid(f"loras[{place}]", name, f"use a name of 1 to {MOST_NAME} printable characters.")
    if len(set(submit.loras)) < len(submit.loras):
        twice = next(name for name in submit.loras if submit.loras.count(name) > 1)
        return invalid("loras", twice, "it is named twice; name it once.")
    return None


_NODE_FORM = 'a node looks like {"class_type": "KSampler", "inputs": {"steps": 20}}'


def _check_graph(submit: JobSubmit) -> Problem | None:
    graph = submit.graph
    if graph is None:
        return None
    if not graph:
        return invalid("graph", "{}", f"it has no nodes; {_NODE_FORM}.")
    if len(graph) > MOST_NODES:
        return invalid("graph", f"{len(graph):,} nodes", f"use at most {MOST_NODES:,}.")
    if isinstance(graph.get("nodes"), list):
        right = 'that is the editor\'s form; export it with "Save (API Format)" / "Export (API)".'
        return invalid("graph", "nodes: […]", right)
    for key, node in graph.items():
        if problem := _check_node(f"graph.{key[:60]}", node, graph):
            return problem
    return _check_asked(graph)


def _check_asked(graph: dict[str, Any]) -> Problem | None:
    """A graph is bounded as the job's own fields are: what it asks for is reckoned with, and stands in events."""
    asked = asks_of(graph).media
    for field, most in MOST.items():
        value: float = getattr(asked, "images" if field == "count" else field)
        if value > most:
            return invalid("graph", f"{value:g}", f"it asks for that as its {field}; use at most {most:,}.")
    names = (*asked.checkpoints, *asked.loras, *asked.node_types)
    length = sum(map(len, names))
    if length > MOST_NAMES:
        right = f"the names of its models, LoRAs and node classes are too long together; use at most {MOST_NAMES:,}."
        return invalid("graph", f"{length:,} characters", right)
    return None


def _check_node(path: str, node: Any, graph: dict[str, Any]) -> Problem | None:
    if not isinstance(node, dict):
        return invalid(path, node, f"{_NODE_FORM}.")
    known = cast("dict[str, Any]", node)
    kind = known.get("class_type")
    if not isinstance(kind, str) or not kind or len(kind) > MOST_NAME:
        return invalid(f"{path}.class_type", kind, f"every node has the name of its class; {_NODE_FORM}.")
    inputs: Any = known.get("inputs", {})
    if not isinstance(inputs, dict):
        return invalid(f"{path}.inputs", inputs, f"inputs is an object; {_NODE_FORM}.")
    for name, value in cast("dict[str, Any]", inputs).items():
        if _is_link(value) and str(value[0]) not in graph:
            return invalid(f"{path}.inputs.{name[:60]}", value, "it links to a node that is not in the graph.")
    return None


def _is_link(value: Any) -> bool:
    """A link is a list of a node's id and the number of one of its outputs."""
    if not isinstance(value, list):
        return False
    pair = cast("list[Any]", value)
    return len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int) and not isinstance(pair[1], bool)
