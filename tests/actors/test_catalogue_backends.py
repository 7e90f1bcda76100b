"""`MODEL_CATALOG` and `MODEL_WRITER` of seed 001 make a backend that can be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.catalogue_backends import HOSTS, VARIABLE, named_backends
from actors.node import routing
from actors.settings import load

MINE = {
    "mine": {"model": "my-model", "base_url": "http://127.0.0.1:9999/v1", "capabilities": ["text"], "max_tokens": 8_000}
}


def found(catalogue: Any, **environment: str) -> Any:
    return named_backends({VARIABLE: json.dumps(catalogue), **environment}, urls=(), names=())


def test_an_address_makes_a_backend_of_the_settings_and_the_role_goes_there() -> None:
    environment = {VARIABLE: json.dumps(MINE), "MODEL_WRITER": "mine", "MODEL_API_KEY": "k"}
    (one,) = load(environment=environment).backends
    assert (one.name, one.protocol, one.url, one.local) == (
        "127-0-0-1-9999",
        "openai",
        "http://127.0.0.1:9999/v1",
        True,
    )
    assert one.api_key_env == "MODEL_API_KEY"
    (model,) = one.models
    assert (model.name, model.capabilities, model.context_tokens) == ("my-model", ("text",), 8_000)
    policy = next(policy for policy in routing(environment)[0] if policy.policy == "environment")
    assert policy.models["mine"].model == "my-model"
    assert all(rule.pool[0] == "mine" for rule in policy.rules if rule.match.role == ("writer",))


@pytest.mark.parametrize("host", sorted(HOSTS))
def test_a_providers_address_needs_its_key(host: str) -> None:
    catalogue = {"x": {"model": "m", "base_url": f"https://{host}/v1"}}
    assert found(catalogue) == ()
    (one,) = found(catalogue, **{HOSTS[host].variables[0]: "secret"})
    assert (one.name, one.provider, one.api_key_env) == (
        HOSTS[host].provider,
        HOSTS[host].provider,
        HOSTS[host].variables[0],
    )
    assert not one.local
    assert "secret" not in repr(one)


def test_the_entry_may_name_the_variable_of_its_key() -> None:
    catalogue = {"x": {**MINE["mine"], "base_url": "https://llm.example/v1", "api_key_env": "MY_KEY"}}
    (one,) = found(catalogue, MY_KEY="k", MODEL_API_KEY="other")
    assert (one.api_key_env, one.local, one.name) == ("MY_KEY", False, "llm-example")
    assert routing({VARIABLE: json.dumps(catalogue)})[0]  # The policy takes it for no field of a model.


def test_models_at_one_address_are_one_backend_and_a_configured_one_stays() -> None:
    two = {
        "a": {"model": "m", "base_url": "http://gpu:1/v1"},
        "b": {"base_url": "http://gpu:1/v1/"},
        "c": {"model": "x"},
    }
    (one,) = found(two)
    assert [model.name for model in one.models] == ["m", "b"]
    assert named_backends({VARIABLE: json.dumps(two)}, urls=("http://gpu:1",), names=()) == ()
    (again,) = named_backends({VARIABLE: json.dumps(two)}, urls=(), names=("gpu-1",))
    assert again.name == "gpu-1-catalogue"


KEYS = st.sampled_from(["base_url", "model", "max_tokens", "capabilities", "x"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    )
)
def test_what_is_no_catalogue_names_nobody_and_breaks_nothing(value: Any) -> None:
    assert isinstance(found(value), tuple)
    assert named_backends({VARIABLE: "{"}, urls=(), names=()) == ()
