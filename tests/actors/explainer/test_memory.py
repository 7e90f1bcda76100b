from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.explainer.memory import WINDOW_JOBS, Memory, Summary, window_of
from messages import Decided, Done
from messages.jobs import Ending
from messages.values import Quality
from tests.messages.samples import T0, decided, needs, slip

STANDARD = window_of("acme", needs())


def began(job: str, tenant: str = "acme", **wanted: Any) -> Decided:
    return decided(tenant=tenant, job=job, slip=slip(tenant=tenant, job=job, needs=wanted))


def ended(job: str, ending: Ending = "succeeded", cost: int | None = 100, tenant: str = "acme") -> Done:
    return Done(tenant=tenant, job=job, ending=ending, cost_microdollars=cost, at=T0)


def fill(memory: Memory, number: int, *, cost: int = 100, quality: Quality = "standard", failed: int = 0) -> None:
    """So many ended jobs of one quality, the first ones failed."""
    for place in range(number):
        job = f"{quality}-{place}"
        memory.decided(began(job, quality=quality))
        memory.done(ended(job, "failed" if place < failed else "succeeded", cost))


def test_a_window_counts_the_ends_of_its_kind() -> None:
    memory = Memory()
    assert memory.summary(STANDARD) is None
    fill(memory, 3, cost=90, failed=1)
    fill(memory, 2, cost=7, quality="final")
    assert memory.summary(STANDARD) == Summary(3, 2, 90.0)
    assert memory.summary(window_of("acme", needs(), "final")) == Summary(2, 2, 7.0)


def test_only_the_latest_jobs_count() -> None:
    memory = Memory()
    fill(memory, WINDOW_JOBS + 5, failed=5)
    assert memory.summary(STANDARD) == Summary(WINDOW_JOBS, WINDOW_JOBS, 100.0)


def test_tenants_and_kinds_never_see_each_other() -> None:
    memory = Memory()
    memory.decided(began("j", tenant="other"))
    memory.done(ended("j", tenant="other"))
    memory.decided(began("k", task="code"))
    memory.done(ended("k"))
    memory.decided(began("l", asset="image"))
    memory.done(ended("l"))
    assert memory.summary(STANDARD) is None
    assert memory.summary(window_of("other", needs())) == Summary(1, 1, 100.0)


def test_a_repeated_event_changes_nothing() -> None:
    memory = Memory()
    for _ in range(2):
        memory.decided(began("j"))
        memory.decided(began("j"))
        memory.done(ended("j"))
        memory.done(ended("j"))
    assert memory.summary(STANDARD) == Summary(1, 1, 100.0)


def test_an_end_without_a_decision_or_by_a_cancel_says_nothing() -> None:
    memory = Memory()
    memory.done(ended("unknown"))
    memory.decided(began("j"))
    memory.done(ended("j", "cancelled", None))
    assert memory.summary(STANDARD) is None


def test_an_unknown_cost_is_not_averaged() -> None:
    memory = Memory()
    memory.decided(began("j"))
    memory.done(ended("j", "expired", None))
    assert memory.summary(STANDARD) == Summary(1, 0, None)


def test_a_window_that_is_full_makes_room_for_a_new_one() -> None:
    memory = Memory(most_windows=2)
    for task in ("code", "chat", "code", "reasoning"):
        job = f"{task}-{memory.sizes}"
        memory.decided(began(job, task=task))
        memory.done(ended(job))
    assert memory.summary(window_of("acme", needs(task="code"))) == Summary(2, 2, 100.0)
    assert memory.summary(window_of("acme", needs(task="chat"))) is None


def test_a_backlog_larger_than_its_bound_still_counts_the_jobs_it_knows() -> None:
    memory = Memory(most_open=10)
    for place in range(20):
        memory.decided(began(str(place)))
    for place in range(20):
        memory.done(ended(str(place)))
    assert memory.summary(STANDARD) == Summary(10, 10, 100.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("abcd")), max_size=120))
def test_it_never_grows_beyond_its_bounds(said: list[tuple[bool, int, str]]) -> None:
    memory = Memory(most_open=10, most_windows=2)
    for is_decided, number, tenant in said:
        if is_decided:
            memory.decided(began(str(number), tenant))
        else:
            memory.done(ended(str(number), tenant=tenant))
        still_open, over, windows = memory.sizes
        assert max(still_open, over) <= 10
        assert windows <= 2
