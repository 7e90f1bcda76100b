"""Jobs and their outputs in RunPod's form, and in that of the workers that usually run there. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, cast

import msgspec

from actors.executor.backends.completion import count
from actors.executor.backends.errors import as_list, as_object, job_failure, shorten
from actors.executor.backends.pictures import picture_of
from actors.executor.backends.port import Answer, BackendError, Call, ErrorKind, FinishReason, Usage, prompt_of
from actors.executor.backends.texts import split
from actors.executor.backends.usage import usage_in

Status = Literal["IN_QUEUE", "IN_PROGRESS", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]
FINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
_ENDED: Final[Mapping[str, ErrorKind]] = {"TIMED_OUT": "timeout", "CANCELLED": "interrupted"}
"""What a status tells by itself."""
_TEXTS: Final = ("text", "generated_text", "response", "content", "output", "result")
_FILES: Final = ("images", "videos", "audios", "audio", "image", "video", "gifs", "files")


class Made(msgspec.Struct, frozen=True):
    """A file in an output: its bytes, or where they lie."""

    name: str
    data: bytes = b""
    url: str = ""
    fault: str = ""
    """Why it is none; empty: it is one."""


def handler_input(call: Call) -> dict[str, Any]:
    """The `input` of a handler of one's own: what the job says, under the names that such handlers usually read."""
    body: dict[str, Any] = {"model": call.model, "prompt": prompt_of(call)}
    if call.asset == "text":
        body |= {"messages": call.messages, "max_tokens": call.max_output_tokens}
        optional: dict[str, Any] = {
            "temperature": call.temperature, "stop": call.stop or None, "response_format": call.response_format,
            "tools": call.tools or None,
        }  # fmt: skip
    elif call.asset == "embedding":
        body |= {"input": call.texts}
        optional = {"dimensions": call.dimensions or None}
    else:
        media = call.media
        optional = {
            "negative_prompt": call.negative_prompt or None, "width": media.width or None,
            "height": media.height or None, "num_inference_steps": media.steps or None,
            "num_images": media.images or None, "num_frames": media.frames or None, "fps": media.fps or None,
            "duration": media.seconds or None, "loras": media.loras or None, "workflow": call.graph,
        }  # fmt: skip
        body |= {one.name: data_uri(one.media_type, one.data) for one in call.inputs}
    return body | {name: value for name, value in {**optional, "seed": call.seed}.items() if value is not None}


def comfy_input(graph: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """The `input` of worker-comfyui: a graph in API form, and the images that it names."""
    body: dict[str, Any] = {"workflow": graph}
    if call.inputs:
        body["images"] = [{"name": one.name, "image": data_uri(one.media_type, one.data)} for one in call.inputs]
    return body


def data_uri(media_type: str, data: bytes) -> str:
    """`data` as a `data:` URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def text_in(output: object) -> str:
    """The text that an output holds, whatever the handler's own form; pieces of a list are joined."""
    if isinstance(output, str):
        return output
    if isinstance(output, list | tuple):
        return "".join(text_in(piece) for piece in cast("list[Any]", output))
    fields = as_object(output) or {}
    choices: Any = fields.get("choices")
    if isinstance(choices, list) and choices:
        part = as_object(cast("list[Any]", choices)[0]) or {}
        held = as_object(part.get("message")) or as_object(part.get("delta")) or part
        return text_in(part.get("tokens") or held.get("content") or held.get("text"))
    for name in _TEXTS:
        if fields.get(name):
            return text_in(fields[name])
    return ""


def files_in(output: object) -> Iterator[Made]:
    """The files that an output holds: base64, `data:` URIs, or addresses; and what should be one and is not."""
    if isinstance(output, list | tuple):
        for piece in cast("list[Any]", output):
            yield from files_in(piece)
        return
    fields = as_object(output) or {}
    for name in _FILES:
        held: Any = fields.get(name)
        for number, one in enumerate(cast("list[Any]", held) if isinstance(held, list) else [held]):
            if one:
                yield _file(one, f"{name.rstrip('s')}-{number}")
    if fields.get("status") == "success" and isinstance(fields.get("message"), str):  # worker-comfyui below 5.0.
        yield _file(fields["message"], "image-0")


def _file(one: object, name: str) -> Made:
    fields = as_object(one)
    if fields is not None:
        name = str(fields.get("filename") or name)
    found = picture_of(one)
    if found is None or (found.place and not found.place.startswith("https://")):
        message = f"the file {name!r} of the output is neither base64 nor an https address"
        return Made(name, fault=message)
    return Made(name, data=found.data, url=found.place)


def failure_of(fields: Mapping[str, Any]) -> BackendError:
    """The error of a job that did not complete; who cancelled it there wanted it so."""
    status = str(fields.get("status"))
    where = f"the job ended as {status}"
    said: Any = fields.get("error") or fields.get("output") or ""
    text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
    if status in _ENDED:
        return BackendError(
            _ENDED[status], f"{where}: {shorten(text, 300) or 'no reason given'}", status=200, body=text
        )
    return job_failure(text, where)


def used(fields: Mapping[str, Any]) -> Usage | None:
    """What a job has used by its status: time on a GPU is paid for, whatever comes of it; None: it does not say."""
    milliseconds = count(fields.get("executionTime"))
    return Usage(gpu_seconds=milliseconds / 1000) if milliseconds else None


def answer_of(call: Call, fields: Mapping[str, Any], streamed: str) -> tuple[Answer, str]:
    """The answer, and what of its text has not streamed."""
    output: Any = fields.get("output")
    text, reasoning = split(streamed or text_in(output)) if call.asset == "text" else ("", "")
    milliseconds = count(fields.get("executionTime"))
    embeddings: tuple[tuple[float, ...], ...] = ()
    if call.asset == "embedding":
        rows = (as_object(output) or {}).get("embeddings") or [
            (as_object(one) or {}).get("embedding") for one in as_list((as_object(output) or {}).get("data"))
        ]
        try:
            embeddings = msgspec.convert(rows, tuple[tuple[float, ...], ...])
        except msgspec.ValidationError as error:
            raise BackendError("invalid_structure", f"the output holds no embeddings: {error}", status=200) from None
    finish: FinishReason = "stop" if call.asset != "text" else ""
    return Answer(
        text=text, finish_reason=finish, model=call.model, embeddings=embeddings, reasoning=reasoning,
        usage=msgspec.structs.replace(
            usage_in(as_object(output) or {}) or Usage(),
            gpu_seconds=None if milliseconds is None else milliseconds / 1000,
        ),
    ), ("" if streamed else text)  # fmt: skip
