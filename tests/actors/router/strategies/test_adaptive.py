from __future__ import annotations

import math
from collections import Counter
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.case import Case, Row
from actors.router.strategies.adaptive import adaptive, number
from messages import AdaptiveRules, Plan
from tests.actors.router.strategies.rows import FAILED, ROWS, case, order, row, shuffled
from tests.messages.samples import T0

JOBS = 20_000


def fleet(**changes: Any) -> list[Row]:
    return [row(name, service_seconds=s, runs=20.0, **changes) for name, s in (("a", 2.0), ("b", 3.0), ("c", 4.0))]


def where(job: str = "j-1", **changes: Any) -> Case:
    plan = {"adaptive": AdaptiveRules(**changes.pop("rules", {})), **changes.pop("plan", {})}
    return case(plan=plan, job=job, **changes)


def led(rows: list[Row], jobs: int = JOBS, **changes: Any) -> Counter[str]:
    """Who leads in so many jobs."""
    cases = (where(f"job-{i}", **changes) for i in range(jobs))
    return Counter(order(rows, adaptive(rows, each))[0] for each in cases)


def near(count: int, share: float, jobs: int = JOBS) -> bool:
    """Whether a count lies within five standard deviations of its share."""
    return abs(count - share * jobs) <= 5 * math.sqrt(jobs * share * (1 - share)) + 1


def test_the_number_is_a_hash_that_anybody_can_derive() -> None:
    expected = int.from_bytes(blake2b(b"default@1 all|j-1", digest_size=8).digest(), "big") / 2**64
    assert number("default@1 all", "j-1") == pytest.approx(expected, abs=2**-51)
    assert adaptive(fleet(), where()).number == number("default@1 all", "j-1")


def test_scores_are_the_expected_time_whatever_is_explored() -> None:
    rows = [row("a", service_seconds=2.0, wait_seconds=3.0, switch_seconds=5.0), row("b", service_seconds=0.0)]
    assert adaptive(rows, where()).scores == pytest.approx([-math.log(10.0), -math.log(1e-3)])


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.2, 1.0])
def test_so_many_jobs_explore(epsilon: float) -> None:
    counted = led(fleet(), rules={"epsilon": epsilon})
    assert near(counted["a"], 1 - epsilon)
    assert near(counted["b"], epsilon / 2)
    assert near(counted["c"], epsilon / 2)


def test_until_measured_a_backend_has_its_prior_share() -> None:
    rows = [
        row("a", runs=20.0, known={"routing_weight": 2.0}),
        row("b", runs=2.0, service_seconds=9.0, known={"routing_weight": 1.0}),
        row("c", runs=0.0, service_seconds=0.1, known={"routing_weight": 5.0}),
        row("d", runs=0.0, known={"routing_weight": 0.0}),
    ]
    counted = led(rows, rules={"epsilon": 0.0})
    assert near(counted["a"], 2 / 8)
    assert near(counted["b"], 1 / 8)
    assert near(counted["c"], 5 / 8)
    assert counted["d"] == 0
    assert near(led(rows, rules={"enough": 1, "epsilon": 0.0})["b"], 0.0)


def test_after_a_reset_the_shares_are_equal() -> None:
    """Seed 003_dee7a36bbdd74132.txt, step 6: the next execution uses evenly distributed weights."""
    rows = [row(name, known={"routing_weight": weight}) for name, weight in (("a", 7.0), ("b", 1.0), ("c", 0.0))]
    counted = led(rows, plan={"equal_weights": True})
    assert all(near(counted[name], 1 / 3) for name in "abc")
    assert near(led(rows)["a"], 7 / 8)


def test_weights_of_nothing_leave_it_to_the_scores() -> None:
    rows = [row("a", known={"routing_weight": 0.0}), row("b", known={"routing_weight": 0.0}, service_seconds=1.0)]
    assert led(rows, 500, rules={"epsilon": 0.0}) == {"b": 500}


