"""Where backends may be found without being told: usual ports, keys in the environment, and what their answers mean. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from actors.executor.backends import BackendKind, port
from actors.executor.hosted import OPENAI
from actors.prices import stated_in_settings
from actors.settings import Settings
from messages import Model, Offer, Price

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104  # Names to compare with.


class Place(msgspec.Struct, frozen=True):
    """Where a server of a kind usually listens."""

    name: str
    """Name of the backend, if one is found there."""
    kind: BackendKind
    url: str
    what: str
    """What usually listens there, for people."""


class Key(msgspec.Struct, frozen=True):
    """A provider's key that the environment may hold."""

    variable: str
    provider: str
    usable: bool
    """Whether there is an adapter for it."""


KEYS: Final = (
    Key("OPENAI_API_KEY", "openai", True),
    Key("ANTHROPIC_API_KEY", "anthropic", False),
    Key("GEMINI_API_KEY", "gemini", False),
)
_PORTS: Final = (
    (8000, "vLLM or llama-cpp-python"),
    (8001, "vLLM"),
    (8002, "vLLM"),
    (8080, "llama.cpp"),
    (5000, "text-generation-webui or TabbyAPI"),
    (1337, "Jan"),
)


def places(environment: Mapping[str, str]) -> tuple[Place, ...]:
    """The usual places on this machine; `OLLAMA_HOST` is heeded when it names one here."""
    ollama = "http://127.0.0.1:11434"
    named = environment.get("OLLAMA_HOST", "").strip()
    if named:
        parts = urlsplit(named if "//" in named else f"//{named}")
        with contextlib.suppress(ValueError):
            if parts.hostname in LOOPBACK:
                ollama = f"http://127.0.0.1:{parts.port or 11434}"
    return (
        Place("ollama", "ollama", ollama, "Ollama"),
        Place("lm-studio", "openai", "http://127.0.0.1:1234/v1", "LM Studio"),
        *(Place(f"local-{number}", "openai", f"http://127.0.0.1:{number}/v1", what) for number, what in _PORTS),
    )


def socket_of(url: str) -> tuple[str, int]:
    """Host and port of a URL; every name of this machine counts as the same."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return ("127.0.0.1" if host in LOOPBACK else host), parts.port or (443 if parts.scheme == "https" else 80)


def wanted_places(settings: Settings, environment: Mapping[str, str], own_ports: Iterable[int] = ()) -> list[Place]:
    """The places to look at: none that the settings name already, none that is ours."""
    if not settings.discover:
        return []
    taken = {socket_of(backend.url) for backend in settings.backends}
    taken |= {("127.0.0.1", number) for number in own_ports}
    names = {backend.name for backend in settings.backends}
    return [place for place in places(environment) if socket_of(place.url) not in taken and place.name not in names]


def keys_found(environment: Mapping[str, str]) -> list[Key]:
    """The providers whose key is in the environment."""
    return [key for key in KEYS if environment.get(key.variable, "").strip()]


def models_of(kind: BackendKind, offers: Sequence[port.Offer], *, local: bool) -> tuple[Model, ...]:
    """A server's models as the fleet knows them; those that only embed are left out.

    What runs on hardware of ours is free; what anything else costs, its list of models does not tell: see `priced`.
    """
    return tuple(
        Model(
            name=offer.model,
            # Both kinds of server take `response_format`; whether a model writes good code nobody says.
            capabilities=tuple(sorted({*offer.capabilities, "json", "code"})),
            context_tokens=offer.context_tokens,
            price=Price(unknown=not local),
        )
        for offer in offers
        if "text" in offer.capabilities and (kind == "ollama" or not offer.model.startswith("text-embedding"))
    )


def openai_models(listed: Sequence[port.Offer] | None) -> tuple[Model, ...]:
    """The models we know that an account may use; all of them while the account could not be asked. Not priced yet."""
    if listed is None:
        return OPENAI
    names = {offer.model for offer in listed}
    return tuple(model for model in OPENAI if model.name in names)


def unpriced(models: Sequence[Model]) -> bool:
    """Whether any of them has no price that somebody stated."""
    return any(model.price.unknown or model.price == Price() for model in models)


def without_prices(models: Sequence[Model]) -> tuple[Model, ...]:
    """Models as they were before they got their prices: the book may say something else today."""
    return tuple(msgspec.structs.replace(model, price=Price(unknown=True)) for model in models)


def priced(models: Sequence[Model], price_of: Callable[[str], Price | None]) -> tuple[Model, ...]:
    """Models with the prices of the book, where nobody stated one; what the book does not know stays as it was."""
    return tuple(
        msgspec.structs.replace(model, price=price)
        if (model.price.unknown or model.price == Price()) and (price := price_of(model.name)) is not None
        else model
        for model in models
    )


def as_stated(models: Sequence[Model]) -> tuple[Model, ...]:
    """Models of the settings: a price that stands there says so, for it comes before all others."""
    return tuple(msgspec.structs.replace(model, price=stated_in_settings(model.price)) for model in models)


def local_slots(kind: BackendKind, environment: Mapping[str, str]) -> int:
    """Attempts at once on a local server: Ollama runs as many as it was told, others batch."""
    if kind != "ollama":
        return 4
    told = environment.get("OLLAMA_NUM_PARALLEL", "")
    return max(1, int(told)) if told.isdecimal() else 1


def in_words(offer: Offer) -> str:
    """Where a backend's data go, and some of its models' names."""
    place = "local" if offer.local else "cloud"
    if not offer.models:
        return f"{place}, no model yet"
    names = [model.name for model in offer.models[:4]] + (["…"] if len(offer.models) > 4 else [])
    return f"{place}, {len(offer.models)} model{'s' if len(offer.models) != 1 else ''}: {', '.join(names)}"
