"""Text prices from genai-prices: what counts as the same model, how its prices become ours, and newer data from the network."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import price_check, price_text
from actors.price_text import BUNDLED, RefreshError, TextPrices, named, price_of, refresh
from messages import Price

NOVEMBER = 1_795_255_200.0
"""2026-11-21."""
DECEMBER = NOVEMBER + 20 * 86_400
BOOK = TextPrices()
MODELS: list[tuple[str, Any]] = [
    (provider.id, model)
    for provider in get_snapshot().providers
    for model in provider.models
    if price_of(model, dt.datetime.fromtimestamp(NOVEMBER, dt.UTC)) is not None
]


def found(provider: str, model: str, at: float = NOVEMBER) -> Price:
    price = BOOK.find(provider, model, at)
    assert price is not None, model
    return price


def test_the_data_of_the_installed_version_have_a_date() -> None:
    """The newest change of a price in the data that had begun by then: read off anew with every version."""
    day = BUNDLED[version("genai-prices")]
    constraints: list[Any] = [
        one.constraint
        for provider in get_snapshot().providers for model in provider.models
        if isinstance(model.prices, list) for one in model.prices
    ]  # fmt: skip
    changes = {one.start_date.isoformat() for one in constraints if hasattr(one, "start_date")}
    assert day in changes
    assert (BOOK.as_of, BOOK.source, BOOK.trouble) == (day, f"genai-prices {version('genai-prices')}", "")


def test_a_price_with_a_long_context_and_a_cache() -> None:
    assert found("openai", "gpt-6-luna") == Price(
        input_per_mtok=100_000, output_per_mtok=500_000, cached_input_per_mtok=10_000, cache_write_per_mtok=125_000,
        long_above_tokens=272_000, long_input_per_mtok=200_000, long_output_per_mtok=750_000,
        long_cached_input_per_mtok=20_000, long_cache_write_per_mtok=250_000,
        source=BOOK.source, as_of=BOOK.as_of,
    )  # fmt: skip


def test_an_announced_price_begins_on_its_day() -> None:
    assert found("gemini", "gemini-4-argon").input_per_mtok == 2_000_000
    assert found("google", "gemini-4-argon", DECEMBER).input_per_mtok == 4_000_000


def test_of_prices_by_the_time_of_day_the_dearest_holds() -> None:
    assert found("deepseek", "deepseek-chat").output_per_mtok == 1_100_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-6-lunatic"),
        ("openai", "gpt-9"),
        ("my-openai-proxy", "gpt-4.1"),
        ("", "gpt-4.1"),
        ("openai", ""),
        ("openai", "claude-opus-5-5"),
        ("anthropic", "claude-haiku-4-5-superfast"),  # The library would take it for claude-haiku-4-5.
        ("openai", "gpt-image-2"),  # Pictures cost more than text.
        ("google", "gemini-3.1-flash-image"),
    ],
)
def test_what_is_not_listed_is_unknown(provider: str, model: str) -> None:
    assert BOOK.find(provider, model, NOVEMBER) is None


@pytest.mark.parametrize("model", ["gpt-4o-mini", "GPT-4o-mini", "gpt-4o-mini-2024-07-18"])
def test_a_dated_name_is_the_same_model(model: str) -> None:
    assert found("OpenAI", model).output_per_mtok == 600_000


CLAUSES: list[tuple[Any, str, bool]] = [
    (SimpleNamespace(equals="a-1"), "a-1", True),
    (SimpleNamespace(equals="a-1"), "a-1-2026-01-01", False),
    (SimpleNamespace(starts_with="a-1"), "a-1", True),
    (SimpleNamespace(starts_with="a-1"), "a-1-20260101", True),
    (SimpleNamespace(starts_with="a-1"), "a-1-latest", True),
    (SimpleNamespace(starts_with="a-1"), "a-10", False),
    (SimpleNamespace(starts_with="a-1"), "a-1-mini", False),
    (SimpleNamespace(regex=r"^a-\d$"), "a-7", True),
    (SimpleNamespace(regex=r"^a-\d"), "a-7-mini", False),
    (SimpleNamespace(regex=r"a"), "a", False),
    (SimpleNamespace(contains="a"), "a", False),
    (SimpleNamespace(ends_with="a"), "a", False),
    (SimpleNamespace(and_=[SimpleNamespace(equals="a")]), "a", False),
    (SimpleNamespace(or_=[SimpleNamespace(contains="b"), SimpleNamespace(equals="b")]), "b", True),
]


@pytest.mark.parametrize(("clause", "model", "same"), CLAUSES)
def test_only_a_pattern_that_names_the_model_counts(clause: Any, model: str, same: bool) -> None:
    assert named(clause, model) is same


def prices(**told: Any) -> Any:
    from genai_prices.types import ModelInfo, ModelPrice

    return ModelInfo(id="m", match=SimpleNamespace(equals="m"), prices=ModelPrice(**told))  # pyright: ignore[reportArgumentType]


def tiers(base: str, *steps: tuple[int, str]) -> Any:
    from genai_prices.types import Tier, TieredPrices

    return TieredPrices(base=Decimal(base), tiers=[Tier(start=start, price=Decimal(price)) for start, price in steps])


ONE = Decimal(1)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"output_mtok": ONE},
        {"input_mchars": ONE},
        {"input_mtok": ONE, "output_audio_mtok": ONE},
        {"input_mtok": ONE, "output_reasoning_mtok": ONE},
        {"input_mtok": ONE, "input_audio_mtok": ONE * 2},
        {"input_mtok": tiers("1", (10, "2"), (20, "3"))},
        {"input_mtok": tiers("1", (10, "2")), "output_mtok": tiers("1", (20, "2"))},
        {"input_mtok": tiers("2", (10, "1"))},
    ],
)
def test_what_ours_can_not_say_is_unknown(told: dict[str, Any]) -> None:
    assert price_of(prices(**told), dt.datetime(2026, 11, 1, tzinfo=dt.UTC)) is None


def test_rates_become_micro_dollars_rounded_up() -> None:
    told = prices(
        input_mtok=Decimal("0.0000001"), output_mtok=tiers("1.5", (9, "3")), requests_kcount=Decimal("0.0005"),
        web_searches_kcount=ONE, input_audio_mtok=Decimal("0.0000001"),
    )  # fmt: skip
    assert price_of(told, dt.datetime(2026, 11, 1, tzinfo=dt.UTC)) == Price(
        input_per_mtok=1, output_per_mtok=1_500_000, per_request=1, long_above_tokens=9, long_input_per_mtok=1,
        long_output_per_mtok=3_000_000,
    )  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.integers(0, 600_000), st.integers(0, 50_000), st.data())
def test_ours_agrees_with_the_library(one: tuple[str, Any], read: int, written: int, data: Any) -> None:
    """The library's own arithmetic as an oracle: the same to the micro-dollar, or above it by the time of day."""
    _, model = one
    at = dt.datetime.fromtimestamp(NOVEMBER, dt.UTC)
    price = price_of(model, at)
    assert price is not None
    listed: Any = model.get_prices(at)
    cached = data.draw(st.integers(0, read)) if listed.cache_read_mtok is not None else 0
    put = data.draw(st.integers(0, read - cached)) if listed.cache_write_mtok is not None else 0
    usage = genai_prices.Usage(
        input_tokens=read, output_tokens=written if listed.output_mtok is not None else 0, cache_read_tokens=cached,
        cache_write_tokens=put,
    )  # fmt: skip
    exact = listed.calc_price(usage)["total_price"] * 1_000_000
    ours = price.cost(read, written, cached_tokens=cached, cache_write_tokens=put)
    by_the_hour = isinstance(model.prices, list) and any(hasattr(p.constraint, "start_time") for p in model.prices)
    assert ours >= exact
    assert by_the_hour or ours - exact < 2  # One from the sum, one from a price per thousand requests.
    assert price.worst(read, written) >= ours


