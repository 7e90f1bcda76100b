"""The prices of what is served: read from the bus, shown, and looked through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.text import Text

from actors.console.output import Output
from actors.console.publish import check_there
from actors.console.reach import Where, reach
from actors.console.screen import clean
from actors.console.tables import show
from actors.price_words import in_words
from actors.prices import age_days, in_force, stale
from bus import codec
from bus.bus import FactEntry
from messages import Backend, ModelPrice, Price

FOLD = {"backend": 14, "model": 16, "source": 12, "price (in / out per M tokens)": 20}


@dataclass(frozen=True)
class Row:
    """The price of one model that is served."""

    backend: str
    provider: str
    model: str
    local: bool
    price: Price


async def served(where: Where) -> tuple[list[Row], float]:
    """The prices in force of all models that are served, and the time on the bus."""
    backends: dict[str, Backend] = {}
    set_prices: dict[tuple[str, str], ModelPrice] = {}

    async def on_fact(entry: FactEntry) -> None:
        kind = codec.type_at(entry.subject)
        if entry.data is None or kind not in (Backend, ModelPrice):
            return
        try:
            fact = codec.decode(kind, entry.data)
        except codec.Undecodable:
            return  # From another version.
        if isinstance(fact, Backend):
            backends[fact.backend] = fact
        else:
            set_prices[fact.seller, fact.model] = fact

    async with reach(where) as bus:
        await check_there(bus)
        watching = await bus.watch_facts(on_fact)
        await watching.stop()
        now = bus.now()
    return list(rows_of(backends.values(), set_prices)), now


def rows_of(backends: Iterable[Backend], set_prices: Mapping[tuple[str, str], ModelPrice]) -> Iterator[Row]:
    """The price in force of each model that somebody serves, by backend."""
    for backend in sorted(backends, key=lambda one: one.backend):
        for model in backend.models if backend.slots > 0 else ():
            own, sellers = set_prices.get((backend.backend, model.name)), set_prices.get((backend.provider, model.name))
            price = in_force(model.price, own, sellers)
            yield Row(backend.backend, backend.provider, model.name, local=backend.local, price=price)


def tell(rows: Iterable[Row], now: float, output: Output) -> None:
    """Print prices."""
    rows = list(rows)
    if output.machine:
        output.rows(
            {
                "backend": row.backend, "provider": row.provider, "model": row.model, "price": row.price,
                "age_days": age_days(row.price, now),
            }
            for row in rows
        )  # fmt: skip
        return
    styles = ["red" if row.price.unknown else "yellow" if stale(row.price, now) else "" for row in rows]
    cells: dict[str, list[Text | str]] = {
        "backend": [Text(clean(row.backend), "bold") for row in rows],
        "model": [clean(row.model) for row in rows],
        "price (in / out per M tokens)": [
            Text(in_words(row.price), style) for row, style in zip(rows, styles, strict=True)
        ],
        "as of": [Text(row.price.as_of or "-", style) for row, style in zip(rows, styles, strict=True)],
        "source": [clean(row.price.source or "-") for row in rows],
    }
    if not any(row.backend for row in rows):
        del cells["backend"]
    show(cells, fold=FOLD, drop=("as of",), wide=output.wide)


def faults_of(rows: Iterable[Row], now: float) -> Iterator[str]:
    """What is unknown or old, and what to do about it, a line each."""
    for row in rows:
        name = f"{row.backend}/{row.model}"
        if row.price.unknown:
            yield f"{name}: the price is unknown: turnout prices set {row.backend} {row.model} --in … --out …"
        elif stale(row.price, now):
            yield f"{name}: the price is of {row.price.as_of}, {age_days(row.price, now)} days ago ({row.price.source})"
