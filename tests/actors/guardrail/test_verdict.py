from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guardrail.verdict import ROLLOVER_SECONDS, refusal, rerouted, work_of
from actors.rounds import PACE_SECONDS
from messages import (
    Attempt,
    Awaited,
    Candidate,
    Counted,
    Done,
    Exclusion,
    Granted,
    Held,
    Parameters,
    Plan,
    Price,
    Problem,
    Rerouted,
    Reservation,
    Retry,
    Room,
    Skipped,
)
from tests.messages.samples import T0, candidate, decided, slip

PRICE = Price(input_per_mtok=1, output_per_mtok=2)
HELD = (Reservation(budget="b", subject="ledger.global.all.tokens.total", amount=5, unit="tokens"),)


def granted(**changes: Any) -> Granted:
    given: dict[str, Any] = {"tenant": "acme", "job": "j-1", "n": 1, "verdict": "candidate", "at": T0 + 1}
    return Granted(**{**given, **changes})


def test_the_work_is_what_was_decided_for_the_granted_candidate() -> None:
    past = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=5),)
    away = (Exclusion(backend="x", until=0.0, reason="timeout"),)
    adjusted = Parameters(model="n-turbo", degrade=("drop_images",))
    chosen = candidate(
        "b", model="n", known={"price": PRICE}, worst_case_microdollars=60, max_output_tokens=77, parameters=adjusted
    )
    ranking = (candidate("b"), chosen, candidate("a", model="n"))
    made = decided(n=2, ranking=ranking, attempts=past, excluded=away, plan=Plan(required_fields=("state_contract",)))
    item = work_of(made, granted(n=2, backend="b", model="n", reserved=HELD, probe=True))
    assert (item.backend, item.model, item.n) == ("b", "n", 2)
    assert (item.price, item.worst_case_microdollars, item.max_output_tokens) == (PRICE, 60, 77)
    assert (item.attempts, item.excluded, item.reserved, item.probe) == (past, away, HELD, True)
    assert (item.slip, item.failover) == (made.slip, made.failover)
    assert (item.parameters, item.required_fields) == (adjusted, ("state_contract",))
    assert item.longest_seconds == 0.0
    gpu = (Reservation(budget="g", subject="x", amount=31_000, unit="gpu_milliseconds"), *HELD)
    assert work_of(made, granted(n=2, backend="b", model="n", reserved=gpu)).longest_seconds == 30.0


def skipped(*pairs: tuple[str, float]) -> tuple[Skipped, ...]:
    return tuple(Skipped(backend=f"b{n}", reason=reason, until=until) for n, (reason, until) in enumerate(pairs))


def again(*given: Any) -> Retry:
    follows = refusal(*given)
    assert isinstance(follows, Retry)
    return follows


BREAKER = Awaited(kind="breaker", name="b0", model="m")
COUNTER = Awaited(kind="budget", name="ledger.global.all.tokens.minute-1", budget="x", amount=5)
HELD_BY_OTHERS = msgspec.structs.replace(COUNTER, kind="settlement")
AWAY = Awaited(kind="backend", name="c")


def shut(awaits: Awaited | None = BREAKER, until: float = 0.0) -> Skipped:
    return Skipped(backend="b0", model="m", reason="its breaker is open: x", until=until, awaits=awaits)


def test_a_refusal_is_the_next_round_without_an_attempt() -> None:
    follows = again(decided(n=1), granted(verdict="refused", skipped=skipped(("its repeats are used up", T0 + 4))))
    assert (follows.n, follows.attempts, follows.not_before) == (2, (), T0 + 4), (
        "as long as the gate asks for, no longer"
    )
    assert follows.excluded == (Exclusion(backend="b0", until=T0 + 4, reason="its repeats are used up"),)
    assert (follows.cause.reason, follows.cause.message) == ("refused", "b0: its repeats are used up")


def test_who_meets_a_breaker_is_parked_and_may_go_on_as_soon_as_that_changes() -> None:
    follows = again(decided(n=7), granted(n=7, verdict="refused", skipped=(shut(),)))
    assert (follows.awaiting, follows.excluded) == ((BREAKER,), ())
    assert T0 + 200 < follows.not_before < T0 + 600, "it is there for what nobody notices"
    assert follows.cause.message == "b0/m: its breaker is open: x"


