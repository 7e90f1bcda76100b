"""Whether the files that were made are what the job asked for: their kind, their number, their size. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from actors.executor.backends import port
from messages import Artifact, Check, JobSubmit, Problem, Work
from messages.values import Asset

SLACK_PIXELS: Final = 64
"""Models round sizes to multiples of 8 to 64 pixels; a difference below this is no other size."""
_KINDS: Final[dict[Asset, tuple[str, ...]]] = {
    "image": ("image/",),
    "video": ("video/", "image/gif", "image/webp", "image/apng"),
    "audio": ("audio/", "video/mp4", "video/webm", "application/ogg"),
}
"""Media types that are of an asset's kind: moving pictures are videos too, and sound comes in the containers of videos."""
_TELLING: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Types whose files always begin alike."""


class Made(msgspec.Struct, frozen=True):
    """A file that was made, as it was called and as it is."""

    artifact: Artifact
    """Its media type is that of its own bytes, where these tell."""
    declared: str
    """The media type that the backend called it."""
    sniffed: str
    """The one that its first bytes tell; empty: none."""
    head: bytes = b""
    """Its first bytes."""


def is_of(asset: Asset, media_type: str) -> bool:
    """Whether a file of this type is what is made for the asset."""
    return media_type.startswith(_KINDS.get(asset, ()))


def files_fault(made: Sequence[Made], work: Work, submit: JobSubmit, answer: port.Answer) -> Problem | None:
    """What is wrong in earnest: nothing of the kind was made, or it is no such file at all.

    A graph of the job's own makes what its nodes make: another kind than the job's own word is the graph's fault everywhere,
    and where the job says nothing of it there is no other kind.
    """
    asset = work.slip.needs.asset
    for one in made:
        if why := _is_no_file(one):
            text = f"{work.backend}: {one.artifact.name} is called {one.declared}, but {why}"
            body = one.head.decode("utf-8", "replace")
            return Problem(reason="invalid_structure", field=one.artifact.name[:200], message=text, body=body)
    if any(is_of(asset, one.artifact.ref.media_type) for one in made):
        return None
    kinds = sorted({one.artifact.ref.media_type for one in made})
    if submit.graph is not None and (made or answer.text.strip()):
        if not submit.asset:
            return None
        there = ", ".join(kinds[:5]) or "a text"
        text = f"the graph makes {there}, not the {asset} that was asked for; leave asset out, or save {asset} in the graph"
        return Problem(reason="bad_request", field="asset", message=text)
    others = ", ".join(kinds[:5])
    ended = f" (finish reason {answer.finish_reason!r})" if answer.finish_reason else ""
    text = f"{work.backend} made no {asset}" + (f", but {others}" if others else "") + ended
    # A recipe that makes something else than it says does so for every job: nobody is ill.
    other = bool(submit.recipe and (made or answer.text.strip()))
    return Problem(reason="unknown_model" if other else "empty", message=text)


def _is_no_file(one: Made) -> str:
    """Why it can't be what it is called; empty when it can."""
    if not one.artifact.ref.size_bytes:
        return "it is empty"
    if one.sniffed:
        return ""
    if one.declared in _TELLING or (one.declared.startswith(("image/", "video/", "audio/")) and _is_text(one.head)):
        return "its bytes are something else"
    return ""


def _is_text(head: bytes) -> bool:
    """A page or an error in place of a file. Pictures in SVG are text too, and begin as such."""
    start = head.lstrip()
    return start.startswith((b"{", b"[", b"<")) and not start.startswith((b"<svg", b"<?xml"))


def files_remarks(made: Sequence[Made], work: Work, submit: JobSubmit) -> Iterator[Check]:
    """What differs from what the job itself asked for and can be used all the same, each once however many files it is true of.

    Sizes and numbers that a quality level, a recipe or a graph brought along are nobody's word.
    """
    needs = work.slip.needs
    if needs.asset in ("text", "embedding"):
        return
    own = [one for one in made if is_of(needs.asset, one.artifact.ref.media_type)]
    if needs.asset == "image" and len(own) < (submit.count or 0):
        yield _told("count", f"{len(own)} of the {submit.count} images that were asked for")
    called: dict[tuple[str, str], list[Made]] = {}
    sized: dict[tuple[int, int], list[Made]] = {}
    for one in own:
        if one.sniffed and one.declared != one.sniffed and not _alike(one.declared, one.sniffed):
            called.setdefault((one.declared, one.sniffed), []).append(one)
        if _is_other_size(one.artifact, submit):
            sized.setdefault((one.artifact.width, one.artifact.height), []).append(one)
    for (declared, sniffed), several in called.items():
        yield _told("media_type", f"{_named(several, own)} called {declared or 'nothing'}, but {sniffed} by the bytes")
    wanted = f"{submit.width or 'any width'} x {submit.height or 'any height'}"
    for (width, height), several in sized.items():
        yield _told("size", f"{_named(several, own)} {width} x {height}; {wanted} was asked for")


def _is_other_size(it: Artifact, submit: JobSubmit) -> bool:
    sides = ((it.width, submit.width), (it.height, submit.height))
    return any(there and asked and abs(there - asked) >= SLACK_PIXELS for there, asked in sides)


def _named(several: Sequence[Made], of: Sequence[Made]) -> str:
    first = several[0].artifact.name
    return f"{first} is" if len(several) == 1 else f"{len(several)} of {len(of)} files ({first} first) are"


def _alike(declared: str, sniffed: str) -> bool:
    """Different names of one container: no bytes tell `audio/mp4` from `video/mp4`, nor Matroska from WebM."""
    containers = ("video/mp4", "audio/mp4", "video/quicktime", "audio/x-m4a", "audio/aac")
    matroska = ("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska")
    others = ("audio/ogg", "video/ogg", "application/ogg", "audio/opus")
    waves = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
    mpeg = ("audio/mpeg", "audio/mp3")
    pictures = ("image/jpeg", "image/jpg")
    return any(declared in same and sniffed in same for same in (containers, matroska, others, waves, mpeg, pictures))


def _told(name: str, message: str) -> Check:
    return Check(name=name, verdict="soft_fail", message=message)
