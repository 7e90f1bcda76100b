from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.alert_settings import LatencyTarget
from actors.guardrail.latency import (
    AGAIN_SECONDS,
    MOST_ALERTS,
    MOST_WARNINGS,
    alert_of,
    fits,
    fold,
    judged,
    row_of,
    worth_storing,
)
from messages import Attempted, LatencyRow
from tests.messages.samples import attempted

TARGET = LatencyTarget(target_seconds=2.0)
CALLS = st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=60)
"""Whether each call was slow, and how long after the one before it ended."""


def call(seconds: float | None = 1.0, at: float = 0.0, **changes: Any) -> Attempted:
    return attempted(latency_seconds=seconds, at=at, **changes)


def folded(target: LatencyTarget, calls: list[tuple[bool, float]], row: LatencyRow | None = None) -> list[LatencyRow]:
    """The rows after each call."""
    at, rows = 1000.0, [row or row_of(target, call())]
    for seq, (slow, pause) in enumerate(calls, 1):
        at += pause
        rows.append(fold(rows[-1], target, call(3.0 if slow else 1.0, at), seq))
    return rows[1:]


def tellings(calls: list[tuple[bool, float]], target: LatencyTarget = TARGET) -> list[str]:
    """What each call tells; `` when nothing."""
    rows = [row_of(target, call()), *folded(target, calls)]
    return [after.telling if after != before else "" for before, after in pairwise(rows)]


def test_each_breach_is_a_warning_and_the_fourth_in_a_row_an_alert() -> None:
    assert tellings([(True, 1.0)] * 4) == ["warning", "warning", "warning", "alert"]
    assert tellings([(True, 1.0)] * 5)[4] == ""


def test_a_good_call_begins_anew() -> None:
    calls = [(True, 1.0)] * 3 + [(False, 1.0)] + [(True, 1.0)] * 3
    assert "alert" not in tellings(calls)
    assert tellings([*calls, (True, 1.0)])[-1] == "alert"


@pytest.mark.parametrize("after", [0, 1, 5])
def test_how_many_in_a_row_is_configurable(after: int) -> None:
    target = LatencyTarget(target_seconds=2.0, alert_after=after)
    assert tellings([(True, 1.0)] * (after + 1), target) == ["warning"] * after + ["alert"]


def test_a_row_that_goes_on_is_told_again_after_a_while() -> None:
    assert tellings([(True, 1.0)] * 4 + [(True, AGAIN_SECONDS)])[-1] == "alert"


@given(CALLS)
def test_an_alert_always_stands_for_more_than_three_in_a_row(calls: list[tuple[bool, float]]) -> None:
    slow_in_row = 0
    for (slow, _), telling, row in zip(calls, tellings(calls), folded(TARGET, calls), strict=True):
        slow_in_row = slow_in_row + 1 if slow else 0
        assert row.in_row == slow_in_row
        if telling == "alert":
            assert slow_in_row > TARGET.alert_after
        elif telling == "warning":
            assert 0 < slow_in_row <= TARGET.alert_after


@given(CALLS)
def test_a_flood_of_slow_calls_is_no_flood_of_events_and_all_are_accounted_for(calls: list[tuple[bool, float]]) -> None:
    rows, told = folded(TARGET, calls), tellings(calls)
    minutes: dict[tuple[int, str], int] = {}
    slow = left_out = 0
    for (is_slow, _), row, telling in zip(calls, rows, told, strict=True):
        slow += is_slow
        if telling:
            minutes[row.minute, telling] = minutes.get((row.minute, telling), 0) + 1
            left_out += row.left_out
    assert all(number <= (MOST_ALERTS if what == "alert" else MOST_WARNINGS) for (_, what), number in minutes.items())
    last = rows[-1] if rows else None
    pending = 0 if last is None or last.telling else last.left_out + bool(last.in_row)
    assert slow == sum(map(bool, told)) + left_out + pending


@given(CALLS, st.integers(0, 60))
def test_an_event_that_is_heard_again_changes_nothing(calls: list[tuple[bool, float]], seq: int) -> None:
    rows = folded(TARGET, calls)
    for row in rows:
        if seq <= row.through_seq:
            assert fold(row, TARGET, call(3.0, 5000.0), seq) == row


def test_what_is_not_told_waits_until_something_is() -> None:
    empty, row = row_of(TARGET, call()), folded(TARGET, [(True, 1.0)])[-1]
    assert worth_storing(empty, row)
    assert worth_storing(row, fold(row, TARGET, call(1.0, 5.0), 2))
    long = folded(TARGET, [(True, 1.0)] * 5)[-1]
    assert not worth_storing(row, long)
    assert not worth_storing(empty, fold(empty, TARGET, call(1.0, 5.0), 1))


