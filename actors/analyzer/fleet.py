"""How fast and how dear the known models are, at their bounds: kept up to date by facts, so that no job looks at the fleet."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any

import msgspec

from actors.analyzer.media import MEDIA
from messages import Backend, Model, Stats
from messages.values import Asset, Media, Price, Range

ASSETS: tuple[Asset, ...] = ("text", "image", "video", "audio", "embedding")
_PRICES = ("input_per_mtok", "output_per_mtok", "per_request", "per_image", "per_second")
_MOST = tuple(f"most_{name}" for name in _PRICES)
ALL_JOBS = "-"
"""The scope of averages over all jobs of a model."""


class Pace(msgspec.Struct, frozen=True):
    """What is known of one model on one backend."""

    made: frozenset[str]
    """Its capabilities."""
    timed: bool
    """Whether anything is known of its speed."""
    first: float
    """Seconds to the first token, or of a whole reference job."""
    each: float
    """Seconds per token."""
    price: Price


class Bounds(msgspec.Struct, frozen=True):
    """The least and the most of each figure, over several models."""

    timed: bool = False
    first: Range = Range(low=0.0, high=0.0)
    each: Range = Range(low=0.0, high=0.0)
    priced: bool = False
    cheapest: Price = Price()
    dearest: Price = Price()
    unpriced: int = 0
    """Models whose price nobody knows."""

    def seconds(self, asset: Asset, work: float, output: int, cap: int) -> Range | None:
        """From the fastest at the expected output to the slowest at the cap; for media, in proportion to their work.

        The least (the most) of each figure may come from different models: the range is never too narrow.
        """
        if not self.timed:
            return None
        if asset in ("text", "embedding"):
            return Range(low=self.first.low + self.each.low * output, high=self.first.high + self.each.high * cap)
        return Range(low=self.first.low * work, high=self.first.high * work)

    def cost(self, tokens: int, output: int, cap: int, media: Media) -> Range | None:
        """From the cheapest at the expected output to the dearest at the cap, in micro-dollars, of one attempt."""
        if not self.priced:
            return None
        return Range(
            low=float(self.cheapest.cost(tokens, output, media)), high=float(self.dearest.cost(tokens, cap, media))
        )


NOTHING = Bounds()
_RECIPE = "recipe:"


class Group:
    """Models whose bounds are kept: every figure in order, so that one model's change costs no look at the others."""

    def __init__(self) -> None:
        self._figures: dict[str, list[float]] = {name: [] for name in ("first", "each", *_PRICES, *_MOST)}
        self._unpriced = 0
        self._models = 0
        self._bounds: Bounds | None = NOTHING

    @property
    def empty(self) -> bool:
        """No model belongs to it."""
        return self._models == 0

    @property
    def bounds(self) -> Bounds:
        """Made anew after a change, from the ends of each figure."""
        if self._bounds is None:
            ends = {name: (kept[0], kept[-1]) if kept else (0.0, 0.0) for name, kept in self._figures.items()}
            cheapest: dict[str, Any] = {name: int(ends[name][0]) for name in _PRICES}
            dearest: dict[str, Any] = {name: int(ends[most][1]) for name, most in zip(_PRICES, _MOST, strict=True)}
            self._bounds = Bounds(
                timed=bool(self._figures["first"]),
                first=Range(low=ends["first"][0], high=ends["first"][1]),
                each=Range(low=ends["each"][0], high=ends["each"][1]),
                priced=bool(self._figures["per_request"]),
                cheapest=Price(**cheapest),
                dearest=Price(**dearest),
                unpriced=self._unpriced,
            )
        return self._bounds

    def add(self, pace: Pace) -> None:
        """Let a model belong to it."""
        for name, value in _figures_of(pace):
            bisect.insort(self._figures[name], value)
        self._unpriced += pace.price.unknown
        self._models += 1
        self._bounds = None

    def drop(self, pace: Pace) -> None:
        """Let a model that was added belong to it no more."""
        for name, value in _figures_of(pace):
            kept = self._figures[name]
            del kept[bisect.bisect_left(kept, value)]
        self._unpriced -= pace.price.unknown
        self._models -= 1
        self._bounds = None


def _figures_of(pace: Pace) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    if pace.timed:
        found += [("first", pace.first), ("each", pace.each)]
    if not pace.price.unknown:
        least, most = pace.price.level(dearest=False), pace.price.level(dearest=True)
        found += [(name, getattr(least, name)) for name in _PRICES]
        found += [(key, getattr(most, name)) for name, key in zip(_PRICES, _MOST, strict=True)]
    return found


