from __future__ import annotations

from typing import Any

import pytest

from actors.executor.recipes.nodes import NodeInput, classes_of, fault_of, takes


def spec_of(*parts: Any) -> NodeInput:
    return classes_of({"A": {"input": {"required": {"x": list(parts)}}, "output": []}})["A"].inputs["x"]


def test_both_forms_of_choices() -> None:
    old, new = spec_of(["a", "b"]), spec_of("COMBO", {"options": ["a", "b"]})
    assert old.choices == new.choices == ("a", "b")
    tables = spec_of("COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "auto", "inputs": {}}]})
    assert tables.choices == ("auto",)
    assert spec_of("COMBO").choices is None
    assert spec_of(["a.png"], {"image_upload": True}).uploads


def test_limits_and_sections() -> None:
    info = {
        "A": {
            "input": {
                "required": {"n": ["INT", {"min": 1, "max": True}]},
                "optional": {"m": ["MODEL"]},
                "hidden": {"p": "P"},
            },
            "output": ["MODEL", ["a", "b"]],
        },
        "B": None,
        "C": {"input": {"required": {"x": [], "y": "STRING"}}, "output": None},
    }
    classes = classes_of(info)
    assert set(classes) == {"A", "C"}
    assert (classes["A"].inputs["n"].min, classes["A"].inputs["n"].max) == (1.0, None)
    assert [spec.required for spec in classes["A"].inputs.values()] == [False, True]
    assert classes["A"].outputs == ("MODEL", "COMBO")
    assert (classes["C"].inputs["x"].type, classes["C"].inputs["y"].type, classes["C"].outputs) == ("*", "STRING", ())
    assert classes_of([]) == {}


@pytest.mark.parametrize(
    ("parts", "value", "text"),
    [
        ((["a", "b"],), "a", ""),
        ((["a", "b"],), "c", "'c' is not on this server, which has 'a', 'b'"),
        ((["1", "2", "3", "4", "5", "6"],), "c", "'5', … (6)"),
        (([],), "c", "which has nothing"),
        ((["a"], {"image_upload": True}), "new.png", ""),
        (("INT", {"min": 1, "max": 5}), 5, ""),
        (("INT", {"min": 1, "max": 5}), 6, "6 is more than 5"),
        (("INT", {"min": 1, "max": 5}), 0, "0 is less than 1"),
        (("INT",), 1.5, "1.5 must be a whole number"),
        (("INT",), "1", "'1' must be a whole number"),
        (("FLOAT",), True, "True must be a number"),
        (("FLOAT",), 1, ""),
        (("STRING",), 5, "5 must be text"),
        (("BOOLEAN",), "yes", "'yes' must be true or false"),
        (("BOOLEAN",), False, ""),
        (("MODEL",), "x", "'x' must be a link to an output of the type MODEL"),
        (("*",), "x", ""),
        (("COMBO",), "x", ""),
        (("COMFY_AUTOGROW_V3",), "x", ""),
        ((["a"],), {"__value__": "a"}, ""),
    ],
)
def test_values(parts: tuple[Any, ...], value: Any, text: str) -> None:
    found = fault_of(spec_of(*parts), value)
    assert (text in found) if text else found == ""


def test_types_that_fit() -> None:
    assert takes("MODEL", "MODEL")
    assert takes("IMAGE,MASK", "MASK")
    assert takes("*", "VIDEO")
    assert takes("VIDEO", "*")
    assert takes("COMFY_MATCHTYPE_V3", "VIDEO")
    assert not takes("MODEL", "CLIP")
