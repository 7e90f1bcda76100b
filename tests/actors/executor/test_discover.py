"""What can be served from here: planning, and probes of real sockets."""

import asyncio

import pytest

from actors.executor.backends import port
from actors.executor.discover import Discovery
from actors.executor.hosted import OPENAI
from actors.executor.places import (
    Place,
    in_words,
    keys_found,
    local_slots,
    models_of,
    openai_models,
    places,
    wanted_places,
)
from actors.settings import BackendSettings, Settings, SettingsError
from actors.simbackend import SimServer, SimSettings


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


def test_only_models_with_a_known_price_are_offered() -> None:
    assert openai_models(None) == OPENAI
    names = [model.name for model in openai_models([port.Offer(model="gpt-4o-mini"), port.Offer(model="unpriced")])]
    assert names == ["gpt-4o-mini"]
    assert all(model.price.input_per_mtok > 0 for model in OPENAI)


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
        assert (offer.healthy, offer.local, offer.models) == (False, False, OPENAI)
        assert "secret" not in repr((news, offer))
        await looking.served["openai"].adapter.close()

    asyncio.run(story())
