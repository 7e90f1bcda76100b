"""Waiting, giving up, the last resort, what the event tells; and that nothing but its arguments matters."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.rounds import LAST_LOOK_SECONDS, LATE_SECONDS, LONGEST_LOOK_SECONDS, MOST_SPREAD_SECONDS
from actors.router.case import Case, Row, Strategy
from actors.router.decide import MOST_CANDIDATES, decide
from actors.router.strategies import STRATEGIES, StrategyError
from actors.router.view import View
from bus import codec
from messages import Awaited, Breaker, Decided, Exclusion, FailoverRules, Message, Model, Policy, Price, Problem, Slip
from tests.actors.router.fleets import FIRST, Job, choice, decision, facts, failed, gone_from, jobs, sent, view_of
from tests.messages.samples import T0, backend, slip

OVER = Problem(reason="over_budget", message="a: over budget")


def failover(**rules: Any) -> Policy:
    return Policy(policy="p", failover=FailoverRules(**rules))


@pytest.mark.parametrize(
    ("broken", "leads"),
    [({}, "slow"), ({"healthy": False}, "fast"), ({"slots": 0}, "fast"), ({"models": (Model(name="n"),)}, "fast")],
)
def test_the_preferred_backend_wins_unless_it_may_not_run_it(broken: dict[str, Any], leads: str) -> None:
    slow = backend("slow", **{"priority": 3, "models": (Model(name="m", tokens_per_second=1.0),), **broken})
    made = decision(view_of(backend("fast"), slow), needs={"preferred_backend": "slow", "model": "m"})
    assert made.ranking[0].backend == leads
    assert (made.reason == "slow is the preferred backend") == (leads == "slow")


def test_own_decisions_keep_routers_from_herding() -> None:
    view = view_of(backend("a", slots=1), backend("b", slots=1))
    chosen: list[str] = []
    for step in range(4):
        now = T0 + step / 100
        chosen.append(decision(view, now=now).ranking[0].backend)
        sent(view, chosen[-1], "m", now)
    assert sorted(chosen) == ["a", "a", "b", "b"]


def test_the_strategy_is_the_jobs_or_the_policys() -> None:
    free = backend("free", models=(Model(name="m", tokens_per_second=2.0),))
    quick = backend(
        "quick", local=False, models=(Model(name="m", price=Price(output_per_mtok=1_000_000), tokens_per_second=900),)
    )
    view = view_of(free, quick, Policy(policy="thrifty", version=7, strategy="cost_first"))
    assert decision(view).ranking[0].backend == "free"
    assert (decision(view).strategy, decision(view).policy) == ("cost_first", "thrifty@7")
    asked = decision(view, needs={"strategy": "latency_first"})
    assert (asked.ranking[0].backend, asked.strategy) == ("quick", "latency_first")


@pytest.mark.parametrize(
    ("fleet", "needs", "reason"),
    [
        (("a",), {}, "a is the only one that may run it"),
        (("a", "b"), {}, "a leads by latency_first; next is"),
        (("a", "b"), {"preferred_model": "m"}, "a serves the preferred model m"),
    ],
)
def test_why_the_first_leads(fleet: tuple[str, ...], needs: dict[str, Any], reason: str) -> None:
    made = decision(view_of(*(backend(name) for name in fleet)), needs={"strategy": "latency_first", **needs})
    assert made.reason.startswith(reason)


def test_why_the_second_comes_second() -> None:
    late = backend("b", models=(Model(name="m", seconds_per_job=50.0),), priority=1)
    made = decision(view_of(backend("a", priority=3), late), deadline_at=T0 + 20)
    assert made.reason.endswith(", which would probably miss the deadline")


# ------------------------------------------------------------------------------------------- giving up, waiting


GPU = Awaited(kind="backend", name="a")
MODEL = Awaited(kind="breaker", name="a", model="m")


def test_without_any_backend_a_job_waits_for_one_until_its_deadline() -> None:
    looks, now, n = 0, T0, 1
    while now < T0 + 600:
        made = decision(view_of(), n=n, now=now)
        assert (made.gave_up, made.ranking, made.awaiting) == (None, (), (Awaited(kind="backend"),))
        assert 0.0 < made.wait_seconds <= LONGEST_LOOK_SECONDS
        looks, now, n = looks + 1, now + made.wait_seconds, n + 1
    assert now == pytest.approx(T0 + 600)
    assert looks < 10, "who waits is woken; it hardly looks by itself"
    assert decision(view_of(), n=n, now=T0 + 600, cause=OVER).gave_up == OVER


@pytest.mark.parametrize("fault", [{"healthy": False}, {"slots": 0}])
def test_an_absent_backend_is_waited_for_however_little_time_is_left(fault: dict[str, Any]) -> None:
    made = decision(view_of(backend(**fault)), n=500, deadline_at=T0 + 0.4)
    assert (made.gave_up, made.awaiting) == (None, (GPU,))
    assert made.wait_seconds == pytest.approx(0.4)


def test_a_wait_that_cannot_end_in_time_gives_up_at_once() -> None:
    told = failed(1, "a", "rate_limited")
    made = decision(view_of(backend("a"), shut(30.0, cause="rate_limited")), n=2, attempts=(told,), deadline_at=T0 + 20)
    assert (made.gave_up, made.ranking) == (FIRST, ()), "in panic nobody is asked who has said to come later"


def test_what_will_not_pass_is_not_waited_for() -> None:
    made = decision(view_of(backend("a"), backend("b")), needs={"model": "x"})
    assert made.gave_up is not None
    assert made.gave_up.message == "no backend may run this job: none of 2 models is x"
    assert made.ranking == ()


def test_of_a_large_fleet_one_reason_is_told_once() -> None:
    made = decision(view_of(*(backend(f"b{i:02}") for i in range(20))), needs={"model": "x"})
    assert made.gave_up is not None
    assert made.gave_up.message == "no backend may run this job: none of 20 models is x"


def test_what_may_pass_is_waited_for() -> None:
    facts_ = (backend("a", healthy=False), backend("b", models=(Model(name="x"),)))
    made = decision(view_of(*facts_), needs={"model": "m"})
    assert (made.gave_up, made.awaiting) == (None, (GPU,))
    assert made.reason.startswith(
        "nothing may run now, waiting for a change: no backend may run this job: a/m is unhealthy"
    )
    assert [c.barred for c in made.others] == ["unhealthy", "model"]


def test_whoever_is_away_for_a_time_is_named_beside_a_ranking_too() -> None:
    made = decision(view_of(backend("a"), backend("b"), backend("c", healthy=False), shut(30.0)))
    assert [c.backend for c in made.ranking] == ["b"]
    assert made.awaiting == (MODEL, Awaited(kind="backend", name="c"))


def test_an_exclusion_is_waited_out() -> None:
    away = (Exclusion(backend="a", model="m", until=T0 + 4, reason="its repeats are used up"),)
    made = decision(view_of(backend("a")), excluded=away)
    assert (made.awaiting, made.wait_seconds) == ((), pytest.approx(4.05))


def shut(seconds: float, model: str = "m", cause: Any = "failures") -> Breaker:
    return Breaker(backend="a", model=model, open_until=T0 + seconds, cause=cause, reason="3 failures in a row")


@pytest.mark.parametrize("seconds", [0.2, 5.0, 300.0, 590.0])
def test_for_a_breaker_a_job_looks_by_itself_a_little_after_its_time_and_not_with_all_others(seconds: float) -> None:
    view = view_of(backend("a"), shut(seconds))
    made = [decision(view, job=f"j-{i}") for i in range(50)]
    assert all((one.gave_up, one.awaiting) == (None, (MODEL,)) for one in made)
    assert [c.barred for c in made[0].others] == ["breaker"]
    waits = sorted(one.wait_seconds for one in made)
    assert seconds + LATE_SECONDS <= waits[0]
    assert waits[-1] <= min(600.0, max(300.0, seconds + LATE_SECONDS + MOST_SPREAD_SECONDS))
    assert waits[-1] - waits[0] > 2.0


def test_a_breaker_opened_by_hand_is_waited_for_beside_what_may_pass() -> None:
    hand = Breaker(backend="b", model="m", open_until=T0 + 1e9, cause="manual", reason="by hand")
    made = decision(view_of(backend("a", healthy=False), backend("b"), hand))
    assert made.awaiting == (GPU, Awaited(kind="breaker", name="b", model="m"))


@pytest.mark.parametrize("model", ["m", "*"])
def test_whom_a_hand_keeps_away_is_waited_for_like_one_that_is_absent(model: str) -> None:
    hand = Breaker(
        backend="b", model=model, open_until=T0 + 1e9, times_opened=1, cause="manual", reason="opened by hand by ada"
    )
    made = decision(view_of(backend("b"), hand))
    assert (made.gave_up, made.ranking) == (None, ())
    assert made.wait_seconds > 60.0, "parked, not polled"
    assert [(one.kind, one.name) for one in made.awaiting] == [("breaker", "b")]
    for said in ("opened by hand by ada", "turnout breaker close b"):
        assert said in made.reason
    late = decision(view_of(backend("b"), hand), deadline_at=T0 + LAST_LOOK_SECONDS / 2)
    assert (late.gave_up, late.wait_seconds) == (None, LAST_LOOK_SECONDS / 2), "until its deadline"


def test_the_breaker_of_an_account_holds_for_every_model() -> None:
    made = decision(view_of(backend("a"), backend("b"), shut(50.0, model="*", cause="account"), shut(5.0)))
    assert [c.backend for c in made.ranking] == ["b"]
    assert made.others[0].reason == "has an open breaker until somebody acts: 3 failures in a row"
    alone = decision(view_of(backend("a"), shut(50.0, model="*", cause="account")))
    assert alone.gave_up is not None
    assert alone.gave_up.message.endswith("a/m has an open breaker until somebody acts: 3 failures in a row")


def test_in_panic_the_least_bad_one_is_used_rather_than_none() -> None:
    better = Breaker(backend="b", model="m", open_until=T0 + 5, cause="rate_limited", reason="rate limited")
    manual = Breaker(backend="c", model="m", open_until=T0 + 1e9, cause="manual", reason="by hand")
    view = view_of(backend("a"), backend("b"), backend("c"), shut(9.0), better, manual)
    made = decision(view, deadline_at=T0 + 4)
    assert [(c.backend, c.panic) for c in made.ranking] == [("b", True)]
    assert made.ranking[0].reason == "is the least bad, since all who could run it have open breakers"
    assert [c.barred for c in made.others] == ["breaker", "breaker"]
    assert decision(view, n=99).ranking == (), "there is no panic while a breaker's time may end before the deadline"


@pytest.mark.parametrize(("left", "panics"), [(LAST_LOOK_SECONDS + 1, False), (LAST_LOOK_SECONDS, True)])
def test_beside_an_absent_backend_panic_comes_last(left: float, panics: bool) -> None:
    made = decision(view_of(backend("a"), backend("b", healthy=False), shut(60.0)), deadline_at=T0 + left)
    assert bool(made.ranking) == panics


def test_the_deadline_ends_it() -> None:
    made = decision(view_of(backend()), now=T0 + 600)
    assert made.gave_up is not None
    assert (made.gave_up.reason, made.ranking) == ("expired", ())
    assert [(c.backend, c.reason) for c in made.others] == [("a", "may run it, but the job is given up")]


def test_spent_attempts_end_it_with_the_first_error() -> None:
    view = view_of(backend(), failover(max_attempts=2))
    past = (failed(1, "a"), failed(2, "b", "server_error"))
    assert decision(view, n=3, attempts=past).gave_up == FIRST
    assert decision(view, n=2, attempts=past[:1]).gave_up is None


def test_what_never_started_is_not_spent() -> None:
    view = view_of(backend(), failover(max_attempts=1))
    for outcome in ("not_started", "rate_limited"):
        rounds = tuple(failed(n, "a", outcome) for n in range(1, 30))
        assert decision(view, n=30, attempts=rounds).gave_up is None


def test_over_budget_everywhere_is_for_the_guardrail_to_end() -> None:
    made = decision(view_of(backend()), n=2, cause=OVER)
    assert made.gave_up is None
    assert [c.backend for c in made.ranking] == ["a"]


def test_the_end_after_attempts_shows_the_first_error_and_says_why_nobody_is_left() -> None:
    past = (failed(1, "a", "account"),)
    made = decision(view_of(backend("a")), n=2, attempts=past, excluded=gone_from("a"))
    assert made.gave_up == FIRST
    assert made.reason == "gave up: no backend may run this job: a/m is excluded from this job: timeout"


# ------------------------------------------------------------------------------------------- the last resort


def test_a_failed_backend_comes_back_only_when_nobody_else_is_left() -> None:
    view = view_of(backend("a"), backend("b", priority=3))
    one = decision(view, n=2, attempts=(failed(1, "a"),), excluded=gone_from("a"))
    assert [c.backend for c in one.ranking] == ["b"]
    both = decision(view, n=3, attempts=(failed(1, "a"), failed(2, "b")), excluded=gone_from("a", "b"))
    assert [c.backend for c in both.ranking] == ["a", "b"]
    assert all(c.permitted for c in both.ranking)


def test_another_model_of_a_backend_that_failed_comes_after_the_others() -> None:
    two = backend("a", models=(Model(name="m"), Model(name="n")))
    view = view_of(two, backend("b", priority=3))
    made = decision(view, n=2, attempts=(failed(1, "a"),), excluded=gone_from("a"))
    assert [(c.backend, c.model) for c in made.ranking] == [("b", "m"), ("a", "n")]


def test_the_last_resort_takes_who_failed_least_often() -> None:
    view = view_of(backend("a"), backend("b", priority=3), failover(max_attempts=5))
    past = (failed(1, "a"), failed(2, "b"), failed(3, "a"))
    made = decision(view, n=4, attempts=past, excluded=gone_from("a", "b", "a"))
    assert [c.backend for c in made.ranking] == ["b", "a"]
    assert made.ranking[1].reason == "failed this job 2 times"


@pytest.mark.parametrize("outcome", ["server_error", "empty", "invalid_structure", "missing_field"])
def test_what_answered_with_the_same_failure_twice_is_not_asked_again(outcome: str) -> None:
    view = view_of(backend("a", models=(Model(name="m"), Model(name="n"))), failover(max_attempts=9))
    twice = (failed(1, "a", outcome), failed(2, "a", outcome))
    away = (Exclusion(backend="a", model="m", until=0.0, reason=outcome),)
    assert [c.model for c in decision(view, n=2, attempts=twice[:1], excluded=away).ranking] == ["n"], "elsewhere first"
    assert [c.model for c in decision(view, n=3, attempts=twice, excluded=away).ranking] == ["n"]
    alone = view_of(backend("a"), failover(max_attempts=9))
    assert [c.model for c in decision(alone, n=2, attempts=twice[:1], excluded=away).ranking] == ["m"]
    assert decision(alone, n=3, attempts=twice, excluded=away).gave_up == FIRST
    other = (twice[0], failed(2, "a", "timeout"))
    assert [c.model for c in decision(alone, n=3, attempts=other, excluded=away).ranking] == ["m"]


@pytest.mark.parametrize("outcome", ["account", "unknown_model"])
def test_who_cannot_serve_it_at_all_is_no_last_resort(outcome: str) -> None:
    made = decision(view_of(backend("a")), n=2, attempts=(failed(1, "a", outcome),), excluded=gone_from("a"))
    assert made.ranking == ()
    assert made.gave_up == FIRST


def test_the_last_resort_keeps_all_other_limits() -> None:
    view = view_of(backend("a", healthy=False))
    made = decision(view, n=2, attempts=(failed(1, "a"),), excluded=gone_from("a"))
    assert made.ranking == ()
    assert made.wait_seconds > 0.0


# --------------------------------------------------------------------------------------------------- the event


@pytest.mark.parametrize(("size", "shown", "omitted"), [(3, 3, 0), (16, 16, 0), (17, 16, 1), (40, 16, 24)])
def test_sixteen_candidates_stand_in_the_event(size: int, shown: int, omitted: int) -> None:
    view = view_of(*(backend(f"b{i:02}", healthy=i % 2 == 0) for i in range(size)))
    made = choice(view, Job(slip()))
    assert (len(made.decided.ranking) + len(made.decided.others), made.decided.omitted) == (shown, omitted)
    assert len(made.everything()) == size
    assert made.everything()[: len(made.decided.ranking)] == made.decided.ranking
    assert len(made.decided.ranking) == min(MOST_CANDIDATES, (size + 1) // 2)


def test_exploration_is_told_with_its_number() -> None:
    facts_ = (backend("a"), backend("b"), Policy(policy="p", strategy="adaptive"))
    made = [decision(view_of(*facts_), job=f"j-{i}") for i in range(40)]
    explored = [one for one in made if one.explored]
    assert explored
    assert all(one.number is not None and 0 <= one.number < 1 for one in made)
    assert all(one.reason.endswith("is tried by adaptive to learn how it does") for one in explored)
    assert {one.ranking[0].backend for one in explored} == {"b"}


def test_nobody_is_explored_before_the_preferred_one() -> None:
    facts_ = (backend("a"), backend("b"), Policy(policy="p", strategy="adaptive"))
    for i in range(40):
        made = decision(view_of(*facts_), job=f"j-{i}", needs={"preferred_backend": "a"})
        assert (made.ranking[0].backend, made.explored) == ("a", False)


def test_an_unknown_strategy_falls_back_and_says_so() -> None:
    made = decision(view_of(backend("a")), needs={"strategy": "nobody-knows"})
    assert (made.strategy, made.plan.strategy) == ("weighted_score", "nobody-knows")


@given(facts(), jobs())
def test_a_decision_changes_neither_the_view_nor_its_bytes(given_facts: list[Message], job: Job) -> None:
    view = view_of(*given_facts)
    before = [(entry.backend, entry.model, entry.known, entry.stats, entry.uses.since(0.0)) for entry in view.entries]
    made = choice(view, job).decided
    assert before == [
        (entry.backend, entry.model, entry.known, entry.stats, entry.uses.since(0.0)) for entry in view.entries
    ]
    assert codec.decode(Decided, codec.encode(made)) == made


# ------------------------------------------------------------------------------------------------- many threads

THREADS = 32


@settings(max_examples=5)
@given(st.lists(facts(), min_size=4, max_size=4), st.lists(jobs(), min_size=6, max_size=6))
def test_from_thirty_two_threads_while_the_view_is_swapped_it_is_what_one_gives(
    worlds: list[list[Message]], wanted: list[Job]
) -> None:
    """Views and their policies are replaced behind one reference while all threads decide, as a hot reload does."""
    views = [view_of(*world) for world in worlds]
    alone = {
        (i, k): codec.encode(choice(view_of(*world), job).decided)
        for i, world in enumerate(worlds)
        for k, job in enumerate(wanted)
    }
    current: list[tuple[int, View]] = [(0, views[0])]
    stop, begin = threading.Event(), threading.Barrier(THREADS + 1)

    def swap() -> None:
        begin.wait()
        turn = 0
        while not stop.is_set():
            turn += 1
            place = turn % len(views)
            if turn % 8 == 0:  # A fresh one too, whose rulings nobody has asked for yet.
                views[place] = view_of(*worlds[place])
            current[0] = (place, views[place])

    def ask(thread: int) -> list[tuple[tuple[int, int], bytes]]:
        begin.wait()
        found: list[tuple[tuple[int, int], bytes]] = []
        for turn in range(24):
            place, view = current[0]
            k = (thread + turn) % len(wanted)
            found.append(((place, k), codec.encode(choice(view, wanted[k]).decided)))
        return found

    swapper = threading.Thread(target=swap)
    with ThreadPoolExecutor(THREADS) as pool:
        asked = [pool.submit(ask, thread) for thread in range(THREADS)]
        swapper.start()
        answers = [answer for future in asked for answer in future.result()]
        stop.set()
    swapper.join()
    assert len(answers) == THREADS * 24
    assert all(data == alone[key] for key, data in answers)


def test_a_users_strategy_that_fails_gives_way_to_points_and_says_so() -> None:
    def broken(rows: Sequence[Row], case: Case) -> list[float]:
        raise StrategyError("strategy 'mine' of mine 1.0 failed on job j-1: KeyError: 'gpu'")

    mine = {**STRATEGIES, "mine": Strategy("mine", broken)}  # pyright: ignore[reportArgumentType]
    view = view_of(backend("a"), backend("b"))

    def asks_for(name: str) -> Slip:
        return msgspec.structs.replace(slip(), needs=msgspec.structs.replace(slip().needs, strategy=name))

    made = decide(asks_for("mine"), n=1, attempts=(), excluded=(), view=view, now=T0 + 1, strategies=mine).decided
    assert [c.backend for c in made.ranking] == ["a", "b"]
    assert made.strategy == "weighted_score"
    assert made.reason.startswith("strategy 'mine' of mine 1.0 failed on job j-1: KeyError: 'gpu', so points decide: ")
    unknown = decide(asks_for("gone"), n=1, attempts=(), excluded=(), view=view, now=T0 + 1).decided
    assert unknown.reason.startswith("the strategy gone is not known here, so points decide: ")
