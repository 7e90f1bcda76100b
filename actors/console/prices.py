"""`turnout prices`: what models cost, set while everything runs, checked, and brought up to date."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.text import Text

from actors import price_check
from actors.console.app import play
from actors.console.intake import microdollars
from actors.console.output import TEXT, Output
from actors.console.price_rows import Row, faults_of, served, tell
from actors.console.reach import HERE, Where, reach
from actors.console.rebalance import user
from actors.console.screen import FAILED, OK, UNREACHABLE, Complaint, Unreachable, Wrong, clean, count, err, out
from actors.price_table import PriceFileError
from actors.price_text import REFRESHED, RefreshError, refresh
from actors.price_words import in_words
from actors.prices import PriceBook, day_of, text_warning
from actors.settings import SETTINGS, Settings
from bus import codec
from messages import ModelPrice, Price
from messages.values import MODEL_CHARACTERS

Action = Literal["show", "set", "check", "refresh"]
_NEEDS: dict[Action, tuple[int, int, str]] = {
    "show": (0, 1, "one model, or none for all that are served, as in: turnout prices show gpt-4.1 --provider openai"),
    "set": (2, 2, "a backend or provider, and a model, as in: turnout prices set cloud gpt-4.1 --in 2 --out 8"),
    "check": (0, 0, "nothing, as in: turnout prices check"),
    "refresh": (0, 0, "nothing, as in: turnout prices refresh"),
}


@Parameter(name="*", group="What it costs, in dollars (for `set`)")
@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What a model costs; what is not named is free."""

    input: Annotated[str | None, Parameter(name="--in", help="A million tokens read.")] = None
    output: Annotated[str | None, Parameter(name="--out", help="A million tokens written.")] = None
    cached_input: Annotated[
        str | None, Parameter(name="--cached-in", help="A million tokens from the cache. [as --in]")
    ] = None
    cache_write: Annotated[str | None, Parameter(help="A million tokens put into the cache. [as --in]")] = None
    long_input: Annotated[str | None, Parameter(name="--long-in", help="A million tokens read, of a long request.")] = (
        None
    )
    long_output: Annotated[
        str | None, Parameter(name="--long-out", help="A million tokens written, of a long request.")
    ] = None
    per_request: Annotated[str | None, Parameter(help="A request.")] = None
    per_image: Annotated[str | None, Parameter(help="An image.")] = None
    per_second: Annotated[str | None, Parameter(help="A second of video or sound.")] = None
    per_gpu_second: Annotated[str | None, Parameter(help="A second that an attempt runs.")] = None


_FIELDS = {
    "input": "input_per_mtok", "output": "output_per_mtok", "cached_input": "cached_input_per_mtok",
    "cache_write": "cache_write_per_mtok", "long_input": "long_input_per_mtok", "long_output": "long_output_per_mtok",
}  # fmt: skip
"""Fields of a price whose flags are called otherwise."""
_FLAGS = {
    "input": "--in", "output": "--out", "cached_input": "--cached-in", "long_input": "--long-in", "long_output": "--long-out",
}  # fmt: skip
"""Their flags, where these are not the names: `--output` is the form of every command's answer."""


def prices(
    action: Annotated[Action, Parameter(help="show [MODEL], set SELLER MODEL, check, or refresh.")] = "show",
    *names: Annotated[str, Parameter(help="A model; for `set`: a backend's or provider's name, and a model.")],
    provider: Annotated[str, Parameter(help="show: what the price lists know of this provider; needs no bus.")] = "",
    output: Output = TEXT,
    long_above: Annotated[int | None, Parameter(help="set: a request of more input tokens is a long one.")] = None,
    free: Annotated[bool, Parameter(help="set: it costs nothing.", negative="")] = False,
    withdraw: Annotated[bool, Parameter(help="set: the price that was set no longer holds.", negative="")] = False,
    source: Annotated[str, Parameter(help="set: who says so. [your user name]")] = "",
    amounts: Amounts | None = None,
    where: Where = HERE,
) -> int:
    """Show, set, check or refresh prices.

    `set` holds at once: reservations that are held keep theirs. A price in the settings comes first, then one that was set,
    then the file that MODEL_PRICING_TABLE_PATH names, our own table, and genai-prices. Exit codes: 0 fine, 1 a price is
    unknown, old or wrong, 2 wrong usage, 3 no bus.
    """
    least, most, wanted = _NEEDS[action]
    if not least <= len(names) <= most:
        raise Wrong(f"`prices {action}` got {count(len(names), 'argument')}", wanted)
    told = _amounts(amounts or Amounts(), long_above)
    for flag, given, belongs in (
        ("--provider", provider, "show"), ("--free", free, "set"), ("--source", source, "set"),
        ("--withdraw", withdraw, "set"), ("what it costs", told, "set"),
    ):  # fmt: skip
        if given and action != belongs:
            raise Wrong(f"{flag} is for `prices {belongs}`, not for `prices {action}`", wanted)
    match action:
        case "show":
            if provider:
                return _listed(provider, names[0] if names else "", where, output)
            return play(_show(names[0] if names else "", where, output))
        case "set":
            if [bool(told), free, withdraw].count(True) != 1:
                raise Wrong("say what it costs, or --free, or --withdraw", wanted)
            by = user()
            return play(_set(names[0], names[1], told, source or f"set by {by}", by, where, output, withdraw=withdraw))
        case "check":
            return play(_check(where, output))
        case "refresh":
            return _refresh(where, output)


