"""OpenAI's pictures: `/images/generations`, and `/images/edits` when the call brings pictures along. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.completion import DONE, count
from actors.executor.backends.errors import as_object, complaint_in, failure, shorten
from actors.executor.backends.files import File
from actors.executor.backends.port import Answer, Artifact, BackendError, Call, Input, Step, prompt_of
from actors.executor.backends.sniff import ENDINGS, media_type_of, size_of
from actors.executor.backends.usage import Tally
from messages.values import QUALITY_WORDS

EVENT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one event: a whole picture in base64."""
PREVIEW_BYTES: Final = 256 * 1024
"""A larger preview is left out: it travels in a message."""
MOST: Final = 10
"""Pictures per request."""

_STANDARD: Final = frozenset({(1024, 1024), (1536, 1024), (1024, 1536)})
_DATA_URL: Final = re.compile(r"data:(image/[\w.+-]+);base64,(.*)", re.DOTALL)


def request_fields(call: Call, *, own: bool, partials: int) -> dict[str, Any]:
    """What is asked for, without the pictures that the call brings along.

    `own` are OpenAI's own models, which always answer in base64; `partials` is how many previews they are to send. Raises
    BackendError for what can't be made here.
    """
    prompt = prompt_of(call)
    if call.negative_prompt:
        prompt = f"{prompt}\n\nLeave out: {call.negative_prompt}"
    wanted = max(1, call.media.images)
    if wanted > MOST:
        raise BackendError("unknown_model", f"{wanted} pictures are asked for, and at most {MOST} are made at once")
    fields: dict[str, Any] = {"model": call.model, "prompt": prompt, "n": wanted}
    width, height = call.media.width, call.media.height
    if width and height:
        if own:
            check_size(call.model, width, height)
        fields["size"] = f"{width}x{height}"
    if not own:
        return {**fields, "response_format": "b64_json"}
    fields["quality"] = QUALITY_WORDS[call.quality]
    if wanted == 1:
        fields |= {"stream": True, "partial_images": partials}
    return fields


def check_size(model: str, width: int, height: int) -> None:
    """Raise BackendError for a size in which OpenAI's model makes no pictures."""
    if (width, height) in _STANDARD:
        return
    what = f"{model} makes no picture of {width}x{height}"
    if not re.match(r"gpt-image-(?:[2-9]|\d\d)", model):
        raise BackendError("unknown_model", f"{what}: use 1024x1024, 1536x1024 or 1024x1536")
    long, short = max(width, height), min(width, height)
    if width % 16 or height % 16 or long > 3 * short or long > 3840 or short > 2160:
        rule = "both sides must be multiples of 16, at most 3840x2160, and none longer than three times the other"
        raise BackendError("unknown_model", f"{what}: {rule}")


def pictures_of(call: Call) -> list[Input]:
    """The pictures that the call brings along: its inputs, and those in the user's last message."""
    strange = [given.name for given in call.inputs if not given.media_type.startswith("image/")]
    if strange:
        raise BackendError("unknown_model", f"inputs: {strange[0]!r} is no picture, and nothing else is taken")
    return [*call.inputs, *_inline(call)]


def _inline(call: Call) -> Iterator[Input]:
    users = [message for message in call.messages if message.get("role") == "user"]
    content: Any = users[-1].get("content") if users else None
    for item in cast("list[Any]", content) if isinstance(content, list) else []:
        part = as_object(item) or {}
        if part.get("type") != "image_url":
            continue
        image: Any = part.get("image_url")
        found = _DATA_URL.fullmatch(str((as_object(image) or {"url": image}).get("url")))
        if found is None:
            raise BackendError("unknown_model", "pictures to edit are taken only as data: URLs in base64")
        data = _decoded(found[2])
        if data is None:
            raise BackendError("bad_request", "messages: a picture is no base64")
        yield Input(name="image", media_type=found[1], data=data)


