"""A call in the form of Gemini's generateContent. Pure."""

from __future__ import annotations

import base64
import math
import mimetypes
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from actors.executor.backends.errors import as_object
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import BackendError, Call, Input

_NAME: Final = re.compile(r"(?:models/)?gemini-(?P<major>\d+)(?:\.(?P<minor>\d+))?(?:-.*)?")
_FIRST_UNSAMPLED: Final = (
    3,
    5,
)  # The flash models from here on take no sampling parameters; of later ones nothing is known.
_FIRST_SIGNED: Final = (3, 0)
_MOST_STOPS: Final = 5
# Where Gemini 3 expects the signature of a thought that another model had; its documentation gives this word for it.
_FOREIGN_THOUGHT: Final = "skip_thought_signature_validator"

_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_LONG_RATIOS: Final = ("1:4", "4:1", "1:8", "8:1")
_LONG: Final = re.compile(r"(?:models/)?gemini-3\.1-flash-image")
"""The model that is known to make long strips, and pictures of half the usual size."""


def model_version(model: str) -> tuple[int, int] | None:
    """Major and minor version in the name of a Gemini model; None for other names (Gemma, nano-banana)."""
    found = _NAME.fullmatch(model)
    return (int(found["major"]), int(found["minor"] or 0)) if found else None


def takes_sampling(model: str) -> bool:
    """Whether the model is known to take `temperature` and `seed`."""
    version = model_version(model)
    return version < _FIRST_UNSAMPLED if version is not None else "gemma" in model


def seed_of(seed: int) -> int:
    """The seed as Gemini takes it, which has 32 bits for it; ComfyUI's have 64."""
    return seed if -(1 << 31) <= seed < 1 << 31 else seed & 0x7FFF_FFFF


