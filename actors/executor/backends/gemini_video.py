"""Runs one interaction of Gemini's to its end: asks how far it is, fetches its videos, cancels what nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from actors.executor.backends.artifacts import collected, handed, kept
from actors.executor.backends.errors import as_object
from actors.executor.backends.files import File
from actors.executor.backends.gemini_interaction import WORKING, Video, interaction_body, usage_of, videos_of
from actors.executor.backends.parting import Parting
from actors.executor.backends.patience import patiently
from actors.executor.backends.pictures import decoded
from actors.executor.backends.port import Answer, Artifact, BackendError, Call, Item, Step
from actors.executor.backends.sniff import ENDINGS
from actors.executor.backends.wire import MEDIA_ANSWER_LIMIT, Wire

_HEADERS: Final = {"api-revision": "2026-05-20"}
"""Since then what a model makes stands in `steps`."""
_BRIEF: Final = {"include_input": "false"}


async def run_video(
    wire: Wire, parting: Parting, call: Call, place: str, poll_seconds: float
) -> AsyncGenerator[Item, None]:
    """Yield steps while it works, then its videos, then the answer. Closing it cancels the interaction.

    `place` is the path of all interactions.
    """

    async def cancel(begun: Mapping[str, Any]) -> None:
        if begun.get("id"):
            await wire.fetch(f"{_path(place, begun)}/cancel", {}, headers=_HEADERS)

    fields = begun = await _begun(wire, parting, place, interaction_body(call), cancel)
    path = _path(place, begun)
    ended = False
    try:
        while (status := fields.get("status")) in WORKING:
            if not fields.get("id"):
                raise BackendError("invalid_structure", f"{wire.name}: the interaction has no id", status=200)
            yield Step(stage="queued" if status == "queued" else "working")
            await asyncio.sleep(poll_seconds)
            fields = await patiently(lambda: _state(wire, path), poll_seconds)
        ended = True
    finally:
        if not ended:
            await parting.say(lambda: cancel(begun))
    videos = videos_of(fields, secrets=wire.secrets)

    async def fetch(numbered: tuple[int, Video]) -> Artifact:
        number, video = numbered
        file, media_type = await patiently(lambda: _file(wire, video), poll_seconds)
        return Artifact(name=f"video{number}{ENDINGS.get(media_type, '')}", media_type=media_type, file=file)

    with collected() as files:
        try:
            remarks = await kept(enumerate(videos, 1), fetch, files, "no video was made")
        except BackendError as error:
            error.usage = usage_of(fields)
            raise
    with handed(files) as made:
        for artifact in made:
            yield artifact
    model = str(fields.get("model") or call.model).removeprefix("models/")
    finish = "length" if fields.get("status") == "incomplete" else "stop"
    yield Answer(text="", finish_reason=finish, model=model, usage=usage_of(fields), remarks=remarks)


def _path(place: str, fields: Mapping[str, Any]) -> str:
    return f"{place}/{quote(str(fields.get('id') or ''), safe='')}"


async def _begun(
    wire: Wire,
    parting: Parting,
    place: str,
    body: Mapping[str, Any],
    cancel: Callable[[Mapping[str, Any]], Awaitable[None]],
) -> dict[str, Any]:
    """The interaction as it begins; where working in the background is refused, as it ends."""

    async def ask(asked: Mapping[str, Any]) -> dict[str, Any]:
        return _interaction(wire, await wire.fetch(place, asked, headers=_HEADERS, limit=MEDIA_ANSWER_LIMIT))

    try:
        return await parting.begin(lambda: ask(body), cancel)
    except BackendError as error:
        if error.status != 400 or "background" not in error.body:
            raise
    # What is answered by its end is stopped by its connection's.
    return await ask({name: value for name, value in body.items() if name != "background"})


async def _state(wire: Wire, path: str) -> dict[str, Any]:
    try:
        return _interaction(wire, await wire.fetch(path, headers=_HEADERS, params=_BRIEF, limit=MEDIA_ANSWER_LIMIT))
    except BackendError as error:
        if error.status != 404:
            raise
        message = f"{wire.name}: the interaction is gone before it ended"
        raise BackendError("server_error", message, status=404, body=error.body, should_retry=True) from error


def _interaction(wire: Wire, answered: object) -> dict[str, Any]:
    fields = as_object(answered)
    if fields is None or not isinstance(fields.get("status"), str):
        raise BackendError("invalid_structure", f"{wire.name}: the interaction has no status", status=200)
    return fields


async def _file(wire: Wire, video: Video) -> tuple[File, str]:
    """A video and its media type. The key goes along to the backend's own host alone."""
    if video.data:
        data = decoded(video.data)
        if data is None:
            raise BackendError("invalid_structure", f"{wire.name}: the video is no base64", status=200)
        return File(data), video.media_type
    if not video.uri.startswith(("https://", f"{wire.base_url}/")):
        raise BackendError("invalid_structure", f"{wire.name}: the video is at no https: address", status=200)
    file, media_type = await wire.download(video.uri)
    return file, media_type if media_type.startswith("video/") else video.media_type