def test_every_price_is_free_of_contradictions() -> None:
    assert len(MODELS) > 1_500
    at = dt.datetime.fromtimestamp(NOVEMBER, dt.UTC)
    for provider, model in MODELS:
        price = price_of(model, at)
        assert price is not None
        assert list(price_check.faults(price)) == [], (provider, model.id)


# Newer data.

DATA: list[Any] = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "x",
        "models": [
            {"id": "gpt-4.1", "match": {"equals": "gpt-4.1"}, "prices": {"input_mtok": 3, "output_mtok": 9}},
            {
                "id": "gpt-new",
                "match": {"or": [{"equals": "gpt-new"}, {"starts_with": "gpt-newer"}]},
                "prices": {"input_mtok": {"base": 1, "tiers": [{"start": 10, "price": 2}]}, "output_mtok": 5},
            },
        ],
    }
]


@pytest.fixture(name="site")
def served_data() -> Iterator[tuple[str, list[Any]]]:
    """A web server that gives what the list holds: a status and a body."""
    answer: list[Any] = [200, json.dumps(DATA).encode()]

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer[0])
            self.send_header("content-length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Stay silent."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/data.json", answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetched_data_are_used_by_the_next_start(tmp_path: Path, site: tuple[str, list[Any]]) -> None:
    file = tmp_path / "data" / "prices.json"
    assert refresh(file, today="2026-11-21", url=site[0]) == 2
    book = TextPrices(file)
    assert (book.as_of, book.source) == ("2026-11-21", "genai-prices, refreshed")
    price = book.find("openai", "gpt-new", NOVEMBER)
    assert price == Price(
        input_per_mtok=1_000_000, output_per_mtok=5_000_000, long_above_tokens=10, long_input_per_mtok=2_000_000,
        long_output_per_mtok=5_000_000, source="genai-prices, refreshed", as_of="2026-11-21",
    )  # fmt: skip
    assert book.find("openai", "gpt-4o-mini", NOVEMBER) is None
    assert list(file.parent.iterdir()) == [file]


def test_fetched_data_older_than_the_bundled_ones_are_not_used(tmp_path: Path, site: tuple[str, list[Any]]) -> None:
    file = tmp_path / "prices.json"
    refresh(file, today="2026-01-01", url=site[0])
    book = TextPrices(file)
    assert (book.as_of, book.source, book.trouble) == (BOOK.as_of, BOOK.source, "")
    assert book.find("openai", "gpt-new", NOVEMBER) is None


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"later", "503"),
        (200, b"{", "not in the form"),
        (200, b"{}", "no list of providers"),
        (200, b"[]", "no list of providers"),
        (200, b'[{"id": "x"}]', "not in the form"),
        (200, b'[{"id": "x", "name": "x", "api_pattern": "x"}]', "have no models"),
    ],
)
def test_what_is_wrong_changes_nothing(
    tmp_path: Path, site: tuple[str, list[Any]], status: int, body: bytes, said: str
) -> None:
    file = tmp_path / "prices.json"
    refresh(file, today="2026-11-21", url=site[0])
    before = file.read_bytes()
    site[1][:] = [status, body]
    with pytest.raises(RefreshError, match=said):
        refresh(file, today="2026-11-22", url=site[0])
    assert file.read_bytes() == before


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    with pytest.raises(RefreshError, match=r"http://127\.0\.0\.1:1/x: "):
        refresh(file, today="2026-11-21", url="http://127.0.0.1:1/x")
    assert not file.exists()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("nonsense", "JSON is malformed"),
        ('{"fetched_on":"soon","url":"u","providers":[]}', "fetched_on is 'soon'"),
        ('{"fetched_on":"2026-11-21","url":"u","providers":[{"id":1}]}', "not in the form"),
    ],
)
def test_a_damaged_file_is_told_and_the_bundled_data_hold(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(written)
    book = TextPrices(file)
    assert book.find("openai", "gpt-4.1", NOVEMBER) == BOOK.find("openai", "gpt-4.1", NOVEMBER)
    assert said in book.trouble
    assert book.as_of == BOOK.as_of


def test_an_unlisted_version_is_taken_for_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_text, "version", lambda name: f"99.0 of {name}")
    assert TextPrices().as_of == min(BUNDLED.values())
