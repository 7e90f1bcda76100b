"""What everything costs: one book of prices, from several sources in a fixed order.

A price in the settings comes first, then one that was set while running (a `ModelPrice` fact), the user's file, our own table,
and genai-prices. What none of them lists is unknown; nothing is guessed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from actors.bounded import Bounded
from actors.price_table import OWN, PriceTable, read_file
from actors.price_text import ALIASES, REFRESHED, TextPrices
from actors.settings import SETTINGS, Settings
from messages import ModelPrice, Price

VARIABLE: Final = "MODEL_PRICING_TABLE_PATH"
"""The environment variable that names the user's file."""
STALE_DAYS: Final = 45
"""Prices that are older get a warning."""
MOST_KNOWN: Final = 10_000
"""Prices that are remembered; the others are looked up again."""
SECONDS_PER_DAY: Final = 86_400


class PriceBook:
    """Answers what a model costs. Reading it never touches the network."""

    def __init__(self, *, user: PriceTable, own: PriceTable, text: TextPrices, now: Callable[[], float]) -> None:
        self.user, self.own, self.text, self.now = user, own, text, now
        self._known = Bounded[tuple[str, str, str, str], Price | None](MOST_KNOWN)
        """What was looked up, by provider, model, backend and day."""

    @classmethod
    def open(cls, settings: Settings, *, environment: Mapping[str, str], now: Callable[[], float]) -> PriceBook:
        """The book of these settings. Raises PriceFileError when the user's file is wrong.

        `now` reads a clock in seconds since the epoch: announced changes of price begin on their day.
        """
        named = environment.get(VARIABLE, "").strip()
        return cls(
            user=read_file(Path(named)) if named else PriceTable(),
            own=read_file(OWN),
            text=TextPrices(Path(settings.data_dir) / REFRESHED),
            now=now,
        )

    def load(self) -> None:
        """Load what the first question would load otherwise; takes some tenths of a second."""
        self.text.load()

    def price_of(self, provider: str, model: str, *, backend: str = "") -> Price | None:
        """The price of a provider's model, with its source and date; None: unknown.

        `backend`: the user's file may list prices under a backend's name, which come before those of its provider.
        """
        at = self.now()
        key = (provider, model, backend, day_of(at))
        if key not in self._known:
            self._known[key] = self._look_up(provider, model, backend, at)
        return self._known[key]

    def models_of(self, provider: str) -> tuple[str, ...]:
        """The models of a provider whose names are listed anywhere; of some of them the price may still be unknown."""
        sellers = {provider, ALIASES.get(provider.lower(), provider)}
        listed = {model for table in (self.user, self.own) for seller, model in table.prices if seller in sellers}
        return tuple(sorted({*listed, *self.text.models_of(provider)}))

    def _look_up(self, provider: str, model: str, backend: str, at: float) -> Price | None:
        sellers = [name for name in (backend, provider, ALIASES.get(provider.lower(), "")) if name]
        for table in (self.user, self.own):
            for seller in sellers:
                found = table.find(seller, model)
                if found is not None:
                    return found
        return self.text.find(provider, model, at) if provider else None


def in_force(stated: Price, *facts: ModelPrice | None) -> Price:
    """The price that holds now: the settings' own, else the first of the facts that was not withdrawn, else the stated one.

    `facts`: what was set while running, for the backend first, then for its provider.
    """
    if stated.source == SETTINGS:
        return stated
    return next((fact.price for fact in facts if fact is not None and not fact.withdrawn), stated)


def stated_in_settings(price: Price) -> Price:
    """A price as the settings have it, marked as theirs; one that was left out, or is unknown, stays unmarked."""
    return price if price.source or not price.stated else msgspec.structs.replace(price, source=SETTINGS)


def day_of(at: float) -> str:
    """The day of a time in seconds since the epoch, in UTC."""
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def age_days(price: Price, at: float) -> int | None:
    """How many days ago the price was known to be right; None: it is not dated."""
    if not price.as_of:
        return None
    return (dt.date.fromisoformat(day_of(at)) - dt.date.fromisoformat(price.as_of)).days


def stale(price: Price, at: float) -> bool:
    """Whether a price is older than `STALE_DAYS`."""
    age = age_days(price, at)
    return age is not None and age > STALE_DAYS


def text_warning(book: PriceBook, at: float) -> str:
    """What is wrong with the text prices as a whole, in words; empty: nothing. Does not load them."""
    if book.text.trouble:
        return book.text.trouble
    price = Price(as_of=book.text.as_of)
    if not stale(price, at):
        return ""
    return f"the text prices ({book.text.source}) are of {price.as_of}, {age_days(price, at)} days ago"