@given(CALLS)
def test_few_rows_are_stored_however_the_calls_alternate(calls: list[tuple[bool, float]]) -> None:
    stored, rows = row_of(TARGET, call()), folded(TARGET, calls)
    writes: dict[int, int] = {}
    at = 1000.0
    for (_, pause), row in zip(calls, rows, strict=True):
        at += pause
        if row != stored and row.through_seq > stored.through_seq and worth_storing(stored, row):
            stored = row
            writes[int(at // 60)] = writes.get(int(at // 60), 0) + 1
    assert all(number <= 2 * (MOST_WARNINGS + MOST_ALERTS) + 1 for number in writes.values())


# What a call says.


@pytest.mark.parametrize(
    ("target", "made", "verdict"),
    [
        ({}, call(2.0), ("met", 2.0)), ({}, call(2.1), ("missed", 2.1)), ({}, call(None), ("", 0.0)),
        ({}, call(9.0, outcome="timeout"), ("missed", 9.0)), ({}, call(1.0, outcome="timeout"), ("", 0.0)),
        ({}, call(1.0, outcome="server_error"), ("", 0.0)), ({}, call(9.0, outcome="bad_request"), ("", 0.0)),
        ({}, call(9.0, outcome="not_started"), ("", 0.0)), ({}, call(9.0, outcome="aborted"), ("missed", 9.0)),
        ({"of": "first_token"}, call(9.0, first_token_seconds=1.0), ("met", 1.0)),
        ({"of": "first_token"}, call(9.0, first_token_seconds=2.5), ("missed", 2.5)),
        ({"of": "first_token"}, call(9.0), ("", 0.0)),
        ({"of": "first_token"}, call(9.0, outcome="timeout"), ("missed", 9.0)),
        ({"of": "first_token"}, call(1.0, outcome="timeout"), ("", 0.0)),
        ({}, call(1.0, took_up=1), ("", 0.0)), ({}, call(2.1, took_up=1), ("missed", 2.1)),
        ({"of": "first_token"}, call(1.0, first_token_seconds=0.1, took_up=1), ("", 0.0)),
    ],
)  # fmt: skip
def test_what_a_call_says(target: dict[str, Any], made: Attempted, verdict: tuple[str, float]) -> None:
    assert judged(LatencyTarget(target_seconds=2.0, **target), made) == verdict


@pytest.mark.parametrize("field", ["tenant", "workflow", "step", "backend", "model"])
def test_a_target_is_about_what_it_names(field: str) -> None:
    made = call(workflow="site", step="hero")
    named: dict[str, Any] = {"workflow": "site"} if field == "step" else {}
    assert fits(LatencyTarget(target_seconds=1.0, **{**named, field: getattr(made, field)}), made)
    named[field] = "another"
    assert not fits(LatencyTarget(target_seconds=1.0, **named), made)
    assert fits(TARGET, made)


def test_tenants_have_rows_of_their_own_for_what_belongs_to_them() -> None:
    made = call(workflow="site")
    assert row_of(LatencyTarget(target_seconds=1.0, workflow="site"), made).tenant == "acme"
    assert row_of(LatencyTarget(target_seconds=1.0, tenant="acme"), made).tenant == "acme"
    assert row_of(LatencyTarget(target_seconds=1.0, model="m"), made).tenant == "-"


def test_a_target_without_a_name_is_called_by_what_it_is() -> None:
    assert LatencyTarget(target_seconds=1.0, model="m", backend="a").name == "backend:a/model:m/whole"
    assert TARGET.name == "all/whole"


# What is told.


def test_an_alert_says_what_how_long_and_how_often() -> None:
    row = folded(TARGET, [(True, 1.0)] * 4)[-1]
    told = alert_of(row)
    assert told is not None
    assert told.text == "m on a took 3 s in all, and the target all/whole is 2 s; that is 4 in a row."
    assert (told.kind, told.severity, told.in_row, told.measured_seconds, told.target_seconds) == (
        "latency_alert", "alert", 4, 3.0, 2.0,
    )  # fmt: skip
    assert told.advice


@given(CALLS)
def test_every_telling_has_a_cause_of_its_own_and_silence_tells_nothing(calls: list[tuple[bool, float]]) -> None:
    rows = folded(TARGET, calls)
    told = {row.through_seq: alert_of(row) for row in rows}
    causes = [alert.cause for alert in told.values() if alert is not None]
    assert len(causes) == len(set(causes))
    assert all((alert_of(row) is None) == (row.telling == "") for row in rows)
    assert all(alert_of(row) == alert_of(msgspec.structs.replace(row)) for row in rows)
