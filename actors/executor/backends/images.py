"""OpenAI's pictures: `/images/generations`, and `/images/edits` when the call brings pictures along. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.completion import count
from actors.executor.backends.errors import as_object, complaint_in, failure, shorten
from actors.executor.backends.files import File
from actors.executor.backends.fold import Fold, Made
from actors.executor.backends.pictures import Picture, cards_of, decoded, picture_of
from actors.executor.backends.port import Answer, Artifact, BackendError, Call, Input, Step, prompt_of
from actors.executor.backends.sniff import ENDINGS, media_type_of, size_of
from messages.values import QUALITY_WORDS

EVENT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one event: a whole picture in base64."""
PREVIEW_BYTES: Final = 256 * 1024
"""A larger preview is left out: it travels in a message."""
HEADER_BYTES: Final = 256 * 1024
"""A JPEG may hold so much (a thumbnail, a colour profile) before it says its size."""
MOST: Final = 10
"""Pictures per request."""

_STANDARD: Final = frozenset({(1024, 1024), (1536, 1024), (1024, 1536)})
_REASONS: Final = ("finish_reason", "finishReason", "raiFilteredReason", "blockReason", "status")
_FILTERED: Final = re.compile(r"filter|safety|block|moderat|nsfw|policy|prohibit", re.IGNORECASE)
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
        data = decoded(found[2])
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


class Pictures(Fold[Made]):
    """One answer in the making: previews as steps, pictures as artifacts, and the places of those that lie elsewhere."""

    def __init__(self, model: str, *, wanted: int, partials: int, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(model, (), secrets=secrets)
        self._wanted, self._partials = wanted, partials
        self._made = 0
        self._whole = False  # It came as one answer, not as events.
        self._why = ""  # What is wrong with a picture that was left out.
        self._filtered: BackendError | None = None  # Why one was not made, in the server's words.
        self.places: list[str] = []
        """Where pictures lie that are still to be fetched, as the server says it."""

    @property
    def settled(self) -> bool:
        """A picture has come: it is kept, whatever happens to the others."""
        return bool(self._made or self.places)

    def take(self, event: bytes, *, cut: bool = False) -> Made:
        """What one event adds. Some servers answer with the picture itself."""
        if not self.done and not cut and media_type_of(event[:HEADER_BYTES]).startswith("image/"):
            self._whole = True
            return self._artifacts([Picture(data=event)])
        return super().take(event, cut=cut)

    def event(self, fields: dict[str, Any], data: bytes) -> Made:
        """What one event adds; unknown ones add nothing."""
        complaint = complaint_in(fields)
        if complaint is not None:
            body = shorten(data.decode("utf-8", "replace"), 4_000)
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))
        kind = str(fields.get("type") or "")
        if kind.endswith(".partial_image"):
            return (self._preview(fields),)
        if kind.endswith(".completed"):
            return self._artifacts([fields])
        cards = None if kind else cards_of(fields)
        if cards is not None:
            self._whole = True
            return self._artifacts(cards)
        if not kind:
            raise TypeError("the answer holds no data")
        return ()

    def told(self) -> Answer:
        """The end, once the pictures have come."""
        if not self.settled:
            if self._filtered is not None:
                raise self.annotate(self._filtered)
            if self._why:
                raise self.error("invalid_structure", self._why)
            if self._whole:
                raise self.error("empty", "the answer holds no picture")
            raise self.error("cut_stream", "the answer broke off before the picture was complete")
        return Answer(text="", finish_reason="stop", model=self._model, usage=self.usage, remarks=tuple(self._remarks))

    def _preview(self, fields: Mapping[str, Any]) -> Step:
        number = (count(fields.get("partial_image_index")) or 0) + 1
        found = picture_of(fields)
        data = found.data if found is not None else b""
        return Step(
            stage="working",
            share=min(1.0, number / (self._partials + 1)),
            text=f"preview {number} of {max(number, self._partials)}",
            preview=data if len(data) <= PREVIEW_BYTES else b"",
        )

    def _artifacts(self, cards: Sequence[object]) -> tuple[Artifact, ...]:
        """Those that came; what is none is left out and told."""
        found: list[Artifact] = []
        for card in cards:
            picture = card if isinstance(card, Picture) else picture_of(card)
            if picture is None and (filtered := self._refused(card)):
                self._filtered = self._filtered or filtered
                self.remark("count", f"a picture was not made: {shorten(filtered.message, 200)}")
                continue
            if picture is not None and picture.place:
                self.places.append(picture.place)
                continue
            artifact = artifact_of(File(picture.data), self._made + 1) if picture is not None else None
            if artifact is None:
                self._why = "a picture is of no known kind" if picture else "a picture is neither base64 nor a place"
                self.remark("count", f"{self._why}, and was left out")
                continue
            self._made += 1
            found.append(artifact)
        self.done = self.done or self._made + len(self.places) >= self._wanted
        return tuple(found)

    def _refused(self, card: object) -> BackendError | None:
        """Why a card holds no picture, where it says it."""
        fields = as_object(card) or {}
        complaint = complaint_in(fields)
        if complaint is not None:
            body = shorten(msgspec.json.encode(fields).decode(), 4_000)
            return failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint)
        for name in _REASONS:
            said: Any = fields.get(name)
            if isinstance(said, str) and _FILTERED.search(said):
                return BackendError("empty", f"it was filtered ({shorten(said, 100)})", status=200)
        return None


def artifact_of(file: File, number: int) -> Artifact | None:
    """The `number`th picture as it is handed over; None when it is no picture that is known: the file is closed then."""
    kind = media_type_of(file.head)
    if not kind.startswith("image/"):
        file.close()
        return None
    width, height = size_of(next(file.pieces(HEADER_BYTES), b""))
    return Artifact(name=f"image-{number}{ENDINGS[kind]}", media_type=kind, file=file, width=width, height=height)
