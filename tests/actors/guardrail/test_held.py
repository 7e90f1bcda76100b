from __future__ import annotations

from typing import Any

import pytest

from actors.guardrail.held import Over, held, resumed, standing
from actors.settings import Budget
from messages import Awaited, Granted, Problem
from tests.messages.samples import T0, decided

PROBLEM = Problem(reason="over_budget", message="a: over budget (x)")


COUNTER = "ledger.global.all.tokens.total"


def over(
    wants: Any, ends_at: float = T0 + 60, *, name: str = "x", hopeless: bool = False, settles: bool = False
) -> Over:
    return Over(Budget(name=name, limit=5), COUNTER, 3, ends_at, hopeless, wants, settles=settles)


@pytest.mark.parametrize(
    ("overs", "when", "room_at", "hopeless"),
    [
        ([over("fail")], "fail", 0.0, False),
        ([over("wait")], "wait", T0 + 60, False),
        ([over("wait", 0.0)], "fail", 0.0, False),
        ([over("wait", hopeless=True)], "fail", 0.0, True),
        ([over("wait", hopeless=True), over("wait", T0 + 90)], "wait", T0 + 90, False),
        ([over("fail", T0 + 10), over("wait", T0 + 60), over("wait", T0 + 30)], "wait", T0 + 30, False),
        ([over("wait"), over("ask", 0.0), over("fail")], "ask", 0.0, False),
        ([over("ask", hopeless=True)], "ask", 0.0, True),
    ],
)
def test_the_gentlest_wish_holds(overs: list[Over], when: str, room_at: float, hopeless: bool) -> None:
    found = {
        "when_over": when,
        "room_at": room_at,
        "over": ("x",),
        "hopeless": hopeless,
        "settling": False,
        "softens": False,
    }
    assert standing(overs) == found
    assert standing([*overs, overs[0]._replace(softens=True)])["softens"]


@pytest.mark.parametrize("wants", ["fail", "wait", "ask"])
def test_what_others_hold_is_waited_for_whatever_the_budget_wants(wants: str) -> None:
    found = standing([over(wants, settles=True), over("fail", 0.0, hopeless=True)])
    assert (found["settling"], found["room_at"]) == (True, T0 + 60)
    assert over(wants, 0.0, settles=True).awaits(T0 + 600) == Awaited(
        kind="settlement", name=COUNTER, budget="x", amount=3
    )


def test_beside_another_obstacle_budgets_do_not_say_what_follows() -> None:
    found = standing([over("wait"), over("fail", T0 + 10)], alone=False)
    assert (found["when_over"], found["over"], found["room_at"], found["hopeless"]) == (None, (), T0 + 60, False)


@pytest.mark.parametrize(
    ("wants", "ends_at", "hopeless", "waits"),
    [
        ("wait", T0 + 60, False, True),
        ("wait", T0 + 600, False, False),
        ("wait", 0.0, False, False),
        ("wait", T0 + 60, True, False),
        ("fail", T0 + 60, False, False),
        ("ask", T0 + 60, False, False),
    ],
)
def test_a_counter_is_worth_waiting_for_when_its_window_ends_in_time(
    wants: str, ends_at: float, hopeless: bool, waits: bool
) -> None:
    found = over(wants, ends_at, hopeless=hopeless).awaits(T0 + 600)
    assert found == (Awaited(kind="budget", name=COUNTER, budget="x", amount=3) if waits else None)


def test_every_budget_in_the_way_is_named_once() -> None:
    assert standing([over("fail", name=name) for name in ("b", "a", "b")])["over"] == ("a", "b")
    assert standing([]) == {}


def test_a_resumed_job_goes_into_its_next_round_as_it_was() -> None:
    made = decided(n=3)
    verdict = Granted(tenant="acme", job="j-1", n=3, verdict="refused", when_over="ask", over=("x",), at=T0 + 2)
    waits = held(made, verdict, PROBLEM)
    assert (waits.n, waits.at, waits.until) == (3, T0 + 2, made.slip.deadline_at)
    retry = resumed(made, waits, "ada", T0 + 30)
    assert (retry.n, retry.slip, retry.not_before, retry.at) == (4, made.slip, 0.0, T0 + 30)
    assert retry.cause == Problem(reason="resumed", message="resumed by ada after it was held: a: over budget (x)")
