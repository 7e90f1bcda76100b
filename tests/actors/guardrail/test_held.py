from __future__ import annotations

from typing import Any

import pytest

from actors.guardrail.held import Over, held, resumed, standing
from actors.settings import Budget
from messages import Granted, Problem
from tests.messages.samples import T0, decided

PROBLEM = Problem(reason="over_budget", message="a: over budget (x)")


def over(wants: Any, ends_at: float = T0 + 60, *, name: str = "x", hopeless: bool = False) -> Over:
    return Over(Budget(name=name, limit=5), ends_at, hopeless, wants)


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
    assert standing(overs) == {
        "when_over": when, "room_at": room_at, "over": ("x",), "hopeless": hopeless, "softens": False,
    }  # fmt: skip
    assert standing([*overs, overs[0]._replace(softens=True)])["softens"]


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
