"""A small, strict RunPod endpoint on a real socket: a queue, workers that take turns, and what a handler gives back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from aiohttp import web

from tests.fakes.base import PAGE, RETRY_AFTER_SECONDS, STATUS, FakeServer, Refused

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TEXT = "Hello world, né 🚂"


class FakePolicy(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    execution_timeout: int | None = None
    ttl: int | None = None
    low_priority: bool | None = None


class FakeRun(msgspec.Struct, forbid_unknown_fields=True):
    input: dict[str, Any]
    policy: FakePolicy | None = None
    webhook: str | None = None
    s3_config: dict[str, Any] | None = msgspec.field(default=None, name="s3Config")


class FakeJob:
    """A job in the endpoint's hands."""

    def __init__(self, asked: FakeRun) -> None:
        self.asked = asked
        self.status = "IN_QUEUE"
        self.looks = 0
        self.pieces: list[Any] = []
        self.given = 0


class FakeRunpod(FakeServer):
    """An endpoint whose jobs move on by one state each time that somebody looks: queue, work, end."""

    path = "/v2/abc123"
    makes: Literal["text", "image"] = "text"

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, FakeJob] = {}
        self.output: Any = {"images": [{"filename": "a.png", "type": "base64", "data": base64.b64encode(PNG).decode()}]}
        self.pieces: list[Any] = ["Hello", " world,", {"text": " né 🚂"}]
        self.workers = {"idle": 1, "initializing": 0, "ready": 1, "running": 0, "throttled": 0, "unhealthy": 0}
        self.error: Any = '{"error_type":"RuntimeError","error_message":"it broke","error_traceback":"..."}'
        self.forget = False
        """Jobs are unknown after they were accepted."""
        self.ends = "COMPLETED"
        self.queued = self.worked = 1
        """Looks for which a job stays in the queue, and at work."""
        self.stumbles = 0
        """Looks that end in a 502."""
        self.slow: asyncio.Event | None = None
        """A job is taken at once, and said to be taken when this is set."""

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        at = self.path
        return [
            web.post(f"{at}/run", self._run),
            web.get(f"{at}/status/{{job}}", self._status),
            web.get(f"{at}/stream/{{job}}", self._stream),
            web.post(f"{at}/cancel/{{job}}", self._cancel),
            web.get(f"{at}/health", self._health),
            web.get(f"{at}/openai/v1/models", self._models),
            web.post(f"{at}/openai/v1/chat/completions", self._chat),
        ]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        return web.json_response({"error": message, "status": status}, status=status)

    async def _run(self, request: web.Request) -> web.StreamResponse:
        asked = await self.read(request, FakeRun)
        self.calls += 1
        if self.fault is not None and self.fault in STATUS:
            response = self.refusal(STATUS[self.fault])
            if self.fault == "rate_limited":
                response.headers["retry-after"] = str(RETRY_AFTER_SECONDS)
            return response
        if self.fault == "web_page":
            return web.Response(body=PAGE, content_type="text/html")
        job = f"job-{self.calls}-u1"
        self.jobs[job] = FakeJob(asked)
        if self.slow is not None:
            await self.slow.wait()
        return web.json_response({"id": job, "status": "IN_QUEUE"})

    def _moved(self, request: web.Request) -> FakeJob:
        job = self.jobs.get(request.match_info["job"])
        if job is None or self.forget:
            raise Refused(self.refusal(404, "job not found"))
        if self.stumbles:
            self.stumbles -= 1
            raise Refused(self.refusal(502, "bad gateway"))
        job.looks += 1
        if job.status == "IN_QUEUE" and job.looks > self.queued:
            job.status = "IN_PROGRESS"
            job.pieces = list(self.pieces) if self.makes == "text" else []
        elif job.status == "IN_PROGRESS" and self.fault != "hang" and job.looks > self.queued + self.worked:
            job.status = "FAILED" if self.fault == "error_inside" else self.ends
        return job

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        job = self._moved(request)
        given, job.pieces = job.pieces[:1], job.pieces[1:]
        job.given += len(given)
        if given and job.status in ("COMPLETED", "FAILED"):
            job.status = "IN_PROGRESS"
        body = {"status": job.status, "stream": [{"output": piece} for piece in given]}
        if self.fault == "error_inside" or (self.fault == "cut" and job.given < 2):  # First something must have come.
            return web.json_response(body)
        return await self.play(request, [msgspec.json.encode(body)], media_type="application/json")

    async def _status(self, request: web.Request) -> web.StreamResponse:
        job = self._moved(request)
        body: dict[str, Any] = {"id": request.match_info["job"], "status": job.status}
        if job.status == "COMPLETED":
            output = self.output if self.makes == "image" else "".join(map(_text, self.pieces))
            body |= {"delayTime": 120, "executionTime": 2500, "workerId": "w1", "output": output}
        elif job.status in ("FAILED", "TIMED_OUT", "CANCELLED"):
            body |= {"executionTime": 2500, **({"error": self.error} if job.status == "FAILED" else {})}
        if self.fault == "error_inside":
            return web.json_response(body)
        return await self.play(request, [msgspec.json.encode(body)], media_type="application/json")

    async def _cancel(self, request: web.Request) -> web.Response:
        job = request.match_info["job"]
        if job not in self.jobs:
            raise Refused(self.refusal(404, "job not found"))
        self.jobs[job].status = "CANCELLED"
        self.cancelled.set()
        return web.json_response({"id": job, "status": "CANCELLED"})

    async def _health(self, _: web.Request) -> web.Response:
        await asyncio.sleep(0)
        jobs = {"completed": 1, "failed": 0, "inProgress": 1, "inQueue": 2, "retried": 0}
        return web.json_response({"jobs": jobs, "workers": self.workers})

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "qwen", "object": "model", "owned_by": "vllm"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        choices = (
            {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        )
        chunks = [msgspec.json.encode({"id": "x", "model": "qwen", "choices": [choice]}) for choice in choices]
        pieces = [*(b"data: " + chunk + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]
        return await self.play(request, pieces, media_type="text/event-stream")


class FakeRunpodImages(FakeRunpod):
    """The same with worker-comfyui."""

    makes = "image"


def _text(piece: Any) -> str:
    return piece if isinstance(piece, str) else piece["text"]
