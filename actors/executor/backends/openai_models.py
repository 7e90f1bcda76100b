"""What a list of models tells: of OpenAI's own the names alone, of other servers what their cards say. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from actors.executor.backends.completion import count
from actors.executor.backends.errors import as_object
from actors.executor.backends.port import BackendError, Offer
from actors.executor.backends.roles import Role, named_role, role_of

_CONTEXT_FIELDS: Final = ("max_model_len", "context_length", "max_context_length", "context_window")

# They neither write text, nor make pictures, nor embed; or they can't be called without a hosted tool.
_OTHER: Final = re.compile(
    r"audio|realtime|transcribe|tts|whisper|moderation|sora|dall-e|search|deep-research|computer-use|live|instruct"
    r"|davinci|babbage|translate"
)
_REASONING: Final = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d\d)|codex-)(?!.*-chat)")
_RESPONSES: Final = re.compile(r".*(?:-pro\b|codex|-cyber\b|rosalind|daybreak|-law\b)")
_IMAGE: Final = re.compile(r"(?:chat)?gpt-image")
_WITHOUT_VISION: Final = re.compile(r"gpt-3|gpt-4(?:-\d|$)|o1-mini|o1-preview|o3-mini")
_WITHOUT_TOOLS: Final = re.compile(r"chatgpt-4o|o1-mini|o1-preview")
_NO_CHAT: Final = re.compile(
    r"(?i)(?:not|n't|no) (?:\w+ ){0,3}(?:support|chat|conversational|generat)[^.]{0,60}(?:chat|complet|generat)|not a chat model"
    r"|not supported (?:for|by|with|in) [^.]{0,40}chat|chat[^.]{0,60}(?:not|n't) (?:be )?(?:support|enabled|available|allowed)"
    r"|(?:not|n't) support[^.]{0,30}(?:chat|completion|generation)|no chat template"
    r"|only supports? [^.]{0,30}(?:embed|rerank|speech|transcri)"
)


def family(model: str) -> str:
    """The name without what an account added: `ft:gpt-4.1-mini:org::id` is a `gpt-4.1-mini`."""
    return model.removeprefix("ft:").partition(":")[0]


def reasons(model: str) -> bool:
    """Whether it thinks before it writes: then it takes no sampling parameters and no stop sequences."""
    return _REASONING.match(family(model)) is not None


def only_responses(model: str) -> bool:
    """Whether it is served at `/v1/responses` alone."""
    return reasons(model) and _RESPONSES.match(family(model)) is not None


def capabilities(model: str) -> tuple[str, ...]:
    """What it can do, in the words of `Offer`; empty: nothing that a call can ask for."""
    name = family(model)
    if _IMAGE.match(name):
        return ("image",)
    if name.startswith("text-embedding"):
        return ("embedding",)
    if _OTHER.search(name):
        return ()
    if not re.match(r"(?:chat)?gpt-|o\d|codex-", name):
        return ("text",)
    lacks = {word for word, pattern in (("vision", _WITHOUT_VISION), ("tools", _WITHOUT_TOOLS)) if pattern.match(name)}
    found = ("text", "vision", "tools", "json", *(("thinking",) if reasons(model) else ()))
    return tuple(word for word in found if word not in lacks)


def cards_of(fields: object, name: str = "the list of models") -> list[dict[str, Any]]:
    """The cards of a list of models that have an id, each id once. Raises BackendError when it is no such list."""
    data: Any = (as_object(fields) or {}).get("data")
    if not isinstance(data, list):
        raise BackendError("invalid_structure", f"{name}: data is no list", status=200)
    found: dict[str, dict[str, Any]] = {}
    for item in cast("list[Any]", data):
        card = as_object(item) or {}
        if isinstance(card.get("id"), str) and card["id"]:
            found.setdefault(card["id"], card)
    return list(found.values())


def own_offers(cards: list[dict[str, Any]]) -> tuple[Offer, ...]:
    """OpenAI's own models, without those that no call can ask for."""
    return tuple(
        Offer(model=card["id"], capabilities=can, retires=str(card.get("shutdown_date") or ""))
        for card in cards
        if (can := capabilities(card["id"]))
    )


def other_offers(fields: Mapping[str, Any], cards: list[dict[str, Any]]) -> tuple[Offer, ...]:
    """The models of some server that speaks OpenAI's protocol."""
    vision = _multimodal(fields)
    return tuple(_offer(card, vision=card["id"] in vision) for card in cards)


def _multimodal(fields: Mapping[str, Any]) -> frozenset[str]:
    """The models that llama-server's second list calls multimodal."""
    cards: Any = fields.get("models")
    found: set[str] = set()
    for item in cast("list[Any]", cards) if isinstance(cards, list) else []:
        card = as_object(item) or {}
        name: Any = card.get("model") or card.get("name")
        words: Any = card.get("capabilities")
        if isinstance(name, str) and isinstance(words, list) and "multimodal" in words:
            found.add(name)
    return frozenset(found)


def _offer(card: Mapping[str, Any], *, vision: bool) -> Offer:
    meta = as_object(card.get("meta")) or {}
    sizes = [count(meta.get("n_ctx")), *(count(card.get(name)) for name in _CONTEXT_FIELDS)]
    status: Any = (as_object(card.get("status")) or {}).get("value")
    writes = ("text", "vision") if vision else ("text",)
    return Offer(
        model=card["id"],
        context_tokens=next((size for size in sizes if size), None),
        capabilities=capabilities_by(role_of(card) or named_role(card["id"]), writes),
        loaded=status == "loaded" if isinstance(status, str) else None,
    )


def capabilities_by(role: Role | None, writes: tuple[str, ...]) -> tuple[str, ...]:
    """What a model can do that is for this; `writes` is what it can where it is a text model, or nobody says."""
    if role in (None, "text"):
        return writes
    return () if role == "other" else (role,)


def says_no_chat(error: BackendError) -> bool:
    """Whether a server's refusal means that the model, or the server, does not chat."""
    return error.status in (400, 404, 405, 422, 501) and _NO_CHAT.search(error.message) is not None


def is_undecided(card: Mapping[str, Any]) -> bool:
    """Whether neither the server nor the name says what a model is for."""
    return role_of(card) is None and named_role(card["id"]) is None
