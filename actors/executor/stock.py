"""What is served from here, and what is told of it: backends are taken in, priced, and brought up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec

from actors.executor.backends import port
from actors.executor.clients import Broken, Clients
from actors.executor.places import announced, in_words, parted, priced, unpriced
from actors.executor.served import Served
from actors.prices import PriceBook
from actors.settings import Settings
from messages import Model, Offer


class News(msgspec.Struct, frozen=True):
    """Something a look has found out."""

    kind: Literal["found", "changed", "trouble"]
    backend: str
    text: str


class Stock:
    """The backends that are served. They are added and their models brought up to date; none is ever taken away."""

    def __init__(self, settings: Settings, book: PriceBook) -> None:
        self.settings = settings
        self.book = book
        """What models cost that do not run here."""
        self.clients = Clients()
        self.served: dict[str, Served] = {}
        """What the executor serves; it reads this at every heartbeat."""
        self.troubles: dict[str, str] = {}
        """Why something that is there can't be used, by backend."""
        self.reserved: set[str] = {backend.name for backend in settings.backends}
        """Names that belong to backends of the settings or of a key, whether they are served yet or not."""
        self._beside: set[str] = set()
        """Backends made of what a server lists that does not run there."""

    def describe(self, name: str) -> str:
        """A served backend in words: `local, 2 models: a, b`."""
        return in_words(self.served[name].offer)

    async def _serve(self, offer: Offer, adapter: port.Backend, slots: int = 0) -> list[News]:
        """Serve it from now on, once it has said how it is. `slots` as configured; 0: as it says."""
        models, offer = offer.models, msgspec.structs.replace(offer, models=announced(offer.models))
        served = Served(offer=offer, adapter=adapter, slots=slots)
        if offer.healthy and not isinstance(adapter, Broken):
            await served.check()
        self.served[offer.backend] = served
        self.troubles.pop(offer.backend, None)
        return [News("found", offer.backend, in_words(served.offer)), *self._left_out(offer.backend, models)]

    def _refresh(self, name: str, models: tuple[Model, ...]) -> list[News]:
        served, listed = self.served[name], models
        models = announced(listed)
        if models == served.offer.models:
            return []
        served.show(models=models)
        self.troubles.pop(name, None)
        return [News("changed", name, in_words(served.offer)), *self._left_out(name, listed)]

    def _left_out(self, name: str, listed: tuple[Model, ...]) -> list[News]:
        """Say that a backend has more models than are served of it."""
        served = len(self.served[name].offer.models)
        if served == len(listed):
            return []
        why = f"it lists more models than can be announced: the first {served:,} of {len(listed):,} are served"
        return self._trouble(name, why)

    async def _take(
        self, offer: Offer, adapter: port.Backend, listed: Sequence[port.Offer], slots: int = 0
    ) -> list[News]:
        """Serve what was listed, or bring it up to date: what runs elsewhere, though its server is here, is a backend of its
        own, for it costs and its data leave.
        """
        there, elsewhere = parted(listed, local=offer.local)
        if not offer.local:
            there = await self._priced(there, offer.provider, offer.backend)
        if offer.backend in self.served:
            news = self._refresh(offer.backend, there)
        else:
            news = await self._serve(msgspec.structs.replace(offer, models=there), adapter, slots)
        name = f"{offer.backend}-cloud"
        if name in self._beside or (elsewhere and name not in self.reserved and name not in self.served):
            self._beside.add(name)
            provider = offer.provider if offer.provider not in ("", "local") else offer.protocol
            models = await self._priced(elsewhere, provider, name)
            if name in self.served:
                return news + self._refresh(name, models)
            cloud = Offer(
                backend=name, protocol=offer.protocol, local=False, provider=provider, priority=offer.priority + 1,
                slots=max(4, offer.slots), models=models,
            )  # fmt: skip
            news += await self._serve(cloud, adapter)
        return news

    async def _priced(self, models: tuple[Model, ...], provider: str, backend: str) -> tuple[Model, ...]:
        """Models of somebody else's hardware with the prices of the book. Loading it takes long, so not on the loop."""
        if provider and unpriced(models):
            await asyncio.to_thread(self.book.load)
        return priced(models, lambda model: self.book.price_of(provider, model, backend=backend))

    def _trouble(self, name: str, text: str) -> list[News]:
        """Say a trouble once, until it changes."""
        if self.troubles.get(name) == text:
            return []
        self.troubles[name] = text
        return [News("trouble", name, text)]
