"""What went wrong in ComfyUI: graphs that it refuses, and prompts that fail. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object, job_failure, shorten
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import BackendError

_TYPE: Final = re.compile(r'"type":\s*"(\w+)"')


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
    where = f"{error.message.partition(': ')[0]}: ComfyUI refuses the graph"
    return job_failure(
        text or error.body or error.message, where, words=types, refused=True, status=400, body=error.body
    )


def dropped(node_errors: object, name: str) -> BackendError:
    """The error for a graph that was accepted in part: some of its outputs would be missing."""
    text, body = "; ".join(faults(node_errors)), msgspec.json.encode(node_errors).decode()
    where = f"{name}: ComfyUI takes only a part of the graph"
    return job_failure(text, where, words=_TYPE.findall(body), refused=True, body=body)


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
    name, said = (str(data.get(key) or "").strip() for key in ("exception_type", "exception_message"))
    where = f"ComfyUI failed at node {data.get('node_id')} ({data.get('node_type')})"
    return job_failure(f"{name}: {said}", where, words=(name.rpartition(".")[2],), secrets=secrets)


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
