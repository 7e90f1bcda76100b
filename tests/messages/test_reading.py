"""How much a request may give to read, and what budgets leave for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import Bound, Framing, Room
from messages.reading import LEAST_OUTPUT_TOKENS, least_output

TEXT = Bound(tokens=1_000, messages=3)
FRAMING = Framing(template=100, message=10, tools=500, image=1_600)


@pytest.mark.parametrize(
    ("bound", "framing", "context", "most"),
    [
        (TEXT, FRAMING, None, 1_130),
        (TEXT, FRAMING, 1_131, 1_130),
        (TEXT, FRAMING, 1_129, 1_129),
        (Bound(tokens=1_000, messages=3, tools=True), FRAMING, None, 1_630),
        (Bound(tokens=1_000, messages=3, images=2), FRAMING, None, 4_330),
        (Bound(tokens=1_000, images=1), Framing(), 8_000, 8_000),
        (Bound(tokens=1_000, unbounded="a video"), FRAMING, 8_000, 8_000),
        (Bound(tokens=1_000, unbounded="a video"), Framing(unbounded=70), None, 70),
        (Bound(tokens=1_000, unbounded="a video"), Framing(unbounded=70), 8_000, 8_000),
    ],
)
def test_the_most_that_is_read(bound: Bound, framing: Framing, context: int | None, most: int) -> None:
    assert framing.most(bound, context) == (most, "")


def test_what_nothing_bounds_is_named() -> None:
    assert FRAMING.most(Bound(unbounded="a video"), None) == (None, "a video")
    assert Framing().most(Bound(images=1), None) == (None, "an image")


def test_an_answer_is_not_cut_below_a_quarter() -> None:
    assert [least_output(tokens) for tokens in (0, 63, 64, 200, 1_024)] == [0, 63, 64, 64, 256]


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_more_stays_more(few: int, more: int) -> None:
    low, high = sorted((few, more))
    assert least_output(low) <= least_output(high) <= high
    assert least_output(high) >= min(high, LEAST_OUTPUT_TOKENS)


def test_in_a_new_window_there_is_the_whole_limit() -> None:
    room = Room(backend="a", model="m", budget="b", unit="tokens", left=3, limit=100, ends_at=50.0)
    assert [room.at(now) for now in (0.0, 49.9, 50.0)] == [3, 3, 100]
    assert Room(backend="a", model="m", budget="b", unit="tokens", left=3, limit=100).at(1e12) == 3
