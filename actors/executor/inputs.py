"""Files that a job brings along: decoded from the job itself, or fetched from the object store, and put into the call.

Keys in the object store begin with their tenant, and no job reads another tenant's. All are checked before any is sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final, cast

import msgspec

from actors.executor.backends import port, sniff
from actors.journal import Journal
from bus.objects import Damaged
from messages import Input, JobSubmit, token

SCHEME: Final = "object:"
"""What a URL of an image begins with that lies in the object store."""
PLACE: Final = "input:"
"""What stands in the place of a file, with its number among the job's inputs."""
MOST_BYTES: Final = 256 * 1024 * 1024
"""All files of one call together: they are in memory while it is sent."""
_READS: Final = 3
Messages = tuple[dict[str, Any], ...]
_SOUNDS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "image/heic"})
"""Those that models look at."""


class Unusable(ValueError):
    """A file that can't be used: the request is wrong, wherever it is sent."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


def placed(messages: Messages, submit: JobSubmit) -> Messages:
    """The conversation with a place for each file in the last message of the user, before its text; for jobs of text.

    Only marks stand there: whatever is left of them after the request was degraded `brought` fills. Pure.
    """
    if not submit.inputs:
        return messages
    parts = [_place(number, given) for number, given in enumerate(submit.inputs)]
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].get("role") != "user":
            continue
        content: Any = messages[at].get("content")
        alone = [{"type": "text", "text": content}] if content else []
        old = cast("list[Any]", content) if isinstance(content, list) else alone
        return (*messages[:at], {**messages[at], "content": [*parts, *old]}, *messages[at + 1 :])
    return (*messages, {"role": "user", "content": parts})


def _place(number: int, given: Input) -> dict[str, Any]:
    """A part of a message in OpenAI form that stands for a file."""
    mark = f"{PLACE}{number}"
    if given.media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": mark}}
    if sound := _SOUNDS.get(given.media_type):
        return {"type": "input_audio", "input_audio": {"data": mark, "format": sound}}
    return {"type": "file", "file": {"filename": given.name, "file_data": mark}}


async def brought(call: port.Call, submit: JobSubmit, journal: Journal, tenant: str) -> port.Call:
    """The call with every file that the job brings along, at its place in the messages or (media) as its inputs.

    Raises Unusable, and the bus's errors.
    """
    store = _Store(journal, tenant, submit.inputs)
    messages = tuple([await _message(message, place, store) for place, message in enumerate(call.messages)])
    inputs: tuple[port.Input, ...] = ()
    if call.asset != "text":
        inputs = tuple([await store.input(number) for number in range(len(submit.inputs))])
    return msgspec.structs.replace(call, messages=messages, inputs=inputs)


class _Store:
    """The object store as one call may read it, and the job's own files."""

    def __init__(self, journal: Journal, tenant: str, inputs: tuple[Input, ...]) -> None:
        self._journal, self._tenant, self._inputs = journal, tenant, inputs
        self._left = MOST_BYTES

    def _take(self, field: str, size: int) -> None:
        """Count bytes. Raises Unusable when they are too many."""
        self._left -= size
        if self._left < 0:
            raise Unusable(field, f"the job's files are more than {MOST_BYTES:,} bytes together")

    async def fetch(self, field: str, key: str) -> bytes:
        """A file by its key. Raises Unusable."""
        start = f"{token(self._tenant)}/"
        if not key.startswith(start):
            raise Unusable(field, f"the key {key!r} is not one of this tenant: its keys begin with {start}")
        for _ in range(_READS):
            size = 0
            try:
                found = await self._journal.open(key)
                if found is None:
                    why = f"there is no file {key!r} in the object store, or it is no longer kept: upload it again"
                    raise Unusable(field, why)
                size = found.size_bytes
                self._take(field, size)
                return b"".join([piece async for piece in found.pieces])
            except Damaged:  # Perhaps uploaded again while it was read: what is there now is whole.
                self._left += size
        raise Unusable(field, f"the file {key!r} in the object store is damaged: upload it again")

    async def input(self, number: int) -> port.Input:
        """A file that the job brings along. Raises Unusable."""
        given, field = self._inputs[number], f"inputs[{number}]"
        if given.key:
            data = await self.fetch(field, given.key)
        else:
            data = _decoded(given.data, field)
            self._take(field, len(data))
        if given.sha256 and hashlib.sha256(data).hexdigest() != given.sha256.lower():
            raise Unusable(field, "its digest is not the one that is given in sha256: upload it again")
        if not data:
            raise Unusable(field, f"the file {given.name!r} is empty")
        return port.Input(name=given.name, media_type=given.media_type, data=data)

    async def at(self, mark: object) -> port.Input | None:
        """The file that a mark stands for; None when it is none."""
        number = mark.removeprefix(PLACE) if isinstance(mark, str) and mark.startswith(PLACE) else ""
        return await self.input(int(number)) if number.isdecimal() and int(number) < len(self._inputs) else None


def _decoded(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unusable(field, f"its data is no base64: {error}") from None


async def _message(message: dict[str, Any], place: int, store: _Store) -> dict[str, Any]:
    """The message with its files at hand."""
    content: Any = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [
        await _part(cast("dict[str, Any]", part), f"messages[{place}].content[{number}]", store)
        if isinstance(part, dict)
        else cast("object", part)
        for number, part in enumerate(cast("list[Any]", content))
    ]
    return {**message, "content": parts}


async def _part(part: dict[str, Any], field: str, store: _Store) -> dict[str, Any]:
    """A part of a message in OpenAI form with its file, when it names one of ours."""
    if "image_url" in part:
        said = _object(part["image_url"]) or {"url": part["image_url"]}
        url = said.get("url")
        if isinstance(url, str) and url.startswith(SCHEME):
            return {**part, "image_url": {**said, "url": await _picture(url.removeprefix(SCHEME), field, store)}}
        if given := await store.at(url):
            return {**part, "image_url": {**said, "url": _data_url(given.media_type, given.data)}}
    sound, file = _object(part.get("input_audio")), _object(part.get("file"))
    if given := await store.at(sound.get("data")):
        return {**part, "input_audio": {**sound, "data": base64.b64encode(given.data).decode()}}
    if given := await store.at(file.get("file_data")):
        return {**part, "file": {**file, "file_data": _data_url(given.media_type, given.data)}}
    return part


async def _picture(key: str, field: str, store: _Store) -> str:
    data = await store.fetch(field, key)
    kind = sniff.media_type_of(data[:64])
    if kind not in _PICTURES:
        raise Unusable(field, f"the file {key!r} is no PNG, JPEG, WebP or GIF")
    return _data_url(kind, data)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
