"""The same request is the same whatever seed, ids and file names it comes with; what asks for something else is another."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.request import fingerprint
from messages import JobSubmit

GRAPH: dict[str, Any] = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 30, "model": ["4", 0], "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
    "5": {"class_type": "LoadImage", "inputs": {"image": "photo 1.png"}, "_meta": {"title": "mine"}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "out_1"}},
}


def of(tenant: str = "acme", **fields: Any) -> str:
    return fingerprint(tenant, JobSubmit(**fields))


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    graph = copy.deepcopy(GRAPH)
    place = graph
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return graph


def renumbered(add: int) -> dict[str, Any]:
    def link(value: Any) -> Any:
        return [str(int(value[0]) + add), value[1]] if isinstance(value, list) else value

    return {
        str(int(name) + add): {**node, "inputs": {key: link(value) for key, value in node["inputs"].items()}}
        for name, node in reversed(GRAPH.items())
    }


@pytest.mark.parametrize(
    "other",
    [
        changed(("3", "inputs", "seed"), 8),
        changed(("5", "inputs", "image"), "cat.png"),
        changed(("9", "inputs", "filename_prefix"), "out_2"),
        changed(("5", "_meta", "title"), "yours"),
        {**changed(("3", "inputs", "noise_seed"), 1)},
        renumbered(100),
        renumbered(1),
    ],
)
def test_a_graph_with_new_seeds_names_and_numbers_is_the_same_request(other: dict[str, Any]) -> None:
    assert of(graph=other) == of(graph=GRAPH)


@pytest.mark.parametrize(
    "other",
    [
        changed(("3", "inputs", "steps"), 31),
        changed(("4", "inputs", "ckpt_name"), "other.safetensors"),
        changed(("3", "inputs", "latent_image"), ["4", 0]),
        changed(("5", "class_type"), "LoadImageMask"),
        changed(("5", "inputs", "image"), "cat.webp"),
        {name: node for name, node in GRAPH.items() if name != "9"},
    ],
)
def test_a_graph_that_does_something_else_is_another_request(other: dict[str, Any]) -> None:
    assert of(graph=other) != of(graph=GRAPH)


TEXT: dict[str, Any] = {"prompt": "a haiku about trains", "model": "m", "max_output_tokens": 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "j-9"}, {"seed": 9}, {"user": "ada"}, {"workflow": "w", "step": "s", "batch": "b"}, {"deadline_seconds": 5.0},
        {"preferred_backend": "a"}, {"max_cost_microdollars": 5}, {"allow_cloud": False},
    ],
)  # fmt: skip
def test_what_a_backend_is_never_told_makes_no_other_request(changes: dict[str, Any]) -> None:
    assert of(**TEXT, **changes) == of(**TEXT)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a haiku about ships"},
        {"model": "n"},
        {"max_output_tokens": 65},
        {"system": "Be brief."},
        {"steps": 3},
    ],
)
def test_what_asks_for_something_else_is_another(changes: dict[str, Any]) -> None:
    assert of(**{**TEXT, **changes}) != of(**TEXT)


def test_tenants_have_their_own() -> None:
    assert of("acme", **TEXT) != of("globex", **TEXT)


def test_ids_within_messages_do_not_count_and_names_of_functions_do() -> None:
    def asked(call: str, function: str, url: str) -> str:
        said = {"role": "assistant", "tool_calls": [{"id": call, "function": {"name": function, "arguments": "{}"}}]}
        image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        return of(messages=(said, {"role": "tool", "tool_call_id": call, "content": "5"}, image))

    assert asked("c-1", "add", "https://x.example/1?sig=a") == asked("c-2", "add", "https://x.example/2?sig=b")
    assert asked("c-1", "add", "https://x.example/1") != asked("c-1", "sub", "https://x.example/1")
    assert asked("c-1", "add", "https://x.example/1") != asked("c-1", "add", "https://y.example/1")


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)), max_leaves=12))  # fmt: skip
def test_any_graph_has_one_and_its_order_does_not_matter(inner: Any) -> None:
    graph = {
        "1": {"class_type": "A", "inputs": {"x": inner, "y": ["2", 0]}},
        "2": {"class_type": "B", "inputs": inner},
        "3": inner,
    }
    submit = msgspec.convert({"graph": graph}, JobSubmit)
    assert fingerprint("t", submit) == of("t", graph=dict(reversed(graph.items())))
