"""A strict ComfyUI on a real socket: checks graphs as the real one does, runs one prompt at a time, tells it on a websocket.

Messages come in the real order; nothing is said to whoever did not listen. Files lie on its disk and outlive a restart; the
queue, the history and the cache do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import mimetypes
import struct
import uuid
import zlib
from collections.abc import Iterable
from typing import Any, Self

import msgspec
from aiohttp import web

from tests.fakes.base import FakeServer, Refused
from tests.fakes.comfyui_nodes import fault, faults_of, object_info

JPEG = b"\xff\xd8\xff\xe0preview"
ANIMATED = {
    "SaveWEBM": ("webm", b"\x1a\x45\xdf\xa3" + bytes(64)),
    "SaveAnimatedWEBP": ("webp", b"RIFF\x60\0\0\0WEBPVP8X" + bytes(78)),
}
"""The ending and the bytes of what nodes save that write several pictures into one file."""
MP4 = b"\0\0\0\x20ftypisom" + bytes(range(256)) * 4


class FakePrompt(msgspec.Struct, forbid_unknown_fields=True):
    prompt: dict[str, Any]
    client_id: str
    prompt_id: str
    extra_data: dict[str, Any] = {}


class FakeQueueChange(msgspec.Struct, forbid_unknown_fields=True):
    delete: list[str] = []
    clear: bool = False


class FakeInterrupt(msgspec.Struct, forbid_unknown_fields=True):
    prompt_id: str


class FakeFree(msgspec.Struct, forbid_unknown_fields=True):
    unload_models: bool
    free_memory: bool


class Interrupted(Exception):
    pass


class Entry:
    """One prompt in the queue."""

    def __init__(self, number: int, asked: FakePrompt, outputs: list[str]) -> None:
        self.number, self.asked, self.outputs = number, asked, outputs
        self.id = asked.prompt_id
        self.messages: list[list[Any]] = []

    def listed(self) -> list[Any]:
        return [self.number, self.id, self.asked.prompt, self.asked.extra_data, self.outputs]


class FakeComfyui(FakeServer):
    def __init__(self) -> None:
        super().__init__()
        self.info = object_info()
        self.asked: list[FakePrompt] = []
        self.files: dict[tuple[str, str, str], bytes] = {("input", "", "example.png"): picture(8, 8)}
        """By type, subfolder and name."""
        self.version = "0.9.2"
        self.targeted = True
        """`/interrupt` reads its body; older servers stop whatever runs."""
        self.slow: asyncio.Event | None = None
        """A graph is checked until this is set; only then it is queued."""
        self.own_ids = True
        """A client's `prompt_id` is used; older servers choose their own."""
        self.previews = True
        self.broken: tuple[str, str] | None = None
        """Type and message of an exception in the sampler."""
        self.gate = asyncio.Event()
        """Prompts are begun while it is set."""
        self.middle = asyncio.Event()
        """The sampler goes on after its first step while it is set."""
        self.loading = asyncio.Event()
        """Loaders are done while it is set."""
        self.loading.set()
        self.gate.set()
        self.middle.set()
        self.vanish_answer = False
        """The connection breaks after a prompt was taken and before that is said."""
        self.bad_gateways = 0
        """Websockets that a proxy refuses from now on."""
        self.quiet = False
        """Nothing is said on websockets."""
        self.answer_errors: dict[str, Any] = {}
        """`node_errors` beside a 200."""
        self.freed = 0
        self.interrupts: list[str] = []
        self.sampled = 0
        """Times that a sampler ran."""
        self.flags: list[Any] = []
        self._counter = 0
        self._numbers = 0
        self._start()

    def _start(self) -> None:
        self.pending: list[Entry] = []
        self.running: Entry | None = None
        self.history: dict[str, Any] = {}
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self._metadata: set[str] = set()
        self._cache: dict[str, Any] = {}
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._start()
        await super().__aenter__()
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None
        await self.drop_sockets()
        await super().__aexit__()
        self._start()

    async def drop_sockets(self) -> None:
        """As a proxy does that restarts."""
        for socket in list(self.sockets.values()):
            await socket.close(code=1001)
        self.sockets.clear()

    async def forget(self) -> None:
        """As a restart between two looks: the same address, and nothing in memory."""
        await self.__aexit__()
        await self.__aenter__()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return [
            web.get("/ws", self._ws),
            web.post("/prompt", self._prompt),
            web.get("/prompt", self._left),
            web.get("/queue", self._queue),
            web.post("/queue", self._change),
            web.get("/history/{id}", self._one),
            web.get("/view", self._view),
            web.post("/upload/image", self._upload),
            web.post("/interrupt", self._interrupt),
            web.post("/free", self._free),
            web.get("/system_stats", self._stats),
            web.get("/object_info", self._info),
        ]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        if status == 400:
            return web.json_response({"error": about("invalid_prompt", message), "node_errors": {}}, status=400)
        return web.Response(text=f"{status}: {message}", status=status)

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        self._same_origin(request)
        if self.bad_gateways:
            self.bad_gateways -= 1
            return web.Response(status=502)  # type: ignore[return-value]
        sid = request.query.get("clientId") or uuid.uuid4().hex
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[sid] = socket
        await self._say("status", self._status(sid), sid)
        if self.running is not None and self.running.asked.client_id == sid:
            await self._say("executing", {"node": "3"}, sid)
        async for message in socket:
            flags = msgspec.json.decode(message.data)
            assert flags["type"] == "feature_flags"
            self.flags.append(flags["data"])
            if flags["data"].get("supports_preview_metadata"):
                self._metadata.add(sid)
            await self._say("feature_flags", {"supports_preview_metadata": True, "max_upload_size": 104857600}, sid)
        if self.sockets.get(sid) is socket:
            del self.sockets[sid]
        return socket

    async def _prompt(self, request: web.Request) -> web.StreamResponse:
        self._same_origin(request)
        self.calls += 1
        asked = await self.read(request, FakePrompt)
        if self.fault == "bad_request":
            return self._invalid(
                {"3": [fault("value_bigger_than_max", "Value 99 bigger than max of 9", "steps")]}, asked
            )
        if self.fault == "unknown_model":
            details = f"ckpt_name: 'x' not in {['model.safetensors'] * 200}"  # Longer than what is kept of a body.
            return self._invalid({"4": [fault("value_not_in_list", "Value not in list", details)]}, asked)
        if self.fault not in {None, "cut", "hang", "error_inside", "drip"}:
            return await self.play(request, [b"{}"], media_type="application/json")
        try:
            uuid.UUID(asked.prompt_id)
        except ValueError:
            return web.json_response(
                {"error": about("invalid_prompt_id", "prompt_id is no UUID"), "node_errors": {}}, status=400
            )
        outputs = self._validated(asked)
        if self.slow is not None:
            await self.slow.wait()
        if not self.own_ids:
            asked.prompt_id = str(uuid.uuid4())
        self.asked.append(asked)
        self._numbers += 1
        self.pending.append(Entry(self._numbers, asked, outputs))
        await self._tell_queue()
        self._wake.set()
        if self.vanish_answer:
            self.vanish_answer = False
            assert request.transport is not None
            request.transport.close()
        answer = {"prompt_id": asked.prompt_id, "number": self._numbers, "node_errors": self.answer_errors}
        if self.fault == "drip":
            return await self.play(request, [json.dumps(answer).encode()], media_type="application/json")
        return web.json_response(answer)

    def _validated(self, asked: FakePrompt) -> list[str]:
        """The output nodes. Raises Refused with the real one's answer."""
        graph = asked.prompt
        for key, entry in graph.items():
            if entry.get("class_type") not in self.info:
                message = f"Cannot execute because node {entry.get('class_type')} does not exist."
                answer = {
                    "error": {**about("invalid_prompt", message), "details": f"Node ID '#{key}'"},
                    "node_errors": {},
                }
                raise Refused(web.json_response(answer, status=400))
        outputs = [key for key, entry in graph.items() if self.info[entry["class_type"]]["output_node"]]
        if not outputs:
            answer = {"error": about("prompt_no_outputs", "Prompt has no outputs"), "node_errors": {}}
            raise Refused(web.json_response(answer, status=400))
        names = {f"{folder}/{name}" if folder else name for kind, folder, name in self.files if kind == "input"}
        visited: dict[str, list[dict[str, Any]]] = {}
        for key in outputs:
            faults_of(graph, key, self.info, names, visited)
        if any(visited.values()):
            raise Refused(self._invalid({key: errors for key, errors in visited.items() if errors}, asked))
        return outputs

    def _invalid(self, errors: dict[str, list[dict[str, Any]]], asked: FakePrompt) -> web.Response:
        found = {
            key: {"errors": several, "dependent_outputs": ["9"], "class_type": asked.prompt[key]["class_type"]}
            for key, several in errors.items()
        }
        error = about("prompt_outputs_failed_validation", "Prompt outputs failed validation")
        return web.json_response({"error": error, "node_errors": found}, status=400)

    async def _left(self, _: web.Request) -> web.Response:
        return web.json_response(self._status()["status"])

    async def _queue(self, _: web.Request) -> web.Response:
        running = [self.running.listed()] if self.running else []
        waiting = [entry.listed() for entry in reversed(self.pending)]  # A heap: in no order.
        return web.json_response({"queue_running": running, "queue_pending": waiting})

    async def _change(self, request: web.Request) -> web.Response:
        change = await self.read(request, FakeQueueChange)
        before = len(self.pending)
        self.pending = [entry for entry in self.pending if not change.clear and entry.id not in change.delete]
        if len(self.pending) < before:
            self.cancelled.set()
            await self._tell_queue()
        return web.Response()

    async def _one(self, request: web.Request) -> web.Response:
        key = request.match_info["id"]
        return web.json_response({key: self.history[key]} if key in self.history else {})

    async def _view(self, request: web.Request) -> web.StreamResponse:
        assert set(request.query) == {"filename", "subfolder", "type"}
        key = (request.query["type"], request.query["subfolder"], request.query["filename"])
        if key not in self.files:
            return web.Response(status=404)
        kind = mimetypes.guess_type(key[2])[0] or "application/octet-stream"
        if self.fault in {"cut", "drip"}:
            return await self.play(request, [self.files[key]], media_type=kind)
        return web.Response(body=self.files[key], content_type=kind)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert set(form) <= {"image", "type", "subfolder", "overwrite"}
        image = form["image"]
        assert isinstance(image, web.FileField)
        kind, folder, name = str(form.get("type", "input")), str(form.get("subfolder", "")), image.filename
        stem, _, ending = name.rpartition(".")
        number = 1
        while form.get("overwrite") != "true" and (kind, folder, name) in self.files:
            name, number = f"{stem} ({number}).{ending}", number + 1
        self.files[kind, folder, name] = image.file.read()
        return web.json_response({"name": name, "subfolder": folder, "type": kind})

    async def _interrupt(self, request: web.Request) -> web.Response:
        wanted = (await self.read(request, FakeInterrupt)).prompt_id
        self.interrupts.append(wanted)
        if self.running is not None and (not self.targeted or self.running.id == wanted):
            self._stop.set()
        return web.Response()

    async def _free(self, request: web.Request) -> web.Response:
        await self.read(request, FakeFree)
        self.freed += 1
        return web.Response()

    async def _stats(self, _: web.Request) -> web.Response:
        system = {"os": "linux", "comfyui_version": self.version, "argv": ["main.py"]}
        gpu = {"name": "cuda:0", "type": "cuda", "index": 0, "vram_total": 24 << 30, "vram_free": 20 << 30}
        return web.json_response({"system": system, "devices": [gpu]})

    async def _info(self, _: web.Request) -> web.Response:
        return web.json_response(self.info)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.pending:
                await self.gate.wait()
                if not self.pending:
                    break
                self.running = self.pending.pop(0)
                self._stop.clear()
                await self._execute(self.running)

    async def _execute(self, entry: Entry) -> None:
        sid, outputs, status = entry.asked.client_id, dict[str, Any](), "error"
        try:
            await self._note(entry, "execution_start", {})
            order = self._order(entry.asked.prompt, entry.outputs)
            known = [key for key in order if self._mark(entry.asked.prompt, key) in self._cache]
            await self._note(entry, "execution_cached", {"nodes": known})
            for key in order:
                if key in known:
                    made = self._cache[self._mark(entry.asked.prompt, key)]
                else:
                    await self._say("executing", {"node": key, "display_node": key, "prompt_id": entry.id}, sid)
                    made = await self._node(entry, key)
                    self._cache[self._mark(entry.asked.prompt, key)] = made
                if key in entry.outputs:
                    outputs[key] = made
                    told = {"node": key, "display_node": key, "output": made, "prompt_id": entry.id}
                    await self._say("executed", told, sid)
            status = "success"
            await self._note(entry, "execution_success", {})
        except Interrupted as stopped:
            self.cancelled.set()
            about_node = {"node_id": str(stopped), "node_type": "KSampler", "executed": []}
            await self._note(entry, "execution_interrupted", about_node)
        except RuntimeError as error:
            kind, message = error.args
            failed = {
                "node_id": "3", "node_type": "KSampler", "executed": ["4"], "exception_message": message + "\n",
                "exception_type": kind, "traceback": ["…"], "current_inputs": {"model": ["x" * 5000]}, "current_outputs": ["4"],
            }  # fmt: skip
            await self._note(entry, "execution_error", failed)
        state = {"status_str": status, "completed": status == "success", "messages": entry.messages}
        self.history[entry.id] = {"prompt": entry.listed(), "outputs": outputs, "status": state, "meta": {}}
        self.running = None
        await self._tell_queue()
        await self._say("executing", {"node": None, "display_node": None, "prompt_id": entry.id}, sid)

    async def _node(self, entry: Entry, key: str) -> dict[str, Any]:
        graph = entry.asked.prompt
        kind, inputs = graph[key]["class_type"], graph[key]["inputs"]
        if "Loader" in kind:
            await self._until(self.loading)
        if kind == "KSampler":
            await self._sample(entry, key, inputs["steps"])
        if kind in {"SaveImage", "PreviewImage"}:
            width, height, count = self._sizes(graph, key)
            where = "output" if kind == "SaveImage" else "temp"
            prefix = inputs.get("filename_prefix", "ComfyUI_temp")
            return {"images": [self._save(where, prefix, "png", picture(width, height)) for _ in range(count)]}
        if kind == "SaveImageWebsocket":  # Its pictures come as frames, like previews, and nothing is in the history.
            width, height, count = self._sizes(graph, key)
            for _ in range(count):
                await self._show(entry.asked.client_id, struct.pack(">II", 1, 2) + picture(width, height))
            return {}
        if kind in ANIMATED:
            ending, data = ANIMATED[kind]
            return {"images": [self._save("output", inputs["filename_prefix"], ending, data)], "animated": [True]}
        if kind == "SaveVideo":
            return {"images": [self._save("output", inputs["filename_prefix"], "mp4", MP4)], "animated": [True]}
        return {"text": [inputs["source"]]} if kind == "PreviewAny" else {}

    async def _sample(self, entry: Entry, key: str, steps: int) -> None:
        self.sampled += 1
        sid = entry.asked.client_id
        for step in range(1, steps + 1):
            if step > 1 and not self.middle.is_set():
                await self._until(self.middle)
            if self.fault == "hang":
                await self._until(asyncio.Event())
            if self._stop.is_set():
                raise Interrupted(key)
            if self.fault == "error_inside":
                raise RuntimeError("builtins.RuntimeError", "CUDA error: an illegal memory access was encountered")
            if self.broken is not None:
                raise RuntimeError(*self.broken)
            state = {"value": step, "max": steps, "state": "running", "node_id": key, "prompt_id": entry.id}
            await self._say("progress_state", {"prompt_id": entry.id, "nodes": {key: state}}, sid)
            progress = {"value": step, "max": steps, "prompt_id": entry.id, "node": key}
            if sid in self._metadata:
                about_it = json.dumps({"node_id": key, "prompt_id": entry.id, "image_type": "image/jpeg"}).encode()
                await self._show(sid, struct.pack(">II", 4, len(about_it)) + about_it + JPEG)
                await self._say("progress", progress, sid)
            else:
                await self._say("progress", progress, sid)
                await self._show(sid, struct.pack(">II", 1, 1) + JPEG)

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for it, or for being stopped."""
        waits = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._stop.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self._stop.is_set():
            raise Interrupted("3")

    def _save(self, where: str, prefix: str, ending: str, data: bytes) -> dict[str, str]:
        self._counter += 1
        folder, _, stem = prefix.rpartition("/")
        name = f"{stem}_{self._counter:05}_.{ending}"
        self.files[where, folder, name] = data
        return {"filename": name, "subfolder": folder, "type": where}

    def _order(self, graph: dict[str, Any], outputs: list[str]) -> list[str]:
        found: dict[str, None] = {}

        def visit(key: str) -> None:
            for value in graph[key]["inputs"].values():
                if isinstance(value, list):
                    visit(value[0])
            found[key] = None

        for key in outputs:
            visit(key)
        return list(found)

    def _mark(self, graph: dict[str, Any], key: str) -> str:
        """The same for a node whose inputs are the same, through all nodes before it."""
        entry = graph[key]
        inputs = {
            name: [self._mark(graph, value[0]), value[1]] if isinstance(value, list) else value
            for name, value in entry["inputs"].items()
        }
        text = json.dumps([entry["class_type"], inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _sizes(self, graph: dict[str, Any], key: str) -> tuple[int, int, int]:
        before = [graph[each]["inputs"] for each in self._order(graph, [key])]
        sized = next((each for each in before if isinstance(each.get("width"), int)), {"width": 64, "height": 64})
        count = max(int(each.get("batch_size", each.get("amount", 1))) for each in before)
        return sized["width"], sized["height"], count

    async def _note(self, entry: Entry, kind: str, data: dict[str, Any]) -> None:
        """A message that the history keeps."""
        told = {"prompt_id": entry.id, **data, "timestamp": 1_763_700_000_000 + 1500 * len(entry.messages)}
        entry.messages.append([kind, told])
        await self._say(kind, told, None if kind == "execution_interrupted" else entry.asked.client_id)

    async def _say(self, kind: str, data: dict[str, Any], sid: str | None) -> None:
        """To one client, or to all."""
        if self.quiet:
            return
        text = json.dumps({"type": kind, "data": data})
        for name, socket in list(self.sockets.items()):
            if sid in {None, name}:
                with contextlib.suppress(ConnectionError):
                    await socket.send_str(text)
        await asyncio.sleep(0)

    async def _show(self, sid: str, frame: bytes) -> None:
        socket = self.sockets.get(sid)
        if socket is not None and self.previews and not self.quiet:
            with contextlib.suppress(ConnectionError):
                await socket.send_bytes(frame)

    async def _tell_queue(self) -> None:
        await self._say("status", self._status(), None)

    def _status(self, sid: str = "") -> dict[str, Any]:
        left = len(self.pending) + (self.running is not None)
        return {"status": {"exec_info": {"queue_remaining": left}}, **({"sid": sid} if sid else {})}

    def _same_origin(self, request: web.Request) -> None:
        if "origin" in request.headers:
            raise Refused(web.Response(status=403))


def about(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": "", "extra_info": {}}


def picture(width: int, height: int) -> bytes:
    """A black PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(width + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
