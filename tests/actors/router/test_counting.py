"""When a job's input is counted before it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from actors.framing import DEFAULT
from actors.router.counting import MOST_COUNTS, worth_counting
from messages import Bound, Counted, Message, Model, Price, Room
from tests.actors.router.fleets import Job, choice, view_of
from tests.messages.samples import backend, slip

TIGHT = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)
BYTES = Bound(tokens=400, messages=1)
READ_AT_MOST = 400 + DEFAULT.template + DEFAULT.message
"""Of which about 10 are there."""


def fleet(*names: str, price: Price = TIGHT) -> list[Message]:
    return [backend(name, models=(Model(name="m", price=price),)) for name in names]


def asked(*known: Message, rooms: tuple[Room, ...] = (), counted: tuple[Counted, ...] = (), **needs: Any) -> list[str]:
    job = Job(slip(needs={"bound": BYTES, **needs}), rooms=rooms, counted=counted)
    return [question.backend for question in worth_counting(choice(view_of(*known), job))]


def room(name: str, left: int) -> Room:
    return Room(backend=name, model="m", budget="team", unit="tokens", left=left, limit=left)


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [(None, []), (READ_AT_MOST + 100, []), (READ_AT_MOST + 25, ["a"]), (74, ["a"]), (73, [])],
)
def test_only_what_would_be_refused_and_may_fit_is_counted(limit: int | None, wanted: list[str]) -> None:
    needs: dict[str, Any] = {
        "max_cost_microdollars": limit,
        "stated": ("max_output_tokens",) if limit == READ_AT_MOST + 25 else (),
    }
    assert asked(*fleet("a"), **needs) == wanted


def test_nothing_is_counted_where_somebody_may_run_it() -> None:
    free = backend("free", models=(Model(name="m"),))
    assert asked(*fleet("a"), free, max_cost_microdollars=80) == []


def test_those_that_a_budget_refused_are_counted_when_no_shorter_answer_fits() -> None:
    assert asked(*fleet("a"), rooms=(room("a", 80),)) == ["a"]
    assert asked(*fleet("a"), rooms=(room("a", 73),)) == []
    assert asked(*fleet("a"), rooms=(room("a", READ_AT_MOST + 80),)) == [], "a shorter answer fits"
    assert asked(*fleet("a", "b"), rooms=(room("a", 80),)) == [], "the other was not refused"


def test_what_was_counted_is_not_counted_again() -> None:
    counted = (Counted(backend="a", model="m", tokens=900),)
    assert asked(*fleet("a", "b"), counted=counted, max_cost_microdollars=80) == ["b"]


def test_so_many_are_asked_at_most() -> None:
    assert len(asked(*fleet(*"abcdefg"), max_cost_microdollars=80)) == MOST_COUNTS


def test_what_makes_no_text_is_not_counted() -> None:
    picture = backend("a", models=(Model(name="m", capabilities=("image",), price=Price(per_image=9)),))
    assert asked(picture, asset="image", max_cost_microdollars=1, max_output_tokens=0) == []


def test_the_question_is_about_the_request_as_it_would_be_sent() -> None:
    job = Job(slip(needs={"bound": BYTES, "max_cost_microdollars": 80}))
    (question,) = worth_counting(choice(view_of(*fleet("a")), job))
    assert (question.backend, question.model, question.slip, question.max_output_tokens) == ("a", "m", job.slip, 100)
