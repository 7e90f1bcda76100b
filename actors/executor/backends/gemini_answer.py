"""Folds an answer of Gemini's generateContent together, event by event. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object, complaint_in, failure, redact
from actors.executor.backends.files import File
from actors.executor.backends.port import Answer, Artifact, BackendError, ErrorKind, FinishReason
from actors.executor.backends.sniff import ENDINGS, size_of
from actors.executor.backends.usage import Tally

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
_KNOWN: Final = frozenset({"candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"})


class GenerateFold:
    """One answer in the making. Raises BackendError with all that had come before."""

    def __init__(self, model: str, *, images: bool = False, secrets: tuple[str, ...] = ()) -> None:
        """`images`: pictures are asked for; an answer without one is a failure."""
        self._model = model
        self._images = images
        self._secrets = secrets
        self._texts: list[str] = []
        self._tools: list[dict[str, Any]] = []
        self._pictures: list[tuple[str, str]] = []
        self._tally = Tally()
        self._finish = ""
        self._why = ""
        self._blocked = ""
        self._chose = False
        self.done = False
        """Whoever reads the answer saw its end: it has no last event of its own."""

    def take(self, event: bytes) -> str:
        """The text that one event adds; may be empty. Thoughts are no text."""
        try:
            fields = as_object(msgspec.json.decode(event))
        except msgspec.DecodeError as error:
            raise self._broken(f"the answer is no JSON: {error}", event) from None
        if fields is None:
            raise self._broken("an event of the answer is no JSON object", event)
        complaint = complaint_in(fields)
        if complaint is not None:
            body = event.decode("utf-8", "replace")
            raise self.annotate(failure(200, body, {}, now=0.0, secrets=self._secrets, complaint=complaint))
        if not fields.keys() & _KNOWN:
            raise self._broken("an event of the answer holds nothing that is known", event)
        if isinstance(fields.get("modelVersion"), str) and fields["modelVersion"]:
            self._model = fields["modelVersion"]
        self._tally.hear(fields)
        feedback = as_object(fields.get("promptFeedback")) or {}
        self._blocked = str(feedback.get("blockReason") or self._blocked)
        candidates: Any = fields.get("candidates") or []
        if not isinstance(candidates, list):
            raise self._broken("candidates is no list", event)
        text = "".join(self._candidate(one, event) for one in cast("list[Any]", candidates)[:1])
        if text:
            self._texts.append(text)
        return text

    def artifacts(self) -> Iterator[Artifact]:
        """The pictures that came. Raises BackendError for one that is no base64."""
        for number, (media_type, data) in enumerate(self._pictures, 1):
            try:
                raw = base64.b64decode(data, validate=True)
            except (binascii.Error, ValueError):
                raise self._error("invalid_structure", "a picture of the answer is no base64") from None
            width, height = size_of(raw)
            name = f"image{number}{ENDINGS.get(media_type, '')}"
            yield Artifact(name=name, media_type=media_type, file=File(raw), width=width, height=height)

    def answer(self) -> Answer:
        """The whole answer, once it has ended."""
        made = bool(self._pictures) if self._images else bool(self._texts or self._tools)
        if self._blocked and not made:
            raise self._error("empty", f"the prompt was blocked: {self._blocked}")
        if not self._finish:
            if self._chose:
                raise self._error("cut_stream", "the answer broke off: no finish reason came")
            raise self._error("invalid_structure", "the answer holds no candidates")
        said = f"{self._finish}: {self._why}" if self._why else self._finish
        if self._finish in _MALFORMED:
            raise self._error("invalid_structure", f"the model's answer can't be used ({said})")
        if self._images and not made:
            words = "".join(self._texts)[:200]
            raise self._error("empty", f"no picture was made ({said})" + (f": {words}" if words else ""))
        if not made and self._finish not in {"STOP", "MAX_TOKENS"}:
            raise self._error("empty", f"nothing was answered ({said})")
        finish = _FINISH.get(self._finish, "")
        return Answer(
            text="".join(self._texts),
            finish_reason="tool_calls" if self._tools and finish == "stop" else finish,
            model=self._model,
            usage=self._tally.usage,
            tool_calls=tuple(self._tools),
        )

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the text and the usage that had come before it."""
        error.partial = "".join(self._texts)
        error.usage = self._tally.told
        return error

    def _candidate(self, item: object, event: bytes) -> str:
        candidate = as_object(item)
        if candidate is None:
            raise self._broken("a candidate is no object", event)
        self._chose = True
        self._finish = str(candidate.get("finishReason") or self._finish)
        self._why = str(candidate.get("finishMessage") or self._why)
        parts: Any = (as_object(candidate.get("content")) or {}).get("parts") or []
        if not isinstance(parts, list):
            raise self._broken("parts is no list", event)
        return "".join(self._part(as_object(part) or {}, event) for part in cast("list[Any]", parts))

    def _part(self, part: Mapping[str, Any], event: bytes) -> str:
        if part.get("thought"):
            return ""
        called, inline = as_object(part.get("functionCall")), as_object(part.get("inlineData"))
        if called is not None:
            self._tools.append(_call(called, part.get("thoughtSignature"), len(self._tools)))
        if inline is not None and self._images:
            self._pictures.append((str(inline.get("mimeType") or "image/png"), str(inline.get("data") or "")))
        text: Any = part.get("text") or ""
        if not isinstance(text, str):
            raise self._broken("a part's text is none", event)
        return text

    def _broken(self, message: str, event: bytes) -> BackendError:
        return self._error(
            "invalid_structure", message, redact(event[:4_000].decode("utf-8", "replace"), self._secrets)
        )

    def _error(self, kind: ErrorKind, message: str, body: str = "") -> BackendError:
        return self.annotate(BackendError(kind, message, status=200, body=body))


def _call(called: Mapping[str, Any], signature: object, number: int) -> dict[str, Any]:
    """A function call in OpenAI form; the signature stands where Google's own OpenAI interface has it."""
    arguments = msgspec.json.encode(called.get("args") or {}).decode()
    found: dict[str, Any] = {
        "id": str(called.get("id") or f"call_{number}"),
        "type": "function",
        "function": {"name": str(called.get("name") or ""), "arguments": arguments},
    }
    return {**found, "extra_content": {"google": {"thought_signature": signature}}} if signature else found
