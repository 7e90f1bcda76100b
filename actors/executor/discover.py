"""What can be served from here: backends written in the settings, local servers on their usual ports, and keys in the
environment. `places` plans; the probes here ask the adapters. Nothing here ever holds a key in a text.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import msgspec

from actors.executor.backends import open_backend, port
from actors.executor.places import (
    LOOPBACK,
    Key,
    Place,
    as_stated,
    in_words,
    keys_found,
    local_slots,
    models_of,
    openai_models,
    priced,
    socket_of,
    unpriced,
    wanted_places,
    without_prices,
)
from actors.executor.served import Served
from actors.prices import PriceBook
from actors.settings import BackendSettings, Settings, SettingsError
from messages import Model, Offer

PROBE_SECONDS: Final = 2.0
"""A local server that needs longer to list its models is asked again at the next look."""
CLOUD_PROBE_SECONDS: Final = 5.0


class News(msgspec.Struct, frozen=True):
    """Something a look has found out."""

    kind: Literal["found", "changed", "trouble"]
    backend: str
    text: str


class Discovery:
    """Keeps `served` filled. Backends are added and their models brought up to date; none is ever taken away."""

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str],
        now: Callable[[], float],
        own_ports: Iterable[int] = (),
    ) -> None:
        self.settings, self.environment, self.now = settings, environment, now
        self.book = PriceBook.open(settings, environment=environment, now=now)
        """What models cost that do not run here. Raises PriceFileError, a SettingsError, when the user's file is wrong."""
        self.places = wanted_places(settings, environment, own_ports)
        self.served: dict[str, Served] = {}
        """What the executor serves; it reads this at every heartbeat."""
        self.troubles: dict[str, str] = {}
        """Why something that is there can't be used, by backend."""

    def keys_here(self) -> list[Key]:
        """The providers whose key is in the environment."""
        return keys_found(self.environment) if self.settings.discover else []

    def describe(self, name: str) -> str:
        """A served backend in words: `local, 2 models: a, b`."""
        return in_words(self.served[name].offer)

    async def look(self) -> list[News]:
        """Look everywhere once. Raises SettingsError for a backend that is configured wrongly."""
        jobs = [self._configured(backend) for backend in self.settings.backends]
        jobs += [self._place(place) for place in self.places]
        if self.settings.discover and self.environment.get("OPENAI_API_KEY", "").strip():
            jobs.append(self._openai())
        found = await asyncio.gather(*jobs)
        return [news for some in found for news in some]

    async def _priced(self, models: tuple[Model, ...], provider: str, backend: str) -> tuple[Model, ...]:
        """Models of somebody else's hardware with the prices of the book. Loading it takes long, so not on the loop."""
        if provider and unpriced(models):
            await asyncio.to_thread(self.book.load)
        return priced(models, lambda model: self.book.price_of(provider, model, backend=backend))

    def _serve(self, offer: Offer, adapter: port.Backend) -> list[News]:
        self.served[offer.backend] = Served(offer=offer, adapter=adapter)
        self.troubles.pop(offer.backend, None)
        return [News("found", offer.backend, in_words(offer))]

    def _refresh(self, name: str, models: tuple[Model, ...]) -> list[News]:
        served = self.served[name]
        if models == served.offer.models:
            return []
        served.offer = msgspec.structs.replace(served.offer, models=models)
        self.troubles.pop(name, None)
        return [News("changed", name, in_words(served.offer))]

    def _trouble(self, name: str, text: str) -> list[News]:
        """Say a trouble once, until it changes."""
        if self.troubles.get(name) == text:
            return []
        self.troubles[name] = text
        return [News("trouble", name, text)]

    async def _place(self, place: Place) -> list[News]:
        served = self.served.get(place.name)
        if served is None and not await _listens(place.url):
            self.troubles.pop(place.name, None)
            return []
        adapter = served.adapter if served else open_backend(place.kind, place.url, api_key=None, now=self.now)
        kept = served is not None
        try:
            models = models_of(place.kind, await _ask(adapter, PROBE_SECONDS), local=True)
            if served is not None:
                return self._refresh(place.name, models)
            if not models:
                return self._trouble(place.name, f"{place.url} answers, but has no model that writes text yet")
            kept = True
            slots = local_slots(place.kind, self.environment)
            offer = Offer(
                backend=place.name, protocol=place.kind, local=True, provider="local", slots=slots, models=models,
                here=socket_of(place.url)[0] in LOOPBACK,
            )  # fmt: skip
            return self._serve(offer, adapter)
        except port.BackendError as error:
            if served is not None:
                return []  # Its health check tells.
            if error.kind == "account":
                why = f"{place.url} wants a key: write it into the settings as a backend with api_key_env"
                return self._trouble(place.name, why)
            self.troubles.pop(place.name, None)
            return []  # Something else listens there.
        finally:
            if not kept:
                await adapter.close()

    async def _openai(self) -> list[News]:
        name = "openai"
        if any(backend.name == name for backend in self.settings.backends):
            return []
        served = self.served.get(name)
        url = self.environment.get("OPENAI_BASE_URL", "").strip() or "https://api.openai.com/v1"
        key = self.environment["OPENAI_API_KEY"].strip()
        try:
            adapter = served.adapter if served else open_backend(
                "openai", url, api_key=key, now=self.now, use_env_proxy=True, max_tokens_field="max_completion_tokens"
            )  # fmt: skip
        except ValueError as error:
            return self._trouble(name, f"OPENAI_API_KEY or OPENAI_BASE_URL: {error}")
        listed: tuple[port.Offer, ...] | None = None
        reason = ""
        try:
            listed = await _ask(adapter, CLOUD_PROBE_SECONDS)
        except port.BackendError as error:
            reason = error.message
        models = await self._priced(openai_models(listed), "openai", name)
        if served is not None:
            return [] if listed is None else self._refresh(name, models)
        offer = Offer(
            backend=name, protocol="openai", local=False, provider="openai", priority=2, slots=8,
            models=models, healthy=not reason, health_reason=reason,
        )  # fmt: skip
        news = self._serve(offer, adapter)
        return news + self._trouble(name, f"can't be used now: {reason}") if reason else news

    async def _configured(self, backend: BackendSettings) -> list[News]:
        served = self.served.get(backend.name)
        if served is not None and (backend.models or served.offer.models):
            models = as_stated(backend.models) or without_prices(served.offer.models)
            if backend.local:
                return []
            return self._refresh(backend.name, await self._priced(models, backend.provider, backend.name))
        news: list[News] = []
        adapter = served.adapter if served else self._open(backend)
        models, reason = as_stated(backend.models), ""
        if not models:
            try:
                found = await _ask(adapter, CLOUD_PROBE_SECONDS)
                models = models_of(backend.protocol, found, local=backend.local)
                reason = "" if models else "it lists no model"
            except port.BackendError as error:
                reason = error.message
        if not backend.local:
            models = await self._priced(models, backend.provider, backend.name)
        if served is not None:
            return self._refresh(backend.name, models)
        offer = Offer(
            backend=backend.name, protocol=backend.protocol, local=backend.local,
            provider=backend.provider or ("local" if backend.local else ""), priority=backend.priority,
            slots=backend.slots, models=models, exclusive_group=backend.exclusive_group, active=backend.active,
            vram_total_mb=backend.vram_total_mb, here=backend.local and socket_of(backend.url)[0] in LOOPBACK,
            gpu=backend.gpu, healthy=not reason, health_reason=reason,
        )  # fmt: skip
        news += self._serve(offer, adapter)
        if backend.api_key_env and not self.environment.get(backend.api_key_env, "").strip():
            reason = f"its key is missing: the environment variable {backend.api_key_env} is not set"
        return news + self._trouble(backend.name, reason) if reason else news

    def _open(self, backend: BackendSettings) -> port.Backend:
        key = self.environment.get(backend.api_key_env, "").strip() if backend.api_key_env else ""
        try:
            return open_backend(
                backend.protocol,
                backend.url,
                api_key=key or None,
                now=self.now,
                use_env_proxy=socket_of(backend.url)[0] not in LOOPBACK,
                max_tokens_field=backend.max_tokens_field,
            )
        except ValueError as error:
            text = f"backend {backend.name!r}: {error}"
            raise SettingsError(text) from error


async def _ask(adapter: port.Backend, patience_seconds: float) -> tuple[port.Offer, ...]:
    try:
        async with asyncio.timeout(patience_seconds):
            return await adapter.discover()
    except TimeoutError:
        raise port.BackendError("timeout", f"no list of models within {patience_seconds:g} s") from None


async def _listens(url: str) -> bool:
    """Whether anybody accepts connections there: cheaper than an HTTP client for each empty place."""
    host, number = socket_of(url)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, number)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
