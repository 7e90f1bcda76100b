from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.comfyui_prompt import _ids, prompt_id


@given(st.text(), st.integers(0, 20))
def test_ids_are_uuids_and_repeat(key: str, number: int) -> None:
    name = prompt_id(key, number)
    assert str(uuid.UUID(name)) == name
    assert name == prompt_id(key, number) != prompt_id(key, number + 1)


def test_the_queue_is_a_heap() -> None:
    assert _ids([[3, "c", {}], [-1.0, "front"], [2, "b"], ["x", "y"], 5]) == ["front", "b", "c"]
    assert _ids(None) == []
