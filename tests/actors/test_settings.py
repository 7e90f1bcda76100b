from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.settings import ENVIRONMENT, Budget, Settings, SettingsError, load
from messages import Framing, Model, Price, Rate

MODEL = '[[backends]]\nname = "a"\nurl = "u"\n[[backends.models]]\nname = "m"\n'


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
    assert settings.budgets[0].name == "tenant:acme/microdollars/day"
    assert settings.backends[0].models[0].price.input_per_mtok == 5


def test_a_model_has_everything_that_decisions_use(tmp_path: Path) -> None:
    text = """
        capabilities = ["text", "image"]
        context_tokens = 8192
        max_output_tokens = 4096
        quality_tier = 4
        tokens_per_second = 50
        first_token_seconds = 0.2
        seconds_per_job = 10
        parameters_billion = 7.6
        vram_mb = 6000
        swap_seconds = 12
        loras = ["film"]
        retires = "2026-12-11"
        framing = { template = 300, image = 1600 }
        [backends.models.price]
        input_per_mtok = 1
        output_per_mtok = 2
        per_request = 3
        per_image = 4
        per_second = 5
        cached_input_per_mtok = 6
        cache_write_per_mtok = 7
        long_above_tokens = 8
        long_input_per_mtok = 9
        long_output_per_mtok = 10
        long_cached_input_per_mtok = 11
        long_cache_write_per_mtok = 12
        per_gpu_second = 13
        image_rates = [{ up_to_pixels = 1, microdollars = 14 }]
        second_rates = [{ quality = "hd", microdollars = 15 }]
        source = "us"
        as_of = "2026-11-21"
        unknown = true
    """
    (backend,) = load(written(tmp_path, MODEL + text)).backends
    assert backend.models == (
        Model(
            name="m", capabilities=("text", "image"), context_tokens=8192, max_output_tokens=4096, quality_tier=4,
            tokens_per_second=50.0, first_token_seconds=0.2, seconds_per_job=10.0, parameters_billion=7.6, vram_mb=6000,
            swap_seconds=12.0, loras=("film",), retires="2026-12-11",
            framing=Framing(template=300, image=1_600),
            price=Price(
                input_per_mtok=1, output_per_mtok=2, per_request=3, per_image=4, per_second=5, unknown=True,
                cached_input_per_mtok=6, cache_write_per_mtok=7, long_above_tokens=8, long_input_per_mtok=9,
                long_output_per_mtok=10, long_cached_input_per_mtok=11, long_cache_write_per_mtok=12, per_gpu_second=13,
                image_rates=(Rate(up_to_pixels=1, microdollars=14),), second_rates=(Rate(quality="hd", microdollars=15),),
                source="us", as_of="2026-11-21",
            ),
        ),
    )  # fmt: skip
    assert set(msgspec.structs.asdict(backend.models[0])) == set(Model.__struct_fields__)
    assert not [
        name for name in Model.__struct_fields__ if name not in {"name", "price", "has"} and f"{name} =" not in text
    ]
    assert not [name for name in Price.__struct_fields__ if f"{name} =" not in text]


def test_the_fleet_of_the_seed_002_can_be_written_down(tmp_path: Path) -> None:
    fleet = [("local", 1, 10, 0), ("cloud", 2, 20, 7_000), ("gemini", 3, 5, 80_000)]
    text = "".join(
        f"""
        [[backends]]
        name = "{name}"
        url = "http://127.0.0.1:8300/v1"
        local = {str(name == "local").lower()}
        priority = {priority}
        [[backends.models]]
        name = "{name}-image"
        seconds_per_job = {seconds}
        price = {{ per_request = {cost} }}
        """
        for name, priority, seconds, cost in fleet
    )
    backends = load(written(tmp_path, text)).backends
    found = [(b.name, b.priority, b.models[0].seconds_per_job, b.models[0].price.cost(1000, 1000)) for b in backends]
    assert found == fleet


