import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.json_reader import INVALID_UTF8, NO_NUMBER, NotJson, read, value_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("data", "values", "remarks"),
    [
        (b'{"a": 1}', ({"a": 1},), ()),
        (b'\xef\xbb\xbf {"a": 1}\n', ({"a": 1},), ()),
        (b'{"a": "fox \xf0\x9f"}', ({"a": "fox \ufffd"},), (INVALID_UTF8,)),
        (rb'{"a": "\ud83d"}', ({"a": "\ufffd"},), (INVALID_UTF8,)),
        (rb'{"a": "\ud83e\udd8a"}', ({"a": "🦊"},), ()),
        (b'{"logprob": -Infinity, "b": NaN, "c": 1e999}', ({"logprob": None, "b": None, "c": None},), (NO_NUMBER,)),
        (b'{"a": ' + b"9" * 5000 + b"}", ({"a": None},), (NO_NUMBER,)),
        (b'{"a": "two\nlines\tand a tab"}', ({"a": "two\nlines\tand a tab"},), ()),
        (b'{"a": 1}\n{"b": 2}', ({"a": 1}, {"b": 2}), ()),
        (b'{"a": 1}{"b": NaN}', ({"a": 1}, {"b": None}), (NO_NUMBER,)),
    ],
)
def test_what_is_wrong_in_form_alone_is_mended_and_told(data: bytes, values: object, remarks: object) -> None:
    assert read(data) == (values, remarks)


@pytest.mark.parametrize(
    "data", [b"", b" ", b"{", b'{"a"', b"ping", b"1 2", b"[1][2]", b'{"a": 1} x', b"[" * 100_000, b"\xff"]
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(NotJson):
        read(data)


def test_one_value_is_wanted() -> None:
    assert value_of(b"[1]") == [1]
    with pytest.raises(NotJson):
        value_of(b"{}{}")


@given(JSON)
def test_what_python_writes_is_read(value: object) -> None:
    def finite(it: object) -> object:
        if isinstance(it, float) and not math.isfinite(it):
            return None
        if isinstance(it, list):
            return [finite(one) for one in it]
        return {name: finite(one) for name, one in it.items()} if isinstance(it, dict) else it

    assert value_of(json.dumps(value).encode()) == finite(value)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ud8aNnIi-10e9 \n', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused_and_what_is_read_can_be_written(data: bytes) -> None:
    try:
        found = read(data)
    except NotJson:
        return
    msgspec.json.encode(found.values)
