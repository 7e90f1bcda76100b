"""The fingerprint of what is asked: the same request again has the same, whatever seed, ids and file names it comes with. Pure.

A failure that a backend answers with may be the request's own fault. Whether several failures tell of the backend can only be
judged by requests that differ, so what makes one request look like many must not count.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from messages import JobSubmit

NOT_ASKED: Final = frozenset({
    "tenant", "id", "seed", "user", "workflow", "step", "batch", "deadline_seconds", "max_cost_microdollars", "strategy",
    "preferred_backend", "preferred_model", "allow_cloud", "prioritize_speed", "value_per_hour_microdollars",
})  # fmt: skip
"""Fields of a submission that a backend is never told, or that name this one submission."""
_NAMES = re.compile(
    r"(id|uuid|key|name|filename(_prefix)?|file_?name|subfolder|_meta|.*_(id|uuid)|.*seed)\Z", re.IGNORECASE
)
"""Keys within graphs, messages and inputs whose values name something and ask for nothing."""
_FILE = re.compile(
    r"(?:\S+ ){0,3}\S+\.(png|jpe?g|webp|gif|bmp|tiff?|avif|exr|svg|mp4|webm|mov|mkv|avi|mp3|wav|flac|ogg|m4a|latent|pdf|zip)\Z",
    re.IGNORECASE,
)
"""A file that is read or written. The files of models are no names: another model is another request."""
_ROUNDS = 4
"""So many links away a node of a graph is told from others."""
_LONGEST_NAME = 300
MOST_HEAD: Final = 80
"""Characters of a text that are shown in lists."""
_LOOKED_AT = 1_000
"""Characters of a text that are looked at for them."""
_LINK = 2
"""A link of a graph: the node it comes from, and which of its outputs."""


def fingerprint(tenant: str, submit: JobSubmit) -> str:
    """16 hexadecimal digits for a tenant's request."""
    asked = {name: value for name, value in msgspec.to_builtins(submit).items() if name not in NOT_ASKED and value}
    graph = asked.pop("graph", None)
    told: dict[str, Any] = {
        name: _plain(value) if isinstance(value, list | tuple | dict) else value for name, value in asked.items()
    }
    if isinstance(graph, dict):
        told["graph"] = _nodes(cast("dict[str, Any]", graph))
    return _digest([tenant, told])


def head_of(submit: JobSubmit) -> str:
    """How the text of a job begins, on one line; of one without text what it names instead."""
    texts = [
        submit.prompt,
        *(_said(one) for one in reversed(submit.messages) if one.get("role") == "user"),
        *submit.texts,
    ]
    text = next((one for one in texts if one.strip()), "") or (f"recipe {submit.recipe}" if submit.recipe else "")
    flat = " ".join("".join(mark if mark.isprintable() else " " for mark in text[:_LOOKED_AT]).split())
    return flat if len(flat) <= MOST_HEAD else flat[: MOST_HEAD - 1] + "…"


def _said(message: dict[str, Any]) -> str:
    content: object = message.get("content")
    if isinstance(content, list):
        parts = cast("list[object]", content)
        content = " ".join(
            str(cast("dict[str, Any]", part).get("text") or "") for part in parts if isinstance(part, dict)
        )
    return content if isinstance(content, str) else ""


def _digest(told: Any) -> str:
    return hashlib.blake2b(msgspec.json.encode(told, order="deterministic"), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    """Without what names something: keys of ids and seeds, names of files, the changing parts of addresses."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _plain(one) for key, one in fields.items() if not _NAMES.match(key) or _is_tool(key, fields)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("list[Any]", value)]
    return _nameless(value) if isinstance(value, str) and len(value) <= _LONGEST_NAME else value


def _is_tool(key: str, fields: dict[str, Any]) -> bool:
    """A function's name is what is asked for: it stands beside what it does or is called with."""
    return key == "name" and not fields.keys().isdisjoint({"parameters", "arguments", "description", "input_schema"})


def _nameless(text: str) -> str:
    if text.startswith(("http://", "https://")):
        try:
            return f"file at {urlsplit(text).hostname}"
        except ValueError:
            return "file"
    found = _FILE.match(text)
    return f"file.{found[1].lower()}" if found else text


def _nodes(graph: dict[str, Any]) -> list[str]:
    """A graph as the sorted labels of its nodes: what each does with what, and where that comes from, whatever its id."""
    nodes = {name: cast("dict[str, Any]", node) for name, node in graph.items() if isinstance(node, dict)}
    labels = {name: str(node.get("class_type", "")) for name, node in nodes.items()}
    for _ in range(min(_ROUNDS, len(nodes))):
        before = labels
        labels = {name: _digest([before[name], _inputs(node, before)]) for name, node in nodes.items()}
    rest = {name: value for name, value in graph.items() if name not in nodes}
    return sorted(labels.values()) if not rest else [*sorted(labels.values()), _digest(_plain(rest))]


def _inputs(node: dict[str, Any], labels: dict[str, str]) -> Any:
    inputs = node.get("inputs")
    if not isinstance(inputs, dict):
        return _plain(inputs)
    return {
        key: _linked(cast("list[Any]", value), labels) if isinstance(value, list) else _plain(value)
        for key, value in cast("dict[str, Any]", inputs).items()
        if not _NAMES.match(key)
    }


def _linked(value: list[Any], labels: dict[str, str]) -> Any:
    if len(value) == _LINK and isinstance(value[0], str | int) and str(value[0]) in labels:
        return [labels[str(value[0])], value[1]]
    return _plain(value)
