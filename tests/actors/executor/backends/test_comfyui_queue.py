from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.comfyui_queue import MARK, Mark, Queued, _listed, mark_in, mark_of, marked, prompt_id

KEYS = st.dictionaries(st.text(), st.recursive(st.integers() | st.text() | st.none(), st.lists, max_leaves=4))


@given(st.text(), st.text())
def test_ids_are_uuids_and_repeat(key: str, other: str) -> None:
    name = prompt_id(key)
    assert str(uuid.UUID(name)) == name == prompt_id(key)
    assert (name == prompt_id(other)) == (key == other)


def test_the_queue_is_a_heap() -> None:
    found = _listed([[3, "c", {}], [-1.0, "front"], [2, "b", {}, {MARK: {"key": "k", "graph": "g"}}], ["x", "y"], 5])
    assert found == [Queued("front", None), Queued("b", Mark("k", "g")), Queued("c", None)]
    assert _listed(None) == []


@given(KEYS, KEYS)
def test_a_mark_names_its_graph_whatever_the_order_of_its_nodes(graph: dict[str, Any], other: dict[str, Any]) -> None:
    turned = dict(reversed(graph.items()))
    assert mark_of("k", graph) == mark_of("k", turned)
    assert (mark_of("k", graph) == mark_of("k", other)) == (graph == other)


@given(st.text(), KEYS)
def test_a_mark_comes_back_from_the_history(key: str, graph: dict[str, Any]) -> None:
    mark = mark_of(key, graph)
    assert mark_in({"prompt": [1, "id", graph, {"client_id": "c", **marked(mark)}, ["9"]]}) == mark


@pytest.mark.parametrize(
    "entry",
    [{}, {"prompt": None}, {"prompt": [1, "id"]}, {"prompt": [1, "id", {}, {MARK: {"key": 1, "graph": "g"}}, []]}],
)
def test_what_is_not_marked_is_of_nobody(entry: dict[str, Any]) -> None:
    assert mark_in(entry) is None
