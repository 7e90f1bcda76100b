from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.settings import ENVIRONMENT, Budget, Settings, SettingsError, load


def written(path: Path, text: str) -> Path:
    file = path / "turnout.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_need_no_file() -> None:
    assert load() == Settings()


def test_a_file_says_everything(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        rooms = "apart"
        [nats]
        port = 0
        [[budgets]]
        scope = "tenant"
        only = "acme"
        limit = 5_000_000
        [[backends]]
        name = "gpu-1"
        url = "http://127.0.0.1:8000/v1"
        [[backends.models]]
        name = "llama3.1:8b"
        price = { input_per_mtok = 5 }
        """,
    )
    settings = load(file)
    assert settings.rooms == "apart"
    assert settings.nats.port == 0
    assert settings.budgets == (Budget(scope="tenant", only="acme", limit=5_000_000),)
    assert settings.budgets[0].name == "tenant acme: 5000000 microdollars per day"
    assert settings.backends[0].models[0].price.input_per_mtok == 5


def test_environment_outweighs_the_file_and_flags_outweigh_both(tmp_path: Path) -> None:
    file = written(tmp_path, '[nats]\nurl = "nats://file:1"\nport = 1\nsync = "always"')
    environment = {"TURNOUT_NATS_URL": "nats://environment:2", "TURNOUT_NATS_PORT": "2", "TURNOUT_ROOMS": ""}
    settings = load(file, environment=environment, flags={("nats", "url"): "nats://flag:3", ("nats", "sync"): None})
    assert settings.nats.url == "nats://flag:3"
    assert settings.nats.port == 2
    assert settings.nats.sync == "always"
    assert settings.rooms == "together"


@pytest.mark.parametrize(("text", "found"), [("false", False), ("0", False), ("true", True), ("1", True)])
def test_switches_in_the_environment(text: str, found: bool) -> None:
    assert load(environment={"TURNOUT_DISCOVER": text}).discover is found


@pytest.mark.parametrize("place", ENVIRONMENT.values(), ids=".".join)
def test_every_variable_names_a_setting(place: tuple[str, ...]) -> None:
    tree: Any = Settings()
    for key in place:
        tree = getattr(tree, key)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('room = "apart"', ["room is not a setting", "Did you mean rooms?"]),
        ("[nats]\nprot = 1", ["nats.prot", "Did you mean nats.port?"]),
        ("[breaker]\nopen_second = 1", ["breaker.open_second", "Did you mean breaker.open_seconds?"]),
        ("[[budgets]]\nlimitt = 1", ["budgets.limitt", "Did you mean budgets.limit?"]),
        ('[[backends]]\nname = "a"\nurl = "u"\n[[backends.models]]\nnmae = "m"', ["backends.models.nmae", "name?"]),
        ("zzzz = 1", ["zzzz is not a setting", "Known:", "rooms"]),
        ('[nats]\nport = "many"', ["$.nats.port", "int"]),
        ("nats = 5", ["$.nats"]),
        ('rooms = "sideways"', ["$.rooms", "sideways"]),
        ("[[budgets]]\nlimit = -1", ["$.budgets[0].limit", ">= 0"]),
        ('[[budgets]]\nscope = "tenant"', ["$.budgets[0]", "limit"]),
        ('[[backends]]\nname = "a"', ["$.backends[0]", "url"]),
        ("rooms = ", ["not valid TOML", "turnout.toml"]),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        load(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b'instance = "\xff"')
    with pytest.raises(SettingsError, match=r"latin\.toml"):
        load(tmp_path / "latin.toml")


def test_a_value_where_a_table_belongs_is_an_error_whoever_fills_the_table(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nats"):
        load(written(tmp_path, 'nats = "nats://x"'), environment={"TURNOUT_NATS_PORT": "1"})


@pytest.mark.parametrize(
    ("environment", "words"), [({"TURNOUT_NATS_PORT": "many"}, "nats.port"), ({"TURNOUT_ROOMS": "x"}, "rooms")]
)
def test_a_wrong_variable_names_the_key(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(environment=environment)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        load().rooms = "apart"  # type: ignore[misc]
