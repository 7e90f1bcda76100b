"""A backend that a person adds by hand: what is found at its address, and how it is written down."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from actors.executor.backends.kinds import Kind, open_kind
from actors.executor.clients import LOOPBACK, connection_of, connection_to, is_here, socket_of
from actors.executor.hosted import completed, hosted_models, undated
from actors.executor.places import name_at, parted, priced, slug
from actors.executor.recognise import Unrecognised, recognise
from actors.executor.served import Served
from actors.prices import PriceBook
from actors.settings import BackendSettings, Settings, SettingsError, load
from messages import Model, Offer

__all__ = ["Seen", "Unrecognised", "answers", "lines_of", "see", "written"]


class Seen(msgspec.Struct, frozen=True):
    """What is at an address."""

    kind: Kind
    version: str
    backend: BackendSettings
    """As it would be written down."""
    models: tuple[Model, ...]
    """Those that run there, with their prices."""
    elsewhere: tuple[Model, ...]
    """Those that run elsewhere though the server is there."""
    trouble: str


async def see(
    backend: BackendSettings,
    settings: Settings,
    *,
    local: bool | None,
    environment: Mapping[str, str],
    now: Callable[[], float],
) -> Seen:
    """Ask who is there. `backend` may have no name and says nothing of the protocol; `local` None: as its address tells.

    Raises ValueError naming the field, and Unrecognised.
    """
    connection = connection_to(backend.url, backend, environment, now)
    if in_the_clear(backend.url, connection.api_key):
        raise ValueError(f"url: {backend.url!r} would send the key unencrypted over the internet: write https://")
    found = await recognise(connection)
    kind = found.kind
    here = runs_here(backend.url, kind) if local is None else local
    name = backend.name or name_for(backend.url, kind, environment, {one.name for one in settings.backends})
    provider = backend.provider or ("" if here else kind.provider)
    known = {model.name: model for model in hosted_models(provider, None, bool)}
    there, elsewhere = parted(found.offers, local=here)
    there = tuple(completed(model, known.get(undated(model.name))) for model in there)
    book = PriceBook.open(settings, environment=environment, now=now)
    if not here and provider:
        await asyncio.to_thread(book.load)
        there = priced(there, lambda model: book.price_of(provider, model, backend=name))
    made = msgspec.structs.replace(
        backend, name=name, protocol=kind.name, url=found.url, local=here, provider=provider
    )  # fmt: skip
    return Seen(kind, found.version, made, there, elsewhere, found.trouble)


def runs_here(url: str, kind: Kind) -> bool:
    """Whether a server is ours, as far as its address tells: this machine, a private network, or a name without a domain."""
    host = urlsplit(url).hostname or ""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return not kind.provider or "." not in host


def in_the_clear(url: str, key: str | None) -> bool:
    """Whether a key would go over networks of others, and not encrypted."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not key or parts.scheme != "http" or host in LOOPBACK:
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".lan", ".internal", ".home.arpa", ".localhost"))


def name_for(url: str, kind: Kind, environment: Mapping[str, str], taken: Collection[str]) -> str:
    """A free name that tells what it is and where."""
    host, number = socket_of(url)
    if is_here(url):
        first = name_at(kind, number, environment)
    else:
        first = slug(kind) if kind.url.startswith(f"https://{host}") else f"{slug(kind)}-{host.split('.')[0]}"
    names = [first, f"{slug(kind)}-{number}", *(f"{first}-{count}" for count in range(2, 100))]
    return next(name for name in names if name not in taken)


async def answers(backend: BackendSettings, environment: Mapping[str, str], now: Callable[[], float]) -> str:
    """Why a configured backend does not answer now; empty: it does. Raises ValueError naming the field."""
    kind, connection = connection_of(backend, environment, now)
    adapter = open_kind(kind, connection)
    try:
        served = Served(offer=Offer(backend=backend.name, protocol=kind.name, local=backend.local), adapter=adapter)
        return "" if await served.answers() else served.reason
    finally:
        await adapter.close()


# ------------------------------------------------------------------------------------------------ writing


def lines_of(backend: BackendSettings) -> str:
    """The table of the settings file; what is as by default is left out."""
    plain: dict[str, Any] = msgspec.to_builtins(backend)
    usual: dict[str, Any] = msgspec.to_builtins(BackendSettings(name="", url=""))
    lines = [f"{key} = {_value(value)}" for key, value in plain.items() if value != usual.get(key) or key == "protocol"]
    return "\n".join(["[[backends]]", *lines]) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return "{ " + ", ".join(f"{_value(key)} = {_value(one)}" for key, one in inner.items()) + " }"
    # Of JSON's own notation strings, numbers, booleans and lists mean the same in TOML.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(path: Path, backend: BackendSettings) -> None:
    """Put the backend at the end of the settings file, and leave the rest of its text as it is.

    Raises SettingsError for a file that is not right before or after, a name or an address that is there already, or a file that
    can't be written.
    """
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        there = load(path).backends if before else ()
        for other in there:
            if other.name == backend.name:
                raise SettingsError(f"{path} has a backend {backend.name!r} already: choose another --name")
            if socket_of(other.url) == socket_of(backend.url) and other.protocol == backend.protocol:
                raise SettingsError(f"{path} has {backend.url} already, as backend {other.name!r}")
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        text = before + gap + lines_of(backend)
        tomllib.loads(text)
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            load(Path(new))
            if path.exists():
                shutil.copymode(path, new)
            else:
                Path(new).chmod(0o644)
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: the backend can't be put at its end: {error}; add it by hand") from error
    except OSError as error:
        raise SettingsError(f"{path} can't be written: {error.strerror or error}") from error
