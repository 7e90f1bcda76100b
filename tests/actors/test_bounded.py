"""The bounded table: a million names leave what was written last, and nothing more."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from actors.bounded import Bounded


@given(
    st.integers(1, 5), st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["write", "default", "delete", "update"])))
)
def test_it_holds_what_was_written_last_in_that_order(most: int, steps: list[tuple[int, str]]) -> None:
    gone: list[tuple[int, int]] = []
    table = Bounded[int, int](most, lambda key, value: gone.append((key, value)))
    model: list[tuple[int, int]] = []
    left: list[tuple[int, int]] = []
    for value, (key, step) in enumerate(steps):
        if step == "delete":
            table.pop(key, None)
            model = [row for row in model if row[0] != key]
        elif step == "default" and any(known == key for known, _ in model):
            table.setdefault(key, value)
        else:
            if step == "write":
                table[key] = value
            elif step == "default":
                table.setdefault(key, value)
            else:
                table.update({key: value})
            model = [*(row for row in model if row[0] != key), (key, value)]
            left, model = [*left, *model[:-most]], model[-most:]
    assert list(table.items()) == model
    assert gone == left


def test_who_comes_again_may_keep_their_place() -> None:
    table = Bounded[str, int](2)
    for key, value in (("a", 1), ("b", 2), ("a", 3)):
        table.in_place(key, value)
    assert list(table.items()) == [("a", 3), ("b", 2)]
    table.in_place("c", 4)
    assert list(table.items()) == [("b", 2), ("c", 4)]


def test_reading_keeps_nothing_alive() -> None:
    table = Bounded[str, int](2)
    table["a"], table["b"] = 1, 2
    assert table["a"] == table.get("a") == 1
    table["c"] = 3
    assert list(table) == ["b", "c"]


def test_a_million_names_take_no_more_than_its_rows() -> None:
    table = Bounded[str, int](1_000)

    def feed(names: range) -> None:
        for number in names:
            table[f"tenant-{number}"] = number

    feed(range(950_000))
    assert len(table) == 1_000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        feed(range(950_000, 1_000_000))
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert list(table)[-1] == "tenant-999999"
    assert after - before < 500_000, "1,000 rows at most are new"
