"""Where backends may be found without being told: usual ports, keys in the environment, and what their answers mean. Pure."""

from __future__ import annotations

import bisect
import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from actors.executor.backends import port
from actors.executor.backends.kinds import Kind
from actors.executor.clients import LOOPBACK, key_in, socket_of
from actors.executor.hosted import model_of
from actors.prices import stated_in_settings
from actors.settings import Settings
from messages import Model, Offer, Price


class Place(msgspec.Struct, frozen=True):
    """Where a server usually listens on this machine."""

    name: str
    """Name of the backend, if one of the usual kind is found there."""
    url: str
    """Without a path: each kind of server has its own."""
    what: str
    """What usually listens there, for people."""


class Key(msgspec.Struct, frozen=True):
    """A provider's key that the environment holds."""

    variable: str
    provider: str
    usable: bool
    """Whether it is enough: some providers need an address too."""


BASE_VARIABLES: Final[Mapping[str, str]] = {
    "openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL",
}  # fmt: skip
"""The variables in which the providers' own clients look for another address."""
_MORE: Final[Mapping[int, str]] = {5000: "text-generation-webui or TabbyAPI", 1337: "Jan"}
"""What listens there that has no kind of its own."""


LORA_BYTES: Final = 131_072
"""As JSON the models of one backend may take so much, with the names of all LoRAs."""
MODELS_BYTES: Final = 262_144
"""And so much without them: a message holds a megabyte, and all backends of an executor stand in one."""


def slug(kind: Kind) -> str:
    """A backend's name after its kind."""
    return kind.name.replace("_", "-")


def places(environment: Mapping[str, str], kinds: Sequence[Kind]) -> tuple[Place, ...]:
    """The usual places on this machine, by port; `OLLAMA_HOST` is heeded when it names one here."""
    found: dict[int, list[Kind]] = {}
    for kind in kinds:
        for number in kind.ports:
            found.setdefault(_moved(kind, number, environment), []).append(kind)
    return tuple(
        Place(
            name=name_at(there[0], number, environment),
            url=f"http://127.0.0.1:{number}",
            what=_MORE.get(number) or " or ".join(kind.title for kind in there),
        )
        for number, there in found.items()
    )


def _moved(kind: Kind, number: int, environment: Mapping[str, str]) -> int:
    """The port of Ollama is where its own variable says, if that is on this machine."""
    named = environment.get("OLLAMA_HOST", "").strip() if kind.name == "ollama" else ""
    if named:
        parts = urlsplit(named if "//" in named else f"//{named}")
        with contextlib.suppress(ValueError):
            if parts.hostname in LOOPBACK:
                return parts.port or number
    return number


def name_at(kind: Kind, number: int, environment: Mapping[str, str]) -> str:
    """The name of a backend that was found at a port of this machine: `ollama` at its usual one, else `vllm-8001`."""
    if kind.name == "openai":
        return f"local-{number}"
    usual = kind.ports and number == _moved(kind, kind.ports[0], environment)
    return slug(kind) if usual else f"{slug(kind)}-{number}"


def wanted_places(
    settings: Settings, environment: Mapping[str, str], kinds: Sequence[Kind], own_ports: Iterable[int] = ()
) -> list[Place]:
    """The places to look at: none that the settings name already, none that is ours."""
    if not settings.discover:
        return []
    taken = {socket_of(backend.url) for backend in settings.backends}
    taken |= {("127.0.0.1", number) for number in own_ports}
    names = {backend.name for backend in settings.backends}
    return [
        place for place in places(environment, kinds) if socket_of(place.url) not in taken and place.name not in names
    ]  # fmt: skip


def keys_found(environment: Mapping[str, str], kinds: Iterable[Kind]) -> list[Key]:
    """The providers whose key is in the environment."""
    return [
        Key(variable, kind.provider or kind.name, bool(hosted_url(kind, environment)))
        for kind in kinds
        if (variable := key_in(kind, environment)[0])
    ]


def hosted_url(kind: Kind, environment: Mapping[str, str]) -> str:
    """Where a provider is; empty: that must be configured."""
    variable = BASE_VARIABLES.get(kind.name, "")
    return (environment.get(variable, "").strip() if variable else "") or kind.url


def hosted_name(kind: Kind) -> str:
    """The name of the backend that a key in the environment makes."""
    return f"{slug(kind)}-cloud" if kind.ports and kind.name != "openai" else slug(kind)


def parted(offers: Sequence[port.Offer], *, local: bool) -> tuple[tuple[Model, ...], tuple[Model, ...]]:
    """A server's models as the fleet knows them: those that run there, and those that run elsewhere though it is here."""
    there = tuple(model_of(offer, local=local) for offer in offers if not offer.cloud)
    return there, tuple(model_of(offer, local=False) for offer in offers if offer.cloud)


def unpriced(models: Sequence[Model]) -> bool:
    """Whether any of them has no price that somebody stated."""
    return not all(model.price.stated for model in models)


def without_prices(models: Sequence[Model]) -> tuple[Model, ...]:
    """Models as they were before they got their prices: the book may say something else today."""
    return tuple(msgspec.structs.replace(model, price=Price(unknown=True)) for model in models)


def priced(models: Sequence[Model], price_of: Callable[[str], Price | None]) -> tuple[Model, ...]:
    """Models of somebody else's hardware with the prices of the book, where nobody stated one; else theirs are unknown."""
    return tuple(
        model
        if model.price.stated
        else msgspec.structs.replace(model, price=price_of(model.name) or Price(unknown=True))
        for model in models
    )


def announced(models: tuple[Model, ...]) -> tuple[Model, ...]:
    """Models as they fit into every heartbeat: where the names of LoRAs take too much room they are unknown, and of too many
    models the first stay.
    """
    sizes = [len(msgspec.json.encode(model)) for model in models]
    if sum(sizes) > LORA_BYTES:
        models = tuple(msgspec.structs.replace(model, loras=None) if model.loras else model for model in models)
        sizes = [len(msgspec.json.encode(model)) for model in models]
    ends = list(itertools.accumulate(sizes))
    return models[: bisect.bisect_right(ends, MODELS_BYTES)]


def as_stated(models: Sequence[Model]) -> tuple[Model, ...]:
    """Models of the settings: a price that stands there says so, for it comes before all others."""
    return tuple(msgspec.structs.replace(model, price=stated_in_settings(model.price)) for model in models)


def local_slots(kind: Kind, environment: Mapping[str, str]) -> int:
    """Attempts at once on a local server, before it says how many: Ollama runs as many as it was told."""
    told = environment.get("OLLAMA_NUM_PARALLEL", "") if kind.name == "ollama" else ""
    return max(1, int(told)) if told.isdecimal() else kind.slots


def in_words(offer: Offer) -> str:
    """Where a backend's data go, and some of its models' names."""
    place = "local" if offer.local else "cloud"
    if not offer.models:
        return f"{place}, no model yet"
    names = [model.name for model in offer.models[:4]] + (["…"] if len(offer.models) > 4 else [])
    return f"{place}, {len(offer.models)} model{'s' if len(offer.models) != 1 else ''}: {', '.join(names)}"
