"""Pictures as servers send them: base64 in any spelling, `data:` URLs, or the place where they lie. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

import msgspec

from actors.executor.backends.errors import as_object
from actors.executor.backends.sniff import media_type_of

_DATA: Final = re.compile(r"\s*data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/]*={0,3}")
_HELD: Final = (
    "b64_json",
    "b64",
    "base64",
    "image_base64",
    "data",
    "image",
    "image_data",
    "result",
    "content",
    "bytesBase64Encoded",
)
"""Names under which cards hold the picture itself."""
_PLACES: Final = ("url", "image_url", "uri", "fileUri", "file_url", "link")
"""Names under which they say where it lies."""
_LISTS: Final = (
    "data",
    "images",
    "artifacts",
    "output",
    "outputs",
    "predictions",
    "results",
    "result",
    "response",
    "choices",
    "message",
    "image_urls",
    "urls",
)
"""Names under which an answer lists its cards, or holds the one."""
_QUOTED: Final = re.compile(r"b?(['\"])(.*)\1", re.DOTALL)
_LINE_ENDS: Final = re.compile(r"\\[rn]")
_DEPTH: Final = 4
_PLACE: Final = re.compile(r"(?:https?://|/(?!/))\S+", re.IGNORECASE)


class Picture(msgspec.Struct, frozen=True):
    """A file that an answer tells of: its bytes, or its place."""

    data: bytes = b""
    place: str = ""
    """An address, or a path on the server."""
    media_type: str = ""
    """As a `data:` URL calls it; empty: nobody says."""


def decoded(text: str) -> bytes | None:
    """The bytes of base64, with or without `data:` before it, line breaks, padding, in the alphabet for URLs too; None: it is
    none.
    """
    if quoted := _QUOTED.fullmatch(text.strip()):  # As Python writes bytes.
        text = quoted[2]
    head = _DATA.match(text)
    if head is not None:
        text = text[head.end() :]
        if "base64" not in head[2].lower():
            return unquote_to_bytes(text)
    plain = _SPACE.sub("", _LINE_ENDS.sub("", text) if "\\" in text else text)
    if "%" in plain:
        plain = unquote_to_bytes(plain).decode("ascii", "replace")
    plain = plain.replace("-", "+").replace("_", "/")
    if not plain or _ENCODED.fullmatch(plain) is None:
        return None
    plain = plain.rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def told_in(text: str) -> Picture | None:
    """The picture that a text is, or where it lies; None: neither."""
    text = text.strip()
    if not text:
        return None
    head = _DATA.match(text)
    if head is None and text.lower().startswith(("http://", "https://")):
        return Picture(place=text) if _PLACE.fullmatch(text) else None
    data = decoded(text)
    if data:
        return Picture(data=data, media_type=head[1].lower() if head else "")
    return Picture(place=text) if head is None and _PLACE.fullmatch(text) else None


def cards_of(fields: Mapping[str, Any], depth: int = _DEPTH) -> list[Any] | None:
    """The cards of an answer, wherever they stand in it: in lists, or the one that there is; None: there is none."""
    for name in _LISTS:
        value: Any = fields.get(name)
        if isinstance(value, list):
            return [card for item in cast("list[Any]", value) for card in _cards(item, depth)]
        if as_object(value) is not None:
            return _cards(value, depth)
        if isinstance(value, str) and told_in(value) is not None:
            return [value]
    return [fields] if picture_of(fields) is not None else None


def _cards(item: object, depth: int) -> list[Any]:
    """An item of a list, or the cards that stand in it."""
    if isinstance(item, list) and depth:
        return [card for inner in cast("list[Any]", item) for card in _cards(inner, depth - 1)]
    fields = as_object(cast("Any", item))
    if fields is None or not depth or picture_of(fields) is not None:
        return [item]
    found = cards_of(fields, depth - 1)
    return [item] if found is None else found


def picture_of(card: object) -> Picture | None:
    """The picture that a card of an answer holds or points to, its bytes before its place; None: it holds none."""
    if isinstance(card, str):
        return told_in(card)
    fields = as_object(card)
    if fields is None:
        return None
    found = [_told(fields, name) for name in (*_HELD, *_PLACES)]
    held = [one for one in found if one is not None]
    return next((one for one in held if one.data), held[0] if held else None)


def _told(fields: Mapping[str, Any], name: str) -> Picture | None:
    value = _only(fields.get(name))
    inner = as_object(value)
    if inner is not None:
        return picture_of(inner)
    found = told_in(value) if isinstance(value, str) else None
    if (
        found is not None
        and name in _PLACES
        and not found.place
        and not found.media_type
        and not media_type_of(found.data)
    ):
        return None  # A broken address may be base64 by chance.
    return found


def _only(value: Any) -> Any:
    """The one item of a list; everything else as it is."""
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    return listed[0] if len(listed) == 1 else cast("Any", value)
