"""Files to and from a ComfyUI server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from actors.executor.backends.comfyui_files import Output, media_type, picture_size
from actors.executor.backends.errors import as_object
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import Artifact, BackendError, Input
from actors.executor.backends.sniff import ENDINGS
from actors.executor.backends.wire import Wire
from actors.executor.recipes.recipe import Literals

_DOWNLOADS: Final = 3
_SUBFOLDER: Final = "turnout"


async def upload(wire: Wire, file: Input) -> str:
    """How the server calls the file. Named by its content, so that it lies there once. Raises BackendError."""
    ending = ENDINGS.get(file.media_type, ".bin")
    name = hashlib.sha256(file.data).hexdigest()[:32] + ending
    fields = {"type": "input", "subfolder": _SUBFOLDER, "overwrite": "true"}
    files = {"image": (name, file.data, file.media_type)}
    async with wire.exchange("POST", "upload/image", files=files, fields=fields) as reply:
        data = await reply.read_all()
    try:
        answer = as_object(value_of(data)) or {}
    except NotJson:
        answer = {}
    if not isinstance(answer.get("name"), str):
        raise BackendError("invalid_structure", f"{wire.name}/upload/image: no name in the answer", status=200)
    folder = str(answer.get("subfolder") or "")
    return f"{folder}/{answer['name']}" if folder else answer["name"]


async def artifact(wire: Wire, output: Output, values: Mapping[str, Literals]) -> Artifact:
    """The file from the server. Of a video the size and length are what the recipe was filled with. Raises BackendError."""
    for left in reversed(range(_DOWNLOADS)):
        try:
            file, said = await wire.download("view", params=output.params)
            break
        except BackendError as error:
            if error.status == 404:
                message = f"{wire.name}: {output.filename} is gone from the server's disk"
                raise BackendError("server_error", message, status=404) from error
            if error.kind != "cut_stream" or not left:
                raise
    else:  # The last turn returns or raises.
        raise AssertionError
    kind = media_type(said, file.head, output.filename)
    if kind.startswith("image/"):
        width, height = picture_size(file)
        return Artifact(name=output.name, media_type=kind, file=file, width=width, height=height)
    width, height = (int(values.get(name, 0)) for name in ("width", "height"))
    frames, rate = float(values.get("frames", 0)), float(values.get("fps", 0))
    seconds = round(frames / rate, 3) if rate else 0.0
    return Artifact(name=output.name, media_type=kind, file=file, width=width, height=height, seconds=seconds)