def test_the_fleet_of_the_seed_004_has_one_active_model_on_its_gpu(tmp_path: Path) -> None:
    text = """
        [[backends]]
        name = "vllm-qwen"
        url = "http://127.0.0.1:8001/v1"
        exclusive_group = "gpu"
        vram_total_mb = 12288
        [[backends]]
        name = "vllm-dolphin"
        url = "http://127.0.0.1:8002/v1"
        exclusive_group = "gpu"
        active = false
    """
    one, other = load(written(tmp_path, text)).backends
    assert (one.exclusive_group, one.active, one.vram_total_mb) == ("gpu", True, 12288)
    assert (other.exclusive_group, other.active, other.vram_total_mb) == ("gpu", False, None)


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
        (MODEL + "price = { per_reqest = 1 }", ["backends.models.price.per_reqest", "price.per_request?"]),
        (
            MODEL + "second_per_job = 1",
            ["backends.models.second_per_job", "Did you mean backends.models.seconds_per_job?"],
        ),
        (MODEL + "vram = 1", ["backends.models.vram", "Did you mean backends.models.vram_mb?"]),
        ('[[backends]]\nname = "a"\nurl = "u"\nexclusive_grop = "g"', ["Did you mean backends.exclusive_group?"]),
        (
            '[[backends]]\nname = "a"\nurl = "u"\nvram_total_mb = 0',
            ["turnout.toml:4: backends[0].vram_total_mb is 0: use at least 1"],
        ),
        ('[[backends]]\nname = "a"\nurl = "u"\nslots = 0', ["turnout.toml:4: backends[0].slots is 0: use at least 1"]),
        ("zzzz = 1", ["zzzz is not a setting", "Known:", "rooms"]),
        ('[nats]\nport = "many"', ["turnout.toml:2: nats.port is 'many'", "int"]),
        ("nats = 5", ["turnout.toml:1: nats is 5"]),
        ('rooms = "sideways"', ["turnout.toml:1: rooms is 'sideways': use together, apart"]),
        ("[[budgets]]\nlimit = -1", ["budgets[0].limit is -1: use at least 0"]),
        ('[[budgets]]\nscope = "tenant"', ["budgets[0]", "limit"]),
        ('[[backends]]\nname = "a"', ["backends[0]", "url"]),
        ("rooms = ", ["not valid TOML", "turnout.toml"]),
        (
            '[[budgets]]\nlimit = 5\n[[budgets]]\nscope = "tennant"\nlimit = 3',
            ["turnout.toml:4: budgets[1].scope is 'tennant': use global, tenant, ", "did you mean tenant?"],
        ),
        ("[nats]\nport = 65536", ["nats.port is 65536: use at most 65535"]),
        ('[[backends]]\nname = "a"\nurl = "http://h:70000"', ["backend 'a': url is 'http://h:70000'", "0-65535"]),
        ('[budgeting]\non_all_over_budget = "hold"', ["budgeting.on_all_over_budget is 'hold': use fail, wait, ask"]),
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


def test_the_guide_is_a_settings_file(tmp_path: Path) -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "guides" / "settings.md"
    text = guide.read_text(encoding="utf-8")
    settings = load(written(tmp_path, text.partition("```toml")[2].partition("```")[0]))
    assert [backend.name for backend in settings.backends] == ["workstation", "cloud", "vllm-qwen", "vllm-dolphin"]
    table = text.partition("What can be said of a model")[2].partition("## Failover")[0]
    prices = guide.with_name("prices.md").read_text(encoding="utf-8")
    # What a server has is its own word.
    assert [name for name in Model.__struct_fields__ if name != "has" and f"`{name}" not in table] == []
    assert [
        name for name in Price.__struct_fields__ if f"`{name}" not in table + prices and not name.startswith("long_")
    ] == []
    assert [name for name in ENVIRONMENT if f"`{name}`" not in text] == []


def test_a_zero_that_is_written_down_is_a_price_and_one_that_is_left_out_is_none(tmp_path: Path) -> None:
    file = tmp_path / "turnout.toml"
    file.write_text(
        """
        [[backends]]
        name = "cloud"
        url = "https://models.example.com/v1"
        models = [
            { name = "gift", price = { input_per_mtok = 0, output_per_mtok = 0 } },
            { name = "silent" },
            { name = "odd", price = { as_of = "2026-11-21" } },
            { name = "paid", price = { per_request = 3, source = "our contract" } },
        ]
        """
    )
    models = load(file).backends[0].models
    assert {model.name: model.price for model in models} == {
        "gift": Price(source="settings"), "silent": Price(), "odd": Price(as_of="2026-11-21"),
        "paid": Price(per_request=3, source="our contract"),
    }  # fmt: skip
    assert [model.price.stated for model in models] == [True, False, False, True]
