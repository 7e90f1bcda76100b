"""A user's own kind of backend: the sample of the guide, installed as a distribution, through all that ours go through."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actors.executor.backends import kinds, port
from actors.executor.backends.connection import Connection
from actors.executor.clients import all_kinds
from actors.executor.discover import Discovery
from actors.executor.places import places
from actors.executor.recognise import recognise
from actors.settings import BackendSettings, Settings, SettingsError
from tests.fakes.base import FakeServer

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "backends.md").read_text(encoding="utf-8")
Install = Callable[[str, str, str], None]


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return found


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution: a folder on the path with a module and its `dist-info`."""
    modules: list[str] = []

    def put(module: str, source: str, entry_points: str) -> None:
        folder = tmp_path / module
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
        modules.append(module)
        monkeypatch.syspath_prepend(str(folder))

    yield put
    for module in modules:
        sys.modules.pop(module, None)


def sample() -> tuple[str, str, str]:
    group, entry = re.fullmatch(r'\[project\.entry-points\."(.*)"\]\n(\w+) = .*\n', block("ini")).groups()  # type: ignore[union-attr]
    target = re.search(r'= "(.*)"', block("ini"))
    assert target is not None
    assert group == kinds.GROUP
    return entry, block("python"), f"[{group}]\n{entry} = {target[1]}\n"


class FakeSayer(FakeServer):
    """The server that the guide describes."""

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/models", self._models), web.post("/say", self._say)]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        return web.json_response({"error": message}, status=status)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response(["parrot"], headers={"x-sayer": "7.1"})

    async def _say(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert set(asked) == {"model", "prompt", "limit"}
        return web.json_response({"text": f"{asked['model']} says {asked['prompt']}", "tokens": 3})


def now() -> float:
    return 1_000_000.0


def test_it_is_known_recognised_found_and_called(install: Install) -> None:
    install(*sample())

    async def story() -> None:
        async with FakeSayer() as server:
            found = await recognise(Connection(url=server.url, now=now))
            assert (found.kind.name, found.version, [offer.model for offer in found.offers]) == (
                "sayer",
                "7.1",
                ["parrot"],
            )
            assert any(
                place.url == "http://127.0.0.1:7777" and place.name == "sayer" for place in places({}, (found.kind,))
            )
            backend = BackendSettings(name="mine", protocol="sayer", url=server.url, local=True)
            looking = Discovery(Settings(backends=(backend,), discover=False), environment={}, now=now)
            assert [(news.kind, news.backend) for news in await looking.look()] == [("found", "mine")]
            served = looking.served["mine"]
            assert (served.offer.slots, served.offer.healthy, served.offer.protocol) == (2, True, "sayer")
            message = {"role": "user", "content": "hello"}
            call = port.Call(model="parrot", messages=(message,), max_output_tokens=9)
            items = [item async for item in served.adapter.run(call)]
            assert [item.text for item in items if isinstance(item, port.Chunk)] == ["parrot says hello"]
            assert isinstance(items[-1], port.Answer)
            await looking.clients.close()

    asyncio.run(story())


@pytest.mark.parametrize("source", ["raise RuntimeError('boom')", "KIND = 7", "x = 1"])
def test_one_that_is_broken_breaks_only_the_backends_that_name_it(install: Install, source: str) -> None:
    install("broken", source, f"[{kinds.GROUP}]\nbroken = broken:KIND\n")

    async def story() -> None:
        backends = (
            BackendSettings(name="bad", protocol="broken", url="http://127.0.0.1:1"),
            BackendSettings(name="good", protocol="openai", url="http://127.0.0.1:1"),
        )
        looking = Discovery(Settings(backends=backends, discover=False), environment={}, now=now)
        assert "broken" not in {kind.name for kind in looking.kinds}
        await looking.look()
        reason = looking.served["bad"].offer.health_reason
        assert reason.startswith("protocol: 'broken': broken:KIND ")
        assert "broken:KIND" not in looking.served["good"].offer.health_reason
        await looking.clients.close()

    asyncio.run(story())


def test_its_options_are_checked_like_ours(install: Install) -> None:
    install(*sample())
    backend: Any = BackendSettings(name="mine", protocol="sayer", url="http://127.0.0.1:1", options={"volume": 11})
    with pytest.raises(SettingsError, match=r"backend 'mine': options: .*volume.* \(options of sayer: none\)"):
        Discovery(Settings(backends=(backend,)), environment={}, now=now)


def test_all_kinds_are_there_once_in_the_order_of_asking(install: Install) -> None:
    install(*sample())
    names = [kind.name for kind in all_kinds()]
    assert names[-2:] == ["openai", "sayer"] or names[-1] == "sayer"
    assert len(set(names)) == len(names)
