"""A strict server of Google's generative language API on a real socket: generateContent, interactions, files, models."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from tests.fakes.base import RETRY_AFTER_SECONDS, STATUS, FakeServer, Refused
from tests.fakes.gemini_asked import Config, Count, Generate, Interact

VERSION: Final = "/{version:v1|v1beta}"
TEXT: Final = "Hello, wörld – ünd 東京!"
PIECES: Final = ("Hello, w", "örld – ", "ünd 東京", "!")
PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MP4: Final = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + b"\x00\x00\x00\x08mdat" * 400
USAGE: Final = {
    "promptTokenCount": 11, "candidatesTokenCount": 22, "thoughtsTokenCount": 33, "cachedContentTokenCount": 4,
    "totalTokenCount": 66,
}  # fmt: skip
VIDEO_USAGE: Final = {
    "total_input_tokens": 9, "total_output_tokens": 57_920, "total_thought_tokens": 80, "total_cached_tokens": 0,
    "total_tokens": 58_009, "output_tokens_by_modality": [{"modality": "video", "tokens": 57_920}],
}  # fmt: skip
STATUSES: Final = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED",
    404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


WORDS: Final = {
    400: "invalid_request", 401: "unauthenticated", 403: "permission_denied", 404: "not_found",
    429: "rate_limit_exceeded", 500: "internal_error", 503: "unavailable",
}  # fmt: skip


class FakeGemini(FakeServer):
    """Answers texts with `pieces`, pictures with `picture`, and videos with interactions that move on when looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Generate] = []
        self.interactions: list[Interact] = []
        self.api_keys: list[str | None] = []
        self.pieces: list[bytes] = usual()
        self.picture: dict[str, Any] = {
            "candidates": [candidate({"thought": True, "text": "hm"}, inline(PNG), finish="STOP")],
            "usageMetadata": USAGE,
        }
        self.details: list[dict[str, Any]] | None = None
        """The `details` of every refusal."""
        self.status: int | None = None
        """The status of every refusal, instead of the fault's."""
        self.as_list = False
        """Refusals come as a list of one."""
        self.models = [
            card("gemini-3.8-flash"), card("gemini-3.1-flash-image"), card("gemini-omni-1.1-flash"),
            card("gemini-embedding-001", methods=("embedContent",)),
        ]  # fmt: skip
        self.page = 1000
        self.states = ["queued", "in_progress", "completed"]
        """What an interaction is when it begins, and after each look at it; the last one stays."""
        self.ending: dict[str, Any] = {"steps": [{"type": "user_input", "content": []}, made()]}
        self.background = True
        """Takes `background`."""
        self.stumbles = 0
        """Looks at interactions and files that fail before one succeeds."""
        self.slow: asyncio.Event | None = None
        """An interaction begins at once, and is said to have begun when this is set."""
        self.looks: dict[str, int] = {}
        self.cancels: list[str] = []
        self.elsewhere = ""
        """Where files are, if not here."""

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return [
            web.get(f"{VERSION}/models", self._models),
            web.post(f"{VERSION}/models/{{called}}", self._generate),
            web.post(f"{VERSION}/interactions", self._interact),
            web.get(f"{VERSION}/interactions/{{id}}", self._look),
            web.post(f"{VERSION}/interactions/{{id}}/cancel", self._cancel),
            web.get(f"{VERSION}/files/{{file}}", self._download),
        ]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        status = self.status or status
        details = self.details
        if details is None and status == 429:
            details = [retry_info(f"{RETRY_AFTER_SECONDS}s")]  # There is no header for it.
        error = {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}
        body: Any = {"error": {**error, **({"details": details} if details else {})}}
        return web.json_response([body] if self.as_list else body, status=status)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        self._authorized(request)
        model, _, method = request.match_info["called"].partition(":")
        if method == "countTokens":
            counted = (await self.read(request, Count)).generate_content_request
            self._check(counted, model)
            if counted.model != f"models/{model}":
                raise Refused(self.refusal(400, "model: is another than in the path"))
            return web.json_response({"totalTokens": 9 * len(counted.contents) + 3_000 * len(counted.tools or ())})
        stream = method == "streamGenerateContent" and request.query.get("alt") == "sse"
        if not stream and method != "generateContent":
            raise Refused(self.refusal(404, f"no method {method}"))
        asked = await self.read(request, Generate)
        self._check(asked, model)
        self.asked.append(asked)
        self.calls += 1
        self._refuse_limited()
        if asked.generation_config is not None and asked.generation_config.response_modalities:
            return await self.play(request, [msgspec.json.encode(self.picture)], media_type="application/json")
        if not stream:
            return await self.play(request, [whole(self.pieces)], media_type="application/json")
        inside = sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
        return await self.play(
            request, self.pieces, media_type="text/event-stream", frame=lambda data: b"data: " + data + b"\r\n\r\n",
            inside=inside,
        )  # fmt: skip

    async def _interact(self, request: web.Request) -> web.StreamResponse:
        self._authorized(request)
        try:
            asked = await self.read(request, Interact)
        except Refused:
            raise Refused(self._said(400, "strict types refuse it")) from None
        if asked.background and not self.background:
            raise Refused(self._said(400, "background is not supported for this model"))
        self.interactions.append(asked)
        self.calls += 1
        if self.fault is not None and self.fault in STATUS:
            raise Refused(self._said(STATUS[self.fault]))
        key = f"v1_{len(self.interactions)}"
        if self.slow is not None:
            await self.slow.wait()
        self.looks[key] = 0 if asked.background else len(self.states) - 1
        body = msgspec.json.encode(self._state(key))
        if self.fault == "hang":
            return web.Response(body=body, content_type="application/json")
        return await self.play(request, [body], media_type="application/json")

    async def _look(self, request: web.Request) -> web.StreamResponse:
        self._authorized(request, "include_input", "stream")
        key = request.match_info["id"]
        if key not in self.looks:
            raise Refused(self._said(404, "no such interaction"))
        self._stumble()
        if self.fault != "hang":
            self.looks[key] += 1
        return web.json_response(self._state(key))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self._authorized(request)
        self.cancels.append(request.match_info["id"])
        self.cancelled.set()
        return web.json_response({"id": request.match_info["id"], "status": "cancelled"})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        name, _, method = request.match_info["file"].partition(":")
        if not self.elsewhere:
            self._authorized(request, "alt")
        if method != "download" or request.query.get("alt") != "media":
            raise Refused(self.refusal(400, f"{name}: use :download?alt=media"))
        self._stumble()
        return web.Response(body=MP4, content_type="video/mp4")

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self._authorized(request, "pageSize", "pageToken")
        start = int(request.query.get("pageToken") or 0)
        end = start + min(self.page, int(request.query.get("pageSize", "50")))
        more = {"nextPageToken": str(end)} if end < len(self.models) else {}
        return web.json_response({"models": self.models[start:end], **more})

    def _state(self, key: str) -> dict[str, Any]:
        status = self.states[min(self.looks[key], len(self.states) - 1)]
        asked = self.interactions[int(key.removeprefix("v1_")) - 1]
        body = {"id": key, "status": status, "model": asked.model, "created": "2026-11-20T00:00:00Z"}
        if status in {"queued", "in_progress"}:
            return body
        ending = self.ending
        if asked.response_format.delivery == "uri" and self.ending.get("steps"):
            at = self.elsewhere or self.url
            ending = {"steps": [made(uri=f"{at}/v1beta/files/abc:download?alt=media")]} if _inline(ending) else ending
        return {**body, **ending, "usage": VIDEO_USAGE}

    def _stumble(self) -> None:
        if self.stumbles:
            self.stumbles -= 1
            raise Refused(self._said(500, "try again"))

    def _said(self, status: int, message: str = "no") -> web.Response:
        """The interactions' form of an error: its code is a word, and how long to wait it does not tell."""
        return web.json_response({"error": {"code": WORDS[status], "message": message}}, status=status)

    def _refuse_limited(self) -> None:
        if self.fault == "rate_limited":  # Without the header that other servers send.
            raise Refused(self.refusal(STATUS[self.fault]))

    def _authorized(self, request: web.Request, *allowed: str) -> None:
        key = request.headers.get("x-goog-api-key")
        self.api_keys.append(key)
        refuse = self._said if "/interactions" in request.path else self.refusal
        if not set(request.query) <= {*allowed, "alt"}:
            raise Refused(refuse(400, "unknown parameter, or a key in the URL"))
        if not key:
            raise Refused(refuse(403, "Method doesn't allow unregistered callers"))
        if key == "wrong":
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            error = {"code": 400, "message": "API key not valid.", "status": STATUSES[400], "details": [reason]}
            raise Refused(web.json_response({"error": error}, status=400))

    def _check(self, asked: Generate, model: str) -> None:
        """What the types can't say."""
        config = asked.generation_config or Config()
        parts = [part for content in asked.contents for part in content.parts]
        calls = [part.function_call.name for part in parts if part.function_call]
        answers = [part.function_response.name for part in parts if part.function_response]
        signed = [part for content in asked.contents for part in content.parts if part.function_call][:1]
        faults = [
            (not asked.contents, "contents is not specified"),
            (any(len(msgspec.to_builtins(one).keys() - {"thoughtSignature"}) == 0 for one in parts), "empty part"),
            (calls != answers, "the number of function response parts must equal that of function call parts"),
            (any(not one.thought_signature for one in signed), "Function call is missing a thought_signature"),
            ("omni" in model, "This model only supports Interactions API."),
            (config.temperature is not None and "3.8-flash" in model, "temperature is not supported"),
            (len(config.stop_sequences or ()) > 5, "at most 5 stop sequences"),
        ]
        for found, words in faults:
            if found:
                raise Refused(self.refusal(400, words))


