"""A backend that is added by hand: its name, its place, and what stands in the file afterwards."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor import adding
from actors.executor.adding import Seen, answers, in_the_clear, lines_of, name_for, runs_here, see, written
from actors.executor.clients import kind_of
from actors.settings import BackendSettings, Settings, SettingsError, load
from messages import Price
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.base import FakeServer
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import FakeOpenAI


def now() -> float:
    return 1_795_000_000.0


async def seen(fake: FakeServer, local: bool | None = None, **more: Any) -> Seen:
    backend = BackendSettings(name="", url=fake.url, api_key_env="KEY", **more)
    return await see(backend, Settings(), local=local, environment={"KEY": "the-key"}, now=now)


def test_what_is_seen_is_what_would_be_written() -> None:
    async def story() -> None:
        async with FakeOllama() as fake:
            here = await seen(fake)
            assert (here.kind.name, here.backend.protocol, here.backend.local) == ("ollama", "ollama", True)
            assert here.backend.url == fake.url
            assert here.backend.name == f"ollama-{fake.url.rpartition(':')[2]}"
            assert {model.price for model in here.models} == {Price()}
            assert await answers(here.backend, {}, now) == ""
        assert "cannot connect" in await answers(here.backend, {}, now)

    asyncio.run(story())


@pytest.mark.parametrize("url", ["http://api.openai.com", "http://8.8.8.8:8000", "http://models.example.org/v1"])
def test_no_key_is_sent_in_the_clear_over_the_internet(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("it was asked")

    monkeypatch.setattr(adding, "recognise", never)
    backend = BackendSettings(name="", url=url, api_key_env="KEY")
    with pytest.raises(ValueError, match=r"url: .*https://"):
        asyncio.run(see(backend, Settings(), local=None, environment={"KEY": "the-key"}, now=now))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://api.openai.com", "k"), ("http://api.openai.com", ""), ("http://127.0.0.1:1", "k"),
        ("http://192.168.1.9:1", "k"), ("http://gpu-box:8000", "k"), ("http://[::1]:1", "k"), ("http://box.local", "k"),
    ],
)  # fmt: skip
def test_where_a_key_may_go(url: str, key: str) -> None:
    assert not in_the_clear(url, key)


def test_what_is_in_the_cloud_has_a_provider_and_prices() -> None:
    async def story() -> None:
        async with FakeAnthropic() as fake:
            there = await seen(fake, local=False)
        assert (there.backend.local, there.backend.provider) == (False, "anthropic")
        assert there.models
        assert any(not model.price.unknown for model in there.models)
        async with FakeOpenAI() as fake:
            own = await seen(fake, local=False, provider="somebody")
        assert own.backend.provider == "somebody"
        assert all(model.price.unknown for model in own.models)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("url", "kind", "here"),
    [
        ("http://127.0.0.1:8000", "openai", True),
        ("http://192.168.1.20:8000", "openai", True),
        ("http://gpu-box:8000", "openai", True),
        ("https://api.openai.com/v1", "openai", False),
        ("https://8.8.8.8", "openai", False),
        ("https://gpu.example.com", "vllm", True),
        ("https://api.anthropic.com", "anthropic", False),
    ],
)
def test_where_it_runs_as_its_address_tells(url: str, kind: str, here: bool) -> None:
    assert runs_here(url, kind_of(kind)) is here


@pytest.mark.parametrize(
    ("url", "kind", "taken", "name"),
    [
        ("http://127.0.0.1:11434", "ollama", (), "ollama"),
        ("http://127.0.0.1:11434", "ollama", ("ollama",), "ollama-11434"),
        ("http://127.0.0.1:9000", "vllm", (), "vllm-9000"),
        ("http://gpu-box.lan:8000", "vllm", (), "vllm-gpu-box"),
        ("http://gpu-box.lan:8000", "vllm", ("vllm-gpu-box", "vllm-8000"), "vllm-gpu-box-2"),
        ("https://api.openai.com/v1", "openai", (), "openai"),
        ("https://gateway.example/v1", "openai", (), "openai-gateway"),
    ],
)
def test_names(url: str, kind: str, taken: tuple[str, ...], name: str) -> None:
    assert name_for(url, kind_of(kind), {}, taken) == name


def backend(**changes: Any) -> BackendSettings:
    given: dict[str, Any] = {"name": "b", "url": "http://127.0.0.1:8000/v1", **changes}
    return BackendSettings(**given)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(
    st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable()), TEXT, st.booleans(),
    st.dictionaries(TEXT, TEXT, max_size=3), st.dictionaries(TEXT, TEXT | st.integers(0, 99) | st.booleans(), max_size=3),
)  # fmt: skip
def test_whatever_is_written_reads_the_same(
    name: str, text: str, local: bool, headers: dict[str, str], options: dict[str, Any]
) -> None:
    one = backend(name=name, provider=text, local=local, headers_env=headers, options=options, slots=7)
    (table,) = tomllib.loads(lines_of(one))["backends"]
    assert BackendSettings(**table) == one


@pytest.mark.parametrize(
    "before", ["", "# mine\n", "drain_seconds = 5.0", "[nats]\nport = 4333 # here\n\n[[budgets]]\nlimit = 1\n"]
)
def test_the_rest_of_the_file_stays_as_it_is(before: str, tmp_path: Path) -> None:
    file = tmp_path / "turnout.toml"
    if before:
        file.write_text(before)
        file.chmod(0o640)
    written(file, backend())
    written(file, backend(name="c", url="http://127.0.0.1:8001/v1"))
    assert file.read_text().startswith(before)
    assert [one.name for one in load(file).backends] == ["b", "c"]
    assert not before or file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["turnout.toml"]


@pytest.mark.parametrize(
    ("before", "complaint"),
    [
        ('[[backends]]\nname = "b"\nurl = "http://x"\n', "has a backend 'b' already: choose another --name"),
        ('[[backends]]\nname = "x"\nurl = "http://localhost:8000"\n', "already, as backend 'x'"),
        ('backends = [{ name = "x", url = "http://x" }]\n', "can't be put at its end"),
        ("nonsense = 1\n", "nonsense is not a setting"),
        ("[nats\n", "not valid TOML"),
    ],
)
def test_a_file_that_it_does_not_fit_into_is_not_touched(before: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "turnout.toml"
    file.write_text(before)
    with pytest.raises(SettingsError, match=complaint):
        written(file, backend())
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["turnout.toml"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be written: No such file or directory"):
        written(tmp_path / "no" / "turnout.toml", backend())
