"""Backends that `MODEL_CATALOG` names by their addresses (seed 001), as the settings would have them. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from messages import Model

VARIABLE: Final = "MODEL_CATALOG"
KEY_FIELD: Final = "api_key_env"
"""In an entry: the variable that holds the key of its server."""
USUAL_KEY: Final = "MODEL_API_KEY"
"""The variable whose key goes to servers of no provider that is known, unless the entry names one."""


class Host(NamedTuple):
    """A provider's address."""

    provider: str
    protocol: str
    variables: tuple[str, ...]


HOSTS: Final[Mapping[str, Host]] = {
    "api.openai.com": Host("openai", "openai", ("OPENAI_API_KEY",)),
    "api.anthropic.com": Host("anthropic", "anthropic", ("ANTHROPIC_API_KEY",)),
    "generativelanguage.googleapis.com": Host("google", "openai", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "ollama.com": Host("ollama", "ollama", ("OLLAMA_API_KEY",)),
    "openrouter.ai": Host("openrouter", "openai", ("OPENROUTER_API_KEY",)),
    "api.mistral.ai": Host("mistral", "openai", ("MISTRAL_API_KEY",)),
    "api.groq.com": Host("groq", "openai", ("GROQ_API_KEY",)),
    "api.deepseek.com": Host("deepseek", "openai", ("DEEPSEEK_API_KEY",)),
    "api.together.xyz": Host("together", "openai", ("TOGETHER_API_KEY",)),
    "api.fireworks.ai": Host("fireworks", "openai", ("FIREWORKS_API_KEY",)),
    "api.x.ai": Host("xai", "openai", ("XAI_API_KEY",)),
}


class Named(msgspec.Struct, frozen=True):
    """A backend of the catalogue."""

    name: str
    protocol: str
    url: str
    local: bool
    provider: str
    api_key_env: str
    models: tuple[Model, ...]


def named_backends(
    environment: Mapping[str, str], *, urls: Collection[str], names: Collection[str]
) -> tuple[Named, ...]:
    """One for each `base_url` of `MODEL_CATALOG` with the models that stand there; none that `urls` have already.

    A provider's address without its key is left out: nobody could call it. What is wrong with the variable is said where the
    policies read it, so a text that is no catalogue names nobody.
    """
    try:
        given: Any = msgspec.json.decode(environment.get(VARIABLE, "").strip() or "{}")
    except (msgspec.DecodeError, RecursionError):
        return ()
    taken, used = {_place(url) for url in urls}, set(names)
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, entry in cast("dict[str, Any]", given if isinstance(given, dict) else {}).items():
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        url = fields.get("base_url")
        if isinstance(url, str) and urlsplit(url).scheme in ("http", "https") and _place(url) not in taken:
            found.setdefault(url.rstrip("/"), []).append((name, fields))
    made: list[Named] = []
    for url, entries in found.items():
        one = _named(url, entries, environment, used)
        if one is not None:
            used.add(one.name)
            made.append(one)
    return tuple(made)


def _named(
    url: str, entries: list[tuple[str, dict[str, Any]]], environment: Mapping[str, str], used: Collection[str]
) -> Named | None:
    host = HOSTS.get(urlsplit(url).hostname or "")
    own = [fields[KEY_FIELD] for _, fields in entries if isinstance(fields.get(KEY_FIELD), str)]
    variables = (*own, *(host.variables if host else (USUAL_KEY,)))
    key = next((variable for variable in variables if environment.get(variable, "").strip()), "")
    if host is not None and not key:
        return None
    protocol = host.protocol if host else "openai"
    address = url.removesuffix("/v1") if protocol == "anthropic" else url
    name = host.provider if host else re.sub(r"[^a-z0-9]+", "-", urlsplit(url).netloc.lower()).strip("-")
    return Named(
        name=name if name not in used else f"{name}-catalogue",
        protocol=protocol,
        url=address,
        local=host is None and _is_local(url),
        provider=host.provider if host else "",
        api_key_env=key,
        models=tuple({model.name: model for model in (_model(id_, fields) for id_, fields in entries)}.values()),
    )


def _model(id_: str, fields: dict[str, Any]) -> Model:
    """What its entry says; wrong values are said elsewhere, and left out here."""
    able = fields.get("capabilities")
    capabilities = (
        tuple(one for one in cast("list[Any]", able) if isinstance(one, str)) if isinstance(able, list) else ()
    )
    context = fields.get("max_tokens", fields.get("context_tokens"))
    return Model(
        name=str(fields.get("model") or id_),
        capabilities=capabilities or ("text",),
        context_tokens=context if type(context) is int and context > 0 else None,
    )


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith(".local")
