"""What can be served from here: planning, and probes of real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from actors.executor.backends import port
from actors.executor.clients import Broken
from actors.executor.discover import Discovery
from actors.executor.hosted import OPENAI
from actors.executor.places import Place, in_words, unpriced
from actors.executor.served import Served
from actors.settings import BackendSettings, Settings, SettingsError, load
from actors.simbackend import SimServer, SimSettings
from messages import Model, Price
from tests.actors.executor.desk import Adapter
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.base import FakeServer
from tests.fakes.comfyui import FakeComfyui
from tests.fakes.lm_studio import FakeLmStudio
from tests.fakes.ollama import FakeOllama
from tests.fakes.vllm import FakeVllm


def now() -> float:
    return 1_000_000.0


def root(url: str) -> str:
    return url.removesuffix("/v1")


def discovery(
    settings: Settings, environment: dict[str, str] | None = None, *, at: tuple[Place, ...] = ()
) -> Discovery:
    found = Discovery(settings, environment=environment or {}, now=now)
    found.places = list(at)  # The usual ports of this machine are not a test's.
    return found


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
                    models=(
                        Model(name="gpt-4.1", price=Price(per_request=3)), Model(name="gpt-4o-mini"),
                        Model(name="unheard-of"), Model(name="gift", price=Price(source="settings")),
                    ),
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
            assert prices["fixed", "unheard-of"] == Price(unknown=True), "it is listed, and nobody says that it is free"
            assert prices["fixed", "gift"] == Price(source="settings")
            assert prices["ours", "gpt-4.1"] == Price()
            for served in looking.served.values():
                await served.adapter.close()

    asyncio.run(story())


def test_a_wrong_price_file_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"prices": [{"provider": "p", "model": "m", "as_of": "2026-01-01", "usd_per_image": -1}]}')
    with pytest.raises(SettingsError, match=r"prices\[0\]\.usd_per_image is -1: use dollars"):
        discovery(Settings(), {"MODEL_PRICING_TABLE_PATH": str(file)})


def test_a_server_that_appears_later_is_found_and_told_once() -> None:
    async def story() -> None:
        server = SimServer(SimSettings(models=("m1",)))
        await server.start()
        url = server.url
        await server.kill()
        looking = discovery(Settings(), at=(Place("local-x", root(url), "x"),))
        assert await looking.look() == []
        await server.start()
        try:
            (news,) = await looking.look()
            name = f"local-{url.rpartition(':')[2].partition('/')[0]}"
            assert [place.name for place in looking.places] == [name]
            assert (news.kind, news.backend) == ("found", name)
            assert in_words(looking.served[name].offer) == "local, 1 model: m1"
            assert await looking.look() == []
        finally:
            await server.kill()
        assert await looking.look() == []
        assert list(looking.served) == [name]
        await looking.served[name].adapter.close()

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
            looking = discovery(Settings(), at=(Place("local-x", f"http://127.0.0.1:{number}", "x"),))
            assert await looking.look() == []
            assert looking.served == {}

    asyncio.run(story())


def test_configured_backends() -> None:
    async def story() -> None:
        async with SimServer(SimSettings(models=("m1",))) as server:
            backends = (
                BackendSettings(name="asked", url=server.url, local=True),
                BackendSettings(name="down", url="http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY"),
                BackendSettings(name="other", url=root(server.url), protocol="comfyui", local=True),
            )
            looking = discovery(Settings(backends=backends))
            news = await looking.look()
            assert [model.name for model in looking.served["asked"].offer.models] == ["m1"]
            assert not looking.served["down"].offer.healthy
            assert any(one.kind == "trouble" and "NO_SUCH_KEY" in one.text for one in news)
            assert "is it another kind of server?" in looking.served["other"].offer.health_reason
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


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"url": "ftp://x"}, "url: 'ftp://x' must begin with http"),
        ({"protocol": "olama"}, "protocol: 'olama' is no kind of backend. Did you mean 'ollama'"),
        ({"protocol": "zzz"}, "protocol: 'zzz' is no kind of backend. Known: ollama, "),
        ({"options": {"max_token_field": "x"}}, "options: .*max_token_field.*options of openai: .*max_tokens_field"),
        ({"ca_file": "no/such.pem"}, "ca_file: there is no file 'no/such.pem'"),
        ({"client_cert": "no/such.pem"}, "client_cert: there is no file"),
        ({"proxy_env": "WRONG_PROXY"}, "proxy: use http://host:port"),
        ({"headers_env": {"x-team": "WRONG_HEADER"}}, "headers.x-team: holds spaces"),
        ({"api_key_env": "WRONG_HEADER"}, "api_key: holds spaces"),
    ],
)
def test_a_wrong_setting_names_the_backend_and_the_field_at_the_start(changes: dict[str, Any], complaint: str) -> None:
    given: dict[str, Any] = {"name": "bad", "url": "http://127.0.0.1:1", **changes}
    backend = BackendSettings(**given)
    environment = {"WRONG_PROXY": "socks5://secret@x:1", "WRONG_HEADER": "a\u00e4b"}
    with pytest.raises(SettingsError, match=f"backend 'bad': {complaint}") as raised:
        discovery(Settings(backends=(backend,)), environment)
    assert "secret" not in str(raised.value)


def test_a_client_that_cannot_be_made_is_shown_as_ill_until_it_can() -> None:
    async def story() -> None:
        async with SimServer(SimSettings(models=("m1",))) as server:
            backends = (
                BackendSettings(name="behind", url=server.url, local=True, proxy_env="MY_PROXY"),
                BackendSettings(name="fine", url=server.url, local=True),
            )
            environment = {"NO_PROXY_YET": "1"}
            looking = discovery(Settings(backends=backends), environment)
            news = await looking.look()
            assert [(one.kind, one.backend) for one in news if one.kind == "trouble"] == [("trouble", "behind")]
            reason = "proxy_env: the environment variable MY_PROXY is not set"
            behind = looking.served["behind"]
            assert (behind.offer.healthy, behind.offer.health_reason) == (False, reason)
            assert looking.served["fine"].offer.healthy
            assert await looking.look() == []
            environment["MY_PROXY"] = root(server.url)
            await looking.look()
            assert looking.served["behind"] is behind
            assert not isinstance(behind.adapter, Broken)
            await looking.clients.close()

    asyncio.run(story())


def test_two_backends_with_one_configuration_share_a_client_that_is_closed_once() -> None:
    async def story() -> None:
        async with SimServer(SimSettings(models=("m1",))) as server:
            backends = tuple(
                BackendSettings(name=name, url=server.url, local=True, max_connections=limit)
                for name, limit in (("one", 0), ("two", 0), ("three", 5))
            )
            looking = discovery(Settings(backends=backends))
            await looking.look()
            one, two, three = (looking.served[name].adapter for name in ("one", "two", "three"))
            assert one is two
            assert one is not three
            closed: list[str] = []
            for name, adapter in (("one", one), ("three", three)):
                original = adapter.close

                async def close(name: str = name, original: Any = original) -> None:
                    closed.append(name)
                    await original()

                adapter.close = close  # type: ignore[method-assign]
            await looking.clients.close()
            assert closed == ["one", "three"]

    asyncio.run(story())


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


@asynccontextmanager
async def looking_at(
    *fakes: FakeServer, environment: dict[str, str] | None = None, backends: tuple[BackendSettings, ...] = ()
) -> AsyncGenerator[Discovery]:
    """A discovery whose usual places are these fakes."""
    async with contextlib.AsyncExitStack() as stack:
        for fake in fakes:
            await stack.enter_async_context(fake)
        at = tuple(Place(f"place-{number}", fake.url, "x") for number, fake in enumerate(fakes))
        found = discovery(Settings(backends=backends), environment, at=at)
        yield found
        await found.clients.close()


def test_what_is_found_at_a_usual_port_is_asked_what_it_is() -> None:
    async def story() -> None:
        fakes = (FakeOllama(), FakeVllm(), FakeComfyui(), FakeLmStudio())
        async with looking_at(*fakes) as looking:
            news = await looking.look()
            assert {one.kind for one in news} == {"found"}
            numbers = [urlsplit(fake.url).port for fake in fakes]
            kinds = ("ollama", "vllm", "comfyui", "lm_studio")
            names = [f"{kind.replace('_', '-')}-{number}" for kind, number in zip(kinds, numbers, strict=True)]
            assert sorted(looking.served) == sorted(names)
            for name, kind in zip(names, kinds, strict=True):
                offer = looking.served[name].offer
                assert (offer.protocol, offer.local, offer.here, offer.healthy) == (kind, True, True, True)
                assert offer.version or kind == "lm_studio"
            assert looking.served[names[1]].offer.loaded
            assert "image" in looking.served[names[2]].offer.models[0].capabilities
            assert await looking.look() == []

    asyncio.run(story())


class Clouded(Adapter):
    """A server that is here and has a model that is not."""

    def __init__(self) -> None:
        super().__init__(None)
        self.offers = [port.Offer(model="llama"), port.Offer(model="gpt-oss:120b-cloud", cloud=True)]

    async def discover(self) -> tuple[port.Offer, ...]:
        return tuple(self.offers)


def test_models_that_run_elsewhere_are_a_backend_of_their_own_that_costs() -> None:
    async def story() -> None:
        backends = (BackendSettings(name="box", protocol="ollama", url="http://127.0.0.1:1", local=True),)
        looking = discovery(Settings(backends=backends))
        adapter = Clouded()
        looking.clients.open = lambda kind, connection: adapter  # type: ignore[method-assign, assignment]
        assert [(one.kind, one.backend) for one in await looking.look()] == [("found", "box"), ("found", "box-cloud")]
        box, cloud = looking.served["box"].offer, looking.served["box-cloud"].offer
        assert [model.name for model in box.models] == ["llama"]
        assert (box.local, box.models[0].price) == (True, Price())
        assert [model.name for model in cloud.models] == ["gpt-oss:120b-cloud"]
        assert (cloud.local, cloud.here, cloud.provider, cloud.priority) == (False, False, "ollama", 2)
        assert cloud.models[0].price != Price()
        assert looking.served["box"].adapter is looking.served["box-cloud"].adapter
        assert await looking.look() == []
        adapter.offers = adapter.offers[:1]
        assert [(one.kind, one.backend) for one in await looking.look()] == [("changed", "box-cloud")]
        assert looking.served["box-cloud"].offer.models == ()

    asyncio.run(story())


def test_a_configured_backend_of_that_name_is_left_alone() -> None:
    async def story() -> None:
        backends = (
            BackendSettings(name="box", protocol="ollama", url="http://127.0.0.1:1", local=True),
            BackendSettings(name="box-cloud", protocol="ollama", url="http://127.0.0.1:2", models=(Model(name="own"),)),
        )
        looking = discovery(Settings(backends=backends))
        looking.clients.open = lambda kind, connection: Clouded()  # type: ignore[method-assign, assignment]
        await looking.look()
        assert [model.name for model in looking.served["box-cloud"].offer.models] == ["own"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("protocol", "capabilities", "runs"),
    [("comfyui", ("image",), True), ("comfyui", ("text",), False), ("ollama", ("image",), False)],
)
def test_models_that_are_stated_do_not_keep_graphs_away(
    protocol: str, capabilities: tuple[str, ...], runs: bool
) -> None:
    model = Model(name="own", capabilities=capabilities, price=Price(per_second=7))
    there = BackendSettings(name="box", protocol=protocol, url="http://127.0.0.1:1", models=(model,))

    async def story() -> None:
        looking = discovery(Settings(backends=(there,)))
        await looking.look()
        models = {model.name: model for model in looking.served["box"].offer.models}
        assert list(models) == ["own", *(["graph"] if runs else [])]
        if runs:
            assert models["graph"].price == models["own"].price
        for served in looking.served.values():
            await served.adapter.close()

    asyncio.run(story())


def test_a_configured_backend_of_that_name_keeps_the_models_that_it_lists() -> None:
    async def story() -> None:
        backends = (
            BackendSettings(name="box", protocol="ollama", url="http://127.0.0.1:1", local=True),
            BackendSettings(name="box-cloud", protocol="ollama", url="http://127.0.0.1:2", provider="ollama"),
        )
        looking = discovery(Settings(backends=backends))
        box, cloud = Clouded(), Adapter(None)
        cloud.discover = lambda: listed("own")  # type: ignore[method-assign]
        looking.clients.open = lambda kind, connection: box if connection.url.endswith(":1") else cloud  # type: ignore[method-assign, assignment]
        for _ in range(3):
            await looking.look()
            assert [model.name for model in looking.served["box-cloud"].offer.models] == ["own"]
        assert await looking.look() == []

    async def listed(name: str) -> tuple[port.Offer, ...]:
        return (port.Offer(model=name),)

    asyncio.run(story())


def test_one_backend_that_breaks_does_not_keep_the_others_from_being_found() -> None:
    class Buggy(Adapter):
        async def discover(self) -> tuple[port.Offer, ...]:
            raise TypeError("it lists numbers")

    async def story() -> None:
        backends = tuple(
            BackendSettings(name=name, url=f"http://127.0.0.1:{number}", local=True)
            for number, name in enumerate(("bad", "good"), 1)
        )
        looking = discovery(Settings(backends=backends))
        looking.clients.open = lambda kind, connection: Buggy(None) if connection.url.endswith(":1/v1") else Clouded()  # type: ignore[method-assign, assignment]
        await looking.look()
        assert looking.served["good"].offer.models
        assert "it lists numbers" in looking.served["bad"].offer.health_reason

    asyncio.run(story())


def test_a_server_with_thousands_of_loras_and_models_still_fits_into_a_heartbeat() -> None:
    async def story() -> None:
        names = tuple(f"styles/some_long_name_of_a_lora_{number:06}.safetensors" for number in range(2_000))
        backends = (BackendSettings(name="box", protocol="comfyui", url="http://127.0.0.1:1", local=True),)
        looking = discovery(Settings(backends=backends))
        adapter = Clouded()
        adapter.offers = [port.Offer(model=f"m-{number}", loras=names) for number in range(50)]
        looking.clients.open = lambda kind, connection: adapter  # type: ignore[method-assign, assignment]
        await looking.look()
        offer = looking.served["box"].offer
        assert len(msgspec.json.encode(offer)) < 400_000
        assert [model.loras for model in offer.models] == [None] * 50, "nobody knows: the call tells"
        assert await looking.look() == []
        adapter.offers = [port.Offer(model=f"a-model-of-a-long-name-{number}") for number in range(20_000)]
        (news, told) = await looking.look()
        assert (news.kind, told.kind) == ("changed", "trouble")
        assert "more models than can be announced" in told.text
        assert len(msgspec.json.encode(looking.served["box"].offer)) < 400_000
        assert await looking.look() == []
        adapter.offers = [port.Offer(model="m", loras=names)]
        await looking.look()
        assert looking.served["box"].offer.models[0].loras == names, "one list of them fits"

    asyncio.run(story())


def test_a_key_in_the_environment_is_enough() -> None:
    async def story() -> None:
        async with FakeAnthropic() as fake:
            environment = {"ANTHROPIC_API_KEY": "the-key", "ANTHROPIC_BASE_URL": fake.url}
            async with looking_at(environment=environment) as looking:
                assert [(one.kind, one.backend) for one in await looking.look()] == [("found", "anthropic")]
                offer = looking.served["anthropic"].offer
                assert (offer.local, offer.provider, offer.healthy) == (False, "anthropic", True)
                assert offer.models
                assert not unpriced(offer.models)
                assert [key.variable for key in looking.keys_here()] == ["ANTHROPIC_API_KEY"]

    asyncio.run(story())


def test_a_configured_backend_at_the_providers_address_takes_the_place_of_the_key() -> None:
    async def story() -> None:
        async with FakeAnthropic() as fake:
            environment = {"ANTHROPIC_API_KEY": "the-key", "ANTHROPIC_BASE_URL": fake.url}
            mine = BackendSettings(name="mine", protocol="anthropic", url=fake.url, api_key_env="ANTHROPIC_API_KEY")
            async with looking_at(environment=environment, backends=(mine,)) as looking:
                await looking.look()
                assert list(looking.served) == ["mine"]

    asyncio.run(story())


def test_a_server_that_wants_a_key_is_told_and_one_that_is_none_is_asked_ever_more_seldom() -> None:
    async def story() -> None:
        asked: list[str] = []

        def serve(answer: bytes) -> Any:
            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    asked.append((await reader.readuntil(b"\r\n")).decode())
                    size = str(len(answer)).encode()
                    status = b"401 Unauthorized" if b"key" in answer else b"200 OK"
                    writer.write(
                        b"HTTP/1.1 " + status + b"\r\ncontent-length: " + size + b"\r\nconnection: close\r\n\r\n"
                    )
                    writer.write(answer)
                    await writer.drain()
                writer.close()

            return talk

        keyed = await asyncio.start_server(serve(b'{"error": {"message": "no key"}}'), "127.0.0.1", 0)
        web = await asyncio.start_server(serve(b"<html></html>"), "127.0.0.1", 0)
        async with keyed, web:
            urls = [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}" for one in (keyed, web)]
            looking = discovery(Settings(), at=(Place("keyed", urls[0], "x"), Place("web", urls[1], "x")))
            (news,) = await looking.look()
            assert (news.kind, news.backend) == ("trouble", "keyed")
            assert "wants a key" in news.text
            asked.clear()
            places, looking.places = looking.places, looking.places[:1]
            assert await looking.look() == []
            assert asked == [], "nor is one that wants a key asked at every look"
            counts: list[int] = []
            looking.places = places[1:]
            for _ in range(12):
                asked.clear()
                assert await looking.look() == []
                counts.append(bool(asked))
            assert counts == [0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]

    asyncio.run(story())


def test_a_backend_that_was_down_at_the_start_is_asked_for_its_models_once_it_is_back() -> None:
    async def story() -> None:
        server = SimServer(SimSettings(models=("a-model",)))
        await server.start()
        await server.stop()  # The port is known, and nobody listens there.
        looking = discovery(Settings(backends=(BackendSettings(name="late", url=server.url, local=True),)))
        await looking.look()
        served = looking.served["late"]
        assert (served.offer.models, looking.back) == ((), False)
        await server.start()
        try:
            assert not looking.back, "no health check has told so yet"
            await served.check()
            assert looking.back
            assert [news.kind for news in await looking.look()] == ["changed"]
            assert [model.name for model in served.offer.models] == ["a-model"]
            assert not looking.back, "there is nothing left to ask for"
        finally:
            await server.stop()
            await served.adapter.close()

    asyncio.run(story())
