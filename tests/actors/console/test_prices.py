"""`turnout prices`: flags become a price, a price set on a real bus, what `check` finds, and a refresh without a network."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from actors.console import app
from actors.console import prices as module
from actors.console.prices import Amounts, _amounts, warning
from actors.console.screen import Wrong
from actors.price_text import BUNDLED
from actors.settings import Settings
from bus import codec
from bus.jetstream import connect
from bus.server import NatsServer
from bus.topology import topology
from messages import Backend, Deployment, Message, Model, ModelPrice, Price

NOVEMBER = 1_795_255_200.0
"""2026-11-21."""
DAY = 86_400.0
NOWHERE = "nats://127.0.0.1:1"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_PRICING_TABLE_PATH", raising=False)
    monkeypatch.setattr(
        app, "found", lambda: {"prices": EntryPoint("prices", "actors.console.prices:prices", app.GROUP)}
    )
    monkeypatch.setattr(module, "wall", lambda: NOVEMBER)


def run(capsys: Any, *words: str, url: str = NOWHERE) -> tuple[int, str]:
    code = app.run(["prices", *words, "--nats", url])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_flags_become_a_price() -> None:
    given = Amounts(
        input="2", output="$8", cached_input="0.5", cache_write="2.5", long_input="4", long_output="12",
        per_request="0.001", per_image="0.04", per_second="0.1", per_gpu_second="0.0014",
    )  # fmt: skip
    assert Price(**_amounts(given, 272_000)) == Price(
        input_per_mtok=2_000_000, output_per_mtok=8_000_000, cached_input_per_mtok=500_000, cache_write_per_mtok=2_500_000,
        long_input_per_mtok=4_000_000, long_output_per_mtok=12_000_000, per_request=1_000, per_image=40_000,
        per_second=100_000, per_gpu_second=1_400, long_above_tokens=272_000,
    )  # fmt: skip
    assert _amounts(Amounts(), None) == {}
    assert _amounts(Amounts(cached_input="0"), None) == {"cached_input_per_mtok": 0}


@pytest.mark.parametrize(
    ("given", "above", "said"),
    [
        (Amounts(cached_input="-1"), None, "--cached-in is '-1'"),
        (Amounts(per_image="much"), None, "--per-image is 'much'"),
        (Amounts(input="2"), 0, "--long-above is 0"),
        (Amounts(long_input="2"), None, "say from how many input tokens on"),
        (Amounts(input="2", long_input="1"), 10, "a long request costs no less than others"),
    ],
)
def test_no_price(given: Amounts, above: int | None, said: str) -> None:
    with pytest.raises(Wrong) as wrong:
        _amounts(given, above)
    assert said in wrong.value.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "cloud"), "`prices set` got 1 argument"),
        (("set", "cloud", "m"), "say what it costs, or --free, or --withdraw"),
        (("set", "cloud", "m", "--in", "1", "--free"), "say what it costs, or --free, or --withdraw"),
        (("set", "cloud", " m", "--in", "1"), "MODEL is ' m'"),
        (("show", "a", "b"), "`prices show` got 2 arguments"),
        (("show", "--in", "1"), "what it costs is for `prices set`"),
        (("refresh", "--provider", "openai"), "--provider is for `prices show`"),
    ],
)
def test_wrong_usage_is_named_before_anything_is_sent(capsys: Any, words: tuple[str, ...], said: str) -> None:
    code, printed = run(capsys, *words)
    assert (code, said in printed) == (2, True), printed


def test_what_the_lists_know_needs_no_bus(capsys: Any) -> None:
    code, printed = run(capsys, "show", "gpt-4o-mini", "--provider", "openai", "--output", "jsonl")
    row = json.loads(printed)
    assert (code, row["model"], row["price"]["output_per_mtok"]) == (0, "gpt-4o-mini", 600_000)
    assert row["price"]["as_of"] in BUNDLED.values()
    assert isinstance(row["age_days"], int)
    code, printed = run(capsys, "show", "--provider", "replicate")
    assert code == 0
    assert "gpu-h100" in printed
    assert "$0.001525 per GPU second" in printed
    code, printed = run(capsys, "show", "gpt-none", "--provider", "openai")
    assert (code, "the price of openai's gpt-none is unknown" in printed) == (1, True)


def model(name: str, **price: Any) -> Model:
    return Model(name=name, price=Price(**price))


def backend(name: str, *models: Model, slots: int = 1, provider: str = "openai") -> Backend:
    return Backend(
        backend=name,
        protocol="openai",
        local=False,
        provider=provider,
        slots=slots,
        models=models,
        healthy=True,
        at=1.0,
    )


class Site:
    """A bus with turnout's streams, beside the test."""

    def __init__(self, data: Path) -> None:
        self.server = NatsServer(data)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.do(self._start())

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def _start(self) -> None:
        await self.server.start()
        self.bus = await connect(self.server.url, name="test")
        await self.bus.set_up(topology("together"))
        await self.put(Deployment(rooms="together"))

    async def put(self, fact: Message) -> None:
        await self.bus.put_fact(fact.subject, codec.encode(fact))

    def stored(self, seller: str, name: str) -> ModelPrice:
        record = self.do(self.bus.last("KV_facts", ModelPrice(seller=seller, model=name, at=0.0).subject))
        return codec.decode(ModelPrice, record.data)

    async def _stop(self) -> None:
        await self.bus.close()
        await self.server.stop()

    def close(self) -> None:
        self.do(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(name="site")
def running_bus(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "nats")
    yield site
    site.close()


def test_set_show_check_and_withdraw_over_a_real_bus(site: Site, capsys: Any) -> None:
    url = site.server.url
    code, printed = run(capsys, "show", url=url)
    assert (code, "no model is served" in printed) == (0, True)
    site.do(
        site.put(backend("cloud", model("m.1", unknown=True), model("fixed", per_request=5_000, source="settings")))
    )
    code, printed = run(capsys, "check", url=url)
    assert code == 1
    assert "cloud/m.1: the price is unknown: turnout prices set cloud m.1" in printed
    code, printed = run(capsys, "set", "openai", "m.1", "--in", "2", "--out", "8", "--source", "a page", url=url)
    assert (code, printed) == (0, "openai m.1: $2 / $8\n")
    stored = site.stored("openai", "m.1")
    assert stored.price == Price(
        input_per_mtok=2_000_000, output_per_mtok=8_000_000, source="a page", as_of=stored.price.as_of
    )
    assert stored.by
    assert module.day_of(stored.at) == stored.price.as_of
    assert run(capsys, "check", url=url)[0] == 0
    code, printed = run(capsys, "set", "cloud", "m.1", "--free", url=url)
    assert (code, printed) == (0, "cloud m.1: free\n")
    code, printed = run(capsys, "show", "m.1", "--output", "jsonl", url=url)
    row = json.loads(printed)
    assert (row["backend"], row["price"].get("input_per_mtok", 0)) == ("cloud", 0)
    run(capsys, "set", "cloud", "m.1", "--withdraw", url=url)
    assert (
        json.loads(run(capsys, "show", "m.1", "--output", "jsonl", url=url)[1])["price"]["input_per_mtok"] == 2_000_000
    )
    code, printed = run(capsys, "set", "cloud", "fixed", "--free", url=url)
    assert "has a price of its own in the settings, which comes first" in printed
    assert "$0.005 per request" in run(capsys, "show", url=url)[1]
    assert "nobody serves other of cloud now" in run(capsys, "set", "cloud", "other", "--free", url=url)[1]
    code, printed = run(capsys, "show", "unheard-of", url=url)
    assert (code, "nobody serves 'unheard-of'" in printed) == (1, True)


def test_check_without_a_bus_looks_at_the_rest(capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    code, printed = run(capsys, "check")
    assert (code, "the prices of served models were not looked at" in printed) == (3, True)
    monkeypatch.setenv("MODEL_PRICING_TABLE_PATH", str(tmp_path / "gone.toml"))
    code, printed = run(capsys, "check")
    assert (code, "gone.toml: No such file" in printed) == (1, True)
    monkeypatch.delenv("MODEL_PRICING_TABLE_PATH")
    monkeypatch.setattr(module, "wall", lambda: NOVEMBER + 60 * DAY)
    code, printed = run(capsys, "check")
    assert (code, "days ago: turnout prices refresh" in printed) == (1, True)


def test_the_warning_for_the_doctor(tmp_path: Path, monkeypatch: Any) -> None:
    settings = Settings(data_dir=str(tmp_path))
    assert warning(settings, {}) == ("", "")
    monkeypatch.setattr(module, "wall", lambda: NOVEMBER + 60 * DAY)
    said, remedy = warning(settings, {})
    assert "the text prices (genai-prices " in said
    assert remedy == "turnout prices refresh"


def test_a_refresh_without_a_network_says_so(capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from genai_prices import update_prices

    monkeypatch.setattr(update_prices, "DEFAULT_UPDATE_URL", "http://127.0.0.1:1/data.json")
    code, printed = run(capsys, "refresh", "--data-dir", str(tmp_path))
    assert code == 1
    assert "no newer prices: http://127.0.0.1:1/data.json" in printed
    assert "what was known stays" in printed
    assert list(tmp_path.iterdir()) == []
