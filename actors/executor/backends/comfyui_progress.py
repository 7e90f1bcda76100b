"""What ComfyUI says on its websocket about one prompt, as steps. Pure.

Texts are `{"type", "data"}`; binary frames begin with their kind as a big-endian word. Newer kinds are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from actors.executor.backends.comfyui_errors import interrupted, run_failed
from actors.executor.backends.errors import as_object
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import BackendError, Stage, Step

PREVIEW_BYTES: Final = 512 * 1024
"""A larger preview is passed over."""
MOST_PICTURES: Final = 64
"""So many pictures of one prompt are taken from its websocket."""
_SENDS: Final = "websocket"
"""In the class of nodes that send their pictures as frames: `SaveImageWebsocket`, `ETN_SendImageWebSocket`."""
_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_IMAGES: Final = {1: b"\xff\xd8", 2: b"\x89PNG"}


class Progress:
    """One prompt in the making.

    Its share is nodes done over nodes to do: the graph's without those in the cache, plus the part of the running one.
    """

    def __init__(self, prompt_id: str, graph: Mapping[str, Any], secrets: tuple[str, ...] = ()) -> None:
        self._id = prompt_id
        self._graph = graph
        self._secrets = secrets
        self._cached: set[str] = set()
        self._done: set[str] = set()
        self._node = ""
        self._part = 0.0
        self._share = 0.0
        self._text = ""
        self._stage: Stage = "queued"
        self.started = False
        """The server works on it."""
        self.ending = False
        """It has ended, and its history is about to be written."""
        self.over = False
        """Its history is written."""
        self.failure: BackendError | None = None
        """How it failed; None: it did not, so far."""
        self.pictures: list[bytes] = []
        """What nodes sent over the websocket in place of a file."""
        self.queue_remaining = 0
        """Prompts that the server has, running or waiting, as it said last."""
        self.queue_changes = 0
        """How often it has said so."""

    @property
    def step(self) -> Step:
        """How far it is."""
        return Step(stage=self._stage, share=self._share if self.started else None, text=self._text)

    def take(self, text: str) -> bool:
        """Read a text frame; whether it changed anything that `step` shows."""
        try:
            message = as_object(value_of(text))
        except NotJson:
            return False  # Custom nodes send what they like; the end is told by history in any case.
        data = as_object((message or {}).get("data"))
        if message is None or data is None:
            return False
        kind: Any = message.get("type")
        if kind == "status":
            info = as_object((as_object(data.get("status")) or {}).get("exec_info")) or {}
            left: Any = info.get("queue_remaining")
            self.queue_remaining = left if isinstance(left, int) else self.queue_remaining
            self.queue_changes += 1
            return False
        if data.get("prompt_id") != self._id:
            return False
        before = self.step
        self._take(str(kind), data)
        return self.step != before

    def preview(self, frame: bytes) -> bytes:
        """The picture in a binary frame: JPEG or PNG; empty when it holds none of this prompt."""
        kind, word = _word(frame, 0), _word(frame, 4)
        image = b""
        if kind == _PREVIEW:
            image = frame[8:]
        elif kind == _PREVIEW_WITH_METADATA and word <= len(frame):
            try:
                about = as_object(value_of(frame[8 : 8 + word]))
            except NotJson:
                return b""
            image = frame[8 + word :] if about is not None and about.get("prompt_id") == self._id else b""
        right = any(image.startswith(mark) for mark in _IMAGES.values())
        if right and _SENDS in self._about(self._node)[0].lower():
            if len(self.pictures) < MOST_PICTURES:
                self.pictures.append(image)
            return b""
        return image if right and len(image) <= PREVIEW_BYTES else b""

    def _take(self, kind: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "execution_start":
                self.started = True
                self._stage = "loading"
            case "execution_cached":
                nodes: Any = data.get("nodes")
                self._cached |= {str(node) for node in cast("list[Any]", nodes)} if isinstance(nodes, list) else set()
            case "executing" if data.get("node") is None:
                self.over = True
            case "executing":
                self._enter(str(data["node"]))
            case "progress":
                self._advance(str(data.get("node") or self._node), data.get("value"), data.get("max"))
            case "progress_state":
                self._states(as_object(data.get("nodes")) or {})
            case "executed":
                self._done.add(str(data.get("node")))
            case "execution_success":
                self.ending = True
            case "execution_error":
                self.ending = True
                self.failure = run_failed(data, self._secrets)
            case "execution_interrupted":
                self.ending = True
                self.failure = interrupted(data)
            case _:
                return
        self._measure()

    def _enter(self, node: str) -> None:
        if self._node and self._node != node:
            self._done.add(self._node)
        self.started = True
        if node != self._node:
            self._node, self._part = node, 0.0
            class_type, title = self._about(node)
            self._stage = "loading" if "Loader" in class_type else "working"
            self._text = title

    def _advance(self, node: str, value: object, most: object) -> None:
        if not isinstance(value, int | float) or not isinstance(most, int | float) or most <= 0:
            return
        self._enter(node)
        self._part = min(1.0, max(0.0, value / most))
        if most > 1:
            self._text = f"{self._about(node)[1]}: step {value:g} of {most:g}"

    def _states(self, nodes: Mapping[str, Any]) -> None:
        for node, entry in nodes.items():
            state = as_object(entry) or {}
            if state.get("state") == "finished":
                self._done.add(node)
            elif state.get("state") == "running":
                self._advance(node, state.get("value"), state.get("max"))

    def _measure(self) -> None:
        total = len(self._graph.keys() - self._cached)
        done = len((self._done & self._graph.keys()) - self._cached - {self._node})
        part = 1.0 if self._node in self._done else self._part
        share = (
            1.0 if self.over or not total else min(1.0, (done + (part if self._node in self._graph else 0.0)) / total)
        )
        if self.started:
            self._share = max(self._share, share)

    def _about(self, node: str) -> tuple[str, str]:
        entry = as_object(self._graph.get(node)) or {}
        name = str(entry.get("class_type") or "")
        title: Any = (as_object(entry.get("_meta")) or {}).get("title")
        return name, title if isinstance(title, str) and title else name or f"node {node}"


def _word(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 4], "big") if len(frame) >= at + 4 else 0