def test_what_the_decision_named_is_awaited_too_and_each_name_once() -> None:
    made = decided(awaiting=(AWAY, BREAKER))
    follows = again(made, granted(verdict="refused", skipped=(shut(), shut(COUNTER), shut(BREAKER))))
    assert follows.awaiting == (AWAY, BREAKER, COUNTER)


def test_the_earliest_of_all_times_holds() -> None:
    busy = Skipped(backend="b1", model="m", reason="its repeats are used up", until=T0 + 4)
    follows = again(decided(), granted(verdict="refused", skipped=(shut(), busy)))
    assert (follows.not_before, follows.awaiting) == (T0 + 4, (BREAKER,))


def test_exclusions_do_not_pile_up() -> None:
    old = tuple(Exclusion(backend=f"b{i}", model="m", until=T0 + i / 10, reason="x") for i in range(40))
    made = decided(excluded=(*old, Exclusion(backend="z", until=0.0, reason="timeout")))
    follows = again(made, granted(verdict="refused", skipped=(shut(None, T0 + 4), shut(None, T0 + 3))))
    kept = [(e.backend, e.until) for e in follows.excluded]
    assert kept == [*((f"b{i}", T0 + i / 10) for i in range(11, 40)), ("z", 0.0), ("b0", T0 + 4)]


def test_what_nothing_can_change_fails_at_once() -> None:
    follows = refusal(decided(), granted(verdict="refused", skipped=skipped(("its price is unknown", 0.0), ("y", T0))))
    assert isinstance(follows, Done)
    assert (follows.ending, follows.problem) == (
        "failed",
        Problem(reason="refused", message="b0: its price is unknown; b1: y"),
    )
    beside = again(
        decided(awaiting=(AWAY,)), granted(verdict="refused", skipped=skipped(("its price is unknown", 0.0)))
    )
    assert beside.awaiting == (AWAY,)


def test_a_wait_for_what_changes_ends_with_the_deadline_and_no_earlier() -> None:
    made = decided(n=900, slip=slip(deadline_at=T0 + 8))
    assert again(made, granted(n=900, verdict="refused", skipped=(shut(),))).not_before == T0 + 8


@pytest.mark.parametrize(
    ("when_over", "reasons", "reason"),
    [
        ("wait", ("over budget (a)", "over budget (b)"), "over_budget"),
        (None, ("over budget (a)", "its breaker is open"), "refused"),
        (None, (), "no_backend"),
    ],
)
def test_the_cause_says_whether_money_alone_stood_in_the_way(
    when_over: Any, reasons: tuple[str, ...], reason: str
) -> None:
    left_out = skipped(*((text, 0.0) for text in reasons))
    made = decided(awaiting=(AWAY,), **({} if reasons else {"ranking": (), "wait_seconds": 5.0}))
    verdict = granted(verdict="refused", skipped=left_out, when_over=when_over, room_at=T0 + 60 if when_over else 0.0)
    assert again(made, verdict).cause.reason == reason


# When everybody is over budget.

OVER = Problem(reason="over_budget", message="a: over budget (x)")


def over(when: str, **changes: Any) -> Granted:
    refused = skipped(("over budget (x)", 0.0))
    return granted(**{"verdict": "refused", "skipped": refused, "when_over": when, "over": ("x",), **changes})


@pytest.mark.parametrize("when", ["fail", "wait", "ask"])
def test_a_job_over_budget_waits_for_what_others_hold(when: str) -> None:
    waits = (Skipped(backend="b0", model="m", reason="over budget (x)", awaits=HELD_BY_OTHERS),)
    follows = again(decided(n=40), over(when, n=40, settling=True, skipped=waits))
    assert (follows.n, follows.awaiting, follows.cause.reason) == (41, (HELD_BY_OTHERS,), "over_budget")
    assert T0 + 200 < follows.not_before < T0 + 600
    rolls = again(decided(n=40), over(when, n=40, settling=True, skipped=waits, room_at=T0 + 60))
    assert T0 + 60 < rolls.not_before < T0 + 70, "or for the next window, when that comes first"


