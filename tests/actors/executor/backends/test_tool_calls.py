from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.tool_calls import ToolCalls


def fragment(
    *, index: object = None, told: str | None = None, name: str | None = None, arguments: object = None, **more: Any
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    head = {key: value for key, value in (("index", index), ("id", told)) if value is not None}
    return {**head, **more, "function": function}


def calls_of(*chunks: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    calls = ToolCalls()
    for chunk in chunks:
        calls.take(chunk)
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls.told()]


ULM, CET = '{"city":"Ulm"}', '{"tz":"CET"}'
BOTH = [("a1", "weather", ULM), ("a2", "clock", CET)]


@pytest.mark.parametrize(
    "chunks",
    [
        # Case 03, and its variants.
        [
            [fragment(index=0, told="a1", name="weather", arguments=ULM)],
            [fragment(index=0, told="a2", name="clock", arguments=CET)],
        ],
        [[fragment(told="a1", name="weather", arguments=ULM)], [fragment(told="a2", name="clock", arguments=CET)]],
        [
            [
                fragment(index=0, told="a1", name="weather", arguments=ULM),
                fragment(index=0, told="a2", name="clock", arguments=CET),
            ]
        ],
        [
            [fragment(index=0, told="a1", name="weather")],
            [fragment(index=0, arguments='{"city"')],
            [fragment(index=0, arguments=':"Ulm"}')],
            [fragment(index=0, told="a2", name="clock", arguments="")],
            [fragment(index=0, arguments=CET)],
        ],
        # As it should be.
        [
            [fragment(index=0, told="a1", name="weather", arguments=ULM)],
            [fragment(index=1, told="a2", name="clock", arguments=CET)],
        ],
        [[fragment(told="a1", name="weather", arguments=ULM), fragment(told="a2", name="clock", arguments=CET)]],
        # The id in every fragment, or empty later on.
        [
            [fragment(index=0, told="a1", name="weather", arguments='{"city"')],
            [fragment(index=0, told="a1", arguments=':"Ulm"}')],
            [fragment(index=1, told="a2", name="clock", arguments='{"tz"')],
            [fragment(index=1, told="", arguments=':"CET"}')],
        ],
        # Fragments of both by turns.
        [
            [fragment(index=0, told="a1", name="weather"), fragment(index=1, told="a2", name="clock")],
            [fragment(index=1, arguments='{"tz"'), fragment(index=0, arguments='{"city"')],
            [fragment(index=0, arguments=':"Ulm"}'), fragment(index=1, arguments=':"CET"}')],
        ],
        # Without an index, fragments of the latest one (Mistral).
        [
            [fragment(told="a1", name="weather", arguments='{"city"')],
            [fragment(arguments=':"Ulm"}')],
            [fragment(told="a2", name="clock", arguments='{"tz"')],
            [fragment(arguments=':"CET"}')],
        ],
        # The same call under several indices (LocalAI), and told again as a whole.
        [
            [fragment(index=0, told="a1", name="weather", arguments="{}")],
            [fragment(index=0, told="a2", name="clock", arguments=CET)],
            [
                fragment(index=1, told="a1", name="weather", arguments=ULM),
                fragment(index=2, told="a2", name="clock", arguments=CET),
            ],
        ],
        # Arguments as an object.
        [
            [fragment(told="a1", name="weather", arguments={"city": "Ulm"})],
            [fragment(told="a2", name="clock", arguments={"tz": "CET"})],
        ],
    ],
)
def test_two_calls_are_two(chunks: list[list[dict[str, Any]]]) -> None:
    assert calls_of(*chunks) == BOTH


def test_an_id_made_anew_for_every_fragment_begins_no_call() -> None:
    fragments = [
        fragment(index=0, told="x1", name="weather", arguments='{"city"'),
        fragment(index=0, told="x2", arguments=':"Ulm"}'),
    ]
    assert calls_of(*[[one] for one in fragments]) == [("x1", "weather", ULM)]


def test_without_ids_a_name_after_whole_arguments_begins_the_next_call() -> None:
    first, second = fragment(index=0, name="f", arguments="{}"), fragment(index=0, name="g", arguments="{}")
    assert calls_of([first], [second]) == [("", "f", "{}"), ("", "g", "{}")]
    assert calls_of([first], [first | {"index": 1}]) == [("", "f", "{}"), ("", "f", "{}")]


def test_what_else_a_call_holds_is_kept_as_it_came() -> None:
    calls = ToolCalls()
    extra = {"google": {"thought_signature": "c2ln"}}
    calls.take([fragment(index=0, told="a", name="f", arguments="{", extra_content=extra)])
    calls.take([fragment(index=0, arguments="}", extra_content=None)])
    assert calls.told() == (
        {"extra_content": extra, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    )


def test_the_older_form_counts_where_there_is_no_other() -> None:
    calls = ToolCalls()
    calls.take_legacy({"name": "f", "arguments": '{"q"'})
    calls.take_legacy({"arguments": ":1}"})
    assert [call["function"] for call in calls.told()] == [{"name": "f", "arguments": '{"q":1}'}]
    calls.take([fragment(index=0, told="a", name="f", arguments='{"q":1}')])
    assert [call["id"] for call in calls.told()] == ["a"]


@pytest.mark.parametrize("fragments", [None, {}, "x", [1], [None]])
def test_what_is_no_list_of_objects(fragments: object) -> None:
    with pytest.raises(TypeError):
        ToolCalls().take(fragments)


ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3)


@given(
    st.lists(ARGUMENTS, min_size=1, max_size=4),
    st.sampled_from(["counted", "all 0", "none"]),
    st.booleans(),
    st.data(),
)
def test_calls_with_ids_come_whole_whatever_the_index_says_and_however_they_are_cut(
    wanted: list[dict[str, Any]], indices: str, repeats_id: bool, data: st.DataObject
) -> None:
    calls = ToolCalls()
    for number, arguments in enumerate(wanted):
        text = msgspec.json.encode(arguments).decode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
        index = {"counted": number, "all 0": 0, "none": None}[indices]
        for at, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(text)], strict=True)):
            told_id = f"call-{number}" if not at or repeats_id else None
            calls.take([fragment(index=index, told=told_id, name=None if at else "f", arguments=text[a:b])])
    assert [(call["id"], msgspec.json.decode(call["function"]["arguments"])) for call in calls.told()] == [
        (f"call-{number}", arguments) for number, arguments in enumerate(wanted)
    ]