class Fleet:
    """The known models by name, and the bounds of each kind of work and of each model."""

    def __init__(self) -> None:
        self.models: frozenset[str] = frozenset()
        """Names that some backend serves, or served when it ran last."""
        self.providers: dict[str, str] = {}
        """Of every backend that is known, by its name; empty: nobody sells it."""
        self._served: dict[str, dict[str, Model]] = {}
        self._idle: set[str] = set()
        self._stats: dict[tuple[str, str], Stats] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        self._assets: dict[Asset, Group] = {asset: Group() for asset in ASSETS}
        self._names: dict[str, Group] = {}
        self._made: dict[str, frozenset[str]] = {}
        self._with: dict[str, frozenset[str]] = {}
        self._recipes: dict[str, frozenset[str]] | None = None

    def hear_backend(self, backend: Backend) -> None:
        """Take in what a backend serves. One that nobody runs keeps its names, but is in no bounds."""
        self.providers[backend.backend] = backend.provider
        before = self._served.get(backend.backend, {})
        after = {model.name: model for model in backend.models}
        run = backend.slots > 0
        if before == after and run == (backend.backend not in self._idle):
            return
        self._served[backend.backend] = after
        (self._idle.discard if run else self._idle.add)(backend.backend)
        for name in before.keys() | after.keys():
            self._renew(backend.backend, name)
        self._changed()

    def hear_stats(self, stats: Stats) -> None:
        """Take in a model's averages over all its jobs."""
        if stats.scope == ALL_JOBS:
            self._stats[stats.backend, stats.model] = stats
            self._renew(stats.backend, stats.model)

    def forget_backend(self, backend: Backend) -> None:
        """Nobody will run it any more: its names go too."""
        if backend.backend not in self._idle:
            return
        self.providers.pop(backend.backend, None)
        for name in self._served.pop(backend.backend, {}):
            self._renew(backend.backend, name)
        self._idle.discard(backend.backend)
        self._changed()

    def forget_stats(self, stats: Stats) -> None:
        """What was measured is deleted."""
        key = stats.backend, stats.model
        if self._stats.get(key) == stats:
            del self._stats[key]
            self._renew(*key)

    def _changed(self) -> None:
        self.models = frozenset(name for models in self._served.values() for name in models)
        self._made.clear()
        self._with.clear()
        self._recipes = None

    def made_by(self, model: str) -> frozenset[str]:
        """Capabilities of a model, over its backends; empty when it is unknown."""
        if model not in self._made:
            if model not in self.models:
                return frozenset()
            found = (set(models[model].capabilities) for models in self._served.values() if model in models)
            self._made[model] = frozenset().union(*found)
        return self._made[model]

    def can_with(self, recipe: str) -> frozenset[str]:
        """Capabilities of all models that know a recipe; empty when none does."""
        name = _RECIPE + recipe
        if name not in self._with:
            if recipe not in self.recipes:  # It is a client's word: what is unknown is not remembered.
                return frozenset()
            served = [set(model.capabilities) for models in self._served.values() for model in models.values()]
            self._with[name] = frozenset().union(*(found for found in served if name in found))
        return self._with[name]

    @property
    def recipes(self) -> Mapping[str, frozenset[str]]:
        """The recipes that some model knows, each with what all of these make: what the recipe makes is among it."""
        if self._recipes is None:
            self._recipes = {}
            for can in (set(model.capabilities) for models in self._served.values() for model in models.values()):
                made = frozenset(can.intersection(MEDIA))
                for name in (word.removeprefix(_RECIPE) for word in can if word.startswith(_RECIPE)):
                    self._recipes[name] = self._recipes.get(name, made) & made
        return self._recipes

    def bounds(self, asset: Asset, model: str) -> Bounds:
        """Of the models that make this asset, or of one model when it is known."""
        group = self._names.get(model) if model in self.models else self._assets[asset]
        return group.bounds if group else NOTHING

    def _renew(self, backend: str, name: str) -> None:
        old = self._paces.pop((backend, name), None)
        model = None if backend in self._idle else self._served.get(backend, {}).get(name)
        new = pace_of(model, self._stats.get((backend, name))) if model else None
        if new:
            self._paces[backend, name] = new
        if old == new:
            return
        named = self._names.get(name) or Group()
        for asset, group in self._assets.items():
            if old and asset in old.made:
                group.drop(old)
            if new and asset in new.made:
                group.add(new)
        if old:
            named.drop(old)
        if new:
            named.add(new)
        if named.empty:
            self._names.pop(name, None)
        else:
            self._names[name] = named


def pace_of(model: Model, stats: Stats | None) -> Pace:
    """A model's speed and price: measured, else stated; for text without a token rate, the time of a whole job."""
    whole = (stats and stats.latency_seconds) or model.seconds_per_job
    rate = (stats and stats.tokens_per_second) or model.tokens_per_second
    first = (stats and stats.first_token_seconds) or model.first_token_seconds
    made = frozenset(model.capabilities)
    if "text" in made and rate:
        return Pace(made, timed=True, first=first or 0.0, each=1.0 / rate, price=model.price)
    return Pace(made, timed=whole is not None, first=whole or 0.0, each=0.0, price=model.price)