def test_when_all_of_it_is_spent_it_fails_with_the_first_problem() -> None:
    follows = refusal(decided(), over("fail"))
    assert isinstance(follows, Done)
    assert follows.problem == Problem(reason="over_budget", message="b0: over budget (x)")
    past = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=5, problem=FIRST),)
    follows = refusal(decided(n=3, cause=OVER, attempts=past), over("fail", n=3))
    assert isinstance(follows, Done)
    assert (follows.problem, follows.cost_microdollars) == (FIRST, 5)


def test_what_no_window_can_hold_fails_at_once() -> None:
    assert isinstance(refusal(decided(), over("fail", hopeless=True)), Done)


def wakes(job: str = "j-1", *, room: float = 60.0, left: float = 600.0, n: int = 2) -> float:
    """Seconds after the beginning of the window at which a job that waits for it looks again."""
    made = decided(job=job, n=n, cause=OVER, slip=slip(job=job, deadline_at=T0 + left))
    follows = again(made, over("wait", job=job, n=n, room_at=T0 + room))
    assert (follows.n, follows.cause.reason) == (n + 1, "over_budget")
    return follows.not_before - (T0 + room)


@pytest.mark.parametrize(
    ("room", "left", "most"),
    [(60.0, 600.0, 6.0), (30.0, 600.0, 6.0), (300.0, 3600.0, 30.0), (3600.0, 36_000.0, 60.0), (60.0, 64.25, 2.0)],
)
def test_those_who_wait_for_a_window_look_again_one_after_the_other(room: float, left: float, most: float) -> None:
    seconds = sorted(wakes(f"j-{number}", room=room, left=left) - ROLLOVER_SECONDS for number in range(200))
    assert 0.0 <= seconds[0] <= most / 10
    assert most * 0.9 <= seconds[-1] <= most
    assert max(later - one for one, later in pairwise(seconds)) < most / 10, "spread over all of it"
    assert wakes(room=room, left=left) == wakes(room=room, left=left), "the same for whoever continues"
    assert wakes(room=room, left=left, n=3) != wakes(room=room, left=left), "nobody is always the last"


@given(
    st.floats(-7200, 90_000), st.floats(2.1, 100_000), st.integers(2, 3000), st.sampled_from(("over_budget", "resumed"))
)
def test_a_wait_for_a_window_is_never_shorter_than_a_second_nor_behind_the_deadline(
    room: float, left: float, n: int, reason: str
) -> None:
    made = decided(n=n, cause=Problem(reason=reason, message="x"), slip=slip(deadline_at=T0 + left))
    verdict = over("wait", n=n, room_at=T0 + room)
    follows = refusal(made, verdict)
    if isinstance(follows, Retry):
        assert verdict.at + PACE_SECONDS <= follows.not_before < T0 + left
        assert follows.not_before >= T0 + room
    else:
        assert isinstance(follows, Done)
        assert verdict.at + PACE_SECONDS >= T0 + left or T0 + room + ROLLOVER_SECONDS >= T0 + left


def test_it_does_not_wait_for_a_window_behind_its_deadline() -> None:
    follows = refusal(decided(n=2, cause=OVER), over("wait", n=2, room_at=T0 + 600))
    assert isinstance(follows, Done)
    assert follows.problem is not None
    assert follows.problem.reason == "over_budget"


def test_it_is_held_for_a_person() -> None:
    first = candidate("dear", worst_case_microdollars=60, worst_case_tokens=110)
    made = decided(n=2, cause=OVER, ranking=(first, candidate()), slip=slip(needs={"user": "ada", "workflow": "w"}))
    for verdict, asked in (
        (over("ask", n=2), made),
        (over("ask", hopeless=True), msgspec.structs.replace(made, cause=None)),
    ):
        follows = refusal(asked, verdict)
        assert isinstance(follows, Held)
        assert (follows.user, follows.workflow, follows.budgets) == ("ada", "w", ("x",))
        assert (follows.cost_microdollars, follows.tokens, follows.until) == (60, 110, T0 + 600)
        assert follows.problem.reason == "over_budget"


def test_without_a_ranking_the_wait_is_the_decisions() -> None:
    made = decided(ranking=(), wait_seconds=0.5, awaiting=(AWAY,))
    follows = again(made, granted(verdict="refused"))
    assert (follows.not_before, follows.awaiting) == (T0 + 1.5, (AWAY,))


