"""Calls to Anthropic, and to every server that speaks its Messages protocol."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Literal, cast

import msgspec

from actors.executor.backends.address import http_address
from actors.executor.backends.anthropic_answer import MessageFold
from actors.executor.backends.anthropic_request import VERSION, request_body, takes_schema, version_of
from actors.executor.backends.completion import count
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import as_object, complaint_of
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.kinds import Kind
from actors.executor.backends.openai_stream import items
from actors.executor.backends.port import BackendError, Call, Item, NoList, Offer, Vitals
from actors.executor.backends.wire import Wire

Version = Literal["2026-10-21", "2023-06-01"]

_PAGES: Final = 20
_COUNTED: Final = frozenset({"model", "messages", "system", "tools", "output_config"})
"""What of a request its tokens are counted of."""
_SPARE_TOKENS: Final = 32
_CAPABILITIES: Final = {"image_input": "vision", "structured_outputs": "json", "thinking": "thinking"}


class AnthropicBackend:
    """A backend at the root URL of a server of Anthropic's API."""

    tells_begun = True

    def __init__(self, wire: Wire, *, version: Version = VERSION) -> None:
        self._wire = wire
        self._version: str = version
        self._structured: dict[str, bool] = {}  # What discovery said of each model.

    async def run(self, call: Call) -> AsyncGenerator[Item, None]:
        """Yield the chunks, then the answer."""
        structured = self._structured.get(call.model, takes_schema(call.model))
        body = request_body(call, structured=structured)
        fold = MessageFold(call.model, secrets=self._wire.secrets)
        headers = {"anthropic-version": version_of(call, self._version)}
        async with (
            self._wire.exchange("POST", "v1/messages", body, headers=headers) as reply,
            contextlib.aclosing(items(reply, fold, self._wire.secrets)) as parts,
        ):
            async for part in parts:
                yield part

    async def count(self, call: Call) -> int | None:
        """The prompt's tokens; the provider calls its own count an estimate, so a fiftieth is added. Raises BackendError."""
        structured = self._structured.get(call.model, takes_schema(call.model))
        whole = request_body(call, structured=structured)
        body = {name: value for name, value in whole.items() if name in _COUNTED}
        headers = {"anthropic-version": version_of(call, self._version)}
        fields = as_object(await self._wire.fetch("v1/messages/count_tokens", body, headers=headers))
        found = count((fields or {}).get("input_tokens"))
        return found + max(_SPARE_TOKENS, found // 50) if found else None

    async def health(self) -> Vitals:
        """How it is, when it lists models for our key: there is no other probe that costs nothing."""
        try:
            await self._page(limit=1)
        except BackendError as error:
            raise NoList.or_worse(error) from error
        return Vitals()

    async def discover(self) -> tuple[Offer, ...]:
        """The models that our key may use; retired ones are left out."""
        offers: dict[str, Offer] = {}
        after = ""
        for _ in range(_PAGES):
            fields = await self._page(limit=1000, after=after)
            for item in cast("list[Any]", fields["data"]):
                card = as_object(item) or {}
                model: Any = card.get("id")
                if isinstance(model, str) and model and card.get("lifecycle") != "retired":
                    offers.setdefault(model, _offer(model, card))
            last: Any = fields.get("last_id")
            if not fields.get("has_more") or not isinstance(last, str) or last in {"", after}:
                break
            after = last
        self._structured = {model: "json" in offer.capabilities for model, offer in offers.items()}
        return tuple(offers.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def _page(self, *, limit: int, after: str = "") -> dict[str, Any]:
        params = {"limit": str(limit), **({"after_id": after} if after else {})}
        headers = {"anthropic-version": self._version}
        fields = as_object(await self._wire.fetch("v1/models", headers=headers, params=params))
        if fields is None or not isinstance(fields.get("data"), list):
            raise BackendError("invalid_structure", f"{self._wire.base_url}/v1/models: data is no list", status=200)
        return fields


def anthropic_address(url: str) -> str:
    """The root URL of a server of Anthropic's API; `/v1` is taken off.

    Raises ValueError naming the field and the value.
    """
    parts = http_address(url)
    for ending in ("/messages", "/models"):
        if parts.path.endswith(ending):
            raise ValueError(f"url: {url!r} must be the root URL: leave out {'/v1' + ending!r}")
    return parts._replace(path=parts.path.removesuffix("/v1")).geturl()


async def recognise(wire: Wire) -> str | None:
    """`""` when its models are listed, or our key refused, in Anthropic's form; None when it is something else."""
    try:
        listed: Any = await wire.fetch("v1/models", headers={"anthropic-version": VERSION}, params={"limit": "1"})
    except BackendError as error:
        return "" if error.kind == "account" and _is_refusal(error.body) else None
    fields = as_object(listed) or {}
    cards: Any = fields.get("data")
    if not isinstance(cards, list) or "has_more" not in fields:
        return None
    return "" if all((as_object(card) or {}).get("type") == "model" for card in cast("list[Any]", cards)) else None


def _is_refusal(body: str) -> bool:
    try:
        fields = as_object(value_of(body)) or {}
    except NotJson:
        return False
    return fields.get("type") == "error" and bool(complaint_of(body).words)


def _offer(model: str, card: Mapping[str, Any]) -> Offer:
    said = as_object(card.get("capabilities"))
    if said is None:  # Of an older server; every Claude model that is still served sees images.
        more = ["vision"] if model.startswith("claude-") else []
    else:
        more = [word for name, word in _CAPABILITIES.items() if (as_object(said.get(name)) or {}).get("supported")]
    retires: Any = card.get("retires_at")
    return Offer(
        model=model,
        context_tokens=count(card.get("max_input_tokens")) or None,
        max_output_tokens=count(card.get("max_tokens")) or None,
        capabilities=("text", "tools", *more),
        retires=retires[:10] if isinstance(retires, str) else "",
    )


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the settings may say of a backend of this kind."""

    version: Version = VERSION
    """The API version for calls without sampling parameters; those with them always go with the older one."""


def _open(connection: Connection, options: Options) -> AnthropicBackend:
    return AnthropicBackend(Wire(connection, auth="x-api-key"), version=options.version)


KIND: Final = Kind(
    name="anthropic", title="Anthropic", open=_open, address=anthropic_address, options=Options, recognise=recognise,
    auth="x-api-key", url="https://api.anthropic.com", key_variables=("ANTHROPIC_API_KEY",), provider="anthropic",
)  # fmt: skip
