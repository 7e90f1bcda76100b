"""Folds an answer of Gemini's generateContent together, event by event. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from actors.executor.backends.errors import as_object, complaint_in, failure
from actors.executor.backends.files import File
from actors.executor.backends.fold import Fold, list_in, named, object_in, text_in
from actors.executor.backends.pictures import decoded
from actors.executor.backends.port import Answer, Artifact, FinishReason
from actors.executor.backends.sniff import ENDINGS, media_type_of, size_of

_FINISH: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
"""Others (OTHER, IMAGE_OTHER, NO_IMAGE, and those to come) tell nothing that we have a word for."""
_MALFORMED: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
    }
)
_KNOWN: Final = frozenset(
    {"candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId", "prompt_feedback", "usage_metadata"}
)
_HUMP: Final = re.compile(r"(?=[A-Z])")


class GenerateFold(Fold[str]):
    """One answer in the making. Raises BackendError with all that had come before.

    It has no last event of its own: it is over when the stream is.
    """

    def __init__(self, model: str, *, images: bool = False, secrets: tuple[str, ...] = ()) -> None:
        """`images`: pictures are asked for; an answer without one is a failure."""
        super().__init__(model, "", secrets=secrets)
        self._images = images
        self._calls: list[dict[str, Any]] = []
        self._pictures: list[tuple[str, bytes]] = []
        self._finish = ""
        self._why = ""
        self._blocked = ""
        self._chose = False
        self._lost = False  # A picture that came could not be read.

    @property
    def settled(self) -> bool:
        """It has told its finish reason."""
        return bool(self._finish)

    def stopped(self) -> bool:
        """Whether it ended by itself and calls no tools."""
        return not self._calls and self._finish in {"STOP", ""}

    def event(self, fields: dict[str, Any], data: bytes) -> str:
        """The text that one event adds; may be empty. Thoughts are no text."""
        complaint = complaint_in(fields)
        if complaint is not None:
            body = data.decode("utf-8", "replace")
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))
        if not fields.keys() & _KNOWN:
            raise TypeError("it holds nothing that is known")
        self._model = named({"model": _said(fields, "modelVersion")}, "model", self._model)
        feedback = as_object(_said(fields, "promptFeedback")) or {}
        self._blocked = str(_said(feedback, "blockReason") or self._blocked)
        candidates = list_in(fields.get("candidates") or [], "candidates")
        return "".join(self._candidate(one) for one in candidates[:1])

    def artifacts(self) -> Iterator[Artifact]:
        """The pictures that came."""
        for number, (told, raw) in enumerate(self._pictures, 1):
            media_type = media_type_of(raw[:64]) or told
            width, height = size_of(raw)
            name = f"image{number}{ENDINGS.get(media_type, '')}"
            yield Artifact(name=name, media_type=media_type, file=File(raw), width=width, height=height)

    def told(self) -> Answer:
        """The whole answer, once it has ended."""
        text = self._texts.text
        made = bool(self._pictures) if self._images else bool(text or self._texts.reasoning or self._calls)
        if self._blocked and not made:
            raise self.error("empty", f"the prompt was blocked: {self._blocked}")
        if not self._finish:
            if self._chose:
                raise self.error("cut_stream", "the answer broke off: no finish reason came")
            raise self.error("invalid_structure", "the answer holds no candidates")
        said = f"{self._finish}: {self._why}" if self._why else self._finish
        if self._finish in _MALFORMED:
            raise self.error("invalid_structure", f"the model's answer can't be used ({said})")
        if self._images and not made and self._lost:
            raise self.error("invalid_structure", "a picture of the answer is no base64")
        if self._images and not made:
            words = text[:200]
            raise self.error("empty", f"no picture was made ({said})" + (f": {words}" if words else ""))
        if not made and self._finish not in {"STOP", "MAX_TOKENS"}:
            raise self.error("empty", f"nothing was answered ({said})")
        finish = _FINISH.get(self._finish, "")
        return Answer(
            text=text,
            finish_reason="tool_calls" if self._calls and finish == "stop" else finish,
            model=self._model,
            usage=self.usage,
            tool_calls=tuple(self._calls),
            reasoning=self._texts.reasoning,
            carried=tuple(self._carried),
            remarks=tuple(self._remarks),
        )

    def _candidate(self, item: object) -> str:
        candidate = object_in(item, "a candidate")
        self._chose = True
        parts = list_in((as_object(candidate.get("content")) or {}).get("parts") or [], "parts")
        text = "".join(self._part(as_object(part) or {}) for part in parts)
        self._finish = str(_said(candidate, "finishReason") or self._finish)
        self._why = str(_said(candidate, "finishMessage") or self._why)
        return text

    def _part(self, part: Mapping[str, Any]) -> str:
        text = text_in(part.get("text"), "a part's text")
        called, inline = as_object(_said(part, "functionCall")), as_object(_said(part, "inlineData"))
        signature = _said(part, "thoughtSignature")
        if signature and called is None:
            self._carried.append(dict(part))
        if part.get("thought"):
            self._texts.think(text)
            return ""
        if called is not None:
            call = _call(called, signature, len(self._calls))
            if not (called.get("id") and call in self._calls):  # Told twice.
                self._calls.append(call)
        if inline is not None and not self._images:
            self.remark("count", "a file came along that was not asked for, and was left out")
        elif inline is not None:
            raw = decoded(str(inline.get("data") or ""))
            if raw is None:
                self._lost = True
                self.remark("count", "a picture that came is no base64, and was left out")
            else:
                self._pictures.append((str(_said(inline, "mimeType") or "image/png"), raw))
        return self._texts.add(text)


def _said(fields: Mapping[str, Any], name: str) -> Any:
    """A field by its name in JSON, or as the protocol's own definition writes it, which proxies send: both are Google's."""
    value: Any = fields.get(name)
    return fields.get(_HUMP.sub("_", name).lower()) if value is None else value


def _call(called: Mapping[str, Any], signature: object, number: int) -> dict[str, Any]:
    """A function call in OpenAI form; the signature stands where Google's own OpenAI interface has it."""
    arguments = msgspec.json.encode(called.get("args") or {}).decode()
    found: dict[str, Any] = {
        "id": str(called.get("id") or f"call_{number}"),
        "type": "function",
        "function": {"name": str(called.get("name") or ""), "arguments": arguments},
    }
    return {**found, "extra_content": {"google": {"thought_signature": signature}}} if signature else found
