"""Text prices from the library genai-prices: its bundled data, or newer ones that `turnout prices refresh` has fetched.

The library is loaded at the first question only: its data and what it needs take some 0.4 s. It finds models by loose
patterns; here one counts only when it names the model itself, or the model with a date behind it. Everything else, and every
price that turnout can't count (sound, pages, characters, several long-context limits), is unknown.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from actors import price_check
from messages import Price

if TYPE_CHECKING:
    from genai_prices import types

BUNDLED: Final[Mapping[str, str]] = {"0.2.3": "2026-11-09"}
"""The newest day on which the data of a version of the library say that a price changed: they are at least as new."""
ALIASES: Final[Mapping[str, str]] = {
    "gemini": "google", "vertex": "google", "vertex-ai": "google", "vertex_ai": "google", "bedrock": "aws", "xai": "x-ai",
    "grok": "x-ai", "mistralai": "mistral", "togetherai": "together", "moonshot": "moonshotai",
}  # fmt: skip
"""Other names of providers, and what the library calls them."""
REFRESHED: Final = "prices.json"
"""In the data directory: what `turnout prices refresh` fetched."""
_TEXT = frozenset({"input_mtok", "output_mtok"})
_COUNTED = (*_TEXT, "cache_read_mtok", "cache_write_mtok", "requests_kcount")
_NOT_ASKED = frozenset({"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok"})
"""What no request of ours asks for: the providers' tools, and a cache that lasts an hour."""
_OTHER_INPUT = re.compile(r"(input|cache)_(audio|image|video)(_read|_write)?_mtok\Z")
_SUFFIX = re.compile(r"[-@:]?(latest|\d{8}|\d{4}-\d{2}-\d{2}|\d{3,4}|v\d+(:\d+)?)\Z")
"""What may stand behind a model's name without making it another model: a date or a version."""


class RefreshError(Exception):
    """The newest data could not be fetched or are not what was expected; the text says why."""


class Refreshed(msgspec.Struct, frozen=True):
    """The file of fetched data."""

    fetched_on: str
    """The day, `2026-11-21`."""
    url: str
    providers: msgspec.Raw
    """As the library's project publishes them."""


class TextPrices:
    """Prices of models that read and write text, by provider and model."""

    def __init__(self, refreshed: Path | None = None) -> None:
        """`refreshed`: the file of `refresh`; when it is older than the bundled data, or is damaged, those are used."""
        self._file = refreshed
        self._providers: dict[str, types.Provider] | None = None
        self.trouble = ""
        """Why fetched data are not used, in words."""
        self.as_of, self.source = _bundled()
        self._fetched = self._read()

    def _read(self) -> Refreshed | None:
        """The fetched data, when they are the newer ones."""
        if self._file is None or not self._file.exists():
            return None
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=Refreshed)
        except (OSError, msgspec.DecodeError) as error:
            self.trouble = f"{self._file}: {error}"
            return None
        if not price_check.is_day(found.fetched_on):
            self.trouble = f"{self._file}: fetched_on is {found.fetched_on!r}: use a day, as in 2026-11-21"
            return None
        if found.fetched_on < self.as_of:
            return None
        self.as_of, self.source = found.fetched_on, "genai-prices, refreshed"
        return found

    def load(self) -> None:
        """Load the library and its data, unless that was done. Takes some tenths of a second."""
        if self._providers is not None:
            return
        if self._fetched is not None:
            try:
                self._providers = _by_id(_parsed(bytes(self._fetched.providers)))
                return
            except RefreshError as error:
                self.trouble = f"{self._file}: {error}"
                self.as_of, self.source = _bundled()
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 (it is slow to load)

        self._providers = _by_id(get_snapshot().providers)

    def models_of(self, provider: str) -> tuple[str, ...]:
        """The names of a provider's models, by their main name."""
        found = self._provider(provider)
        return tuple(model.id for model in found.models) if found else ()

    def _provider(self, name: str) -> types.Provider | None:
        self.load()
        plain = name.strip().lower()
        return (self._providers or {}).get(ALIASES.get(plain, plain))

    def find(self, provider: str, model: str, at: float) -> Price | None:
        """The price of a model at a time in seconds since the epoch; None: unknown."""
        found = self._provider(provider)
        if found is None:
            return None
        ref = model.lower()
        for known in found.models:
            if known.id.lower() == ref or named(known.match, ref):
                price = price_of(known, dt.datetime.fromtimestamp(at, dt.UTC))
                return price and msgspec.structs.replace(price, source=self.source, as_of=self.as_of)
        return None


def _bundled() -> tuple[str, str]:
    """Day and name of the bundled data; of an unlisted version the oldest listed day is taken, so that it warns early."""
    try:
        installed = version("genai-prices")
    except PackageNotFoundError:
        return min(BUNDLED.values()), "genai-prices"
    return BUNDLED.get(installed, min(BUNDLED.values())), f"genai-prices {installed}"


def _by_id(providers: list[types.Provider]) -> dict[str, types.Provider]:
    return {provider.id: provider for provider in providers}


def named(match: Any, ref: str) -> bool:
    """Whether a pattern of the library names this very model: equal, by a full expression, or with a date behind it."""
    clause = cast("dict[str, Any]", vars(match))
    if "or_" in clause:
        return any(named(one, ref) for one in clause["or_"])
    if "equals" in clause:
        return ref == str(clause["equals"]).lower()
    if "starts_with" in clause:
        head = str(clause["starts_with"]).lower()
        return ref == head or (ref.startswith(head) and _SUFFIX.match(ref[len(head) :]) is not None)
    pattern = str(clause.get("regex", ""))
    return pattern.startswith("^") and re.fullmatch(pattern.rstrip("$"), ref) is not None


