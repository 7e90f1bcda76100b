"""What a recipe is: a workflow, and a map from what jobs say to its inputs."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from messages.values import Asset

Server = Literal["comfyui", "wan2gp"]
"""What runs it: a graph in ComfyUI's API form, or settings of Wan2GP."""

TEXTS: Final = frozenset({"prompt", "negative_prompt", "model", "size"})
WHOLES: Final = frozenset({"width", "height", "steps", "seed", "frames", "count"})
NUMBERS: Final = frozenset({"fps", "seconds"})
FIELDS: Final = TEXTS | WHOLES | NUMBERS
"""What of a job can be put into a recipe, by its type. `model` is the model that was chosen, `size` is `WIDTHxHEIGHT`."""

Literals = str | int | float | bool


class RecipeError(ValueError):
    """A recipe is wrong; the text names the file, the key and what would be right."""


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one thing that jobs say goes."""

    to: tuple[str, ...]
    """Inputs that get it: `NODE.inputs.NAME` of a graph, a key of settings (`a.b` for a table in a table)."""
    required: bool = False
    """Without it the job is wrong."""
    default: Literals | None = None
    """For jobs that do not say; None: what the workflow has."""
    min: float | None = None
    """Least value; of `size`, of each side."""
    max: float | None = None
    """Greatest value; of `size`, of each side."""
    step: int = 0
    """Values are moved to the nearest `min` + n * `step`; 0: any."""
    format: str = ""
    """How it is written, with `{}` in its place: `{}s`; empty: as it is."""


class FileInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a file that jobs bring along goes."""

    to: tuple[str, ...]
    """As in a field: it gets the name under which the server has the file."""
    required: bool = True
    media: tuple[str, ...] = ("image",)
    """First parts of the media types that it takes: `image`, `video`, `audio`."""
    nodes: tuple[str, ...] = ()
    """Nodes to leave out when the job brings no such file, beside those in `to`; links to them go as well."""


class Loras(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How LoRAs are put in: a graph gets loaders between whatever loads a model and whoever uses it."""

    strength: float = 1.0
    """How much each weighs."""
    clip: bool = True
    """They change the text encoder as well."""
    to: str = ""
    """Of settings: the key that gets their names as a list."""
    strengths_to: str = ""
    """Of settings: the key that gets their strengths, as text with spaces between."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One workflow. Jobs name it, or get it because it makes what they want from what they bring."""

    name: str
    """Lower-case words with hyphens; a user's recipe replaces a shipped one of the same name."""
    title: str = ""
    """What it does, for people."""
    asset: Asset
    """What it makes."""
    server: Server
    graph: dict[str, dict[str, Any]] = {}
    """ComfyUI: nodes by id, each with `class_type` and `inputs`."""
    settings: dict[str, Any] = {}
    """Wan2GP: its settings, `model_type` among them."""
    fields: dict[str, Field]
    """What jobs say (see `FIELDS`), and where it goes."""
    inputs: dict[str, FileInput] = {}
    """Files that jobs bring along, by name."""
    loras: Loras | None = None
    """None: it takes none."""
    models: tuple[str, ...] = ("*",)
    """Names of models that it works with; `*` stands for any letters, capitals do not matter."""
    not_models: tuple[str, ...] = ()
    """Names of models that it does not work with, although `models` has them."""
    choose: dict[str, tuple[str, ...]] = {}
    """Inputs that name a file of the server (a VAE, a text encoder), and which: the first pattern that any file matches."""
    capabilities: tuple[str, ...] = ()
    """What it can do beside its asset: `controlnet`."""
    vram_mb: int | None = None
    """GPU memory it takes, in MiB; None: unknown, or it depends on the model."""
    by_name: bool = False
    """Only for jobs that name it."""
    order: int = 100
    """Of several that suit a job that names none, the one with the smallest order is used."""
    source: str = ""
    """File that it was read from."""


def target(recipe: Recipe, where: str) -> tuple[str, str]:
    """The node and the input that `NODE.inputs.NAME` means. Raises RecipeError."""
    node, inputs, name = where.partition(".inputs.")
    if not inputs or not node or not name:
        raise RecipeError(f"{where!r} must be NODE.inputs.NAME, like 6.inputs.text")
    if node not in recipe.graph:
        raise RecipeError(f"{where!r}: the graph has no node {node!r}; its nodes: {', '.join(recipe.graph)}")
    return node, name


def link_of(value: object) -> tuple[str, int] | None:
    """The node and the output that an input of a graph is linked to; None when it is a value."""
    match value:
        case [str(node), int(slot)] | (str(node), int(slot)):
            return node, slot
        case _:
            return None
