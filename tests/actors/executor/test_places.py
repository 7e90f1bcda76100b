"""Where backends may be, and what a list of models means."""

from __future__ import annotations

import pytest

from actors.executor.backends import port
from actors.executor.backends.kinds import Kind
from actors.executor.clients import all_kinds
from actors.executor.places import (
    as_stated,
    hosted_name,
    hosted_url,
    keys_found,
    local_slots,
    name_at,
    parted,
    places,
    priced,
    slug,
    unpriced,
    wanted_places,
    without_prices,
)
from actors.settings import BackendSettings, Settings
from messages import Model, Price

KINDS = tuple(all_kinds())
BY_NAME = {kind.name: kind for kind in KINDS}
PRICE = Price(per_request=7, source="a list", as_of="2026-11-01")


def plain(name: str, **changes: object) -> Kind:
    return Kind(name=name, title=name.title(), open=BY_NAME["openai"].open, address=str, **changes)  # type: ignore[arg-type]


def test_every_port_of_every_kind_is_a_place_once() -> None:
    found = places({}, KINDS)
    numbers = [int(place.url.rpartition(":")[2]) for place in found]
    assert sorted(numbers) == sorted({number for kind in KINDS for number in kind.ports})
    assert {11434, 5000, 1337} <= set(numbers)
    assert len({place.name for place in found}) == len(found)
    assert all(place.what for place in found)


def test_kinds_that_share_a_port_are_named_together() -> None:
    kinds = (plain("one", ports=(8000, 8001)), plain("two", ports=(8000,)))
    first, second = places({}, kinds)
    assert (first.name, first.url, first.what) == ("one", "http://127.0.0.1:8000", "One or Two")
    assert (second.name, second.what) == ("one-8001", "One")


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
    (place,) = places({"OLLAMA_HOST": host}, (BY_NAME["ollama"],))
    assert (place.url, place.name) == (url, "ollama")


def test_what_is_configured_or_ours_is_not_looked_for() -> None:
    backends = (
        BackendSettings(name="mine", url="http://localhost:5000/v1"),
        BackendSettings(name="ollama", url="http://10.0.0.1:11434"),
    )
    wanted = {place.url for place in wanted_places(Settings(backends=backends), {}, KINDS, own_ports=(7866,))}
    gone = {f"http://127.0.0.1:{number}" for number in (5000, 11434, 7866)}
    assert wanted.isdisjoint(gone)
    assert "http://127.0.0.1:1337" in wanted
    assert wanted_places(Settings(discover=False), {}, KINDS) == []


def test_names_after_what_was_found() -> None:
    vllm = plain("v_llm", ports=(8000, 8001))
    assert slug(vllm) == "v-llm"
    assert [name_at(vllm, number, {}) for number in (8000, 8001, 9000)] == ["v-llm", "v-llm-8001", "v-llm-9000"]
    assert name_at(BY_NAME["openai"], 5000, {}) == "local-5000"
    assert name_at(BY_NAME["ollama"], 12345, {"OLLAMA_HOST": "127.0.0.1:12345"}) == "ollama"


def test_keys_are_found_by_name_alone() -> None:
    kinds = (
        plain("cloudy", key_variables=("CLOUDY_KEY", "CLOUDY_TOKEN"), url="https://cloudy.example", provider="cloudy"),
        plain("placed", key_variables=("PLACED_KEY",), ports=(1,)),
        plain("unset", key_variables=("UNSET_KEY",), url="https://unset.example"),
    )
    found = keys_found({"CLOUDY_TOKEN": "sk-secret", "PLACED_KEY": "p", "UNSET_KEY": " "}, kinds)
    assert [(key.variable, key.provider, key.usable) for key in found] == [
        ("CLOUDY_TOKEN", "cloudy", True), ("PLACED_KEY", "placed", False)
    ]  # fmt: skip
    assert "secret" not in repr(found)
    assert [hosted_name(kind) for kind in kinds] == ["cloudy", "placed-cloud", "unset"]


def test_the_addresses_that_the_providers_own_clients_heed() -> None:
    openai = BY_NAME["openai"]
    assert hosted_url(openai, {}) == "https://api.openai.com/v1"
    assert hosted_url(openai, {"OPENAI_BASE_URL": " http://gateway:1/v1 "}) == "http://gateway:1/v1"


def test_slots_of_local_servers() -> None:
    ollama, openai = BY_NAME["ollama"], BY_NAME["openai"]
    assert local_slots(ollama, {}) == ollama.slots
    assert local_slots(ollama, {"OLLAMA_NUM_PARALLEL": "3"}) == 3
    assert local_slots(ollama, {"OLLAMA_NUM_PARALLEL": "many"}) == ollama.slots
    assert local_slots(openai, {"OLLAMA_NUM_PARALLEL": "3"}) == openai.slots


def test_models_that_run_elsewhere_are_apart_and_cost() -> None:
    offers = [port.Offer(model="llama"), port.Offer(model="gpt-oss:120b-cloud", cloud=True)]
    (here,), (there,) = parted(offers, local=True)
    assert (here.name, here.price) == ("llama", Price())
    assert (there.name, there.price) == ("gpt-oss:120b-cloud", Price(unknown=True))


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
