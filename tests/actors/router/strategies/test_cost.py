from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.router.case import Row
from actors.router.strategies.cost import EXPECTED_COST_PARTS, expected_cost
from messages import CostRules
from tests.actors.router.strategies.rows import FIGURES, case, order, row
from tests.messages.samples import T0

PER_SECOND = {"value_per_hour_microdollars": 3_600_000.0}


def parts(given_row: Row, **changes: Any) -> dict[str, float]:
    scored = expected_cost([given_row], case(**changes))
    assert scored.scores[0] == pytest.approx(-sum(scored.parts[0]))
    return dict(zip(EXPECTED_COST_PARTS, scored.parts[0], strict=True))


def test_every_part_is_what_the_formula_says() -> None:
    rules = CostRules(
        **PER_SECOND, queue_price=0.5, risk_seconds=10.0, switch_back=2.0, miss_microdollars=4_000.0, spread=0.5
    )
    busy = row(
        price_microdollars=700.0, service_seconds=8.0, wait_seconds=4.0, switch_seconds=3.0, ahead=6.0, failure_rate=0.1
    )
    found = parts(busy, plan={"cost": rules}, deadline_at=T0 + 15.0)  # The median is just the time left.
    assert found == pytest.approx(
        {
            "time": 12_000.0,
            "switch": 9_000.0,
            "price": 700.0,
            "risk": 0.1 * (18_000.0 + 700.0) + 2_000.0,
            "queue": 0.5 * 1_000.0 * 8.0 * 6.0 / 4,
        }
    )


def test_an_idle_backend_pays_for_its_switch_once_and_for_no_queue() -> None:
    found = parts(row(switch_seconds=3.0), plan={"cost": CostRules(**PER_SECOND)})
    assert (found["switch"], found["queue"]) == (3_000.0, 0.0)


def test_the_jobs_value_of_time_comes_before_the_policys() -> None:
    given_row = row(service_seconds=5.0)
    assert parts(given_row, needs={"value_per_hour_microdollars": 7_200})["time"] == pytest.approx(10.0)
    assert parts(given_row, needs={"value_per_hour_microdollars": 0})["time"] == 0.0
    assert parts(given_row)["time"] == pytest.approx(5 * 600_000 / 3600)


def test_who_is_in_a_hurry_pays_for_speed_and_who_is_not_waits() -> None:
    rows = [row("cloud", service_seconds=5.0, price_microdollars=5_000.0), row("local", service_seconds=12.0)]
    assert order(rows, expected_cost(rows, case(needs={"value_per_hour_microdollars": 36_000_000})))[0] == "cloud"
    assert order(rows, expected_cost(rows, case(needs={"value_per_hour_microdollars": 360_000})))[0] == "local"


@pytest.mark.parametrize(("left", "chance"), [(-1.0, 1.0), (0.0, 1.0), (2.0, 0.9876), (10.0, 0.5), (50.0, 0.0124)])
def test_missing_the_deadline_has_a_price(left: float, chance: float) -> None:
    """A lognormal with median 10 s and spread ln(5) / 2.2432: at five times the median, or a fifth, 1.24 % remain."""
    spread = math.log(5.0) / 2.2432
    given_row = row(service_seconds=10.0, spread=spread)
    rules = CostRules(miss_microdollars=1_000.0)
    assert parts(given_row, plan={"cost": rules}, deadline_at=T0 + left)["risk"] == pytest.approx(
        1_000 * chance, abs=0.1
    )


def test_the_policys_spread_counts_where_none_is_measured() -> None:
    where = {"plan": {"cost": CostRules(spread=0.7)}, "deadline_at": T0 + 5.0}
    assert parts(row(), **where) == parts(row(spread=0.7), **where)
    assert parts(row(service_seconds=0.0), **where)["risk"] == 0.0


WORSE = (
    "price_microdollars", "service_seconds", "wait_seconds", "switch_seconds", "ahead", "failure_rate"
)  # fmt: skip


