"""Reads recipes, ours and the users', and says clearly what is wrong with one."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from actors.executor.recipes.checking import check
from actors.executor.recipes.recipe import Field, FileInput, Loras, Recipe, RecipeError, Server

FILE_BYTES: Final = 4 * 1024 * 1024
"""A larger file is no recipe."""
_ENDINGS: Final = (".toml", ".json")


@cache
def shipped() -> tuple[Recipe, ...]:
    """The recipes that come with us, by name."""
    folder = resources.files("actors.executor.recipes") / "shipped"
    found = [
        read(file.read_text(encoding="utf-8"), f"shipped/{file.name}")
        for file in folder.iterdir()
        if file.name.endswith(_ENDINGS)
    ]
    return tuple(sorted(found, key=lambda recipe: recipe.name))


class Collected(msgspec.Struct, frozen=True):
    """The recipes for a kind of server."""

    recipes: tuple[Recipe, ...]
    """In the order in which they are tried."""
    faults: tuple[str, ...]
    """What is wrong with those that are left out, a sentence each."""


def recipes(server: Server) -> tuple[Recipe, ...]:
    """The recipes for a kind of server that come with us."""
    return collected(server, ()).recipes


def collected(server: Server, folders: Sequence[Path]) -> Collected:
    """Our recipes for a kind of server and those in `folders`, where a later one replaces an earlier one of the same name.

    A recipe that is wrong is left out, and takes no other with it. Raises RecipeError for a folder that does not exist. Kinds of
    servers have their names apart: a job may name a recipe that several have.
    """
    found = {(recipe.server, recipe.name): recipe for recipe in shipped()}
    faults: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise RecipeError(f"recipes: there is no folder {str(folder)!r}")
        seen: dict[tuple[Server, str], str] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix not in _ENDINGS or not path.is_file():
                continue
            try:
                recipe = read_file(path)
            except RecipeError as error:
                faults.append(f"recipe left out: {error}")
                continue
            if recipe is None:
                continue
            key = (recipe.server, recipe.name)
            if key in seen:
                faults.append(f"recipe left out: {path}: name: {recipe.name!r} is the name of {seen[key]} as well")
                continue
            seen[key] = str(path)
            found[key] = recipe
    ours = (recipe for recipe in found.values() if recipe.server == server)
    return Collected(tuple(sorted(ours, key=lambda recipe: (recipe.order, recipe.name))), tuple(faults))


def read_file(path: Path) -> Recipe | None:
    """The recipe in a file; None for a JSON file that is a graph which some recipe beside it names. Raises RecipeError."""
    try:
        if path.stat().st_size > FILE_BYTES:
            raise RecipeError(f"{path}: larger than {FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: it can't be read: {error}") from None
    if path.suffix == ".json" and _is_graph(_parsed(text, str(path))):
        return None
    return read(text, str(path), beside=path.parent)


def read(text: str, source: str, *, beside: Path | None = None) -> Recipe:
    """The recipe in `text`, TOML or JSON by the ending of `source`. A graph may stand in a file of its own, in the folder
    `beside`. Raises RecipeError that names `source`, the key and what would be right.
    """
    table = dict(_object(_parsed(text, source), source))
    try:
        _known(table, Recipe, "")
        if isinstance(table.get("graph"), str):
            table["graph"] = _graph_beside(str(table["graph"]), beside)
        table["fields"] = _tables(table.get("fields", {}), Field, "fields")
        table["inputs"] = _tables(table.get("inputs", {}), FileInput, "inputs")
        table["choose"] = {key: _several(value) for key, value in _object(table.get("choose", {}), "choose").items()}
        if isinstance(table.get("loras"), dict):
            _known(cast("dict[str, Any]", table["loras"]), Loras, "loras")
        recipe = msgspec.convert({**table, "source": source}, Recipe)
        check(recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{source}: {_place(str(error))}") from None
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    return recipe


def _tables(value: object, kind: type[Field | FileInput], key: str) -> dict[str, Any]:
    """Tables of fields, with `name = "6.inputs.text"` for `name = { to = ["6.inputs.text"] }`."""
    found: dict[str, Any] = {}
    for name, given in _object(value, key).items():
        short = isinstance(given, str | list)
        table: dict[str, Any] = {"to": given} if short else dict(_object(given, f"{key}.{name}"))
        _known(table, kind, f"{key}.{name}")
        for several in ("to", "media", "nodes"):
            if several in table:
                table[several] = _several(table[several])
        try:
            found[name] = msgspec.convert(table, kind)
        except msgspec.ValidationError as error:
            raise RecipeError(_place(str(error), f"{key}.{name}")) from None
    return found


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _known(table: Mapping[str, Any], kind: type[msgspec.Struct], key: str) -> None:
    names = [name for name in kind.__struct_fields__ if name != "source"]
    for name in table:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise RecipeError(f"{key}.{name}: no such key; {hint}".lstrip("."))


def _object(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RecipeError(f"{key}: it must be a table, not {value!r:.80}")
    return cast("dict[str, Any]", value)


def _parsed(text: str, source: str) -> Any:
    try:
        return msgspec.json.decode(text) if source.endswith(".json") else tomllib.loads(text)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{source}: it is no {'JSON' if source.endswith('.json') else 'TOML'}: {error}") from None


def _is_graph(value: object) -> bool:
    nodes = list(cast("dict[str, Any]", value).values()) if isinstance(value, dict) else []
    return bool(nodes) and all(isinstance(node, dict) and "class_type" in node for node in nodes)


def _graph_beside(name: str, beside: Path | None) -> Any:
    if beside is None or Path(name).name != name:
        raise RecipeError(f"graph: {name!r} must be the name of a JSON file beside the recipe")
    try:
        graph = _parsed((beside / name).read_text(encoding="utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"graph: {name!r} can't be read: {error}") from None
    if not _is_graph(graph):
        raise RecipeError(f"graph: {name!r} is no graph in API form; export it from ComfyUI with `Export (API)`")
    return graph


def _place(text: str, key: str = "") -> str:
    """The sentence of msgspec with the key first, which lies in the table `key`."""
    message, _, place = text.partition(" - at `$")
    return f"{(key + place.rstrip('`')).lstrip('.') or 'recipe'}: {message}"
