"""Videos by Gemini's Interactions API: what is asked for, and what an interaction says. Pure."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.error_words import kind_of
from actors.executor.backends.errors import as_object, redact, shorten
from actors.executor.backends.errors import complaint_in as complaint_in_event
from actors.executor.backends.gemini_request import pictures_in, seed_of
from actors.executor.backends.port import BackendError, Call, ErrorKind, Usage, prompt_of
from actors.executor.backends.usage import usage_in

WORKING: Final = frozenset({"queued", "in_progress"})
"""States in which an interaction goes on by itself; every other one, known or not, is its last."""
LONGEST_SECONDS: Final = 15
SHORTEST_SECONDS: Final = 3

_INPUTS: Final = {"image": "image", "video": "video", "audio": "audio"}
_RESOLUTIONS: Final = ((360, "360p"), (720, "720p"), (1080, "1080p"))
# google.rpc.Code
_KIND_OF_CODE: Final[Mapping[str, ErrorKind]] = {
    "3": "bad_request", "4": "timeout", "5": "unknown_model", "7": "account", "8": "rate_limited", "9": "unknown_model",
    "14": "overloaded", "16": "account",
    "invalid_request": "bad_request", "invalid_argument": "bad_request", "deadline_exceeded": "timeout",
    "not_found": "unknown_model", "permission_denied": "account", "unauthenticated": "account",
    "rate_limit_exceeded": "rate_limited", "too_many_requests": "rate_limited", "quota_exceeded": "rate_limited",
    "resource_exhausted": "rate_limited", "unavailable": "overloaded",
}  # fmt: skip
_FILTERED: Final = re.compile(r"(?i)safety|block|prohibit|policy|filter")


class Video(msgspec.Struct, frozen=True, kw_only=True):
    """A video of an interaction: its bytes in base64, or where they are."""

    media_type: str
    data: str = ""
    uri: str = ""


def interaction_body(call: Call) -> dict[str, Any]:
    """The JSON body for a video. Raises BackendError when Gemini can't make it."""
    prompt = prompt_of(call)
    if call.negative_prompt:
        prompt = f"{prompt}\n\nLeave out: {call.negative_prompt}"
    given = [*_inputs(call)]
    content = [*given, *([{"type": "text", "text": prompt}] if prompt else [])]
    body: dict[str, Any] = {
        "model": call.model,
        "input": content,
        "response_format": {"type": "video", "delivery": "uri", **_shape(call)},
        "background": True,
    }
    config: dict[str, Any] = {}
    if not given:
        config["video_config"] = {"task": "text_to_video"}
    elif [part["type"] for part in given] == ["image"]:
        config["video_config"] = {"task": "image_to_video"}
    if call.seed is not None:
        config["seed"] = seed_of(call.seed)
    return {**body, "generation_config": config} if config else body


def _inputs(call: Call) -> Iterator[dict[str, Any]]:
    for one in call.inputs:
        kind = one.media_type.partition("/")[0]
        if _INPUTS.get(one.name, kind) != kind or one.name in {"mask", "end_image"} or kind not in _INPUTS:
            raise BackendError("unknown_model", f"inputs: Gemini's videos take no {one.name!r} ({one.media_type})")
        yield {"type": kind, "data": base64.b64encode(one.data).decode(), "mime_type": one.media_type}
    users = [message for message in call.messages if message.get("role") == "user"]
    for part in pictures_in(users[-1]) if users else []:
        if "inlineData" in part:
            yield {"type": "image", "data": part["inlineData"]["data"], "mime_type": part["inlineData"]["mimeType"]}
        else:
            yield {"type": "image", "uri": part["fileData"]["fileUri"], "mime_type": part["fileData"]["mimeType"]}


def _shape(call: Call) -> dict[str, str]:
    """Aspect ratio, resolution and length, as far as the job says them."""
    found: dict[str, str] = {}
    media = call.media
    if media.width and media.height:
        found["aspect_ratio"] = "16:9" if media.width >= media.height else "9:16"
        short = min(media.width, media.height)
        found["resolution"] = next((name for limit, name in _RESOLUTIONS if short <= limit), "4k")
    seconds = media.seconds or (media.frames / media.fps if media.frames and media.fps else 0.0)
    if seconds > LONGEST_SECONDS:
        raise BackendError("unknown_model", f"Gemini's videos last at most {LONGEST_SECONDS} s, not {seconds:g} s")
    if seconds > 0:
        found["duration"] = f"{max(SHORTEST_SECONDS, math.ceil(seconds))}s"
    return found


def videos_of(fields: Mapping[str, Any], *, secrets: tuple[str, ...] = ()) -> list[Video]:
    """The videos of an interaction that has ended, at least one. Raises BackendError for one that made none."""
    status, usage = str(fields.get("status") or ""), usage_of(fields)
    found: list[Video] = []
    words: list[str] = []
    for part in _outputs(fields):
        if part.get("type") == "video" and (part.get("data") or part.get("uri")):
            media_type = str(part.get("mime_type") or "video/mp4")
            found.append(Video(media_type=media_type, data=str(part.get("data") or ""), uri=str(part.get("uri") or "")))
        elif part.get("type") == "text":
            words.append(str(part.get("text") or ""))
    if status in {"completed", "incomplete"} and found:
        return found
    kind, why = _trouble(fields, status)
    said = shorten(redact(why or " ".join(words), secrets), 300)
    message = f"no video was made ({status or 'no status'})" + (f": {said}" if said else "")
    raise BackendError(kind, message, status=200, usage=usage)


def _trouble(fields: Mapping[str, Any], status: str) -> tuple[ErrorKind, str]:
    """Why an interaction made nothing: the kind of failure, and the server's words."""
    errors: Any = fields.get("errors")
    listed = [as_object(one) or {} for one in cast("list[Any]", errors)] if isinstance(errors, list) else []
    listed += [error for step in _steps(fields) if (error := as_object(step.get("error"))) is not None]
    message = next((str(error["message"]) for error in listed if error.get("message")), "")
    if not listed and (complaint := complaint_in_event(fields)) is not None:
        return kind_of(200, complaint), complaint.message
    if status in {"completed", "incomplete", "budget_exceeded"}:
        return "empty", message
    if status == "failed":
        code = next((str(error["code"]) for error in listed if error.get("code")), "")
        name = code.rpartition("/")[2].lower()
        if _FILTERED.search(name) or (name in {"", "3", "9"} and _FILTERED.search(message)):
            return "empty", message
        return _KIND_OF_CODE.get(name, "server_error"), message
    if status == "cancelled":
        return "server_error", message or "somebody cancelled it"
    return "invalid_structure", message


def _steps(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    steps: Any = fields.get("steps")
    return [as_object(step) or {} for step in cast("list[Any]", steps)] if isinstance(steps, list) else []


def _outputs(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the model made; steps may also hold what it was given."""
    for step in _steps(fields):
        content: Any = step.get("content")
        if step.get("type") == "model_output" and isinstance(content, list):
            yield from (as_object(part) or {} for part in cast("list[Any]", content))


def usage_of(fields: Mapping[str, Any]) -> Usage:
    """An interaction's usage."""
    return usage_in(fields) or Usage()
