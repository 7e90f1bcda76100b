from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.router.view import OWN_MEMORY_SECONDS, View
from messages import Load, Stats
from tests.messages.samples import T0


def test_own_decisions_count_until_the_load_shows_them() -> None:
    view = View()
    assert view.own_since_load("a", T0) == 0
    for seconds in (0.0, 0.1, 0.2):
        view.sent("a", T0 + seconds)
    assert view.own_since_load("a", T0 + 0.3) == 3
    view.loads["a"] = Load(backend="a", waiting=2, running=0, at=T0 + 0.1)
    assert view.own_since_load("a", T0 + 0.3) == 1
    assert view.own_since_load("b", T0 + 0.3) == 0


def test_own_decisions_are_forgotten_when_no_load_comes() -> None:
    view = View()
    view.sent("a", T0)
    assert view.own_since_load("a", T0 + OWN_MEMORY_SECONDS - 0.001) == 1
    assert view.own_since_load("a", T0 + OWN_MEMORY_SECONDS) == 0


@given(st.lists(st.floats(0, 10)), st.floats(0, 10), st.floats(0, 10))
def test_own_decisions_are_those_after_the_load_and_within_memory(
    times: list[float], load_at: float, now: float
) -> None:
    view = View()
    for at in sorted(times):
        view.sent("a", at)
    view.loads["a"] = Load(backend="a", waiting=0, running=0, at=load_at)
    expected = sum(at > max(load_at, now - OWN_MEMORY_SECONDS) for at in times)
    assert view.own_since_load("a", now) == expected
    assert view.own_since_load("a", now) == expected


def test_measurements_of_the_workflow_come_before_those_of_the_model() -> None:
    view = View()
    assert view.measured("a", "m", "site") is None
    general = Stats(backend="a", model="m", workflow="-", attempts=9, successes=9, at=T0)
    special = Stats(backend="a", model="m", workflow="site", attempts=3, successes=3, at=T0)
    view.stats["a", "m", "-"] = general
    assert view.measured("a", "m", "site") is general
    assert view.measured("a", "m", "") is general
    view.stats["a", "m", "site"] = special
    assert view.measured("a", "m", "site") is special