def form(fields: Mapping[str, Any], pictures: Sequence[Input]) -> tuple[bytes, str]:
    """The same as a form with files, and its content type. The boundary is a digest of what it parts."""
    images = [given for given in pictures if given.name != "mask"]
    files = [("image" if len(images) == 1 else "image[]", given) for given in images]
    files += [("mask", given) for given in pictures if given.name == "mask"]
    plain = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode() for name, value in fields.items()
    }
    digest = hashlib.sha256(msgspec.json.encode(plain))
    for _, given in files:
        digest.update(given.data)
    boundary = digest.hexdigest()
    pieces = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in plain.items()
    ]
    for number, (name, given) in enumerate(files):
        file_name = f"{number}.{given.media_type.removeprefix('image/')}"
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"; filename="{file_name}"\r\n'
        pieces += [f"{head}content-type: {given.media_type}\r\n\r\n".encode(), given.data, b"\r\n"]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


class Pictures:
    """One answer in the making: previews as steps, pictures as artifacts. Raises BackendError."""

    def __init__(self, model: str, *, wanted: int, partials: int, secrets: tuple[str, ...] = ()) -> None:
        self._model, self._wanted, self._partials, self._secrets = model, wanted, partials, secrets
        self._made = 0
        self._whole = False  # It came as one answer, not as events.
        self._tally = Tally()
        self.done = False
        """Its last event has come."""

    def take(self, event: bytes) -> tuple[Step | Artifact, ...]:
        """What one event adds; unknown ones add nothing."""
        if self.done or event.strip() == DONE:
            self.done = True
            return ()
        try:
            fields = as_object(msgspec.json.decode(event))
        except msgspec.DecodeError as error:
            raise self._broken(f"the answer is no JSON: {error}") from None
        if fields is None:
            raise self._broken("an event of the answer is no JSON object")
        complaint = complaint_in(fields)
        if complaint is not None:
            body = shorten(event.decode("utf-8", "replace"), 4_000)
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))
        self._tally.hear(fields)
        kind = str(fields.get("type") or "")
        if kind.endswith(".partial_image"):
            return (self._preview(fields),)
        if kind.endswith(".completed"):
            return self._artifacts([fields])
        if "data" in fields and not kind:
            self._whole = True
            cards: Any = fields["data"]
            if not isinstance(cards, list):
                raise self._broken("data is no list")
            return self._artifacts([as_object(card) or {} for card in cast("list[Any]", cards)])
        if not kind:
            raise self._broken("the answer holds no data")
        return ()

    def answer(self) -> Answer:
        """The end, once the pictures have come."""
        if not self._made:
            if self._whole:
                raise self.annotate(BackendError("empty", "the answer holds no picture", status=200))
            message = "the answer broke off before the picture was complete"
            raise self.annotate(BackendError("cut_stream", message, status=200))
        return Answer(text="", finish_reason="stop", model=self._model, usage=self._tally.usage)

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the usage that had come before it."""
        error.usage = self._tally.told
        return error

    def _preview(self, fields: Mapping[str, Any]) -> Step:
        number = (count(fields.get("partial_image_index")) or 0) + 1
        data = self._picture(fields)
        return Step(
            stage="working",
            share=min(1.0, number / (self._partials + 1)),
            text=f"preview {number} of {max(number, self._partials)}",
            preview=data if len(data) <= PREVIEW_BYTES else b"",
        )

    def _artifacts(self, cards: Sequence[Mapping[str, Any]]) -> tuple[Artifact, ...]:
        pictures = [self._picture(card) for card in cards]
        kinds = [media_type_of(data[:64]) for data in pictures]
        if not all(kind.startswith("image/") for kind in kinds):
            raise self._broken("a picture is of no known kind")
        first = self._made + 1
        self._made += len(pictures)
        self.done = self.done or self._made >= self._wanted
        found: list[Artifact] = []
        for number, (data, kind) in enumerate(zip(pictures, kinds, strict=True), first):
            width, height = size_of(data)
            name = f"image-{number}{ENDINGS[kind]}"
            found.append(Artifact(name=name, media_type=kind, file=File(data), width=width, height=height))
        return tuple(found)

    def _picture(self, card: Mapping[str, Any]) -> bytes:
        data: Any = card.get("b64_json")
        if not isinstance(data, str) or not data:
            raise self._broken("a picture does not come as base64")
        picture = _decoded(data)
        if picture is None:
            raise self._broken("a picture is no base64")
        return picture

    def _broken(self, message: str) -> BackendError:
        return self.annotate(BackendError("invalid_structure", message, status=200))


def _decoded(text: str) -> bytes | None:
    """The bytes of base64, or None when it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