EVERY: dict[str, Any] = {"epsilon": 1.0}


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
def test_a_failover_explores_nothing(method: str) -> None:
    rows = [*fleet(), row("new", service_seconds=60.0)]
    scored = adaptive(rows, where(attempts=(FAILED,), rules={**EVERY, "method": method}))
    assert (scored.number, scored.explored) == (None, None)


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
@pytest.mark.parametrize("runs", [0.0, 20.0])
def test_no_exploration_when_the_deadline_is_near(method: str, runs: float) -> None:
    rows = [row("a", runs=20.0), row("b", service_seconds=2.5, runs=runs)]
    rules = {**EVERY, "method": method, "slack": 4.0}
    near_end = led(rows, 400, rules=rules, deadline_at=T0 + 9.9)
    assert near_end == {"a": 400}
    assert led(rows, 400, rules=rules, deadline_at=T0 + 10.0)["b"] > 0


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
@pytest.mark.parametrize("runs", [0.0, 20.0])
def test_no_exploration_above_the_jobs_cost_limit(method: str, runs: float) -> None:
    rows = [row("a", runs=20.0), row("b", service_seconds=2.5, runs=runs, price_microdollars=501.0)]
    rules = {**EVERY, "method": method}
    assert led(rows, 400, rules=rules, needs={"max_cost_microdollars": 500}) == {"a": 400}
    assert led(rows, 400, rules=rules, needs={"max_cost_microdollars": 501})["b"] > 0


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
@pytest.mark.parametrize(
    ("leads", "other", "explored"), [(0, 10_001, 0), (0, 10_000, 1), (50_000, 100_001, 0), (50_000, 99_999, 1)]
)
def test_no_exploration_of_who_is_much_dearer(method: str, leads: int, other: int, explored: bool) -> None:
    rows = [
        row("a", runs=20.0, price_microdollars=leads),
        row("b", service_seconds=2.5, runs=20.0, price_microdollars=other),
    ]
    assert (led(rows, 400, rules={**EVERY, "method": method})["b"] > 0) == explored


def test_the_policys_weights_bring_jobs_to_dear_ones_too() -> None:
    rows = [row("a", runs=20.0), row("b", price_microdollars=80_000.0)]
    assert near(led(rows, rules={"epsilon": 0.0})["b"], 0.5)


def test_one_backend_leaves_nothing_to_explore() -> None:
    scored = adaptive([row()], where(rules=EVERY))
    assert (scored.number, scored.explored) == (None, None)


@given(ROWS, st.text(max_size=8), st.integers(0, 99), st.sampled_from(["epsilon", "thompson"]), st.floats(0, 1))
def test_a_choice_is_deterministic_in_whatever_order_rows_come(
    rows: list[Row], job: str, seed: int, method: Any, epsilon: float
) -> None:
    given_case = case(plan={"adaptive": AdaptiveRules(method=method, epsilon=epsilon)}, job=job)
    once, again = adaptive(rows, given_case), adaptive(list(rows), given_case)
    assert once == again
    other = shuffled(rows, seed)
    assert order(other, adaptive(other, given_case)) == order(rows, once)


def test_a_draw_brings_the_likely_best_most_jobs() -> None:
    rows = [
        row("a", service_seconds=2.0, runs=20.0, spread=0.5),
        row("b", service_seconds=2.2, runs=20.0, spread=0.5),
        row("c", service_seconds=20.0, runs=20.0, spread=0.5),
    ]
    counted = led(rows, 4_000, rules={"method": "thompson"})
    # The log of b/a is normal: mean ln(1.1), deviation 0.5 x sqrt(2 / 21); b leads where it is below 0.
    wins = 0.5 * math.erfc(math.log(1.1) / (0.5 * math.sqrt(2 / 21)) / math.sqrt(2))
    assert near(counted["b"], wins, 4_000)
    assert counted["c"] == 0


def test_who_was_measured_little_or_never_is_drawn_wider() -> None:
    def others(runs: float, spread: float = 0.5) -> int:
        rows = [row("a", runs=200.0, spread=0.5), row("b", service_seconds=4.0, runs=runs, spread=spread)]
        return led(rows, 2_000, rules={"method": "thompson"})["b"]

    assert others(0.0) > others(4.0) > others(100.0)
    assert others(4.0, 0.0) == others(4.0, Plan().cost.spread)


def test_a_draw_is_of_its_own_row_and_tells_its_number() -> None:
    rows = fleet(spread=2.0)
    scored = adaptive(rows, where(rules={"method": "thompson"}))
    first = order(rows, scored)[0]
    assert scored.number == number("default@1 all", "j-1", first, "m")
