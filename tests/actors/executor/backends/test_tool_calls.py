from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.tool_calls import ToolCalls, as_call


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
        # The second begins at the index of the first, and goes on at its own; or at one that nothing has.
        [
            [fragment(index=0, told="a1", name="weather", arguments=ULM)],
            [fragment(index=0, told="a2", name="clock", arguments='{"tz"')],
            [fragment(index=1, arguments=':"CET"}')],
        ],
        [
            [fragment(index=0, told="a1", name="weather", arguments="")],
            [fragment(index=1, arguments='{"city"')],
            [fragment(index=2, arguments=':"Ulm"}')],
            [fragment(index=3, told="a2", name="clock", arguments=CET)],
        ],
        # An index as a text, or with a point.
        *(
            [
                [fragment(index=one, told="a1", name="weather"), fragment(index=two, told="a2", name="clock")],
                [fragment(index=two, arguments='{"tz"')],
                [fragment(index=one, arguments=ULM), fragment(index=two, arguments=':"CET"}')],
            ]
            for one, two in (("0", "1"), (0.0, 1.0))
        ),
        # Fragments of nothing at the end.
        [
            [fragment(index=0, told="a1", name="weather", arguments=ULM)],
            [fragment(index=1, told="a2", name="clock", arguments=CET)],
            [fragment(index=1, told="", name="", arguments="")],
            [fragment(index=2, arguments="")],
        ],
        # A name that is repeated, or grows; arguments that are repeated as they grow.
        [
            [fragment(index=0, told="a1", name="wea", arguments="")],
            [fragment(index=0, told="a1", name="weather", arguments="")],
            [fragment(index=0, name="weather", arguments=ULM)],
            [fragment(index=1, told="a2", name="cl")],
            [fragment(index=1, name="ock")],
            [fragment(index=1, arguments=CET)],
        ],
        [
            *[[fragment(index=0, told="a1", name="weather", arguments=ULM[:end])] for end in (3, 9, len(ULM))],
            *[[fragment(index=1, told="a2", name="clock", arguments=CET[:end])] for end in (1, 8, len(CET))],
        ],
        # `{}` first, and then the pieces.
        [
            [fragment(index=0, told="a1", name="weather", arguments="{}")],
            *[[fragment(index=0, arguments=piece)] for piece in ('{"city"', ':"Ulm"}')],
            [fragment(index=1, told="a2", name="clock", arguments=CET)],
        ],
        # Without the level of the function, and under other names.
        [
            [{"index": 0, "id": "a1", "name": "weather", "arguments": ULM}],
            [{"index": 1, "id": "a2", "function": {"name": "clock", "parameters": {"tz": "CET"}}}],
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


def test_an_id_that_two_calls_have_makes_them_no_one_call() -> None:
    """Case 03: some servers name a call by its function, or all of them alike."""
    one, two = ("x", "weather", ULM), ("x", "clock", CET)
    for second in (two, ("x", "weather", '{"city":"Bonn"}')):
        fragments = [
            fragment(index=at, told=call[0], name=call[1], arguments=call[2]) for at, call in enumerate((one, second))
        ]
        assert calls_of(fragments) == calls_of(*[[part] for part in fragments]) == [one, second]
    assert calls_of([fragment(told="x", name=name, arguments=said) for _, name, said in (one, two)]) == [one, two]
    assert calls_of([fragment(index=at, told="x", name="weather", arguments=ULM) for at in (0, 1)]) == [one], (
        "told twice"
    )


def test_what_says_nothing_is_no_call() -> None:
    for nothing in (fragment(index=0, told="", name="", arguments=""), fragment(index=0, told="x"), {}):
        calls = ToolCalls()
        calls.take([nothing])
        assert (calls.told(), bool(calls)) == ((), False)
    calls.take(fragment(told="a1", name="weather", arguments=ULM))
    assert bool(calls), "one that stands in no list"


def test_a_whole_call_of_another_protocol() -> None:
    said = {"function": {"name": "f", "arguments": {"q": 1}, "index": 0}}
    assert as_call(said, 3) == {"id": "call_3", "type": "function", "function": {"name": "f", "arguments": '{"q":1}'}}
    assert as_call({"id": "a", "function": {"name": "f"}}, 0)["function"]["arguments"] == "{}"


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