def generate_body(call: Call) -> dict[str, Any]:
    """The JSON body for a text or a picture. Raises BackendError when Gemini can't take it."""
    if call.asset not in {"text", "image"}:
        raise BackendError("unknown_model", f"generateContent makes texts and pictures, not {call.asset}")
    system, contents = _conversation(call)
    config: dict[str, Any] = {}
    if call.asset == "image":
        _add_inputs(contents, call)
        config["responseModalities"] = ["TEXT", "IMAGE"]
        shape = image_config(call.model, call.media.width, call.media.height)
        if shape:
            config["imageConfig"] = shape
    else:
        config["maxOutputTokens"] = call.max_output_tokens
        _add_format(config, call.response_format)
    if not contents:
        raise BackendError("unknown_model", "Gemini answers to a message of the user, and there is none")
    if takes_sampling(call.model):
        if call.temperature is not None:
            config["temperature"] = call.temperature
        if call.seed is not None:
            config["seed"] = seed_of(call.seed)
    if len(call.stop) > _MOST_STOPS:
        raise BackendError("unknown_model", f"Gemini takes at most {_MOST_STOPS} stop sequences")
    if call.stop:
        config["stopSequences"] = list(call.stop)
    body: dict[str, Any] = {"contents": contents, "generationConfig": config}
    if system:
        body["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    if call.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in call.tools]}]
    return body


def image_config(model: str, width: int, height: int) -> dict[str, str]:
    """The nearest aspect ratio, and the smallest size class that is not notably below the one asked for."""
    if not width or not height:
        return {}
    version = model_version(model)
    known = _LONG.match(model) is not None
    wish = math.log(width / height)

    def distance(ratio: str) -> float:
        across, down = ratio.split(":")
        return abs(math.log(int(across) / int(down)) - wish)

    found = {"aspectRatio": min((*_RATIOS, *(_LONG_RATIOS if known else ())), key=distance)}
    side = math.sqrt(width * height) / 1.1
    if known and side <= 512:
        found["imageSize"] = "512"
    elif side > 1024 and (version is None or version >= _FIRST_SIGNED):  # 1K is what comes without it.
        found["imageSize"] = "2K" if side <= 2048 else "4K"
    return found


def pictures_in(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pictures in a message's content, as parts. Raises BackendError for one that can't be sent."""
    return [part for part in _parts(message.get("content")) if "text" not in part]


def media_part(given: Input) -> dict[str, Any]:
    """A file that the job brings along, as a part."""
    return {"inlineData": {"mimeType": given.media_type, "data": base64.b64encode(given.data).decode()}}


def _conversation(call: Call) -> tuple[list[str], list[dict[str, Any]]]:
    """System texts, and the contents: neighbours of one role are one, as answers of functions must be."""
    system: list[str] = []
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    signed = (model_version(call.model) or (0, 0)) >= _FIRST_SIGNED
    for message in call.messages:
        role = str(message.get("role", "user"))
        if role in {"system", "developer"}:
            system += [part["text"] for part in _parts(message.get("content")) if "text" in part]
            continue
        name = "model" if role == "assistant" else "user"
        if role in {"tool", "function"}:
            parts = [_response(message, names)]
        else:
            parts = _parts(message.get("content"))
            parts += _calls(message.get("tool_calls") or (), names, signed=signed)
        if not parts:
            continue
        if contents and contents[-1]["role"] == name:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": name, "parts": parts})
    return system, contents


def _parts(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    found: list[dict[str, Any]] = []
    for item in cast("list[Any]", content) if isinstance(content, list) else []:
        part = as_object(item) or {}
        if part.get("type") == "image_url":
            found.append(_image(part))
        elif isinstance(part.get("text"), str):
            found += _parts(part["text"])
        else:
            raise BackendError(
                "unknown_model", f"Gemini is sent texts and images; a message holds {part.get('type')!r}"
            )
    return found


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    url = str((as_object(part.get("image_url")) or {}).get("url", part.get("image_url")))
    if url.startswith("https://"):
        media_type = mimetypes.guess_type(url.partition("?")[0])[0]
        if media_type is None or not media_type.startswith("image/"):
            message = "Gemini must be told an image's media type, and the URL's ending does not tell it"
            raise BackendError("unknown_model", message)
        return {"fileData": {"mimeType": media_type, "fileUri": url}}
    head, comma, data = url.partition(",")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    if not comma or not media_type or head != f"data:{media_type};base64":
        raise BackendError("unknown_model", "Gemini takes images as https: URLs, or as data: URLs in base64")
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _add_inputs(contents: list[dict[str, Any]], call: Call) -> None:
    """Put the pictures that the job brings along, and what to leave out, into the last turn of the user."""
    for given in call.inputs:
        if not given.media_type.startswith("image/") or given.name == "mask":
            raise BackendError("unknown_model", f"inputs: Gemini is sent pictures to change, not {given.name!r}")
    parts = [media_part(given) for given in call.inputs]
    if call.negative_prompt:
        parts.append({"text": f"Leave out: {call.negative_prompt}"})
    if not parts:
        return
    if not contents or contents[-1]["role"] != "user":
        contents.append({"role": "user", "parts": []})
    contents[-1]["parts"] += parts


def _add_format(config: dict[str, Any], wanted: Mapping[str, Any] | None) -> None:
    kind = (wanted or {}).get("type")
    if wanted is None or kind not in {"json_object", "json_schema"}:
        return
    config["responseMimeType"] = "application/json"
    schema = (as_object(wanted.get("json_schema")) or {}).get("schema")
    if kind == "json_schema" and schema:
        config["responseJsonSchema"] = schema


def _declaration(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = as_object(tool.get("function")) or {}
    found: dict[str, Any] = {"name": str(function.get("name") or "")}
    if function.get("description"):
        found["description"] = str(function["description"])
    if function.get("parameters"):
        found["parametersJsonSchema"] = function["parameters"]
    return found


def _calls(calls: Iterable[Mapping[str, Any]], names: dict[str, str], *, signed: bool) -> list[dict[str, Any]]:
    """Calls of functions as parts, with the signatures of the thoughts that they came from; notes their `names` by id."""
    found: list[dict[str, Any]] = []
    for call in calls:
        function = as_object(call.get("function")) or {}
        arguments: Any = function.get("arguments") or "{}"
        try:
            decoded: Any = value_of(arguments) if isinstance(arguments, str) else arguments
        except NotJson:
            raise BackendError("bad_request", "messages: the arguments of a tool call are no JSON") from None
        name, key = str(function.get("name") or ""), str(call.get("id") or "")
        names[key] = name
        part: dict[str, Any] = {"functionCall": {"name": name, "args": decoded, **({"id": key} if key else {})}}
        signature = (as_object((as_object(call.get("extra_content")) or {}).get("google")) or {}).get(
            "thought_signature"
        )
        if signature:
            part["thoughtSignature"] = signature
        found.append(part)
    if signed and found and not any("thoughtSignature" in part for part in found):
        found[0]["thoughtSignature"] = _FOREIGN_THOUGHT
    return found


def _response(message: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    key = str(message.get("tool_call_id") or "")
    text = "\n".join(part["text"] for part in _parts(message.get("content")) if "text" in part)
    try:
        result = as_object(value_of(text))
    except NotJson:
        result = None
    name = names.get(key) or str(message.get("name") or "tool")
    response = {"name": name, "response": {"result": text} if result is None else result}
    return {"functionResponse": {**response, **({"id": key} if key else {})}}
