"""Files that ComfyUI made, as its history lists them, and what they are. Pure."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.artifacts import file_name
from actors.executor.backends.comfyui_errors import messages_of
from actors.executor.backends.errors import as_object
from actors.executor.backends.files import File
from actors.executor.backends.sniff import media_type_of, size_of

_HEADER_BYTES: Final = 256 * 1024
"""A JPEG may hold so much (a thumbnail, a colour profile) before it says its size."""
_VAGUE: Final = frozenset({"", "application/octet-stream", "text/plain"})
_PATH: Final = re.compile(r"(?:\S.*/)?(?P<type>output|temp|input)/(?P<folder>(?:[^/\n]+/)*)(?P<name>[^/\n]+\.\w{2,5})")
_SHAPE: Final = re.compile(r"(?![/~])(?:[^/\n:]+/)*[^/\n:]+\.(?:glb|gltf|obj|stl|fbx|usdz|ply|splat|ksplat|spz)")
_MARKED: Final = re.compile(r"(?P<name>.+) \[(?P<type>input|output|temp)\]")
"""A file as ComfyUI's own widgets write it."""
_TEXTS: Final = frozenset({"text", "string", "tags"})
"""Names under which nodes tell texts."""
_DEPTH: Final = 4


class Output(msgspec.Struct, frozen=True):
    """A file on the server."""

    filename: str
    subfolder: str = ""
    type: str = "output"

    @property
    def params(self) -> dict[str, str]:
        """How `/view` wants it."""
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}

    @property
    def name(self) -> str:
        """Without folders, and without letters that some file system dislikes."""
        return file_name(self.filename)


def outputs_of(entry: Mapping[str, Any]) -> tuple[Output, ...]:
    """The files of an entry of the history that were made, each once, in its order; those that are kept, or else the temporary
    ones. Nodes show the job's own inputs too: these are no files that were made.
    """
    found: dict[Output, None] = {}
    for name, item in _items(entry):
        if name not in _TEXTS:
            output = _by_path(item, name) if isinstance(item, str) else _by_name(as_object(item) or {})
            if output is not None and output.type != "input":
                found[output] = None
    kept = tuple(output for output in found if output.type != "temp")
    return kept or tuple(found)


def _items(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything that nodes tell, by the name that they tell it under, however deep their lists are."""
    for node in (as_object(entry.get("outputs")) or {}).values():
        for name, value in (as_object(node) or {}).items():
            yield from ((name, item) for item in _flat(value, _DEPTH))


def _flat(value: object, depth: int) -> Iterator[Any]:
    if isinstance(value, list) and depth:
        for item in cast("list[Any]", value):
            yield from _flat(item, depth - 1)
    else:
        yield value


def _by_name(file: Mapping[str, Any]) -> Output | None:
    name: Any = file.get("filename")
    if not isinstance(name, str) or not name:
        return None
    marked = _MARKED.fullmatch(name)
    said: Any = file.get("type") or (marked and marked["type"])
    path = _by_path(str(file.get("fullpath") or "")) if not said else None
    kind = str(said or (path.type if path else "output")).lower()
    return Output(marked["name"] if marked else name, str(file.get("subfolder") or ""), kind)


def _by_path(path: str, told_as: str = "") -> Output | None:
    """A file that a node names by its path alone, on the server's disk or below it: `output/video/v_00001.mp4`. A viewer of
    shapes names it below the folder of outputs.
    """
    path = path.replace("\\", "/")
    if told_as == "result" and _SHAPE.fullmatch(path) and not _PATH.fullmatch(path):
        path = f"output/{path}"
    found = _PATH.fullmatch(path)
    return None if found is None else Output(found["name"], found["folder"].strip("/"), found["type"])


def texts_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of an entry of the history."""
    return tuple(item for name, item in _items(entry) if name in _TEXTS and isinstance(item, str) and item)


def media_type(said: str, head: bytes, filename: str) -> str:
    """What a file is: as the server says, or where that says nothing by its first bytes or its name."""
    if said not in _VAGUE:
        return said
    return media_type_of(head) or mimetypes.guess_type(filename)[0] or said or "application/octet-stream"


def gpu_seconds(entry: Mapping[str, Any]) -> float | None:
    """How long the server worked on it, by its own clock; None where it does not say."""
    times: dict[str, float] = {}
    for kind, data in messages_of(entry):
        at: Any = data.get("timestamp")
        if isinstance(at, int | float):
            times[kind] = at / 1000
    if "execution_start" not in times or "execution_success" not in times:
        return None
    return max(0.0, round(times["execution_success"] - times["execution_start"], 3))


def picture_size(file: File) -> tuple[int, int]:
    """Width and height of a picture by its header; (0, 0): it is none, or unknown."""
    return size_of(next(file.pieces(_HEADER_BYTES), b""))
