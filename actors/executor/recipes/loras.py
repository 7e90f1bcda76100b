"""Puts LoRAs into a graph: a chain of loaders between whatever loads a model and whoever uses it, told by types. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from actors.executor.recipes.nodes import NodeClass
from actors.executor.recipes.recipe import link_of

LORA_LOADERS: Final[Mapping[bool, str]] = {True: "LoraLoader", False: "LoraLoaderModelOnly"}
"""The node class that puts a LoRA in, with or without the text encoder."""

Link = tuple[str, int]


class Sources(msgspec.Struct, frozen=True):
    """Outputs of a graph that models come from before anything changes them."""

    models: tuple[Link, ...] = ()
    clips: tuple[Link, ...] = ()


def sources_of(graph: Mapping[str, Mapping[str, Any]], classes: Mapping[str, NodeClass]) -> Sources:
    """Outputs of the types MODEL and CLIP that are used, of nodes that take none of that type themselves."""
    used = {
        link for node in graph.values() for value in node["inputs"].values() if (link := link_of(value)) is not None
    }

    def of(kind: str) -> tuple[Link, ...]:
        found: list[Link] = []
        for key, node in graph.items():
            known = classes.get(str(node["class_type"]))
            if known is None or any(kind in spec.type.split(",") for spec in known.inputs.values()):
                continue
            found += [(key, slot) for slot, name in enumerate(known.outputs) if name == kind and (key, slot) in used]
        return tuple(found)

    return Sources(of("MODEL"), of("CLIP"))


def with_loras(
    graph: Mapping[str, Mapping[str, Any]], sources: Sources, names: Iterable[str], *, strength: float, clip: bool
) -> dict[str, dict[str, Any]]:
    """A copy of the graph in which every model goes through a loader for each LoRA, in their order.

    The text encoder goes along when `clip` is set and there is one model and one encoder; else each model has a chain of its
    own. Whoever used a source uses the end of its chain; nothing else changes.
    """
    wanted = tuple(names)
    nodes = {key: {**node, "inputs": dict(node["inputs"])} for key, node in graph.items()}
    if not wanted:
        return nodes
    together = clip and len(sources.models) == len(sources.clips) == 1
    ends: dict[Link, Link] = {}
    added: dict[str, dict[str, Any]] = {}
    free = max((int(key) for key in graph if key.isdecimal()), default=0) + 1
    for source in sources.models:
        model, text = source, sources.clips[0] if together else None
        for name in wanted:
            key = str(free + len(added))
            inputs: dict[str, Any] = {"model": list(model), "lora_name": name, "strength_model": strength}
            if text is not None:
                inputs |= {"clip": list(text), "strength_clip": strength}
                text = (key, 1)
            added[key] = {"class_type": LORA_LOADERS[together], "inputs": inputs}
            model = (key, 0)
        ends[source] = model
        if text is not None:
            ends[sources.clips[0]] = text
    for node in nodes.values():
        for name, value in node["inputs"].items():
            link = link_of(value)
            if link in ends:
                node["inputs"][name] = list(ends[link])
    return nodes | added
