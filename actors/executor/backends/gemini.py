"""Calls to Google's Gemini by its own protocols: texts and pictures by generateContent, videos by interactions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import msgspec

from actors.executor.backends.address import http_address
from actors.executor.backends.completion import count
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object
from actors.executor.backends.gemini_answer import GenerateFold
from actors.executor.backends.gemini_request import generate_body
from actors.executor.backends.gemini_video import run_video
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.kinds import Kind
from actors.executor.backends.openai_stream import items
from actors.executor.backends.parting import Parting
from actors.executor.backends.port import Answer, BackendError, Call, Item, NoList, Offer, Remark, Usage, Vitals
from actors.executor.backends.usage import added
from actors.executor.backends.wire import Wire

Version = Literal["v1beta", "v1"]

PICTURE_ANSWER_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of an answer that holds a picture as base64."""
MOST_PICTURES: Final = 10

_PAGES: Final = 20

_SPARE_TOKENS: Final = 32


class GeminiBackend:
    """A backend at the root URL of Google's generative language API."""

    tells_begun = True

    def __init__(self, wire: Wire, *, version: Version = "v1beta", poll_seconds: float = 5.0) -> None:
        self._wire = wire
        self._version: Version = version
        self._poll_seconds = poll_seconds
        self._parting = Parting()

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield what comes, then the answer."""
        async with contextlib.aclosing(self._running(call)) as parts:
            async for part in parts:
                yield part

    async def count(self, call: Call) -> int | None:
        """The prompt's tokens; a fiftieth is added for what the count may leave out. Raises BackendError."""
        if call.asset != "text":
            return None
        path = self._path(call.model)
        asked = {"model": path.removeprefix(f"{self._version}/"), **generate_body(call)}
        fields = as_object(await self._wire.fetch(f"{path}:countTokens", {"generateContentRequest": asked}))
        found = count((fields or {}).get("totalTokens"))
        return found + max(_SPARE_TOKENS, found // 50) if found else None

    async def health(self) -> Vitals:
        """How it is, when it lists models for our key: there is no other probe that costs nothing."""
        try:
            await self._page({"pageSize": "1"})
        except BackendError as error:
            raise NoList.or_worse(error) from error
        return Vitals()

    async def discover(self) -> tuple[Offer, ...]:
        """The models that make texts, pictures or videos by the calls that we know."""
        offers: dict[str, Offer] = {}
        token = ""
        for _ in range(_PAGES):
            fields = await self._page({"pageSize": "1000", **({"pageToken": token} if token else {})})
            for item in cast("list[Any]", fields["models"]):
                offer = _offer(as_object(item) or {})
                if offer is not None:
                    offers.setdefault(offer.model, offer)
            following: Any = fields.get("nextPageToken")
            if not isinstance(following, str) or following in {"", token}:
                break
            token = following
        return tuple(offers.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._parting.settled()
        await self._wire.close()

    def _running(self, call: Call) -> AsyncGenerator[Item, None]:
        if call.asset == "video":
            place = f"{self._version}/interactions"
            return run_video(self._wire, self._parting, call, place, self._poll_seconds)
        return self._pictures(call) if call.asset == "image" else self._text(call)

    async def _text(self, call: Call) -> AsyncGenerator[Item, None]:
        body = generate_body(call)
        fold = GenerateFold(call.model, secrets=self._wire.secrets)
        path = f"{self._path(call.model)}:streamGenerateContent"
        async with (
            self._wire.exchange("POST", path, body, params={"alt": "sse"}) as reply,
            contextlib.aclosing(items(reply, fold, self._wire.secrets)) as parts,
        ):
            async for part in parts:
                yield part

    async def _pictures(self, call: Call) -> AsyncGenerator[Item, None]:
        """One request makes one picture, so several are asked for one after the other."""
        wanted = max(1, call.media.images)
        if wanted > MOST_PICTURES:
            raise BackendError(
                "unknown_model", f"{wanted} pictures are asked for, and at most {MOST_PICTURES} are made"
            )
        body = generate_body(call)
        texts: list[str] = []
        usage: Usage | None = None
        last: Answer | None = None
        remarks: dict[Remark, None] = {}
        path = f"{self._path(call.model)}:generateContent"
        for number in range(wanted):
            fold = GenerateFold(call.model, images=True, secrets=self._wire.secrets)
            try:
                async with (
                    self._wire.exchange("POST", path, body, limit=PICTURE_ANSWER_LIMIT) as reply,
                    contextlib.aclosing(items(reply, fold, self._wire.secrets)) as parts,
                ):
                    async for part in parts:
                        if not isinstance(part, Answer):
                            yield part
                            continue
                        last = part
                for artifact in fold.artifacts():
                    yield artifact
            except BackendError as error:
                if last is None:
                    raise
                # The pictures before it are paid for, and kept.
                usage = usage if error.refused and error.usage is None else added(usage, error.usage)
                left = wanted - number
                remarks[Remark("count", f"the last {left} of {wanted} pictures could not be made: {error.message}")] = (
                    None
                )
                break
            if last is not None:
                texts.append(last.text)
                usage = added(usage, last.usage)
                remarks |= dict.fromkeys(last.remarks)
        if last is not None:
            yield msgspec.structs.replace(last, text="".join(texts), usage=usage or Usage(), remarks=tuple(remarks))

    def _path(self, model: str) -> str:
        return f"{self._version}/{quote(model if '/' in model else f'models/{model}')}"

    async def _page(self, params: Mapping[str, str]) -> dict[str, Any]:
        fields = as_object(await self._wire.fetch(f"{self._version}/models", params=params))
        if fields is None or not isinstance(fields.get("models"), list):
            message = f"{self._wire.base_url}/{self._version}/models: models is no list"
            raise BackendError("invalid_structure", message, status=200)
        return fields


def gemini_address(url: str) -> str:
    """The root URL of Google's API; `/v1beta` and `/v1` are taken off. Raises ValueError naming the field and the value."""
    parts = http_address(url)
    if parts.path.endswith("/openai"):
        raise ValueError(
            f"url: {url!r} is Google's OpenAI address: leave out '/v1beta/openai', or use the kind 'openai'"
        )
    if parts.path.endswith("/models") or "/models/" in parts.path:
        raise ValueError(f"url: {url!r} must be the root URL: leave out what follows the host")
    return parts._replace(path=parts.path.removesuffix("/v1beta").removesuffix("/v1")).geturl()


async def recognise(wire: Wire) -> str | None:
    """`""` when its models are listed, or our key refused, in Google's form; None when it is something else."""
    try:
        listed: Any = await wire.fetch("v1beta/models", params={"pageSize": "1"})
    except BackendError as error:
        return "" if error.kind == "account" and _is_refusal(error.body) else None
    cards: Any = (as_object(listed) or {}).get("models")
    if not isinstance(cards, list):
        return None
    names = [(as_object(card) or {}).get("name") for card in cast("list[Any]", cards)]
    return "" if names and all(str(name).startswith("models/") for name in names) else None


def _is_refusal(body: str) -> bool:
    """Whether it is an error with one of Google's status names."""
    try:
        error = as_object((as_object(value_of(body)) or {}).get("error")) or {}
    except NotJson:
        return False
    return isinstance(error.get("code"), int) and str(error.get("status") or "").isupper()


def _offer(card: Mapping[str, Any]) -> Offer | None:
    """The offer for a card of the list; None for what we can't ask it for: embeddings, speech, retired protocols."""
    name = str(card.get("name") or "").removeprefix("models/")
    said: Any = card.get("supportedGenerationMethods")
    methods = cast("list[Any]", said) if isinstance(said, list) else []
    if not name:
        return None
    capabilities = ("text", "vision", "tools", "json", *(("thinking",) if card.get("thinking") is True else ()))
    if "omni" in name:  # Listed with generateContent, and refused there.
        capabilities = ("video",)
    elif "generateContent" not in methods or any(word in name for word in ("-tts", "-audio", "-live", "embedding")):
        return None
    elif name.startswith("gemma"):
        capabilities = ("text",)
    elif "-image" in name or "nano-banana" in name:
        capabilities = ("image",)
    return Offer(
        model=name,
        context_tokens=count(card.get("inputTokenLimit")) or None,
        max_output_tokens=count(card.get("outputTokenLimit")) or None,
        capabilities=capabilities,
    )


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    version: Version = "v1beta"
    """The API version. `v1` lacks the preview models and the `-latest` names."""
    poll_seconds: float = 5.0
    """How often to ask whether a video is ready; above 0, at most 600. Google advises 5 to 10."""

    def __post_init__(self) -> None:
        """Check what an operator wrote."""
        if not 0 < self.poll_seconds <= 600:
            raise ValueError(f"poll_seconds: {self.poll_seconds!r} must be above 0 and at most 600")


def _open(connection: Connection, options: Options) -> GeminiBackend:
    return GeminiBackend(
        Wire(connection, auth="x-goog-api-key"), version=options.version, poll_seconds=options.poll_seconds
    )


KIND: Final = Kind(
    name="gemini", title="Google Gemini", open=_open, address=gemini_address, options=Options, recognise=recognise,
    auth="x-goog-api-key", url="https://generativelanguage.googleapis.com",
    key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"), provider="google",
)  # fmt: skip
