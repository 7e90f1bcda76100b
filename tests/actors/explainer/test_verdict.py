"""The explanation names the backend that ran."""

from __future__ import annotations

import pytest

from actors.actor import Heard
from actors.explainer.actor import Explainer
from messages import Explained, Granted, Skipped
from tests.actors.router.fleet002 import view_of
from tests.actors.router.seeds.fleet import decision
from tests.messages.samples import T0, backend

NOW = Heard(now=T0)


def granted(name: str, *passed: str, n: int = 1) -> Granted:
    skipped = tuple(Skipped(backend=one, model="m", reason="over budget (team)", budget="team") for one in passed)
    return Granted(
        tenant="acme", job="j-1", n=n, verdict="candidate" if name else "refused", backend=name,
        model="m" if name else "", skipped=skipped, at=T0,
    )  # fmt: skip


def test_who_led_and_was_passed_over_is_told_and_who_runs_is_named() -> None:
    explainer = Explainer()
    made = decision(view_of(*(backend(name) for name in "abc")), {})
    (first,) = explainer.decided(made, NOW)
    assert isinstance(first, Explained)
    assert first.chosen == "a/m"
    (anew,) = explainer.granted(granted("b", "a"), NOW)
    assert isinstance(anew, Explained)
    assert (anew.chosen, anew.n) == ("b/m", 1)
    assert anew.summary.startswith("b/m runs this")
    told = next(reason.text for reason in anew.alternatives if reason.about == "a/m")
    assert told == "a/m was passed over: over budget (team)"
    assert explainer.granted(granted("b", "a"), NOW) == []  # Heard again: it was said.


@pytest.mark.parametrize("verdict", [granted("a"), granted("", "a", "b", "c"), granted("b", n=2)])
def test_where_the_leader_runs_or_nobody_does_nothing_is_said_again(verdict: Granted) -> None:
    explainer = Explainer()
    explainer.decided(decision(view_of(*(backend(name) for name in "abc")), {}), NOW)
    assert explainer.granted(verdict, NOW) == []