def test_a_wait_that_would_outlast_the_deadline_is_an_end() -> None:
    past = (Attempt(n=1, backend="x", model="m", outcome="timeout", billed_microdollars=5, problem=FIRST),)
    made = decided(n=2, attempts=past, ranking=(), wait_seconds=10_000.0)
    follows = refusal(made, granted(n=2, verdict="refused"))
    assert isinstance(follows, Done)
    assert (follows.ending, follows.problem, follows.cost_microdollars) == ("failed", FIRST, 5)


FIRST = Problem(reason="timeout", message="x: silent for 20 s")


def test_the_user_is_told_where_a_failed_job_really_goes() -> None:
    past = (Attempt(n=1, backend="b", model="n", outcome="timeout", billed_microdollars=5, problem=FIRST),)
    passed_over = candidate("c")
    changes = ("output capped at 10 instead of 100 tokens", "the image is left out: m can't see")
    chosen = candidate("a", changes=changes)
    made = decided(n=2, attempts=past, ranking=(passed_over, chosen))
    verdict = granted(n=2, backend="a", model=chosen.model)
    assert rerouted(made, verdict) == Rerouted(
        tenant="acme", job="j-1", n=2, from_backend="b", to_backend="a", cause=FIRST, at=verdict.at,
        changes=("model n -> m", *changes),
    )  # fmt: skip


def test_a_reroute_tells_only_what_differs_from_the_attempt_before() -> None:
    steps, wide, capped = "standard: steps 25 instead of 30", "standard: width 768", "output capped at 10 tokens"
    past = (Attempt(n=1, backend="b", model="n", outcome="timeout", billed_microdollars=5, problem=FIRST),)
    tried = candidate("b", model="n", barred="failed", reason="is excluded", changes=(steps, wide))
    verdict = granted(n=2, backend="a", model="n")

    def told(chosen: tuple[str, ...], *others: Candidate) -> tuple[str, ...]:
        made = decided(n=2, attempts=past, ranking=(candidate("a", model="n", changes=chosen),), others=others)
        said = rerouted(made, verdict)
        assert said is not None
        return said.changes

    assert told((steps, wide), tried) == ()
    assert told((steps, capped), tried) == (capped, f"no longer: {wide}")
    assert told((steps, wide)) == (steps, wide)  # It is gone: nobody knows what was changed for it.


def test_a_failure_without_words_still_has_a_cause() -> None:
    past = (Attempt(n=1, backend="a", model="m", outcome="empty", billed_microdollars=5),)
    made = decided(n=2, attempts=past)
    said = rerouted(made, granted(n=2, backend=made.ranking[0].backend, model=made.ranking[0].model))
    assert said is not None
    assert said.cause == Problem(reason="empty", message="a: empty")


def test_the_first_attempt_is_no_reroute() -> None:
    made = decided(n=3)
    assert rerouted(made, granted(n=3, backend=made.ranking[0].backend, model=made.ranking[0].model)) is None


COUNTED = (Counted(backend="a", model="m", tokens=9),)
ROOM = Room(backend="a", model="m", budget="all", unit="tokens", left=900, limit=2_000)


@pytest.mark.parametrize(("hopeless", "second", "wait"), [(True, False, 0.0), (False, False, 1.0), (False, True, 1.0)])
def test_who_may_fit_with_less_gets_another_round(hopeless: bool, second: bool, wait: float) -> None:
    (skip,) = skipped(("over budget (all)", 0.0))
    before = msgspec.structs.replace(ROOM, left=5)
    other = msgspec.structs.replace(ROOM, budget="other")
    made = decided(n=2 if second else 1, cause=OVER if second else None, rooms=(before, other), counted=COUNTED)
    verdict = granted(
        verdict="refused", skipped=(msgspec.structs.replace(skip, rooms=(ROOM,)),), when_over="fail", hopeless=hopeless,
        softens=True,
    )  # fmt: skip
    follows = again(made, verdict)
    assert follows.not_before == verdict.at + wait
    assert (follows.rooms, follows.counted) == ((ROOM, other), COUNTED)
    hard = refusal(made, msgspec.structs.replace(verdict, softens=False))
    assert isinstance(hard, Done)
