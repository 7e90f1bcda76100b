"""What a server has for graphs, in a text that fits into heartbeats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.graph_names import lacking, packed
from messages import Media

NAMES = st.lists(st.text(max_size=12), max_size=6)


@given(NAMES, NAMES, NAMES)
def test_who_has_all_that_is_named_lacks_nothing(nodes: list[str], checkpoints: list[str], loras: list[str]) -> None:
    media = Media(node_types=tuple(nodes), checkpoints=tuple(checkpoints), loras=tuple(loras))
    assert lacking(packed(nodes, checkpoints, loras), media) == ()
    assert lacking(packed(["Other", *nodes], None, None), media) == ()


def test_what_is_lacking_is_named_by_its_kind() -> None:
    has = packed(["a"], ["b"], ["c"])
    assert lacking(has, Media(node_types=("a", "b"), checkpoints=("b", "c"), loras=("a", "c"))) == (
        "the node class b", "the model file c", "the LoRA a",
    )  # fmt: skip


def test_much_that_is_lacking_is_not_all_said() -> None:
    found = lacking(packed([], [], []), Media(node_types=tuple(f"Node{number}" for number in range(20))))
    assert (len(found), found[-1]) == (9, "12 more")


def test_thousands_of_classes_stay_short() -> None:
    has = packed([f"SomeCustomNodePack{number}" for number in range(5_000)], [], [])
    assert len(has) <= 20_000
