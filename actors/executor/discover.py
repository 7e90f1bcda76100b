"""What can be served from here: backends written in the settings, local servers on their usual ports, and keys in the
environment. `places` plans, `recognise` asks who is there. Nothing here ever holds a key in a text.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from actors.executor.backends import port
from actors.executor.backends.connection import Connection
from actors.executor.backends.kinds import Kind
from actors.executor.call import broken
from actors.executor.clients import (
    Broken,
    all_kinds,
    connection_of,
    fault_of,
    is_here,
    key_in,
    kind_of,
    options_for,
    socket_of,
)
from actors.executor.hosted import hosted_models
from actors.executor.places import (
    Key,
    Place,
    as_stated,
    hosted_name,
    hosted_url,
    keys_found,
    local_slots,
    name_at,
    slug,
    wanted_places,
    without_prices,
)
from actors.executor.recognise import Unrecognised, recognise
from actors.executor.served import Served, why_not
from actors.executor.stock import News, Stock
from actors.graph_names import GRAPH
from actors.prices import PriceBook
from actors.settings import BackendSettings, Settings, SettingsError
from messages import Model, Offer

PROBE_SECONDS: Final = 2.0
"""A local server that needs longer to take a connection is asked again at the next look."""
LIST_SECONDS: Final = 10.0
"""A list of models that takes longer is asked for again at the next look."""
MADE: Final = frozenset({"image", "video", "audio"})
"""What graphs make."""
LONGEST_PAUSE: Final = 16
"""Looks at most for which a server that is none of ours is left alone."""


class Discovery(Stock):
    """Keeps `served` filled. Backends are added and their models brought up to date; none is ever taken away."""

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str],
        now: Callable[[], float],
        own_ports: Iterable[int] = (),
        kinds: Sequence[Kind] | None = None,
    ) -> None:
        """Raises SettingsError for a backend that is configured wrongly, naming its field, and for a wrong file of prices."""
        super().__init__(settings, PriceBook.open(settings, environment=environment, now=now))
        self.environment, self.now = environment, now
        for backend in settings.backends:
            if fault := fault_of(backend, environment, now):
                raise SettingsError(f"backend {backend.name!r}: {fault}")
        self.kinds = tuple(all_kinds()) if kinds is None else tuple(kinds)
        if settings.discover:
            self.reserved |= {hosted_name(kind) for kind in self.kinds if key_in(kind, environment)[1]}
        self.places = wanted_places(settings, environment, self.kinds, own_ports)
        self._names: dict[str, str] = {}
        """The backend that was found at a place, by its URL."""
        self._left: dict[str, tuple[int, int]] = {}
        """By URL of a place where something else listens: looks to leave it alone, and how many there were the last time."""
        self._silent: frozenset[str] = frozenset()
        """Backends that did not answer at the last look, so that their models are unknown or may be others by now."""

    @property
    def back(self) -> bool:
        """Whether a backend answers its health checks that did not at the last look: it is worth a look at once."""
        return any(self.served[name].well for name in self._silent)

    def keys_here(self) -> list[Key]:
        """The providers whose key is in the environment."""
        return keys_found(self.environment, self.kinds) if self.settings.discover else []

    async def look(self) -> list[News]:
        """Look everywhere once."""
        jobs: list[Coroutine[Any, Any, list[News]]] = [self._configured(one) for one in self.settings.backends]
        jobs += [self._place(place) for place in self.places]
        if self.settings.discover:
            jobs += [self._hosted(kind) for kind in self.kinds if key_in(kind, self.environment)[1]]
        silent, self._silent = self._ill(), frozenset[str]()
        found = await asyncio.gather(*jobs)
        self._silent = silent | self._ill()  # One may have come back behind its question for models.
        return [news for some in found for news in some]

    def _ill(self) -> frozenset[str]:
        return frozenset(name for name, served in self.served.items() if not served.well)

    # ------------------------------------------------------------------------------------------ usual ports

    async def _place(self, place: Place) -> list[News]:
        name = self._names.get(place.url, "")
        if name:
            with contextlib.suppress(port.BackendError):  # Its health check tells.
                served = self.served[name]
                return await self._take(served.offer, served.adapter, await _list(served.adapter))
            return []
        if not await _listens(place.url):
            self._left.pop(place.url, None)
            self.troubles.pop(place.name, None)
            return []
        pause, last = self._left.get(place.url, (0, 0))
        if pause > 0:
            self._left[place.url] = (pause - 1, last)
            return []
        try:
            found = await recognise(Connection(url=place.url, now=self.now), self.kinds)
        except Unrecognised as error:
            again = min(max(1, 2 * last), LONGEST_PAUSE)
            self._left[place.url] = (again, again)  # Something else listens there, or it is still starting.
            if error.wants_key:
                why = f"{place.url} wants a key: write it into the settings as a backend with api_key_env"
                return self._trouble(place.name, why)
            return []
        if not found.offers:
            why = found.trouble or f"{place.url} answers, but has no model yet"
            return self._trouble(place.name, why)
        return await self._found(place, found.kind, found.url, found.offers)

    async def _found(self, place: Place, kind: Kind, url: str, offers: Sequence[port.Offer]) -> list[News]:
        number = socket_of(url)[1]
        taken = {*self.served, *self.reserved}
        name = next(
            name for name in (name_at(kind, number, self.environment), f"{slug(kind)}-{number}", f"local-{number}")
            if name not in taken
        )  # fmt: skip
        try:
            adapter = self.clients.open(kind, Connection(url=url, now=self.now))
        except ValueError as error:
            return self._trouble(place.name, str(error))
        self.troubles.pop(place.name, None)
        self._names[place.url] = name
        self.places[self.places.index(place)] = msgspec.structs.replace(place, name=name)
        slots = local_slots(kind, self.environment)
        offer = Offer(
            backend=name, protocol=kind.name, local=True, provider="local", slots=slots, here=is_here(url)
        )  # fmt: skip
        return await self._take(offer, adapter, offers)

    # ---------------------------------------------------------------------------------- keys in the environment

    async def _hosted(self, kind: Kind) -> list[News]:
        name, url = hosted_name(kind), hosted_url(kind, self.environment)
        if not url or any(one.name == name or _same(one, kind, url) for one in self.settings.backends):
            return []
        variable, key = key_in(kind, self.environment)
        served = self.served.get(name)
        try:
            connection = Connection(
                url=kind.address(url), now=self.now, api_key=key, use_env_proxy=not is_here(url),
                options=options_for(kind, max_tokens_field="max_completion_tokens"),
            )  # fmt: skip
            adapter = self.clients.open(kind, connection)
        except ValueError as error:
            return self._trouble(name, f"{variable} or the address that the environment names: {error}")
        listed: tuple[port.Offer, ...] | None = None
        reason = ""
        try:
            listed = await _list(adapter)
        except port.BackendError as error:
            reason = error.message
        provider = kind.provider or kind.name
        await asyncio.to_thread(self.book.load)
        models = hosted_models(provider, listed, lambda model: self.book.price_of(provider, model) is not None)
        models = await self._priced(models, provider, name)
        if served is not None:
            return [] if listed is None else self._refresh(name, models)
        offer = Offer(
            backend=name, protocol=kind.name, local=False, provider=provider, priority=2, slots=kind.slots,
            models=models, healthy=not reason, health_reason=reason,
        )  # fmt: skip
        news = await self._serve(offer, adapter)
        return news + self._trouble(name, f"can't be used now: {reason}") if reason else news

    # ------------------------------------------------------------------------------------------- settings

    async def _configured(self, backend: BackendSettings) -> list[News]:
        served = self.served.get(backend.name)
        adapter, reason = self._open(backend, served)
        if served is not None and served.adapter is not adapter:
            served.turn_to(adapter)  # It could not be opened before.
        models = _with_graphs(as_stated(backend.models), backend.protocol)
        listed: tuple[port.Offer, ...] | None = None
        if not models and not reason:
            try:
                listed = await _list(adapter)
                reason = "" if listed else "it lists no model"
            except port.BackendError as error:
                reason = why_not(error)
        if served is not None:
            if listed is not None:
                return await self._take(served.offer, adapter, listed)
            models = models or without_prices(served.offer.models)
            if backend.local:
                return []
            return self._refresh(backend.name, await self._priced(models, backend.provider, backend.name))
        offer = Offer(
            backend=backend.name, protocol=backend.protocol, local=backend.local,
            provider=backend.provider or ("local" if backend.local else ""), priority=backend.priority,
            slots=backend.slots or _usual_slots(backend.protocol), exclusive_group=backend.exclusive_group, active=backend.active,
            vram_total_mb=backend.vram_total_mb, here=backend.local and is_here(backend.url),
            gpu=backend.gpu, healthy=not reason, health_reason=reason,
        )  # fmt: skip
        if listed is not None:
            news = await self._take(offer, adapter, listed, backend.slots or 0)
        else:
            if not backend.local:
                models = await self._priced(models, backend.provider, backend.name)
            news = await self._serve(msgspec.structs.replace(offer, models=models), adapter, backend.slots or 0)
            self.served[backend.name].stated = bool(backend.models)
        if backend.api_key_env and not self.environment.get(backend.api_key_env, "").strip():
            reason = f"its key is missing: the environment variable {backend.api_key_env} is not set"
        return news + self._trouble(backend.name, reason) if reason else news

    def _open(self, backend: BackendSettings, served: Served | None) -> tuple[port.Backend, str]:
        """Its client; one that only says why there is none, when it could not be made: the others go on."""
        if served is not None and not isinstance(served.adapter, Broken):
            return served.adapter, ""
        try:
            kind, connection = connection_of(backend, self.environment, self.now)
            return self.clients.open(kind, connection), ""
        except ValueError as error:
            reason = str(error)
            if served is not None and isinstance(served.adapter, Broken) and served.adapter.reason == reason:
                return served.adapter, reason
            return Broken(reason), reason


def _with_graphs(models: tuple[Model, ...], protocol: str) -> tuple[Model, ...]:
    """The stated models, and beside those that make media the one that stands for any graph, at the price of the first."""
    able = [model for model in models if MADE.intersection(model.capabilities)]
    if not able or any(GRAPH in model.capabilities for model in models) or not _runs_graphs(protocol):
        return models
    return (*models, Model(name=GRAPH, capabilities=(GRAPH,), price=able[0].price))


def _runs_graphs(protocol: str) -> bool:
    try:
        return kind_of(protocol).graphs
    except ValueError:
        return False  # It can't be called anyway.


def _usual_slots(protocol: str) -> int:
    try:
        return kind_of(protocol).slots
    except ValueError:
        return 1  # It can't be called anyway.


def _same(backend: BackendSettings, kind: Kind, url: str) -> bool:
    """Whether the settings have this provider's own address already."""
    return backend.protocol == kind.name and socket_of(backend.url) == socket_of(url)


async def _list(adapter: port.Backend) -> tuple[port.Offer, ...]:
    try:
        async with asyncio.timeout(LIST_SECONDS):
            return await adapter.discover()
    except TimeoutError:
        raise port.BackendError("timeout", f"no list of models within {LIST_SECONDS:g} s") from None
    except port.BackendError:
        raise
    except Exception as error:
        raise broken(error) from error


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
