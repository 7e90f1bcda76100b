"""The name of a LoRA with and without its folder and ending."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.lora_names import lora_named

KNOWN = ("a.safetensors", "x/b.safetensors", "y\\b.safetensors", "x/c.pt", "z/v1.5")


def test_names() -> None:
    assert lora_named("a.safetensors", KNOWN) == "a.safetensors"
    assert lora_named("x/b.safetensors", KNOWN) == "x/b.safetensors"
    assert lora_named("a", KNOWN) == "a.safetensors"
    assert lora_named("c.pt", KNOWN) == "x/c.pt"
    assert lora_named("v1.5", KNOWN) == "z/v1.5"


def test_no_name_and_one_of_several_mean_nothing() -> None:
    for wanted in ("b", "b.safetensors", "d", "x/a", "v1.5.safetensors"):
        assert lora_named(wanted, KNOWN) is None
    assert lora_named("a", ()) is None


@given(st.lists(st.sampled_from(KNOWN), unique=True), st.sampled_from(("a", "b", "c", "v1.5", *KNOWN)))
def test_what_is_meant_is_there_and_whole_names_always_mean_themselves(known: list[str], wanted: str) -> None:
    found = lora_named(wanted, known)
    assert found is None or found in known
    assert (wanted in known) <= (found == wanted)
