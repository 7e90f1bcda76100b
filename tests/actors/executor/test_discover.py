"""What can be served from here: planning, and probes of real sockets."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from actors.executor.backends import port
from actors.executor.discover import Discovery
from actors.executor.hosted import OPENAI
from actors.executor.places import (
    Place,
    as_stated,
    in_words,
    keys_found,
    local_slots,
    models_of,
    openai_models,
    places,
    priced,
    unpriced,
    wanted_places,
    without_prices,
)
from actors.executor.served import Served
from actors.settings import BackendSettings, Settings, SettingsError, load
from actors.simbackend import SimServer, SimSettings
from messages import Model, Price


def now() -> float:
    return 1_000_000.0


def discovery(
    settings: Settings, environment: dict[str, str] | None = None, *, at: tuple[Place, ...] = ()
) -> Discovery:
    found = Discovery(settings, environment=environment or {}, now=now)
    found.places = list(at)  # The usual ports of this machine are not a test's.
    return found


def test_the_usual_places() -> None:
    ports = {place.url.split(":")[2].split("/")[0] for place in places({})}
    assert {"11434", "1234", "8000", "8001", "8002", "8080", "5000"} <= ports
    assert len({place.name for place in places({})}) == len(places({}))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0:12345", "http://127.0.0.1:12345"),
        ("http://localhost:9999", "http://127.0.0.1:9999"),
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("elsewhere:11434", "http://127.0.0.1:11434"),
        ("localhost:nonsense", "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
    ],
)
def test_ollama_host(host: str, url: str) -> None:
    assert places({"OLLAMA_HOST": host})[0].url == url


def test_what_is_configured_or_ours_is_not_looked_for() -> None:
    backends = (
        BackendSettings(name="mine", url="http://localhost:8000/v1"),
        BackendSettings(name="ollama", url="http://10.0.0.1:11434"),
    )
    wanted = {place.name for place in wanted_places(Settings(backends=backends), {}, own_ports=(8080,))}
    assert wanted.isdisjoint({"local-8000", "ollama", "local-8080"})
    assert "lm-studio" in wanted
    assert wanted_places(Settings(discover=False), {}) == []


def test_keys_are_found_by_name_alone() -> None:
    found = keys_found({"OPENAI_API_KEY": "sk-secret", "ANTHROPIC_API_KEY": " ", "GEMINI_API_KEY": "g"})
    assert [(key.variable, key.usable) for key in found] == [("OPENAI_API_KEY", True), ("GEMINI_API_KEY", False)]
    assert "secret" not in repr(found)


def test_models_that_only_embed_are_left_out() -> None:
    offers = [
        port.Offer(model="llama", context_tokens=8192, capabilities=("text", "tools")),
        port.Offer(model="nomic", capabilities=("embedding",)),
        port.Offer(model="text-embedding-nomic"),
    ]
    (model,) = models_of("openai", offers, local=True)
    assert not model.price.unknown
    assert models_of("openai", offers, local=False)[0].price.unknown
    assert (model.name, model.context_tokens) == ("llama", 8192)
    assert {"text", "tools", "json"} <= set(model.capabilities)


def test_of_an_account_only_models_that_we_know_are_offered() -> None:
    assert openai_models(None) == OPENAI
    names = [model.name for model in openai_models([port.Offer(model="gpt-4o-mini"), port.Offer(model="unheard-of")])]
    assert names == ["gpt-4o-mini"]


def test_the_book_knows_what_the_hosted_models_cost() -> None:
    book = discovery(Settings()).book
    models = priced(OPENAI, lambda model: book.price_of("openai", model))
    assert [model.name for model in models] == [model.name for model in OPENAI]
    for model in models:
        assert model.price.input_per_mtok > 0, model.name
        assert model.price.output_per_mtok > 0
        assert not model.price.unknown
        assert (model.price.source, model.price.as_of) != ("", "")


PRICE = Price(per_request=7, source="a list", as_of="2026-11-01")


def test_a_stated_price_stays_and_a_missing_one_comes_from_the_book() -> None:
    models = as_stated((
        Model(name="stated", price=Price(per_request=1)), Model(name="silent"),
        Model(name="asked", price=Price(unknown=True)), Model(name="unheard-of", price=Price(unknown=True)),
    ))  # fmt: skip
    assert unpriced(models)
    assert not unpriced(models[:1])
    found = priced(models, lambda model: None if model == "unheard-of" else PRICE)
    assert [model.price for model in found] == [
        Price(per_request=1, source="settings"), PRICE, PRICE, Price(unknown=True)
    ]  # fmt: skip
    assert {model.price for model in without_prices(found)} == {Price(unknown=True)}
    assert as_stated((Model(name="free"),)) == (Model(name="free"),)


def test_a_hosted_backend_gets_its_prices_from_the_users_file_and_the_library(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(
        """
        [[prices]]
        provider = "gateway"
        model = "house-blend"
        as_of = "2026-11-20"
        input_usd_per_mtok = 0.5
        """
    )

    async def story() -> None:
        async with SimServer(SimSettings(models=("gpt-4.1", "house-blend", "unheard-of"))) as server:
            backends = (
                BackendSettings(name="gateway", url=server.url, provider="openai"),
                BackendSettings(
                    name="fixed", url=server.url, provider="openai",
                    models=(Model(name="gpt-4.1", price=Price(per_request=3)), Model(name="gpt-4o-mini")),
                ),
                BackendSettings(name="ours", url=server.url, provider="openai", local=True),
            )  # fmt: skip
            looking = discovery(Settings(backends=backends), {"MODEL_PRICING_TABLE_PATH": str(file)})
            await looking.look()
            assert await looking.look() == []
            prices = {
                (name, model.name): model.price
                for name, served in looking.served.items()
                for model in served.offer.models
            }
            assert prices["gateway", "house-blend"] == Price(
                input_per_mtok=500_000, source="prices.toml", as_of="2026-11-20"
            )
            assert prices["gateway", "gpt-4.1"].input_per_mtok == 2_000_000
            assert prices["gateway", "unheard-of"] == Price(unknown=True)
            assert prices["fixed", "gpt-4.1"] == Price(per_request=3, source="settings")
            assert prices["fixed", "gpt-4o-mini"].output_per_mtok == 600_000
            assert prices["ours", "gpt-4.1"] == Price()
            for served in looking.served.values():
                await served.adapter.close()

    asyncio.run(story())


def test_a_wrong_price_file_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"prices": [{"provider": "p", "model": "m", "as_of": "2026-01-01", "usd_per_image": -1}]}')
    with pytest.raises(SettingsError, match=r"prices\[0\]\.usd_per_image is -1: use dollars"):
        discovery(Settings(), {"MODEL_PRICING_TABLE_PATH": str(file)})


def test_slots_of_local_servers() -> None:
    assert local_slots("ollama", {}) == 1
    assert local_slots("ollama", {"OLLAMA_NUM_PARALLEL": "3"}) == 3
    assert local_slots("ollama", {"OLLAMA_NUM_PARALLEL": "many"}) == 1
    assert local_slots("openai", {}) == 4


def test_a_server_that_appears_later_is_found_and_told_once() -> None:
    async def story() -> None:
        server = SimServer(SimSettings(models=("m1",)))
        await server.start()
        url = server.url
        await server.kill()
        looking = discovery(Settings(), at=(Place("local-x", "openai", url, "x"),))
        assert await looking.look() == []
        await server.start()
        try:
            (news,) = await looking.look()
            assert (news.kind, news.backend) == ("found", "local-x")
            assert in_words(looking.served["local-x"].offer) == "local, 1 model: m1"
            assert await looking.look() == []
        finally:
            await server.kill()
        assert await looking.look() == []
        assert list(looking.served) == ["local-x"]
        await looking.served["local-x"].adapter.close()

    asyncio.run(story())


def test_something_else_on_the_port_is_no_backend() -> None:
    async def story() -> None:
        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        number = server.sockets[0].getsockname()[1]
        async with server:
            looking = discovery(Settings(), at=(Place("local-x", "openai", f"http://127.0.0.1:{number}/v1", "x"),))
            assert await looking.look() == []
            assert looking.served == {}

    asyncio.run(story())


def test_configured_backends() -> None:
    async def story() -> None:
        async with SimServer(SimSettings(models=("m1",))) as server:
            backends = (
                BackendSettings(name="asked", url=server.url, local=True),
                BackendSettings(name="down", url="http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY"),
            )
            looking = discovery(Settings(backends=backends))
            news = await looking.look()
            assert [model.name for model in looking.served["asked"].offer.models] == ["m1"]
            assert not looking.served["down"].offer.healthy
            assert any(one.kind == "trouble" and "NO_SUCH_KEY" in one.text for one in news)
            assert await looking.look() == []
            for served in looking.served.values():
                await served.adapter.close()

    asyncio.run(story())


FLEET = """
    discover = false
    [[backends]]
    name = "vllm-qwen"
    url = "{0}"
    local = true
    slots = 2
    exclusive_group = "gpu"
    vram_total_mb = 12288
    [[backends.models]]
    name = "Qwen2.5-Coder-7B-AWQ"
    seconds_per_job = 10.0
    vram_mb = 6000
    [[backends.models]]
    name = "Qwen2.5-Coder-7B-AWQ:turbo"
    [[backends]]
    name = "vllm-dolphin"
    url = "{1}"
    local = true
    exclusive_group = "gpu"
    active = false
    [[backends.models]]
    name = "Dolphin-2.8-Mistral-7B-AWQ"
    [[backends]]
    name = "gemini"
    url = "{2}"
    priority = 3
    [[backends.models]]
    name = "gemini-image"
    seconds_per_job = 5.0
    price = {{ per_request = 80_000 }}