def price_of(model: types.ModelInfo, at: dt.datetime) -> Price | None:
    """A price of ours from one of the library; None when ours can't say the same.

    Where the price depends on the time of day the dearest of each rate is taken: it must hold whenever the attempt runs.
    """
    if not model.prices:
        return None
    hours = [at]
    if isinstance(model.prices, list) and any(hasattr(one.constraint, "start_time") for one in model.prices):
        hours = [at.replace(hour=half // 2, minute=half % 2 * 30, second=0, microsecond=0) for half in range(48)]
    found = [_converted(model.get_prices(hour)) for hour in hours]
    first = found[0]
    if first is None or None in found or len({price.long_above_tokens for price in found if price}) > 1:
        return None
    rates = {name: [getattr(price, name) for price in found] for name in _RATE_FIELDS}
    dearest = {name: None if None in values else max(values) for name, values in rates.items()}
    price = msgspec.structs.replace(first, **dearest)
    return None if any(price_check.faults(price)) else price


_RATE_FIELDS = (
    "input_per_mtok", "output_per_mtok", "per_request", "cached_input_per_mtok", "cache_write_per_mtok",
    "long_input_per_mtok", "long_output_per_mtok", "long_cached_input_per_mtok", "long_cache_write_per_mtok",
)  # fmt: skip


def _converted(prices: types.ModelPrice) -> Price | None:
    told: dict[str, Any] = {key: value for key, value in vars(prices).items() if value is not None and key[0] != "_"}
    counted = {key: told[key] for key in _COUNTED if key in told}
    if not _TEXT & counted.keys() or "input_mtok" not in counted:
        return None
    for key in told.keys() - counted.keys() - _NOT_ASKED:
        # Pictures and sound that are read cost no more than text, or their price can't be said.
        if not _OTHER_INPUT.match(key) or _step(told[key])[0] > _step(told["input_mtok"])[0]:
            return None
    starts = {start for value in counted.values() if (start := _step(value)[1]) is not None}
    if len(starts) > 1 or any(len(getattr(value, "tiers", ())) > 1 for value in counted.values()):
        return None
    base = {key: _micro(_step(value)[0]) for key, value in counted.items()}
    long = {key: _micro(_step(value)[2]) for key, value in counted.items()} if starts else {}
    return Price(
        input_per_mtok=base["input_mtok"],
        output_per_mtok=base.get("output_mtok", 0),
        per_request=-(-base.get("requests_kcount", 0) // 1_000),
        cached_input_per_mtok=base.get("cache_read_mtok"),
        cache_write_per_mtok=base.get("cache_write_mtok", 0),
        long_above_tokens=next(iter(starts), 0),
        long_input_per_mtok=long.get("input_mtok", 0),
        long_output_per_mtok=long.get("output_mtok", 0),
        long_cached_input_per_mtok=long.get("cache_read_mtok"),
        long_cache_write_per_mtok=long.get("cache_write_mtok", 0),
    )


def _step(value: Any) -> tuple[Decimal, int | None, Decimal]:
    """Base price, from how many input tokens on there is another, and that one."""
    tiers = getattr(value, "tiers", ())
    if not tiers:
        base = getattr(value, "base", value)
        return base, None, base
    return value.base, tiers[-1].start, tiers[-1].price


def _micro(dollars: Decimal) -> int:
    return int((dollars * 1_000_000).to_integral_value(ROUND_CEILING))


def _parsed(data: bytes) -> list[types.Provider]:
    """Providers as the library's project publishes them. Raises RefreshError."""
    from genai_prices.types import _providers_from_raw  # noqa: PLC0415  # pyright: ignore[reportPrivateUsage]

    try:
        raw: object = json.loads(data)
        if not isinstance(raw, list) or not raw:
            raise RefreshError("the data are no list of providers")
        found = _providers_from_raw(raw)
    except (ValueError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise RefreshError(f"the data are not in the form that this version of genai-prices reads: {error}") from None
    if not any(provider.models for provider in found):
        raise RefreshError("the data have no models")
    return found


def refresh(file: Path, *, today: str, url: str = "", fetch: Callable[[str], bytes] | None = None) -> int:
    """Fetch the newest data into a file; how many models they have. Raises RefreshError, and the file stays as it was."""
    from genai_prices.update_prices import DEFAULT_UPDATE_URL  # noqa: PLC0415 (it is slow to load)

    address = url or DEFAULT_UPDATE_URL
    data = (fetch or _fetched)(address)
    providers = _parsed(data)
    told = Refreshed(fetched_on=today, url=address, providers=msgspec.Raw(data))
    fresh = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(msgspec.json.encode(told))
        fresh.replace(file)
    except OSError as error:
        raise RefreshError(f"{file}: {error.strerror or error}") from None
    return sum(len(provider.models) for provider in providers)


def _fetched(url: str) -> bytes:
    """The library's own updater, which throws the bytes away that the next start needs: hence its client and its limits."""
    import httpx2  # noqa: PLC0415 (it is slow to load)
    from genai_prices import UpdatePrices  # noqa: PLC0415

    try:
        answer = httpx2.get(url, timeout=UpdatePrices().request_timeout)
        answer.raise_for_status()
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise RefreshError(f"{url}: {error or type(error).__name__}") from None
    return answer.content