def _amounts(given: Amounts, long_above: int | None) -> dict[str, Any]:
    """The fields of a price that the flags give. Raises Wrong."""
    found: dict[str, Any] = {}
    for field in fields(given):
        value: Any = getattr(given, field.name)
        if value is not None:
            flag = _FLAGS.get(field.name, f"--{field.name.replace('_', '-')}")
            found[_FIELDS.get(field.name, field.name)] = microdollars(value, flag)
    if long_above is not None:
        if long_above < 1:
            raise Wrong(f"--long-above is {long_above}: give a number of tokens, 1 or more")
        found["long_above_tokens"] = long_above
    for name, value, right in price_check.faults(Price(**found)):
        raise Wrong(f"{name} is {value} micro-dollars: {right}")
    return found


def wall() -> float:
    """This machine's clock: prices are dated by days, and price lists are read without a bus."""
    return time.time()  # noqa: TID251  # No bus, no server's clock.


def warning(settings: Settings, environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """What is wrong with the prices as a whole, and what to do about it; two empty texts: nothing. For `turnout doctor`.

    Raises PriceFileError when the user's file is wrong.
    """
    said = text_warning(PriceBook.open(settings, environment=environment, now=wall), wall())
    return said, "turnout prices refresh" if said else ""


# ---------------------------------------------------------------------------------------------------------- show


def _listed(provider: str, model: str, where: Where, output: Output) -> int:
    """Show what the price lists know; no bus is needed."""
    book = PriceBook.open(where.settings(), environment=os.environ, now=wall)
    found = {name: book.price_of(provider, name) for name in ([model] if model else book.models_of(provider))}
    rows = [Row("", provider, name, local=False, price=price) for name, price in sorted(found.items()) if price]
    if not rows:
        what = f"{provider}'s {model}" if model else f"any model of {provider}"
        raise Complaint(
            f"the price of {what} is unknown", hint="turnout prices set, or a file that MODEL_PRICING_TABLE_PATH names"
        )
    tell(rows, book.now(), output)
    return OK


async def _show(model: str, where: Where, output: Output) -> int:
    rows, now = await served(where)
    rows = [row for row in rows if model in ("", row.model)]
    if rows or output.machine:
        tell(rows, now, output)
        return OK
    if not model:
        err.print("no model is served: turnout prices show --provider openai shows what the price lists know")
        return OK
    raise Complaint(
        f"nobody serves {model!r}", hint=f"turnout prices show {model} --provider NAME shows what the price lists know"
    )


# ----------------------------------------------------------------------------------------------- set and check


async def _set(
    seller: str, model: str, told: dict[str, Any], source: str, by: str, where: Where, output: Output, *, withdraw: bool
) -> int:
    for flag, name in (("SELLER", seller), ("MODEL", model), ("--source", source)):
        most = MODEL_CHARACTERS if flag == "MODEL" else 128
        if not (name.strip() == name and 0 < len(name) <= most and name.isprintable()):
            raise Wrong(f"{flag} is {name!r}: use 1 to {most:,} printable characters, without spaces around them")
    rows, now = await served(where)
    price = Price() if withdraw else Price(**told, source=source, as_of=day_of(now))
    fact = ModelPrice(seller=seller, model=model, price=price, withdrawn=withdraw, by=by, at=now)
    async with reach(where) as bus:
        await bus.put_fact(fact.subject, codec.encode(fact))
    if output.machine:
        output.one(fact)
        return OK
    said = "what was set is withdrawn" if withdraw else in_words(price)
    out.print(Text.assemble((clean(f"{seller} {model}"), "bold"), ": ", said))
    meant = [row for row in rows if row.model == model and seller in (row.backend, row.provider)]
    if not meant:
        err.print(f"nobody serves {clean(model)} of {clean(seller)} now; it holds when somebody does", style="yellow")
    for row in meant:
        if row.price.source == SETTINGS and not withdraw:
            err.print(f"{clean(row.backend)} has a price of its own in the settings, which comes first", style="yellow")
    return OK


async def _check(where: Where, output: Output) -> int:
    found: list[str] = []
    book = None
    try:
        book = PriceBook.open(where.settings(), environment=os.environ, now=wall)
    except PriceFileError as error:
        found.append(str(error))
    rows: list[Row] = []
    there = True
    try:
        rows, _ = await served(where)
    except Unreachable as error:
        err.print(
            clean(f"{error.text}: the prices of served models were not looked at"), style="yellow", soft_wrap=True
        )
        there = False
    if book is not None and (said := text_warning(book, wall())):
        found.append(f"{said}: turnout prices refresh")
    found += faults_of(rows, wall())
    if output.machine:
        output.one({"problems": found, "served": len(rows), "looked_at_served": there})
        return FAILED if found else OK if there else UNREACHABLE
    for line in found:
        out.print(clean(line), soft_wrap=True)
    if found:
        err.print(count(len(found), "problem"), style="red")
        return FAILED
    if there:
        err.print(f"{count(len(rows), 'served model')}, every price known and fresh", style="dim")
    return OK if there else UNREACHABLE


def _refresh(where: Where, output: Output) -> int:
    file = Path(where.settings().data_dir) / REFRESHED
    try:
        models = refresh(file, today=day_of(wall()))
    except RefreshError as error:
        raise Complaint(
            f"no newer prices: {error}", hint="what was known stays; MODEL_PRICING_TABLE_PATH names a file"
        ) from None
    if output.machine:
        output.one({"file": str(file), "models": models})
        return OK
    out.print(clean(f"{file}: prices of {count(models, 'model')}; used from the next start on"), soft_wrap=True)
    return OK