@given(FIGURES, st.sampled_from(WORSE), st.floats(0, 1e4), st.floats(-10, 1e5), st.integers(0, 10**8))
def test_worse_figures_never_score_better(
    figures: dict[str, Any], which: str, more: float, left: float, value: int
) -> None:
    where = case(needs={"value_per_hour_microdollars": value}, deadline_at=T0 + left)
    better, worse = expected_cost([row(**figures), row(**{**figures, which: figures[which] + more})], where).scores
    assert math.isfinite(better)
    assert worse <= better + 1e-9 * abs(better)


@given(FIGURES, st.floats(0, 1e4), st.floats(0, 1e4))
def test_more_time_never_scores_worse(figures: dict[str, Any], one: float, other: float) -> None:
    tight, easy = (
        expected_cost([row(**figures)], case(deadline_at=T0 + left)).scores[0] for left in sorted((one, other))
    )
    assert tight <= easy + 1e-9 * abs(easy)


SERVICE, SWITCH, CLOUD_SERVICE = 4.0, 12.0, 6.0


def alternate(gap: float, cloud_price: float, rules: CostRules, jobs: int = 400) -> tuple[int, int, float]:
    """Two models take turns, a job every `gap` seconds; a free GPU holds one model at a time and has one slot.

    The cloud has room for all. Gives the GPU's jobs, its switches, and what all jobs cost by time and price.
    """
    ends: list[float] = []  # Of the jobs that run or wait on the GPU.
    loaded, on_gpu, switches, cost = "m0", 0, 0, 0.0
    for i in range(jobs):
        now, model = i * gap, f"m{i % 2}"
        ends = [end for end in ends if end > now]
        wait = max(0.0, ends[-1] - now) if ends else 0.0
        switch = 0.0 if loaded == model else SWITCH
        gpu = row(
            f"gpu/{model}", known={"slots": 1}, service_seconds=SERVICE, wait_seconds=wait, switch_seconds=switch,
            ahead=float(len(ends)),
        )  # fmt: skip
        cloud = row(
            f"cloud/{model}", known={"slots": 64}, service_seconds=CLOUD_SERVICE, price_microdollars=cloud_price
        )
        rows = [cloud, gpu]
        where = case(plan={"cost": rules}, now=T0 + now, deadline_at=T0 + now + 600)
        if order(rows, expected_cost(rows, where))[0] == "gpu":
            on_gpu, switches, loaded = on_gpu + 1, switches + (loaded != model), model
            ends.append(now + wait + switch + SERVICE)
            cost += 1_000.0 * (wait + switch + SERVICE)
        else:
            cost += 1_000.0 * CLOUD_SERVICE + cloud_price
    return on_gpu, switches, cost


@given(st.floats(3.0, 15.0), st.floats(1_000.0, 20_000.0))
def test_models_do_not_take_turns_while_a_queue_waits(gap: float, cloud_price: float) -> None:
    """Never more switches, nor more cost, than the same without a charge for switching back; nor dearer than no GPU."""
    _, switches, cost = alternate(gap, cloud_price, CostRules(**PER_SECOND))
    _, greedy_switches, greedy_cost = alternate(
        gap, cloud_price, CostRules(**PER_SECOND, switch_back=0.0, queue_price=0.0)
    )
    assert switches <= greedy_switches
    assert cost <= greedy_cost * 1.02
    assert cost <= 400 * (1_000.0 * CLOUD_SERVICE + cloud_price)


def test_a_busy_gpu_keeps_its_model_where_greed_would_swap_it() -> None:
    assert alternate(3.0, 15_000.0, CostRules(**PER_SECOND))[:2] == (200, 0)
    assert alternate(3.0, 15_000.0, CostRules(**PER_SECOND, switch_back=0.0, queue_price=0.0))[1] > 20


@pytest.mark.parametrize(("cloud_price", "switches"), [(9_000.0, False), (11_000.0, True)])
def test_an_idle_gpu_swaps_its_model_exactly_when_that_pays(cloud_price: float, switches: bool) -> None:
    """Switch and service take 16 s, $0.016; the cloud takes 6 s and its price."""
    assert (alternate(60.0, cloud_price, CostRules(**PER_SECOND))[1] > 0) == switches
