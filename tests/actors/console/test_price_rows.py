"""The prices of what is served: which holds, and what is wrong with it."""

from __future__ import annotations

from typing import Any

from actors.console.price_rows import faults_of, rows_of
from messages import Backend, Model, ModelPrice, Price

NOVEMBER = 1_795_255_200.0
"""2026-11-21."""


def model(name: str, **price: Any) -> Model:
    return Model(name=name, price=Price(**price))


def backend(name: str, *models: Model, slots: int = 1, provider: str = "openai") -> Backend:
    return Backend(
        backend=name,
        protocol="openai",
        local=False,
        provider=provider,
        slots=slots,
        models=models,
        healthy=True,
        at=1.0,
    )


def test_rows_have_the_price_in_force_and_faults_name_what_to_do() -> None:
    there = (
        backend("b", model("old", per_request=1, as_of="2026-01-01", source="a list"), model("odd", unknown=True)),
        backend(
            "a",
            model("new", per_request=1, as_of="2026-11-01"),
            model("odd", unknown=True),
            model("said"),
            model("gift", source="set by ada"),
        ),
        backend("gone", model("odd", unknown=True), slots=0),
    )
    facts = {("a", "odd"): ModelPrice(seller="a", model="odd", price=Price(per_request=7), at=1.0)}
    rows = list(rows_of(there, facts))
    assert [(row.backend, row.model, row.price.per_request) for row in rows] == [
        ("a", "new", 1), ("a", "odd", 7), ("a", "said", 0), ("a", "gift", 0), ("b", "old", 1), ("b", "odd", 0)
    ]  # fmt: skip
    assert list(faults_of(rows, NOVEMBER)) == [
        "a/said: the price is unknown: turnout prices set a said --in … --out …",
        "b/old: the price is of 2026-01-01, 324 days ago (a list)",
        "b/odd: the price is unknown: turnout prices set b odd --in … --out …",
    ]