"""


def test_a_fleet_from_a_settings_file_runs_on_simulated_backends(tmp_path: Path) -> None:
    names = (("Qwen2.5-Coder-7B-AWQ", "Qwen2.5-Coder-7B-AWQ:turbo"), ("Dolphin-2.8-Mistral-7B-AWQ",), ("gemini-image",))

    async def answer(served: Served, model: str) -> port.Answer:
        call = port.Call(model=model, messages=({"role": "user", "content": "hi"},), max_output_tokens=9)
        [found] = [item async for item in served.adapter.run(call) if isinstance(item, port.Answer)]
        return found

    async def story() -> None:
        async with contextlib.AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(SimServer(SimSettings(models=models))) for models in names]
            file = tmp_path / "turnout.toml"
            file.write_text(FLEET.format(*(server.url for server in servers)), encoding="utf-8")
            looking = discovery(load(file))
            assert [news.kind for news in await looking.look()] == ["found"] * 3
            qwen, dolphin, gemini = (looking.served[name].offer for name in ("vllm-qwen", "vllm-dolphin", "gemini"))
            assert (qwen.exclusive_group, qwen.active, qwen.vram_total_mb) == ("gpu", True, 12_288)
            assert (dolphin.exclusive_group, dolphin.active, dolphin.vram_total_mb) == ("gpu", False, None)
            assert (gemini.exclusive_group, gemini.active, gemini.priority) == ("", True, 3)
            assert gemini.models[0].price.cost(1_000, 1_000) == 80_000
            assert [model.seconds_per_job for model in qwen.models] == [10.0, None]
            for served in looking.served.values():
                for model in served.offer.models:
                    assert (await answer(served, model.name)).model == model.name
                await served.adapter.close()

    asyncio.run(story())


def test_a_wrong_address_names_the_backend() -> None:
    looking = discovery(Settings(backends=(BackendSettings(name="bad", url="ftp://x"),)))
    with pytest.raises(SettingsError, match="backend 'bad': url"):
        asyncio.run(looking.look())


def test_an_unreachable_account_is_offered_as_unhealthy_without_its_key() -> None:
    async def story() -> None:
        environment = {"OPENAI_API_KEY": "sk-secret-secret", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
        looking = discovery(Settings(), environment)
        news = await looking.look()
        offer = looking.served["openai"].offer
        assert (offer.healthy, offer.local) == (False, False)
        assert [model.name for model in offer.models] == [model.name for model in OPENAI]
        assert not unpriced(offer.models)
        assert "secret" not in repr((news, offer))
        await looking.served["openai"].adapter.close()

    asyncio.run(story())
