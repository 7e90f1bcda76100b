"""A small, strict Wan2GP on a real socket: its MCP tools over HTTP, one generation at a time, and its gallery of files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.base import PAGE, RETRY_AFTER_SECONDS, STATUS, FakeServer, Refused

MP4 = b"\0\0\0\x20ftypisom" + bytes(range(256)) * 8
KEYS = frozenset(
    {
        "model_type", "prompt", "negative_prompt", "resolution", "video_length", "force_fps", "num_inference_steps",
        "guidance_scale", "seed", "image_mode", "image_start", "image_end", "image_refs", "image_prompt_type",
        "activated_loras", "loras_multipliers", "repeat_generation",
    }
)  # fmt: skip


class FakeRequest(msgspec.Struct, forbid_unknown_fields=True):
    jsonrpc: str
    id: int
    method: str
    params: dict[str, Any] = {}


class Said(Exception):
    """A tool's own error."""


class FakeWan2gp(FakeServer):
    """Jobs move on by one step each time that somebody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.models = {
            "t2v_1.3B": "available",
            "i2v_2_2": "available",
            "ltx2_22B_distilled": "missing",
            "upscaler": "available",
        }
        self.models |= {f"z_image_{number}": "partial" for number in range(8)}
        self.loras = ["ink.safetensors"]
        self.jobs: dict[str, dict[str, Any]] = {}
        self.gallery: dict[str, bytes] = {}
        self.sources: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        """What goes wrong in a job."""
        self.refuses = ""
        """What `wangp_generate` says instead of taking a job."""
        self.streamed = False
        """Answers come as an event stream of one event."""
        self.structured = True
        self.forget = False
        self.stumbles = 0
        """Looks at a job that end in a 502."""
        self.busy = 0
        """Looks for which a job works on and tells no progress."""
        self.slow: asyncio.Event | None = None
        """A job is taken at once, and said to be taken when this is set."""
        self.refuses_cancel = False
        self.as_list = False
        """Lists come as FastMCP gives them: wrapped, or an item in each block of text."""
        self.pages = True
        """`offset` is obeyed."""
        self.uploaded: bytes | None = None
        """What is answered to an upload, instead of its id."""
        self.filename = "out/clip.mp4"

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return [
            web.post("/mcp", self._mcp),
            web.put("/wangp_api/gallery/upload/{token}", self._put),
            web.get("/wangp_api/gallery/download/{token}", self._get),
        ]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        return web.json_response({"detail": message}, status=status)

    async def _mcp(self, request: web.Request) -> web.StreamResponse:
        asked = await self.read(request, FakeRequest)
        accepted = request.headers.get("accept", "")
        if asked.jsonrpc != "2.0" or "application/json" not in accepted or "text/event-stream" not in accepted:
            raise Refused(self.refusal(406, "Not Acceptable"))
        if asked.method == "ping":
            return self._answer(asked, {})
        if asked.method == "tools/list":
            return self._answer(asked, {"tools": [{"name": "wangp_generate", "inputSchema": {"type": "object"}}]})
        if asked.method != "tools/call":
            return web.json_response(
                {"jsonrpc": "2.0", "id": asked.id, "error": {"code": -32601, "message": "Method not found"}}
            )
        tool, arguments = asked.params["name"], asked.params["arguments"]
        if tool == "wangp_generate":
            self.calls += 1
            if self.fault is not None and self.fault in STATUS:
                response = self.refusal(STATUS[self.fault])
                if self.fault == "rate_limited":
                    response.headers["retry-after"] = str(RETRY_AFTER_SECONDS)
                return response
            if self.fault == "web_page":
                return web.Response(body=PAGE, content_type="text/html")
        try:
            given = getattr(self, f"_{tool}")(**arguments)
        except (Said, TypeError, AttributeError) as error:
            return self._answer(asked, {"content": [{"type": "text", "text": str(error)}], "isError": True})
        text = msgspec.json.encode(given).decode()
        texts = [text]
        if self.as_list and tool in ("wangp_list_models", "wangp_list_loras"):
            (rows,) = (rows for rows in given.values() if isinstance(rows, list))
            given, texts = {"result": rows}, [msgspec.json.encode(row).decode() for row in rows]
        if tool == "wangp_generate" and self.slow is not None:
            await self.slow.wait()
        if tool == "wangp_get_job" and self.stumbles:
            self.stumbles -= 1
            return self.refusal(502, "bad gateway")
        result: dict[str, Any] = {"content": [{"type": "text", "text": one} for one in texts], "isError": False}
        if self.structured:
            result["structuredContent"] = given
        if tool == "wangp_get_job" and self.fault in ("cut", "no_json", "wrong_json", "hang", "drip", "huge"):
            body = msgspec.json.encode({"jsonrpc": "2.0", "id": asked.id, "result": result})
            return await self.play(request, [body], media_type="application/json")
        return self._answer(asked, result)

    def _answer(self, asked: FakeRequest, result: dict[str, Any]) -> web.Response:
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": asked.id, "result": result})
        if self.streamed:
            return web.Response(body=b"event: message\ndata: " + body + b"\n\n", content_type="text/event-stream")
        return web.Response(body=body, content_type="application/json")

    def _wangp_list_models(self, *, limit: int = 10, offset: int = 0) -> dict[str, Any]:
        if limit > 10:
            raise Said("limit: at most 10")
        start = offset if self.pages else 0
        return {"models": [{"model_type": name} for name in [*self.models][start : start + limit]]}

    def _wangp_get_model_availability(self, *, model_type: str) -> dict[str, Any]:
        return {"model_type": model_type, "availability": self.models[model_type]}

    def _wangp_list_loras(self, *, model_type: str) -> dict[str, Any]:
        return {"model_type": model_type, "loras": self.loras}

    def _wangp_generate(self, *, source: dict[str, Any], wait: bool = False) -> dict[str, Any]:
        if self.refuses:
            raise Said(self.refuses)
        if source.get("model_type") not in self.models:
            raise Said(f"Unknown model {source.get('model_type')!r}")
        unknown = source.keys() - KEYS
        if wait or unknown or not source.get("prompt") or not re.fullmatch(r"\d+x\d+", source.get("resolution", "1x1")):
            raise Said(f"invalid settings: {sorted(unknown)}")
        for name in ("image_start", "image_end"):
            if name in source and source[name] not in self.gallery:
                raise Said(f"{name}: no such media in the gallery")
        self.sources.append(source)
        job = f"job-{len(self.jobs)}"
        self.jobs[job] = {
            "job_id": job,
            "done": False,
            "cancel_requested": False,
            "events": [],
            "result": None,
            "looks": 0,
            **({"updated_at": 0.0} if self.busy else {}),
        }
        return self._snapshot(job)

    def _wangp_get_job(self, *, job_id: str) -> dict[str, Any]:
        if job_id not in self.jobs or self.forget:
            raise Said(f"Unknown job id {job_id}")
        job = self.jobs[job_id]
        job["looks"] += 1
        looks = job["looks"]
        if self.busy and 2 < looks <= 2 + self.busy:  # The last events that it shows are others.
            job["updated_at"] = float(looks)
            job["events"] = [_event("stream", {"text": "…"})]
            return self._snapshot(job_id)
        looks = looks - self.busy if looks > 2 else looks
        if looks == 1:
            job["events"] += [_event("started", None), _event("progress", {"phase": "loading_model", "progress": 3})]
        elif looks == 2:
            data = {"phase": "inference", "progress": 40, "current_step": 12, "total_steps": 30, "status": "Denoising"}
            job["events"] += [_event("progress", data), _event("preview", {"image": "…"})]
        elif looks == 3:
            job["events"].append(_event("progress", {"phase": "decoding", "progress": 20, "status": "VAE decoding"}))
        else:
            self._end(job)
        return self._snapshot(job_id)

    def _end(self, job: dict[str, Any]) -> None:
        failed = bool(self.errors) or self.fault == "error_inside"
        errors = self.errors or [{"message": "it broke", "task_index": 0, "task_id": 1, "stage": "generation"}]
        job["done"] = True
        item = f"media-{len(self.gallery)}"
        if not failed:
            self.gallery[item] = MP4
        job["result"] = {
            "success": not failed, "cancelled": False, "generated_files": [], "errors": errors if failed else [],
            "total_tasks": 1, "successful_tasks": int(not failed), "failed_tasks": int(failed), "artifacts": [],
            "gallery_items": [] if failed else [{"gallery_id": item, "filename": self.filename}],
        }  # fmt: skip

    def _wangp_cancel_job(self, *, job_id: str) -> dict[str, Any]:
        self.jobs[job_id]["cancel_requested"] = True
        self.cancelled.set()
        if self.refuses_cancel:
            raise Said("it is too late")
        return self._snapshot(job_id)

    def _wangp_create_gallery_upload(self, *, filename: str) -> dict[str, Any]:
        if "." not in filename:
            raise Said("filename: an ending is needed")
        return {"url": f"/wangp_api/gallery/upload/up-{len(self.gallery)}"}

    def _wangp_create_gallery_download(self, *, gallery_id: str) -> dict[str, Any]:
        if gallery_id not in self.gallery:
            raise Said("no such media")
        return {"url": f"/wangp_api/gallery/download/{gallery_id}"}

    def _snapshot(self, job: str) -> dict[str, Any]:
        return {name: value for name, value in self.jobs[job].items() if name != "looks"}

    async def _put(self, request: web.Request) -> web.Response:
        self.gallery[request.match_info["token"]] = await request.read()
        if self.uploaded is not None:
            return web.Response(body=self.uploaded)
        return web.json_response({"gallery_id": request.match_info["token"]})

    async def _get(self, request: web.Request) -> web.Response:
        return web.Response(body=self.gallery[request.match_info["token"]], content_type="video/mp4")


def _event(kind: str, data: object) -> dict[str, Any]:
    return {"kind": kind, "timestamp": 0.0, "data": data}