def _inline(ending: dict[str, Any]) -> bool:
    made = [step for step in ending["steps"] if step["type"] == "model_output"]
    return any("data" in part for step in made for part in step.get("content", ()))


def candidate(*parts: dict[str, Any], finish: str = "", **more: Any) -> dict[str, Any]:
    said = {"finishReason": finish} if finish else {}
    return {"content": {"role": "model", "parts": list(parts)}, "index": 0, **said, **more}


def inline(data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    return {"inlineData": {"mimeType": media_type, "data": base64.b64encode(data).decode()}}


def made(**more: Any) -> dict[str, Any]:
    """A step that made a video: inside, or at `uri`."""
    where = more or {"data": base64.b64encode(MP4).decode()}
    return {"type": "model_output", "content": [{"type": "video", "mime_type": "video/mp4", **where}]}


def sse(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\r\n\r\n"


def said(*parts: dict[str, Any], finish: str = "", **more: Any) -> bytes:
    """One event of a stream."""
    body = {"candidates": [candidate(*parts, finish=finish)], "modelVersion": "gemini-3.8-flash", "responseId": "r1"}
    return sse({**body, **more})


def usual() -> list[bytes]:
    """The usual answer: it thinks and writes `TEXT`; each event tells the usage so far."""
    early: dict[str, Any] = {"usageMetadata": {"promptTokenCount": 11, "totalTokenCount": 11}}
    *most, last = PIECES
    return [
        said({"text": "hm", "thought": True}, **early),
        *(said({"text": piece}, **early) for piece in most),
        said({"text": last}, finish="STOP", usageMetadata=USAGE),
    ]


def whole(pieces: list[bytes]) -> bytes:
    """What a stream tells, at once."""
    events: list[dict[str, Any]] = [msgspec.json.decode(piece.removeprefix(b"data: ")) for piece in pieces]
    parts = [part for one in events for part in one["candidates"][0]["content"]["parts"]]
    finish = events[-1]["candidates"][0].get("finishReason", "")
    return msgspec.json.encode({**events[-1], "candidates": [candidate(*parts, finish=finish)]})


def card(name: str, methods: Iterable[str] = ("generateContent", "countTokens"), **more: Any) -> dict[str, Any]:
    return {
        "name": f"models/{name}", "version": "001", "displayName": name, "description": name, "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536, "supportedGenerationMethods": list(methods), "thinking": True, **more,
    }  # fmt: skip


def retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota(quota_id: str, value: str = "10") -> dict[str, Any]:
    violation = {"quotaMetric": "generativelanguage.googleapis.com/x", "quotaId": quota_id, "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
