"""Files that ComfyUI made, as its history lists them, and what they are. Pure."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Mapping
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
    """The files of an entry of the history, each once, in its order; those that are kept, or else the temporary ones."""
    found: dict[Output, None] = {}
    for node in (as_object(entry.get("outputs")) or {}).values():
        for several in (as_object(node) or {}).values():
            for item in cast("list[Any]", several) if isinstance(several, list) else []:
                file = as_object(item) or {}
                if isinstance(file.get("filename"), str) and file["filename"]:
                    kind = str(file.get("type") or "output")
                    found[Output(file["filename"], str(file.get("subfolder") or ""), kind)] = None
    kept = tuple(output for output in found if output.type != "temp")
    return kept or tuple(found)


def texts_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of an entry of the history."""
    found: list[str] = []
    for node in (as_object(entry.get("outputs")) or {}).values():
        texts: Any = (as_object(node) or {}).get("text")
        found += [text for text in _strings(texts) if text]
    return tuple(found)


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


def _strings(value: object) -> Iterable[str]:
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
