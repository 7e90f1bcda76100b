"""What went wrong in ComfyUI: graphs that it refuses, and prompts that fail. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object, redact, shorten
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import BackendError, ErrorKind

_MESSAGE: Final = 300
_TYPE: Final = re.compile(r'"type":\s*"(\w+)"')
_LISTED: Final = frozenset({"value_not_in_list", "missing_node_type"})
"""This server lacks a file or a node; another may have it."""
_NO_NODE: Final = re.compile(r"(?i)node .* (?:does not exist|not found)|missing_node_type")
_MEMORY: Final = re.compile(r"(?i)out of memory|OutOfMemoryError|not enough memory")
_NO_FILE: Final = re.compile(
    r"(?i)no such file|file not found|could not (?:find|load)|is not a valid model|could not detect model type"
    r"|header too (?:small|large)|Header(?:TooSmall|TooLarge)|Invalid ?Header|MetadataIncompleteBuffer|incomplete metadata"
    r"|deserializing header|central directory|PytorchStreamReader|invalid load key|pickle data was truncated"
)
"""It is not there, or broken: safetensors and pickles that were cut or are no such file."""
_NO_MATCH: Final = re.compile(r"(?i)shapes cannot be multiplied|size of tensor|size mismatch|expected .* channels")
_WRONG: Final = frozenset({"ValueError", "TypeError"})


def refused(error: BackendError) -> BackendError:
    """The error for a 400 that ComfyUI gave to a graph: what is wrong, and where. Others are returned as they are."""
    if error.status != 400:
        return error
    types = set(_TYPE.findall(error.body))
    try:
        answer = as_object(value_of(error.body))
    except NotJson:
        answer = None  # It was cut: the types in what is left must do.
    found = list(faults(answer.get("node_errors"))) if answer is not None else []
    said = as_object((answer or {}).get("error")) or {}
    text = "; ".join(found) or " ".join(str(said.get(key) or "") for key in ("message", "details")).strip()
    elsewhere = types & _LISTED or _NO_NODE.search(f"{text} {error.body if answer is None else ''}")
    kind: ErrorKind = "unknown_model" if elsewhere else "bad_request"
    where = error.message.partition(": ")[0]
    message = f"{where}: ComfyUI refuses the graph: {shorten(text or error.message, _MESSAGE)}"
    return BackendError(kind, message, status=400, body=error.body)


def dropped(node_errors: object, name: str) -> BackendError:
    """The error for a graph that was accepted in part: some of its outputs would be missing."""
    text = "; ".join(faults(node_errors))
    body = msgspec.json.encode(node_errors).decode()
    kind: ErrorKind = "unknown_model" if set(_TYPE.findall(body)) & _LISTED else "bad_request"
    message = f"{name}: ComfyUI takes only a part of the graph: {shorten(text, _MESSAGE)}"
    return BackendError(kind, message, status=200, body=body)


def faults(node_errors: object) -> Iterable[str]:
    """What `node_errors` says, a sentence for each fault."""
    for node, entry in (as_object(node_errors) or {}).items():
        fields = as_object(entry) or {}
        errors: Any = fields.get("errors")
        for fault in cast("list[Any]", errors) if isinstance(errors, list) else []:
            known = as_object(fault) or {}
            about = known.get("details") or known.get("message") or known.get("type")
            yield f"node {node} ({fields.get('class_type')}): {known.get('type')}: {shorten(str(about), 160)}"


def run_failed(data: Mapping[str, Any], secrets: Iterable[str] = ()) -> BackendError:
    """The error for an `execution_error`."""
    name = str(data.get("exception_type") or "")
    said = redact(str(data.get("exception_message") or ""), secrets).strip()
    where = f"node {data.get('node_id')} ({data.get('node_type')})"
    text = shorten(f"{name}: {said}", _MESSAGE)
    kind = _kind(name.rpartition(".")[2], said)
    full = bool(_MEMORY.search(f"{name}: {said}"))
    if full:  # It is there and answers: as a rule it is this prompt that is too large for it.
        text = f"out of GPU memory; fewer pixels, frames or pictures at once need less. {text}"
    message = f"ComfyUI failed at {where}: {text}"
    return BackendError(kind, message, status=200, body=f"{name}: {said}", should_retry=False if full else None)


def interrupted(data: Mapping[str, Any]) -> BackendError:
    """The error for a prompt that somebody else stopped; whoever did wants the GPU, so it is not tried there again at once."""
    where = f"node {data.get('node_id')} ({data.get('node_type')})"
    return BackendError("interrupted", f"somebody stopped the prompt in ComfyUI, at {where}", status=200)


def history_failed(entry: Mapping[str, Any], secrets: Iterable[str] = ()) -> BackendError | None:
    """The error that an entry of the history tells; None: it went well."""
    status = as_object(entry.get("status")) or {}
    if status.get("status_str") != "error" and status.get("completed") is not False:
        return None
    for kind, data in reversed(messages_of(entry)):
        if kind == "execution_error":
            return run_failed(data, secrets)
        if kind == "execution_interrupted":
            return interrupted(data)
    return BackendError("server_error", "ComfyUI says that the prompt failed, and not why", status=200)


def messages_of(entry: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What the websocket said of a prompt, as its entry of the history keeps it: kind and data."""
    messages: Any = (as_object(entry.get("status")) or {}).get("messages")
    found: list[tuple[str, dict[str, Any]]] = []
    for message in cast("list[Any]", messages) if isinstance(messages, list) else []:
        pair = cast("list[Any]", message) if isinstance(message, list) else []
        if len(pair) == 2 and isinstance(pair[0], str):
            found.append((pair[0], as_object(pair[1]) or {}))
    return found


def _kind(name: str, said: str) -> ErrorKind:
    if _MEMORY.search(f"{name}: {said}"):
        return "server_error"
    if name == "FileNotFoundError" or _NO_FILE.search(said) or _NO_MATCH.search(said):
        return "unknown_model"
    return "bad_request" if name in _WRONG else "server_error"
