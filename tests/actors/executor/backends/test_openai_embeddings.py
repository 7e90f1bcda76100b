import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.openai_embeddings import BATCH, batches, request_body, usage_sum, vectors_of
from actors.executor.backends.port import BackendError, Call, Usage

CALL = Call(model="m", messages=(), texts=("a",), max_output_tokens=1)


def rows(*indices: int | None) -> dict[str, Any]:
    return {"data": [{"embedding": [float(index or 0)], "index": index} for index in indices]}


@given(st.lists(st.text(max_size=1), max_size=3 * BATCH))
def test_batches_hold_all_texts_in_order(texts: list[str]) -> None:
    found = list(batches(texts))
    assert list(itertools.chain(*found)) == texts
    assert all(0 < len(batch) <= BATCH for batch in found)


@given(st.permutations(range(5)))
def test_the_index_tells_the_place(order: list[int]) -> None:
    assert vectors_of(rows(*order), 5) == ((0.0,), (1.0,), (2.0,), (3.0,), (4.0,))


def test_without_an_index_the_order_counts() -> None:
    assert vectors_of({"data": [{"embedding": [1]}, {"embedding": [2.5]}]}, 2) == ((1.0,), (2.5,))


@pytest.mark.parametrize(
    "answer",
    [None, [1, 2], {}, {"data": 5}, {"data": [{}]}, {"data": [{"embedding": "AAA="}]}, {"data": [{"embedding": []}]},
     rows(0, 0), rows(0, 2), rows(0, 1, 1), rows(0)],
)  # fmt: skip
def test_what_is_not_one_list_for_each_text(answer: Any) -> None:
    with pytest.raises(BackendError) as caught:
        vectors_of(answer, 2)
    assert caught.value.kind == "invalid_structure"


def test_an_error_inside_a_200() -> None:
    with pytest.raises(BackendError) as caught:
        vectors_of({"error": {"message": "no model my-key", "code": "model_not_found"}}, 1, ("my-key",))
    assert (caught.value.kind, "my-key" in f"{caught.value} {caught.value.body}") == ("unknown_model", False)


def test_usage_is_the_sum_while_it_is_known() -> None:
    told, silent = {"usage": {"prompt_tokens": 3, "total_tokens": 3}}, {}
    assert usage_sum(usage_sum(None, told), told) == Usage(input_tokens=6, output_tokens=0)
    assert usage_sum(usage_sum(None, told), silent) == Usage(output_tokens=0)
    assert usage_sum(usage_sum(None, silent), told) == Usage(output_tokens=0)


def test_dimensions_only_when_they_are_asked_for() -> None:
    plain = request_body(CALL, ("a",))
    assert plain == {"model": "m", "input": ("a",), "encoding_format": "float"}
    more = Call(model="m", messages=(), texts=("a",), max_output_tokens=1, dimensions=256)
    assert request_body(more, ("a",)) == {**plain, "dimensions": 256}
